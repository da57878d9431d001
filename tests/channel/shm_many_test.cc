// SPDX-License-Identifier: Apache-2.0
// Many senders and one receiver, in both orders, between processes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "slipring/channel/explain.h"
#include "slipring/channel/inspect.h"
#include "slipring/channel/shm.h"
#include "slipring/channel/typed.h"
#include "support/child.h"
#include "support/matchers.h"
#include "support/names.h"
#include "support/watchdog.h"

namespace slipring::channel {
namespace {

using test::Child;
using test::FailsWith;
using test::ProcessEvent;
using test::Succeeds;
using namespace std::chrono_literals;

struct Mark {
  std::uint32_t who;
  std::uint32_t number;
};

std::span<const std::byte> bytes_of(const Mark& mark) { return std::as_bytes(std::span(&mark, 1)); }
Mark mark_of(std::span<const std::byte> bytes) {
  Mark mark{};
  EXPECT_EQ(bytes.size(), sizeof mark);
  std::memcpy(&mark, bytes.data(), std::min(bytes.size(), sizeof mark));
  return mark;
}

class Many : public testing::TestWithParam<RingForm> {
 protected:
  [[nodiscard]] ShmOptions options() const {
    ShmOptions options;
    options.form = GetParam();
    options.capacity = 16 << 10;
    options.senders = 4;
    return options;
  }
  /// A child that attaches, sends `count` marks, says so, and stays until it is killed or told.
  [[nodiscard]] Child sender(std::uint32_t who, std::uint32_t count, const ProcessEvent& sent,
                             const ProcessEvent* leave = nullptr) const {
    return Child([&, who, count, leave] {
      auto tx = ShmSender::open_or_create(name_, options());
      if (!tx) return 1;
      for (std::uint32_t i = 0; i < count; ++i) {
        if (!tx->send(bytes_of(Mark{who, i}))) return 2;
      }
      tx->flush();
      sent.raise();
      if (leave == nullptr) {
        for (;;) ::pause();
      }
      return leave->wait() ? 0 : 3;
    });
  }
  /// Reads `count` marks and checks that each sender's come in order.
  void expect_marks(ShmReceiver& rx, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      auto message = rx.peek(Deadline::in(20s));
      ASSERT_THAT(message, Succeeds()) << i;
      const Mark mark = mark_of(message->bytes());
      ASSERT_EQ(mark.number, next_[mark.who]++) << "of sender " << mark.who;
    }
  }

  test::Watchdog watchdog_{90};
  std::string name_ = test::unique_name("many");
  std::map<std::uint32_t, std::uint32_t> next_;
};

TEST_P(Many, DeliversAllOfEverySenderInItsOrderAndEndsWithTheLast) {
  constexpr std::uint32_t kEach = 20'000;
  std::vector<Child> senders;
  auto rx = ShmReceiver::open_or_create(name_, options());
  ASSERT_THAT(rx, Succeeds());
  for (std::uint32_t who = 0; who < 4; ++who) {
    senders.emplace_back([&, who] {
      auto tx = ShmSender::open(name_, options());
      if (!tx) return 1;
      for (std::uint32_t i = 0; i < kEach; ++i) {
        if (!tx->send(bytes_of(Mark{who, i}))) return 2;
      }
      return 0;
    });
  }
  expect_marks(*rx, 4 * kEach);
  for (Child& child : senders) EXPECT_TRUE(child.wait().exited_with(0));
  EXPECT_THAT(rx->peek(Deadline::in(20s)), FailsWith(Errc::closed));
  EXPECT_THAT(rx->try_peek(), FailsWith(Errc::closed));
  EXPECT_EQ(rx->counters().messages, 4u * kEach);
  EXPECT_EQ(rx->close(), ShmLink::Left::removed);
}

TEST_P(Many, TheDeathOfOneEndsNothingAndFreesItsPlace) {
  auto rx = ShmReceiver::open_or_create(name_, options());
  ASSERT_THAT(rx, Succeeds());
  ProcessEvent sent, leave;
  Child victim = sender(0, 10, sent);
  ASSERT_TRUE(sent.wait());
  std::vector<Child> others;
  for (std::uint32_t who = 1; who < 4; ++who) {
    others.push_back(sender(who, 10, sent, &leave));
    ASSERT_TRUE(sent.wait());
  }
  EXPECT_THAT(ShmSender::open(name_, options()), FailsWith(Errc::in_use)) << "all places are taken";
  const auto victim_pid = static_cast<std::uint32_t>(victim.pid());
  EXPECT_TRUE(victim.kill().killed_by(SIGKILL));
  expect_marks(*rx, 40);
  EXPECT_THAT(rx->peek(Deadline::in(200ms)), FailsWith(Errc::timed_out)) << "others live";
  const auto departed = rx->next_departed();
  ASSERT_TRUE(departed.has_value());
  EXPECT_EQ(departed->who.pid, victim_pid);
  EXPECT_FALSE(rx->next_departed()) << "each death is told once";
  EXPECT_EQ(rx->counters().deaths, 1u);

  // Its place serves a newcomer, whose messages come behind.
  Child newcomer = sender(9, 10, sent, &leave);
  ASSERT_TRUE(sent.wait());
  expect_marks(*rx, 10);
  for (int i = 0; i < 4; ++i) leave.raise();
  for (Child& child : others) EXPECT_TRUE(child.wait().exited_with(0));
  EXPECT_TRUE(newcomer.wait().exited_with(0));
  EXPECT_THAT(rx->peek(Deadline::in(20s)), FailsWith(Errc::peer_dead)) << "one of them died";
}

TEST_P(Many, AnOpenClaimOfTheDeadDelaysNobodyForLong) {
  auto rx = ShmReceiver::open_or_create(name_, options());
  ASSERT_THAT(rx, Succeeds());
  ProcessEvent claimed;
  Child victim([&] {
    auto tx = ShmSender::open(name_, options());
    if (!tx || !tx->send(bytes_of(Mark{7, 0}))) return;
    auto claim = tx->try_claim(100);
    if (claim) std::memset(claim->payload().data(), 0xff, 100);
    claimed.raise();
    for (;;) ::pause();
  });
  ASSERT_TRUE(claimed.wait());
  auto tx = ShmSender::open(name_, options());
  ASSERT_THAT(tx, Succeeds());
  ASSERT_THAT(tx->send(bytes_of(Mark{1, 0})), Succeeds());
  EXPECT_TRUE(victim.kill().killed_by(SIGKILL));
  expect_marks(*rx, 2);
  ASSERT_THAT(tx->send(bytes_of(Mark{1, 1})), Succeeds());
  expect_marks(*rx, 1);
}

// A deadline that has passed lets nobody wait, and still the dead are looked after.
TEST_P(Many, WhoOnlyEverAsksIsNotHeldUpByTheDead) {
  test::Watchdog watchdog(60, "asking");
  auto rx = ShmReceiver::create(name_, options());
  ASSERT_THAT(rx, Succeeds());
  const ProcessEvent claimed;
  Child victim([&] {
    auto tx = ShmSender::open(name_, options());
    if (!tx) return 1;
    const auto claim = tx->try_claim(64);
    claimed.raise();
    for (;;) ::pause();
  });
  ASSERT_TRUE(claimed.wait());
  auto living = ShmSender::open(name_, options());
  ASSERT_THAT(living, Succeeds());
  ASSERT_THAT(living->try_send(bytes_of(Mark{1, 0})), Succeeds());
  EXPECT_TRUE(victim.kill().killed_by(SIGKILL));
  ring::Record record;
  Result<std::size_t> found = rx->peek_many({&record, 1}, Deadline::now());
  for (int i = 0; i < 1000 && !found; ++i) {
    EXPECT_THAT(found, FailsWith(Errc::timed_out));
    found = rx->peek_many({&record, 1}, Deadline::now());
  }
  ASSERT_THAT(found, Succeeds());
  rx->release(record);
  std::optional<Departed> departed;
  for (int i = 0; i < 1000 && !departed; ++i) {
    EXPECT_THAT(rx->peek(Deadline::now()), FailsWith(Errc::timed_out));
    departed = rx->next_departed();
  }
  EXPECT_TRUE(departed);
}

TEST_P(Many, AStoppedSenderHoldsUpOnlyATotalOrder) {
  auto rx = ShmReceiver::open_or_create(name_, options());
  ASSERT_THAT(rx, Succeeds());
  ProcessEvent claimed, committed;
  Child stopped([&] {
    auto tx = ShmSender::open(name_, options());
    if (!tx) return 1;
    auto claim = tx->try_claim(sizeof(Mark));
    if (!claim) return 2;
    claimed.raise();
    ::raise(SIGSTOP);
    const Mark mark{5, 0};
    std::memcpy(claim->payload().data(), &mark, sizeof mark);
    claim->commit();
    committed.raise();
    return 0;
  });
  ASSERT_TRUE(claimed.wait());
  siginfo_t info{};
  retry_eintr(
      [&] { return ::waitid(P_PID, static_cast<id_t>(stopped.pid()), &info, WSTOPPED | WNOWAIT); });
  auto tx = ShmSender::open(name_, options());
  ASSERT_THAT(tx, Succeeds());
  ASSERT_THAT(tx->send(bytes_of(Mark{1, 0})), Succeeds());
  const bool is_total = GetParam() == RingForm::total;
  if (is_total) {
    // Alive is not dead: it waits, and says for whom.
    EXPECT_THAT(rx->peek(Deadline::in(150ms)), FailsWith(Errc::timed_out));
    EXPECT_THAT(rx->try_peek(), FailsWith(Errc::empty));
    const auto blocker = rx->blocked_by();
    ASSERT_TRUE(blocker.has_value());
    const RoleWord holder = RoleWord::decode(
        NativeAccess::load_acquire(rx->link().body().sender_role(blocker->owner).word));
    EXPECT_EQ(holder.pid, static_cast<std::uint32_t>(stopped.pid()));
    const auto view = inspect(rx->link().segment());
    ASSERT_THAT(view, Succeeds());
    ASSERT_TRUE(view->blocker.has_value());
    EXPECT_EQ(view->blocker->sender, blocker->owner);
    EXPECT_STREQ(view->state(), "stopped");
  } else {
    expect_marks(*rx, 1);
  }
  stopped.resume();
  ASSERT_TRUE(committed.wait());
  expect_marks(*rx, is_total ? 2 : 1);
  EXPECT_TRUE(stopped.wait().exited_with(0));
}

TEST_P(Many, SendersThatWaitForRoomAllGetIt) {
  auto rx = ShmReceiver::open_or_create(name_, options());
  ASSERT_THAT(rx, Succeeds());
  constexpr std::uint32_t kEach = 300;
  std::vector<Child> senders;
  auto parking = options();
  parking.wait = wait::WaitStrategy::park();
  for (std::uint32_t who = 0; who < 4; ++who) {
    senders.emplace_back([&, who] {
      auto tx = ShmSender::open(name_, parking);
      if (!tx) return 1;
      for (std::uint32_t i = 0; i < kEach; ++i) {
        auto claim = tx->claim(1000, Deadline::in(60s));
        if (!claim) return 2;
        const Mark mark{who, i};
        std::memcpy(claim->payload().data(), &mark, sizeof mark);
        claim->commit(sizeof mark);
      }
      return tx->counters().parks > 0 ? 0 : 3;
    });
  }
  ::usleep(30'000);  // let them fill it
  expect_marks(*rx, 4 * kEach);
  for (Child& child : senders) EXPECT_TRUE(child.wait().exited_with(0));
  const auto view = inspect(rx->link().segment());
  ASSERT_THAT(view, Succeeds());
  for (const SenderView& one : view->senders) EXPECT_GT(one.waits, 0u) << one.index;
}

TEST_P(Many, ASuccessorOfADeadReceiverGetsTheRestFlagged) {
  ProcessEvent sent, leave, seen;
  std::vector<Child> senders;
  for (std::uint32_t who = 0; who < 3; ++who) {
    senders.push_back(sender(who, 10, sent, &leave));
    ASSERT_TRUE(sent.wait());
  }
  Child first([&] {
    auto rx = ShmReceiver::open(name_, options());
    if (!rx) return;
    for (int i = 0; i < 7; ++i) {
      if (auto message = rx->peek(); !message) return;
    }
    seen.raise();
    for (;;) ::pause();
  });
  ASSERT_TRUE(seen.wait());
  EXPECT_THAT(ShmReceiver::open(name_, options()), FailsWith(Errc::in_use));
  first.kill();
  auto rx = ShmReceiver::open(name_, options());
  ASSERT_THAT(rx, Succeeds());
  int got = 0;
  for (;;) {
    auto message = rx->try_peek();
    if (!message) break;
    EXPECT_TRUE(message->redelivered());
    ++got;
  }
  EXPECT_GE(got, 23);
  EXPECT_LE(got, 30);
  for (int i = 0; i < 3; ++i) leave.raise();
  for (Child& child : senders) EXPECT_TRUE(child.wait().exited_with(0));
}

TEST_P(Many, AReceiverThatAcknowledgesEachRepeatsNoneThatItReleased) {
  test::Watchdog watchdog(60, "acknowledging");
  auto tx = ShmSender::create(name_, options());
  ASSERT_THAT(tx, Succeeds());
  for (std::uint32_t i = 0; i < 5; ++i) ASSERT_THAT(tx->try_send(bytes_of(Mark{1, i})), Succeeds());
  const Child victim = test::sleeper_after([&] {
    ShmOptions each = options();
    each.ack_each = true;
    static auto rx = ShmReceiver::open(name_, each);
    if (!rx) std::abort();
    for (int i = 0; i < 3; ++i) rx->try_peek()->release();
    rx->try_peek()->keep();
  });
  victim.kill_to_zombie();
  auto rx = ShmReceiver::open(name_, options());
  ASSERT_THAT(rx, Succeeds());
  for (std::uint32_t i = 3; i < 5; ++i) {
    const auto message = rx->try_peek();
    ASSERT_THAT(message, Succeeds());
    EXPECT_EQ(mark_of(message->bytes()).number, i);
    EXPECT_TRUE(message->redelivered());
  }
}

TEST_P(Many, TellsWhoHoldsThePlacesWhenAllAreTaken) {
  ProcessEvent sent, leave;
  std::vector<Child> senders;
  for (std::uint32_t who = 0; who < 4; ++who) {
    senders.push_back(sender(who, 1, sent, &leave));
    ASSERT_TRUE(sent.wait());
  }
  const auto fifth = ShmSender::open(name_, options());
  ASSERT_THAT(fifth, FailsWith(Errc::in_use));
  Subject subject(name_, "send to");
  subject.end = End::producer;
  const std::string text = explain(fifth.error(), subject).text();
  EXPECT_THAT(text, testing::HasSubstr("all 4 places"));
  for (const Child& child : senders) {
    EXPECT_THAT(text, testing::HasSubstr("(" + std::to_string(child.pid()) + ")"));
  }
  for (int i = 0; i < 4; ++i) leave.raise();
  for (Child& child : senders) EXPECT_TRUE(child.wait().exited_with(0));
  auto rx = ShmReceiver::open(name_, options());
  ASSERT_THAT(rx, Succeeds());
  expect_marks(*rx, 4);
}

TEST_P(Many, OneThreadWaitsForSeveralRings) {
  std::vector<std::string> names;
  std::vector<ShmReceiver> receivers;
  for (int i = 0; i < 3; ++i) {
    names.push_back(test::unique_name("any"));
    auto rx = ShmReceiver::create(names.back(), options());
    ASSERT_THAT(rx, Succeeds());
    receivers.push_back(std::move(*rx));
  }
  std::array<ShmReceiver*, 3> all{&receivers[0], &receivers[1], &receivers[2]};
  EXPECT_THAT(wait_any(all, Deadline::in(5ms)), FailsWith(Errc::timed_out));
  constexpr std::uint32_t kEach = 100;
  std::vector<Child> senders;
  for (std::uint32_t who = 0; who < 6; ++who) {
    senders.emplace_back([&, who] {
      auto tx = ShmSender::open(names[who % 3], options());
      if (!tx) return 1;
      for (std::uint32_t i = 0; i < kEach; ++i) {
        if (i % 16 == 0) ::usleep(1000);
        if (!tx->send(bytes_of(Mark{who, i}))) return 2;
      }
      return 0;
    });
  }
  std::uint32_t got = 0;
  while (got < 6 * kEach) {
    const auto index = wait_any(all, Deadline::in(20s));
    ASSERT_THAT(index, Succeeds());
    auto message = receivers[*index].try_peek();
    if (!message) continue;  // an end, not a message
    const Mark mark = mark_of(message->bytes());
    ASSERT_EQ(mark.who % 3, *index);
    ASSERT_EQ(mark.number, next_[mark.who]++);
    ++got;
  }
  for (Child& child : senders) EXPECT_TRUE(child.wait().exited_with(0));
}

TEST_P(Many, CarriesTypedValues) {
  auto rx = Receiver<Mark>::open_or_create(name_, options());
  ASSERT_THAT(rx, Succeeds());
  {
    auto one = Sender<Mark>::open(name_, options());
    auto two = Sender<Mark>::open(name_, options());
    ASSERT_THAT(one, Succeeds());
    ASSERT_THAT(two, Succeeds());
    for (std::uint32_t i = 0; i < 100; ++i) {
      ASSERT_THAT(one->send({1, i}), Succeeds());
      ASSERT_THAT(two->send({2, i}), Succeeds());
    }
  }
  const Error end =
      rx->for_each([&](const Mark& mark) { EXPECT_EQ(mark.number, next_[mark.who]++); });
  EXPECT_EQ(end.code, Errc::closed);
  EXPECT_EQ(next_[1] + next_[2], 200u);
}

INSTANTIATE_TEST_SUITE_P(Orders, Many, testing::Values(RingForm::per_producer, RingForm::total),
                         [](const auto& form) { return std::string(to_string(form.param)); });

}  // namespace
}  // namespace slipring::channel

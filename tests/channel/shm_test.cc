// SPDX-License-Identifier: Apache-2.0
// The shared-memory channel, between processes where processes matter.
#include "slipring/channel/shm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "slipring/channel/inspect.h"
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

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
std::string text_of(std::span<const std::byte> bytes) {
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

struct Variant {
  segment::Backend kind;
  wait::BellKind bell;
  RingForm form = RingForm::lane;
};

std::string name_of(const testing::TestParamInfo<Variant>& info) {
  return std::string(to_string(info.param.kind)) + "_" + std::string(to_string(info.param.bell)) +
         "_" + std::string(to_string(info.param.form));
}

/// Every test runs on each kind of segment that has a name, with each kind of doorbell, and on each
/// form of ring; one that could take many senders takes one here.
class Shm : public testing::TestWithParam<Variant> {
 protected:
  void TearDown() override {
    auto left = segment::Segment::open(*segment::Name::parse(name_), segment::OpenMode::read_write);
    if (left) {
      EXPECT_THAT(remove_ring(*left), Succeeds());
    }
  }
  [[nodiscard]] ShmOptions options() const {
    ShmOptions options;
    options.kind = GetParam().kind;
    options.bell = GetParam().bell;
    options.capacity = 16 << 10;
    options.form = GetParam().form;
    options.senders = 1;
    return options;
  }
  [[nodiscard]] bool exists() const {
    return segment::Segment::open(*segment::Name::parse(name_), segment::OpenMode::read_only)
        .has_value();
  }
  test::Watchdog watchdog_{60};
  std::string name_ = test::unique_name("shm");
};

TEST_P(Shm, CarriesMessagesBetweenProcessesInOrder) {
  Child child([&] {
    auto tx = ShmSender::open_or_create(name_, options());
    if (!tx) return 1;
    for (int i = 0; i < 20'000; ++i) {
      if (!tx->send(bytes_of(std::to_string(i)))) return 2;
    }
    return 0;
  });
  auto rx = ShmReceiver::open_or_create(name_, options());
  ASSERT_THAT(rx, Succeeds());
  for (int i = 0; i < 20'000; ++i) {
    auto message = rx->peek();
    ASSERT_THAT(message, Succeeds()) << i;
    ASSERT_EQ(text_of(message->bytes()), std::to_string(i));
  }
  EXPECT_THAT(rx->peek(), FailsWith(Errc::closed));
  EXPECT_THAT(rx->try_peek(), FailsWith(Errc::closed));
  EXPECT_TRUE(child.wait().exited_with(0));
}

TEST_P(Shm, TheLastOneOutRemovesWhatNobodyPromisedToKeep) {
  auto tx = ShmSender::open_or_create(name_, options());
  auto rx = ShmReceiver::open_or_create(name_, options());
  ASSERT_THAT(tx, Succeeds());
  ASSERT_THAT(rx, Succeeds());
  ASSERT_THAT(tx->send(bytes_of("one")), Succeeds());
  EXPECT_EQ(tx->close(), ShmLink::Left::kept);  // the receiver is still there
  EXPECT_TRUE(exists());
  ASSERT_THAT(rx->peek(), Succeeds());
  EXPECT_EQ(rx->close(), ShmLink::Left::removed);
  EXPECT_FALSE(exists());
}

TEST_P(Shm, UnreadMessagesWaitForTheNextReceiver) {
  {
    auto tx = ShmSender::open_or_create(name_, options());
    ASSERT_THAT(tx, Succeeds());
    ASSERT_THAT(tx->send(bytes_of("for later")), Succeeds());
    EXPECT_EQ(tx->close(), ShmLink::Left::unread);
  }
  auto rx = ShmReceiver::open(name_, options());
  ASSERT_THAT(rx, Succeeds());
  auto message = rx->peek(Deadline::now());
  ASSERT_THAT(message, Succeeds());
  EXPECT_EQ(text_of(message->bytes()), "for later");
  EXPECT_FALSE(message->redelivered());
}

TEST_P(Shm, WhatWasCreatedToStayStays) {
  auto kept = options();
  kept.keep = true;
  ASSERT_THAT(create_ring(name_, kept), Succeeds());
  {
    auto rx = ShmReceiver::open(name_, options());
    ASSERT_THAT(rx, Succeeds());
    EXPECT_THAT(rx->peek(Deadline::in(5ms)), FailsWith(Errc::timed_out));
    EXPECT_EQ(rx->close(), ShmLink::Left::kept);
  }
  EXPECT_TRUE(exists());
}

TEST_P(Shm, RefusesASecondSenderWhileTheFirstLives) {
  auto first = ShmSender::open_or_create(name_, options());
  ASSERT_THAT(first, Succeeds());
  EXPECT_THAT(ShmSender::open(name_, options()), FailsWith(Errc::in_use));
  Child other([&] {
    const auto tx = ShmSender::open(name_, options());
    return !tx && tx.error().code == Errc::in_use ? 0 : 1;
  });
  EXPECT_TRUE(other.wait().exited_with(0));
  first->close();
  EXPECT_THAT(ShmSender::open_or_create(name_, options()), Succeeds());
}

TEST_P(Shm, DeliversAllThatAKilledSenderCommittedAndThenSaysSo) {
  ProcessEvent sent;
  Child child([&] {
    auto tx = ShmSender::open_or_create(name_, options());
    for (int i = 0; i < 10; ++i) {
      if (!tx->send(bytes_of(std::to_string(i)))) return;
    }
    auto claim = tx->try_claim(100);  // dies with a claim open
    if (claim) std::memset(claim->payload().data(), 0xff, 100);
    sent.raise();
    for (;;) ::pause();
  });
  ASSERT_TRUE(sent.wait());
  auto rx = ShmReceiver::open(name_, options());
  ASSERT_THAT(rx, Succeeds());
  EXPECT_TRUE(child.kill().killed_by(SIGKILL));
  for (int i = 0; i < 10; ++i) {
    auto message = rx->peek();
    ASSERT_THAT(message, Succeeds()) << i;
    EXPECT_EQ(text_of(message->bytes()), std::to_string(i));
  }
  EXPECT_THAT(rx->peek(), FailsWith(Errc::peer_dead));

  // The same lane serves a successor at once.
  auto successor = ShmSender::open(name_, options());
  ASSERT_THAT(successor, Succeeds());
  ASSERT_THAT(successor->send(bytes_of("next")), Succeeds());
  auto message = rx->peek();
  ASSERT_THAT(message, Succeeds());
  EXPECT_EQ(text_of(message->bytes()), "next");
  EXPECT_EQ(message->number(), 11u);
}

TEST_P(Shm, AParkedReceiverLearnsOfTheDeathOfItsSender) {
  ProcessEvent attached;
  Child child([&] {
    auto tx = ShmSender::open_or_create(name_, options());
    if (!tx) return;
    attached.raise();
    for (;;) ::pause();
  });
  ASSERT_TRUE(attached.wait());
  auto patient = options();
  patient.wait = WaitStrategy::park();
  auto rx = ShmReceiver::open(name_, patient);
  ASSERT_THAT(rx, Succeeds());
  EXPECT_THAT(rx->peek(Deadline::in(120ms)), FailsWith(Errc::timed_out));  // alive, silent
  child.stop();
  EXPECT_THAT(rx->peek(Deadline::in(120ms)), FailsWith(Errc::timed_out));  // stopped is alive
  EXPECT_THAT(ShmSender::open(name_, options()), FailsWith(Errc::in_use));
  child.kill_to_zombie();
  EXPECT_THAT(rx->peek(Deadline::in(10s)), FailsWith(Errc::peer_dead));
}

TEST_P(Shm, ASenderThatWaitsForRoomLearnsThatTheReceiverIsGone) {
  for (const bool killed : {false, true}) {
    SCOPED_TRACE(killed ? "killed" : "left");
    ProcessEvent attached, leave;
    Child child([&] {
      auto rx = ShmReceiver::open_or_create(name_, options());
      if (!rx || !rx->peek()) return 1;
      attached.raise();
      static_cast<void>(leave.wait());
      return rx->close() == ShmLink::Left::removed ? 2 : 0;
    });
    auto tx = ShmSender::open_or_create(name_, options());
    ASSERT_THAT(tx, Succeeds());
    const std::vector<std::byte> block(1024);
    ASSERT_THAT(tx->send(block), Succeeds());
    ASSERT_TRUE(attached.wait());
    if (killed) {
      EXPECT_TRUE(child.kill().killed_by(SIGKILL));
    } else {
      leave.raise();
    }
    Result<void> sent;
    do {
      sent = tx->send(block, Deadline::in(10s));
    } while (sent);
    EXPECT_EQ(sent.error().code, killed ? Errc::peer_dead : Errc::closed);
    if (!killed) {
      EXPECT_TRUE(child.wait().exited_with(0));
    }

    // A successor finds everything; after a death flagged, since the dead may have used it.
    auto rx = ShmReceiver::open(name_, options());
    ASSERT_THAT(rx, Succeeds());
    int got = 0;
    while (true) {
      auto message = rx->try_peek();
      if (!message) break;
      EXPECT_EQ(message->redelivered(), killed);
      ++got;
    }
    EXPECT_GE(got, 14);
    EXPECT_THAT(tx->try_send(block), Succeeds());
    tx->close();
    while (rx->try_peek()) {
    }
    EXPECT_EQ(rx->close(), ShmLink::Left::removed);
  }
}

TEST_P(Shm, AForkedChildCannotBreakItsParentsEnd) {
  auto tx = ShmSender::open_or_create(name_, options());
  auto rx = ShmReceiver::open(name_, options());
  ASSERT_THAT(tx, Succeeds());
  ASSERT_THAT(rx, Succeeds());
  Child child([&] {
    // Both copies are closed and destroyed here: neither role is given back by it.
    const bool kept = tx->close() == ShmLink::Left::kept && rx->close() == ShmLink::Left::kept;
    { ShmSender dropped = std::move(*tx); }
    { ShmReceiver dropped = std::move(*rx); }
    return kept ? 0 : 1;
  });
  ASSERT_TRUE(child.wait().exited_with(0));
  ASSERT_THAT(tx->send(bytes_of("still here")), Succeeds());
  auto message = rx->peek();
  ASSERT_THAT(message, Succeeds());
  EXPECT_EQ(text_of(message->bytes()), "still here");
}

TEST_P(Shm, ADroppedClaimIsAnAbortAndAGroupAppearsWhole) {
  auto tx = ShmSender::open_or_create(name_, options());
  auto rx = ShmReceiver::open(name_, options());
  ASSERT_THAT(tx, Succeeds());
  ASSERT_THAT(rx, Succeeds());
  {
    auto claim = tx->try_claim(64);
    ASSERT_THAT(claim, Succeeds());
  }
  EXPECT_THAT(rx->try_peek(), FailsWith(Errc::empty));
  if (GetParam().form == RingForm::total) {
    EXPECT_THAT(tx->group(), FailsWith(Errc::not_supported));
    return;
  }
  {
    auto group = tx->group();
    ASSERT_THAT(group, Succeeds());
    ASSERT_THAT(group->try_send(bytes_of("a")), Succeeds());
    EXPECT_THAT(tx->group(), FailsWith(Errc::in_use));
  }
  EXPECT_THAT(rx->try_peek(), FailsWith(Errc::empty));
  auto group = tx->group();
  ASSERT_THAT(group, Succeeds());
  ASSERT_THAT(group->try_send(bytes_of("b")), Succeeds());
  ASSERT_THAT(group->try_send(bytes_of("c")), Succeeds());
  EXPECT_THAT(rx->try_peek(), FailsWith(Errc::empty));
  group->commit();
  std::array<ring::Record, 8> records;
  const auto found = rx->peek_many(records);
  ASSERT_THAT(found, Succeeds());
  ASSERT_EQ(*found, 2u);
  EXPECT_EQ(text_of(records[0].payload) + text_of(records[1].payload), "bc");
  rx->release(records[1]);
  EXPECT_EQ(rx->counters().messages, 2u);
}

TEST_P(Shm, RefusesWhatCannotBe) {
  auto bad = options();
  for (const std::uint64_t capacity : {0ull, 3000ull, 5000ull, 2048ull, 1ull << 40}) {
    bad.capacity = capacity;
    EXPECT_THAT(ShmSender::create(name_, bad), FailsWith(Errc::invalid_argument)) << capacity;
  }
  bad = options();
  if (GetParam().form == RingForm::total) {
    bad.senders = ring::kMaxOwners + 1;
  } else {
    bad.granule = 12;
  }
  EXPECT_THAT(ShmSender::create(name_, bad), FailsWith(Errc::invalid_argument));
  for (const char* name : {"", "/", "..", "a/b", "\xff\xfe"}) {
    EXPECT_THAT(ShmSender::create(name, options()), FailsWith(Errc::invalid_argument)) << name;
  }
  EXPECT_THAT(ShmSender::create(std::string(201, 'x'), options()),
              FailsWith(Errc::invalid_argument));
  EXPECT_THAT(ShmReceiver::open(name_, options()), FailsWith(Errc::not_found));
  auto tx = ShmSender::create(name_, options());
  ASSERT_THAT(tx, Succeeds());
  EXPECT_THAT(ShmSender::create(name_, options()), FailsWith(Errc::exists));
  const std::size_t more = tx->max_payload() + 1;
  EXPECT_THAT(tx->try_claim(more), FailsWith(Errc::too_large));
  EXPECT_THAT(tx->send(std::vector<std::byte>(more)), FailsWith(Errc::too_large));
}

TEST_P(Shm, RacingOpenersAndLeaversNeverLoseAMessage) {
  // Short-lived senders and receivers under one name: each round the segment may be removed and
  // made again between any two steps.
  constexpr int kRounds = 150;
  Child senders([&] {
    for (int i = 0; i < kRounds; ++i) {
      auto tx = ShmSender::open_or_create(name_, options());
      if (!tx || !tx->send(bytes_of(std::to_string(i)))) return 1;
    }
    return 0;
  });
  int expected = 0;
  while (expected < kRounds) {
    auto rx = ShmReceiver::open_or_create(name_, options());
    ASSERT_THAT(rx, Succeeds());
    while (expected < kRounds) {
      auto message = rx->peek(Deadline::in(20s));
      if (!message) {
        ASSERT_EQ(message.error().code, Errc::closed);
        break;
      }
      ASSERT_EQ(text_of(message->bytes()), std::to_string(expected));
      ++expected;
    }
  }
  EXPECT_TRUE(senders.wait().exited_with(0));
}

TEST_P(Shm, ShowsBothEndsToAnObserverThatMapsItReadOnly) {
  auto tx = ShmSender::open_or_create(name_, options());
  ASSERT_THAT(tx, Succeeds());
  for (int i = 0; i < 3; ++i) ASSERT_THAT(tx->send(bytes_of("12345678")), Succeeds());
  auto seen = segment::Segment::open(*segment::Name::parse(name_), segment::OpenMode::read_only);
  ASSERT_THAT(seen, Succeeds());
  const auto view = inspect(*seen, true);
  ASSERT_THAT(view, Succeeds());
  EXPECT_EQ(view->sender().pid, static_cast<std::uint32_t>(::getpid()));
  EXPECT_EQ(view->sender().state, RoleWatch::Peer::alive);
  EXPECT_EQ(view->consumer.state, RoleWatch::Peer::never_came);
  EXPECT_EQ(view->backlog_bytes, GetParam().form == RingForm::total ? 3 * 64u : 3 * 16u);
  EXPECT_EQ(view->committed, 3u);
  EXPECT_EQ(view->committed_bytes, 24u);
  EXPECT_STREQ(view->state(), "waiting");
}

using segment::Backend;
using wait::BellKind;
INSTANTIATE_TEST_SUITE_P(
    Kinds, Shm,
    testing::Values(
        Variant{Backend::posix, BellKind::futex}, Variant{Backend::sysv, BellKind::futex},
        Variant{Backend::file, BellKind::futex}, Variant{Backend::posix, BellKind::posix_sem},
        Variant{Backend::posix, BellKind::sysv_sem}, Variant{Backend::posix, BellKind::condvar},
        Variant{Backend::posix, BellKind::futex, RingForm::per_producer},
        Variant{Backend::sysv, BellKind::futex, RingForm::per_producer},
        Variant{Backend::posix, BellKind::futex, RingForm::total},
        Variant{Backend::file, BellKind::futex, RingForm::total}),
    name_of);

struct Tick {
  std::uint64_t ts;
  std::uint32_t sym, flags;
  double px, qty;
};
struct WiderTick {
  std::uint64_t ts;
  std::uint32_t sym, flags;
  double px, qty, extra;
};
struct alignas(64) LineTick {
  std::uint64_t ts;
};

TEST(Typed, CarriesValuesInPlaceAndEndsWithClosed) {
  test::Watchdog watchdog(30);
  const std::string name = test::unique_name("typed");
  Child child([&] {
    auto tx = Sender<Tick>::open_or_create(name);
    if (!tx) return 1;
    for (std::uint64_t i = 0; i < 1000; ++i) {
      if (i % 2 == 0) {
        auto claim = tx->claim();
        if (!claim) return 2;
        claim->value() = {i, 7, 0, 64001.25, 0.3};
        claim->commit();
      } else if (!tx->send({i, 7, 0, 64001.5, 0.1})) {
        return 3;
      }
    }
    return 0;
  });
  auto rx = Receiver<Tick>::open_or_create(name);
  ASSERT_THAT(rx, Succeeds());
  std::uint64_t next = 0;
  const Error end = rx->for_each([&](const Tick& tick) { EXPECT_EQ(tick.ts, next++); });
  EXPECT_EQ(end.code, Errc::closed);
  EXPECT_EQ(next, 1000u);
  EXPECT_TRUE(child.wait().exited_with(0));
}

TEST(Typed, ARunIsReadOneByOneOrAsAWholeAndEndsWithItsLast) {
  const std::string name = test::unique_name("typed");
  auto tx = Sender<std::uint64_t>::create(name);
  auto rx = Receiver<std::uint64_t>::open(name);
  ASSERT_THAT(tx, Succeeds());
  ASSERT_THAT(rx, Succeeds());
  std::vector<std::uint64_t> values(32);
  std::iota(values.begin(), values.end(), 100);
  for (int turn = 0; turn < 200; ++turn) {  // over many laps, at every offset
    ASSERT_THAT(tx->send_run(values), Succeeds());
    ASSERT_THAT(tx->send(7), Succeeds());
    ASSERT_THAT(tx->try_send_run(std::span(values).first(3)), Succeeds());
    for (std::uint64_t i = 0; i < 5; ++i) {
      auto one = rx->peek();
      ASSERT_THAT(one, Succeeds());
      EXPECT_EQ(**one, 100 + i);
    }
    {
      auto rest = rx->peek_run();
      ASSERT_THAT(rest, Succeeds());
      EXPECT_EQ(rest->values().size(), 27u);
      EXPECT_EQ(rest->values().front(), 105u);
    }
    EXPECT_EQ(**rx->peek(), 7u);
    EXPECT_EQ(rx->peek_run()->values().size(), 3u);
    EXPECT_THAT(rx->try_peek(), FailsWith(Errc::empty));
  }
  EXPECT_THAT(tx->send_run({}), FailsWith(Errc::invalid_argument));
  EXPECT_THAT(tx->send_run(std::vector<std::uint64_t>(8193)), FailsWith(Errc::too_large));
}

TEST(Typed, ForEachGoesOnInARunWherePeekLeftOff) {
  const std::string name = test::unique_name("typed");
  auto tx = Sender<std::uint64_t>::create(name);
  auto rx = Receiver<std::uint64_t>::open(name);
  ASSERT_THAT(tx, Succeeds());
  ASSERT_THAT(rx, Succeeds());
  std::vector<std::uint64_t> values(100);
  std::iota(values.begin(), values.end(), 0);
  for (std::size_t at = 0; at < 100; at += 20) {
    ASSERT_THAT(tx->send_run(std::span(values).subspan(at, 20)), Succeeds());
  }
  tx->close();
  std::uint64_t next = 0;
  for (; next < 7; ++next) EXPECT_EQ(**rx->peek(), next);
  const Error end = rx->for_each([&](std::uint64_t value) { EXPECT_EQ(value, next++); });
  EXPECT_EQ(end.code, Errc::closed);
  EXPECT_EQ(next, 100u);
}

TEST(Typed, ARecordThatIsNoWholeNumberOfValuesIsCorrupt) {
  const std::string name = test::unique_name("typed");
  auto tx = Sender<std::uint64_t>::create(name);
  auto rx = Receiver<std::uint64_t>::open(name);
  ASSERT_THAT(tx, Succeeds());
  ASSERT_THAT(rx, Succeeds());
  const std::byte odd[12] = {};
  ASSERT_THAT(tx->bytes().send(odd), Succeeds());
  EXPECT_THAT(rx->try_peek(), FailsWith(Errc::corrupt));
  EXPECT_THAT(rx->try_peek_run(), FailsWith(Errc::corrupt));
  EXPECT_EQ(rx->for_each([](std::uint64_t) { FAIL(); }).code, Errc::corrupt);
  EXPECT_THAT(rx->bytes().try_peek(), Succeeds());  // and gives it back: nothing unread stays
}

TEST(Typed, EveryProfileCarriesAStreamOverManyLaps) {
  for (const auto profile : {Profile::balanced, Profile::latency, Profile::throughput}) {
    const std::string name = test::unique_name("profile");
    Options options;
    options.profile = profile;
    options.capacity = 4096;  // the smallest: what is cleared ahead is a quarter of it
    Child child([&] {
      auto tx = Sender<std::uint64_t>::open_or_create(name, options);
      if (!tx) return 1;
      for (std::uint64_t i = 0; i < 100'000; ++i) {
        if (!tx->send(i)) return 2;
      }
      return 0;
    });
    auto rx = Receiver<std::uint64_t>::open_or_create(name, options);
    ASSERT_THAT(rx, Succeeds());
    std::uint64_t next = 0;
    EXPECT_EQ(rx->for_each([&](std::uint64_t value) { EXPECT_EQ(value, next++); }).code,
              Errc::closed);
    EXPECT_EQ(next, 100'000u) << to_string(profile);
    EXPECT_TRUE(child.wait().exited_with(0));
  }
}

TEST(Typed, RefusesATypeOfAnotherSizeOrName) {
  const std::string name = test::unique_name("typed");
  auto tx = Sender<Tick>::create(name);
  ASSERT_THAT(tx, Succeeds());
  EXPECT_THAT(Receiver<WiderTick>::open(name), FailsWith(Errc::type_mismatch));
  EXPECT_THAT(Receiver<double>::open(name), FailsWith(Errc::type_mismatch));
  EXPECT_THAT(Receiver<Tick>::open(name), Succeeds());
  EXPECT_THAT(ShmReceiver::open(name), Succeeds());  // bytes fit every lane
}

TEST(Typed, AlignsATypeThatWantsALineOfItsOwn) {
  const std::string name = test::unique_name("typed");
  auto tx = Sender<LineTick>::create(name);
  auto rx = Receiver<LineTick>::open(name);
  ASSERT_THAT(tx, Succeeds());
  ASSERT_THAT(rx, Succeeds());
  for (std::uint64_t i = 0; i < 10; ++i) {
    // Static: a sanitizer's own stack keeps no alignment of 64.
    static LineTick tick;
    tick.ts = i;
    ASSERT_THAT(tx->send(tick), Succeeds());
    auto message = rx->peek();
    ASSERT_THAT(message, Succeeds());
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&message->value()) % 64, 0u);
    EXPECT_EQ((*message)->ts, i);
  }
}

TEST(Memfd, TravelsOverAUnixSocketAndCarriesALane) {
  test::Watchdog watchdog(30);
  int sockets[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
  const UniqueFd ours(sockets[0]);
  UniqueFd theirs(sockets[1]);
  ShmOptions options;
  options.kind = segment::Backend::memfd;
  auto segment = create_unnamed_ring(options);
  ASSERT_THAT(segment, Succeeds());
  Child child([&] {
    auto fd = segment::receive_fd(theirs.get());
    if (!fd) return 1;
    auto received = segment::Segment::from_fd(std::move(*fd), segment::OpenMode::read_write);
    if (!received) return 2;
    auto tx = ShmSender::attach(std::move(*received));
    if (!tx) return 3;
    return tx->send(bytes_of("through a descriptor")) ? 0 : 4;
  });
  ASSERT_THAT(segment::send_fd(ours.get(), segment->fd()), Succeeds());
  auto rx = ShmReceiver::attach(std::move(*segment));
  ASSERT_THAT(rx, Succeeds());
  auto message = rx->peek(Deadline::in(20s));
  ASSERT_THAT(message, Succeeds());
  EXPECT_EQ(text_of(message->bytes()), "through a descriptor");
  EXPECT_TRUE(child.wait().exited_with(0));
}

TEST(WaitAny, TellsWhichOfSeveralReceiversHasSomethingToSay) {
  test::Watchdog watchdog(60);
  std::vector<std::string> names;
  std::vector<ShmReceiver> receivers;
  for (int i = 0; i < 3; ++i) {
    names.push_back(test::unique_name("any"));
    auto rx = ShmReceiver::create(names.back());
    ASSERT_THAT(rx, Succeeds());
    receivers.push_back(std::move(*rx));
  }
  std::array<ShmReceiver*, 3> all{&receivers[0], &receivers[1], &receivers[2]};
  EXPECT_THAT(wait_any(all, Deadline::in(5ms)), FailsWith(Errc::timed_out));
  constexpr int kEach = 200;
  std::vector<Child> senders;
  for (const std::string& name : names) {
    senders.emplace_back([&name] {
      auto tx = ShmSender::open(name);
      if (!tx) return 1;
      for (int i = 0; i < kEach; ++i) {
        if (i % 16 == 0) ::usleep(1000);
        if (!tx->send(bytes_of(std::to_string(i)))) return 2;
      }
      return 0;
    });
  }
  std::array<int, 3> got{};
  while (std::accumulate(got.begin(), got.end(), 0) < 3 * kEach) {
    const auto index = wait_any(all, Deadline::in(20s));
    ASSERT_THAT(index, Succeeds());
    auto message = receivers[*index].try_peek();
    if (!message) continue;  // its end, not a message
    ASSERT_EQ(text_of(message->bytes()), std::to_string(got[*index]));
    ++got[*index];
  }
  for (Child& sender : senders) EXPECT_TRUE(sender.wait().exited_with(0));
  const auto ended = wait_any(all, Deadline::in(20s));
  ASSERT_THAT(ended, Succeeds());
  EXPECT_THAT(receivers[*ended].try_peek(), FailsWith(Errc::closed));
}

}  // namespace
}  // namespace slipring::channel

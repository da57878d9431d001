// SPDX-License-Identifier: Apache-2.0
// Eight sending processes and one receiver over the channel, in both orders: whole streams, kills,
// stops. SLIPRING_STRESS_RECORDS is how many records each sends.
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "judge.h"
#include "slipring/channel/message_receiver.h"
#include "slipring/channel/shm.h"
#include "support/child.h"
#include "support/matchers.h"
#include "support/names.h"
#include "support/shared_area.h"
#include "support/watchdog.h"

namespace slipring::channel {
namespace {

using test::Child;
using test::Head;
using test::Judge;
using test::shared_word;
using test::SharedArea;
using test::Succeeds;
using namespace std::chrono_literals;
using Rng = std::mt19937_64;

constexpr std::uint64_t kSenders = 8;
constexpr std::uint64_t kMostSenders = 16;

std::uint64_t records_each() {
  const char* set = std::getenv("SLIPRING_STRESS_RECORDS");
  return set != nullptr ? std::strtoull(set, nullptr, 0) : 20'000;
}

/// Shared by all, beside the ring; it survives whoever is killed.
struct Board {
  std::uint64_t tickets;
  std::uint64_t stop;
  std::uint64_t committed[1024];  // by each sender that ever was: commits that returned
};

class ManyStress : public testing::TestWithParam<RingForm> {
 protected:
  [[nodiscard]] ShmOptions options() const {
    ShmOptions options;
    options.form = GetParam();
    options.capacity = 64 << 10;
    options.senders = kMostSenders;
    return options;
  }
  [[nodiscard]] bool is_total() const { return GetParam() == RingForm::total; }
  [[nodiscard]] Board& board() const { return board_.as<Board>(); }

  /// One sender: `count` records of 16 to 400 bytes, or until stopped.
  [[nodiscard]] Child sender(std::uint64_t who, std::uint64_t count) const {
    return Child([this, who, count] {
      auto tx = ShmSender::open(name_, options());
      if (!tx) return 50 + static_cast<int>(tx.error().code);
      Rng rng(test::stress_seed() * 1000 + who);
      for (std::uint64_t sequence = 0; sequence < count; ++sequence) {
        if (shared_word(board().stop).load(std::memory_order_relaxed) != 0) break;
        Head head{};
        head.producer = who;
        head.sequence = sequence;
        head.size = 16 + rng() % 385;
        head.before = shared_word(board().tickets).fetch_add(1);
        auto claim = tx->claim(head.size, Deadline::in(100s));
        if (!claim) return 20 + static_cast<int>(claim.error().code);
        head.inside = shared_word(board().tickets).fetch_add(1);
        test::write_record(claim->payload(), head);
        claim->commit();
        shared_word(board().committed[who]).store(sequence + 1, std::memory_order_release);
      }
      return 0;
    });
  }
  /// Takes what comes within `patience`; true when it was something.
  static Result<void> drain_some(ShmReceiver& rx, Judge& judge, std::chrono::nanoseconds patience) {
    std::array<ring::Record, 64> batch;
    const auto found = rx.peek_many(batch, Deadline::in(patience));
    if (!found) return tl::unexpected(found.error());
    for (std::size_t i = 0; i < *found; ++i) judge.see(batch[i].payload);
    rx.release(batch[*found - 1]);
    return {};
  }

  /// So many senders send `each` records, and all of them arrive.
  void run_all(std::uint64_t count, std::uint64_t each) const {
    SCOPED_TRACE("SLIPRING_TEST_SEED=" + std::to_string(test::stress_seed()));
    auto rx = ShmReceiver::create(name_, options());
    ASSERT_THAT(rx, Succeeds());
    std::vector<Child> senders;
    for (std::uint64_t who = 0; who < count; ++who) senders.push_back(sender(who, each));
    Judge judge(is_total());
    while (judge.total() < count * each && !HasFailure()) {
      const auto taken = drain_some(*rx, judge, 60s);
      // All that came so far may have left before the next one comes.
      if (!taken && taken.error().code == Errc::closed) continue;
      ASSERT_THAT(taken, Succeeds()) << "after " << judge.total();
    }
    for (Child& child : senders) EXPECT_TRUE(child.wait().exited_with(0));
    for (std::uint64_t who = 0; who < count; ++who) EXPECT_EQ(judge.seen(who), each);
    EXPECT_FALSE(drain_some(*rx, judge, 1ms).has_value()) << "more came than was sent";
    std::printf("FIGURE test=many_stress form=%s senders=%llu records=%llu lost=0 repeated=0\n",
                std::string(to_string(GetParam())).c_str(), static_cast<unsigned long long>(count),
                static_cast<unsigned long long>(judge.total()));
  }

  const SharedArea board_{sizeof(Board)};
  std::string name_ = test::unique_name("many-stress");
};

TEST_P(ManyStress, EightSendersLoseNothingRepeatNothingAndKeepTheirOrder) {
  const test::Watchdog watchdog(1500, "eight senders");
  run_all(kSenders, records_each());
}

TEST_P(ManyStress, OneToSixteenSendersLoseNothingRepeatNothingAndKeepTheirOrder) {
  const test::Watchdog watchdog(240, "one to sixteen senders");
  for (std::uint64_t senders = 1; senders <= kMostSenders && !HasFailure(); senders += 3) {
    run_all(senders, 4'000);
  }
}

TEST_P(ManyStress, TwoHundredKillsLoseNothingThatWasCommitted) {
  const test::Watchdog watchdog(300, "kills");
  SCOPED_TRACE("SLIPRING_TEST_SEED=" + std::to_string(test::stress_seed()));
  constexpr int kKills = 200;
  auto rx = ShmReceiver::create(name_, options());
  ASSERT_THAT(rx, Succeeds());
  Rng rng(test::stress_seed());
  std::uint64_t born = 0;
  std::vector<Child> living;
  const auto give_birth = [&] { living.push_back(sender(born++, ~std::uint64_t{0})); };
  for (std::uint64_t i = 0; i < kSenders; ++i) give_birth();
  Judge judge(is_total());
  for (int kill = 0; kill < kKills && !HasFailure(); ++kill) {
    const std::uint64_t until = judge.total() + 200 + rng() % 800;
    while (judge.total() < until && !HasFailure()) {
      const auto taken = drain_some(*rx, judge, 60s);
      // The one that died may have been the only one there yet.
      if (!taken && taken.error().code == Errc::peer_dead) continue;
      ASSERT_THAT(taken, Succeeds()) << "the others do not go on";
    }
    const auto victim = static_cast<std::ptrdiff_t>(rng() % living.size());
    const test::Ending end = living[static_cast<std::size_t>(victim)].kill();
    EXPECT_TRUE(end.killed_by(SIGKILL)) << testing::PrintToString(end);
    std::vector<Child> others;
    for (std::size_t i = 0; i < living.size(); ++i) {
      if (static_cast<std::ptrdiff_t>(i) != victim) others.push_back(std::move(living[i]));
    }
    living.swap(others);
    give_birth();
  }
  shared_word(board().stop).store(1);
  while (drain_some(*rx, judge, 200ms)) {
  }
  for (Child& child : living) EXPECT_TRUE(child.wait().exited_with(0));
  while (drain_some(*rx, judge, 200ms)) {
  }
  for (std::uint64_t who = 0; who < born; ++who) {
    const std::uint64_t committed = shared_word(board().committed[who]).load();
    EXPECT_GE(judge.seen(who), committed) << "committed and lost";
    EXPECT_LE(judge.seen(who), committed + 1);
  }
  std::printf("FIGURE test=many_kills form=%s kills=%d records=%llu lost=0\n",
              std::string(to_string(GetParam())).c_str(), kKills,
              static_cast<unsigned long long>(judge.total()));
}

// Stopped is alive: nobody takes its place, and in lanes nobody waits for it. Windows with and
// without a stopped sender take turns, and the others' rates are compared.
TEST_P(ManyStress, AStoppedSenderCostsTheOthersNothing) {
  if (is_total()) GTEST_SKIP() << "in one order all wait for an open claim";
  const test::Watchdog watchdog(120, "stops");
  auto rx = ShmReceiver::create(name_, options());
  ASSERT_THAT(rx, Succeeds());
  std::vector<Child> senders;
  for (std::uint64_t who = 0; who < kSenders; ++who) {
    senders.push_back(sender(who, ~std::uint64_t{0}));
  }
  Judge judge(false);
  Rng rng(test::stress_seed());
  const auto run_window = [&](std::uint64_t without) {
    const std::uint64_t from = judge.total() - judge.seen(without);
    const std::int64_t began = monotonic_ns();
    while (monotonic_ns() - began < 60'000'000 && !HasFailure()) {
      static_cast<void>(drain_some(*rx, judge, 10ms));
    }
    const auto seconds = static_cast<double>(monotonic_ns() - began) / 1e9;
    return static_cast<double>(judge.total() - judge.seen(without) - from) / seconds;
  };
  std::vector<double> ratios;
  run_window(0);
  for (int round = 0; round < 15 && !HasFailure(); ++round) {
    const std::uint64_t victim = rng() % kSenders;
    const double all = run_window(victim);
    senders[victim].stop();
    const double others = run_window(victim);
    senders[victim].resume();
    EXPECT_GT(others, 0.0) << "all stood still";
    ratios.push_back(others / all);
  }
  EXPECT_FALSE(rx->next_departed()) << "a stopped sender was taken for dead";
  shared_word(board().stop).store(1);
  while (drain_some(*rx, judge, 200ms)) {
  }
  for (Child& child : senders) EXPECT_TRUE(child.wait().exited_with(0));
  std::ranges::sort(ratios);
  std::printf(
      "FIGURE test=many_stops rounds=%zu others_rate_stopped_over_running=%.2f "
      "quartiles=%.2f..%.2f\n",
      ratios.size(), ratios[ratios.size() / 2], ratios[ratios.size() / 4],
      ratios[ratios.size() * 3 / 4]);
}

INSTANTIATE_TEST_SUITE_P(Orders, ManyStress,
                         testing::Values(RingForm::per_producer, RingForm::total),
                         [](const auto& form) { return std::string(to_string(form.param)); });

}  // namespace
}  // namespace slipring::channel

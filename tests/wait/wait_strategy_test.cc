// SPDX-License-Identifier: Apache-2.0
#include "slipring/wait/wait_strategy.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>

#include <thread>

#include "support/child.h"
#include "support/matchers.h"
#include "support/watchdog.h"
#include "wait/test_bell.h"

namespace slipring::test {
namespace {

using namespace wait;

// Parks that take no time, and are counted.
struct FakeSleeper {
  int parks = 0;
  WakeReason reason = WakeReason::timed_out;
  template <typename Ready>
  WakeReason park_unless(Ready&& ready, Deadline) {
    if (ready()) return WakeReason::ready;
    ++parks;
    return reason;
  }
};

const auto kNothing = [] {};

std::chrono::nanoseconds cpu_time() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

TEST(WaitStrategy, ParsesItsNames) {
  for (const auto strategy :
       {WaitStrategy::spin(), WaitStrategy::adaptive(), WaitStrategy::park()}) {
    EXPECT_EQ(WaitStrategy::parse(to_string(strategy.kind())), strategy);
  }
  EXPECT_EQ(WaitStrategy::parse("doze"), std::nullopt);
  EXPECT_EQ(WaitStrategy(), WaitStrategy::adaptive());
}

TEST(WaitStrategy, AsksNobodyWhenReadyAtFirst) {
  FakeSleeper sleeper;
  int idle = 0;
  EXPECT_THAT(wait_until(
                  WaitStrategy::park(), sleeper, Deadline::never(), [] { return true; },
                  [&] { ++idle; }, kFine),
              Succeeds());
  EXPECT_EQ(sleeper.parks + idle, 0);
}

TEST(WaitStrategy, LooksOnceWhenTheDeadlineHasPassed) {
  FakeSleeper sleeper;
  const auto never = [] { return false; };
  for (const auto strategy :
       {WaitStrategy::spin(), WaitStrategy::adaptive(), WaitStrategy::park()}) {
    EXPECT_THAT(wait_until(strategy, sleeper, Deadline::now(), never, kNothing, kFine),
                FailsWith(Errc::timed_out));
  }
  EXPECT_EQ(sleeper.parks, 0);
}

TEST(WaitStrategy, TellsIdleOnceAndBeforeAnyPark) {
  FakeSleeper sleeper;
  int idle = 0;
  int parks_at_idle = -1;
  const auto tell = [&] {
    ++idle;
    parks_at_idle = sleeper.parks;
  };
  EXPECT_THAT(wait_until(
                  WaitStrategy::park(), sleeper, Deadline::never(),
                  [&] { return sleeper.parks == 5; }, tell, kFine),
              Succeeds());
  EXPECT_EQ(idle, 1);
  EXPECT_EQ(parks_at_idle, 0);
}

TEST(WaitStrategy, SpinNeverParks) {
  const Watchdog watchdog(20, "spin");
  FakeSleeper sleeper;
  const std::int64_t from = monotonic_ns();
  EXPECT_THAT(
      wait_until(
          WaitStrategy::spin(), sleeper, Deadline::in(30ms), [] { return false; }, kNothing, kFine),
      FailsWith(Errc::timed_out));
  EXPECT_GE(since(from), 30ms);
  EXPECT_EQ(sleeper.parks, 0);
}

TEST(WaitStrategy, SpinAsksTickEveryTenMilliseconds) {
  const Watchdog watchdog(20, "spin ticks");
  FakeSleeper sleeper;
  int ticks = 0;
  const auto dead_at_third = [&]() -> Result<void> {
    if (++ticks == 3) return fail(Errc::peer_dead);
    return {};
  };
  const std::int64_t from = monotonic_ns();
  EXPECT_THAT(wait_until(
                  WaitStrategy::spin(), sleeper, Deadline::never(), [] { return false; }, kNothing,
                  dead_at_third),
              FailsWith(Errc::peer_dead));
  EXPECT_GE(since(from), 3 * kTickEvery - 1ms);
}

TEST(WaitStrategy, ParkParksAtOnceAndAdaptiveAfterItsBudget) {
  const Watchdog watchdog(20, "budgets");
  const auto looks_until_parked = [](WaitStrategy strategy) {
    FakeSleeper sleeper;
    int looks = 0;
    const auto count = [&] {
      ++looks;
      return sleeper.parks > 0;
    };
    EXPECT_THAT(wait_until(strategy, sleeper, Deadline::never(), count, kNothing, kFine),
                Succeeds());
    return looks;
  };
  EXPECT_LE(looks_until_parked(WaitStrategy::park()), kBarePolls + 4);
  if (wait::detail::has_one_cpu(monotonic_ns())) GTEST_SKIP() << "one CPU: the budget is 0";
  EXPECT_GT(looks_until_parked(WaitStrategy::adaptive(2ms)), kBarePolls + 32);
}

TEST(WaitStrategy, ABudgetNeverOutlastsTheDeadline) {
  const Watchdog watchdog(20, "budget and deadline");
  FakeSleeper sleeper;
  EXPECT_THAT(wait_until(
                  WaitStrategy::adaptive(1h), sleeper, Deadline::in(5ms), [] { return false; },
                  kNothing, kFine),
              FailsWith(Errc::timed_out));
}

TEST(WaitStrategy, AsksTickBeforeTheFirstParkAndAfterEachBoundedOne) {
  FakeSleeper sleeper;
  int ticks = 0;
  const auto dead_at_fourth = [&]() -> Result<void> {
    if (++ticks == 4) return fail(Errc::peer_dead);
    return {};
  };
  EXPECT_THAT(wait_until(
                  WaitStrategy::park(), sleeper, Deadline::never(), [] { return false; }, kNothing,
                  dead_at_fourth),
              FailsWith(Errc::peer_dead));
  EXPECT_EQ(sleeper.parks, 3);
}

// What a dead peer committed is read before its death is told.
TEST(WaitStrategy, PrefersWhatIsReadyToTheErrorOfTick) {
  FakeSleeper sleeper;
  bool found = false;
  const auto find_and_fail = [&]() -> Result<void> {
    found = true;
    return fail(Errc::peer_dead);
  };
  EXPECT_THAT(wait_until(
                  WaitStrategy::park(), sleeper, Deadline::never(), [&] { return found; }, kNothing,
                  find_and_fail),
              Succeeds());
}

// Rings for nothing, without end, must not keep tick from being asked.
TEST(WaitStrategy, AsksTickAlsoWhileVainRingsKeepComing) {
  const Watchdog watchdog(20, "vain rings");
  FakeSleeper sleeper;
  sleeper.reason = WakeReason::rung;
  int ticks = 0;
  const auto dead_at_third = [&]() -> Result<void> {
    if (++ticks == 3) return fail(Errc::peer_dead);
    return {};
  };
  EXPECT_THAT(wait_until(
                  WaitStrategy::park(), sleeper, Deadline::never(), [] { return false; }, kNothing,
                  dead_at_third),
              FailsWith(Errc::peer_dead));
}

TEST(WaitStrategy, BudgetIsZeroWithOneCpu) {
  Child child([] {
    cpu_set_t all;
    if (::sched_getaffinity(0, sizeof all, &all) != 0) return 77;
    cpu_set_t one;
    CPU_ZERO(&one);
    for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &all)) {
        CPU_SET(cpu, &one);
        break;
      }
    }
    if (::sched_setaffinity(0, sizeof one, &one) != 0) return 77;
    FakeSleeper sleeper;
    int looks = 0;
    const auto count = [&] {
      ++looks;
      return sleeper.parks > 0;
    };
    const auto strategy = WaitStrategy::adaptive(1h);
    // A fresh thread: the answer is remembered for a second.
    std::thread([&] {
      static_cast<void>(wait_until(strategy, sleeper, Deadline::never(), count, kNothing, kFine));
    }).join();
    return looks <= kBarePolls + 4 ? 0 : 1;
  });
  const Ending end = child.wait();
  if (end.exited_with(77)) GTEST_SKIP() << "no affinity here";
  EXPECT_TRUE(end.exited_with(0)) << testing::PrintToString(end);
}

TEST(WaitStrategy, AnIdleAdaptiveWaitTakesAlmostNoCpu) {
  const Watchdog watchdog(20, "idle CPU");
  TestBell bell(BellKind::futex);
  auto sleeper = bell.sleeper();
  const auto cpu_before = cpu_time();
  EXPECT_THAT(wait_until(
                  WaitStrategy::adaptive(), sleeper, Deadline::in(500ms), [] { return false; },
                  kNothing, kFine),
              FailsWith(Errc::timed_out));
  EXPECT_LT(cpu_time() - cpu_before, 15ms);  // 3 %
  EXPECT_GE(sleeper.counters().parks, 9u);
  EXPECT_LE(sleeper.counters().parks, 20u);
}

TEST(WaitStrategy, WakesARealSleeperUnderEveryStrategy) {
  const Watchdog watchdog(60, "every strategy");
  for (const auto strategy :
       {WaitStrategy::spin(), WaitStrategy::adaptive(), WaitStrategy::park()}) {
    TestBell bell(BellKind::futex);
    SleeperOptions options = bell.sleeper_options();
    options.never_parks = !strategy.parks();
    options.max_park = kForever;
    auto sleeper = Sleeper<>::attach(BellKind::futex, bell.ref(), std::move(options)).value();
    std::thread other([&] {
      auto ringer = bell.ringer();
      for (std::uint64_t i = 1; i <= 500; ++i) {
        bell.publish(i);
        ringer.ring_if_parked();
        if (i % 16 == 0) std::this_thread::sleep_for(50us);
      }
    });
    for (std::uint64_t seen = 0; seen < 500; seen = bell.published()) {
      ASSERT_THAT(wait_until(
                      strategy, sleeper, Deadline::never(), [&] { return bell.published() > seen; },
                      kNothing, kFine),
                  Succeeds());
    }
    other.join();
  }
}

}  // namespace
}  // namespace slipring::test

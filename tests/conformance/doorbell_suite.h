// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <random>
#include <thread>

#include "support/child.h"
#include "support/matchers.h"
#include "support/watchdog.h"
#include "wait/deny.h"
#include "wait/test_bell.h"

// What every doorbell promises (docs/doorbell.md), whatever its kind. A kind is done when its line
// stands in the list of doorbell_suite_test.cc. A type of that list says:
//   static constexpr BellKind kind;  static constexpr FenceChoice fence;
namespace slipring::test {

using wait::WakeReason;

template <typename Type>
class DoorbellSuite : public testing::Test {
 protected:
  static std::unique_ptr<TestBell> make_bell(int signal = 0) {
    return std::make_unique<TestBell>(Type::kind, Type::fence, signal);
  }
  static constexpr bool kKillSafe = Type::kind != wait::BellKind::condvar;

  std::unique_ptr<TestBell> bell_ = make_bell();
};

TYPED_TEST_SUITE_P(DoorbellSuite);

inline bool never() { return false; }

TYPED_TEST_P(DoorbellSuite, WakesASleeperParkedBeforeTheRing) {
  const Watchdog watchdog(20, "WakesASleeperParkedBeforeTheRing");
  TestBell& bell = *this->bell_;
  auto sleeper = bell.sleeper(kForever);
  auto ringer = bell.ringer();
  WakeReason reason = WakeReason::timed_out;
  std::uint64_t seen = 0;
  std::thread parked([&] {
    reason = sleeper.park_unless([&] { return bell.published() != 0; }, Deadline::never());
    seen = bell.published();
  });
  bell.await_asleep();
  bell.publish(7);
  ringer.ring_if_parked();
  parked.join();
  EXPECT_EQ(reason, WakeReason::rung);
  EXPECT_EQ(seen, 7u);
  EXPECT_EQ(ringer.counters().wakes, 1u);
  EXPECT_EQ(sleeper.counters().parks, 1u);
}

// The ring falls into the gap between the last look and the sleep, on every round.
TYPED_TEST_P(DoorbellSuite, DoesNotSleepThroughARingThatCameBetweenTheLookAndTheSleep) {
  const Watchdog watchdog(20, "ring between look and sleep");
  TestBell& bell = *this->bell_;
  auto sleeper = bell.sleeper(kForever);
  auto ringer = bell.ringer();
  for (std::uint64_t i = 1; i <= 100; ++i) {
    const auto look_then_ring = [&] {
      const bool ready = bell.published() == i;
      bell.publish(i);
      ringer.ring_if_parked();
      return ready;
    };
    ASSERT_EQ(sleeper.park_unless(look_then_ring, Deadline::never()), WakeReason::rung);
  }
  EXPECT_EQ(ringer.counters().rings, 100u);
}

TYPED_TEST_P(DoorbellSuite, DoesNotSleepWhenReady) {
  TestBell& bell = *this->bell_;
  auto sleeper = bell.sleeper(kForever);
  EXPECT_EQ(sleeper.park_unless([] { return true; }, Deadline::never()), WakeReason::ready);
  EXPECT_EQ(sleeper.counters().parks, 0u);
  EXPECT_FALSE(bell.state().parked);
}

TYPED_TEST_P(DoorbellSuite, RingsOnceForATicketHoweverOftenItPublishes) {
  TestBell& bell = *this->bell_;
  auto sleeper = bell.sleeper();
  auto ringer = bell.ringer();
  static_cast<void>(sleeper.take_ticket());
  for (int i = 0; i < 1000; ++i) ringer.ring_if_parked();
  EXPECT_EQ(ringer.counters().rings, 1u);
  EXPECT_EQ(ringer.counters().wakes, 1u);
  sleeper.awake();
}

// Wakes that nobody slept for are no credit: the next park lasts.
TYPED_TEST_P(DoorbellSuite, MergesRingsAndKeepsNoneForALaterPark) {
  const Watchdog watchdog(20, "MergesRings");
  TestBell& bell = *this->bell_;
  auto sleeper = bell.sleeper();
  auto ringer = bell.ringer();
  for (int i = 0; i < 1000; ++i) ringer.ring();
  EXPECT_EQ(ringer.counters().failed, 0u);
  const std::int64_t from = monotonic_ns();
  EXPECT_EQ(sleeper.park_unless(never, Deadline::in(20ms)), WakeReason::timed_out);
  EXPECT_GE(since(from), 20ms);
}

TYPED_TEST_P(DoorbellSuite, RingsUnasked) {
  const Watchdog watchdog(20, "RingsUnasked");
  TestBell& bell = *this->bell_;
  auto sleeper = bell.sleeper(kForever);
  auto ringer = bell.ringer();
  std::thread other([&] {
    bell.await_asleep();
    ringer.ring();
  });
  EXPECT_EQ(sleeper.park_unless(never, Deadline::never()), WakeReason::rung);
  other.join();
}

// The kernel ends the child at any call but the last.
TYPED_TEST_P(DoorbellSuite, MakesNoSystemCallWhileNobodyIsParked) {
  const Watchdog watchdog(20, "no system call");
  TestBell& bell = *this->bell_;
  auto sleeper = bell.sleeper();
  auto ringer = bell.ringer();
  static_cast<void>(sleeper.park_unless([] { return true; }, Deadline::now()));  // an old ticket
  Child child([&]() -> int {
    if (!allow_only_exit()) return 77;
    for (std::uint64_t i = 0; i < 100'000; ++i) {
      bell.publish(i);
      ringer.ring_if_parked();
    }
    ::syscall(SYS_exit_group, ringer.counters().rings == 0 ? 0 : 1);
    return 2;
  });
  const Ending end = child.wait();
  if (end.exited_with(77)) GTEST_SKIP() << "no seccomp here";
  EXPECT_TRUE(end.exited_with(0)) << testing::PrintToString(end);
}

TYPED_TEST_P(DoorbellSuite, MeetsItsDeadlineNeverEarlyAndUsuallyWithinFiveMilliseconds) {
  const Watchdog watchdog(20, "MeetsItsDeadline");
  auto sleeper = this->bell_->sleeper();
  auto best = 1'000'000'000ns;
  for (int i = 0; i < 10; ++i) {
    const std::int64_t from = monotonic_ns();
    ASSERT_EQ(sleeper.park_unless(never, Deadline::at_ns(from + 10'000'000)),
              WakeReason::timed_out);
    ASSERT_GE(since(from), 10ms);
    best = std::min(best, since(from));
  }
  EXPECT_LT(best, 15ms);
}

TYPED_TEST_P(DoorbellSuite, ReturnsAtOnceFromADeadlineThatHasPassed) {
  const Watchdog watchdog(20, "passed deadline");
  auto sleeper = this->bell_->sleeper(kForever);
  EXPECT_EQ(sleeper.park_unless(never, Deadline::now()), WakeReason::timed_out);
}

TYPED_TEST_P(DoorbellSuite, BoundsEveryParkSoThatALostRingCostsNoMore) {
  const Watchdog watchdog(20, "BoundsEveryPark");
  auto sleeper = this->bell_->sleeper();
  const std::int64_t from = monotonic_ns();
  EXPECT_EQ(sleeper.park_unless(never, Deadline::never()), WakeReason::timed_out);
  EXPECT_GE(since(from), wait::kMaxPark);
}

// About 10,000 signals per second hit the thread that parks.
TYPED_TEST_P(DoorbellSuite, DoesNotLetAStormOfSignalsBeSeen) {
  const Watchdog watchdog(30, "EINTR storm");
  TestBell& bell = *this->bell_;
  struct sigaction action {};
  action.sa_handler = [](int) {};  // without SA_RESTART: calls are interrupted
  ::sigaction(SIGUSR1, &action, nullptr);
  auto sleeper = bell.sleeper(kForever);
  auto ringer = bell.ringer();
  const pthread_t target = ::pthread_self();
  std::atomic<bool> stop{false};
  std::atomic<int> sent{0};
  std::thread storm([&] {
    while (!stop.load()) {
      ::pthread_kill(target, SIGUSR1);
      sent.fetch_add(1);
      std::this_thread::sleep_for(50us);
    }
  });
  for (int i = 0; i < 5; ++i) {
    const std::int64_t from = monotonic_ns();
    EXPECT_EQ(sleeper.park_unless(never, Deadline::at_ns(from + 30'000'000)),
              WakeReason::timed_out);
    EXPECT_GE(since(from), 30ms);
  }
  std::thread other([&] {
    bell.await_asleep();
    ringer.ring_if_parked();
  });
  EXPECT_EQ(sleeper.park_unless(never, Deadline::never()), WakeReason::rung);
  other.join();
  stop.store(true);
  storm.join();
  EXPECT_GT(sent.load(), 100);
}

// Killed in its sleep, it leaves a ticket, and perhaps a count of waiters in libc's objects.
TYPED_TEST_P(DoorbellSuite, AKilledSleeperBlocksNeitherTheRingerNorItsSuccessor) {
  const Watchdog watchdog(30, "AKilledSleeper");
  TestBell& bell = *this->bell_;
  ProcessEvent told;
  SharedArea page(sizeof(SharedToken));
  Child child([&] {
    store_token(page.as<SharedToken>(), self_token());
    auto mine = bell.sleeper(kForever);
    told.raise();
    static_cast<void>(mine.park_unless(never, Deadline::never()));
  });
  ASSERT_TRUE(told.wait());
  auto ringer = bell.ringer(load_token(page.as<SharedToken>()).value());
  bell.await_asleep();
  EXPECT_TRUE(child.kill().killed_by(SIGKILL));
  if (this->kKillSafe) {
    for (int i = 0; i < 1000; ++i) ringer.ring_if_parked();
    for (int i = 0; i < 1000; ++i) ringer.ring();
    EXPECT_TRUE(bell.state().parked);  // the dead one's ticket is still out
  }
  auto successor = bell.sleeper(kForever);
  ringer.expect_sleeper(self_token());
  for (std::uint64_t i = 1; i <= 20; ++i) {
    const auto look_then_ring = [&] {
      ringer.ring_if_parked();
      return false;
    };
    ASSERT_EQ(successor.park_unless(look_then_ring, Deadline::never()), WakeReason::rung);
  }
}

// Published, but dead before the bell.
TYPED_TEST_P(DoorbellSuite, ARingThatDiedWithItsRingerCostsOneBoundedPark) {
  const Watchdog watchdog(20, "killed ringer");
  TestBell& bell = *this->bell_;
  auto sleeper = bell.sleeper();
  Child child([&] {
    bell.await_asleep();
    bell.publish(9);
    ::raise(SIGKILL);
  });
  std::uint64_t parks = 0;
  while (bell.published() != 9) {
    static_cast<void>(
        sleeper.park_unless([&] { return bell.published() == 9; }, Deadline::never()));
    ++parks;
  }
  EXPECT_TRUE(child.wait().killed_by(SIGKILL));
  EXPECT_GE(parks, 1u);
  auto heir = bell.ringer();
  const auto ring = [&] {
    heir.ring_if_parked();
    return false;
  };
  EXPECT_EQ(sleeper.park_unless(ring, Deadline::in(10s)), WakeReason::rung);
}

TYPED_TEST_P(DoorbellSuite, AForkedChildDoesNotParkForItsParent) {
  const Watchdog watchdog(20, "forked child");
  TestBell& bell = *this->bell_;
  {
    auto sleeper = bell.sleeper(kForever);
    Child child([&] {
      {
        auto stolen = std::move(sleeper);
        if (stolen.may_park()) return 1;
        if (stolen.park_unless(never, Deadline::never()) != WakeReason::timed_out) return 2;
      }
      return bell.state().parked ? 3 : 0;
    });
    EXPECT_TRUE(child.wait().exited_with(0));
    // Nor did it take anything along.
    auto ringer = bell.ringer();
    const auto ring = [&] {
      ringer.ring_if_parked();
      return false;
    };
    EXPECT_EQ(sleeper.park_unless(ring, Deadline::never()), WakeReason::rung);
    EXPECT_EQ(ringer.counters().failed, 0u);
  }
}

TYPED_TEST_P(DoorbellSuite, ShowsWhoIsParkedAndSinceWhen) {
  TestBell& bell = *this->bell_;
  auto sleeper = bell.sleeper();
  EXPECT_FALSE(bell.state().parked);
  const std::int64_t before = monotonic_ns();
  static_cast<void>(sleeper.take_ticket());
  const wait::BellState state = bell.state();
  EXPECT_TRUE(state.parked);
  EXPECT_NE(state.sleep_number, 0u);
  EXPECT_GE(state.parked_since_ns, before);
  EXPECT_LE(state.parked_since_ns, monotonic_ns());
  sleeper.awake();
  EXPECT_FALSE(bell.state().parked);
  EXPECT_EQ(bell.state().parked_since_ns, 0);
}

inline long open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return std::distance(begin(all), end(all));
}

TYPED_TEST_P(DoorbellSuite, LeavesNothingBehind) {
  TestBell& bell = *this->bell_;
  { const auto warm_up = bell.ringer(); }
  const long before = open_descriptors();
  for (int i = 0; i < 10; ++i) {
    auto sleeper = bell.sleeper();
    auto ringer = bell.ringer();
    ringer.ring();
  }
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_EQ(NativeAccess::load_acquire(bell.words().ticket), 0u);
  EXPECT_EQ(NativeAccess::load_acquire(word_at<std::uint64_t>(bell.words().store.bytes, 0)),
            0u);  // the store's tag
}

#if defined(__SANITIZE_THREAD__)
inline constexpr std::uint64_t kVolleys = 2'000;
#else
inline constexpr std::uint64_t kVolleys = 10'000;  // two wakes each
#endif

// Publishes 1, 2, ... and waits for the echo of each, with pauses that sometimes let the other
// side fall asleep and sometimes meet it on its way. No park is bounded: one lost wake-up hangs.
inline void play(TestBell& mine, TestBell& theirs, wait::Sleeper<>& sleeper, wait::Ringer<>& ringer,
                 bool serves, unsigned seed) {
  std::minstd_rand random(seed);
  for (std::uint64_t i = 1; i <= kVolleys; ++i) {
    if (serves) {
      theirs.publish(i);
      ringer.ring_if_parked();
    }
    while (mine.published() < i) {
      static_cast<void>(
          sleeper.park_unless([&] { return mine.published() >= i; }, Deadline::never()));
    }
    const std::uint64_t pause = random() % 2048;
    for (std::uint64_t spin = 0; spin < pause; ++spin) asm volatile("" ::: "memory");
    if (!serves) {
      theirs.publish(i);
      ringer.ring_if_parked();
    }
  }
}

TYPED_TEST_P(DoorbellSuite, LosesNoWakeUpInTwentyThousandBetweenTwoProcesses) {
  const Watchdog watchdog(120, "ping-pong across fork");
  TestBell& here = *this->bell_;
  const auto there_owned = this->make_bell();
  TestBell& there = *there_owned;
  SharedArea page(sizeof(SharedToken));
  ProcessEvent child_is_in;
  ProcessEvent parent_is_in;
  const ProcessToken parent = self_token();
  auto sleeper = here.sleeper(kForever);
  Child child([&] {
    store_token(page.as<SharedToken>(), self_token());
    auto mine = there.sleeper(kForever);
    auto ringer = here.ringer(parent);
    child_is_in.raise();
    if (!parent_is_in.wait()) return 1;
    play(there, here, mine, ringer, false, 2);
    return ringer.counters().failed == 0 ? 0 : 2;
  });
  ASSERT_TRUE(child_is_in.wait());
  auto ringer = there.ringer(load_token(page.as<SharedToken>()).value());
  parent_is_in.raise();
  play(here, there, sleeper, ringer, true, 1);
  EXPECT_TRUE(child.wait().exited_with(0));
  EXPECT_EQ(here.published(), kVolleys);
  EXPECT_GT(sleeper.counters().parks, 0u);
  EXPECT_EQ(ringer.counters().failed, 0u);
}

// Both ends in one process: what ThreadSanitizer can see.
TYPED_TEST_P(DoorbellSuite, LosesNoWakeUpBetweenTwoThreads) {
  const Watchdog watchdog(120, "ping-pong of threads");
  TestBell& here = *this->bell_;
  const auto there_owned = this->make_bell(bell_signal() + 1);
  TestBell& there = *there_owned;
  auto sleeper = here.sleeper(kForever);
  auto ringer = there.ringer();
  std::thread other([&] {
    auto mine = there.sleeper(kForever);
    auto back = here.ringer();
    play(there, here, mine, back, false, 4);
  });
  play(here, there, sleeper, ringer, true, 3);
  other.join();
  EXPECT_EQ(here.published(), kVolleys);
}

REGISTER_TYPED_TEST_SUITE_P(
    DoorbellSuite, WakesASleeperParkedBeforeTheRing,
    DoesNotSleepThroughARingThatCameBetweenTheLookAndTheSleep, DoesNotSleepWhenReady,
    RingsOnceForATicketHoweverOftenItPublishes, MergesRingsAndKeepsNoneForALaterPark, RingsUnasked,
    MakesNoSystemCallWhileNobodyIsParked,
    MeetsItsDeadlineNeverEarlyAndUsuallyWithinFiveMilliseconds,
    ReturnsAtOnceFromADeadlineThatHasPassed, BoundsEveryParkSoThatALostRingCostsNoMore,
    DoesNotLetAStormOfSignalsBeSeen, AKilledSleeperBlocksNeitherTheRingerNorItsSuccessor,
    ARingThatDiedWithItsRingerCostsOneBoundedPark, AForkedChildDoesNotParkForItsParent,
    ShowsWhoIsParkedAndSinceWhen, LeavesNothingBehind,
    LosesNoWakeUpInTwentyThousandBetweenTwoProcesses, LosesNoWakeUpBetweenTwoThreads);

}  // namespace slipring::test

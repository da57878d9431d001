// SPDX-License-Identifier: Apache-2.0
#include "slipring/wait/doorbell.h"

#include <gtest/gtest.h>
#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include <thread>
#include <vector>

#include "support/child.h"
#include "support/matchers.h"
#include "support/watchdog.h"
#include "wait/deny.h"
#include "wait/test_bell.h"

namespace slipring::test {
namespace {

using namespace wait;

FenceMode told(const TestBell& bell) { return bell.state().fence; }
bool never() { return false; }
bool at_once() { return true; }

RingerOptions symmetric_ringer() {
  RingerOptions options;
  options.fence = FenceChoice::symmetric;
  return options;
}

TEST(Ticket, KeepsNumberAndPromisesApart) {
  const Ticket ticket = Ticket::make(5, true, false);
  EXPECT_EQ(ticket.number(), 5u);
  EXPECT_TRUE(ticket.never_parks());
  EXPECT_FALSE(ticket.wants_sym());
  EXPECT_FALSE(ticket.awake());
  EXPECT_TRUE(Ticket::make(0, true, true).awake());
}

TEST(Doorbell, GivesEverySleepItsOwnNumber) {
  TestBell bell(BellKind::futex);
  auto sleeper = bell.sleeper();
  static_cast<void>(sleeper.take_ticket());
  const auto first = bell.state().sleep_number;
  sleeper.awake();
  static_cast<void>(sleeper.take_ticket());
  EXPECT_EQ(bell.state().sleep_number, first + 1);
}

// 0 means awake: a sleep must never be called that.
TEST(Doorbell, SkipsTheNumberZeroWhenNumbersWrap) {
  TestBell bell(BellKind::futex);
  SleeperOptions options;
  options.first_number = ~std::uint64_t{0} >> 2;
  auto sleeper = Sleeper<>::attach(BellKind::futex, bell.ref(), std::move(options)).value();
  static_cast<void>(sleeper.take_ticket());
  EXPECT_EQ(bell.state().sleep_number, ~std::uint64_t{0} >> 2);
  static_cast<void>(sleeper.take_ticket());
  EXPECT_EQ(bell.state().sleep_number, 1u);
}

// The ringer dealt with a ticket of a sleeper that was then killed. Its successor's first ticket
// must not look the same.
TEST(Doorbell, ASuccessorsTicketIsNeverTakenForItsPredecessors) {
  TestBell bell(BellKind::futex);
  auto ringer = bell.ringer();
  std::uint64_t rings = 0;
  for (int i = 0; i < 10; ++i) {
    Child child([&] {
      auto sleeper = bell.sleeper();
      static_cast<void>(sleeper.take_ticket());
      ::raise(SIGKILL);
    });
    ASSERT_TRUE(child.wait().killed_by(SIGKILL));
    ringer.ring_if_parked();
    EXPECT_EQ(ringer.counters().rings, ++rings);
  }
}

TEST(Doorbell, ATicketThatIsOutWhenTheRingerAttachesIsRungFor) {
  TestBell bell(BellKind::futex);
  auto sleeper = bell.sleeper();
  static_cast<void>(sleeper.take_ticket());
  auto ringer = bell.ringer();
  EXPECT_EQ(ringer.counters().rings, 0u);
  ringer.ring_if_parked();
  EXPECT_EQ(ringer.counters().rings, 1u);
}

TEST(Doorbell, GoesAsymmetricWhereTheKernelAgreesAndSaysSo) {
  if (register_ringer_process() != FenceMode::asymmetric) GTEST_SKIP() << "no membarrier here";
  TestBell bell(BellKind::futex);
  const auto sleeper = bell.sleeper();
  const auto ringer = bell.ringer();
  EXPECT_EQ(ringer.fence(), FenceMode::asymmetric);
  EXPECT_EQ(told(bell), FenceMode::asymmetric);
}

// The sleeper cannot, or may not, use membarrier.
TEST(Doorbell, TheRingerGoesSymmetricWhenTheSleeperAsksForItAndTheSleeperThenSleepsLong) {
  if (register_ringer_process() != FenceMode::asymmetric) GTEST_SKIP() << "no membarrier here";
  TestBell bell(BellKind::futex);
  auto ringer = bell.ringer();
  ASSERT_EQ(told(bell), FenceMode::asymmetric);
  SleeperOptions options;
  options.fence = FenceChoice::symmetric;
  auto sleeper = Sleeper<>::attach(BellKind::futex, bell.ref(), std::move(options)).value();

  // Until the ringer has said so, its fence pairs with none of ours.
  EXPECT_EQ(sleeper.park_unless(never, Deadline::never()), WakeReason::timed_out);
  EXPECT_EQ(sleeper.park_bound(), kUnfencedPark);
  ringer.ring_if_parked();
  EXPECT_EQ(ringer.fence(), FenceMode::symmetric);
  EXPECT_EQ(told(bell), FenceMode::symmetric);
  EXPECT_EQ(sleeper.park_unless(at_once, Deadline::never()), WakeReason::ready);
  EXPECT_EQ(sleeper.park_bound(), kMaxPark);
}

TEST(Doorbell, ARingerThatAttachesToASleeperWithoutMembarrierStaysSymmetric) {
  TestBell bell(BellKind::futex, FenceChoice::symmetric);
  const auto sleeper = bell.sleeper();
  const auto ringer = Ringer<>::attach(BellKind::futex, bell.ref()).value();
  EXPECT_EQ(ringer.fence(), FenceMode::symmetric);
}

TEST(Doorbell, TheRingerGoesBackToAsymmetricForTheNextSleeper) {
  if (register_ringer_process() != FenceMode::asymmetric) GTEST_SKIP() << "no membarrier here";
  TestBell bell(BellKind::futex);
  auto ringer = bell.ringer();
  {
    SleeperOptions options;
    options.fence = FenceChoice::symmetric;
    const auto sleeper = Sleeper<>::attach(BellKind::futex, bell.ref(), std::move(options)).value();
    ringer.ring_if_parked();
    EXPECT_EQ(ringer.fence(), FenceMode::symmetric);
  }
  const auto sleeper = bell.sleeper();
  ringer.ring_if_parked();
  EXPECT_EQ(ringer.fence(), FenceMode::asymmetric);
}

// The whole story in two processes: the sleeper's kernel refuses membarrier, here by a filter.
TEST(Doorbell, LosesNothingWhenTheSleepersKernelRefusesMembarrier) {
  const Watchdog watchdog(60, "wants_sym");
  TestBell bell(BellKind::futex);
  constexpr std::uint64_t kLast = 2000;
  Child child([&]() -> int {
    if (!deny(SYS_membarrier, EPERM)) return 77;
    auto sleeper = bell.sleeper(kForever);
    for (std::uint64_t i = 1; i <= kLast; ++i) {
      while (bell.published() < i) {
        static_cast<void>(
            sleeper.park_unless([&] { return bell.published() >= i; }, Deadline::never()));
      }
    }
    return sleeper.wants_symmetric() && sleeper.park_bound() == kForever ? 0 : 1;
  });
  auto ringer = bell.ringer();
  for (std::uint64_t i = 1; i <= kLast; ++i) {
    bell.publish(i);
    ringer.ring_if_parked();
    if (i % 4 == 0) std::this_thread::sleep_for(20us);
  }
  const Ending end = child.wait();
  if (end.exited_with(77)) GTEST_SKIP() << "no seccomp here";
  EXPECT_TRUE(end.exited_with(0)) << testing::PrintToString(end);
  EXPECT_EQ(ringer.fence(), FenceMode::symmetric);
}

TEST(Doorbell, ASymmetricRingerNeedsNoFenceWhileTheSleeperPromisesNeverToPark) {
  TestBell bell(BellKind::futex);
  auto ringer = Ringer<>::attach(BellKind::futex, bell.ref(), symmetric_ringer()).value();
  EXPECT_EQ(ringer.fence(), FenceMode::symmetric);
  {
    SleeperOptions options;
    options.never_parks = true;
    auto spinner = Sleeper<>::attach(BellKind::futex, bell.ref(), std::move(options)).value();
    ringer.ring_if_parked();
    EXPECT_EQ(ringer.fence(), FenceMode::none);
    EXPECT_EQ(told(bell), FenceMode::none);
    // Kept, whatever its owner calls.
    EXPECT_EQ(spinner.park_unless(never, Deadline::in(5ms)), WakeReason::timed_out);
    EXPECT_EQ(spinner.counters().parks, 0u);
  }
  // The next one parks, but short until the ringer has noticed.
  auto sleeper = bell.sleeper();
  EXPECT_EQ(sleeper.park_unless(never, Deadline::never()), WakeReason::timed_out);
  EXPECT_EQ(sleeper.park_bound(), kUnfencedPark);
  ringer.ring_if_parked();
  EXPECT_EQ(ringer.fence(), FenceMode::symmetric);
  EXPECT_EQ(sleeper.park_unless(at_once, Deadline::never()), WakeReason::ready);
  EXPECT_EQ(sleeper.park_bound(), kMaxPark);
}

// TRUST: the ringer's word may hold anything.
TEST(Doorbell, AFenceModeThatDoesNotExistCountsAsNone) {
  TestBell bell(BellKind::futex);
  auto sleeper = bell.sleeper();
  NativeAccess::store_relaxed(bell.words().ringer_fence, 77);
  EXPECT_EQ(sleeper.park_unless(at_once, Deadline::never()), WakeReason::ready);
  EXPECT_EQ(sleeper.park_bound(), kUnfencedPark);
}

// Flags that flip whenever the ringer looks: it ends with the fence that is always right.
TEST(Doorbell, ASleeperThatChangesItsMindForEverDoesNotHoldTheRinger) {
  const Watchdog watchdog(20, "flapping sleeper");
  TestBell bell(BellKind::futex);
  auto ringer = bell.ringer();
  std::atomic<bool> stop{false};
  std::thread liar([&] {
    for (std::uint64_t i = 0; !stop.load(); ++i) {
      NativeAccess::store_release(bell.words().ticket, i * 0x9e3779b97f4a7c15);
    }
  });
  for (int i = 0; i < 10'000; ++i) ringer.ring_if_parked();
  stop.store(true);
  liar.join();
  EXPECT_LE(ringer.counters().rings, 10'000u);
}

TEST(Doorbell, CountsAWakeForNothingAndSleepsOn) {
  const Watchdog watchdog(20, "spurious");
  TestBell bell(BellKind::futex);
  auto sleeper = bell.sleeper(kForever);
  std::thread stranger([&] {
    bell.await_asleep();
    long woken = 0;
    while (woken == 0 && bell.state().parked) {
      woken = ::syscall(SYS_futex, bell.words().seq.policy_address(), FUTEX_WAKE, 1, nullptr,
                        nullptr, 0);
    }
  });
  const std::int64_t from = monotonic_ns();
  EXPECT_EQ(sleeper.park_unless(never, Deadline::in(30ms)), WakeReason::timed_out);
  EXPECT_GE(since(from), 30ms);
  stranger.join();
  EXPECT_EQ(sleeper.counters().spurious, 1u);
}

TEST(Doorbell, MovesKeepTheTicketAndTheKernelObject) {
  TestBell bell(BellKind::sysv_sem);
  TestBell other(BellKind::sysv_sem);
  auto first = bell.sleeper();
  auto second = std::move(first);
  auto ringer = bell.ringer();
  ringer.ring();
  EXPECT_EQ(ringer.counters().failed, 0u);
  second = other.sleeper();  // leaves the first bell
  ringer.ring();
  EXPECT_EQ(ringer.counters().failed, 1u);
}

// Several sleepers of a ringer are not meant, several ringers of one sleeper are: each has its own
// fence word.
TEST(Doorbell, ServesSeveralRingers) {
  const Watchdog watchdog(60, "several ringers");
  TestBell bell(BellKind::futex);
  SharedArea fences(4096);
  auto sleeper = bell.sleeper(kForever);
  constexpr std::uint64_t kEach = 3000;
  std::atomic<std::uint64_t> sum{0};
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      BellRef ref{bell.words().ticket, bell.words().seq,
                  word_at<std::uint32_t>(fences.data(), 128 * i), &bell.words().store};
      auto ringer = Ringer<>::attach(BellKind::futex, ref).value();
      for (std::uint64_t k = 0; k < kEach; ++k) {
        sum.fetch_add(1, std::memory_order_release);
        ringer.ring_if_parked();
        if (k % 8 == 0) std::this_thread::yield();
      }
    });
  }
  for (std::uint64_t had = 0; had < 3 * kEach;) {
    const auto more = [&] { return sum.load(std::memory_order_acquire) > had; };
    static_cast<void>(sleeper.park_unless(more, Deadline::never()));
    had = sum.load(std::memory_order_acquire);
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(sum.load(), 3 * kEach);
}

// The litmus test behind it all: in each round one side publishes and looks at the ticket while the
// other stores a ticket and looks at what is published. That both miss each other is what the
// fences forbid. Nobody sleeps (arm leaves the ticket out and returns), so the rounds are many and
// the sides meet within nanoseconds.
class FencePair : public testing::TestWithParam<FenceChoice> {};

TEST_P(FencePair, OfAPublicationAndATicketAtLeastOneIsSeenByTheOtherSide) {
  const Watchdog watchdog(120, "fence pair");
  TestBell bell(BellKind::eventfd, GetParam());
  auto sleeper = bell.sleeper();
  auto ringer = bell.ringer();
  constexpr std::uint64_t kRounds = 40'000;
  std::vector<std::uint64_t> rings(kRounds + 1);  // the ringer's count after each round
  std::vector<char> saw(kRounds + 1);
  std::atomic<std::uint64_t> here{0};
  std::atomic<std::uint64_t> there{0};
  const auto meet = [](std::atomic<std::uint64_t>& mine, std::atomic<std::uint64_t>& other,
                       std::uint64_t round) {
    mine.store(round, std::memory_order_release);
    for (int spins = 0; other.load(std::memory_order_acquire) < round; ++spins) {
      if (spins > 2000) std::this_thread::yield();
    }
  };
  std::thread publisher([&] {
    std::uint64_t delay = 0;
    for (std::uint64_t i = 1; i <= kRounds; ++i) {
      meet(there, here, 2 * i - 1);
      for (std::uint64_t spin = 0; spin < delay + i % 16; ++spin) asm volatile("" ::: "memory");
      bell.publish(i);
      ringer.ring_if_parked();
      rings[i] = ringer.counters().rings;
      meet(there, here, 2 * i);
      // Seen: too early, the other side's ticket takes longer. So both keep meeting in the middle.
      if (saw[i] != 0) {
        delay += 4;
      } else if (delay >= 4) {
        delay -= 4;
      }
    }
  });
  for (std::uint64_t i = 1; i <= kRounds; ++i) {
    meet(here, there, 2 * i - 1);
    const bool armed = sleeper.arm([&] { return bell.published() >= i; });
    saw[i] = armed ? 0 : 1;
    meet(here, there, 2 * i);
    if (armed) sleeper.disarm();
  }
  publisher.join();
  std::uint64_t lost = 0;
  for (std::uint64_t i = 1; i <= kRounds; ++i) {
    if (saw[i] == 0 && rings[i] == rings[i - 1]) ++lost;
  }
  EXPECT_EQ(lost, 0u) << "of " << kRounds << " rounds, " << rings.back() << " rings";
}
INSTANTIATE_TEST_SUITE_P(Fences, FencePair,
                         testing::Values(FenceChoice::automatic, FenceChoice::symmetric),
                         [](const auto& choice) {
                           return choice.param == FenceChoice::automatic ? "heavy" : "symmetric";
                         });

class ArmedDoorbell : public testing::TestWithParam<BellKind> {};

// The loop of the documentation: arm, epoll, disarm, look at everything.
TEST_P(ArmedDoorbell, ServesAnEpollLoopWithoutLosingAWakeUp) {
  const Watchdog watchdog(60, "epoll");
  TestBell bell(GetParam());
  auto sleeper = bell.sleeper(kForever);
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN;
  ASSERT_EQ(::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, sleeper.fd(), &event), 0);
  constexpr std::uint64_t kLast = 5000;
  std::thread other([&] {
    auto ringer = bell.ringer();
    for (std::uint64_t i = 1; i <= kLast; ++i) {
      bell.publish(i);
      ringer.ring_if_parked();
      if (i % 4 == 0) std::this_thread::sleep_for(10us);
    }
  });
  std::uint64_t seen = 0;
  std::uint64_t waits = 0;
  while (seen < kLast) {
    if (sleeper.arm([&] { return bell.published() > seen; })) {
      ASSERT_EQ(retry_eintr([&] { return ::epoll_wait(epoll.get(), &event, 1, -1); }), 1);
      sleeper.disarm();
      ++waits;
    }
    seen = bell.published();
  }
  other.join();
  EXPECT_GT(waits, 0u);
  // The last ring may have come when the ticket was back already: taken with the next disarm.
  sleeper.disarm();
  EXPECT_EQ(::epoll_wait(epoll.get(), &event, 1, 0), 0);
}
INSTANTIATE_TEST_SUITE_P(Kinds, ArmedDoorbell, testing::Values(BellKind::eventfd, BellKind::signal),
                         [](const auto& kind) { return std::string(to_string(kind.param)); });

TEST(Doorbell, AKindWithoutADescriptorCannotBeArmed) {
  TestBell bell(BellKind::futex);
  auto sleeper = bell.sleeper();
  EXPECT_EQ(sleeper.fd(), -1);
  EXPECT_FALSE(sleeper.arm(never));
  EXPECT_FALSE(bell.state().parked);
}

}  // namespace
}  // namespace slipring::test

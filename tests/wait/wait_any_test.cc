// SPDX-License-Identifier: Apache-2.0
#include "slipring/wait/wait_any.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <algorithm>
#include <memory>
#include <random>
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

// Doorbells in a row, with what was read of each.
class Row {
 public:
  explicit Row(std::size_t count, std::chrono::milliseconds max_park = kForever,
               BellKind kind = BellKind::futex) {
    for (std::size_t i = 0; i < count; ++i) {
      bells_.push_back(std::make_unique<TestBell>(kind));
      sleepers_.push_back(std::make_unique<Sleeper<>>(bells_.back()->sleeper(max_park)));
      pointers_.push_back(sleepers_.back().get());
    }
    read_.resize(count);
  }
  std::optional<std::size_t> ready() const {
    for (std::size_t i = 0; i < bells_.size(); ++i) {
      if (bells_[i]->published() > read_[i]) return i;
    }
    return std::nullopt;
  }
  Result<std::size_t> wait(Deadline deadline = Deadline::never()) {
    return wait_any(
        std::span(pointers_), [&] { return ready(); }, deadline, kFine);
  }
  void read(std::size_t i) { read_[i] = bells_[i]->published(); }
  std::uint64_t total() const {
    std::uint64_t sum = 0;
    for (const std::uint64_t n : read_) sum += n;
    return sum;
  }
  TestBell& bell(std::size_t i) { return *bells_[i]; }
  Sleeper<>& sleeper(std::size_t i) { return *sleepers_[i]; }
  bool anyone_parked() const {
    return std::any_of(bells_.begin(), bells_.end(), [](auto& b) { return b->state().parked; });
  }

 private:
  std::vector<std::unique_ptr<TestBell>> bells_;
  std::vector<std::unique_ptr<Sleeper<>>> sleepers_;
  std::vector<Sleeper<>*> pointers_;
  std::vector<std::uint64_t> read_;
};

TEST(WaitAny, WakesForEachOfItsDoorbells) {
  const Watchdog watchdog(30, "each doorbell");
  constexpr std::size_t kBells = 5;
  Row row(kBells);
  std::vector<Ringer<>> ringers;
  for (std::size_t i = 0; i < kBells; ++i) ringers.push_back(row.bell(i).ringer());
  for (std::size_t i = 0; i < kBells; ++i) {
    std::thread other([&] {
      row.bell(kBells - 1).await_asleep();  // the last ticket is out, hence all
      row.bell(i).publish(1);
      ringers[i].ring_if_parked();
    });
    EXPECT_THAT(row.wait(), Holds(i));
    other.join();
    row.read(i);
    EXPECT_FALSE(row.anyone_parked());
  }
}

void serve_many(std::size_t bells, std::uint64_t each) {
  Row row(bells);
  std::thread other([&] {
    std::minstd_rand random(5);
    std::vector<Ringer<>> ringers;
    for (std::size_t i = 0; i < bells; ++i) ringers.push_back(row.bell(i).ringer());
    for (std::uint64_t n = 0; n < each * bells; ++n) {
      const std::size_t i = n % bells;
      row.bell(i).publish(n / bells + 1);
      ringers[i].ring_if_parked();
      if (random() % 4 == 0) std::this_thread::sleep_for(20us);
    }
  });
  while (row.total() < each * bells) {
    const auto index = row.wait();
    ASSERT_THAT(index, Succeeds());
    row.read(*index);
  }
  other.join();
}

// No park is bounded: a lost wake-up hangs.
TEST(WaitAny, LosesNoWakeUpOverFourDoorbells) {
  const Watchdog watchdog(60, "four doorbells");
  serve_many(4, 500);
}

TEST(WaitAny, TakesAsManyAsTheKernel) {
  const Watchdog watchdog(60, "128 doorbells");
  serve_many(kMaxWaitAny, 3);
}

// As before Linux 5.16, or under a filter: slices of 1 ms on the first, a look at the others.
TEST(WaitAny, WorksWithoutFutexWaitv) {
  const Watchdog watchdog(60, "fallback");
  for (const unsigned error : {unsigned{ENOSYS}, unsigned{EPERM}}) {
    Child child([&] {
      if (!deny(SYS_futex_waitv, error)) return 77;
      serve_many(3, 100);
      return testing::Test::HasFailure() ? 1 : 0;
    });
    const Ending end = child.wait();
    if (end.exited_with(77)) GTEST_SKIP() << "no seccomp here";
    EXPECT_TRUE(end.exited_with(0)) << testing::PrintToString(end);
  }
}

TEST(WaitAny, MeetsItsDeadlineAndNotBefore) {
  const Watchdog watchdog(30, "deadline");
  Row row(3);
  const std::int64_t from = monotonic_ns();
  EXPECT_THAT(row.wait(Deadline::in(30ms)), FailsWith(Errc::timed_out));
  EXPECT_GE(since(from), 30ms);
  EXPECT_FALSE(row.anyone_parked());
  EXPECT_THAT(row.wait(Deadline::now()), FailsWith(Errc::timed_out));
}

TEST(WaitAny, AsksTickAfterEachBoundedParkAndPrefersWhatIsReady) {
  const Watchdog watchdog(30, "ticks");
  Row row(2, 5ms);
  int ticks = 0;
  std::vector<Sleeper<>*> both{&row.sleeper(0), &row.sleeper(1)};
  const auto nothing = []() -> std::optional<std::size_t> { return std::nullopt; };
  const auto dead_at_third = [&]() -> Result<void> {
    if (++ticks == 3) return fail(Errc::peer_dead);
    return {};
  };
  EXPECT_THAT(wait_any(std::span(both), nothing, Deadline::never(), dead_at_third),
              FailsWith(Errc::peer_dead));
  const auto ready_once_dead = [&]() -> std::optional<std::size_t> {
    return ticks == 4 ? std::optional<std::size_t>(1) : std::nullopt;
  };
  const auto dead = [&]() -> Result<void> {
    ++ticks;
    return fail(Errc::peer_dead);
  };
  EXPECT_THAT(wait_any(std::span(both), ready_once_dead, Deadline::never(), dead),
              Holds(std::size_t{1}));
}

TEST(WaitAny, RefusesWhatItCannotWaitFor) {
  std::vector<Sleeper<>*> none;
  const auto nothing = []() -> std::optional<std::size_t> { return std::nullopt; };
  EXPECT_THAT(wait_any(std::span(none), nothing, Deadline::now(), kFine),
              FailsWith(Errc::invalid_argument));
  Row semaphores(1, kMaxPark, BellKind::posix_sem);
  EXPECT_THAT(semaphores.wait(Deadline::now()), FailsWith(Errc::not_supported));
  Row many(kMaxWaitAny + 1);
  EXPECT_THAT(many.wait(Deadline::now()), FailsWith(Errc::too_large));
}

// One sleeper that must not interrupt other CPUs speaks for the whole set.
TEST(WaitAny, UsesNoMembarrierWhenOneSleeperForbidsIt) {
  const Watchdog watchdog(30, "mixed fences");
  TestBell plain(BellKind::futex);
  TestBell quiet(BellKind::futex, FenceChoice::symmetric);
  auto first = plain.sleeper();
  auto second = quiet.sleeper();
  std::vector<Sleeper<>*> both{&first, &second};
  const auto nothing = []() -> std::optional<std::size_t> { return std::nullopt; };
  EXPECT_THAT(wait_any(std::span(both), nothing, Deadline::in(2ms), kFine),
              FailsWith(Errc::timed_out));
  EXPECT_TRUE(first.wants_symmetric());
}

}  // namespace
}  // namespace slipring::test

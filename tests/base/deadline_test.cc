// SPDX-License-Identifier: Apache-2.0
#include "slipring/base/deadline.h"

#include <gtest/gtest.h>

#include <limits>

namespace slipring {
namespace {

using namespace std::chrono_literals;

TEST(Deadline, NeverDoesNotPass) {
  EXPECT_FALSE(Deadline::never().passed());
  EXPECT_TRUE(Deadline::never().is_never());
  EXPECT_EQ(Deadline::never().to_poll_ms(), -1);
}

TEST(Deadline, NowHasPassed) {
  EXPECT_TRUE(Deadline::now().passed());
  EXPECT_FALSE(Deadline::now().is_never());
  EXPECT_EQ(Deadline::now().to_poll_ms(), 0);
}

TEST(Deadline, PassesNotBeforeItsTime) {
  const std::int64_t start = monotonic_ns();
  const Deadline deadline = Deadline::in(20ms);
  while (!deadline.passed()) {
  }
  EXPECT_GE(monotonic_ns() - start, 20'000'000);
}

TEST(Deadline, ANegativeWaitIsNow) {
  EXPECT_TRUE(Deadline::in(-1ns).passed());
  EXPECT_TRUE(Deadline::in(std::chrono::nanoseconds::min()).passed());
}

// The kernel answers EINVAL, not ETIMEDOUT, to a timespec below zero.
TEST(Deadline, ATimespecIsNeverBelowZero) {
  for (const auto deadline : {Deadline::in(std::chrono::nanoseconds::min()), Deadline::in(-1ns),
                              Deadline::at_ns(-1), Deadline::now()}) {
    EXPECT_GE(deadline.to_timespec().tv_sec, 0);
    EXPECT_GE(deadline.to_timespec().tv_nsec, 0);
  }
}

TEST(Deadline, AnOverlongWaitIsNever) {
  EXPECT_TRUE(Deadline::in(std::chrono::nanoseconds::max()).is_never());
  EXPECT_TRUE(Deadline::in(std::chrono::nanoseconds::max() - 1ns).is_never());
}

TEST(Deadline, TheEarlierOfTwoWins) {
  const Deadline early = Deadline::at_ns(5);
  const Deadline late = Deadline::at_ns(9);
  EXPECT_EQ(early.or_earlier(late).ns(), 5);
  EXPECT_EQ(late.or_earlier(early).ns(), 5);
  EXPECT_EQ(Deadline::never().or_earlier(late).ns(), 9);
}

TEST(Deadline, SplitsIntoSecondsAndNanoseconds) {
  const timespec ts = Deadline::at_ns(3'000'000'007).to_timespec();
  EXPECT_EQ(ts.tv_sec, 3);
  EXPECT_EQ(ts.tv_nsec, 7);
}

TEST(Deadline, PollTimeIsRoundedUpSoThatNoWaitEndsEarly) {
  const Deadline hour = Deadline::in(1h);
  const int ms = hour.to_poll_ms();
  EXPECT_GE(monotonic_ns() + std::int64_t{ms} * 1'000'000, hour.ns());
  EXPECT_LE(ms, 3'600'000);
}

TEST(Deadline, PollTimeBeyondAnIntIsTheLargestInt) {
  EXPECT_EQ(Deadline::in(24h * 365).to_poll_ms(), std::numeric_limits<int>::max());
}

}  // namespace
}  // namespace slipring

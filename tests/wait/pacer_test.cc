// SPDX-License-Identifier: Apache-2.0
#include "slipring/wait/pacer.h"

#include <gtest/gtest.h>

namespace slipring::wait {
namespace {

using std::chrono::nanoseconds;

/// A ring, its sender and a receiver that asks a pacer, in a time of their own. Each visit costs
/// one hand-over of the polled line, whatever it brings.
struct SimulatedRing {
  double ns_per_record;  // of a sender that nobody disturbs
  int closed_loop = 0;   // records under way at most; 0: the sender waits for nobody
  double hand_over_ns = 130;
  double now_ns = 1e6;
  double made = 0;  // records, with fractions
  std::uint64_t taken = 0;
  std::uint64_t slipped = 0, visits = 0;

  void visit(Pacer& pacer) {
    double waits = hand_over_ns;
    if (closed_loop == 0 && waits < ns_per_record) waits = ns_per_record;  // nothing there yet
    pass(waits);
    const auto there = static_cast<std::uint64_t>(made) - taken;
    taken += there;
    const std::int64_t slip =
        pacer.after_visit(there, there * 72, [this] { return static_cast<std::int64_t>(now_ns); });
    slipped += slip > 0;
    ++visits;
    pass(static_cast<double>(slip));
  }
  void pass(double ns) {
    now_ns += ns;
    if (closed_loop != 0) {
      made = static_cast<double>(taken) + closed_loop;  // answered at once, then they wait
    } else {
      // While we poll, each record costs the sender a hand-over; while we stay away, none.
      made += ns == hand_over_ns ? ns / std::max(ns_per_record, hand_over_ns) : ns / ns_per_record;
    }
  }
  double records_per_us(Pacer& pacer, int count) {
    const double from_ns = now_ns;
    const std::uint64_t from = taken;
    for (int i = 0; i < count; ++i) visit(pacer);
    return static_cast<double>(taken - from) / (now_ns - from_ns) * 1e3;
  }
};

TEST(Pacer, FindsTheSlipThatAStreamGainsFrom) {
  SimulatedRing unpaced{5}, paced{5};
  Pacer never(nanoseconds(0)), pacer(Pacer::kDefaultCap);
  const double without = unpaced.records_per_us(never, 20'000);
  static_cast<void>(paced.records_per_us(pacer, 5'000));
  const double with = paced.records_per_us(pacer, 20'000);
  EXPECT_GT(with, 5 * without);
  EXPECT_EQ(unpaced.slipped, 0u);
}

TEST(Pacer, NeverSlipsLongerThanItsCap) {
  SimulatedRing ring{5};
  Pacer pacer(nanoseconds(700));
  std::int64_t longest = 0;
  for (int i = 0; i < 50'000; ++i) {
    ring.visit(pacer);
    longest = std::max(longest, pacer.slip_ns());
  }
  EXPECT_GT(longest, 250);
  EXPECT_LE(longest, 700);
}

TEST(Pacer, LeavesRequestAndReplyAloneButForRareTries) {
  for (const int depth : {1, 2, 8, 64}) {
    SimulatedRing ring{5};
    ring.closed_loop = depth;
    Pacer pacer(Pacer::kDefaultCap);
    static_cast<void>(ring.records_per_us(pacer, 500'000));
    const std::uint64_t slipped = ring.slipped, visits = ring.visits;
    static_cast<void>(ring.records_per_us(pacer, 2'000'000));
    EXPECT_LT(static_cast<double>(ring.slipped - slipped),
              0.001 * static_cast<double>(ring.visits - visits))
        << "depth " << depth;
  }
}

TEST(Pacer, NeverSlipsForASlowSender) {
  SimulatedRing ring{100'000};  // 10 k/s
  Pacer pacer(Pacer::kDefaultCap);
  static_cast<void>(ring.records_per_us(pacer, 100'000));
  EXPECT_EQ(ring.slipped, 0u);
}

TEST(Pacer, StopsAtOnceWhenAStreamBecomesRequestAndReply) {
  SimulatedRing ring{5};
  Pacer pacer(Pacer::kDefaultCap);
  static_cast<void>(ring.records_per_us(pacer, 10'000));
  while (pacer.slip_ns() == 0) ring.visit(pacer);
  for (int i = 0; i < 100; ++i) ring.visit(pacer);  // past the tries, into the long windows
  ring.closed_loop = 1;
  ring.made = static_cast<double>(ring.taken);
  const std::uint64_t slipped = ring.slipped;
  for (int i = 0; i < 60; ++i) ring.visit(pacer);
  EXPECT_LE(ring.slipped - slipped, 40u);
  EXPECT_EQ(pacer.slip_ns(), 0);
}

TEST(Pacer, ReadsTheClockOncePerWindow) {
  Pacer pacer(Pacer::kDefaultCap);
  int reads = 0;
  for (int i = 0; i < 64'000; ++i) {
    static_cast<void>(pacer.after_visit(1, 16, [&] { return std::int64_t{i} * 1000 + ++reads; }));
  }
  EXPECT_LE(reads, 64'000 / 16);
}

TEST(Pacer, StaysAwayNoLongerThanTheDeadline) {
  const std::int64_t from = monotonic_ns();
  stay_away(3'600'000'000'000, Deadline::at_ns(from + 1'000'000));
  EXPECT_GE(monotonic_ns(), from + 1'000'000);
  stay_away(1'000'000, Deadline::never());
  EXPECT_GE(monotonic_ns(), from + 2'000'000);
}

}  // namespace
}  // namespace slipring::wait

// SPDX-License-Identifier: Apache-2.0
// What the benchmark says of others has to be true: its histogram, its statistics, and the proof
// that no message was lost or torn.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "harness/figures.h"
#include "harness/histogram.h"
#include "harness/pattern.h"
#include "scenarios/lines.h"

namespace slipring::bench {
namespace {

TEST(Histogram, PutsAnyValueWithinOnePercentAndKeepsTheLargest) {
  for (std::uint64_t value = 1; value < std::uint64_t{1} << 41; value += 1 + value / 37) {
    Histogram seen;
    seen.record(value);
    seen.record(value * 2);
    EXPECT_GE(seen.at(0.5), value);
    EXPECT_LE(seen.at(0.5), value + value / 100);
    EXPECT_EQ(seen.max(), value * 2);
    EXPECT_EQ(seen.at(1), value * 2);
  }
}

TEST(Histogram, CountsSharesAsTheyWereRecordedAlsoWhenMerged) {
  Histogram low, high;
  for (std::uint64_t i = 0; i < 990; ++i) low.record(100);
  for (std::uint64_t i = 0; i < 10; ++i) high.record(100'000);
  low.merge(high);
  EXPECT_EQ(low.count(), 1000u);
  EXPECT_EQ(low.at(0.99), 100u);
  EXPECT_GE(low.at(0.991), 99'000u);
  EXPECT_TRUE(low.resolves(0.99));
  EXPECT_FALSE(low.resolves(0.999));  // one value is luck
  EXPECT_EQ(Histogram{}.at(0.5), 0u);
}

TEST(Figures, MediansAndQuartilesWereAllMeasured) {
  const Quartiles q = quartiles({5, 1, 4, 2, 3});
  EXPECT_EQ(q.low, 2);
  EXPECT_EQ(q.median, 3);
  EXPECT_EQ(q.high, 4);
  EXPECT_EQ(quartiles({}).count, 0u);
}

TEST(Figures, ComparesWithinARoundAndLeavesOutRoundsThatOneSideMissed) {
  const double none = std::numeric_limits<double>::quiet_NaN();
  // The medians alone would say the opposite: 10 against 20.
  const Versus both = versus({10, 300, none, 8, 12}, {5, 100, 20, 4, none});
  EXPECT_EQ(both.ratio.count, 3u);
  EXPECT_EQ(both.ratio.median, 2);
  EXPECT_EQ(both.wins, 3u);
  EXPECT_TRUE(both.ahead());
  EXPECT_FALSE(versus({1, 1, 2}, {2, 2, 1}).ahead());
}

TEST(Pattern, SumsWhatItFilledForEverySize) {
  for (std::size_t size = 8; size < 1200; size += size < 80 ? 1 : 13) {
    std::vector<std::byte> bytes(size);
    fill(bytes.data(), size, 77);
    EXPECT_EQ(sum_of(bytes.data(), size), expected_sum(size, 77)) << size;
    for (std::size_t k = 0; k < size / 8; ++k) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data() + k * 8, 8);
      ASSERT_EQ(word, 77 + k * kStep) << size;
    }
  }
}

template <typename Spoil>
bool passes(std::size_t size, Spoil&& spoil) {
  Checker check(size);
  std::vector<std::byte> bytes(size);
  for (std::uint64_t i = 0; i < 3; ++i) {
    fill(bytes.data(), size, base_of(0, i));
    std::size_t seen = size;
    if (spoil(i, bytes, seen)) check(bytes.data(), seen);
  }
  return check.all_well() && check.seen() == 3;
}

TEST(Checker, TakesMessagesThatAreWholeAndInOrder) {
  for (const std::size_t size : {8u, 64u, 100u, 4096u}) {
    EXPECT_TRUE(passes(size, [](auto, auto&, auto&) { return true; }));
  }
}

TEST(Checker, FindsALostATornAShortAndARepeatedMessage) {
  for (const std::size_t size : {64u, 100u, 4096u}) {
    EXPECT_FALSE(passes(size, [](auto i, auto&, auto&) { return i != 1; })) << "lost";
    EXPECT_FALSE(passes(size, [](auto i, auto&, auto& seen) {
      if (i == 1) seen -= 8;
      return true;
    })) << "short";
    EXPECT_FALSE(passes(size, [&](auto i, auto& bytes, auto&) {
      if (i == 1) fill(bytes.data(), size, base_of(0, 0));
      return true;
    })) << "repeated";
    // Each place of the message may be the one that was not written yet.
    for (std::size_t at = 0; at < size; at += 1 + size / 50) {
      EXPECT_FALSE(passes(size,
                          [&](auto i, auto& bytes, auto&) {
                            if (i == 2) bytes[at] ^= std::byte{0x40};
                            return true;
                          }))
          << "torn at " << at;
    }
  }
}

TEST(Checker, KeepsTheOrdersOfSeveralSendersApart) {
  Checker check(std::size_t{16});
  std::byte bytes[16];
  for (const auto& [stream, number] : {std::pair{0, 0}, {1, 0}, {1, 1}, {0, 1}, {1, 2}}) {
    fill(bytes, std::size_t{16},
         base_of(static_cast<unsigned>(stream), static_cast<unsigned>(number)));
    check(bytes, 16);
  }
  EXPECT_TRUE(check.all_well());
  fill(bytes, std::size_t{16}, base_of(1, 2));
  check(bytes, 16);
  EXPECT_FALSE(check.all_well());
}

// A line that carries data costs one U and one R: no ring is cheaper, and ours is not much dearer.
TEST(Lines, MoveOnceEachWayWhenTheReceiverFindsManyMessages) {
  int counted = 0;
  for (const LineCount& one : count_lines()) {
    if (one.form != "lane" || one.visit < 64) continue;
    ++counted;
    const double lines = static_cast<double>(one.bytes + 8) / 64;
    EXPECT_GE(one.upgrades, lines * 0.99) << one.bytes;
    EXPECT_GE(one.reads, lines * 0.99) << one.bytes;
    EXPECT_LE(one.upgrades, lines + 0.2) << one.bytes;
    EXPECT_LE(one.reads, lines + 0.2) << one.bytes;
  }
  EXPECT_GE(counted, 4);
}

}  // namespace
}  // namespace slipring::bench

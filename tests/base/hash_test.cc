// SPDX-License-Identifier: Apache-2.0
#include "slipring/base/hash.h"

#include <gtest/gtest.h>

#include "slipring/base/align.h"

namespace slipring {
namespace {

// Vectors of RFC 9923, appendix C.
TEST(Fnv1a, MatchesThePublishedVectors) {
  EXPECT_EQ(fnv1a(""), 0xcbf29ce484222325u);
  EXPECT_EQ(fnv1a("a"), 0xaf63dc4c8601ec8cu);
  EXPECT_EQ(fnv1a("b"), 0xaf63df4c8601f1a5u);
  EXPECT_EQ(fnv1a("foobar"), 0x85944171f73967e8u);
}

TEST(Fnv1a, ContinuesFromAnEarlierHash) { EXPECT_EQ(fnv1a("bar", fnv1a("foo")), fnv1a("foobar")); }

TEST(Fnv1a, AWordIsItsEightBytesLowestFirst) {
  const std::string_view bytes("\x08\x07\x06\x05\x04\x03\x02\x01", 8);
  EXPECT_EQ(fnv1a(0x0102030405060708, kFnvBasis), fnv1a(bytes));
}

TEST(Fnv1a, HashesBytesAbove127AsUnsigned) {
  EXPECT_EQ(fnv1a("\xff"), (kFnvBasis ^ 0xff) * 0x100000001b3);
}

TEST(Fnv1a, IsAConstant) {
  static_assert(fnv1a("slipring") != fnv1a("slipping"));
  SUCCEED();
}

TEST(Align, RoundsUpToThePowerOfTwo) {
  EXPECT_EQ(align_up(0, 8), 0u);
  EXPECT_EQ(align_up(1, 8), 8u);
  EXPECT_EQ(align_up(8, 8), 8u);
  EXPECT_EQ(align_up(4097, 4096), 8192u);
  EXPECT_TRUE(is_aligned(64, 64));
  EXPECT_FALSE(is_aligned(65, 64));
}

TEST(Align, KnowsThePowersOfTwo) {
  EXPECT_FALSE(is_power_of_two(0));
  EXPECT_TRUE(is_power_of_two(1));
  EXPECT_FALSE(is_power_of_two(3));
  EXPECT_TRUE(is_power_of_two(std::uint64_t{1} << 63));
  EXPECT_FALSE(is_power_of_two((std::uint64_t{1} << 63) + 1));
}

}  // namespace
}  // namespace slipring

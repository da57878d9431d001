// SPDX-License-Identifier: Apache-2.0
#include "lane_fixture.h"

namespace slipring::ring {

TEST_P(LaneTest, AGroupAppearsWholeAtItsEndAndNotBefore) {
  for (std::uint64_t round = 0; round < 200; ++round) {
    ASSERT_TRUE(producer_->begin_group());
    EXPECT_TRUE(producer_->has_open_group());
    const std::uint64_t count = 1 + round % 9;
    for (std::uint64_t n = 0; n < count; ++n) {
      ASSERT_TRUE(send(n, (n * 29 + round) % 120));
      expect_empty();
      EXPECT_FALSE(consumer_->has_record());
    }
    producer_->end_group();
    EXPECT_FALSE(producer_->has_open_group());
    std::vector<Record> records(count + 1);
    ASSERT_EQ(*consumer_->peek_many(records), count);
    for (std::uint64_t n = 0; n < count; ++n) expect_next(n, (n * 29 + round) % 120);
    expect_empty();
  }
  EXPECT_GT(producer_->write_pos(), 5 * kCapacity);
}

TEST_P(LaneTest, AnAbortedGroupLeavesNoTraceButACount) {
  for (std::uint64_t round = 0; round < 100; ++round) {
    const std::uint64_t before = producer_->write_pos();
    const std::uint64_t messages = producer_->messages();
    const std::uint64_t bytes = producer_->bytes();
    ASSERT_TRUE(producer_->begin_group());
    for (std::uint64_t n = 0; n < 5; ++n) ASSERT_TRUE(send(n, 33 * n));
    ASSERT_TRUE(producer_->try_claim(40));  // open: goes with the group
    producer_->abort_group();
    EXPECT_FALSE(producer_->has_open_claim());
    EXPECT_EQ(producer_->write_pos(), before);
    EXPECT_EQ(producer_->messages(), messages);
    EXPECT_EQ(producer_->bytes(), bytes);
    expect_empty();
    ASSERT_TRUE(send(round, round % 70));
    expect_next(round, round % 70);
    expect_empty();
  }
  producer_->tell_write();
  EXPECT_EQ(look_at(lane_.producer_side().aborts), 600u);
}

TEST_P(LaneTest, AGroupTakesAtMostHalfTheCapacity) {
  advance_to_offset(1024);
  const std::uint64_t first = producer_->write_pos();
  ASSERT_TRUE(producer_->begin_group());
  const std::size_t sent = fill(56);
  EXPECT_EQ(sent, kCapacity / 2 / 64);
  EXPECT_EQ(producer_->write_pos() - first, kCapacity / 2);
  EXPECT_TRUE(fails_with(producer_->try_claim(0), Errc::full));
  producer_->end_group();
  EXPECT_TRUE(producer_->try_claim(0)) << "outside the group there is room";
  producer_->abort();
  for (std::size_t n = 0; n < sent; ++n) expect_next(n, 56);
}

// 1 KiB before the end of the lap, padding and the largest record need 2112 of 4096 bytes. Refused
// inside an empty group, it would be refused for ever.
TEST_P(LaneTest, TheFirstRecordOfAGroupIsTakenWhereverItStarts) {
  std::uint64_t n = 0;
  for (; producer_->write_pos() < kCapacity - 1024; ++n) {
    ASSERT_TRUE(send(n, 0));
    expect_next(n, 0);
  }
  consumer_->tell_read();
  ASSERT_TRUE(producer_->begin_group());
  ASSERT_TRUE(send(n, kMaxPayload));
  EXPECT_GT(producer_->write_pos(), kCapacity - 1024 + kCapacity / 2);
  EXPECT_TRUE(fails_with(producer_->try_claim(0), Errc::full));  // the second record may not
  producer_->end_group();
  expect_next(n, kMaxPayload);
}

TEST_P(LaneTest, AGroupFindsNoRoomInAFullLaneAndCanBeEndedThen) {
  const std::size_t before = fill(200);
  ASSERT_TRUE(producer_->begin_group());
  EXPECT_TRUE(fails_with(producer_->try_claim(200), Errc::full));
  producer_->end_group();
  for (std::size_t n = 0; n < before; ++n) expect_next(n, 200);
  expect_empty();
}

TEST_P(LaneTest, AGroupWithoutRecordsIsNothing) {
  ASSERT_TRUE(producer_->begin_group());
  producer_->end_group();
  ASSERT_TRUE(producer_->begin_group());
  ASSERT_TRUE(producer_->try_claim(16));
  producer_->end_group();  // aborts the claim
  EXPECT_FALSE(producer_->has_open_claim());
  EXPECT_EQ(producer_->write_pos(), 0u);
  expect_empty();
  ASSERT_TRUE(send(1, 16));
  expect_next(1, 16);
}

TEST_P(LaneTest, AGroupMayStartWithPaddingAndCrossALap) {
  for (std::uint64_t left = 64; left <= 512; left += 64) {
    advance_to_offset(kCapacity - left);
    ASSERT_TRUE(producer_->begin_group());
    for (std::uint64_t n = 0; n < 3; ++n) {
      ASSERT_TRUE(send(n, 500));
      expect_empty();
    }
    producer_->end_group();
    for (std::uint64_t n = 0; n < 3; ++n) expect_next(n, 500);
    expect_empty();
  }
}

TEST_P(LaneTest, AnAbortInsideAGroupTakesOnlyTheClaim) {
  ASSERT_TRUE(producer_->begin_group());
  ASSERT_TRUE(send(1, 10));
  const auto claim = producer_->try_claim(500);
  ASSERT_TRUE(claim);
  fill_pattern(claim->payload, 99);
  producer_->abort();
  ASSERT_TRUE(send(2, 20));
  producer_->end_group();
  expect_next(1, 10);
  expect_next(2, 20);
  expect_empty();
}

TEST_P(LaneTest, RefusesAGroupInsideAGroupOrAClaim) {
  ASSERT_TRUE(producer_->begin_group());
  EXPECT_TRUE(fails_with(producer_->begin_group(), Errc::in_use));
  producer_->end_group();
  ASSERT_TRUE(producer_->try_claim(8));
  EXPECT_TRUE(fails_with(producer_->begin_group(), Errc::in_use));
  producer_->abort();
  EXPECT_TRUE(producer_->begin_group());
}

// What is withheld does not exist: a successor would walk from a told position into nothing.
TEST_P(LaneTest, TellsNothingOfAnOpenGroup) {
  ASSERT_TRUE(send(1, 8));
  producer_->tell_write();
  const std::uint64_t told = look_at(lane_.producer_side().write_pos);
  ASSERT_TRUE(producer_->begin_group());
  fill(56);
  producer_->tell_write();
  EXPECT_EQ(look_at(lane_.producer_side().write_pos), told);
  EXPECT_EQ(look_at(lane_.producer_side().messages), 1u);
  producer_->end_group();
  EXPECT_EQ(look_at(lane_.producer_side().write_pos), producer_->write_pos());
}

}  // namespace slipring::ring

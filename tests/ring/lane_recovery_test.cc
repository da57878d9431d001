// SPDX-License-Identifier: Apache-2.0
#include <set>

#include "lane_fixture.h"

// A dead end is one whose object is dropped: what it knew is gone, what it stored is there.
namespace slipring::ring {

// 0 to 300 messages after the last time that the consumer looked; positions told at any distance.
TEST_P(LaneTest, ASuccessorFindsAllThatWasCommittedAndCountsExactly) {
  std::uint64_t next = 0;
  for (std::uint64_t count = 0; count <= 70; ++count) {
    for (std::uint64_t n = 0; n < count; ++n) {
      const std::size_t size = (count * 7 + n * 3) % 40;
      ASSERT_TRUE(send(next, size));
      if (n % 3 != 0) expect_next(next, size);  // read_pos may pass the told write_pos
      if (n % 3 == 0) consumer_->release(*consumer_->try_peek());
      ++next;
    }
    const LaneProducer<> dead = *producer_;
    restart_producer(Predecessor::dead);
    ASSERT_EQ(producer_->write_pos(), dead.write_pos()) << count;
    ASSERT_EQ(producer_->messages(), dead.messages());
    ASSERT_EQ(producer_->bytes(), dead.bytes());
    ASSERT_TRUE(send(next, 25));
    expect_next(next++, 25);
    expect_empty();
  }
}

TEST_P(LaneTest, ASuccessorOfAFullLaneFindsItFull) {
  for (const std::size_t size : {0u, 8u, 56u, 500u, 1024u}) {
    const std::size_t sent = fill(size);
    restart_producer(Predecessor::dead);
    EXPECT_TRUE(fails_with(producer_->try_claim(size), Errc::full));
    for (std::size_t n = 0; n < sent; ++n) expect_next(n, size);
    consumer_->tell_read();
    expect_empty();
  }
}

TEST_P(LaneTest, AClaimNobodyCommittedIsForgotten) {
  for (std::uint64_t n = 0; n < 200; ++n) {
    const auto claim = producer_->try_claim(n * 31 % (kMaxPayload + 1));
    ASSERT_TRUE(claim);
    fill_pattern(claim->payload, n);
    restart_producer(Predecessor::dead);
    expect_empty();
    ASSERT_TRUE(send(n, n % 60));
    expect_next(n, n % 60);
    expect_empty();
  }
}

TEST_P(LaneTest, AGroupNobodyEndedIsForgotten) {
  for (std::uint64_t n = 0; n < 200; ++n) {
    const std::uint64_t before = producer_->write_pos();
    ASSERT_TRUE(producer_->begin_group());
    for (std::uint64_t i = 0; i <= n % 6; ++i) ASSERT_TRUE(send(i, (n * 17 + i) % 250));
    restart_producer(Predecessor::dead);
    EXPECT_EQ(producer_->write_pos(), before);
    expect_empty();
    ASSERT_TRUE(send(n, n % 60));
    expect_next(n, n % 60);
    expect_empty();
  }
}

// The header behind the padding was stored before the padding: garbage of the next lap now.
TEST_P(LaneTest, ARecordWhosePaddingNobodyPublishedIsForgotten) {
  for (std::uint64_t left = 64; left <= 320; left += 64) {
    advance_to_offset(kCapacity - left);
    const std::uint64_t at = producer_->write_pos();
    ASSERT_TRUE(send(1, 500));
    poke(lane_.header(at), 0);  // killed before the last store of commit()
    poke(lane_.producer_side().write_pos, at);
    restart_producer(Predecessor::dead);
    EXPECT_EQ(producer_->write_pos(), at);
    expect_empty();
    ASSERT_TRUE(send(2, left - kWordBytes));  // up to the lap's end exactly
    expect_next(2, left - kWordBytes);
    expect_empty();
    ASSERT_TRUE(send(3, 8));
    expect_next(3, 8);
  }
}

// write_pos is told late; the words behind it must outlive any clearing ahead and any group.
TEST_P(LaneTest, NothingIsClearedOrClaimedOverTheWordsThatRecoveryWalks) {
  for (std::uint64_t n = 0; n < 500; ++n) {
    const bool group = n % 5 == 0;
    const bool abandoned = n % 10 == 0;
    if (group) {
      ASSERT_TRUE(producer_->begin_group());
    }
    ASSERT_TRUE(send(n, n % 48));
    while (group && send(n, 56)) {
    }
    if (group && !abandoned) producer_->end_group();
    while (const auto record = consumer_->try_peek()) consumer_->release(*record);
    consumer_->tell_read();
    const auto successor = lane_.producer(Predecessor::dead, tuning());
    ASSERT_TRUE(successor) << successor.error().op << " n " << n;
    ASSERT_EQ(successor->write_pos(), consumer_->read_pos());
    if (n % 7 == 0 || abandoned) producer_ = *successor;
  }
}

TEST_P(LaneTest, RecoveryOnlyReadsSoItMayBeRepeated) {
  for (std::uint64_t n = 0; n < 9; ++n) ASSERT_TRUE(send(n, n * 20));
  const auto area = lane_.for_producer().producer;
  const std::vector<std::byte> before(area.begin(), area.end());
  for (int i = 0; i < 3; ++i) {
    restart_producer(Predecessor::dead);
    EXPECT_EQ(producer_->messages(), 9u);
  }
  EXPECT_TRUE(std::equal(before.begin(), before.end(), area.begin()));
}

TEST_P(LaneTest, AProducerThatLeftInOrderIsFollowedWhereItLeft) {
  for (std::uint64_t n = 0; n < 20; ++n) ASSERT_TRUE(send(n, 20));
  producer_->tell_write();
  const std::uint64_t end = producer_->write_pos();
  EXPECT_EQ(look_at(lane_.producer_side().write_pos), end);
  restart_producer(Predecessor::left);
  EXPECT_EQ(producer_->write_pos(), end);
  ASSERT_TRUE(send(20, 20));
  for (std::uint64_t n = 0; n <= 20; ++n) expect_next(n, 20);
}

TEST_P(LaneTest, AfterADeathRecordsBelowTheFrontierOfThenAreFlaggedAndNoOthers) {
  for (std::uint64_t n = 0; n < 20; ++n) ASSERT_TRUE(send(n, 4));
  for (std::uint64_t n = 0; n < 5; ++n) expect_next(n, 4);
  const std::uint64_t told = look_at(lane_.consumer_side().messages);
  restart_consumer(Predecessor::dead);
  for (std::uint64_t n = 20; n < 25; ++n) ASSERT_TRUE(send(n, 4));
  for (std::uint64_t n = told; n < 25; ++n) {
    const auto record = consumer_->try_peek();
    ASSERT_TRUE(record);
    EXPECT_EQ(record->number, n + 1);
    EXPECT_TRUE(has_pattern(record->payload, n));
    EXPECT_EQ(record->redelivered, n < 20) << n;
    consumer_->release(*record);
  }
  consumer_->tell_read();
  EXPECT_EQ(look_at(lane_.consumer_side().redelivered), 20 - told);
  EXPECT_EQ(look_at(lane_.consumer_side().messages), 25u);
}

TEST_P(LaneTest, CountsRedeliveredRecordsExactlyWhenReleasedTogetherWithNewOnes) {
  for (std::uint64_t n = 0; n < 4; ++n) ASSERT_TRUE(send(n, 4));
  restart_consumer(Predecessor::dead);
  for (std::uint64_t n = 4; n < 8; ++n) ASSERT_TRUE(send(n, 4));
  std::vector<Record> records(8);
  ASSERT_EQ(*consumer_->peek_many(records), 8u);
  for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(records[i].redelivered, i < 4);
  consumer_->release(records[1]);
  consumer_->release(records[7]);
  consumer_->release(records[7]);
  consumer_->tell_read();
  EXPECT_EQ(look_at(lane_.consumer_side().redelivered), 4u);
}

TEST_P(LaneTest, AConsumerThatLeftInOrderLeavesNothingToRedeliver) {
  for (std::uint64_t n = 0; n < 20; ++n) ASSERT_TRUE(send(n, 30));
  for (std::uint64_t n = 0; n < 5; ++n) expect_next(n, 30);
  ASSERT_TRUE(consumer_->try_peek());  // seen, not released: the next one sees it first
  consumer_->tell_read();
  restart_consumer(Predecessor::left);
  for (std::uint64_t n = 5; n < 20; ++n) {
    const auto record = consumer_->try_peek();
    ASSERT_TRUE(record);
    EXPECT_FALSE(record->redelivered);
    EXPECT_EQ(record->number, n + 1);
    expect_next(n, 30);
  }
  consumer_->tell_read();
  EXPECT_EQ(look_at(lane_.consumer_side().redelivered), 0u);
}

// R8. The one in between took over from the dead and left without reading.
TEST_P(LaneTest, AConsumerThatLeavesBehindADeadOnePassesItsFlagsOn) {
  for (std::uint64_t n = 0; n < 8; ++n) ASSERT_TRUE(send(n, 4));
  ASSERT_TRUE(consumer_->try_peek());
  restart_consumer(Predecessor::dead);
  ASSERT_TRUE(send(8, 4));
  expect_next(0, 4);
  consumer_->tell_read();
  for (int leavers = 0; leavers < 2; ++leavers) restart_consumer(Predecessor::left);
  for (std::uint64_t n = 1; n < 9; ++n) {
    const auto record = consumer_->try_peek();
    ASSERT_TRUE(record);
    EXPECT_EQ(record->redelivered, n < 8) << n;
    consumer_->release(*record);
  }
  consumer_->tell_read();
  EXPECT_EQ(look_at(lane_.consumer_side().redelivered), 8u);
  restart_consumer(Predecessor::left);
  ASSERT_TRUE(send(9, 4));
  EXPECT_FALSE(consumer_->try_peek()->redelivered);
}

TEST_P(LaneTest, AConsumerThatDiesOnAnEmptyLaneLeavesNothingToRedeliver) {
  ASSERT_TRUE(send(1, 30));
  expect_next(1, 30);
  consumer_->tell_read();
  restart_consumer(Predecessor::dead);
  expect_empty();
  ASSERT_TRUE(send(2, 30));
  EXPECT_FALSE(consumer_->try_peek()->redelivered);
}

TEST_P(LaneTest, ConsumersMayDieInEveryLapWithoutLosingARecord) {
  std::set<std::uint64_t> seen;
  std::uint64_t next = 0;
  for (int round = 0; round < 300; ++round) {
    while (send(next, next % 90)) ++next;
    for (int i = 0; i < 11; ++i) {
      const auto record = consumer_->try_peek();
      if (!record) break;
      ASSERT_TRUE(has_pattern(record->payload, record->number - 1));
      seen.insert(record->number - 1);
      consumer_->release(*record);
    }
    if (round % 2 == 0) restart_consumer(Predecessor::dead);
    if (round % 3 == 0) restart_producer(Predecessor::dead);
  }
  while (const auto record = consumer_->try_peek()) {
    seen.insert(record->number - 1);
    consumer_->release(*record);
  }
  EXPECT_EQ(seen.size(), next);
  EXPECT_EQ(consumer_->messages(), next);
}

}  // namespace slipring::ring

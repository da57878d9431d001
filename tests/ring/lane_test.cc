// SPDX-License-Identifier: Apache-2.0
#include <deque>
#include <random>

#include "lane_fixture.h"

namespace slipring::ring {

TEST_P(LaneTest, CarriesEverySizeUpToAQuarterOfTheCapacity) {
  for (std::size_t size = 0; size <= kMaxPayload; ++size) {
    ASSERT_TRUE(send(size, size)) << size;
    expect_next(size, size);
    expect_empty();
  }
  EXPECT_GT(producer_->write_pos(), 100 * kCapacity);
  EXPECT_EQ(producer_->write_pos(), consumer_->read_pos());
  EXPECT_EQ(producer_->messages(), kMaxPayload + 1);
  EXPECT_EQ(producer_->bytes(), kMaxPayload * (kMaxPayload + 1) / 2);
}

TEST_P(LaneTest, CarriesBurstsOfEverySizeFilledToTheBrim) {
  for (std::size_t size = 0; size <= kMaxPayload; ++size) {
    const std::size_t sent = fill(size, size);
    ASSERT_GE(sent, 2u) << size;
    for (std::size_t i = 0; i < sent; ++i) expect_next(size + i, size);
    expect_empty();
    consumer_->tell_read();
  }
}

TEST_P(LaneTest, CarriesRandomSizesAtRandomBacklogs) {
  std::mt19937 random(20240229);
  std::deque<std::pair<std::uint64_t, std::size_t>> sent;
  std::uint64_t next = 0;
  while (producer_->write_pos() < 200 * kCapacity) {
    if (random() % 2 == 0) {
      const std::size_t limit = random() % 4 == 0 ? kMaxPayload : 64;
      const std::size_t size = random() % (limit + 1);
      if (send(next, size)) sent.emplace_back(next++, size);
    } else if (sent.empty()) {
      expect_empty();
    } else {
      expect_next(sent.front().first, sent.front().second);
      sent.pop_front();
    }
    if (HasFatalFailure()) return;
  }
}

// 64 bytes are left in the lap: they become one padding record, and the claim starts the next lap.
TEST_P(LaneTest, PadsTheRestOfTheLapWhenTheRecordWouldCrossItsEnd) {
  advance_to_offset(kCapacity - 64);
  const std::uint64_t at = producer_->write_pos();
  ASSERT_TRUE(send(7, 100));
  const auto padding = RecordHeader::decode(look_at(lane_.header(at)));
  EXPECT_EQ(padding.kind, RecordKind::padding);
  EXPECT_EQ(padding.size, 64u);
  const auto record = RecordHeader::decode(look_at(lane_.header(at + 64)));
  EXPECT_EQ(record.kind, RecordKind::data);
  EXPECT_EQ(record.size, 100u);
  EXPECT_EQ(producer_->write_pos(), end_of(at + 64, 100));
  expect_next(7, 100);
  EXPECT_EQ(consumer_->read_pos(), producer_->write_pos());
  EXPECT_EQ(consumer_->messages(), producer_->messages()) << "padding is no message";
}

TEST_P(LaneTest, FillsTheRestOfTheLapExactlyWithoutPadding) {
  advance_to_offset(kCapacity - 64);
  const std::uint64_t at = producer_->write_pos();
  ASSERT_TRUE(send(7, 56));
  EXPECT_EQ(RecordHeader::decode(look_at(lane_.header(at))).kind, RecordKind::data);
  EXPECT_EQ(producer_->write_pos(), at + 64);
  EXPECT_EQ(look_at(lane_.header(at + 64)), 0u) << "R3, at the start of the next lap";
  expect_next(7, 56);
  ASSERT_TRUE(send(8, 56));
  expect_next(8, 56);
}

// The last granule of a lap holds a header and no payload byte.
TEST_P(LaneTest, TakesAnEmptyMessageIntoTheLastGranuleOfALap) {
  const std::uint64_t granule = geometry().granule;
  for (int lap = 0; lap < 3; ++lap) {
    advance_to_offset(kCapacity - granule);
    ASSERT_TRUE(send(3, 0));
    expect_next(3, 0);
    EXPECT_EQ(producer_->write_pos() % kCapacity, 0u);
    ASSERT_TRUE(send(4, 1));
    expect_next(4, 1);
  }
}

TEST_P(LaneTest, AlignsPayloadsAndStartsLargeOnesOnALineOfTheirOwn) {
  const auto* data = lane_.for_producer().producer.data() + kLaneAreaBytes;
  for (std::size_t size = 0; size <= kMaxPayload; size += 13) {
    const auto claim = producer_->try_claim(size);
    ASSERT_TRUE(claim);
    const auto offset = static_cast<std::uint64_t>(claim->payload.data() - data);
    EXPECT_TRUE(is_aligned(offset, size >= kOwnLineBytes ? kCacheLine : kWordBytes)) << size;
    EXPECT_LE(offset + size, kCapacity) << "contiguous";
    fill_pattern(claim->payload, size);
    producer_->commit(size, static_cast<std::uint16_t>(size));
    expect_next(size, size);
  }
}

TEST_P(LaneTest, GivesASmallPayloadALineOfItsOwnOnRequest) {
  const auto* data = lane_.for_producer().producer.data() + kLaneAreaBytes;
  for (std::size_t size = 0; size < 200; ++size) {
    const auto claim = producer_->try_claim(size, true);
    ASSERT_TRUE(claim);
    EXPECT_TRUE(is_aligned(static_cast<std::uint64_t>(claim->payload.data() - data), kCacheLine));
    fill_pattern(claim->payload, size);
    producer_->commit(size, static_cast<std::uint16_t>(size));
    expect_next(size, size);
  }
  EXPECT_GT(producer_->write_pos(), 4 * kCapacity);
}

TEST_P(LaneTest, PublishesWhatWasUsedOfAClaimAndForgetsTheRest) {
  for (std::size_t used = 0; used <= kMaxPayload; used += 5) {
    const auto claim = producer_->try_claim(kMaxPayload);
    ASSERT_TRUE(claim);
    fill_pattern(claim->payload, used);  // beyond `used` it looks like headers, if believed
    producer_->commit(used, static_cast<std::uint16_t>(used));
    expect_next(used, used);
    expect_empty();
    ASSERT_TRUE(send(used + 1, 8));
    expect_next(used + 1, 8);
    expect_empty();
  }
}

TEST_P(LaneTest, PublishesNeverMoreThanWasClaimed) {
  const auto claim = producer_->try_claim(24);
  ASSERT_TRUE(claim);
  fill_pattern(claim->payload, 9);
  producer_->commit(1000, 9);
  expect_next(9, 24);
}

TEST_P(LaneTest, AnAbortedClaimLeavesNoTraceButACount) {
  for (std::uint64_t n = 0; n < 300; ++n) {
    const std::size_t size = n * 37 % (kMaxPayload + 1);
    const std::uint64_t before = producer_->write_pos();
    const auto claim = producer_->try_claim(size);
    ASSERT_TRUE(claim);
    fill_pattern(claim->payload, n);
    producer_->abort();
    EXPECT_EQ(producer_->write_pos(), before);
    expect_empty();
    ASSERT_TRUE(send(n, n % 50));
    expect_next(n, n % 50);
    expect_empty();
  }
  producer_->tell_write();
  EXPECT_EQ(look_at(lane_.producer_side().aborts), 300u);
  EXPECT_EQ(look_at(lane_.producer_side().messages), 300u);
}

TEST_P(LaneTest, CommitAndAbortWithoutAClaimDoNothing) {
  producer_->commit(8);
  producer_->abort();
  producer_->end_group();
  producer_->abort_group();
  EXPECT_EQ(producer_->write_pos(), 0u);
  EXPECT_EQ(producer_->messages(), 0u);
  expect_empty();
}

TEST_P(LaneTest, RefusesASecondClaimWhileOneIsOpen) {
  ASSERT_TRUE(producer_->try_claim(8));
  EXPECT_TRUE(producer_->has_open_claim());
  EXPECT_TRUE(fails_with(producer_->try_claim(8), Errc::in_use));
  producer_->abort();
  EXPECT_FALSE(producer_->has_open_claim());
  EXPECT_TRUE(producer_->try_claim(8));
}

TEST_P(LaneTest, RefusesWhatCanNeverFitBeforeAnythingElse) {
  EXPECT_EQ(producer_->max_payload(), kMaxPayload);
  EXPECT_TRUE(fails_with(producer_->try_claim(kMaxPayload + 1), Errc::too_large));
  EXPECT_TRUE(fails_with(producer_->try_claim(SIZE_MAX), Errc::too_large));
  fill(8);
  EXPECT_TRUE(fails_with(producer_->try_claim(kMaxPayload + 1), Errc::too_large));
}

TEST_P(LaneTest, SaysFullAndCountsItUntilTheConsumerTellsWhatItReleased) {
  const std::size_t sent = fill(56);
  EXPECT_TRUE(fails_with(producer_->try_claim(56), Errc::full));
  expect_next(0, 56);
  EXPECT_TRUE(fails_with(producer_->try_claim(56), Errc::full)) << "not told yet";
  consumer_->tell_read();
  EXPECT_TRUE(send(sent, 56));
  producer_->tell_write();
  EXPECT_EQ(look_at(lane_.producer_side().fulls), 3u);
  for (std::size_t n = 1; n <= sent; ++n) expect_next(n, 56);
  expect_empty();
}

// read_pos may lag by an eighth of the capacity; padding, record and next header need half of it.
TEST_P(LaneTest, AnEmptyLaneTakesTheLargestMessageAtEveryOffset) {
  const std::uint64_t granule = geometry().granule;
  for (int round = 0; round < 2000; ++round) {
    ASSERT_TRUE(send(1, granule - kWordBytes));
    expect_next(1, granule - kWordBytes);
    ASSERT_TRUE(producer_->try_claim(kMaxPayload)) << producer_->write_pos();
    producer_->abort();
    ASSERT_TRUE(producer_->try_claim(kMaxPayload, true)) << producer_->write_pos();
    producer_->abort();
  }
}

TEST_P(LaneTest, DeliversTypeAndKindAsCommitted) {
  std::uint16_t type = 0;
  for (const auto kind :
       {RecordKind::data, RecordKind::chunk, RecordKind::block, RecordKind::control}) {
    for (const int step : {1, 255, 32767}) {
      type = static_cast<std::uint16_t>(type + step);
      ASSERT_TRUE(producer_->try_claim(4));
      producer_->commit(4, type, kind);
      const auto record = consumer_->try_peek();
      ASSERT_TRUE(record);
      EXPECT_EQ(record->type, type);
      EXPECT_EQ(record->kind, kind);
      consumer_->release(*record);
    }
  }
}

TEST_P(LaneTest, TrySendCopiesTheMessage) {
  std::vector<std::byte> message(600);
  fill_pattern(message, 5);
  ASSERT_TRUE(producer_->try_send(message, 5));
  std::fill(message.begin(), message.end(), std::byte{0});
  expect_next(5, 600);
  EXPECT_TRUE(
      fails_with(producer_->try_send(std::vector<std::byte>(kMaxPayload + 1)), Errc::too_large));
}

TEST_P(LaneTest, ShowsTheSameRecordUntilItIsReleased) {
  ASSERT_TRUE(send(1, 30));
  ASSERT_TRUE(send(2, 30));
  const auto first = consumer_->try_peek();
  const auto again = consumer_->try_peek();
  ASSERT_TRUE(first && again);
  EXPECT_EQ(first->payload.data(), again->payload.data());
  EXPECT_EQ(first->number, 1u);
  EXPECT_EQ(again->number, 1u);
  consumer_->release(*first);
  EXPECT_EQ(consumer_->try_peek()->number, 2u);
}

TEST_P(LaneTest, PeeksManyAndReleasesThemTogether) {
  const std::size_t sent = fill(20);
  std::vector<Record> records(sent + 5);
  const auto found = consumer_->peek_many(records);
  ASSERT_TRUE(found);
  ASSERT_EQ(*found, sent);
  for (std::size_t i = 0; i < sent; ++i) {
    EXPECT_EQ(records[i].number, i + 1);
    EXPECT_TRUE(has_pattern(records[i].payload, i));
  }
  consumer_->release(records[2]);  // the first three
  EXPECT_EQ(consumer_->messages(), 3u);
  expect_next(3, 20);
  consumer_->release(records[sent - 1]);
  EXPECT_EQ(consumer_->messages(), sent);
  EXPECT_TRUE(fails_with(consumer_->peek_many(records), Errc::empty));
}

TEST_P(LaneTest, PeeksNoMoreThanThereIsRoomFor) {
  fill(20);
  std::vector<Record> three(3);
  ASSERT_EQ(*consumer_->peek_many(three), 3u);
  ASSERT_EQ(*consumer_->peek_many(three), 3u);
  EXPECT_EQ(three[0].number, 1u) << "nothing was released";
}

TEST_P(LaneTest, PeeksAcrossTheEndOfTheLap) {
  advance_to_offset(kCapacity - 128);
  const std::uint64_t before = consumer_->messages();
  ASSERT_TRUE(send(1, 8));
  ASSERT_TRUE(send(2, 200));  // padded
  ASSERT_TRUE(send(3, 8));
  std::vector<Record> records(4);
  ASSERT_EQ(*consumer_->peek_many(records), 3u);
  EXPECT_TRUE(has_pattern(records[1].payload, 2));
  EXPECT_TRUE(has_pattern(records[2].payload, 3));
  consumer_->release(records[2]);
  EXPECT_EQ(consumer_->messages(), before + 3);
  EXPECT_EQ(consumer_->read_pos(), producer_->write_pos());
}

TEST_P(LaneTest, ReleasingTwiceOrOutOfOrderChangesNothing) {
  for (std::uint64_t n = 0; n < 3; ++n) ASSERT_TRUE(send(n, 40));
  std::vector<Record> records(3);
  ASSERT_EQ(*consumer_->peek_many(records), 3u);
  consumer_->release(records[1]);
  const std::uint64_t read = consumer_->read_pos();
  consumer_->release(records[1]);
  consumer_->release(records[0]);
  EXPECT_EQ(consumer_->read_pos(), read);
  EXPECT_EQ(consumer_->messages(), 2u);
  Record never_peeked = records[2];
  never_peeked.end += kCapacity;
  EXPECT_FALSE(consumer_->release(never_peeked));
  EXPECT_EQ(consumer_->read_pos(), read);
  expect_next(2, 40);
}

TEST_P(LaneTest, TellsReadPosEveryEighthOfTheCapacityAndNeverBeyondTheTruth) {
  std::uint64_t told = 0;
  for (std::uint64_t n = 0; n < 2000; ++n) {
    ASSERT_TRUE(send(n, 40));
    const auto record = consumer_->try_peek();
    ASSERT_TRUE(record);
    const bool tells = consumer_->release(*record);
    const std::uint64_t now = look_at(lane_.consumer_side().read_pos);
    EXPECT_EQ(tells, now != told);
    EXPECT_LT(consumer_->read_pos() - now, kCapacity / 8);
    EXPECT_LE(now, consumer_->read_pos());
    if (tells) {
      EXPECT_GE(now - told, kCapacity / 8);
      EXPECT_EQ(look_at(lane_.consumer_side().messages), consumer_->messages());
    }
    told = now;
  }
  const bool behind = consumer_->read_pos() != told;
  EXPECT_EQ(consumer_->tell_read(), behind);
  EXPECT_EQ(look_at(lane_.consumer_side().read_pos), consumer_->read_pos());
  EXPECT_FALSE(consumer_->tell_read()) << "nothing new to tell";
}

TEST_P(LaneTest, TellsWritePosEverySixteenthOfTheCapacityAndNeverBeyondTheTruth) {
  const auto& side = lane_.producer_side();
  std::uint64_t told = 0;
  for (std::uint64_t n = 0; n < 2000; ++n) {
    ASSERT_TRUE(send(n, 40));
    const std::uint64_t now = look_at(side.write_pos);
    EXPECT_LE(now, producer_->write_pos());
    EXPECT_LT(producer_->write_pos() - now, kCapacity / 16);
    if (now != told) {
      EXPECT_GE(now - told, kCapacity / 16);
      EXPECT_EQ(look_at(side.messages), producer_->messages());
      EXPECT_EQ(look_at(side.bytes), producer_->bytes());
    }
    told = now;
    expect_next(n, 40);
  }
  producer_->tell_write();
  EXPECT_EQ(look_at(side.write_pos), producer_->write_pos());
}

TEST_P(LaneTest, TellsEveryReleaseWhenTunedForIt) {
  LaneTuning each = tuning();
  each.tell_read_shift = 63;
  consumer_ = *lane_.consumer(Predecessor::left, each);
  for (std::uint64_t n = 0; n < 10; ++n) {
    ASSERT_TRUE(send(n, 8));
    EXPECT_TRUE(consumer_->release(*consumer_->try_peek()));
    EXPECT_EQ(look_at(lane_.consumer_side().read_pos), consumer_->read_pos());
  }
}

TEST_P(LaneTest, HasRoomExactlyWhenAClaimSucceeds) {
  for (int round = 0; round < 40; ++round) {
    for (std::size_t size = 0; size <= kMaxPayload; size += 61) {
      for (const bool own_line : {false, true}) {
        const bool room = producer_->has_room(size, own_line);
        const auto claim = producer_->try_claim(size, own_line);
        EXPECT_EQ(room, claim.has_value()) << size;
        producer_->abort();
      }
    }
    if (send(1, 97)) continue;
    const auto record = consumer_->try_peek();
    ASSERT_TRUE(record);
    consumer_->release(*record);
    consumer_->tell_read();
  }
}

// Otherwise a blocking send of a message that is too large would wait for ever.
TEST_P(LaneTest, HasRoomWhenTheClaimFailsForAnotherReason) {
  fill(100);
  EXPECT_FALSE(producer_->has_room(100));
  for (const std::size_t size : {kMaxPayload + 1, std::size_t{kCapacity}, SIZE_MAX}) {
    EXPECT_TRUE(producer_->has_room(size)) << size;
  }
}

TEST_P(LaneTest, AConsumerThatReachesWantPosAlwaysMakesRoom) {
  for (int round = 0; round < 300; ++round) {
    const std::size_t size = static_cast<std::size_t>(round) * 37 % (kMaxPayload + 1);
    fill(static_cast<std::size_t>(round) % 90);
    if (producer_->has_room(size)) {
      ASSERT_TRUE(send(1, size));
      continue;
    }
    const std::uint64_t want = producer_->want_pos(size);
    EXPECT_LE(want, producer_->write_pos());
    EXPECT_GT(want, producer_->read_pos_seen());
    while (consumer_->read_pos() < want) consumer_->release(*consumer_->try_peek());
    consumer_->tell_read();
    EXPECT_TRUE(producer_->has_room(size)) << size << " at " << producer_->write_pos();
    if (round % 3 == 0) {
      while (const auto record = consumer_->try_peek()) consumer_->release(*record);
      consumer_->tell_read();
    }
  }
}

TEST_P(LaneTest, WakesAParkedProducerToABurstAndNotToOneRecord) {
  fill(8);
  const std::uint64_t want = producer_->want_pos(8);
  EXPECT_GE(want - producer_->read_pos_seen(), kCapacity / 4);
}

TEST_P(LaneTest, GuessesTheBacklogLowAndNeverAbsurd) {
  EXPECT_EQ(consumer_->approx_backlog(), 0u);
  fill(100);
  EXPECT_LE(consumer_->approx_backlog(), producer_->write_pos());
  producer_->tell_write();
  EXPECT_EQ(consumer_->approx_backlog(), producer_->write_pos());
  while (const auto record = consumer_->try_peek()) consumer_->release(*record);
  EXPECT_EQ(consumer_->approx_backlog(), 0u);
  poke(lane_.producer_side().write_pos, ~std::uint64_t{7});
  EXPECT_EQ(consumer_->approx_backlog(), 0u);
}

TEST_P(LaneTest, ShowsTheConsumerWhereTheProducerWantsToBeRung) {
  poke(lane_.producer_side().want_pos, 0x4711);
  EXPECT_EQ(consumer_->wanted_pos(), 0x4711u);
}

}  // namespace slipring::ring

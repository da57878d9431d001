// SPDX-License-Identifier: Apache-2.0
#include <random>

#include "total_fixture.h"

namespace slipring::ring {
namespace {

TEST(TotalLayout, PutsADescriptorInOneWordAndTakesItApart) {
  const Descriptor desc{kLapMask, 1023, 0xffff, RecordState::dead};
  EXPECT_EQ(desc.encode(), ~std::uint64_t{0});
  const Descriptor other{5, 3, 7, RecordState::claimed};
  EXPECT_EQ(other.encode(), 5ull << 28 | 3ull << 18 | 7ull << 2 | 1);
  EXPECT_EQ(Descriptor::decode(other.encode()), other);
  EXPECT_EQ(Descriptor::decode(0), Descriptor{});
}

TEST(TotalLayout, TellsOldFromNewAcrossTheWrapOfLaps) {
  EXPECT_EQ(lap_ahead(5, 5), 0);
  EXPECT_EQ(lap_ahead(6, 5), 1);
  EXPECT_EQ(lap_ahead(5, 6), -1);
  EXPECT_EQ(lap_ahead(0, kLapMask), 1);
  EXPECT_EQ(lap_ahead(kLapMask, 0), -1);
  EXPECT_EQ(lap_ahead(kRenewAge, kLapMask), kRenewAge + 1);
}

TEST(TotalGeometry, RefusesWhatNoRingCanHave) {
  const auto with = [](std::uint64_t capacity, std::uint32_t owners, std::uint32_t type_size) {
    TotalGeometry g = TestTotal::small(owners, capacity);
    g.type_size = type_size;
    return check_total_geometry(g);
  };
  EXPECT_THAT(with(4096, 1, 0), Succeeds());
  EXPECT_THAT(with(kMaxCapacity, kMaxOwners, 0), Succeeds());
  EXPECT_THAT(with(2048, 1, 0), FailsWith(Errc::invalid_argument));
  EXPECT_THAT(with(4096 + 64, 1, 0), FailsWith(Errc::invalid_argument));
  EXPECT_THAT(with(kMaxCapacity * 2, 1, 0), FailsWith(Errc::invalid_argument));
  EXPECT_THAT(with(4096, 0, 0), FailsWith(Errc::invalid_argument));
  EXPECT_THAT(with(4096, kMaxOwners + 1, 0), FailsWith(Errc::invalid_argument));
  EXPECT_THAT(with(4096, 1, 960), Succeeds());
  EXPECT_THAT(with(4096, 1, 961), FailsWith(Errc::too_large));
}

TEST(TotalGeometry, IsReadBackAsItWasWritten) {
  TotalGeometry g = TestTotal::small(17, 64 << 10);
  g.bell = 3;
  g.type_fingerprint = 0xabc;
  g.type_size = 24;
  g.type_align = 8;
  const TestTotal ring(g);
  const auto loaded = load_total_geometry<Native>(ring.area());
  ASSERT_THAT(loaded, Succeeds());
  EXPECT_EQ(*loaded, g);
  EXPECT_EQ(g.data_offset(), 4096u + 8192u + 8192u);
  EXPECT_EQ(g.max_payload(), 16384u - 64u);
}

// The largest record has all 16 bits of granules.
TEST(TotalGeometry, LimitsRecordsToWhatADescriptorCanSay) {
  TotalGeometry g;
  g.capacity = 32 << 20;
  EXPECT_EQ(g.max_record(), (4u << 20) - 64);
  const TestTotal ring(g);
  auto producer = *ring.producer();
  auto consumer = *ring.consumer();
  for (std::uint64_t n = 0; n < 10; ++n) {
    ASSERT_THAT(send(producer, n, g.max_payload()), Succeeds());
    expect_next(consumer, n, g.max_payload());
  }
  EXPECT_THAT(producer.try_claim(g.max_payload() + 1), FailsWith(Errc::too_large));
}

TEST_F(TotalTest, DeliversEverySizeInEveryPlaceOfTheLap) {
  for (std::size_t size = 0; size <= kMaxPayload; ++size) {
    ASSERT_THAT(send(producer(size % 4), size, size), Succeeds());
    expect_next(consumer(), size, size);
    if (HasFailure()) return;
    if (size % 7 == 0) consumer().tell_read();
  }
  EXPECT_GT(consumer().read_pos(), 50 * kCapacity);
  expect_empty();
}

TEST_F(TotalTest, DeliversInTheOrderOfClaimsWhoeverCommitsFirst) {
  std::mt19937 random(11);
  std::vector<std::size_t> order{0, 1, 2, 3};
  std::uint64_t n = 0;
  for (int round = 0; round < 2000; ++round) {
    std::shuffle(order.begin(), order.end(), random);
    const std::size_t count = 1 + random() % 4;
    std::vector<std::span<std::byte>> payloads(4);
    std::vector<std::uint64_t> number(4);
    for (std::size_t i = 0; i < count; ++i) {
      const auto claim = producer(order[i]).try_claim(random() % 200);
      ASSERT_THAT(claim, Succeeds());
      payloads[order[i]] = claim->payload;
      number[order[i]] = n + i;
    }
    std::vector<std::size_t> commits(order.begin(), order.begin() + static_cast<long>(count));
    std::shuffle(commits.begin(), commits.end(), random);
    for (const std::size_t p : commits) {
      fill_pattern(payloads[p], number[p]);
      producer(p).commit(payloads[p].size(), static_cast<std::uint16_t>(number[p]));
    }
    for (std::size_t i = 0; i < count; ++i) {
      expect_next(consumer(), n + i, payloads[order[i]].size());
    }
    n += count;
    if (HasFailure()) return;
  }
  EXPECT_EQ(consumer().messages(), n);
  std::uint64_t told = 0;
  for (std::uint32_t i = 0; i < 4; ++i) told += Native::load_relaxed(ring_.owner(i).messages);
  EXPECT_EQ(told, n);
}

TEST_F(TotalTest, HoldsBackWhatIsBehindAnOpenClaimAndSaysWhoseItIs) {
  ASSERT_THAT(send(producer(0), 1, 8), Succeeds());
  ASSERT_THAT(producer(1).try_claim(100), Succeeds());
  ASSERT_THAT(send(producer(2), 3, 8), Succeeds());
  EXPECT_FALSE(consumer().blocked_by());
  expect_next(consumer(), 1, 8);
  EXPECT_FALSE(consumer().blocked_by()) << "only an empty peek is blocked";
  EXPECT_FALSE(consumer().has_record());
  expect_empty();
  const std::int64_t now = monotonic_ns();
  const auto blocked = consumer().blocked_by();
  ASSERT_TRUE(blocked);
  EXPECT_EQ(blocked->owner, 1u);
  EXPECT_EQ(blocked->position, 64u);
  EXPECT_GE(blocked->since_ns, now);
  expect_empty();
  EXPECT_EQ(consumer().blocked_by()->since_ns, blocked->since_ns) << "of the same claim";
  producer(1).commit(0, 2);
  EXPECT_TRUE(consumer().has_record());
  expect_next(consumer(), 2, 0);
  expect_next(consumer(), 3, 8);
  expect_empty();
  EXPECT_FALSE(consumer().blocked_by()) << "nobody claimed more";
}

TEST_F(TotalTest, SkipsAnAbortedRecord) {
  const auto claim = producer(0).try_claim(300);
  ASSERT_THAT(claim, Succeeds());
  fill_pattern(claim->payload, 9);
  ASSERT_THAT(send(producer(1), 2, 40), Succeeds());
  producer(0).abort();
  expect_next(consumer(), 2, 40);
  expect_empty();
  EXPECT_EQ(Native::load_relaxed(ring_.owner(0).aborts), 1u);
  EXPECT_EQ(Native::load_relaxed(ring_.owner(0).messages), 0u);
}

// Else a ring full of aborted claims would be full for ever.
TEST_F(TotalTest, GivesBackTheRoomOfAbortedRecordsThoughNothingIsDelivered) {
  for (int lap = 0; lap < 5; ++lap) {
    int aborted = 0;
    while (producer().try_claim(200)) {
      producer().abort();
      ++aborted;
    }
    EXPECT_GE(aborted, 12);
    EXPECT_TRUE(consumer().has_record()) << "there is something to skip: do not park";
    expect_empty();
    EXPECT_FALSE(consumer().has_record());
    EXPECT_TRUE(consumer().tell_read());
    EXPECT_TRUE(producer(1).has_room(kMaxPayload));
  }
}

TEST_F(TotalTest, DeliversTheExactLengthOfACommitShorterThanItsClaim) {
  for (std::size_t used = 0; used < 700; used += 13) {
    const auto claim = producer(used % 4).try_claim(700);
    ASSERT_THAT(claim, Succeeds());
    fill_pattern(claim->payload.first(used), used);
    producer(used % 4).commit(used, static_cast<std::uint16_t>(used));
    expect_next(consumer(), used, used);
    if (HasFailure()) return;
  }
}

TEST_F(TotalTest, CountsACommitOfMoreThanWasClaimedAsAll) {
  ASSERT_THAT(producer().try_claim(10), Succeeds());
  producer().commit(11);
  EXPECT_EQ(consumer().try_peek()->payload.size(), 10u);
}

TEST_F(TotalTest, AlignsLargePayloadsAndThoseThatAskForIt) {
  for (const auto& [size, own_line] : {std::pair<std::size_t, bool>{8, true}, {512, false}}) {
    const auto claim = producer().try_claim(size, own_line);
    ASSERT_THAT(claim, Succeeds());
    EXPECT_TRUE(is_aligned(reinterpret_cast<std::uintptr_t>(claim->payload.data()), 64));
    fill_pattern(claim->payload, size);
    producer().commit(size, static_cast<std::uint16_t>(size));
    expect_next(consumer(), size, size);
  }
}

// Offset 3840: four granules are left. Five become a padding record and a record of the next lap.
TEST_F(TotalTest, PadsTheRestOfTheLapWhenTheRecordWouldCrossItsEnd) {
  advance_to_offset(kCapacity - 256);
  const std::uint64_t at = consumer().read_pos();
  ASSERT_THAT(send(producer(1), 7, 300), Succeeds());
  EXPECT_EQ(ring_.look_at(at), (Descriptor{ring_.view().lap(at), 2, 4, RecordState::dead}));
  EXPECT_EQ(producer(1).claim_pos(), at + 256);
  ASSERT_THAT(send(producer(2), 8, 8), Succeeds());
  expect_next(consumer(), 7, 300);
  expect_next(consumer(), 8, 8);
}

TEST_F(TotalTest, FillsTheLapToItsLastGranuleWithoutPadding) {
  advance_to_offset(kCapacity - 256);
  ASSERT_THAT(send(producer(1), 7, 4 * 64 - 8), Succeeds());
  EXPECT_EQ(producer(1).claim_pos() % kCapacity, kCapacity - 256);
  ASSERT_THAT(send(producer(2), 8, 8), Succeeds());
  EXPECT_EQ(producer(2).claim_pos() % kCapacity, 0u);
  expect_next(consumer(), 7, 248);
  expect_next(consumer(), 8, 8);
}

TEST_F(TotalTest, IsFullWhenTheLastGranuleIsTakenAndTakesOneMoreForEachReleased) {
  for (std::uint64_t n = 0; n < 64; ++n) {
    ASSERT_THAT(send(producer(n % 4), n, kLine), Succeeds()) << n;
  }
  for (std::size_t p = 0; p < 4; ++p) {
    EXPECT_THAT(producer(p).try_claim(0), FailsWith(Errc::full));
    EXPECT_FALSE(producer(p).has_room(0));
    EXPECT_EQ(Native::load_relaxed(ring_.owner(static_cast<std::uint32_t>(p)).fulls), 1u);
  }
  expect_next(consumer(), 0, kLine);
  consumer().tell_read();
  EXPECT_TRUE(producer(3).has_room(kLine));
  EXPECT_FALSE(producer(3).has_room(kLine + 1));
  ASSERT_THAT(send(producer(3), 64, kLine), Succeeds());
  EXPECT_THAT(producer(2).try_claim(0), FailsWith(Errc::full));
  for (std::uint64_t n = 1; n <= 64; ++n) expect_next(consumer(), n, kLine);
  expect_empty();
}

// Two granules are left in lap and ring: room for the padding that three granules would need, but
// not for themselves. Others may need it.
TEST_F(TotalTest, TakesNoRoomForPaddingWhenTheRecordBehindItFindsNone) {
  advance_to_offset(0);
  for (std::uint64_t n = 0; n < 62; ++n) ASSERT_THAT(send(producer(), n, kLine), Succeeds());
  auto before = ring_.snapshot();
  EXPECT_FALSE(producer(1).has_room(3 * 64 - 8));
  EXPECT_EQ(ring_.snapshot(), before);
  EXPECT_THAT(producer(1).try_claim(3 * 64 - 8), FailsWith(Errc::full));
  Native::store_relaxed(ring_.owner(1).fulls, 0);  // the one word that may differ
  EXPECT_EQ(ring_.snapshot(), before);
  ASSERT_THAT(send(producer(2), 62, 2 * 64 - 8), Succeeds());
  for (std::uint64_t n = 0; n < 62; ++n) expect_next(consumer(), n, kLine);
  expect_next(consumer(), 62, 120);
}

TEST_F(TotalTest, TakesTheLargestRecordWheneverItIsEmptyAlthoughReadPosLags) {
  for (std::uint64_t n = 0; n < 500; ++n) {
    const std::size_t size = n % 3 == 0 ? kMaxPayload : n * 37 % 600;
    ASSERT_THAT(send(producer(n % 4), n, size), Succeeds()) << n;
    expect_next(consumer(), n, size);
  }
}

TEST_F(TotalTest, RefusesASecondClaimOfOneProducerAndOneThatIsTooLarge) {
  EXPECT_THAT(producer().try_claim(kMaxPayload + 1), FailsWith(Errc::too_large));
  EXPECT_TRUE(producer().has_room(kMaxPayload + 1)) << "not a matter of room";
  ASSERT_THAT(producer().try_claim(1), Succeeds());
  EXPECT_TRUE(producer().has_open_claim());
  EXPECT_THAT(producer().try_claim(1), FailsWith(Errc::in_use));
  producer().commit(1);
  producer().commit(1);  // nothing is open: nothing happens
  producer().abort();
  EXPECT_EQ(producer().messages(), 1u);
}

TEST_F(TotalTest, PeeksManyAcrossDeadRecordsAndReleasesThemTogether) {
  for (std::uint64_t n = 0; n < 12; ++n) {
    if (n % 3 == 2) {
      ASSERT_THAT(producer(1).try_claim(70), Succeeds());
      producer(1).abort();
    } else {
      ASSERT_THAT(send(producer(0), n, 8 * n), Succeeds());
    }
  }
  ASSERT_THAT(producer(2).try_claim(8), Succeeds());
  std::vector<Record> records(20);
  EXPECT_EQ(*consumer().peek_many({}), 0u);
  auto found = consumer().peek_many({records.data(), 3});
  ASSERT_THAT(found, Succeeds());
  EXPECT_EQ(*found, 3u);
  found = consumer().peek_many(records);  // the same again, and more
  ASSERT_THAT(found, Succeeds());
  ASSERT_EQ(*found, 8u);
  EXPECT_FALSE(consumer().blocked_by());
  const std::uint64_t sent[] = {0, 1, 3, 4, 6, 7, 9, 10};
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(records[i].type, sent[i]);
    EXPECT_TRUE(has_pattern(records[i].payload, sent[i]));
    EXPECT_EQ(records[i].number, i + 1);
  }
  consumer().release(records[5]);
  EXPECT_EQ(consumer().try_peek()->type, 9);
  consumer().release(records[7]);
  EXPECT_FALSE(consumer().release(records[2])) << "older: released before";
  EXPECT_THAT(consumer().peek_many(records), FailsWith(Errc::empty));
  EXPECT_EQ(consumer().blocked_by()->owner, 2u);
  EXPECT_EQ(consumer().messages(), 8u);
}

TEST_F(TotalTest, TellsReadPosEveryEighthAndWhenAsked) {
  const auto told = [&] { return Native::load_relaxed(ring_.control().read_pos); };
  for (std::uint64_t n = 0; n < 8; ++n) ASSERT_THAT(send(producer(), n, kLine), Succeeds());
  for (std::uint64_t n = 0; n < 7; ++n) {
    EXPECT_FALSE(consumer().release(*consumer().try_peek()));
    EXPECT_EQ(told(), 0u);
  }
  EXPECT_TRUE(consumer().release(*consumer().try_peek()));
  EXPECT_EQ(told(), kCapacity / 8);
  EXPECT_FALSE(consumer().tell_read());
  ASSERT_THAT(send(producer(), 8, kLine), Succeeds());
  expect_next(consumer(), 8, kLine);
  EXPECT_TRUE(consumer().tell_read());
  EXPECT_EQ(told(), kCapacity / 8 + 64);
  EXPECT_EQ(Native::load_relaxed(ring_.control().messages), 9u);
}

TEST_F(TotalTest, PassesTheWishForRoomFromProducersToTheConsumer) {
  EXPECT_FALSE(consumer().space_wanted_seen());
  producer(0).set_space_wanted();
  producer(1).set_space_wanted();
  EXPECT_TRUE(consumer().space_wanted_seen());
  EXPECT_EQ(Native::load_relaxed(ring_.control().space_seq), 1u);
  EXPECT_FALSE(consumer().space_wanted_seen()) << "cleared";
  EXPECT_EQ(Native::load_relaxed(ring_.control().space_seq), 1u);
}

TEST_F(TotalTest, FlagsWhatADeadConsumerMayHaveSeenAndNothingElse) {
  for (std::uint64_t n = 0; n < 4; ++n) ASSERT_THAT(send(producer(), n, 8), Succeeds());
  ASSERT_THAT(producer(1).try_claim(8), Succeeds());
  ASSERT_THAT(send(producer(2), 5, 8), Succeeds());
  expect_next(consumer(), 0, 8);
  consumer().tell_read();
  expect_next(consumer(), 1, 8);  // and dies without telling
  restart_consumer(Predecessor::dead);
  producer(1).commit(8, 4);
  for (std::uint64_t n = 1; n < 6; ++n) {
    const auto record = consumer().try_peek();
    ASSERT_THAT(record, Succeeds());
    EXPECT_EQ(record->type, n);
    EXPECT_EQ(record->number, n + 1);
    EXPECT_EQ(record->redelivered, n < 4) << n << ": behind the open claim nobody saw anything";
    consumer().release(*record);
  }
  consumer().tell_read();
  EXPECT_EQ(Native::load_relaxed(ring_.control().redelivered), 3u);
  restart_consumer(Predecessor::left);
  EXPECT_EQ(consumer().messages(), 6u);
  expect_empty();
}

// The hint is a guess that its descriptor has to prove. No value of it may do harm.
// R8. The one in between took over from the dead and left without reading.
TEST_F(TotalTest, AConsumerThatLeavesBehindADeadOnePassesItsFlagsOn) {
  for (std::uint64_t n = 0; n < 8; ++n) ASSERT_THAT(send(producer(n % 4), n, kLine), Succeeds());
  ASSERT_THAT(consumer().try_peek(), Succeeds());
  restart_consumer(Predecessor::dead);
  ASSERT_THAT(send(producer(), 8, kLine), Succeeds());
  expect_next(consumer(), 0, kLine);
  consumer().tell_read();
  for (int leavers = 0; leavers < 2; ++leavers) restart_consumer(Predecessor::left);
  for (std::uint64_t n = 1; n < 9; ++n) {
    const auto record = consumer().try_peek();
    ASSERT_THAT(record, Succeeds());
    EXPECT_EQ(record->redelivered, n < 8) << n;
    consumer().release(*record);
  }
  consumer().tell_read();
  EXPECT_EQ(Native::load_relaxed(ring_.control().redelivered), 8u);
  restart_consumer(Predecessor::left);
  ASSERT_THAT(send(producer(), 9, kLine), Succeeds());
  EXPECT_FALSE(consumer().try_peek()->redelivered);
}

TEST_F(TotalTest, ClaimsAtTheFrontierWhateverTheHintSays) {
  std::mt19937_64 random(5);
  std::uint64_t frontier = 0;
  for (std::uint64_t n = 0; n < 20000 && !HasFailure(); ++n) {
    std::uint64_t hint = 0;
    switch (random() % 6) {
      case 0: hint = 0; break;
      case 1: hint = random(); break;
      case 2: hint = frontier + 64 * (random() % 80); break;
      case 3: hint = frontier - 64 * (random() % 200); break;
      case 4: hint = frontier + (random() % 2 == 0 ? 1 : kCapacity << kLapBits); break;
      default: hint = Native::load_relaxed(ring_.control().claim_hint);
    }
    Native::store_relaxed(ring_.control().claim_hint, hint);
    auto& who = producer(random() % 4);
    const std::size_t size = random() % 300;
    ASSERT_THAT(send(who, n, size), Succeeds());
    ASSERT_GE(who.claim_pos(), frontier);
    ASSERT_LT(who.claim_pos() - frontier, kCapacity / 4) << "more than padding";
    frontier = align_up(who.claim_pos() + 8 + size, 64);
    expect_next(consumer(), n, size);
    EXPECT_EQ(consumer().read_pos(), frontier);
  }
}

TEST_F(TotalTest, RenewsTheHintSoThatAnIdleProducerHopsLittle) {
  for (std::uint64_t n = 0; n < 1000; ++n) {
    ASSERT_THAT(send(producer(0), n, 100), Succeeds());
    const std::uint64_t hint = Native::load_relaxed(ring_.control().claim_hint);
    ASSERT_LE(producer(0).claim_pos() - hint, kCapacity / 16 + 128);
    expect_next(consumer(), n, 100);
  }
  ASSERT_THAT(send(producer(3), 1000, 8), Succeeds()) << "its own position is many laps old";
  expect_next(consumer(), 1000, 8);
}

// Producers that sleep for many laps find their old descriptors in every state of decay.
TEST_F(TotalTest, FindsTheFrontierAfterAnySleep) {
  std::mt19937 random(3);
  std::uint64_t n = 0;
  for (int round = 0; round < 300 && !HasFailure(); ++round) {
    Native::store_relaxed(ring_.control().claim_hint, 0);  // no help
    for (std::uint64_t i = random() % 200; i > 0; --i, ++n) {
      const std::size_t size = random() % (random() % 4 == 0 ? 900 : 120);
      ASSERT_THAT(send(producer(0), n, size), Succeeds());
      expect_next(consumer(), n, size);
    }
    const std::size_t sleeper = 1 + random() % 3;
    ASSERT_THAT(send(producer(sleeper), n, 30), Succeeds());
    expect_next(consumer(), n++, 30);
  }
}

// Laps are counted modulo 2^36. The ring starts a few laps before the wrap.
TEST(TotalLaps, GoOnAcrossTheWrapOfTheirNumber) {
  const TestTotal ring;
  ring.start_at(((std::uint64_t{1} << kLapBits) - 3) * kMinCapacity);
  std::vector<TotalProducer<>> producers;
  for (int i = 0; i < 4; ++i) producers.push_back(*ring.producer());
  auto consumer = *ring.consumer();
  for (std::uint64_t n = 0; n < 400; ++n) {
    auto& who = producers[n < 300 ? n % 3 : n % 4];  // the fourth sleeps across the wrap
    ASSERT_THAT(send(who, n, n * 13 % 200), Succeeds()) << n;
    expect_next(consumer, n, n * 13 % 200);
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(consumer.read_pos() >> 12, std::uint64_t{1} << kLapBits);
  EXPECT_LT(ring.view().lap(consumer.read_pos()), 20u);
}

// Inner granules of large records are not written for many laps. One per lap is renewed when it
// is older than 2^16 laps; all of them within as many laps as there are granules.
TEST(TotalLaps, RenewsDescriptorsThatNobodyWroteForLong) {
  const TestTotal ring;
  const std::uint64_t start = (std::uint64_t{1} << 20) * kMinCapacity;
  ring.start_at(start);
  const std::uint64_t now = ring.view().lap(start);
  for (std::uint64_t i = 1; i < 64; i += 2) {
    const std::uint64_t age = i % 4 == 1 ? kRenewAge / 2 : kRenewAge + 2;
    ring.poke(start + i * 64, {now - age, 1, 1, RecordState::committed});
  }
  auto producer = *ring.producer();
  auto consumer = *ring.consumer();
  for (std::uint64_t n = 0; n < 66 * 32; ++n) {  // 66 laps of records of two granules
    ASSERT_THAT(send(producer, n, 100), Succeeds());
    expect_next(consumer, n, 100);
  }
  const std::uint64_t end = ring.view().lap(consumer.read_pos());
  for (std::uint64_t i = 1; i < 64; i += 2) {
    const Descriptor desc = ring.look_at(i * 64);
    if (i % 4 == 1) {
      EXPECT_EQ(desc.lap, now - kRenewAge / 2) << "young enough to be left alone";
    } else {
      EXPECT_EQ(desc.state, RecordState::none);
      EXPECT_LE(end - desc.lap, 70u) << i;
    }
  }
}

// Granule 20 is looked at in lap 20 (mod 64), and is a boundary later in that lap.
TEST(TotalLaps, AClaimAtARenewedDescriptorFindsTheFrontierWhereItWas) {
  const TestTotal ring;
  const std::uint64_t start = ((std::uint64_t{1} << 20) + 18) * kMinCapacity;
  ring.start_at(start);
  ASSERT_EQ(ring.view().lap(start) % 64, 19u);
  auto producer = *ring.producer();
  auto consumer = *ring.consumer();
  const std::uint64_t at = start + kMinCapacity + 20 * 64;
  const std::uint64_t lap = ring.view().lap(at);
  for (std::uint64_t n = 0; n < 3 * 64; ++n) {
    if (n == 30) ring.poke(at, {lap - kRenewAge - 2, 1, 1, RecordState::committed});
    if (n == 64 + 19) {
      EXPECT_EQ(ring.look_at(at), (Descriptor{lap - 1, 0, 0, RecordState::none}));
    }
    ASSERT_THAT(send(producer, n, 56), Succeeds()) << n;
    expect_next(consumer, n, 56);
    EXPECT_EQ(consumer.read_pos(), start + (n + 1) * 64);
  }
}

}  // namespace
}  // namespace slipring::ring

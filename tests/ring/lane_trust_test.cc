// SPDX-License-Identifier: Apache-2.0
#include <functional>

#include "lane_fixture.h"

// What a broken or lying peer, or a stranger's bytes, become: a typed error, and it stays.
namespace slipring::ring {

TEST_P(LaneTest, ReportsCorruptWhenTheConsumerMovesReadPosPastTheFrontier) {
  fill(100);
  poke(lane_.consumer_side().read_pos, producer_->write_pos() + geometry().granule);
  EXPECT_TRUE(fails_with(producer_->try_claim(100), Errc::corrupt));
  poke(lane_.consumer_side().read_pos, 0);
  EXPECT_TRUE(fails_with(producer_->try_claim(100), Errc::corrupt)) << "sticky";
  EXPECT_TRUE(fails_with(producer_->try_claim(0), Errc::corrupt)) << "also where it would fit";
  EXPECT_TRUE(producer_->has_room(100)) << "nobody waits for room that never comes";
}

TEST_P(LaneTest, ReportsCorruptWhenTheConsumerMovesReadPosBack) {
  for (int i = 0; i < 3; ++i) {
    fill(100);
    while (const auto record = consumer_->try_peek()) consumer_->release(*record);
    consumer_->tell_read();
  }
  fill(100);
  ASSERT_GT(producer_->read_pos_seen(), 64u);
  poke(lane_.consumer_side().read_pos, producer_->read_pos_seen() - 64);
  EXPECT_TRUE(fails_with(producer_->try_claim(100), Errc::corrupt));
  EXPECT_TRUE(fails_with(producer_->try_claim(0), Errc::corrupt));
}

TEST_P(LaneTest, ReportsCorruptWhenTheConsumerClaimsToHaveReadAnOpenGroup) {
  ASSERT_TRUE(producer_->begin_group());
  while (send(1, 100)) {
  }
  producer_->end_group();
  const std::uint64_t first = producer_->write_pos();
  ASSERT_TRUE(producer_->begin_group());
  std::uint64_t n = 0;
  while (send(n, 100)) ++n;
  poke(lane_.consumer_side().read_pos, first + 64);
  EXPECT_TRUE(fails_with(producer_->try_claim(100), Errc::corrupt));
  producer_->abort_group();
  EXPECT_TRUE(fails_with(producer_->try_claim(0), Errc::corrupt)) << "sticky beyond the group";
}

// has_room() looks at read_pos while the claim is open; the commit comes later.
TEST_P(LaneTest, AnOpenClaimMayBeCommittedAfterTheConsumerLied) {
  fill(56);
  for (int i = 0; i < 10; ++i) consumer_->release(*consumer_->try_peek());
  consumer_->tell_read();
  restart_producer(Predecessor::dead);
  const auto claim = producer_->try_claim(200);
  ASSERT_TRUE(claim);
  fill_pattern(claim->payload, 1);
  poke(lane_.consumer_side().read_pos, producer_->write_pos() + 4096);
  for (std::size_t size = 0; size <= kMaxPayload; size += 8) {
    if (!producer_->has_room(size)) break;
  }
  (void)producer_->has_room(kMaxPayload);
  producer_->commit(200, 1);
  producer_->tell_write();
  while (const auto record = consumer_->try_peek()) {
    EXPECT_LE(record->payload.size(), 200u);
    consumer_->release(*record);
  }
  EXPECT_EQ(consumer_->read_pos(), producer_->write_pos());
}

struct BadHeader {
  const char* what;
  RecordHeader header;
};

TEST_P(LaneTest, RefusesEveryHeaderThatNoProducerStores) {
  const auto granule = static_cast<std::uint32_t>(geometry().granule);
  constexpr std::uint32_t kLeft = 512;
  const std::vector<BadHeader> bad = {
      {"no kind", {8, 0, RecordKind::none, 0}},
      {"a type alone", {0, 1, RecordKind::none, 0}},
      {"unknown kind", {8, 0, RecordKind{6}, 0}},
      {"unknown kind", {8, 0, RecordKind{255}, 0}},
      {"unknown flag", {8, 0, RecordKind::data, 2}},
      {"unknown flag", {8, 0, RecordKind::control, 0x81}},
      {"too large", {kMaxPayload + 1, 0, RecordKind::data, 0}},
      {"too large", {0xffffffff, 0, RecordKind::data, 0}},
      {"across the lap", {kLeft, 0, RecordKind::data, 0}},
      {"across the lap", {kLeft - 8 + 1, 0, RecordKind::chunk, 0}},
      {"across the lap on its own line", {kLeft - 63, 0, RecordKind::block, 1}},
      {"padding short of the lap's end", {kLeft - granule, 0, RecordKind::padding, 0}},
      {"padding beyond the lap's end", {kLeft + granule, 0, RecordKind::padding, 0}},
      {"padding of nothing", {0, 0, RecordKind::padding, 0}},
      {"padding with a flag", {kLeft, 0, RecordKind::padding, 1}},
  };
  for (const auto& [what, header] : bad) {
    SCOPED_TRACE(what);
    TestLane lane(GetParam().placing, geometry());
    const std::uint64_t at = kCapacity - kLeft;
    poke(lane.producer_side().write_pos, at);
    poke(lane.consumer_side().read_pos, at);
    auto consumer = lane.consumer(Predecessor::left);
    ASSERT_TRUE(consumer);
    poke(lane.header(at), header.encode());
    EXPECT_TRUE(fails_with(consumer->try_peek(), Errc::corrupt));
    EXPECT_TRUE(consumer->has_record()) << "nobody parks on it";
    poke(lane.header(at), RecordHeader{8, 0, RecordKind::data, 0}.encode());
    EXPECT_TRUE(fails_with(consumer->try_peek(), Errc::corrupt)) << "sticky";
    std::vector<Record> records(2);
    EXPECT_TRUE(fails_with(consumer->peek_many(records), Errc::corrupt)) << "sticky";

    poke(lane.header(at), header.encode());
    EXPECT_TRUE(fails_with(lane.consumer(Predecessor::dead), Errc::corrupt));
    EXPECT_TRUE(fails_with(lane.producer(Predecessor::dead), Errc::corrupt));
  }
}

TEST_P(LaneTest, RefusesPaddingThatNoRecordFollows) {
  constexpr std::uint32_t kLeft = 512;
  const std::uint64_t at = kCapacity - kLeft;
  const RecordHeader padding{kLeft, 0, RecordKind::padding, 0};
  const RecordHeader whole_lap{kCapacity, 0, RecordKind::padding, 0};
  const RecordHeader unknown{8, 0, RecordKind{9}, 0};
  for (const std::uint64_t behind : {std::uint64_t{0}, whole_lap.encode(), unknown.encode()}) {
    TestLane lane(GetParam().placing, geometry());
    poke(lane.producer_side().write_pos, at);
    poke(lane.consumer_side().read_pos, at);
    auto consumer = lane.consumer(Predecessor::left);
    ASSERT_TRUE(consumer);
    poke(lane.header(kCapacity), behind);
    poke(lane.header(at), padding.encode());
    EXPECT_TRUE(fails_with(consumer->try_peek(), Errc::corrupt));
    EXPECT_TRUE(fails_with(lane.consumer(Predecessor::dead), Errc::corrupt));
    EXPECT_TRUE(fails_with(lane.producer(Predecessor::dead), Errc::corrupt));
  }
}

TEST_P(LaneTest, HandsOutTheRecordsBeforeABrokenOneFirst) {
  ASSERT_TRUE(send(0, 50));
  ASSERT_TRUE(send(1, 50));
  poke(lane_.header(producer_->write_pos()), RecordHeader{0, 0, RecordKind{77}, 0}.encode());
  std::vector<Record> records(4);
  ASSERT_EQ(*consumer_->peek_many(records), 2u);
  EXPECT_TRUE(has_pattern(records[1].payload, 1));
  consumer_->release(records[1]);
  EXPECT_TRUE(fails_with(consumer_->peek_many(records), Errc::corrupt));
  EXPECT_EQ(consumer_->messages(), 2u);
}

// Records all the way round, and no zero anywhere.
TEST_P(LaneTest, RefusesALapWithoutAFrontier) {
  const RecordHeader record{56, 0, RecordKind::data, 0};
  for (std::uint64_t pos = 0; pos < kCapacity; pos += 64) poke(lane_.header(pos), record.encode());
  EXPECT_TRUE(fails_with(lane_.producer(Predecessor::dead), Errc::corrupt));
  EXPECT_TRUE(fails_with(lane_.consumer(Predecessor::dead), Errc::corrupt));
  std::vector<Record> records(100);
  const auto found = consumer_->peek_many(records);
  ASSERT_TRUE(found);
  EXPECT_LE(*found, kCapacity / 64);
}

TEST_P(LaneTest, RefusesToldPositionsThatCannotBe) {
  const std::uint64_t granule = geometry().granule;
  auto& write_pos = lane_.producer_side().write_pos;
  auto& read_pos = lane_.consumer_side().read_pos;
  const auto refuses_producer = [&](std::uint64_t write, std::uint64_t read) {
    poke(write_pos, write);
    poke(read_pos, read);
    return fails_with(lane_.producer(Predecessor::dead), Errc::corrupt);
  };
  EXPECT_TRUE(lane_.producer(Predecessor::dead));
  EXPECT_TRUE(refuses_producer(4, 0)) << "unaligned";
  EXPECT_TRUE(refuses_producer(0, granule)) << "read before written";
  EXPECT_TRUE(refuses_producer(2 * kCapacity, kCapacity - granule)) << "more than a lap unread";
  EXPECT_TRUE(refuses_producer(0, std::uint64_t{0} - granule));
  for (const std::uint64_t far :
       {std::uint64_t{0} - 64, std::uint64_t{0} - kCapacity, kMaxPosition + 64}) {
    EXPECT_TRUE(refuses_producer(far, far)) << "arithmetic would wrap";
    for (const auto before : {Predecessor::none, Predecessor::left, Predecessor::dead}) {
      EXPECT_TRUE(fails_with(lane_.consumer(before), Errc::corrupt));
    }
  }
  poke(read_pos, 12);
  EXPECT_TRUE(fails_with(lane_.consumer(Predecessor::left), Errc::corrupt)) << "unaligned";
}

// ------------------------------------------------------------------------- strangers at attach

class LaneAttach : public testing::TestWithParam<Placing> {
 protected:
  LaneAttach() : lane_(GetParam(), TestLane::small_geometry()) {}
  void expect_refused(const std::function<void(LaneProducerSide&, LaneConsumerSide&)>& spoil,
                      const char* what) {
    TestLane lane(GetParam(), TestLane::small_geometry());
    ASSERT_TRUE(lane.producer() && lane.consumer());
    spoil(lane.producer_side(), lane.consumer_side());
    EXPECT_TRUE(fails_with(lane.producer(), Errc::bad_format)) << what;
    EXPECT_TRUE(fails_with(lane.consumer(), Errc::bad_format)) << what;
  }
  TestLane lane_;
};

TEST_P(LaneAttach, ReadsBackTheGeometryItWasFormattedWith) {
  LaneGeometry g;
  g.capacity = 65536;
  g.granule = 64;
  g.bell = 5;
  g.lane_id = 0x123456789abcdef0;
  g.type_fingerprint = 0xfedcba9876543210;
  g.type_size = 48;
  g.type_align = 16;
  const TestLane lane(GetParam(), g);
  const auto loaded = load_geometry<Native>(lane.for_producer().producer);
  ASSERT_TRUE(loaded);
  EXPECT_EQ(*loaded, g);
  EXPECT_EQ(lane.producer()->geometry(), g);
  EXPECT_EQ(lane.consumer()->geometry(), g);
}

TEST_P(LaneAttach, RefusesEveryFieldThatContradictsTheRest) {
  const auto set = [](SharedWord<std::uint64_t> LaneProducerSide::*word, std::uint64_t value) {
    return [word, value](LaneProducerSide& p, LaneConsumerSide&) {
      Native::store_relaxed(p.*word, value);
    };
  };
  const auto geometry = [&](std::uint64_t version, std::uint64_t lg_capacity,
                            std::uint64_t lg_granule) {
    return set(&LaneProducerSide::geometry, version | lg_capacity << 32 | lg_granule << 40);
  };
  expect_refused(set(&LaneProducerSide::magic, 0), "half-made");
  expect_refused(set(&LaneProducerSide::magic, kLaneConsumerMagic), "a consumer's magic");
  expect_refused(geometry(0, 12, 3), "version 0");
  expect_refused(geometry(2, 12, 3), "a later version");
  for (const std::uint64_t lg : {0u, 11u, 13u, 31u, 63u, 64u, 255u}) {
    expect_refused(geometry(1, lg, 3), "capacity");
  }
  for (const std::uint64_t lg : {0u, 2u, 5u, 7u, 63u, 64u, 255u}) {
    expect_refused(geometry(1, 12, lg), "granule");
  }
  for (const std::uint64_t offset : {0u, 8u, 4088u, 4104u, 8192u, ~0u}) {
    expect_refused(set(&LaneProducerSide::data_offset, offset), "data offset");
  }
  for (const std::uint64_t limits : {std::uint64_t{0}, std::uint64_t{1023}, std::uint64_t{1025},
                                     std::uint64_t{1024} | std::uint64_t{1} << 32}) {
    expect_refused(set(&LaneProducerSide::limits, limits), "limits or unknown features");
  }
  expect_refused(set(&LaneProducerSide::lane_id, 1), "areas of two lanes");
  expect_refused(set(&LaneProducerSide::type_shape, 1025), "a type larger than any message");
}

TEST_P(LaneAttach, RefusesAConsumerAreaThatIsNotOfThisLane) {
  const auto set = [](SharedWord<std::uint64_t> LaneConsumerSide::*word, std::uint64_t value) {
    return [word, value](LaneProducerSide&, LaneConsumerSide& c) {
      Native::store_relaxed(c.*word, value);
    };
  };
  expect_refused(set(&LaneConsumerSide::magic, 0), "half-made");
  expect_refused(set(&LaneConsumerSide::magic, kLaneProducerMagic), "a producer's magic");
  expect_refused(set(&LaneConsumerSide::version, 0), "version 0");
  expect_refused(set(&LaneConsumerSide::version, 2), "a later version");
  expect_refused(set(&LaneConsumerSide::version, std::uint64_t{1} << 32 | 1), "upper half");
  expect_refused(set(&LaneConsumerSide::lane_id, 2), "areas of two lanes");
}

TEST_P(LaneAttach, RefusesSwappedAndTruncatedAreas) {
  const LaneAreas p = lane_.for_producer();
  const auto refused = [](LaneAreas areas) {
    return fails_with(LaneProducer<>::attach(areas, Predecessor::none), Errc::bad_format) &&
           fails_with(LaneConsumer<>::attach(areas, Predecessor::none), Errc::bad_format);
  };
  EXPECT_TRUE(refused({p.consumer, p.producer}));
  EXPECT_TRUE(refused({p.producer, p.producer}));
  EXPECT_TRUE(refused({{}, {}}));
  for (const std::size_t size : {std::size_t{0}, std::size_t{8}, std::size_t{4095},
                                 std::size_t{4096}, p.producer.size() - 1}) {
    EXPECT_TRUE(refused({p.producer.first(size), p.consumer})) << size;
  }
  for (const std::size_t size : {0u, 8u, 896u, 4095u}) {
    EXPECT_TRUE(refused({p.producer, p.consumer.first(size)})) << size;
  }
}

TEST_P(LaneAttach, RefusesABlankPage) {
  alignas(4096) static std::byte blank[kLaneAreaBytes];
  EXPECT_TRUE(fails_with(load_geometry<Native>(blank), Errc::bad_format));
}

TEST(LaneGeometryTest, IsCheckedBeforeAnAreaIsFormatted) {
  const auto with = [](std::uint64_t capacity, std::uint32_t granule) {
    LaneGeometry g;
    g.capacity = capacity;
    g.granule = granule;
    return check_geometry(g);
  };
  for (std::uint64_t capacity = kMinCapacity; capacity <= kMaxCapacity; capacity *= 2) {
    EXPECT_TRUE(with(capacity, 8) && with(capacity, 16) && with(capacity, 64));
  }
  for (const std::uint64_t capacity :
       {std::uint64_t{0}, std::uint64_t{1}, kMinCapacity / 2, kMinCapacity + 1, kMinCapacity * 3,
        kMaxCapacity * 2, ~std::uint64_t{0}}) {
    EXPECT_TRUE(fails_with(with(capacity, 8), Errc::invalid_argument)) << capacity;
  }
  for (const std::uint32_t granule : {0u, 1u, 4u, 7u, 24u, 32u, 128u, 0xffffffffu}) {
    EXPECT_TRUE(fails_with(with(4096, granule), Errc::invalid_argument)) << granule;
  }
  LaneGeometry g;
  g.capacity = 4096;
  g.type_size = 1024;
  EXPECT_TRUE(check_geometry(g));
  g.type_size = 1025;
  EXPECT_TRUE(fails_with(check_geometry(g), Errc::too_large));
}

std::string placing_name(const testing::TestParamInfo<Placing>& info) {
  return info.param == Placing::heap ? "heap" : "crossed";
}
INSTANTIATE_TEST_SUITE_P(BothPlacings, LaneAttach, testing::Values(Placing::heap, Placing::crossed),
                         placing_name);

}  // namespace slipring::ring

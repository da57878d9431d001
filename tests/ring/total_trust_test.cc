// SPDX-License-Identifier: Apache-2.0
#include <functional>
#include <random>

#include "support/oracle_access.h"
#include "support/trace_access.h"
#include "support/watchdog.h"
#include "total_fixture.h"

// Words that the protocol cannot produce are typed errors, in bounded loads.
namespace slipring::ring {
namespace {

using test::OracleAccess;
using test::Rights;
using test::TraceAccess;

TEST(TotalTrust, RefusesAnAreaThatIsNotSuchARing) {
  const auto spoiled = [](const std::function<void(TotalControl&)>& spoil) {
    const TestTotal ring;
    spoil(ring.control());
    return load_total_geometry<Native>(ring.area());
  };
  using Word = SharedWord<std::uint64_t>;
  const auto flip = [](Word& word, std::uint64_t bits) {
    Native::store_relaxed(word, Native::load_relaxed(word) ^ bits);
  };
  EXPECT_THAT(spoiled([](auto&) {}), Succeeds());
  for (int bit = 0; bit < 64; ++bit) {
    const std::uint64_t mask = std::uint64_t{1} << bit;
    EXPECT_THAT(spoiled([&](auto& c) { flip(c.magic, mask); }), FailsWith(Errc::bad_format));
    EXPECT_THAT(spoiled([&](auto& c) { flip(c.data_offset, mask); }), FailsWith(Errc::bad_format));
    EXPECT_THAT(spoiled([&](auto& c) { flip(c.limits, mask); }), FailsWith(Errc::bad_format));
    // The bell is not ours to judge; other counts of owners that fill the same pages are rings.
    if (bit >= 40 && bit < 53) continue;
    EXPECT_THAT(spoiled([&](auto& c) { flip(c.geometry, mask); }), FailsWith(Errc::bad_format))
        << bit;
  }
  const TestTotal ring;
  for (const std::size_t size : {std::size_t{0}, std::size_t{4095}, ring.area().size() - 1}) {
    EXPECT_THAT(load_total_geometry<Native>(ring.area().first(size)), FailsWith(Errc::bad_format));
  }
}

struct BadDescriptor {
  const char* name;
  Descriptor desc;  // lap relative to its position's
};
const BadDescriptor kBad[] = {
    {"owner of nobody", {0, 0, 1, RecordState::committed}},
    {"owner out of range", {0, 5, 1, RecordState::claimed}},
    {"last owner id", {0, 1023, 1, RecordState::committed}},
    {"no granules", {0, 1, 0, RecordState::committed}},
    {"no granules, dead", {0, 1, 0, RecordState::dead}},
    {"beyond the lap", {0, 1, 63, RecordState::dead}},
    {"larger than a record may be", {0, 1, 17, RecordState::committed}},
    {"largest", {0, 1, 0xffff, RecordState::claimed}},
    {"of a newer lap", {1, 1, 1, RecordState::committed}},
    {"of a much newer lap", {1 << 20, 1, 1, RecordState::claimed}},
    {"renewed in its own lap", {0, 0, 0, RecordState::none}},
};

/// A ring with two records, of which one is read; the second one's descriptor lies.
class TotalTrust : public testing::TestWithParam<BadDescriptor> {
 protected:
  TotalTrust() {
    auto producer = *ring_.producer();
    auto consumer = *ring_.consumer();
    EXPECT_THAT(send(producer, 0, 56), Succeeds());
    EXPECT_THAT(send(producer, 1, 56), Succeeds());
    expect_next(consumer, 0, 56);
    consumer.tell_read();
    Descriptor bad = GetParam().desc;
    bad.lap += ring_.view().lap(64);
    ring_.poke(64, bad);
    Native::store_relaxed(ring_.control().claim_hint, 0);
  }
  TestTotal ring_;
};

TEST_P(TotalTrust, ItsConsumerSaysCorruptForGood) {
  auto consumer = *ring_.consumer<TraceAccess>();
  TraceAccess::clear();
  EXPECT_TRUE(consumer.has_record() || GetParam().desc.state == RecordState::claimed)
      << "somebody has to hear of it";
  EXPECT_THAT(consumer.try_peek(), FailsWith(Errc::corrupt));
  EXPECT_LE(TraceAccess::count, 3u);
  ring_.poke(64, {ring_.view().lap(64), 1, 1, RecordState::committed});
  EXPECT_THAT(consumer.try_peek(), FailsWith(Errc::corrupt)) << "sticky";
  std::vector<Record> records(3);
  EXPECT_THAT(consumer.peek_many(records), FailsWith(Errc::corrupt));
  EXPECT_TRUE(consumer.has_record());
  EXPECT_FALSE(consumer.blocked_by());
}

TEST_P(TotalTrust, ItsProducersSayCorruptForGoodAndWriteNothing) {
  auto producer = *ring_.producer<TraceAccess>();
  const auto before = ring_.snapshot();
  TraceAccess::clear();
  EXPECT_THAT(producer.try_claim(8), FailsWith(Errc::corrupt));
  EXPECT_LE(TraceAccess::count, 10u);
  EXPECT_TRUE(producer.has_room(8)) << "the claim says what is wrong";
  ring_.poke(64, {ring_.view().lap(64), 1, 1, RecordState::committed});
  EXPECT_THAT(producer.try_claim(8), FailsWith(Errc::corrupt)) << "sticky";
  ring_.poke(64, Descriptor::decode([&] {
               std::uint64_t bits = 0;
               const auto at =
                   reinterpret_cast<std::byte*>(ring_.view().descriptor(64).policy_address()) -
                   ring_.area().data();
               std::memcpy(&bits, before.data() + at, 8);
               return bits;
             }()));
  EXPECT_EQ(ring_.snapshot(), before);
}

TEST_P(TotalTrust, ItsReapersAndSuccessorsSayCorrupt) {
  const OwnerSlot dead = ring_.slot_of_the_dead();
  TraceAccess::clear();
  EXPECT_THAT(reap<TraceAccess>(ring_.area(), dead.index), FailsWith(Errc::corrupt));
  EXPECT_LE(TraceAccess::count, 64u);
  EXPECT_THAT(ring_.consumer(Predecessor::dead), FailsWith(Errc::corrupt));
}

INSTANTIATE_TEST_SUITE_P(Descriptors, TotalTrust, testing::ValuesIn(kBad), [](const auto& param) {
  std::string name = param.param.name;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return name;
});

TEST(TotalTrustHeader, ARecordThatDoesNotFitItsRoomIsCorrupt) {
  const RecordHeader bad[] = {
      {57, 0, RecordKind::data, 0},
      {0xffffffff, 0, RecordKind::data, 0},
      {8, 0, RecordKind::none, 0},
      {64, 0, RecordKind::padding, 0},
      {4096, 0, RecordKind::padding, 0},
      {8, 0, RecordKind::data, 2},
      {1, 0, RecordKind::data, RecordHeader::kOwnLine},
      {8, 0, static_cast<RecordKind>(77), 0},
  };
  for (const RecordHeader& header : bad) {
    const TestTotal ring;
    auto producer = *ring.producer();
    auto consumer = *ring.consumer();
    ASSERT_THAT(send(producer, 1, 8), Succeeds());
    ASSERT_THAT(send(producer, 2, 8), Succeeds());
    Native::store_relaxed(ring.view().header(64), header.encode());
    std::vector<Record> records(4);
    const auto found = consumer.peek_many(records);
    ASSERT_THAT(found, Succeeds());
    EXPECT_EQ(*found, 1u) << "what is whole in front of it is delivered";
    consumer.release(records[0]);
    EXPECT_THAT(consumer.try_peek(), FailsWith(Errc::corrupt)) << header.encode();
  }
}

TEST(TotalTrustPosition, AReadPosThatIsNoneOrFallsBackIsCorrupt) {
  for (const std::uint64_t bad : {std::uint64_t{1}, std::uint64_t{63}, kMaxPosition + 64}) {
    const TestTotal ring;
    const auto slot = *take_owner(ring.area());
    Native::store_relaxed(ring.control().read_pos, bad);
    EXPECT_THAT(TotalProducer<>::attach(ring.area(), slot), FailsWith(Errc::corrupt));
    EXPECT_THAT(ring.consumer(), FailsWith(Errc::corrupt));
    EXPECT_THAT(reap(ring.area(), ring.slot_of_the_dead().index), FailsWith(Errc::corrupt));
  }
  const TestTotal ring;
  auto producer = *ring.producer();
  auto consumer = *ring.consumer();
  for (std::uint64_t n = 0; n < 100; ++n) {
    ASSERT_THAT(send(producer, n, 56), Succeeds());
    expect_next(consumer, n, 56);
  }
  while (send(producer, 1, 56)) {
  }
  Native::store_relaxed(ring.control().read_pos, 0);
  EXPECT_THAT(producer.try_claim(8), FailsWith(Errc::corrupt));
  EXPECT_THAT(producer.try_claim(8), FailsWith(Errc::corrupt));
}

// A peer that writes the next link of the chain whenever we look at it could lead us on for ever.
TEST(TotalTrustChain, AChainLongerThanALapIsCorruptInBoundedLoads) {
  const test::Watchdog watchdog(20, "endless chain");
  for (const bool consumer_side : {false, true}) {
    const TestTotal ring;
    const TotalView view = ring.view();
    auto producer = *ring.producer<TraceAccess>();
    auto consumer = *ring.consumer<TraceAccess>();
    std::uint64_t ahead = 0;
    const auto lead_on = [&] {
      for (; ahead % 8 != 7; ++ahead) {
        ring.poke(ahead * 64, {view.lap(ahead * 64), 1, 1, RecordState::dead});
      }
      ring.poke(ahead * 64, {view.lap(ahead * 64), 1, 1, RecordState::dead});
      ++ahead;
    };
    TraceAccess::clear();
    TraceAccess::keeps_trace = false;
    TraceAccess::before_access = [&](std::uint64_t index) {
      if (index % 8 == 0) lead_on();
    };
    if (consumer_side) {
      EXPECT_THAT(consumer.try_peek(), FailsWith(Errc::corrupt));
    } else {
      EXPECT_THAT(producer.try_claim(8), FailsWith(Errc::corrupt));
    }
    TraceAccess::before_access = nullptr;
    TraceAccess::keeps_trace = true;
    EXPECT_LE(TraceAccess::count, 64u + 8);
  }
}

// Any word may change between any two loads. Whatever comes back, every access stays inside the
// area and every call ends.
TEST(TotalTrustOracle, NoLieLeadsOutOfTheAreaOrIntoAHang) {
  const test::Watchdog watchdog(120, "oracle");
  std::mt19937 random(1);
  std::vector<std::uint8_t> input;
  std::uint64_t delivered = 0, claimed = 0, corrupt = 0;
  for (int run = 0; run < 3000; ++run) {
    const TestTotal ring;
    const auto slot = *take_owner(ring.area());
    auto native = *TotalProducer<>::attach(ring.area(), slot);
    for (std::uint64_t n = random() % 200; n > 0; --n) {
      if (!send(native, n, random() % 300)) break;
    }
    input.resize(random() % 400);
    // 1: no lie, and a swap succeeds. How often depends on the run.
    const unsigned honest = random() % 16;
    for (auto& byte : input) {
      byte = random() % 16 < honest ? std::uint8_t{1} : static_cast<std::uint8_t>(random());
    }
    OracleAccess::feed(input, OracleAccess::Mode::sticky);
    OracleAccess::allow(ring.area(), Rights::read_write);
    OracleAccess::limit_loads(400 * 64 * 4);
    auto producer = TotalProducer<OracleAccess>::attach(ring.area(), slot);
    auto consumer = TotalConsumer<OracleAccess>::attach(
        ring.area(), random() % 2 == 0 ? Predecessor::dead : Predecessor::none);
    for (int i = 0; i < 20; ++i) {
      if (producer) {
        const auto claim = producer->try_claim(random() % 961);
        if (claim) {
          OracleAccess::check(claim->payload.data(), claim->payload.size(), 8, true);
          random() % 4 == 0 ? producer->abort() : producer->commit(claim->payload.size());
          ++claimed;
        } else if (claim.error().code == Errc::corrupt) {
          ++corrupt;
        }
        (void)producer->has_room(random() % 961);
      }
      if (consumer) {
        if (const auto record = consumer->try_peek()) {
          OracleAccess::check(record->payload.data(), record->payload.size(), 1, false);
          consumer->release(*record);
          ++delivered;
        } else if (record.error().code == Errc::corrupt) {
          ++corrupt;
        }
        consumer->tell_read();
      }
      (void)resolve_claims<OracleAccess>(ring.view(), slot.index, random());
    }
  }
  EXPECT_GT(delivered, 1000u);
  EXPECT_GT(claimed, 1000u);
  EXPECT_GT(corrupt, 1000u);
}

}  // namespace
}  // namespace slipring::ring

// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <random>

#include "lane_fixture.h"
#include "support/trace_access.h"

// What an operation touches, access by access.
namespace slipring::ring {
namespace {

using test::AccessKind;
using test::TraceAccess;
using test::TracedAccess;
using Trace = std::vector<TracedAccess>;

class LaneAccess : public testing::TestWithParam<std::uint32_t> {
 protected:
  LaneAccess() : lane_(Placing::heap) {
    LaneTuning tuning;
    tuning.zero_ahead_bytes = GetParam();
    producer_ = *lane_.producer<TraceAccess>(Predecessor::none, tuning);
    consumer_ = *lane_.consumer<TraceAccess>(Predecessor::none, tuning);
  }

  [[nodiscard]] bool in_data(const TracedAccess& access) const {
    const auto area = lane_.for_producer().producer;
    return access.within(area.data() + kLaneAreaBytes, area.size() - kLaneAreaBytes);
  }
  [[nodiscard]] bool in_producer_area(const TracedAccess& access) const {
    const auto area = lane_.for_producer().producer;
    return access.within(area.data(), area.size());
  }
  [[nodiscard]] bool in_consumer_area(const TracedAccess& access) const {
    const auto area = lane_.for_consumer().consumer;
    return access.within(area.data(), area.size());
  }
  static void expect_single_fetches(const Trace& trace, const char* operation) {
    std::map<const std::byte*, int> loads;
    for (const auto& access : trace) {
      if (access.kind == AccessKind::load) {
        EXPECT_EQ(++loads[access.address], 1) << "two loads of one word in " << operation;
      }
    }
  }
  void check_producer(const Trace& trace, const char* operation) const {
    expect_single_fetches(trace, operation);
    for (const auto& access : trace) {
      if (access.writes()) {
        EXPECT_TRUE(in_producer_area(access)) << operation;
      } else {
        EXPECT_FALSE(in_producer_area(access)) << operation << " reads back what it wrote";
      }
    }
  }
  void check_consumer(const Trace& trace, const char* operation) const {
    expect_single_fetches(trace, operation);
    for (const auto& access : trace) {
      if (access.writes()) {
        EXPECT_TRUE(in_consumer_area(access)) << operation;
      }
      EXPECT_FALSE(access.writes() && in_data(access)) << operation << " writes a data line";
    }
  }

  TestLane lane_;
  std::optional<LaneProducer<TraceAccess>> producer_;
  std::optional<LaneConsumer<TraceAccess>> consumer_;
};

TEST_P(LaneAccess, EachControlWordIsFetchedOnceAndEachSideWritesItsOwnAreaAlone) {
  std::mt19937 random(7);
  const std::vector<std::byte> message(1024, std::byte{0xee});
  std::vector<Record> records(8);
  bool open_group = false;
  for (int i = 0; i < 20000; ++i) {
    const std::size_t size = random() % (random() % 4 == 0 ? 1025 : 64);
    switch (random() % 10) {
      case 0:
      case 1:
      case 2:
        check_producer(TraceAccess::record([&] {
                         const auto sent = producer_->try_send({message.data(), size});
                         EXPECT_TRUE(sent || sent.error().code == Errc::full);
                       }),
                       "try_send");
        break;
      case 3:
        check_producer(TraceAccess::record([&] {
                         if (producer_->try_claim(size)) producer_->abort();
                       }),
                       "abort");
        break;
      case 4:
        check_producer(TraceAccess::record([&] {
                         if (open_group) {
                           random() % 3 == 0 ? producer_->abort_group() : producer_->end_group();
                         } else {
                           EXPECT_TRUE(producer_->begin_group());
                         }
                         open_group = !open_group;
                       }),
                       "group");
        break;
      case 5:
        check_producer(TraceAccess::record([&] {
                         (void)producer_->has_room(size);
                         (void)producer_->want_pos(size);
                       }),
                       "has_room");
        check_producer(TraceAccess::record([&] { producer_->tell_write(); }), "tell_write");
        break;
      case 6:
        check_consumer(TraceAccess::record([&] {
                         const auto found = consumer_->peek_many(records);
                         if (found) consumer_->release(records[*found - 1]);
                       }),
                       "peek_many");
        break;
      case 7:
        check_consumer(TraceAccess::record([&] { consumer_->tell_read(); }), "tell_read");
        check_consumer(TraceAccess::record([&] { (void)consumer_->has_record(); }), "has_record");
        break;
      default:
        check_consumer(TraceAccess::record([&] {
                         if (const auto record = consumer_->try_peek()) consumer_->release(*record);
                       }),
                       "try_peek");
    }
    if (HasFailure()) return;
  }
  EXPECT_GT(producer_->write_pos(), 100 * kMinCapacity);
}

// Also where it walks: a second look at a header could see another size.
// A consumer behind a dead one says so, in one word (R8).
TEST_P(LaneAccess, AttachingFetchesEachWordOnceAndStoresNothingElse) {
  const std::vector<std::byte> message(100, std::byte{0xee});
  while (producer_->try_send(message)) {
  }
  for (const auto before : {Predecessor::none, Predecessor::left, Predecessor::dead}) {
    for (const bool consumer : {false, true}) {
      const Trace trace = TraceAccess::record([&] {
        if (consumer) {
          EXPECT_TRUE(lane_.consumer<TraceAccess>(before));
        } else {
          EXPECT_TRUE(lane_.producer<TraceAccess>(before));
        }
      });
      expect_single_fetches(trace, "attach");
      const auto* says =
          reinterpret_cast<const std::byte*>(lane_.consumer_side().repeats_to.policy_address());
      for (const auto& access : trace) {
        const bool may_store = consumer && before == Predecessor::dead && access.address == says;
        EXPECT_TRUE(access.kind == AccessKind::load || may_store);
      }
    }
  }
}

// The price of a message: its payload, the zero word behind it, its header. No load.
TEST_P(LaneAccess, ASendThatKnowsOfRoomLoadsNothingAndStoresTwoWordsAtMost) {
  const std::vector<std::byte> message(8, std::byte{0xee});
  const Trace trace = TraceAccess::record([&] { EXPECT_TRUE(producer_->try_send(message)); });
  ASSERT_LE(trace.size(), 3u);
  EXPECT_EQ(trace.front().kind, AccessKind::copy_in);
  EXPECT_EQ(trace.back().kind, AccessKind::store);
  EXPECT_EQ(trace.back().address, lane_.for_producer().producer.data() + kLaneAreaBytes);
}

TEST_P(LaneAccess, AReceiveLoadsOneWordAndStoresNothingUntilItTells) {
  const std::vector<std::byte> message(8, std::byte{0xee});
  ASSERT_TRUE(producer_->try_send(message));
  const Trace trace =
      TraceAccess::record([&] { EXPECT_FALSE(consumer_->release(*consumer_->try_peek())); });
  ASSERT_EQ(trace.size(), 1u);
  EXPECT_EQ(trace[0].kind, AccessKind::load);
  EXPECT_TRUE(in_data(trace[0]));
}

INSTANTIATE_TEST_SUITE_P(ZeroAhead, LaneAccess, testing::Values(0u, 512u));

}  // namespace
}  // namespace slipring::ring

// SPDX-License-Identifier: Apache-2.0
#include "slipring/ring/mpsc.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <random>
#include <vector>

#include "slipring/base/deadline.h"
#include "support/child.h"
#include "support/matchers.h"
#include "support/shared_area.h"
#include "support/watchdog.h"

namespace slipring::ring {
namespace {

using test::Child;
using test::FailsWith;
using test::ProcessEvent;
using test::SharedArea;
using test::Succeeds;

MpscGeometry small(std::uint32_t lanes) {
  MpscGeometry geometry;
  geometry.lanes = lanes;
  geometry.lane.capacity = kMinCapacity;
  geometry.lane.lane_id = 77;
  return geometry;
}

/// One producer: a lane that it joined and its end of it.
struct Joined {
  std::uint32_t lane;
  std::uint32_t generation;
  LaneProducer<> producer;
};

class Mpsc : public testing::Test {
 protected:
  void make(std::uint32_t lanes) {
    geometry_ = small(lanes);
    area_.emplace(geometry_.total_bytes());
    format_mpsc_area(bytes(), geometry_);
    auto consumer = MpscConsumer<>::attach(bytes(), Predecessor::none);
    ASSERT_THAT(consumer, Succeeds());
    consumer_.emplace(std::move(*consumer));
  }
  std::span<std::byte> bytes() const { return {area_->data(), area_->size()}; }
  MpscParts parts() const { return MpscParts(bytes(), geometry_); }

  static Result<Joined> join(const MpscParts& parts) {
    const auto joined = join_lane(parts);
    if (!joined) return tl::unexpected(joined.error());
    using State = RoleWord::State;
    const Predecessor before = joined->role.before == State::vacant ? Predecessor::none
                               : joined->role.before == State::left ? Predecessor::left
                                                                    : Predecessor::dead;
    auto producer = LaneProducer<>::attach(parts.areas(joined->lane), before);
    if (!producer) return tl::unexpected(producer.error());
    announce_join(parts);
    return Joined{joined->lane, joined->role.generation, std::move(*producer)};
  }
  static bool send(LaneProducer<>& producer, std::uint64_t value, std::size_t size = 8) {
    std::vector<std::byte> message(std::max<std::size_t>(size, 8));
    std::memcpy(message.data(), &value, sizeof value);
    return producer.try_send(message).has_value();
  }
  static std::uint64_t value_of(const Record& record) {
    std::uint64_t value = 0;
    std::memcpy(&value, record.payload.data(), sizeof value);
    return value;
  }

  MpscGeometry geometry_;
  std::optional<SharedArea> area_;
  std::optional<MpscConsumer<>> consumer_;
};

TEST_F(Mpsc, RefusesImpossibleGeometries) {
  for (const std::uint32_t lanes : {0u, kMaxLanes + 1}) {
    EXPECT_THAT(check_geometry(small(lanes)), FailsWith(Errc::invalid_argument));
  }
  MpscGeometry odd = small(2);
  odd.lane.capacity = 5000;
  EXPECT_THAT(check_geometry(odd), FailsWith(Errc::invalid_argument));
  EXPECT_THAT(check_geometry(small(kMaxLanes)), Succeeds());
}

TEST_F(Mpsc, RefusesAnAreaThatSaysSomethingElse) {
  make(3);
  const auto load = [&] { return load_mpsc_geometry<NativeAccess>(bytes()); };
  ASSERT_THAT(load(), Succeeds());
  EXPECT_EQ(*load(), geometry_);
  EXPECT_THAT(load_mpsc_geometry<NativeAccess>(bytes().first(8192)), FailsWith(Errc::bad_format));
  EXPECT_THAT(load_mpsc_geometry<NativeAccess>(bytes().first(bytes().size() - 1)),
              FailsWith(Errc::bad_format));
  MpscConsumerSide& block = parts().consumer();
  for (SharedWord<std::uint64_t>* word :
       {&block.magic, &block.version, &block.lanes, &block.stride}) {
    const std::uint64_t good = NativeAccess::load_relaxed(*word);
    for (const std::uint64_t bad : {std::uint64_t{0}, good + 1, ~std::uint64_t{0}}) {
      NativeAccess::store_relaxed(*word, bad);
      EXPECT_THAT(load(), FailsWith(Errc::bad_format)) << bad;
    }
    NativeAccess::store_relaxed(*word, good);
  }
}

TEST_F(Mpsc, KeepsTheOrderOfEachProducerAndFindsThoseThatJoinLater) {
  make(8);
  EXPECT_THAT(consumer_->try_peek(), FailsWith(Errc::empty));
  std::vector<Joined> producers;
  std::map<std::uint32_t, std::uint64_t> next;
  std::mt19937 rng(7);
  std::uint64_t sent = 0, got = 0;
  std::map<std::uint32_t, std::uint64_t> count;
  for (int i = 0; i < 20'000; ++i) {
    if (i % 500 == 0 && producers.size() < 8) {
      auto joined = join(parts());
      ASSERT_THAT(joined, Succeeds());
      producers.push_back(std::move(*joined));
    }
    Joined& one = producers[rng() % producers.size()];
    if (send(one.producer, count[one.lane], rng() % 200)) ++count[one.lane], ++sent;
    if (rng() % 3 == 0) continue;
    const auto record = consumer_->try_peek();
    if (!record) continue;
    ASSERT_EQ(value_of(*record), next[record->source]++);
    EXPECT_EQ(value_of(*consumer_->try_peek()), value_of(*record))
        << "not released: the same again";
    consumer_->release(*record);
    ++got;
  }
  while (const auto record = consumer_->try_peek()) {
    ASSERT_EQ(value_of(*record), next[record->source]++);
    consumer_->release(*record);
    ++got;
  }
  EXPECT_EQ(got, sent);
  EXPECT_EQ(consumer_->attached_lanes(), 8u);
  EXPECT_THAT(join(parts()), FailsWith(Errc::in_use));  // all eight are held, and we live
}

TEST_F(Mpsc, AProducerThatNeverCommitsDelaysNobody) {
  make(4);
  auto stopped = join(parts());
  auto other = join(parts());
  ASSERT_TRUE(stopped && other);
  ASSERT_THAT(stopped->producer.try_claim(100), Succeeds());  // and nothing more, ever
  for (std::uint64_t i = 0; i < 1000; ++i) {
    ASSERT_TRUE(send(other->producer, i));
    const auto record = consumer_->try_peek();
    ASSERT_THAT(record, Succeeds());
    EXPECT_EQ(value_of(*record), i);
    consumer_->release(*record);
  }
}

TEST_F(Mpsc, ABusyLaneLeavesRoomForTheOthers) {
  make(2);
  auto greedy = join(parts());
  auto modest = join(parts());
  ASSERT_TRUE(greedy && modest);
  std::uint64_t waited_bytes = 0;
  bool seen = false;
  ASSERT_TRUE(send(greedy->producer, 0, 512));
  ASSERT_TRUE(consumer_->try_peek());  // its visit has begun
  ASSERT_TRUE(send(modest->producer, 1));
  while (!seen) {
    while (send(greedy->producer, 0, 512)) {
    }
    const auto record = consumer_->try_peek();
    ASSERT_THAT(record, Succeeds());
    seen = record->source == modest->lane;
    waited_bytes += record->payload.size();
    consumer_->release(*record);
    ASSERT_LE(waited_bytes, MpscConsumer<>::kVisitBytes + 1024);
  }
}

TEST_F(Mpsc, AVisitIsAsLongWhenRecordsAreReleasedTwice) {
  make(2);
  Joined busy = std::move(*join(parts()));
  Joined other = std::move(*join(parts()));
  ASSERT_TRUE(send(busy.producer, 1, 504));
  ASSERT_THAT(consumer_->try_peek(), Succeeds());  // the visit has begun
  ASSERT_TRUE(send(other.producer, 2));
  std::uint64_t visited_bytes = 0;
  for (;;) {
    ASSERT_TRUE(send(busy.producer, 1, 504));
    const auto record = consumer_->try_peek();
    ASSERT_THAT(record, Succeeds());
    if (value_of(*record) == 2) break;
    visited_bytes += 512;
    consumer_->release(*record);
    EXPECT_FALSE(consumer_->release(*record)) << "nothing more to tell";
  }
  EXPECT_EQ(visited_bytes, MpscConsumer<>::kVisitBytes);
}

TEST_F(Mpsc, ALyingLaneIsReportedOnceAndTouchesNoOther) {
  make(3);
  auto liar = join(parts());
  auto honest = join(parts());
  ASSERT_TRUE(liar && honest);
  word_at<std::uint64_t>(parts().areas(liar->lane).producer.data(), kLaneAreaBytes)
      .policy_address()[0] = ~std::uint64_t{0};
  ASSERT_TRUE(send(honest->producer, 5));
  int corrupt = 0, got = 0;
  for (int i = 0; i < 20; ++i) {
    const auto record = consumer_->try_peek();
    if (record) {
      EXPECT_EQ(record->source, honest->lane);
      consumer_->release(*record);
      ++got;
    } else if (record.error().code == Errc::corrupt) {
      ++corrupt;
    }
  }
  EXPECT_EQ(corrupt, 1);
  EXPECT_EQ(got, 1);
  EXPECT_EQ(consumer_->poisoned_lanes(), 1u);
  EXPECT_FALSE(consumer_->has_record());
}

TEST_F(Mpsc, ALaneThatCannotBeAttachedIsReportedOnce) {
  make(2);
  NativeAccess::store_relaxed(parts().producer(1).limits, 1);
  auto first = join(parts());
  ASSERT_TRUE(first);
  NativeAccess::store_release(parts().producer(1).role,
                              RoleWord{RoleWord::State::left, 1, 0, 1}.encode());
  announce_join(parts());
  EXPECT_TRUE(consumer_->has_record());
  EXPECT_THAT(consumer_->try_peek(), FailsWith(Errc::corrupt));
  EXPECT_THAT(consumer_->try_peek(), FailsWith(Errc::empty));
  announce_join(parts());
  EXPECT_THAT(consumer_->try_peek(), FailsWith(Errc::empty));
}

TEST_F(Mpsc, FindsARecordInAQuietLaneAmongAThousand) {
  make(1000);
  std::vector<Joined> producers;
  for (int i = 0; i < 1000; ++i) {
    auto joined = join(parts());
    ASSERT_THAT(joined, Succeeds());
    producers.push_back(std::move(*joined));
  }
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(consumer_->try_peek());  // all go quiet
  for (const std::size_t lane : {999u, 0u, 517u}) {
    ASSERT_TRUE(send(producers[lane].producer, lane));
    int sweeps = 0;
    while (!consumer_->try_peek()) ASSERT_LT(++sweeps, 16);
    consumer_->release(*consumer_->try_peek());
    ASSERT_TRUE(send(producers[lane].producer, lane));
    ASSERT_TRUE(consumer_->try_peek());  // it is busy now
    consumer_->release(*consumer_->try_peek());
    for (int i = 0; i < 100; ++i) EXPECT_FALSE(consumer_->try_peek());
    // Before a park every lane is looked at, quiet or not.
    ASSERT_TRUE(send(producers[lane].producer, lane));
    EXPECT_TRUE(consumer_->has_record());
    ASSERT_TRUE(consumer_->try_peek());
    consumer_->release(*consumer_->try_peek());
  }
}

TEST_F(Mpsc, TheLaneOfADeadProducerIsDrainedAndTakenOver) {
  test::Watchdog watchdog(30);
  make(1);
  ProcessEvent sent;
  Child child([&] {
    auto joined = join(parts());
    if (!joined) return;
    for (std::uint64_t i = 0; i < 3; ++i) {
      if (!send(joined->producer, i)) return;
    }
    static_cast<void>(joined->producer.try_claim(64));
    sent.raise();
    for (;;) ::pause();
  });
  ASSERT_TRUE(sent.wait());
  EXPECT_THAT(join(parts()), FailsWith(Errc::in_use));
  child.stop();
  EXPECT_THAT(join(parts()), FailsWith(Errc::in_use)) << "stopped is alive";
  child.kill_to_zombie();
  auto successor = join(parts());
  ASSERT_THAT(successor, Succeeds());
  ASSERT_TRUE(send(successor->producer, 3));
  for (std::uint64_t i = 0; i < 4; ++i) {
    const auto record = consumer_->try_peek();
    ASSERT_THAT(record, Succeeds());
    EXPECT_EQ(value_of(*record), i);
    consumer_->release(*record);
  }
}

TEST_F(Mpsc, ASuccessorOfTheConsumerGoesOnInEveryLane) {
  make(3);
  std::vector<Joined> producers;
  for (int i = 0; i < 3; ++i) producers.push_back(std::move(*join(parts())));
  for (std::uint64_t i = 0; i < 10; ++i) {
    for (Joined& one : producers) ASSERT_TRUE(send(one.producer, i));
  }
  consumer_->release(*consumer_->try_peek());  // never told
  auto successor = MpscConsumer<>::attach(bytes(), Predecessor::dead);
  ASSERT_THAT(successor, Succeeds());
  for (Joined& one : producers) ASSERT_TRUE(send(one.producer, 10));
  std::map<std::uint32_t, std::uint64_t> next;
  while (const auto record = successor->try_peek()) {
    EXPECT_EQ(value_of(*record), next[record->source]++);
    EXPECT_EQ(record->redelivered, value_of(*record) < 10);
    successor->release(*record);
  }
  for (const Joined& one : producers) EXPECT_EQ(next[one.lane], 11u);
}

// The epoch is everybody's word. A consumer that took one of its values for "nothing new since I
// came" would find no lane at all, and park.
TEST_F(Mpsc, ASuccessorOfTheConsumerFindsEveryLaneWhateverTheEpochSays) {
  make(2);
  auto joined = join(parts());
  ASSERT_THAT(joined, Succeeds());
  ASSERT_TRUE(send(joined->producer, 5));
  for (const std::uint64_t epoch : {~std::uint64_t{0}, std::uint64_t{0}, std::uint64_t{1} << 63}) {
    NativeAccess::store_release(parts().consumer().epoch, epoch);
    auto successor = MpscConsumer<>::attach(bytes(), Predecessor::dead);
    ASSERT_THAT(successor, Succeeds());
    EXPECT_EQ(successor->attached_lanes(), 1u) << epoch;
    EXPECT_TRUE(successor->has_record()) << epoch;
    const auto record = successor->try_peek();
    ASSERT_THAT(record, Succeeds()) << epoch;
    EXPECT_EQ(value_of(*record), 5u);
  }
}

TEST_F(Mpsc, ProducersMayBeKilledAtAnyTimeAndNothingCommittedIsLost) {
  test::Watchdog watchdog(120, "mpsc kills");
  make(4);
  SharedArea acknowledged_area(4096);
  // What each run committed, in memory that survives its death: stored before and after a send.
  struct Log {
    SharedWord<std::uint64_t> begun, done;
  };
  std::uint64_t first = 1;  // values of a run start behind those of the run before
  std::mt19937 rng(std::random_device{}());
  std::uint64_t got_total = 0;
  for (int kill = 0; kill < 100; ++kill) {
    Log& log = acknowledged_area.as<Log>();
    NativeAccess::store_relaxed(log.begun, 0);
    NativeAccess::store_relaxed(log.done, 0);
    Child child([&] {
      auto joined = join(parts());
      if (!joined) return;
      for (std::uint64_t value = first;;) {
        NativeAccess::store_release(log.begun, value);
        if (!send(joined->producer, value, value % 300)) continue;
        NativeAccess::store_release(log.done, value);
        ++value;
      }
    });
    std::uint64_t expected = first;
    const auto drain = [&] {
      while (const auto record = consumer_->try_peek()) {
        ASSERT_EQ(value_of(*record), expected);
        ++expected;
        ++got_total;
        consumer_->release(*record);
        consumer_->tell_read([](std::uint32_t) {});
      }
    };
    const std::int64_t until = monotonic_ns() + static_cast<std::int64_t>(rng() % 3'000'000);
    while (monotonic_ns() < until || expected == first) drain();
    EXPECT_TRUE(child.kill().killed_by(SIGKILL));
    drain();
    if (HasFatalFailure()) return;
    const std::uint64_t done = NativeAccess::load_acquire(log.done);
    const std::uint64_t begun = NativeAccess::load_acquire(log.begun);
    ASSERT_GE(expected, done + 1) << "committed and lost";
    ASSERT_LE(expected, begun + 1) << "never sent";
    first = begun + 1;
  }
  EXPECT_GT(got_total, 1000u);
}

}  // namespace
}  // namespace slipring::ring

// SPDX-License-Identifier: Apache-2.0
// Many producers and one consumer as threads over one mapping, with their doorbells: the whole
// protocol under the eyes of a race detector, which is blind across processes.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "judge.h"
#include "slipring/ring/mpsc.h"
#include "slipring/ring/total.h"
#include "slipring/wait/doorbell.h"
#include "slipring/wait/gate.h"
#include "slipring/wait/wait_strategy.h"
#include "support/matchers.h"
#include "support/shared_area.h"
#include "support/watchdog.h"

namespace slipring {
namespace {

using test::Head;
using test::Judge;
using test::shared_word;
using test::SharedArea;
using test::Succeeds;
using namespace std::chrono_literals;

constexpr std::uint64_t kProducers = 4;
#if defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kEach = 3'000;
#else
constexpr std::uint64_t kEach = 30'000;
#endif

wait::RingerOptions one_of_many() {
  wait::RingerOptions options;
  options.one_of_many = true;
  return options;
}
/// Parks that end by a ring alone: a lost one hangs, and the watchdog says so.
constexpr std::chrono::milliseconds kUnbounded{100'000};

wait::SleeperOptions unbounded(bool many_ringers) {
  wait::SleeperOptions options;
  options.many_ringers = many_ringers;
  options.max_park = kUnbounded;
  return options;
}

/// Sends `kEach` records by `try_claim`, `commit`, `ring` and `park`, as one producer does.
template <typename Producer, typename Ring, typename Park>
void produce(std::uint64_t who, std::uint64_t& tickets, Producer& producer, Ring&& ring,
             Park&& park) {
  std::mt19937_64 rng(test::stress_seed() + who);
  for (std::uint64_t sequence = 0; sequence < kEach;) {
    Head head{};
    head.producer = who;
    head.sequence = sequence;
    head.size = 16 + rng() % 385;
    head.before = shared_word(tickets).fetch_add(1);
    const auto claim = producer.try_claim(head.size);
    if (!claim) {
      ASSERT_EQ(claim.error().code, Errc::full) << claim.error().op;
      park(head.size);
      continue;
    }
    head.inside = shared_word(tickets).fetch_add(1);
    test::write_record(claim->payload, head);
    producer.commit(head.size);
    ring();
    ++sequence;
  }
}

TEST(ManyThreads, LanesShareOneDoorbellAndLoseNothing) {
  const test::Watchdog watchdog(120, "lanes of many threads");
  SCOPED_TRACE("SLIPRING_TEST_SEED=" + std::to_string(test::stress_seed()));
  ring::MpscGeometry geometry;
  geometry.lanes = kProducers;
  geometry.lane.capacity = ring::kMinCapacity;
  const SharedArea memory(geometry.total_bytes());
  const std::span<std::byte> area{memory.data(), memory.size()};
  ring::format_mpsc_area(area, geometry);
  const ring::MpscParts parts(area, geometry);
  const auto data_bell = [&](std::uint32_t lane) {
    ring::MpscConsumerSide& block = parts.consumer();
    return wait::BellRef{block.ticket, block.seq, parts.producer(lane).fence};
  };
  const auto space_bell = [&](std::uint32_t lane) {
    auto& consumer = *reinterpret_cast<ring::LaneConsumerSide*>(parts.areas(lane).consumer.data());
    return wait::BellRef{parts.producer(lane).space_ticket, consumer.space_seq, consumer.fence};
  };
  std::uint64_t tickets = 0;
  std::vector<std::thread> threads;
  for (std::uint64_t who = 0; who < kProducers; ++who) {
    threads.emplace_back([&, who] {
      const auto lane = static_cast<std::uint32_t>(who);  // one process: roles are not asked
      ASSERT_THAT(take_role(parts.producer_role(lane)), Succeeds());
      auto producer = *ring::LaneProducer<>::attach(parts.areas(lane), ring::Predecessor::none);
      auto bell = *wait::Ringer<>::attach(wait::BellKind::futex, data_bell(lane), one_of_many());
      auto sleeper =
          *wait::Sleeper<>::attach(wait::BellKind::futex, space_bell(lane), unbounded(false));
      ring::announce_join(parts);
      bell.ring();
      produce(
          who, tickets, producer, [&] { bell.ring_if_parked(); },
          [&](std::size_t size) {
            NativeAccess::store_relaxed(parts.producer(lane).want_pos, producer.want_pos(size));
            static_cast<void>(
                sleeper.park_unless([&] { return producer.has_room(size); }, Deadline::never()));
          });
    });
  }
  auto consumer = *ring::MpscConsumer<>::attach(area, ring::Predecessor::none);
  auto sleeper = *wait::Sleeper<>::attach(wait::BellKind::futex, data_bell(0), unbounded(true));
  std::vector<std::optional<wait::Ringer<>>> bells(kProducers);
  const auto ring_for_space = [&](std::uint32_t lane) {
    if (!bells[lane])
      bells[lane] = *wait::Ringer<>::attach(wait::BellKind::futex, space_bell(lane));
    const auto* end = consumer.lane(lane);
    bells[lane]->ring_if_parked([&] { return end->read_pos() >= end->wanted_pos(); });
  };
  Judge judge(false);
  while (judge.total() < kProducers * kEach && !testing::Test::HasFailure()) {
    const auto record = consumer.try_peek();
    if (record) {
      judge.see(record->payload);
      if (consumer.release(*record)) ring_for_space(record->source);
      continue;
    }
    consumer.tell_read(ring_for_space);
    static_cast<void>(
        sleeper.park_unless([&] { return consumer.has_record(); }, Deadline::never()));
  }
  for (std::thread& thread : threads) thread.join();
  for (std::uint64_t who = 0; who < kProducers; ++who) EXPECT_EQ(judge.seen(who), kEach);
}

TEST(ManyThreads, ATotalOrderHasOneGateForAllAndLosesNothing) {
  const test::Watchdog watchdog(120, "total order of many threads");
  SCOPED_TRACE("SLIPRING_TEST_SEED=" + std::to_string(test::stress_seed()));
  ring::TotalGeometry geometry;
  geometry.capacity = ring::kMinCapacity;
  geometry.owners = kProducers;
  const SharedArea memory(geometry.area_bytes());
  const std::span<std::byte> area{memory.data(), memory.size()};
  ring::format_total_area(area, geometry);
  const ring::TotalView view(area, geometry);
  const auto data_bell = [&](std::uint32_t owner) {
    return wait::BellRef{view.control->ticket, view.control->seq, view.owners[owner].fence};
  };
  std::uint64_t tickets = 0;
  std::vector<std::thread> threads;
  for (std::uint64_t who = 0; who < kProducers; ++who) {
    threads.emplace_back([&, who] {
      const auto slot = ring::take_owner(area);
      ASSERT_THAT(slot, Succeeds());
      auto producer = *ring::TotalProducer<>::attach(area, *slot);
      auto bell =
          *wait::Ringer<>::attach(wait::BellKind::futex, data_bell(slot->index), one_of_many());
      auto gate = *wait::GateSleeper<>::attach(view.control->space_seq, kUnbounded);
      produce(
          who, tickets, producer, [&] { bell.ring_if_parked(); },
          [&](std::size_t size) {
            static_cast<void>(gate.park_unless([&] { producer.set_space_wanted(); },
                                               [&] { return producer.has_room(size); },
                                               Deadline::never()));
          });
      EXPECT_THAT(ring::leave_owner(area, *slot), Succeeds());
    });
  }
  auto consumer = *ring::TotalConsumer<>::attach(area, ring::Predecessor::none);
  auto sleeper = *wait::Sleeper<>::attach(wait::BellKind::futex, data_bell(0), unbounded(true));
  const auto open_gate = [&] {
    wait::full_fence();
    if (consumer.space_wanted_seen()) wait::open_gate(view.control->space_seq);
  };
  Judge judge(true);
  while (judge.total() < kProducers * kEach && !testing::Test::HasFailure()) {
    const auto record = consumer.try_peek();
    if (record) {
      judge.see(record->payload);
      if (consumer.release(*record)) open_gate();
      continue;
    }
    if (consumer.tell_read()) open_gate();
    static_cast<void>(
        sleeper.park_unless([&] { return consumer.has_record(); }, Deadline::never()));
  }
  for (std::thread& thread : threads) thread.join();
  for (std::uint64_t who = 0; who < kProducers; ++who) EXPECT_EQ(judge.seen(who), kEach);
}

}  // namespace
}  // namespace slipring

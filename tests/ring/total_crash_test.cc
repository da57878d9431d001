// SPDX-License-Identifier: Apache-2.0
#include <signal.h>

#include <functional>

#include "support/trace_access.h"
#include "total_fixture.h"

// SIGKILL before the k-th access to shared memory, k = 0, 1, ... until the victim outlives k.
namespace slipring::ring {
namespace {

using test::SharedArea;
using test::TraceAccess;

/// Runs `victim` in a child that kills itself before access `k`. True when it came to its end.
bool run_and_kill_at(std::uint64_t k, const std::function<void()>& victim) {
  Child child([&] {
    ::alarm(20);
    TraceAccess::clear();
    TraceAccess::keeps_trace = false;
    TraceAccess::before_access = [k](std::uint64_t index) {
      if (index == k) ::kill(::getpid(), SIGKILL);
    };
    victim();
  });
  const test::Ending end = child.wait();
  EXPECT_TRUE(end.exited_with(0) || end.killed_by(SIGKILL)) << testing::PrintToString(end);
  return end.exited_with(0);
}

std::size_t size_of(std::uint64_t n) { return n * 37 % 150; }

/// What a victim says outside the ring of how far it came.
struct Log {
  std::uint64_t committed;  // commits that returned
  std::uint64_t released;
};

class TotalCrash : public testing::TestWithParam<std::uint64_t> {
 protected:
  /// A ring that has gone round, with records of the parent before and behind the victim's.
  [[nodiscard]] static std::unique_ptr<TestTotal> used_ring() {
    auto ring = std::make_unique<TestTotal>();
    auto producer = *ring->producer();
    auto consumer = *ring->consumer();
    while (producer.claim_pos() + 64 < kMinCapacity + GetParam()) {
      EXPECT_THAT(send(producer, 1, 56), Succeeds());
      expect_next(consumer, 1, 56);
    }
    consumer.tell_read();
    EXPECT_THAT(leave_owner(ring->area(), producer.slot()), Succeeds());
    return ring;
  }
  /// Resolves what the dead left, whoever they were.
  static void reap_all(const TestTotal& ring) {
    for (std::uint32_t i = 0; i < ring.geometry().owners; ++i) {
      const auto reaped = reap(ring.area(), i);
      EXPECT_TRUE(reaped || reaped.error().code == Errc::in_use) << reaped.error().op;
    }
  }
};

constexpr std::uint16_t kVictim = 1000;  // its types start here

void produce(const TestTotal& ring, Log& log) {
  auto producer = ring.producer<TraceAccess>();
  if (!producer) ::_exit(3);
  const auto put = [&](std::uint64_t n, std::size_t claimed) {
    const auto claim = producer->try_claim(std::max(claimed, size_of(n)));
    if (!claim) ::_exit(4);
    std::vector<std::byte> payload(size_of(n));
    fill_pattern(payload, n);
    const std::size_t half = payload.size() / 2;  // killed in the middle of the payload, too
    TraceAccess::copy_in(claim->payload.data(), payload.data(), half);
    TraceAccess::copy_in(claim->payload.data() + half, payload.data() + half,
                         payload.size() - half);
    producer->commit(payload.size(), static_cast<std::uint16_t>(kVictim + n));
    ++log.committed;
  };
  put(0, 0);
  put(1, 400);  // commits less than it claimed
  if (const auto claim = producer->try_claim(700)) producer->abort();
  put(2, 600);
  put(3, 0);
  if (!producer->try_claim(30)) ::_exit(5);  // left open
  if (!leave_owner<TraceAccess>(ring.area(), producer->slot())) ::_exit(6);
}

TEST_P(TotalCrash, EachRecordIsWholeOrAbsentWhereverItsProducerDies) {
  const SharedArea memory(4096);
  auto& log = memory.as<Log>();
  bool outlived = false;
  std::uint64_t k = 0;
  for (; !outlived && !HasFailure(); ++k) {
    SCOPED_TRACE(k);
    log = {};
    const auto ring = used_ring();
    auto living = *ring->producer();
    auto consumer = *ring->consumer();
    outlived = run_and_kill_at(k, [&] { produce(*ring, log); });
    // Records of the living come behind; the claim of the dead may hold them up.
    for (std::uint64_t n = 0; n < 5; ++n) ASSERT_THAT(send(living, n, size_of(n)), Succeeds());
    reap_all(*ring);

    std::uint64_t of_victim = 0, of_living = 0;
    for (auto record = consumer.try_peek(); record; record = consumer.try_peek()) {
      const bool victims = record->type >= kVictim;
      const std::uint64_t n = victims ? of_victim++ : of_living++;
      EXPECT_EQ(record->type, victims ? kVictim + n : n);
      EXPECT_EQ(record->payload.size(), size_of(n));
      EXPECT_TRUE(has_pattern(record->payload, n));
      consumer.release(*record);
    }
    EXPECT_FALSE(consumer.blocked_by());
    EXPECT_EQ(of_living, 5u);
    EXPECT_GE(of_victim, log.committed) << "a committed record is lost";
    EXPECT_LE(of_victim, log.committed + 1);
    // The counters of the dead lag by one message at most.
    std::uint64_t told = 0;
    for (std::uint32_t i = 0; i < 4; ++i) told += Native::load_relaxed(ring->owner(i).messages);
    const std::uint64_t all = consumer.messages();
    EXPECT_LE(told, all);
    EXPECT_LE(all - told, 1u);
    // Every entry but ours is free again, and the room is whole.
    for (int i = 0; i < 3; ++i) EXPECT_THAT(take_owner(ring->area()), Succeeds());
    for (std::uint64_t n = 0; n < 100; ++n) {
      ASSERT_THAT(send(living, n, size_of(n) * 6), Succeeds());
      expect_next(consumer, n, size_of(n) * 6);
    }
  }
  EXPECT_GT(k, 50u) << "the victim was to die at each of its accesses";
}

TEST_P(TotalCrash, NoRecordIsLostOrUnflaggedWhereverItsConsumerDies) {
  const SharedArea memory(4096);
  auto& log = memory.as<Log>();
  bool outlived = false;
  std::uint64_t k = 0;
  for (; !outlived && !HasFailure(); ++k) {
    SCOPED_TRACE(k);
    log = {};
    const auto ring = used_ring();
    auto producer = *ring->producer();
    const std::uint64_t before = Native::load_relaxed(ring->control().messages);
    constexpr std::uint64_t kFirst = 14;
    for (std::uint64_t n = 0; n < kFirst; ++n) {
      ASSERT_THAT(send(producer, n, size_of(n)), Succeeds());
      if (n % 4 == 3 && producer.try_claim(20)) producer.abort();
    }
    outlived = run_and_kill_at(k, [&] {
      auto consumer = ring->consumer<TraceAccess>(Predecessor::dead);
      if (!consumer) ::_exit(3);
      std::vector<Record> records(3);
      for (int i = 0; i < 4; ++i) {
        const auto found = consumer->peek_many(records);
        if (!found) ::_exit(4);
        log.released = records[*found - 1].number - before;
        consumer->release(records[*found - 1]);
      }
      consumer->tell_read();
      if (consumer->space_wanted_seen()) ::_exit(5);
    });
    auto consumer = *ring->consumer(Predecessor::dead);
    EXPECT_LE(consumer.messages() - before, log.released) << "a record that nobody saw is lost";
    ASSERT_THAT(send(producer, kFirst, 8), Succeeds());
    for (std::uint64_t n = consumer.messages() - before; n < kFirst; ++n) {
      const auto record = consumer.try_peek();
      ASSERT_THAT(record, Succeeds());
      EXPECT_EQ(record->number, before + n + 1);
      EXPECT_TRUE(record->redelivered);
      EXPECT_TRUE(has_pattern(record->payload, n)) << "numbered wrongly";
      consumer.release(*record);
    }
    EXPECT_FALSE(consumer.try_peek()->redelivered);
  }
  EXPECT_GT(k, 30u);
}

// Reapers die everywhere, one behind the other; the last one finishes.
TEST_P(TotalCrash, ReapingIsRepeatedWhereverAReaperDies) {
  bool outlived = false;
  std::uint64_t k = 0;
  for (; !outlived && !HasFailure(); ++k) {
    SCOPED_TRACE(k);
    const auto ring = used_ring();
    auto living = *ring->producer();
    auto consumer = *ring->consumer();
    auto late = *TotalProducer<>::attach(ring->area(), ring->slot_of_the_dead());
    ASSERT_THAT(send(living, 0, 40), Succeeds());
    ASSERT_THAT(late.try_claim(200), Succeeds());
    ASSERT_THAT(send(living, 1, 40), Succeeds());
    const std::uint32_t index = late.slot().index;
    outlived = run_and_kill_at(k, [&] {
      if (!reap<TraceAccess>(ring->area(), index)) ::_exit(3);
      const auto slot = take_owner<TraceAccess>(ring->area());  // and takers with them
      if (!slot) ::_exit(4);
    });
    run_and_kill_at(k * 5 % 31, [&] {
      if (!reap<TraceAccess>(ring->area(), index)) ::_exit(3);
    });
    reap_all(*ring);
    expect_next(consumer, 0, 40);
    expect_next(consumer, 1, 40);
    EXPECT_THAT(consumer.try_peek(), FailsWith(Errc::empty));
    EXPECT_FALSE(consumer.blocked_by());
  }
  EXPECT_GT(k, 40u);
}

// The last starts make the victim pad: in its first message, in a later one.
INSTANTIATE_TEST_SUITE_P(Starts, TotalCrash, testing::Values(0, 4096 - 64, 4096 - 512, 4096 - 1024),
                         [](const auto& param) { return "from" + std::to_string(param.param); });

}  // namespace
}  // namespace slipring::ring

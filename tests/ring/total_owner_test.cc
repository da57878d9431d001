// SPDX-License-Identifier: Apache-2.0
#include <numeric>
#include <set>

#include "support/trace_access.h"
#include "support/watchdog.h"
#include "total_fixture.h"

// Who may claim, and what becomes of what the dead claimed.
namespace slipring::ring {
namespace {

using test::AccessKind;
using test::TraceAccess;

TEST(TotalOwner, TakesEachEntryOnceAndSaysWhenAllAreHeld) {
  const TestTotal ring;
  std::set<std::uint32_t> indices;
  std::vector<OwnerSlot> slots;
  for (int i = 0; i < 4; ++i) {
    const auto slot = take_owner(ring.area());
    ASSERT_THAT(slot, Succeeds());
    indices.insert(slot->index);
    slots.push_back(*slot);
  }
  EXPECT_EQ(indices.size(), 4u);
  const auto refused = take_owner(ring.area());
  ASSERT_THAT(refused, FailsWith(Errc::in_use));
  EXPECT_STREQ(refused.error().op, "total: no owner slot");
  EXPECT_THAT(leave_owner(ring.area(), slots[2]), Succeeds());
  const auto again = take_owner(ring.area());
  ASSERT_THAT(again, Succeeds());
  EXPECT_EQ(again->index, slots[2].index);
  EXPECT_EQ(again->generation, slots[2].generation + 1);
}

// Read anew at each entry, a geometry that changes meanwhile would decide what an index means.
TEST(TotalOwner, TakesAnEntryByTheGeometryOfTheFirstLook) {
  const TestTotal ring;
  ASSERT_THAT(take_owner(ring.area()), Succeeds());
  const auto trace = TraceAccess::record([&] {
    TraceAccess::before_access = [&](std::uint64_t index) {
      if (index == 7) Native::store_release(ring.control().magic, 0);  // behind all words of it
    };
    EXPECT_THAT(take_owner<TraceAccess>(ring.area()), Succeeds());
  });
  TraceAccess::before_access = nullptr;
  const auto of_geometry = [&](const test::TracedAccess& access) {
    return access.within(ring.area().data(), offsetof(TotalControl, role));
  };
  EXPECT_EQ(std::count_if(trace.begin(), trace.end(), of_geometry), 7);
}

TEST(TotalOwner, HasRoomForAsManyAsADescriptorCanName) {
  const TestTotal ring(TestTotal::small(kMaxOwners));
  OwnerSlot last;
  for (std::uint32_t i = 0; i < kMaxOwners; ++i) {
    const auto slot = take_owner(ring.area());
    ASSERT_THAT(slot, Succeeds());
    last = *slot;
  }
  EXPECT_EQ(last.index, kMaxOwners - 1);
  auto producer = TotalProducer<>::attach(ring.area(), last);
  auto consumer = *ring.consumer();
  ASSERT_THAT(producer->try_claim(8), Succeeds());
  EXPECT_THAT(consumer.try_peek(), FailsWith(Errc::empty));
  EXPECT_EQ(consumer.blocked_by()->owner, last.index);
  producer->commit(8);
  EXPECT_THAT(consumer.try_peek(), Succeeds());
}

TEST(TotalOwner, RefusesAProducerWhoseEntryIsNotHeldWithItsGeneration) {
  const TestTotal ring;
  const auto slot = *take_owner(ring.area());
  using Producer = TotalProducer<>;
  EXPECT_THAT(Producer::attach(ring.area(), slot), Succeeds());
  EXPECT_THAT(Producer::attach(ring.area(), {slot.index, slot.generation + 1}),
              FailsWith(Errc::in_use));
  EXPECT_THAT(Producer::attach(ring.area(), {3, 0}), FailsWith(Errc::in_use));
  EXPECT_THAT(Producer::attach(ring.area(), {4, 0}), FailsWith(Errc::invalid_argument));
  EXPECT_THAT(leave_owner(ring.area(), {slot.index, slot.generation + 1}),
              FailsWith(Errc::invalid_argument));
  EXPECT_THAT(leave_owner(ring.area(), {4, 0}), FailsWith(Errc::invalid_argument));
  EXPECT_THAT(leave_owner(ring.area(), slot), Succeeds());
  EXPECT_THAT(leave_owner(ring.area(), slot), FailsWith(Errc::invalid_argument));
}

TEST(TotalOwner, AbortsAClaimLeftOpenBecauseItWouldHoldUpEveryone) {
  const TestTotal ring;
  auto leaver = *ring.producer();
  auto other = *ring.producer();
  auto consumer = *ring.consumer();
  ASSERT_THAT(leaver.try_claim(100), Succeeds());
  ASSERT_THAT(send(other, 2, 8), Succeeds());
  EXPECT_THAT(leave_owner(ring.area(), leaver.slot()), Succeeds());
  expect_next(consumer, 2, 8);
}

TEST(TotalOwner, GoesOnCountingWhereThePredecessorStopped) {
  const TestTotal ring(TestTotal::small(1));
  for (std::uint64_t turn = 1; turn < 4; ++turn) {
    auto producer = *ring.producer();
    ASSERT_THAT(send(producer, 1, 10), Succeeds());
    EXPECT_EQ(producer.messages(), turn);
    EXPECT_EQ(Native::load_relaxed(ring.owner(0).bytes), 10 * turn);
    ASSERT_THAT(leave_owner(ring.area(), producer.slot()), Succeeds());
  }
}

TEST(TotalReap, TouchesNothingOfTheLiving) {
  const TestTotal ring;
  auto producer = *ring.producer();
  ASSERT_THAT(producer.try_claim(8), Succeeds());
  const auto before = ring.snapshot();
  EXPECT_THAT(reap(ring.area(), producer.slot().index), FailsWith(Errc::in_use));
  EXPECT_EQ(*reap(ring.area(), 3), 0u) << "nobody ever held that entry";
  EXPECT_THAT(reap(ring.area(), 4), FailsWith(Errc::invalid_argument));
  EXPECT_EQ(ring.snapshot(), before);
}

// Whoever writes another holder into the role whenever we look could lead us on for ever.
TEST(TotalReap, EndsInBoundedLooksWhenTheEntryChangesHandsAtEachOfThem) {
  const TestTotal ring;
  auto producer = *ring.producer();
  ASSERT_THAT(producer.try_claim(8), Succeeds());
  auto& role = ring.owner(producer.slot().index).role;
  TraceAccess::clear();
  TraceAccess::keeps_trace = false;
  TraceAccess::before_access = [&](std::uint64_t) {
    RoleWord next = RoleWord::decode(Native::load_acquire(role));
    next.generation = (next.generation + 1) & 0xffffff;
    Native::store_release(role, next.encode());
  };
  EXPECT_THAT(reap<TraceAccess>(ring.area(), producer.slot().index), FailsWith(Errc::in_use));
  TraceAccess::before_access = nullptr;
  TraceAccess::keeps_trace = true;
  EXPECT_LE(TraceAccess::count, 8 + kMaxLooks * std::uint64_t{20});
  EXPECT_GE(TraceAccess::count, std::uint64_t{kMaxLooks}) << "not at the first change";
  EXPECT_EQ(ring.look_at(0).state, RecordState::claimed);
}

TEST(TotalReap, TouchesNothingOfTheStopped) {
  const test::Watchdog watchdog(20, "stopped claimer");
  const TestTotal ring;
  const test::ProcessEvent go;
  const test::ProcessEvent done;
  Child claimer([&] {
    auto producer = ring.producer();
    if (!producer || !producer->try_claim(8)) return 1;
    done.raise();
    if (!go.wait()) return 2;
    producer->commit(8, 77);
    return 0;
  });
  ASSERT_TRUE(done.wait());
  claimer.stop();
  auto consumer = *ring.consumer();
  EXPECT_THAT(consumer.try_peek(), FailsWith(Errc::empty));
  const auto blocked = consumer.blocked_by();
  ASSERT_TRUE(blocked);
  EXPECT_THAT(reap(ring.area(), blocked->owner), FailsWith(Errc::in_use));
  claimer.resume();
  go.raise();
  EXPECT_TRUE(claimer.wait().exited_with(0));
  EXPECT_EQ(*reap(ring.area(), blocked->owner), 0u) << "committed: nothing to resolve";
  EXPECT_EQ(consumer.try_peek()->type, 77);
}

struct ReapParam {
  const char* name;
  std::uint64_t start;    // offset in the lap of the first record
  std::size_t dead_size;  // payload that the dead claimed
};
class TotalReapPlace : public testing::TestWithParam<ReapParam> {};

// The open claim of the dead is record d of eight; those behind it are committed and held up. Six
// of the dead one's own records are committed, too.
TEST_P(TotalReapPlace, MakesTheOpenClaimDeadAndLosesNothingElse) {
  for (std::uint64_t d = 0; d < 8 && !HasFailure(); ++d) {
    SCOPED_TRACE(d);
    const TestTotal ring;
    ring.start_at(5 * kMinCapacity + GetParam().start);
    auto late = *TotalProducer<>::attach(ring.area(), ring.slot_of_the_dead());
    auto living = *ring.producer();
    auto consumer = *ring.consumer();
    for (std::uint64_t n = 0; n < 8; ++n) {
      if (n == d) {
        ASSERT_THAT(late.try_claim(GetParam().dead_size), Succeeds());
      } else {
        ASSERT_THAT(send(n < d ? late : living, n, 50 + n), Succeeds());
      }
    }
    for (std::uint64_t n = 0; n < d; ++n) expect_next(consumer, n, 50 + n);
    EXPECT_THAT(consumer.try_peek(), FailsWith(Errc::empty));
    ASSERT_TRUE(consumer.blocked_by());
    EXPECT_EQ(consumer.blocked_by()->owner, late.slot().index);
    EXPECT_EQ(consumer.blocked_by()->position, late.claim_pos());

    EXPECT_EQ(*reap(ring.area(), late.slot().index), 1u);
    EXPECT_EQ(*reap(ring.area(), late.slot().index), 0u) << "repeated: nothing is left";
    for (std::uint64_t n = d + 1; n < 8; ++n) expect_next(consumer, n, 50 + n);
    EXPECT_THAT(consumer.try_peek(), FailsWith(Errc::empty));
    EXPECT_FALSE(consumer.blocked_by());
    for (std::uint64_t n = 0; n < 200; ++n) {  // and the room is whole again
      ASSERT_THAT(send(living, n, n * 29 % 900), Succeeds());
      expect_next(consumer, n, n * 29 % 900);
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Places, TotalReapPlace,
                         testing::Values(ReapParam{"in_the_lap", 0, 100},
                                         ReapParam{"one_granule", 1024, 0},
                                         ReapParam{"last_granule", 4096 - 64, 56},
                                         ReapParam{"behind_padding", 4096 - 8 * 64, 900},
                                         ReapParam{"around_the_wrap", 4096 - 5 * 64, 200}),
                         [](const auto& param) { return std::string(param.param.name); });

// A slow reaper stands among records that are consumed and written over while it looks; those up to
// the claim of the dead, which nobody passes.
TEST(TotalReap, WalksOnFromReadPosWhenTheRingOvertakesIt) {
  const TestTotal ring;
  auto late = *TotalProducer<>::attach(ring.area(), ring.slot_of_the_dead());
  auto living = *ring.producer();
  auto consumer = *ring.consumer();
  for (std::uint64_t n = 0; n < 20; ++n) ASSERT_THAT(send(living, n, 40), Succeeds());
  ASSERT_THAT(late.try_claim(40), Succeeds());
  const auto is_descriptor = [&](const test::TracedAccess& access) {
    return access.kind == AccessKind::load && access.within(ring.view().descriptors, 64 * 8);
  };
  bool overtaken = false;
  TraceAccess::clear();
  TraceAccess::before_access = [&](std::uint64_t) {
    const auto& trace = TraceAccess::trace;
    if (overtaken || std::count_if(trace.begin(), trace.end(), is_descriptor) < 5) return;
    overtaken = true;
    for (std::uint64_t n = 0; n < 20; ++n) expect_next(consumer, n, 40);
    consumer.tell_read();
    std::uint64_t n = 21;
    while (send(living, n, 40)) ++n;
    EXPECT_EQ(n, 20u + 64u);
  };
  const auto resolved = reap<TraceAccess>(ring.area(), late.slot().index);
  TraceAccess::before_access = nullptr;
  ASSERT_TRUE(overtaken);
  ASSERT_THAT(resolved, Succeeds());
  EXPECT_EQ(*resolved, 1u);
  const auto& trace = TraceAccess::trace;
  EXPECT_LE(std::count_if(trace.begin(), trace.end(), is_descriptor), 64);
  for (std::uint64_t n = 21; n < 20 + 64; ++n) expect_next(consumer, n, 40);
}

// A reaper stopped just before its swap, for long: another finishes, the entry is taken again, and
// its new holder claims. Nothing of the new holder may be touched.
TEST(TotalReap, AStoppedReaperNeverTouchesASuccessorInTheSameEntry) {
  for (std::uint64_t k = 0;; ++k) {
    SCOPED_TRACE(k);
    const TestTotal ring(TestTotal::small(1));
    const OwnerSlot dead = ring.slot_of_the_dead();
    auto late = *TotalProducer<>::attach(ring.area(), dead);
    auto consumer = *ring.consumer();
    ASSERT_THAT(late.try_claim(40), Succeeds());
    std::optional<TotalProducer<>> successor;
    bool was_done = false;
    TraceAccess::clear();
    TraceAccess::before_access = [&](std::uint64_t index) {
      if (index != k) return;
      was_done = ring.look_at(0).state == RecordState::dead;
      EXPECT_EQ(*reap(ring.area(), dead.index), was_done ? 0u : 1u);
      EXPECT_THAT(consumer.try_peek(), FailsWith(Errc::empty));
      consumer.tell_read();
      successor = *ring.producer();
      ASSERT_EQ(successor->slot().index, dead.index);
      ASSERT_THAT(successor->try_claim(40), Succeeds());
    };
    const auto resolved = reap<TraceAccess>(ring.area(), dead.index);
    TraceAccess::before_access = nullptr;
    if (!successor) {
      EXPECT_EQ(resolved, 1u);
      EXPECT_GT(k, 20u);
      break;
    }
    // It finds the entry in other hands, or nothing of the dead any more.
    EXPECT_TRUE(resolved ? *resolved == (was_done ? 1 : 0) : resolved.error().code == Errc::in_use)
        << k;
    successor->commit(40, 5);
    EXPECT_EQ(consumer.try_peek()->type, 5) << "the living one's claim was resolved";
    if (HasFailure()) break;
  }
}

// The same place, seen by the one who takes over: whatever a dead holder claims after the reaping
// and before the taking is resolved before the successor's first claim.
TEST(TotalReap, WhatAHolderBetweenReapingAndTakingLeftIsResolvedByTheTaker) {
  const TestTotal ring(TestTotal::small(1));
  auto first = *TotalProducer<>::attach(ring.area(), ring.slot_of_the_dead());
  auto consumer = *ring.consumer();
  ASSERT_THAT(first.try_claim(8), Succeeds());
  bool came_and_died = false;
  std::uint64_t swaps = 0;
  TraceAccess::clear();
  TraceAccess::before_access = [&](std::uint64_t) {
    // Right after the first swap, that of the reaping.
    if (came_and_died) return;
    swaps = ring.look_at(0).state == RecordState::dead ? swaps + 1 : 0;
    if (swaps == 0) return;
    came_and_died = true;
    Child child([&] {
      auto producer = ring.producer();
      return producer && producer->try_claim(8) ? 0 : 1;
    });
    EXPECT_TRUE(child.wait().exited_with(0));
  };
  const auto slot = take_owner<TraceAccess>(ring.area());
  TraceAccess::before_access = nullptr;
  ASSERT_TRUE(came_and_died);
  ASSERT_THAT(slot, Succeeds());
  auto producer = *TotalProducer<>::attach(ring.area(), *slot);
  ASSERT_THAT(send(producer, 3, 8), Succeeds());
  expect_next(consumer, 3, 8);
}

TEST(TotalReap, SeveralAtOnceResolveEachClaimOnce) {
  const test::Watchdog watchdog(60, "reapers");
  struct Shared {
    std::uint64_t resolved[3];
  };
  const test::SharedArea counts(sizeof(Shared));
  std::uint64_t total = 0;
  constexpr std::uint64_t kRounds = 60;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    const TestTotal ring;
    ring.start_at(round * 64);
    auto late = *TotalProducer<>::attach(ring.area(), ring.slot_of_the_dead());
    auto living = *ring.producer();
    auto consumer = *ring.consumer();
    for (std::uint64_t n = 0; n < 15; ++n) ASSERT_THAT(send(living, n, 40), Succeeds());
    ASSERT_THAT(late.try_claim(40), Succeeds());
    ASSERT_THAT(send(living, 16, 40), Succeeds());
    const test::ProcessEvent go;
    std::vector<Child> reapers;
    for (std::size_t i = 0; i < 3; ++i) {
      reapers.emplace_back([&, i] {
        if (!go.wait()) return 1;
        const auto resolved = reap(ring.area(), late.slot().index);
        if (!resolved) return 2;
        counts.as<Shared>().resolved[i] += *resolved;
        return 0;
      });
    }
    for (std::size_t i = 0; i < 3; ++i) go.raise();
    for (auto& reaper : reapers) EXPECT_TRUE(reaper.wait().exited_with(0));
    for (std::uint64_t n = 0; n < 15; ++n) expect_next(consumer, n, 40);
    expect_next(consumer, 16, 40);
    ++total;
    if (HasFailure()) return;
  }
  const auto& by = counts.as<Shared>().resolved;
  EXPECT_EQ(std::accumulate(std::begin(by), std::end(by), std::uint64_t{0}), total);
}

// The only free entry is that of a dead one with an open claim: it is reaped, then reused.
TEST(TotalReap, ATakerReapsTheDeadBeforeItReusesTheirEntry) {
  const TestTotal ring(TestTotal::small(2));
  auto living = *ring.producer();
  auto late = *TotalProducer<>::attach(ring.area(), ring.slot_of_the_dead());
  auto consumer = *ring.consumer();
  ASSERT_THAT(late.try_claim(300), Succeeds());
  ASSERT_THAT(send(living, 1, 8), Succeeds());
  auto successor = ring.producer();
  ASSERT_THAT(successor, Succeeds());
  EXPECT_EQ(successor->slot().index, late.slot().index);
  ASSERT_THAT(send(*successor, 2, 8), Succeeds());
  expect_next(consumer, 1, 8);
  expect_next(consumer, 2, 8);
  EXPECT_THAT(take_owner(ring.area()), FailsWith(Errc::in_use));
}

}  // namespace
}  // namespace slipring::ring

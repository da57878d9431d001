// SPDX-License-Identifier: Apache-2.0
#include "pool_fixture.h"

#include "support/oracle_access.h"
#include "support/trace_access.h"

// What the dead leave, and what a list or a table says that nobody should believe.
namespace slipring::pool {
namespace {

constexpr auto kNobody = ParticipantId::nobody;

/// A child that joins, does `body` and is then killed. Returns its number.
template <typename Body>
ParticipantId die_after(const TestPool& memory, Body body) {
  test::SharedArea number(4096);
  Child child = test::sleeper_after([&] {
    static auto pool = memory.join();  // outlives `body`: the child is killed, it does not leave
    *reinterpret_cast<ParticipantId*>(number.data()) = pool.id();
    body(pool);
  });
  EXPECT_TRUE(child.kill().killed_by(SIGKILL));
  return *reinterpret_cast<ParticipantId*>(number.data());
}

TEST(Without, FollowsTheTableOfWhoRecoversWhat) {
  constexpr ParticipantId kDead{3}, kOther{5};
  constexpr std::uint64_t kGen = 77;
  using S = BlockState;
  const BlockWord free{S::free, kNobody, kNobody, kGen + 1};
  const struct {
    BlockWord word, referenced, unreferenced;
  } rows[] = {
      {{S::claimed, kDead, kNobody, kGen}, free, free},
      {{S::lent, kDead, kNobody, kGen}, {S::lent, kNobody, kNobody, kGen}, free},
      {{S::lent, kDead, kOther, kGen}, {S::lent, kNobody, kOther, kGen}, free},
      {{S::lent, kOther, kDead, kGen}, {S::lent, kOther, kNobody, kGen}, free},
      {{S::held, kOther, kDead, kGen}, {S::lent, kOther, kNobody, kGen}, free},
      {{S::held, kDead, kDead, kGen}, {S::lent, kNobody, kNobody, kGen}, free},
      {{S::held, kNobody, kDead, kGen}, {S::lent, kNobody, kNobody, kGen}, free},
      // What the living read stays theirs, referenced or not.
      {{S::held, kDead, kOther, kGen},
       {S::held, kNobody, kOther, kGen},
       {S::held, kNobody, kOther, kGen}},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(without(row.word, kDead, true), row.referenced);
    EXPECT_EQ(without(row.word, kDead, false), row.unreferenced);
  }
  for (const BlockWord word :
       {BlockWord{S::free, kNobody, kNobody, kGen}, BlockWord{S::claimed, kOther, kNobody, kGen},
        BlockWord{S::lent, kOther, kNobody, kGen}, BlockWord{S::held, kOther, kOther, kGen}}) {
    for (const ParticipantId gone : {kDead, kNobody}) {
      EXPECT_EQ(without(word, gone, true), word);
      EXPECT_EQ(without(word, gone, false), word);
    }
  }
}

TEST(BlockPoolReap, TakesBackWhatTheDeadWasFilling) {
  TestPool memory;
  auto pool = memory.join();
  const ParticipantId dead =
      die_after(memory, [](BlockPool<>& victim) { (void)claim_all(victim); });
  EXPECT_EQ(memory.audit().total.claimed, 16u);
  EXPECT_EQ(pool.reap(dead), Result<std::uint64_t>(16u));
  memory.expect_all_free();
  EXPECT_EQ(memory.audit().reaped, 16u);
  EXPECT_EQ(claim_all(pool).size(), 16u);
}

TEST(BlockPoolReap, LeavesWhatTheDeadSentUntilItIsRead) {
  TestPool memory;
  auto pool = memory.join();
  test::SharedArea shared(4096);
  auto* refs = reinterpret_cast<BlockRef*>(shared.data());
  const ParticipantId dead = die_after(memory, [&](BlockPool<>& victim) {
    refs[0] = lend_one(victim);  // committed
    refs[1] = lend_one(victim);  // killed before its commit
  });
  const BlockRef committed[] = {refs[0]};
  EXPECT_EQ(pool.reap(dead, {false, committed}), Result<std::uint64_t>(2u));
  EXPECT_EQ(memory.audit().total.orphans, 1u);
  EXPECT_THAT(pool.hold(refs[1]), FailsWith(Errc::corrupt));
  const auto view = pool.hold(refs[0]);
  ASSERT_THAT(view, Succeeds());
  EXPECT_EQ(view->bytes[99], std::byte{0x5a});
  EXPECT_THAT(pool.release(*view), Succeeds());
  memory.expect_all_free();
}

TEST(BlockPoolReap, KeepsEverythingUnlessToldWhichReferencesThereAre) {
  TestPool memory;
  auto pool = memory.join();
  const ParticipantId dead = die_after(memory, [](BlockPool<>& victim) {
    (void)lend_one(victim);
    (void)lend_one(victim);
  });
  EXPECT_EQ(pool.reap(dead), Result<std::uint64_t>(2u));
  EXPECT_EQ(memory.audit().total.orphans, 2u);
  EXPECT_EQ(pool.free_orphans({}), 2u) << "all lanes are drained";
  memory.expect_all_free();
}

TEST(BlockPoolReap, LendsWhatTheDeadWasReadingToItsSuccessor) {
  TestPool memory;
  auto pool = memory.join();
  const BlockRef unread = lend_one(pool);
  const BlockRef released_record = lend_one(pool);
  const ParticipantId dead = die_after(memory, [&](BlockPool<>& victim) {
    (void)victim.hold(unread);
    (void)victim.hold(released_record);
  });
  EXPECT_THAT(pool.hold(unread), FailsWith(Errc::in_use));
  const BlockRef in_lane[] = {unread};
  EXPECT_EQ(pool.reap(dead, {false, in_lane}), Result<std::uint64_t>(2u));
  EXPECT_THAT(pool.hold(released_record), FailsWith(Errc::corrupt)) << "nobody could name it";
  EXPECT_THAT(pool.release(*pool.hold(unread)), Succeeds());
  memory.expect_all_free();
}

TEST(BlockPoolReap, TouchesNobodyAlive) {
  TestPool memory;
  auto pool = memory.join();
  auto other = memory.join();
  Child sleeping = test::sleeper_after([&] {
    static auto mine = memory.join();
    (void)mine.claim(1);
  });
  sleeping.stop();  // and a stopped process is alive
  const BlockRef ref = lend_one(other);
  for (std::uint16_t slot = 2; slot <= 3; ++slot) {
    EXPECT_THAT(pool.reap(ParticipantId{slot}), FailsWith(Errc::in_use));
  }
  EXPECT_EQ(pool.reap_all(), 0u);
  EXPECT_EQ(memory.audit().total.claimed, 1u);
  EXPECT_THAT(pool.hold(ref), Succeeds());
  EXPECT_TRUE(sleeping.kill().killed_by(SIGKILL));
  EXPECT_EQ(pool.reap_all(), 1u);
}

TEST(BlockPoolReap, RefusesEntriesThatAreNone) {
  TestPool memory;
  auto pool = memory.join();
  EXPECT_THAT(pool.reap(kNobody), FailsWith(Errc::invalid_argument));
  EXPECT_THAT(pool.reap(pool.id()), FailsWith(Errc::invalid_argument));
  EXPECT_THAT(pool.reap(ParticipantId{9}), FailsWith(Errc::invalid_argument));
  EXPECT_THAT(pool.reap(ParticipantId{4095}), FailsWith(Errc::invalid_argument));
  EXPECT_EQ(pool.reap(ParticipantId{5}), Result<std::uint64_t>(0u)) << "nobody ever came";
}

// Between the two looks at its role: the caller hears of no error that the contract does not name.
TEST(BlockPoolReap, AnEntryRetiredWhileItIsReapedIsNobodys) {
  using test::TraceAccess;
  TestPool memory;
  auto reaper = memory.join<TraceAccess>();
  auto other = memory.join();
  const auto slot = static_cast<std::size_t>(other.id()) - 1;
  auto& role =
      reinterpret_cast<ParticipantEntry*>(memory.bytes().data() + kPoolHeaderBytes)[slot].role;
  const std::uint64_t held = Native::load_acquire(role);
  TraceAccess::clear();
  TraceAccess::before_access = [&](std::uint64_t index) {
    if (index == 1) {
      Native::store_release(role, RoleWord{RoleWord::State::retired, 1, 1, 1}.encode());
    }
  };
  EXPECT_EQ(reaper.reap(other.id()), Result<std::uint64_t>(0u));
  TraceAccess::before_access = nullptr;
  Native::store_release(role, held);
}

TEST(BlockPoolReap, GivesTheEntryOfTheDeadToANewcomerOnlyAfterNoWordNamesIt) {
  PoolSpec spec = TestPool::small_spec();
  spec.participants = 1;
  TestPool memory(spec);
  for (int round = 0; round < 3; ++round) {
    die_after(memory, [](BlockPool<>& victim) { (void)claim_all(victim); });
    auto successor = BlockPool<>::attach(memory.bytes());
    ASSERT_THAT(successor, Succeeds());
    memory.expect_all_free();
    EXPECT_EQ(claim_all(*successor).size(), 16u);
  }
  memory.expect_all_free();
}

TEST(BlockPoolReap, NewcomersPreferEntriesThatNeedNoRecovery) {
  TestPool memory;
  const ParticipantId dead = die_after(memory, [](BlockPool<>& victim) { (void)lend_one(victim); });
  auto pool = memory.join();
  EXPECT_NE(pool.id(), dead);
  EXPECT_EQ(memory.audit().total.orphans, 0u) << "whoever knows its lanes may still reap it";
}

// --------------------------------------------------------------------------- what is not believed

class OddLists : public testing::Test {
 protected:
  [[nodiscard]] SharedWord<std::uint64_t>& head() { return memory_.header().lists[0].head; }
  /// Every block can still be had, each once.
  void expect_all_can_be_claimed() {
    auto pool = memory_.join(0);
    std::vector<bool> seen(10, false);
    for (const Block& block : claim_all(pool)) {
      if (block.ref.size_class != 0) continue;
      EXPECT_FALSE(seen[block.ref.index]) << "given out twice";
      seen[block.ref.index] = true;
    }
    EXPECT_EQ(std::count(seen.begin(), seen.end(), true), 10);
    EXPECT_TRUE(memory_.audit().is_whole());
    pool.detach();
    memory_.expect_all_free();
  }
  TestPool memory_;
};

TEST_F(OddLists, AnEmptyListIsReplacedByAScan) {
  Native::store_relaxed(head(), ListTop{7, 0}.encode());
  expect_all_can_be_claimed();
}

TEST_F(OddLists, AHeadOutOfRangeIsReset) {
  for (const std::uint32_t index : {11u, 12u, 0xffffffu}) {
    Native::store_relaxed(head(), ListTop{7, index}.encode());
    expect_all_can_be_claimed();
  }
  EXPECT_EQ(memory_.audit().list_resets, 3u);
}

TEST_F(OddLists, ALinkOutOfRangeIsReset) {
  for (const std::uint64_t link : {std::uint64_t{11}, ~std::uint64_t{0}, std::uint64_t{1} << 32}) {
    Native::store_relaxed(memory_.entry(0, 4).next, link);
    Native::store_relaxed(head(), ListTop{7, 5}.encode());
    expect_all_can_be_claimed();
  }
}

TEST_F(OddLists, ACircleIsCut) {
  Native::store_relaxed(memory_.entry(0, 1).next, 3);
  Native::store_relaxed(memory_.entry(0, 2).next, 2);
  Native::store_relaxed(head(), ListTop{7, 2}.encode());
  expect_all_can_be_claimed();
  EXPECT_EQ(memory_.audit().list_resets, 1u);
  // A block listed below itself.
  Native::store_relaxed(memory_.entry(0, 1).next, 2);
  Native::store_relaxed(head(), ListTop{9, 2}.encode());
  expect_all_can_be_claimed();
}

TEST_F(OddLists, AnIdListedTwiceIsDropped) {
  auto pool = memory_.join(0);
  const BlockRef ref = pool.claim(1)->ref;
  // As if somebody had given it back, too.
  const ListTop top = ListTop::decode(Native::load_relaxed(head()));
  Native::store_relaxed(memory_.entry(ref).next, top.index_plus_1);
  Native::store_relaxed(head(), top.then(ref.index + 1).encode());
  EXPECT_NE(pool.claim(1)->ref.index, ref.index);
  pool.detach();
  expect_all_can_be_claimed();
}

TEST_F(OddLists, WordsThatNoOperationLeavesAreNeverGivenOutAndAreCounted) {
  const std::uint64_t lies[] = {
      7,                                                                       // no such state
      BlockWord{BlockState::free, ParticipantId{1}, kNobody, 1}.encode(),      // free, yet owned
      BlockWord{BlockState::claimed, kNobody, kNobody, 1}.encode(),            // by nobody
      BlockWord{BlockState::held, ParticipantId{1}, kNobody, 1}.encode(),      //
      BlockWord{BlockState::lent, ParticipantId{9}, kNobody, 1}.encode(),      // not of this pool
      BlockWord{BlockState::claimed, ParticipantId{8}, kNobody, 1}.encode()};  // who never came
  for (std::size_t i = 0; i < std::size(lies); ++i) {
    Native::store_relaxed(memory_.entry(0, static_cast<std::uint32_t>(i)).word, lies[i]);
  }
  EXPECT_FALSE(memory_.audit().is_whole());
  EXPECT_EQ(memory_.audit().total.odd, std::size(lies));
  auto pool = memory_.join();
  EXPECT_EQ(claim_all(pool).size(), 16u - std::size(lies));
  for (std::size_t i = 0; i < std::size(lies); ++i) {
    const BlockRef ref{static_cast<std::uint16_t>(memory_.geometry().pool_id),
                       0,
                       0,
                       static_cast<std::uint32_t>(i),
                       1,
                       0,
                       1};
    if (i != 0) {
      EXPECT_THAT(pool.hold(ref), FailsWith(Errc::corrupt)) << i;
    }
    EXPECT_EQ(Native::load_relaxed(memory_.entry(ref).word), lies[i]) << "nobody guesses";
  }
}

// Every load invented, every CAS won or lost at will: each access stays inside the pool, each span
// handed out is a block of it, and each call ends in bounded loads (I9, I10).
TEST(BlockPoolTrust, StaysInsideThePoolAndEndsWhateverMemorySays) {
  using Access = test::OracleAccess;
  Watchdog watchdog(60, "hostile pool");
  std::uint64_t random = 0x9e3779b97f4a7c15;
  const auto next = [&random] {
    random ^= random << 13;
    random ^= random >> 7;
    return random ^= random << 17;
  };
  int claimed = 0, held = 0;
  for (int run = 0; run < 10'000; ++run) {
    TestPool memory;
    std::vector<std::uint8_t> input(1024);
    // Sparse input: mostly zeros and small numbers, as plausible words are.
    for (auto& byte : input) byte = next() % 3 == 0 ? static_cast<std::uint8_t>(next()) : 0;
    // Attaching is heard out: memory is as it is, each CAS wins.
    const std::vector<std::uint8_t> honest(4096, 1);
    Access::feed(honest, Access::Mode::sticky);
    Access::allow(memory.bytes(), test::Rights::read_write);
    auto pool = BlockPool<Access>::attach(memory.bytes());
    ASSERT_THAT(pool, Succeeds());
    Access::feed(input, run % 2 == 0 ? Access::Mode::free : Access::Mode::sticky);
    Access::allow(memory.bytes(), test::Rights::read_write);
    const auto expect_inside = [&](std::span<const std::byte> bytes) {
      EXPECT_GE(bytes.data(), memory.bytes().data() + memory.geometry().data_offset);
      EXPECT_LE(bytes.data() + bytes.size(), memory.bytes().data() + memory.bytes().size());
    };
    BlockRef last;
    for (int call = 0; call < 12; ++call) {
      Access::limit_loads(8 * 1024);
      BlockRef ref{static_cast<std::uint16_t>(memory.geometry().pool_id),
                   static_cast<std::uint8_t>(next() % 7),
                   0,
                   static_cast<std::uint32_t>(next() % 12),
                   next() % 3,
                   static_cast<std::uint32_t>(next() % 300),
                   static_cast<std::uint32_t>(next() % 300)};
      if (next() % 2 == 0) ref = last;
      switch (next() % 6) {
        case 0:
          if (auto block = pool->claim(next() % 9000)) {
            expect_inside(block->bytes);
            ++claimed;
            if (const auto lent = pool->lend(*block, 10)) last = *lent;
          }
          break;
        case 1:
          if (auto view = pool->hold(ref)) {
            expect_inside(view->bytes);
            ++held;
            (void)pool->release(*view);
          }
          break;
        case 2: (void)pool->release({{}, ref}); break;
        case 3: (void)pool->reclaim(ref); break;
        case 4: (void)pool->free_orphans({&ref, 1}); break;
        default: (void)pool->audit();
      }
    }
    Access::limit_loads(8 * 1024);
    pool->detach();
  }
  EXPECT_GT(claimed, 1000);
  EXPECT_GT(held, 100);
}

}  // namespace
}  // namespace slipring::pool

// SPDX-License-Identifier: Apache-2.0
#include <signal.h>

#include <functional>
#include <string>

#include "pool_fixture.h"
#include "support/trace_access.h"

// SIGKILL before the k-th access to shared memory, k = 0, 1, ... until the victim outlives k.
namespace slipring::pool {
namespace {

using test::TraceAccess;
using Victim = BlockPool<TraceAccess>;

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
    ::_exit(0);  // without the order of a destructor
  });
  const auto end = child.wait();
  EXPECT_TRUE(end.exited_with(0) || end.killed_by(SIGKILL)) << testing::PrintToString(end);
  return end.exited_with(0);
}

struct Scenario {
  const char* name;
  /// Prepares what the victim finds: references it may hold.
  std::function<std::vector<BlockRef>(BlockPool<>&)> prepare;
  /// Returns by falling through; 0 accesses to its own Block structures are shared.
  std::function<void(Victim&, const std::vector<BlockRef>&)> run;
  std::uint64_t at_least;  // accesses, so that the loop is known to have done something
};

std::vector<BlockRef> nothing(BlockPool<>&) { return {}; }

const Scenario kScenarios[] = {
    {"claim", nothing,
     [](Victim& pool, const auto&) {
       for (int i = 0; i < 12; ++i) (void)pool.claim(1);  // runs the smallest class dry
     },
     60},
    {"claim_and_lend", nothing,
     [](Victim& pool, const auto&) {
       for (int i = 0; i < 3; ++i) (void)pool.lend(*pool.claim(300), 300);
     },
     30},
    {"reclaim_and_claim_again", nothing,
     [](Victim& pool, const auto&) {
       for (int i = 0; i < 3; ++i) {
         const auto block = pool.claim(1);
         const auto lent = pool.claim(1);
         (void)pool.reclaim(block->ref);
         (void)pool.reclaim(*pool.lend(*lent, 1));
       }
     },
     50},
    {"hold_and_release",
     [](BlockPool<>& pool) {
       return std::vector<BlockRef>{lend_one(pool), lend_one(pool), lend_one(pool, 8000)};
     },
     [](Victim& pool, const std::vector<BlockRef>& refs) {
       for (const BlockRef& ref : refs) (void)pool.release(*pool.hold(ref));
     },
     30},
    {"dry_and_scan", nothing,
     [](Victim& pool, const auto&) {
       const auto blocks = [&] {
         std::vector<Block> all;
         while (auto block = pool.claim(1)) all.push_back(*block);
         return all;
       }();
       for (const Block& block : blocks) (void)pool.reclaim(block.ref);
     },
     150},
    {"leave",
     [](BlockPool<>& pool) {
       return std::vector<BlockRef>{lend_one(pool), lend_one(pool)};
     },
     [](Victim& pool, const std::vector<BlockRef>& refs) {
       (void)pool.claim(1);
       (void)pool.hold(refs[0]);
       (void)pool.lend(*pool.claim(1), 1);
       (void)pool.reclaim(pool.claim(1)->ref);
       pool.detach();
     },
     80},
};

class PoolCrash : public testing::TestWithParam<Scenario> {};

// After each kill: every block in one state; reaped, nothing names the dead; all can be had again.
TEST_P(PoolCrash, NoBlockIsLostOrTakenFromTheLivingWhereverItsUserDies) {
  Watchdog watchdog(200, "pool crash");
  const Scenario& scenario = GetParam();
  bool outlived = false;
  std::uint64_t k = 0;
  for (; !outlived && !HasFailure(); ++k) {
    SCOPED_TRACE("killed before access " + std::to_string(k));
    TestPool memory;
    auto pool = memory.join();
    const Block mine = *pool.claim(1);  // stays ours, whatever happens
    const auto refs = scenario.prepare(pool);
    outlived = run_and_kill_at(k, [&] {
      auto victim = Victim::attach(memory.bytes());
      if (!victim) ::_exit(3);
      scenario.run(*victim, refs);
    });
    ASSERT_TRUE(memory.audit().is_whole());

    // What was lent before and not released can be read by a successor in its lane.
    ASSERT_LE(pool.reap_all(), 16u);
    for (const BlockRef& ref : refs) {
      const BlockWord word = memory.word(ref);
      if (word.generation != ref.generation) continue;  // it was released
      const auto view = pool.hold(ref);
      ASSERT_THAT(view, Succeeds());
      EXPECT_EQ(view->bytes[0], std::byte{0x5a});
      EXPECT_THAT(pool.release(*view), Succeeds());
    }
    PoolAudit found = memory.audit();
    ASSERT_TRUE(found.is_whole());
    EXPECT_EQ(found.participants, 1u);
    EXPECT_EQ(found.total.claimed, 1u) << "ours";
    EXPECT_EQ(found.total.held, 0u);
    EXPECT_EQ(found.total.lent, found.total.orphans);
    pool.free_orphans({});  // lent by the victim, and never committed
    EXPECT_EQ(memory.audit().total.free, 15u);
    EXPECT_EQ(memory.word(mine.ref).owner, pool.id());
    EXPECT_EQ(claim_all(pool).size(), 15u);
    EXPECT_TRUE(memory.audit().is_whole());
  }
  EXPECT_GE(k, scenario.at_least);
}

INSTANTIATE_TEST_SUITE_P(Operations, PoolCrash, testing::ValuesIn(kScenarios),
                         [](const auto& scenario) { return std::string(scenario.param.name); });

// The price of a block: words touched, each control word fetched once.
TEST(PoolAccess, EachStepLoadsItsWordOnceAndChangesItOnce) {
  using test::AccessKind;
  TestPool memory;
  auto sender = memory.join<TraceAccess>(0);
  auto receiver = memory.join<TraceAccess>(0);
  const auto kinds = [](auto&& operation) {
    std::vector<AccessKind> found;
    std::vector<const std::byte*> loaded;
    for (const auto& access : TraceAccess::record(operation)) {
      found.push_back(access.kind);
      if (access.kind != AccessKind::load) continue;
      EXPECT_EQ(std::count(loaded.begin(), loaded.end(), access.address), 0) << "loaded twice";
      loaded.push_back(access.address);
    }
    return found;
  };
  using Kinds = std::vector<AccessKind>;
  constexpr auto kLoad = AccessKind::load, kStore = AccessKind::store, kCas = AccessKind::cas;
  TraceAccess::keeps_trace = true;
  TraceAccess::before_access = nullptr;
  Block block;
  BlockRef ref;
  BlockView view;
  // Head, link, head; word, word; the counter.
  EXPECT_EQ(kinds([&] { block = *sender.claim(1); }),
            (Kinds{kLoad, kLoad, kCas, kLoad, kCas, kStore}));
  EXPECT_EQ(kinds([&] { ref = *sender.lend(block, 1); }), (Kinds{kLoad, kCas}));
  EXPECT_EQ(kinds([&] { view = *receiver.hold(ref); }), (Kinds{kLoad, kCas}));
  EXPECT_EQ(kinds([&] { EXPECT_TRUE(receiver.release(view)); }),
            (Kinds{kLoad, kCas, kStore, kLoad, kStore, kCas}));
  // From the cache, and into it.
  auto duplex = memory.join<TraceAccess>(16);
  EXPECT_TRUE(duplex.reclaim(duplex.claim(1)->ref));
  EXPECT_EQ(kinds([&] { block = *duplex.claim(1); }), (Kinds{kLoad, kCas, kStore}));
  EXPECT_EQ(kinds([&] { EXPECT_TRUE(duplex.reclaim(block.ref)); }), (Kinds{kLoad, kCas, kStore}));
}

// One that recovers is stopped; nobody takes its work over while it lives, and nobody else waits.
TEST(PoolPause, AStoppedReaperHoldsUpNothingButTheEntryThatItReaps) {
  Watchdog watchdog(60, "stopped reaper");
  TestPool memory;
  auto pool = memory.join();
  Child dead = test::sleeper_after([&] {
    static auto victim = memory.join();
    for (int i = 0; i < 5; ++i) (void)victim.claim(1);
  });
  EXPECT_TRUE(dead.kill().killed_by(SIGKILL));
  const ParticipantId entry{2};
  Child reaper([&] {
    TraceAccess::keeps_trace = false;
    auto mine = Victim::attach(memory.bytes());
    if (!mine) return 2;
    TraceAccess::before_access = [&, stopped = false](std::uint64_t) mutable {
      // Two of five are done: in the middle of the table.
      if (stopped || memory.audit().total.claimed != 3) return;
      stopped = true;
      ::raise(SIGSTOP);
    };
    const auto reaped = mine->reap(entry);
    TraceAccess::before_access = nullptr;
    return reaped && *reaped == 5 ? 0 : 3;
  });
  siginfo_t info{};
  retry_eintr([&] {
    return ::waitid(P_PID, static_cast<id_t>(reaper.pid()), &info, WSTOPPED | WEXITED | WNOWAIT);
  });
  ASSERT_EQ(info.si_code, CLD_STOPPED);
  EXPECT_THAT(pool.reap(entry), FailsWith(Errc::in_use));
  EXPECT_TRUE(memory.audit().is_whole());
  EXPECT_EQ(claim_all(pool).size(), 13u) << "all but what it has still to free";
  reaper.resume();
  EXPECT_TRUE(reaper.wait().exited_with(0));
  EXPECT_EQ(claim_all(pool).size(), 3u);
}

// The recoverer dies at each of its accesses, and the next one as well.
TEST(ReaperCrash, RecoveryIsFinishedByWhoeverComesNext) {
  Watchdog watchdog(200, "reaper crash");
  bool outlived = false;
  std::uint64_t k = 0;
  for (; !outlived && !HasFailure(); ++k) {
    SCOPED_TRACE("killed before access " + std::to_string(k));
    TestPool memory;
    auto pool = memory.join();
    const BlockRef unread = lend_one(pool);
    const BlockRef addressed = lend_one(pool, 1, ParticipantId{2});
    Child dead = test::sleeper_after([&] {
      static auto victim = memory.join();
      if (victim.id() != ParticipantId{2}) ::_exit(3);
      (void)victim.hold(unread);
      (void)victim.claim(1);
      (void)victim.claim(5000);
      (void)lend_one(victim);
      const BlockRef self = lend_one(victim);
      (void)victim.hold(self);
    });
    EXPECT_TRUE(dead.kill().killed_by(SIGKILL));
    const auto reap = [&] {
      auto reaper = Victim::attach(memory.bytes());
      if (!reaper) ::_exit(3);
      (void)reaper->reap_all();
      ::_exit(0);
    };
    outlived = run_and_kill_at(k, reap);
    run_and_kill_at(k * 7 % 31, reap);
    ASSERT_TRUE(memory.audit().is_whole());
    (void)pool.reap_all();
    const PoolAudit found = memory.audit();
    ASSERT_TRUE(found.is_whole());
    EXPECT_EQ(found.participants, 1u) << "no entry of the dead is left";
    EXPECT_EQ(found.total.claimed, 0u);
    EXPECT_EQ(found.total.held, 0u);
    EXPECT_EQ(found.total.lent, 4u);
    EXPECT_EQ(found.total.orphans, 2u);
    EXPECT_THAT(pool.release(*pool.hold(unread)), Succeeds());
    EXPECT_THAT(pool.release(*pool.hold(addressed)), Succeeds());
    EXPECT_EQ(pool.free_orphans({}), 2u);
    memory.expect_all_free();
    EXPECT_EQ(claim_all(pool).size(), 16u);
  }
  EXPECT_GE(k, 60u);
}

// Stopped inside each step, its blocks stay its own; continued, it goes on where it was (T3).
TEST(PoolPause, NothingOfAStoppedUserIsReused) {
  Watchdog watchdog(200, "pool pause");
  bool ran_out = false;
  for (std::uint64_t k = 0; !ran_out && !HasFailure(); ++k) {
    SCOPED_TRACE("stopped before access " + std::to_string(k));
    TestPool memory;
    auto pool = memory.join(0);
    const BlockRef ref = lend_one(pool);
    Child victim([&] {
      ::alarm(30);
      TraceAccess::clear();
      TraceAccess::keeps_trace = false;
      auto mine = Victim::attach(memory.bytes());
      if (!mine) return 2;
      TraceAccess::clear();
      TraceAccess::before_access = [k](std::uint64_t index) {
        if (index == k) ::raise(SIGSTOP);
      };
      const auto block = mine->claim(1);
      if (!block) return 3;
      std::memset(block->bytes.data(), 0x33, block->bytes.size());
      const auto view = mine->hold(ref);
      if (!view || view->bytes[0] != std::byte{0x5a}) return 4;
      if (!mine->release(*view)) return 5;
      for (const std::byte byte : block->bytes) {
        if (byte != std::byte{0x33}) return 6;
      }
      if (!mine->reclaim(block->ref)) return 7;
      TraceAccess::before_access = nullptr;
      return TraceAccess::count <= k ? 100 : 0;
    });
    siginfo_t info{};
    retry_eintr([&] {
      return ::waitid(P_PID, static_cast<id_t>(victim.pid()), &info, WSTOPPED | WEXITED | WNOWAIT);
    });
    if (info.si_code == CLD_STOPPED) {
      EXPECT_EQ(pool.reap_all(), 0u);
      for (int round = 0; round < 3; ++round) {
        const auto blocks = claim_all(pool);
        EXPECT_GE(blocks.size(), 13u);
        for (const Block& block : blocks) std::memset(block.bytes.data(), 0xee, block.bytes.size());
        for (const Block& block : blocks) EXPECT_THAT(pool.reclaim(block.ref), Succeeds());
      }
      EXPECT_TRUE(memory.audit().is_whole());
      victim.resume();
    }
    const auto end = victim.wait();
    ran_out = end.exited_with(100);
    EXPECT_TRUE(ran_out || end.exited_with(0)) << testing::PrintToString(end);
    memory.expect_all_free();
  }
}

}  // namespace
}  // namespace slipring::pool

// SPDX-License-Identifier: Apache-2.0
#include "slipring/base/role.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "support/child.h"
#include "support/matchers.h"
#include "support/shared_area.h"
#include "support/trace_access.h"
#include "support/watchdog.h"

namespace slipring {
namespace {

using State = RoleWord::State;
using Peer = RoleWatch::Peer;
using test::Child;
using test::FailsWith;
using test::Succeeds;

struct SharedRole {
  SharedWord<std::uint64_t> word;
  SharedToken token;
};

class Role : public testing::Test {
 protected:
  [[nodiscard]] RoleRef role() { return {shared().word, shared().token}; }
  [[nodiscard]] RoleWord word() {
    return RoleWord::decode(NativeAccess::load_acquire(shared().word));
  }
  void set_word(const RoleWord& word) { NativeAccess::store_release(shared().word, word.encode()); }
  void clear() {
    set_word({});
    for (auto& w : shared().token.words) NativeAccess::store_relaxed(w, 0);
  }
  /// A child that takes the role and sleeps on it.
  [[nodiscard]] Child holder() {
    return test::sleeper_after([this] {
      if (!take_role(role())) ::_exit(1);
    });
  }
  /// A child that dies between its claim of the role and the token beside it.
  [[nodiscard]] Child holder_without_token() {
    return test::sleeper_after([this] {
      const ProcessToken self = self_token();
      set_word({State::held, self.pid, pid_scope(self), word().generation + 1});
    });
  }

 private:
  SharedRole& shared() { return area_.as<SharedRole>(); }
  test::SharedArea area_{sizeof(SharedRole)};
  test::Watchdog watchdog_{60};
};

TEST(RoleWord, DecodesWhatItEncodes) {
  const RoleWord word{State::held, 4'194'303, 0xbeef, 0xffffff};
  const RoleWord seen = RoleWord::decode(word.encode());
  EXPECT_EQ(seen.state, word.state);
  EXPECT_EQ(seen.pid, word.pid);
  EXPECT_EQ(seen.scope, word.scope);
  EXPECT_EQ(seen.generation, word.generation);
}

TEST(RoleWord, LiesInTheBitsThatTheFormatSays) {
  EXPECT_EQ((RoleWord{State::left, 1, 0, 0}.encode()), 0x6u);
  EXPECT_EQ((RoleWord{State::vacant, 0, 1, 0}.encode()), std::uint64_t{1} << 24);
  EXPECT_EQ((RoleWord{State::vacant, 0, 0, 1}.encode()), std::uint64_t{1} << 40);
}

TEST_F(Role, IsTakenWhenNobodyEverHeldIt) {
  const auto taken = take_role(role());
  ASSERT_THAT(taken, Succeeds());
  EXPECT_EQ(taken->generation, 1u);
  EXPECT_EQ(taken->before, State::vacant);
  EXPECT_EQ(word().state, State::held);
  EXPECT_EQ(word().pid, static_cast<std::uint32_t>(::getpid()));
  const auto token = load_token(role().token);
  ASSERT_THAT(token, Succeeds());
  EXPECT_EQ(token->generation, 1u);
}

TEST_F(Role, IsInUseWhileItsHolderLives) {
  const Child child = holder();
  EXPECT_THAT(take_role(role()), FailsWith(Errc::in_use));
}

TEST_F(Role, IsInUseForItsOwnProcessToo) {
  ASSERT_THAT(take_role(role()), Succeeds());
  EXPECT_THAT(take_role(role()), FailsWith(Errc::in_use));
}

TEST_F(Role, IsTakenAgainAfterItWasLeft) {
  const auto first = take_role(role());
  ASSERT_THAT(first, Succeeds());
  leave_role(role(), first->generation);
  EXPECT_EQ(word().state, State::left);
  const auto second = take_role(role());
  ASSERT_THAT(second, Succeeds());
  EXPECT_EQ(second->generation, 2u);
  EXPECT_EQ(second->before, State::left);
}

TEST_F(Role, IsTakenFromAHolderThatWasKilled) {
  Child child = holder();
  child.kill();
  const auto taken = take_role(role());
  ASSERT_THAT(taken, Succeeds());
  EXPECT_EQ(taken->before, State::held);
  EXPECT_EQ(taken->generation, 2u);
}

TEST_F(Role, IsTakenFromAZombie) {
  const Child child = holder();
  child.kill_to_zombie();
  EXPECT_THAT(take_role(role()), Succeeds());
}

TEST_F(Role, IsNotTakenFromAStoppedHolder) {
  const Child child = holder();
  child.stop();
  EXPECT_THAT(take_role(role()), FailsWith(Errc::in_use));
  EXPECT_THAT(retire_role(role()), FailsWith(Errc::in_use));
}

TEST_F(Role, IsNotTakenFromAHolderWhoseTokenIsMissingWhileItLives) {
  const Child child = holder_without_token();
  EXPECT_THAT(take_role(role()), FailsWith(Errc::in_use));
}

TEST_F(Role, IsTakenFromAHolderKilledBeforeItStoredItsToken) {
  Child child = holder_without_token();
  child.kill();
  EXPECT_THAT(take_role(role()), Succeeds());
}

TEST_F(Role, IsTakenFromADeadHolderWithATornToken) {
  Child child = holder();
  child.kill();
  NativeAccess::store_relaxed(role().token.words[1], 12345);
  EXPECT_THAT(take_role(role()), Succeeds());
}

// The number may be free here and in use there.
TEST_F(Role, IsNeverTakenByTheNumberAloneFromAnotherPidNamespace) {
  Child child = holder_without_token();
  child.kill();
  RoleWord foreign = word();
  foreign.scope ^= 1;
  set_word(foreign);
  EXPECT_THAT(take_role(role()), FailsWith(Errc::in_use));
}

// The successor has claimed, but beside the claim still lies its dead predecessor's token.
TEST_F(Role, IsNotTakenFromASuccessorBecauseItsPredecessorIsDead) {
  Child predecessor = holder();
  predecessor.kill();
  const Child successor = holder_without_token();
  EXPECT_EQ(word().generation, 2u);
  EXPECT_THAT(take_role(role()), FailsWith(Errc::in_use));
}

// Whoever writes another holder into the word whenever we look could lead us on for ever.
TEST_F(Role, IsInUseWhenItChangesHandsAtEveryLook) {
  using test::TraceAccess;
  const Child child = holder_without_token();
  const auto change_hands = [&](std::uint64_t) {
    RoleWord next = word();
    next.generation = (next.generation + 1) & 0xffffff;
    set_word(next);
  };
  TraceAccess::keeps_trace = false;
  TraceAccess::before_access = change_hands;
  TraceAccess::clear();
  EXPECT_THAT(take_role<TraceAccess>(role()), FailsWith(Errc::in_use));
  EXPECT_LE(TraceAccess::count, 1 + kMaxLooks * std::uint64_t{20});
  EXPECT_GE(TraceAccess::count, std::uint64_t{kMaxLooks}) << "not at the first change";
  TraceAccess::clear();
  EXPECT_THAT(retire_role<TraceAccess>(role()), FailsWith(Errc::in_use));
  set_word({State::left, 1, 0, 1});
  EXPECT_THAT(take_role<TraceAccess>(role()), FailsWith(Errc::in_use)) << "every swap is lost";
  EXPECT_THAT(retire_role<TraceAccess>(role()), FailsWith(Errc::in_use));
  TraceAccess::before_access = nullptr;
  TraceAccess::keeps_trace = true;
  EXPECT_THAT(take_role(role()), Succeeds()) << "when it rests, it is as any other";
}

TEST_F(Role, GenerationWrapsAfterTwentyFourBits) {
  set_word({State::left, 1, 0, 0xffffff});
  const auto taken = take_role(role());
  ASSERT_THAT(taken, Succeeds());
  EXPECT_EQ(taken->generation, 0u);
  EXPECT_EQ(word().generation, 0u);
  EXPECT_EQ(word().pid, static_cast<std::uint32_t>(::getpid()));
}

TEST_F(Role, RetiredIsLostForEverybody) {
  ASSERT_THAT(retire_role(role()), Succeeds());
  EXPECT_THAT(take_role(role()), FailsWith(Errc::segment_lost));
  EXPECT_THAT(retire_role(role()), Succeeds());  // twice is once
}

TEST_F(Role, IsNotRetiredWhileHeld) {
  const Child child = holder();
  EXPECT_THAT(retire_role(role()), FailsWith(Errc::in_use));
  EXPECT_EQ(word().state, State::held);
}

TEST_F(Role, IsRetiredAfterItsHolderDied) {
  Child child = holder();
  child.kill();
  EXPECT_THAT(retire_role(role()), Succeeds());
  EXPECT_THAT(take_role(role()), FailsWith(Errc::segment_lost));
}

TEST_F(Role, IsTakenByExactlyOneOfTwoThreads) {
  for (int round = 0; round < 200; ++round) {
    clear();
    std::atomic<int> waiting{2};
    std::atomic<int> winners{0};
    const auto contender = [&] {
      waiting.fetch_sub(1);
      while (waiting.load() != 0) {
      }
      if (take_role(role())) winners.fetch_add(1);
    };
    std::thread other(contender);
    contender();
    other.join();
    ASSERT_EQ(winners.load(), 1) << round;
  }
}

TEST_F(Role, IsInheritedFromTheDeadByExactlyOneOfThreeProcesses) {
  for (int round = 0; round < 20; ++round) {
    clear();
    Child dead = holder();
    dead.kill();
    test::ProcessEvent start;
    test::ProcessEvent tried;
    std::vector<Child> contenders;
    for (int i = 0; i < 3; ++i) {
      contenders.emplace_back([&] {
        if (!start.wait()) return 3;
        const auto taken = take_role(role());
        tried.raise();
        // The winner lives on until all have tried: else it would be inherited from, too.
        if (taken) ::pause();
        return taken.error().code == Errc::in_use ? 0 : 2;
      });
    }
    for (int i = 0; i < 3; ++i) start.raise();
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(tried.wait());
    EXPECT_EQ(word().generation, 2u);
    int winners = 0;
    for (Child& child : contenders) {
      if (static_cast<std::uint32_t>(child.pid()) == word().pid) {
        EXPECT_TRUE(child.kill().killed_by(SIGKILL));
        ++winners;
      } else {
        EXPECT_EQ(child.wait(), test::Ending{0});
      }
    }
    ASSERT_EQ(winners, 1) << round;
  }
}

// TSan proves the edge role.take: the payload is plain memory.
TEST_F(Role, WhatAHolderStoredIsVisibleToItsSuccessor) {
  constexpr int kRounds = 2'000;
  int payload = 0;
  const auto worker = [&] {
    for (int done = 0; done < kRounds;) {
      const auto taken = take_role(role());
      if (!taken) continue;
      ++payload;
      ++done;
      leave_role(role(), taken->generation);
    }
  };
  std::thread other(worker);
  worker();
  other.join();
  EXPECT_EQ(payload, 2 * kRounds);
}

TEST_F(Role, WatchFollowsTheHolderThroughItsLife) {
  RoleWatch watch;
  EXPECT_EQ(watch.look(role()), Peer::never_came);
  Child first = holder();
  EXPECT_EQ(watch.look(role()), Peer::alive);
  EXPECT_EQ(watch.look(role()), Peer::alive);  // by the kept descriptor
  first.stop();
  EXPECT_EQ(watch.look(role()), Peer::alive);
  first.kill();
  EXPECT_EQ(watch.look(role()), Peer::dead);
  EXPECT_EQ(watch.look(role()), Peer::dead);
  const auto mine = take_role(role());
  ASSERT_THAT(mine, Succeeds());
  EXPECT_EQ(watch.look(role()), Peer::alive);
  leave_role(role(), mine->generation);
  EXPECT_EQ(watch.look(role()), Peer::left);
  ASSERT_THAT(retire_role(role()), Succeeds());
  EXPECT_EQ(watch.look(role()), Peer::retired);
}

TEST_F(Role, WatchDoesNotTakeThePredecessorsTokenForTheHoldersOwn) {
  Child predecessor = holder();
  predecessor.kill();
  RoleWatch watch;
  EXPECT_EQ(watch.look(role()), Peer::dead);
  Child successor = holder_without_token();
  EXPECT_EQ(watch.look(role()), Peer::alive);
  successor.kill();
  EXPECT_EQ(watch.look(role()), Peer::dead);
}

}  // namespace
}  // namespace slipring

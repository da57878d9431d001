// SPDX-License-Identifier: Apache-2.0
#include <set>

#include "registry_fixture.h"

// SIGKILL, or SIGSTOP, before the k-th access to shared memory, k = 0, 1, ... until the victim
// outlives k.
namespace slipring::manager {
namespace {

constexpr std::uint32_t kMine = 1, kVictims = 2, kOfTheDead = 3;

struct Scenario {
  const char* name;
  /// What the victim finds beside our own entry.
  std::function<void(const TestTable&)> prepare;
  std::function<void(const TestTable&)> run;
  std::uint64_t at_least;  ///< Accesses, so that the loop is known to have done something.
};

const Scenario kScenarios[] = {
    {"enroll", [](const TestTable&) {},
     [](const TestTable& t) { (void)t.enroll<TraceAccess>(kVictims); }, 60},
    {"enroll_for_the_dead",
     [](const TestTable& t) {
       enroll_and_die(t, {kOfTheDead, kOfTheDead, kOfTheDead});
     },
     [](const TestTable& t) { (void)t.enroll<TraceAccess>(kVictims); }, 90},
    {"leave", [](const TestTable&) {},
     [](const TestTable& t) {
       const auto taken = t.enroll<TraceAccess>(kVictims);
       if (taken) detail::leave_entry<TraceAccess>(t.bytes(), *taken);
     },
     61},
    {"reap",
     [](const TestTable& t) {
       enroll_and_die(t, {kOfTheDead, kOfTheDead});
     },
     [](const TestTable& t) { (void)detail::reap_entries<TraceAccess>(t.bytes()); }, 100},
    {"look", [](const TestTable& t) { enroll_and_die(t, {kOfTheDead}); },
     [](const TestTable& t) {
       RegistryView view;
       detail::read_entries<TraceAccess>(t.bytes(), 0, view);
     },
     150},
};

class RegistryCrash : public testing::TestWithParam<Scenario> {};

TEST_P(RegistryCrash, EachEntryIsFreeOrSaysWhatOneHolderSaidWhereverThatDies) {
  Watchdog watchdog(200, "registry crash");
  const Scenario& scenario = GetParam();
  bool outlived = false;
  std::uint64_t k = 0;
  for (; !outlived && !HasFailure(); ++k) {
    SCOPED_TRACE("killed before access " + std::to_string(k));
    const TestTable table;
    const auto mine = table.enroll(kMine);
    ASSERT_THAT(mine, Succeeds());
    scenario.prepare(table);
    Child victim = run_to_access(k, SIGKILL, [&] {
      scenario.run(table);
      ::_exit(0);  // without leaving
      return 1;
    });
    const auto end = victim.wait();
    ASSERT_TRUE(end.exited_with(0) || end.killed_by(SIGKILL)) << testing::PrintToString(end);
    outlived = end.exited_with(0);

    const RegistryView view = table.look();
    ASSERT_GE(view.rows.size(), 1u);
    EXPECT_EQ(view.rows[0].what, attachment(kMine));
    for (std::size_t i = 1; i < view.rows.size(); ++i) {
      EXPECT_EQ(view.rows[i].holder, Holder::dead);
      EXPECT_EQ(view.rows[i].what, attachment(view.rows[i].what.index));
    }
    // All that is held is ours, or of the dead, and comes back.
    const auto held = static_cast<std::uint32_t>(view.rows.size()) + view.unreadable;
    EXPECT_FALSE(detail::is_deserted(table.bytes()));
    EXPECT_EQ(detail::reap_entries(table.bytes()), held - 1);
    EXPECT_EQ(table.look().rows.size() + table.look().unreadable, 1u);
    EXPECT_EQ(table.fill().size(), TestTable::kSmall - 1);
  }
  EXPECT_GE(k, scenario.at_least);
}

// The dead need no reaper: the next to enroll finds as many entries as if they had left.
TEST_P(RegistryCrash, TheNextUserHasAllEntriesThatTheDeadHeld) {
  Watchdog watchdog(200, "registry takeover");
  const Scenario& scenario = GetParam();
  bool outlived = false;
  for (std::uint64_t k = 0; !outlived && !HasFailure(); ++k) {
    SCOPED_TRACE("killed before access " + std::to_string(k));
    const TestTable table;
    scenario.prepare(table);
    outlived = run_to_access(k, SIGKILL,
                             [&] {
                               scenario.run(table);
                               ::_exit(0);
                               return 1;
                             })
                   .wait()
                   .exited_with(0);
    EXPECT_TRUE(detail::is_deserted(table.bytes())) << "so it would be removed";
    const auto taken = table.fill();
    EXPECT_EQ(taken.size(), TestTable::kSmall);
    EXPECT_EQ(table.look().rows.size(), TestTable::kSmall);
    for (const TakenEntry& entry : taken) detail::leave_entry(table.bytes(), entry);
    EXPECT_TRUE(detail::is_deserted(table.bytes()));
    EXPECT_EQ(table.look().rows.size() + table.look().unreadable, 0u);
  }
}

// Stopped, it is alive: what it holds is nobody else's, and when it goes on it ends where it was.
TEST_P(RegistryCrash, NothingOfAStoppedProcessIsTaken) {
  Watchdog watchdog(200, "registry pause");
  const Scenario& scenario = GetParam();
  bool outlived = false;
  for (std::uint64_t k = 0; !outlived && !HasFailure(); ++k) {
    SCOPED_TRACE("stopped before access " + std::to_string(k));
    const TestTable table;
    const auto mine = table.enroll(kMine);
    ASSERT_THAT(mine, Succeeds());
    scenario.prepare(table);
    Child victim = run_to_access(k, SIGSTOP, [&] {
      scenario.run(table);
      return TraceAccess::count <= k ? 100 : 0;
    });
    siginfo_t info{};
    retry_eintr([&] {
      return ::waitid(P_PID, static_cast<id_t>(victim.pid()), &info, WSTOPPED | WEXITED | WNOWAIT);
    });
    if (info.si_code == CLD_STOPPED) {
      const auto pid = static_cast<std::uint32_t>(victim.pid());
      std::set<std::uint32_t> its_own;
      for (std::uint32_t i = 0; i < TestTable::kSmall; ++i) {
        const RoleWord word = RoleWord::decode(Native::load_acquire(table.entry(i).role));
        if (word.state == RoleWord::State::held && word.pid == pid) its_own.insert(i);
      }
      (void)detail::reap_entries(table.bytes());
      const auto taken = table.fill();
      EXPECT_EQ(taken.size(), TestTable::kSmall - 1 - its_own.size());
      for (const TakenEntry& entry : taken) EXPECT_FALSE(its_own.contains(entry.entry));
      for (const RegistryRow& row : table.look().rows) {
        EXPECT_EQ(row.pid == pid, its_own.contains(row.entry));
      }
      victim.resume();
      const auto end = victim.wait();
      EXPECT_TRUE(end.exited_with(0)) << testing::PrintToString(end);
      for (const TakenEntry& entry : taken) detail::leave_entry(table.bytes(), entry);
    } else {
      const auto end = victim.wait();
      EXPECT_TRUE(end.exited_with(100)) << testing::PrintToString(end);
      outlived = true;
    }
    const auto rows = table.look().rows;
    ASSERT_GE(rows.size(), 1u);
    EXPECT_EQ(rows[0].what, attachment(kMine));
    for (const RegistryRow& row : rows) EXPECT_EQ(row.what, attachment(row.what.index));
    (void)detail::reap_entries(table.bytes());
    EXPECT_EQ(table.fill().size(), TestTable::kSmall - 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Operations, RegistryCrash, testing::ValuesIn(kScenarios),
                         [](const auto& scenario) { return std::string(scenario.param.name); });

// The reaper dies at each of its accesses, and the next one as well.
TEST(RegistryReaper, ReapingIsFinishedByWhoeverComesNext) {
  Watchdog watchdog(200, "registry reaper");
  bool outlived = false;
  std::uint64_t k = 0;
  for (; !outlived && !HasFailure(); ++k) {
    SCOPED_TRACE("killed before access " + std::to_string(k));
    const TestTable table;
    enroll_and_die(table, {1, 2, 3});
    const auto reap = [&] {
      (void)detail::reap_entries<TraceAccess>(table.bytes());
      ::_exit(0);
      return 1;
    };
    outlived = run_to_access(k, SIGKILL, reap).wait().exited_with(0);
    run_to_access(k * 7 % 101, SIGKILL, reap).wait();
    (void)detail::reap_entries(table.bytes());
    EXPECT_EQ(table.look().rows.size() + table.look().unreadable, 0u);
    EXPECT_EQ(table.fill().size(), TestTable::kSmall);
  }
  EXPECT_GE(k, 120u);
}

// The price of an entry, and that each word is fetched once.
TEST(RegistryAccess, EnrollingStoresEachWordOfAnEntryOnceAndLeavingStoresOne) {
  using test::AccessKind;
  const TestTable table;
  TraceAccess::keeps_trace = true;
  TraceAccess::before_access = nullptr;
  Result<TakenEntry> taken = fail(Errc::full);
  std::set<const std::byte*> stored;
  std::uint64_t swaps = 0;
  for (const auto& access :
       TraceAccess::record([&] { taken = table.enroll<TraceAccess>(kMine); })) {
    if (access.kind == AccessKind::store) {
      EXPECT_TRUE(stored.insert(access.address).second) << "stored twice";
    }
    swaps += access.kind == AccessKind::cas ? 1 : 0;
  }
  ASSERT_THAT(taken, Succeeds());
  EXPECT_EQ(swaps, 1u);
  EXPECT_EQ(stored.size(), 16u + kDescriptionWords + 1);
  const auto leaving =
      TraceAccess::record([&] { detail::leave_entry<TraceAccess>(table.bytes(), *taken); });
  ASSERT_EQ(leaving.size(), 1u);
  EXPECT_EQ(leaving[0].kind, AccessKind::store);
}

}  // namespace
}  // namespace slipring::manager

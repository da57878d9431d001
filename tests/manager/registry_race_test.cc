// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <thread>

#include "registry_fixture.h"

// Several come and go at once: processes, threads, and some that are killed. Whoever is enrolled
// can be found, and when all have gone nothing is left.
namespace slipring::manager {
namespace {

using testing::IsEmpty;

/// What the processes of a test count. Relaxed: nothing is handed over by these.
struct Counts {
  std::atomic<std::uint64_t> enrolled, removed, lost, errors;
};

/// Says something of its own, and is found saying it.
bool is_listed(const Registry& registry, std::uint32_t number) {
  const auto view = registry.look();
  if (!view) return false;
  return std::ranges::any_of(view->rows, [number](const RegistryRow& row) {
    return row.pid == static_cast<std::uint32_t>(::getpid()) && row.what == attachment(number) &&
           row.holder == Holder::alive;
  });
}

void come_and_go(const segment::Places& places, Counts& counts, std::uint32_t rounds) {
  // One registry for all rounds, or one for each: both ways must meet.
  const Registry kept(places);
  for (std::uint32_t round = 0; round < rounds; ++round) {
    const Registry registry = round % 2 == 0 ? kept : Registry(places);
    auto enrolled = registry.enroll(attachment(round));
    if (!enrolled) {
      ++counts.errors;
      continue;
    }
    ++counts.enrolled;
    if (!is_listed(registry, round)) ++counts.lost;
    if (enrolled->leave() == Enrolment::Left::removed) ++counts.removed;
  }
}

// The last one out removes the segment while the first one in opens it: whoever has enrolled is in
// a registry that has a name.
TEST_F(Registries, NobodyEnrollsInARegistryThatTheLastOneOutIsRemoving) {
  const Watchdog watchdog(60, "last out, first in");
  constexpr std::uint32_t kProcesses = 3, kRounds = 400;
  const test::SharedArea area(sizeof(Counts));
  auto& counts = *new (area.data()) Counts{};
  {
    std::vector<Child> children;
    for (std::uint32_t i = 0; i < kProcesses; ++i) {
      children.emplace_back([&] { come_and_go(places_, counts, kRounds); });
    }
    for (Child& child : children) EXPECT_TRUE(child.wait().exited_with(0));
  }
  EXPECT_EQ(counts.enrolled, kProcesses * kRounds);
  EXPECT_EQ(counts.lost, 0u);
  EXPECT_EQ(counts.errors, 0u);
  EXPECT_GE(counts.removed, 1u);
  RecordProperty("removed", std::to_string(counts.removed));
  EXPECT_THAT(names(), IsEmpty());
}

// The same among threads of one process, over one Registry, with somebody who looks on.
TEST_F(Registries, ThreadsComeAndGoAndEachRowIsWholeWhoeverLooks) {
  const Watchdog watchdog(60, "threads");
  constexpr std::uint32_t kThreads = 3, kRounds = 150;
  Counts counts{};
  std::atomic<bool> done{false};
  std::uint64_t seen = 0;
  std::thread observer([&] {
    while (!done) {
      for (const RegistryRow& row : look().rows) {
        EXPECT_EQ(row.what, attachment(row.what.index));
        ++seen;
      }
    }
  });
  const Registry shared(places_);
  std::vector<std::thread> threads;
  for (std::uint32_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint32_t round = 0; round < kRounds; ++round) {
        const std::uint32_t number = t * kRounds + round;
        auto enrolled = shared.enroll(attachment(number));
        if (!enrolled) {
          ++counts.errors;
          continue;
        }
        if (!is_listed(shared, number)) ++counts.lost;
        if (enrolled->leave() == Enrolment::Left::removed) ++counts.removed;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  done = true;
  observer.join();
  EXPECT_EQ(counts.errors, 0u);
  EXPECT_EQ(counts.lost, 0u);
  EXPECT_GE(counts.removed, 1u);
  EXPECT_GT(seen, 0u);
  EXPECT_THAT(names(), IsEmpty());
}

// Killed anywhere: in the kernel's lock, between the last leave and the removal, in the middle of a
// creation. Those who live lose nothing, and one more user removes what is left.
TEST_F(Registries, SurviveUsersThatAreKilledAtAnyMoment) {
  const Watchdog watchdog(60, "killed users");
  constexpr int kUsers = 3, kKills = 60;
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const test::SharedArea area(sizeof(Counts));
  auto& counts = *new (area.data()) Counts{};
  const Registry registry(places_);
  {
    const Enrolment mine = enroll(attachment(1000));
    const auto user = [&] {
      return std::make_unique<Child>([&] {
        for (;;) {
          come_and_go(places_, counts, 20);
          if (!Registry(places_).reap()) ++counts.errors;
        }
      });
    };
    std::vector<std::unique_ptr<Child>> users;
    for (int i = 0; i < kUsers; ++i) users.push_back(user());
    for (int kill = 0; kill < kKills; ++kill) {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 8'000));
      users[random() % users.size()] = user();  // the one before is killed and waited for
      const auto view = registry.look();
      ASSERT_THAT(view, Succeeds());
      EXPECT_LE(view->registries, 1u);
      bool found = false;
      for (const RegistryRow& row : view->rows) {
        EXPECT_EQ(row.what, attachment(row.what.index));
        found |= row.what.index == 1000;
      }
      EXPECT_TRUE(found) << "a living process lost its entry";
    }
  }
  EXPECT_GT(counts.enrolled, 0u);
  EXPECT_EQ(counts.lost, 0u);
  EXPECT_EQ(counts.errors, 0u);
  const auto left = enroll(attachment(1)).leave();
  EXPECT_EQ(left, Enrolment::Left::removed);
  EXPECT_THAT(names(), IsEmpty());
}

// Without somebody who stays: the registry itself is made and removed under those who are killed.
TEST_F(Registries, NothingIsLeftByUsersThatAreKilledWhileTheyMakeAndRemoveIt) {
  const Watchdog watchdog(60, "killed makers");
  constexpr int kKills = 60;
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const test::SharedArea area(sizeof(Counts));
  auto& counts = *new (area.data()) Counts{};
  for (int kill = 0; kill < kKills; ++kill) {
    Child first([&] {
      for (;;) come_and_go(places_, counts, 20);
    });
    Child second([&] {
      for (;;) come_and_go(places_, counts, 20);
    });
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 6'000));
    first.kill();
    second.kill();
    ASSERT_EQ(enroll(attachment(1)).leave(), Enrolment::Left::removed);
    ASSERT_THAT(names(), IsEmpty());
  }
  EXPECT_EQ(counts.lost, 0u);
  EXPECT_EQ(counts.errors, 0u);
}

}  // namespace
}  // namespace slipring::manager

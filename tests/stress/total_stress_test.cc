// SPDX-License-Identifier: Apache-2.0
// Many producers and one ring of total order, for a long time. Each record carries its producer,
// sequence number, two tickets and a checksum; a lost, torn, repeated or reordered one ends the
// test.
#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "judge.h"
#include "slipring/ring/total.h"
#include "support/child.h"
#include "support/matchers.h"
#include "support/shared_area.h"
#include "support/watchdog.h"

namespace slipring::ring {
namespace {

using test::Child;
using test::SharedArea;
using test::Succeeds;
using Rng = std::mt19937_64;

/// Shared by all, beside the ring.
struct Board {
  std::uint64_t tickets;
  std::uint64_t stop;
  std::uint64_t committed[1024];  // by each producer that ever was: commits that returned
};

class Stress {
 public:
  Stress(std::uint64_t capacity, std::uint32_t owners)
      : geometry_(make(capacity, owners)),
        memory_(geometry_.area_bytes()),
        board_memory_(sizeof(Board)) {
    format_total_area(area(), geometry_);
  }
  [[nodiscard]] std::span<std::byte> area() const { return {memory_.data(), memory_.size()}; }
  [[nodiscard]] Board& board() const { return board_memory_.as<Board>(); }
  [[nodiscard]] const TotalGeometry& geometry() const { return geometry_; }

  /// One producer: `count` records, or until stopped. One claim in `linger` gives the CPU away
  /// while it is open, so that others claim behind it and are held up. 0 when all went well.
  int produce(std::uint64_t who, std::uint64_t count, std::uint64_t seed,
              std::uint64_t linger) const {
    const auto slot = take_owner(area());
    if (!slot) return 10;
    auto producer = TotalProducer<>::attach(area(), *slot);
    if (!producer) return 11;
    Rng rng(seed * 1000 + who);
    for (std::uint64_t sequence = 0; sequence < count;) {
      if (test::shared_word(board().stop).load(std::memory_order_relaxed) != 0) break;
      const std::size_t most = rng() % 16 == 0 ? producer->max_payload() : 400;
      const std::size_t size = sizeof(test::Head) + rng() % (most - sizeof(test::Head) + 1);
      test::Head head{};
      head.before = test::shared_word(board().tickets).fetch_add(1);
      const auto claim = producer->try_claim(size);
      if (!claim) {
        if (claim.error().code != Errc::full) return 12;
        ::sched_yield();
        continue;
      }
      head.inside = test::shared_word(board().tickets).fetch_add(1);
      if (rng() % 32 == 0) {
        std::memset(claim->payload.data(), 0xee, size);
        producer->abort();
        continue;
      }
      if (rng() % linger == 0) ::sched_yield();
      head.producer = who;
      head.sequence = sequence;
      head.size =
          rng() % 8 == 0 ? sizeof(test::Head) + rng() % (size - sizeof(test::Head) + 1) : size;
      test::write_record(claim->payload, head);
      producer->commit(head.size, static_cast<std::uint16_t>(who));
      test::shared_word(board().committed[who]).store(++sequence, std::memory_order_release);
    }
    return leave_owner(area(), *slot) ? 0 : 13;
  }

 private:
  static TotalGeometry make(std::uint64_t capacity, std::uint32_t owners) {
    TotalGeometry geometry;
    geometry.capacity = capacity;
    geometry.owners = owners;
    return geometry;
  }
  TotalGeometry geometry_;
  SharedArea memory_;
  SharedArea board_memory_;
};

/// Takes what is there; true when it was something.
bool drain_some(TotalConsumer<>& consumer, test::Judge& judge, Rng& rng) {
  std::array<Record, 16> batch;
  const auto found = consumer.peek_many({batch.data(), 1 + rng() % batch.size()});
  if (!found) {
    EXPECT_EQ(found.error().code, Errc::empty) << found.error().op;
    consumer.tell_read();
    return false;
  }
  for (std::size_t i = 0; i < *found; ++i) judge.see(batch[i].payload);
  consumer.release(batch[*found - 1]);
  return true;
}

struct Shape {
  bool in_processes;
  std::uint64_t capacity;
  std::uint64_t producers;
  const char* name;
};
class TotalStress : public testing::TestWithParam<Shape> {};

TEST_P(TotalStress, DeliversEveryRecordOfAllProducersInTheOrderOfTheirClaims) {
  const test::Watchdog watchdog(120, "total stress");
  const Shape shape = GetParam();
  SCOPED_TRACE("SLIPRING_TEST_SEED=" + std::to_string(test::stress_seed()));
  const Stress stress(shape.capacity, 8);
#if defined(__SANITIZE_THREAD__)
  constexpr std::uint64_t kEach = 5'000;
#else
  constexpr std::uint64_t kEach = 50'000;
#endif
  std::vector<Child> children;
  std::vector<std::thread> threads;
  std::atomic<int> failed{0};
  for (std::uint64_t who = 0; who < shape.producers; ++who) {
    if (shape.in_processes) {
      children.emplace_back(
          [&, who] { return stress.produce(who, kEach, test::stress_seed(), 64); });
    } else {
      threads.emplace_back([&, who] {
        if (stress.produce(who, kEach, test::stress_seed(), 64) != 0) ++failed;
      });
    }
  }
  auto consumer = *TotalConsumer<>::attach(stress.area(), Predecessor::none);
  test::Judge judge(true);
  Rng rng(test::stress_seed());
  while (judge.total() < kEach * shape.producers && !HasFailure() && failed == 0) {
    if (!drain_some(consumer, judge, rng)) ::sched_yield();
  }
  test::shared_word(stress.board().stop).store(1);
  for (auto& child : children) EXPECT_TRUE(child.wait().exited_with(0));
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
  for (std::uint64_t who = 0; who < shape.producers; ++who) EXPECT_EQ(judge.seen(who), kEach);
  EXPECT_FALSE(drain_some(consumer, judge, rng));
  EXPECT_GT(consumer.read_pos(), 100 * shape.capacity);
}
INSTANTIATE_TEST_SUITE_P(Shapes, TotalStress,
                         testing::Values(Shape{true, 4096, 4, "smallest"},
                                         Shape{true, 64 << 10, 4, "four"},
                                         Shape{true, 16 << 10, 8, "eight"},
                                         Shape{false, 4096, 4, "threads_smallest"},
                                         Shape{false, 16 << 10, 4, "threads"}),
                         [](const auto& shape) { return std::string(shape.param.name); });

// Producers die at random instructions. Nothing committed is lost, and all goes on.
TEST(TotalKill, LosesNothingCommittedAndGoesOnWhoeverIsKilled) {
  const test::Watchdog watchdog(200, "total kills");
  SCOPED_TRACE("SLIPRING_TEST_SEED=" + std::to_string(test::stress_seed()));
  constexpr std::uint64_t kKills = 200;
  constexpr std::uint64_t kAtATime = 4;
  const Stress stress(16 << 10, kAtATime + 1);
  std::vector<Child> living;
  std::vector<std::uint64_t> names;  // of the living
  std::uint64_t born = 0;
  const auto give_birth = [&] {
    const std::uint64_t who = born++;
    names.push_back(who);
    living.emplace_back(
        [&stress, who] { return stress.produce(who, ~std::uint64_t{0}, test::stress_seed(), 2); });
  };
  for (std::uint64_t i = 0; i < kAtATime; ++i) give_birth();

  auto consumer = *TotalConsumer<>::attach(stress.area(), Predecessor::none);
  test::Judge judge(true);
  Rng rng(test::stress_seed());
  std::uint64_t reaped = 0, blocked = 0;
  const auto look_at_blocker = [&] {
    const auto by = consumer.blocked_by();
    if (!by) return;
    ++blocked;
    const auto resolved = reap(stress.area(), by->owner);
    if (resolved) {
      reaped += *resolved;
    } else {
      EXPECT_EQ(resolved.error().code, Errc::in_use) << resolved.error().op;
    }
  };
  for (std::uint64_t kill = 0; kill < kKills && !testing::Test::HasFailure(); ++kill) {
    const std::uint64_t until = judge.total() + rng() % 400;
    while (judge.total() < until && !testing::Test::HasFailure()) {
      if (drain_some(consumer, judge, rng)) continue;
      look_at_blocker();
      ::sched_yield();
    }
    const auto victim = static_cast<long>(rng() % kAtATime);
    EXPECT_TRUE(living[static_cast<std::size_t>(victim)].kill().killed_by(SIGKILL));
    std::vector<Child> others;
    for (std::size_t i = 0; i < kAtATime; ++i) {
      if (static_cast<long>(i) != victim) others.push_back(std::move(living[i]));
    }
    living.swap(others);
    names.erase(names.begin() + victim);
    give_birth();
  }
  test::shared_word(stress.board().stop).store(1);
  for (auto& child : living) {
    // Whoever waits for room gets it.
    EXPECT_TRUE(child.wait().exited_with(0));
  }
  for (std::uint32_t i = 0; i < stress.geometry().owners; ++i) {
    const auto resolved = reap(stress.area(), i);
    ASSERT_THAT(resolved, Succeeds());
    reaped += *resolved;
  }
  while (drain_some(consumer, judge, rng)) {
  }
  EXPECT_FALSE(consumer.blocked_by());
  for (std::uint64_t who = 0; who < born; ++who) {
    const std::uint64_t committed = test::shared_word(stress.board().committed[who]).load();
    EXPECT_GE(judge.seen(who), committed) << "committed and lost";
    EXPECT_LE(judge.seen(who), committed + 1);
  }
  EXPECT_GT(blocked, 0u);
  EXPECT_GT(reaped, 0u) << "nobody died inside a claim: nothing was tested";
  RecordProperty("reaped", static_cast<int>(reaped));
  // The room is whole again: read_pos and the frontier meet.
  auto producer = *TotalProducer<>::attach(stress.area(), *take_owner(stress.area()));
  consumer.tell_read();
  EXPECT_TRUE(producer.has_room(producer.max_payload()));
}

}  // namespace
}  // namespace slipring::ring

// SPDX-License-Identifier: Apache-2.0
// Eight users of one pool do random things and are killed at random. They hand references to each
// other through a board of cells, as lanes would. At the end all is reaped: free = capacity.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "slipring/pool/block_pool.h"
#include "support/child.h"
#include "support/matchers.h"
#include "support/shared_area.h"
#include "support/watchdog.h"

namespace slipring::pool {
namespace {

using test::Child;
using test::Succeeds;
using Rng = std::mt19937_64;

constexpr int kUsers = 8;
constexpr int kCells = 24;
constexpr std::uint64_t kOperations = 100'000;  // at the least
constexpr int kKills = 200;
constexpr std::uint64_t kPoolId = 0x5eed;

std::uint64_t seed() {
  static const std::uint64_t value = [] {
    const char* set = std::getenv("SLIPRING_TEST_SEED");
    return set != nullptr ? std::strtoull(set, nullptr, 0) : std::random_device{}();
  }();
  return value;
}

/// What the users share beside the pool. Relaxed throughout: it is the pool's own edges that make a
/// block visible, and nothing here may stand in for them.
constexpr auto kRelaxed = std::memory_order_relaxed;
struct Board {
  std::atomic<std::uint64_t> target;  // operations after which everybody stops
  std::atomic<std::uint64_t> operations;
  std::atomic<std::uint64_t> handed_over;
  std::atomic<std::uint64_t> torn;           // a block that was not as its sender left it
  std::atomic<std::uint64_t> refused;        // an error that a sound pool does not give
  std::atomic<std::uint64_t> cells[kCells];  // packed references; 0: empty
};

std::uint64_t pack(const BlockRef& ref) {
  return ref.generation << 27 | std::uint64_t{ref.index} << 5 | std::uint64_t{ref.size_class} << 1 |
         1;
}
BlockRef unpack(std::uint64_t cell) {
  BlockRef ref;
  ref.pool_tag = static_cast<std::uint16_t>(kPoolId);
  ref.size_class = static_cast<std::uint8_t>((cell >> 1) & 15);
  ref.index = static_cast<std::uint32_t>((cell >> 5) & 0x3fffff);
  ref.generation = cell >> 27;
  ref.length = static_cast<std::uint32_t>(block_bytes(ref.size_class));
  return ref;
}

// The whole block is filled from what names it: another writer anywhere in it shows.
void fill(std::span<std::byte> bytes, const BlockRef& ref) {
  const std::uint64_t word = pack(ref) * 0x9e3779b97f4a7c15;
  for (std::size_t i = 0; i < bytes.size(); i += 8) std::memcpy(&bytes[i], &word, 8);
}
bool is_filled(std::span<const std::byte> bytes, const BlockRef& ref) {
  const std::uint64_t word = pack(ref) * 0x9e3779b97f4a7c15;
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    if (std::memcmp(&bytes[i], &word, 8) != 0) return false;
  }
  return true;
}

class User {
 public:
  User(std::span<std::byte> area, Board& board, std::uint64_t number)
      : board_(board), rng_(seed() * 1000 + number) {
    auto pool = BlockPool<>::attach(area, static_cast<std::uint32_t>(rng_() % 17));
    if (pool) pool_.emplace(std::move(*pool));
  }
  [[nodiscard]] bool attached() const { return pool_.has_value(); }

  /// Until all operations are done.
  void run() {
    while (board_.operations.fetch_add(1, kRelaxed) < board_.target.load(kRelaxed)) step();
  }

 private:
  void step() {
    switch (rng_() % 16) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4: claim(); break;
      case 5:
      case 6:
      case 7:
      case 8: lend_or_reclaim(); break;
      case 9:
      case 10:
      case 11:
      case 12: hold(); break;
      case 13:
      case 14: release(); break;
      default: reap();
    }
  }
  void claim() {
    if (filled_.size() > 6) return;
    const auto block = pool_->claim(rng_() % 5000);
    if (!block) {
      if (block.error().code != Errc::full) ++board_.refused;
      return;
    }
    fill(block->bytes, block->ref);
    filled_.push_back(*block);
  }
  void lend_or_reclaim() {
    if (filled_.empty()) return;
    const Block block = filled_.back();
    filled_.pop_back();
    if (!is_filled(block.bytes, block.ref)) ++board_.torn;
    if (rng_() % 4 == 0) {
      if (!pool_->reclaim(block.ref)) ++board_.refused;
      return;
    }
    const auto ref = pool_->lend(block, block.bytes.size());
    if (!ref) {
      ++board_.refused;
      return;
    }
    std::uint64_t empty = 0;
    if (board_.cells[rng_() % kCells].compare_exchange_strong(empty, pack(*ref), kRelaxed)) {
      return;
    }
    if (!pool_->reclaim(*ref)) ++board_.refused;  // no room in the "lane"
  }
  void hold() {
    if (held_.size() > 6) return;
    const std::uint64_t cell = board_.cells[rng_() % kCells].exchange(0, kRelaxed);
    if (cell == 0) return;
    const auto view = pool_->hold(unpack(cell));
    if (!view) {
      ++board_.refused;
      return;
    }
    held_.push_back(*view);
    board_.handed_over.fetch_add(1, kRelaxed);
  }
  void release() {
    if (held_.empty()) return;
    const std::size_t i = rng_() % held_.size();
    const BlockView view = held_[i];
    held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(i));
    if (!is_filled(view.bytes, view.ref)) ++board_.torn;
    if (!pool_->release(view)) ++board_.refused;
  }
  // Any user may recover for the dead, while all others go on, and may be killed doing so.
  void reap() {
    const auto slot = static_cast<ParticipantId>(1 + rng_() % pool_->geometry().participants);
    if (slot == pool_->id()) return;
    const auto reaped = pool_->reap(slot);
    if (!reaped && reaped.error().code != Errc::in_use) ++board_.refused;
  }

  Board& board_;
  Rng rng_;
  std::optional<BlockPool<>> pool_;
  std::vector<Block> filled_;
  std::vector<BlockView> held_;
};

class PoolStress : public testing::Test {
 protected:
  PoolStress() {
    PoolSpec spec;
    spec.participants = 24;
    spec.pool_id = kPoolId;
    spec.with(256, 30).with(1024, 16).with(4096, 8).with(8192, 4);
    memory_.emplace(lay_out(spec)->total_bytes);
    EXPECT_THAT(format_pool(area(), spec), Succeeds());
  }
  [[nodiscard]] std::span<std::byte> area() const { return {memory_->data(), memory_->size()}; }
  [[nodiscard]] Board& board() { return *reinterpret_cast<Board*>(shared_.data()); }

  /// Reaps all, withdraws what is on the board, and looks whether everything is back.
  void expect_whole_at_the_end() {
    auto last = BlockPool<>::attach(area());
    ASSERT_THAT(last, Succeeds());
    (void)last->reap_all();
    auto found = last->audit();
    ASSERT_THAT(found, Succeeds());
    EXPECT_TRUE(found->is_whole()) << found->total.odd << " odd";
    EXPECT_EQ(found->participants, 1u);
    EXPECT_EQ(found->total.claimed, 0u);
    EXPECT_EQ(found->total.held, 0u);
    EXPECT_EQ(found->total.orphans, found->total.lent);
    for (auto& cell : board().cells) {
      if (cell == 0) continue;
      const auto view = last->hold(unpack(cell));
      ASSERT_THAT(view, Succeeds()) << "a reference on the board lost its block";
      EXPECT_TRUE(is_filled(view->bytes, view->ref));
      EXPECT_THAT(last->release(*view), Succeeds());
    }
    const std::uint64_t orphans = last->free_orphans({});
    found = last->audit();
    EXPECT_TRUE(found->is_whole());
    EXPECT_EQ(found->total.free, found->total.capacity) << "free + live = capacity, live = 0";
    EXPECT_EQ(board().torn, 0u);
    EXPECT_EQ(board().refused, 0u);
    EXPECT_GT(board().handed_over, 1000u);
    EXPECT_GE(board().operations, kOperations);
    RecordProperty("orphans", static_cast<int>(orphans));
    RecordProperty("handed_over", static_cast<int>(board().handed_over.load()));
    RecordProperty("exhausted", static_cast<int>(found->exhausted));
    RecordProperty("scans", static_cast<int>(found->scans));
    RecordProperty("list_resets", static_cast<int>(found->list_resets));
    RecordProperty("reaped", static_cast<int>(found->reaped));
    std::size_t claimed = 0;
    while (last->claim(1)) ++claimed;
    EXPECT_EQ(claimed, found->total.capacity);
  }

  std::optional<test::SharedArea> memory_;
  test::SharedArea shared_{4096};
};
static_assert(sizeof(Board) <= 4096);

TEST_F(PoolStress, EightProcessesUnderRandomKillsLeaveTheWholePool) {
  test::Watchdog watchdog(240, "pool stress");
  SCOPED_TRACE("SLIPRING_TEST_SEED=" + std::to_string(seed()));
  board().target = ~std::uint64_t{0};
  std::uint64_t number = 0;
  const auto start = [&] {
    return Child([&, mine = ++number] {
      User user(area(), board(), mine);
      if (!user.attached()) return 1;
      user.run();
      return 0;  // without leaving: what it has is reaped as well
    });
  };
  std::vector<Child> users;
  for (int i = 0; i < kUsers; ++i) users.push_back(start());
  Rng rng(seed());
  int kills = 0;
  while (board().operations < kOperations || kills < kKills) {
    ::usleep(static_cast<useconds_t>(rng() % 2000));
    const std::size_t victim = rng() % users.size();
    const test::Ending end = users[victim].kill();
    EXPECT_TRUE(end.killed_by(SIGKILL) || end.exited_with(0)) << testing::PrintToString(end);
    kills += end.killed_by(SIGKILL);
    std::vector<Child> next;
    for (std::size_t i = 0; i < users.size(); ++i) {
      next.push_back(i == victim ? start() : std::move(users[i]));
    }
    users = std::move(next);
  }
  board().target = 0;
  for (Child& user : users) EXPECT_TRUE(user.wait().exited_with(0));
  RecordProperty("kills", kills);
  expect_whole_at_the_end();
}

TEST_F(PoolStress, EightThreadsLeaveTheWholePool) {
  test::Watchdog watchdog(240, "pool stress");
  SCOPED_TRACE("SLIPRING_TEST_SEED=" + std::to_string(seed()));
  board().target = 4 * kOperations;
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < kUsers; ++i) {
    threads.emplace_back([this, i] {
      User user(area(), board(), i);
      if (!user.attached())
        ++board().refused;
      else
        user.run();
    });
  }
  for (auto& thread : threads) thread.join();
  expect_whole_at_the_end();
}

}  // namespace
}  // namespace slipring::pool

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "slipring/pool/block_pool.h"
#include "support/child.h"
#include "support/matchers.h"
#include "support/shared_area.h"
#include "support/watchdog.h"

namespace slipring::pool {

using test::Child;
using test::FailsWith;
using test::Succeeds;
using test::Watchdog;
using Native = NativeAccess;

/// A pool in memory that forks share.
class TestPool {
 public:
  explicit TestPool(PoolSpec spec = small_spec())
      : area_(lay_out(spec)->total_bytes), geometry_(*lay_out(spec)) {
    EXPECT_THAT(format_pool(bytes(), spec), Succeeds());
  }
  template <typename Access = NativeAccess>
  [[nodiscard]] BlockPool<Access> join(std::uint32_t cached_blocks = 16) const {
    auto pool = BlockPool<Access>::attach(bytes(), cached_blocks);
    if (!pool) {
      ADD_FAILURE() << pool.error().op;
      std::abort();
    }
    return std::move(*pool);
  }
  [[nodiscard]] std::span<std::byte> bytes() const { return {area_.data(), area_.size()}; }
  [[nodiscard]] const PoolGeometry& geometry() const { return geometry_; }
  [[nodiscard]] PoolHeader& header() const { return *reinterpret_cast<PoolHeader*>(area_.data()); }
  [[nodiscard]] BlockEntry& entry(std::uint32_t size_class, std::uint32_t index) const {
    return reinterpret_cast<BlockEntry*>(
        area_.data() + geometry_.entries_offset)[geometry_.classes[size_class].first_entry + index];
  }
  [[nodiscard]] BlockEntry& entry(const BlockRef& ref) const {
    return entry(ref.size_class, ref.index);
  }
  [[nodiscard]] BlockWord word(const BlockRef& ref) const {
    return BlockWord::decode(Native::load_acquire(entry(ref).word));
  }
  void poke(const BlockRef& ref, BlockWord word) const {
    Native::store_release(entry(ref).word, word.encode());
  }
  [[nodiscard]] PoolAudit audit() const { return *pool::audit<>(bytes()); }
  /// Everything is back: I7 with nobody left.
  void expect_all_free() const {
    const PoolAudit found = audit();
    EXPECT_TRUE(found.is_whole()) << found.total.odd << " odd";
    EXPECT_EQ(found.total.free, found.total.capacity);
  }

  static PoolSpec small_spec() {
    PoolSpec spec;
    spec.participants = 8;
    spec.pool_id = 0xb10c;
    return spec.with(256, 10).with(1024, 4).with(8192, 2);
  }

 private:
  test::SharedArea area_;
  PoolGeometry geometry_;
};

/// Claims, fills and lends a block in one go.
template <typename Access>
BlockRef lend_one(BlockPool<Access>& pool, std::size_t size = 100,
                  ParticipantId to = ParticipantId::nobody) {
  auto block = pool.claim(size);
  EXPECT_THAT(block, Succeeds());
  std::memset(block->bytes.data(), 0x5a, size);
  const auto ref = pool.lend(*block, size, 0, to);
  EXPECT_THAT(ref, Succeeds());
  return *ref;
}

/// Every block of every class, until the pool is dry.
template <typename Access>
std::vector<Block> claim_all(BlockPool<Access>& pool) {
  std::vector<Block> blocks;
  while (true) {
    auto block = pool.claim(1);
    if (!block) {
      EXPECT_EQ(block.error().code, Errc::full);
      return blocks;
    }
    blocks.push_back(*block);
  }
}

}  // namespace slipring::pool

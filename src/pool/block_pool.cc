// SPDX-License-Identifier: Apache-2.0
#include "slipring/pool/block_pool.h"

#include <algorithm>

#include "slipring/base/align.h"

namespace slipring::pool {

bool BlockWord::is_sound(std::uint32_t participants) const noexcept {
  constexpr auto kNobody = ParticipantId::nobody;
  if (static_cast<std::uint32_t>(owner) > participants ||
      static_cast<std::uint32_t>(holder) > participants) {
    return false;
  }
  switch (state) {
    case BlockState::free: return owner == kNobody && holder == kNobody;
    case BlockState::claimed: return owner != kNobody && holder == kNobody;
    case BlockState::lent: return true;
    case BlockState::held: return holder != kNobody;
  }
  return false;
}

Result<PoolGeometry> lay_out(const PoolSpec& spec) noexcept {
  if (spec.participants == 0 || spec.participants > kMaxParticipants) {
    return fail(Errc::invalid_argument, 0, "pool: participants");
  }
  PoolGeometry g;
  g.participants = spec.participants;
  g.pool_id = spec.pool_id;
  g.entries_offset = kPoolHeaderBytes + spec.participants * sizeof(ParticipantEntry);
  for (std::uint32_t c = 0; c < kClassCount; ++c) {
    if (spec.counts[c] > kMaxBlocksPerClass) {
      return fail(Errc::invalid_argument, 0, "pool: too many blocks of a class");
    }
    g.classes[c].count = spec.counts[c];
    g.classes[c].first_entry = g.blocks;
    g.blocks += spec.counts[c];
    if (spec.counts[c] != 0) g.largest_block = block_bytes(c);
  }
  if (g.blocks == 0) return fail(Errc::invalid_argument, 0, "pool: no blocks");
  g.data_offset = align_up(g.entries_offset + g.blocks * sizeof(BlockEntry), kPoolAlignment);
  std::uint64_t at = g.data_offset;
  for (std::uint32_t c = 0; c < kClassCount; ++c) {
    // From 4 KiB on a block is whole pages; below, its size keeps it on lines of its own.
    at = align_up(at, std::min<std::uint64_t>(block_bytes(c), kPoolAlignment));
    g.classes[c].data_offset = at;
    at += spec.counts[c] * block_bytes(c);
  }
  g.total_bytes = at;
  return g;
}

std::uint64_t checksum_of(const PoolGeometry& geometry) noexcept {
  std::uint64_t sum = fnv1a(geometry.participants, kPoolFingerprint);
  sum = fnv1a(geometry.pool_id, sum);
  for (const auto& size_class : geometry.classes) sum = fnv1a(size_class.count, sum);
  return sum;
}

Result<void> format_pool(std::span<std::byte> area, const PoolSpec& spec) noexcept {
  const auto geometry = lay_out(spec);
  if (!geometry) return tl::unexpected(geometry.error());
  if (!is_aligned(reinterpret_cast<std::uintptr_t>(area.data()), kPoolAlignment)) {
    return fail(Errc::invalid_argument, 0, "pool: alignment");
  }
  if (area.size() < geometry->total_bytes) return fail(Errc::too_large, 0, "pool: area");
  auto& header = *reinterpret_cast<PoolHeader*>(area.data());
  auto* table = reinterpret_cast<BlockEntry*>(area.data() + geometry->entries_offset);
  NativeAccess::store_relaxed(header.shape, kPoolVersion |
                                                std::uint64_t{geometry->participants} << 32 |
                                                std::uint64_t{kClassCount} << 48);
  NativeAccess::store_relaxed(header.pool_id, geometry->pool_id);
  NativeAccess::store_relaxed(header.total_bytes, geometry->total_bytes);
  NativeAccess::store_relaxed(header.entries_offset, geometry->entries_offset);
  NativeAccess::store_relaxed(header.data_offset, geometry->data_offset);
  NativeAccess::store_relaxed(header.checksum, checksum_of(*geometry));
  // Ids that are claimed one after another get entries on different lines: their users would
  // otherwise write into each other's.
  constexpr std::uint32_t kPerLine = kCacheLine / sizeof(BlockEntry);
  for (std::uint32_t c = 0; c < kClassCount; ++c) {
    const std::uint32_t size = geometry->classes[c].count;
    BlockEntry* entries = table + geometry->classes[c].first_entry;
    NativeAccess::store_relaxed(header.counts[c], size);
    std::uint32_t top = 0;
    for (std::uint32_t column = kPerLine; column-- > 0;) {
      if (column >= size) continue;
      for (std::uint32_t i = column + (size - 1 - column) / kPerLine * kPerLine;; i -= kPerLine) {
        // Generation 0 is never given out: a reference of zeros fits no block.
        NativeAccess::store_relaxed(entries[i].word, BlockWord{}.freed().encode());
        NativeAccess::store_relaxed(entries[i].next, top);
        top = i + 1;
        if (i < kPerLine) break;
      }
    }
    NativeAccess::store_relaxed(header.lists[c].head, top);
  }
  // SYNC pool.join (release -> acquire in load_geometry): whoever sees the magic sees the rest.
  NativeAccess::store_release(header.magic, kPoolMagic);
  return {};
}

BlockWord without(BlockWord word, ParticipantId gone, bool referenced) noexcept {
  const bool owns = word.owner == gone;
  const bool holds = word.holder == gone && gone != ParticipantId::nobody;
  switch (word.state) {
    case BlockState::free: break;
    case BlockState::claimed:
      if (owns) return word.freed();
      break;
    case BlockState::lent:
      if (!referenced && (owns || holds)) return word.freed();
      if (owns) word.owner = ParticipantId::nobody;
      if (holds) word.holder = ParticipantId::nobody;
      break;
    case BlockState::held:
      if (holds && !referenced) return word.freed();
      if (holds) {
        word.state = BlockState::lent;  // for a successor in the lane that still has the reference
        word.holder = ParticipantId::nobody;
      }
      if (owns) word.owner = ParticipantId::nobody;
      break;
  }
  return word;
}

bool is_referenced(const ReapPlan& plan, std::uint32_t size_class, std::uint32_t index,
                   std::uint64_t generation) noexcept {
  return plan.keep_all ||
         std::any_of(plan.referenced.begin(), plan.referenced.end(), [&](const BlockRef& ref) {
           return ref.size_class == size_class && ref.index == index &&
                  ref.generation == generation;
         });
}

}  // namespace slipring::pool

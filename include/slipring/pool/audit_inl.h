// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "slipring/pool/block_pool.h"

namespace slipring::pool {

template <typename Access>
Result<PoolGeometry> load_geometry(std::span<std::byte> area) noexcept {
  if (area.size() < kPoolHeaderBytes ||
      !is_aligned(reinterpret_cast<std::uintptr_t>(area.data()), kPoolAlignment)) {
    return fail(Errc::bad_format, 0, "pool: area");
  }
  const auto& header = *reinterpret_cast<const PoolHeader*>(area.data());
  // SYNC pool.join (acquire <- release in format_pool):
  //   geometry, table and lists are visible before the magic is.
  if (Access::load_acquire(header.magic) != kPoolMagic) {
    return fail(Errc::bad_format, 0, "pool: magic");
  }
  const std::uint64_t shape = Access::load_relaxed(header.shape);
  if (static_cast<std::uint32_t>(shape) != kPoolVersion) {
    return fail(Errc::bad_format, 0, "pool: version");
  }
  if (shape >> 48 != kClassCount) return fail(Errc::bad_format, 0, "pool: classes");
  PoolSpec spec;
  spec.participants = static_cast<std::uint16_t>(shape >> 32);
  spec.pool_id = Access::load_relaxed(header.pool_id);
  for (std::uint32_t c = 0; c < kClassCount; ++c) {
    const std::uint64_t count = Access::load_relaxed(header.counts[c]);
    if (count > kMaxBlocksPerClass) return fail(Errc::bad_format, 0, "pool: geometry");
    spec.counts[c] = static_cast<std::uint32_t>(count);
  }
  const auto laid_out = lay_out(spec);
  // TRUST: the offsets are computed from the counts, and what is stored must agree.
  if (!laid_out || Access::load_relaxed(header.total_bytes) != laid_out->total_bytes ||
      Access::load_relaxed(header.entries_offset) != laid_out->entries_offset ||
      Access::load_relaxed(header.data_offset) != laid_out->data_offset ||
      Access::load_relaxed(header.checksum) != checksum_of(*laid_out) ||
      area.size() < laid_out->total_bytes) {
    return fail(Errc::bad_format, 0, "pool: geometry");
  }
  return *laid_out;
}

template <typename Access>
Result<PoolAudit> audit(std::span<std::byte> area) noexcept {
  const auto geometry = load_geometry<Access>(area);
  if (!geometry) return tl::unexpected(geometry.error());
  const auto* people = reinterpret_cast<const ParticipantEntry*>(area.data() + kPoolHeaderBytes);
  const auto* table = reinterpret_cast<const BlockEntry*>(area.data() + geometry->entries_offset);
  // Can it own or read a block now? Not before anybody came, and not after it left (B5).
  const auto is_present = [&](ParticipantId id) {
    if (id == ParticipantId::nobody) return true;
    const auto& role = people[static_cast<std::uint32_t>(id) - 1].role;
    return RoleWord::decode(Access::load_acquire(role)).state == RoleWord::State::held;
  };
  PoolAudit found;
  for (std::uint32_t c = 0; c < kClassCount; ++c) {
    ClassCounts& counts = found.classes[c];
    counts.block_bytes = block_bytes(c);
    counts.capacity = geometry->classes[c].count;
    for (std::uint32_t i = 0; i < counts.capacity; ++i) {
      const auto& shared = table[geometry->classes[c].first_entry + i].word;
      // SYNC pool.claim (acquire <- acq_rel in BlockPool::take):
      //   whom the word names had taken its role before; so the role is looked at after the word.
      const std::uint64_t bits = Access::load_acquire(shared);
      const BlockWord word = BlockWord::decode(bits);
      // To whom a block is lent does not count: that one may have left, and lend() does not look.
      const bool addressed = word.state == BlockState::lent;
      // Somebody who left since is no fault: then the word has changed, too.
      if (!word.is_sound(geometry->participants) ||
          (!(is_present(word.owner) && (addressed || is_present(word.holder))) &&
           Access::load_acquire(shared) == bits)) {
        ++counts.odd;
        continue;
      }
      switch (word.state) {
        case BlockState::free: ++counts.free; break;
        case BlockState::claimed: ++counts.claimed; break;
        case BlockState::lent:
          ++counts.lent;
          counts.orphans += word.owner == ParticipantId::nobody;
          break;
        case BlockState::held: ++counts.held; break;
      }
    }
    found.total.capacity += counts.capacity;
    found.total.free += counts.free;
    found.total.claimed += counts.claimed;
    found.total.lent += counts.lent;
    found.total.held += counts.held;
    found.total.orphans += counts.orphans;
    found.total.odd += counts.odd;
  }
  for (std::uint32_t p = 0; p < geometry->participants; ++p) {
    const ParticipantEntry& entry = people[p];
    found.participants +=
        RoleWord::decode(Access::load_acquire(entry.role)).state == RoleWord::State::held;
    found.claims += Access::load_relaxed(entry.claims);
    found.returns += Access::load_relaxed(entry.returns);
    found.refused_references += Access::load_relaxed(entry.refused_references);
    found.refused_returns += Access::load_relaxed(entry.refused_returns);
    found.exhausted += Access::load_relaxed(entry.exhausted);
    found.scans += Access::load_relaxed(entry.scans);
    found.list_resets += Access::load_relaxed(entry.list_resets);
    found.reaped += Access::load_relaxed(entry.reaped);
  }
  return found;
}

}  // namespace slipring::pool

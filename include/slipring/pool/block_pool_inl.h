// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "slipring/pool/audit_inl.h"
#include "slipring/pool/block_pool.h"
#include "slipring/pool/free_list.h"

namespace slipring::pool {

// ------------------------------------------------------------------------------- coming and going

template <typename Access>
Result<BlockPool<Access>> BlockPool<Access>::attach(std::span<std::byte> area,
                                                    std::uint32_t cached_blocks,
                                                    const ReapPlan& plan) noexcept {
  const auto geometry = load_geometry<Access>(area);
  if (!geometry) return tl::unexpected(geometry.error());
  BlockPool pool;
  pool.geometry_ = *geometry;
  pool.cached_blocks_ = std::min(cached_blocks, kMaxCached);
  pool.pid_ = ::getpid();
  pool.area_ = area;
  // Entries of the dead come last: whoever knows their lanes may reap them better than we can.
  for (const bool from_the_dead : {false, true}) {
    for (std::uint32_t slot = 1; slot <= geometry->participants; ++slot) {
      if (pool.try_join(slot, from_the_dead, plan)) return pool;
    }
  }
  pool.area_ = {};  // nothing to leave
  return fail(Errc::full, 0, "pool: participants");
}

template <typename Access>
bool BlockPool<Access>::try_join(std::uint32_t slot, bool from_the_dead,
                                 const ReapPlan& plan) noexcept {
  ParticipantEntry& entry = participant(slot);
  const RoleWord seen = RoleWord::decode(Access::load_acquire(entry.role));
  if (!from_the_dead && seen.state == RoleWord::State::held) return false;
  const auto taken = take_role<Access>({entry.role, entry.token});
  if (!taken) return false;
  me_ = static_cast<ParticipantId>(slot);
  role_generation_ = taken->generation;
  load_counters();
  // B5: until no word names our predecessor, we claim nothing in its name.
  if (taken->before == RoleWord::State::held) {
    count(counters_.reaped, entry.reaped, resolve(me_, plan));
  }
  // Claimers start apart from each other.
  for (std::uint32_t c = 0; c < kClassCount; ++c) {
    scan_from_[c] = static_cast<std::uint32_t>(std::uint64_t{geometry_.classes[c].count} *
                                               (slot - 1) / geometry_.participants);
  }
  return true;
}

template <typename Access>
void BlockPool<Access>::load_counters() noexcept {
  const ParticipantEntry& entry = mine();
  counters_ = {Access::load_relaxed(entry.claims),
               Access::load_relaxed(entry.returns),
               Access::load_relaxed(entry.refused_references),
               Access::load_relaxed(entry.refused_returns),
               Access::load_relaxed(entry.exhausted),
               Access::load_relaxed(entry.scans),
               Access::load_relaxed(entry.list_resets),
               Access::load_relaxed(entry.reaped)};
}

template <typename Access>
void BlockPool<Access>::detach() noexcept {
  if (area_.empty()) return;
  if (pid_ == ::getpid()) {
    (void)resolve(me_, {});
    for (std::uint32_t c = 0; c < kClassCount; ++c) {
      // Oldest first, so that the warmest lies on top.
      for (std::uint32_t i = 0; i < caches_[c].count; ++i) push(c, caches_[c].ids[i]);
    }
    leave_role<Access>({mine().role, mine().token}, role_generation_);
  }
  area_ = {};
}

template <typename Access>
void BlockPool<Access>::swap(BlockPool& other) noexcept {
  std::swap(area_, other.area_);
  std::swap(geometry_, other.geometry_);
  std::swap(me_, other.me_);
  std::swap(role_generation_, other.role_generation_);
  std::swap(pid_, other.pid_);
  std::swap(cached_blocks_, other.cached_blocks_);
  std::swap(caches_, other.caches_);
  std::swap(scan_from_, other.scan_from_);
  std::swap(counters_, other.counters_);
}

// ------------------------------------------------------------------------------------- one block

template <typename Access>
Result<Block> BlockPool<Access>::claim(std::size_t size) noexcept {
  if (area_.empty()) return fail(Errc::closed, 0, "pool: detached");
  if (size > geometry_.largest_block) return fail(Errc::too_large, 0, "pool: claim");
  for (std::uint32_t c = class_for(size); c < kClassCount; ++c) {
    if (geometry_.classes[c].count == 0) continue;
    const auto taken = take_any(c);
    if (!taken) continue;
    if (caches_[c].credit < cached_blocks_) ++caches_[c].credit;
    count(counters_.claims, mine().claims);
    const BlockRef ref{static_cast<std::uint16_t>(geometry_.pool_id),
                       static_cast<std::uint8_t>(c),
                       0,
                       taken->index,
                       taken->generation,
                       0,
                       static_cast<std::uint32_t>(size)};
    return Block{bytes_of(ref), ref};
  }
  count(counters_.exhausted, mine().exhausted);
  return fail(Errc::full, 0, "pool: claim");
}

template <typename Access>
Result<BlockRef> BlockPool<Access>::lend(const Block& block, std::size_t length, std::size_t offset,
                                         ParticipantId to) noexcept {
  if (area_.empty()) return fail(Errc::closed, 0, "pool: detached");
  BlockRef ref = block.ref;
  if (!names_block(ref)) return refuse_return("pool: lend: no such block");
  const std::uint64_t size = block_bytes(ref.size_class);
  if (offset > size || length > size - offset) return refuse_return("pool: lend: length");
  if (static_cast<std::uint32_t>(to) > geometry_.participants) {
    return refuse_return("pool: lend: no such participant");
  }
  const BlockWord claimed{BlockState::claimed, me_, ParticipantId::nobody, ref.generation};
  // SYNC pool.lend (acq_rel -> acquire in BlockPool::hold):
  //   what was filled in is visible to whoever finds the block lent. Killed before: the block is
  //   claimed by a dead owner. Killed behind: lent, and no lane knows of it (ReapPlan).
  if (!change(ref, claimed, {BlockState::lent, me_, to, ref.generation})) {
    return refuse_return("pool: lend: not claimed by us");
  }
  ref.offset = static_cast<std::uint32_t>(offset);
  ref.length = static_cast<std::uint32_t>(length);
  return ref;
}

template <typename Access>
Result<BlockView> BlockPool<Access>::hold(const BlockRef& ref) noexcept {
  if (area_.empty()) return fail(Errc::closed, 0, "pool: detached");
  // TRUST: a peer's bytes, copied by the caller; each field is checked against our own geometry.
  if (!names_block(ref)) return refuse_reference(Errc::corrupt, "pool: no such block");
  const std::uint64_t size = block_bytes(ref.size_class);
  if (ref.offset > size || ref.length > size - ref.offset) {
    return refuse_reference(Errc::corrupt, "pool: reference runs out of its block");
  }
  auto& shared = entry(ref.size_class, ref.index).word;
  // SYNC pool.lend (acquire <- acq_rel in BlockPool::lend): see there.
  std::uint64_t bits = Access::load_acquire(shared);
  for (int tries = 0; tries < kMaxTries; ++tries) {
    const BlockWord word = BlockWord::decode(bits);
    if (word.generation != ref.generation || !word.is_sound(geometry_.participants)) {
      return refuse_reference(Errc::corrupt, "pool: stale reference");
    }
    if (word.state == BlockState::held) return refuse_reference(Errc::in_use, "pool: held already");
    if (word.state != BlockState::lent) return refuse_reference(Errc::corrupt, "pool: not lent");
    if (word.holder != ParticipantId::nobody && word.holder != me_) {
      return refuse_reference(Errc::permission, "pool: lent to somebody else");
    }
    const BlockWord mine_now{BlockState::held, word.owner, me_, word.generation};
    if (Access::cas_acq_rel(shared, bits, mine_now.encode())) {
      return BlockView{bytes_of(ref).subspan(ref.offset, ref.length), ref};
    }
  }
  return refuse_reference(Errc::corrupt, "pool: word does not settle");
}

template <typename Access>
Result<void> BlockPool<Access>::release(const BlockView& view) noexcept {
  if (area_.empty()) return fail(Errc::closed, 0, "pool: detached");
  const BlockRef& ref = view.ref;
  if (!names_block(ref)) return refuse_return("pool: release: no such block");
  const BlockWord held{BlockState::held, ParticipantId::nobody, me_, ref.generation};
  // SYNC pool.release (acq_rel -> acquire in BlockPool::take):
  //   our reads are done before the next owner's stores. Killed behind it: the block is free,
  //   and a scan finds it.
  if (!change(ref, held, held.freed())) return refuse_return("pool: release: not held by us");
  count(counters_.returns, mine().returns);
  give(ref.size_class, ref.index);
  return {};
}

template <typename Access>
Result<void> BlockPool<Access>::reclaim(const BlockRef& ref) noexcept {
  if (area_.empty()) return fail(Errc::closed, 0, "pool: detached");
  if (!names_block(ref)) return refuse_return("pool: reclaim: no such block");
  const BlockWord claimed{BlockState::claimed, me_, ParticipantId::nobody, ref.generation};
  const BlockWord lent{BlockState::lent, me_, ParticipantId::nobody, ref.generation};
  // SYNC pool.release (acq_rel -> acquire in BlockPool::take): as in release.
  if (!change(ref, claimed, claimed.freed()) && !change(ref, lent, lent.freed())) {
    return refuse_return("pool: reclaim: not ours");
  }
  count(counters_.returns, mine().returns);
  give(ref.size_class, ref.index);
  return {};
}

/// Moves a word from `from` to `to`, if it is `from`. What a reaper may change under us does not
/// count: of a held block the owner, of a lent one the addressee.
template <typename Access>
bool BlockPool<Access>::change(const BlockRef& ref, BlockWord from, BlockWord to) noexcept {
  auto& shared = entry(ref.size_class, ref.index).word;
  std::uint64_t bits = Access::load_relaxed(shared);
  for (int tries = 0; tries < kMaxTries; ++tries) {
    BlockWord now = BlockWord::decode(bits);
    if (now.state == BlockState::held) now.owner = from.owner;
    if (now.state == BlockState::lent) now.holder = from.holder;
    if (now != from) return false;
    if (Access::cas_acq_rel(shared, bits, to.encode())) return true;
  }
  return false;
}

template <typename Access>
bool BlockPool<Access>::names_block(const BlockRef& ref) const noexcept {
  return ref.pool_tag == static_cast<std::uint16_t>(geometry_.pool_id) && ref.reserved == 0 &&
         ref.size_class < kClassCount && ref.index < geometry_.classes[ref.size_class].count;
}

template <typename Access>
tl::unexpected<Error> BlockPool<Access>::refuse_reference(Errc code, const char* why) noexcept {
  count(counters_.refused_references, mine().refused_references);
  return fail(code, 0, why);
}

template <typename Access>
tl::unexpected<Error> BlockPool<Access>::refuse_return(const char* why) noexcept {
  count(counters_.refused_returns, mine().refused_returns);
  return fail(Errc::invalid_argument, 0, why);
}

// ---------------------------------------------------------------------------- finding a free block

template <typename Access>
auto BlockPool<Access>::take_any(std::uint32_t size_class) noexcept -> std::optional<Taken> {
  Cache& cache = caches_[size_class];
  while (cache.count > 0) {
    // A scan of somebody else's may have taken it: a cached id is a hint like any other.
    if (const auto taken = take(size_class, cache.ids[--cache.count])) return taken;
  }
  for (int odd = 0; odd < kOddIds; ++odd) {
    const auto index = pop(size_class);
    if (!index) return scan(size_class);
    if (const auto taken = take(size_class, *index)) return taken;
  }
  // Listed, and not free, so many times: a circle. An empty list is as good a hint.
  reset_list(size_class, Access::load_relaxed(header().lists[size_class].head));
  return scan(size_class);
}

template <typename Access>
auto BlockPool<Access>::take(std::uint32_t size_class, std::uint32_t index) noexcept
    -> std::optional<Taken> {
  auto& shared = entry(size_class, index).word;
  std::uint64_t bits = Access::load_relaxed(shared);
  const BlockWord word = BlockWord::decode(bits);
  if (word.state != BlockState::free || !word.is_sound(geometry_.participants)) return {};
  const BlockWord mine_now{BlockState::claimed, me_, ParticipantId::nobody, word.generation};
  // SYNC pool.release (acquire <- acq_rel in BlockPool::release, BlockPool::reclaim):
  //   the last reader is done with the bytes that we are going to write.
  // SYNC pool.reap (acquire <- acq_rel in BlockPool::resolve): so are the dead.
  // SYNC pool.claim (acq_rel -> acquire in audit, BlockPool::resolve):
  //   whoever finds our number in the word finds our role taken.
  if (!Access::cas_acq_rel(shared, bits, mine_now.encode())) return {};
  return Taken{index, word.generation};
}

// Ids that no list has: lost with a process killed between a change of the table and of the list,
// in the cache of another, or behind a broken link.
template <typename Access>
auto BlockPool<Access>::scan(std::uint32_t size_class) noexcept -> std::optional<Taken> {
  count(counters_.scans, mine().scans);
  const std::uint32_t size = geometry_.classes[size_class].count;
  std::uint32_t index = scan_from_[size_class];
  for (std::uint32_t looked = 0; looked < size; ++looked) {
    const std::uint32_t next = index + 1 < size ? index + 1 : 0;
    if (const auto taken = take(size_class, index)) {
      scan_from_[size_class] = next;
      return taken;
    }
    index = next;
  }
  return {};
}

// Who claims keeps what it gives back for its next claim, as long as it claims as much as it keeps;
// a mere reader passes it on to the shared list, where senders look.
template <typename Access>
void BlockPool<Access>::give(std::uint32_t size_class, std::uint32_t index) noexcept {
  Cache& cache = caches_[size_class];
  if (cache.credit > 0 && cache.count < cached_blocks_) {
    --cache.credit;
    cache.ids[cache.count++] = index;
    return;
  }
  push(size_class, index);
}

template <typename Access>
std::optional<std::uint32_t> BlockPool<Access>::pop(std::uint32_t size_class) noexcept {
  auto& shared = header().lists[size_class].head;
  // SYNC pool.list (acquire <- acq_rel in BlockPool::push): the link of the id on top.
  std::uint64_t bits = Access::load_acquire(shared);
  for (int tries = 0; tries < kMaxTries; ++tries) {
    const ListTop top = ListTop::decode(bits);
    if (top.index_plus_1 == 0) return {};
    const std::uint32_t size = geometry_.classes[size_class].count;
    // TRUST: ids of the list are checked before they are used.
    if (top.index_plus_1 > size) break;
    const std::uint64_t next = Access::load_relaxed(entry(size_class, top.index_plus_1 - 1).next);
    if (next > size) break;
    // SUBTLE: `next` may belong to a later life of the id; then the tag has moved on, too. After
    // 2^40 changes under a stopped process it may not have: the list is broken then, not the pool.
    if (Access::cas_acq_rel(shared, bits, top.then(static_cast<std::uint32_t>(next)).encode())) {
      return top.index_plus_1 - 1;
    }
    if (tries + 1 == kMaxTries) return {};  // contended beyond reason: the scan is bounded
  }
  reset_list(size_class, bits);
  return {};
}

template <typename Access>
void BlockPool<Access>::push(std::uint32_t size_class, std::uint32_t index) noexcept {
  auto& shared = header().lists[size_class].head;
  std::uint64_t bits = Access::load_relaxed(shared);
  for (int tries = 0; tries < kMaxTries; ++tries) {
    const ListTop top = ListTop::decode(bits);
    if (top.index_plus_1 == index + 1) return;  // listed already: a link to itself is no list
    Access::store_relaxed(entry(size_class, index).next, top.index_plus_1);
    // SYNC pool.list (acq_rel -> acquire in BlockPool::pop): the link comes before the id.
    if (Access::cas_acq_rel(shared, bits, top.then(index + 1).encode())) return;
  }
  // Unlisted, but free: a scan finds it.
}

template <typename Access>
void BlockPool<Access>::reset_list(std::uint32_t size_class, std::uint64_t seen) noexcept {
  count(counters_.list_resets, mine().list_resets);
  const ListTop empty = ListTop::decode(seen).then(0);
  // Lost to somebody: then the list has changed, and whoever finds it odd again resets it.
  (void)Access::cas_acq_rel(header().lists[size_class].head, seen, empty.encode());
}

// ---------------------------------------------------------------------------------------- the dead

template <typename Access>
Result<std::uint64_t> BlockPool<Access>::reap(ParticipantId dead, const ReapPlan& plan) noexcept {
  if (area_.empty()) return fail(Errc::closed, 0, "pool: detached");
  const auto slot = static_cast<std::uint32_t>(dead);
  if (slot == 0 || slot > geometry_.participants || dead == me_) {
    return fail(Errc::invalid_argument, 0, "pool: reap");
  }
  const RoleRef role{participant(slot).role, participant(slot).token};
  if (RoleWord::decode(Access::load_acquire(role.word)).state != RoleWord::State::held) return 0;
  // SUBTLE: the role is ours while we reap. Two reapers at once could each be right about the dead
  // and wrong about a block: held, lent again by the first, held again by a successor in the same
  // entry, it looks to the second as it did before. And nobody joins under this number meanwhile.
  const auto taken = take_role<Access>(role);
  // TRUST: retired meanwhile is as retired before: nobody has the entry.
  if (!taken && taken.error().code == Errc::segment_lost) return 0;
  if (!taken) return tl::unexpected(taken.error());
  std::uint64_t changed = 0;
  if (taken->before == RoleWord::State::held) {
    changed = resolve(dead, plan);
    count(counters_.reaped, mine().reaped, changed);
  }
  leave_role<Access>(role, taken->generation);
  return changed;
}

template <typename Access>
std::uint64_t BlockPool<Access>::reap_all(const ReapPlan& plan) noexcept {
  std::uint64_t changed = 0;
  for (std::uint32_t slot = 1; slot <= geometry_.participants; ++slot) {
    changed += reap(static_cast<ParticipantId>(slot), plan).value_or(0);
  }
  return changed;
}

template <typename Access>
std::vector<BlockRef> BlockPool<Access>::orphans() const {
  std::vector<BlockRef> found;
  for (std::uint32_t c = 0; c < kClassCount && !area_.empty(); ++c) {
    for (std::uint32_t i = 0; i < geometry_.classes[c].count; ++i) {
      // SYNC pool.claim (acquire <- release in BlockPool::take): as in audit().
      const BlockWord word = BlockWord::decode(Access::load_acquire(entry(c, i).word));
      if (word.state != BlockState::lent || word.owner != ParticipantId::nobody) continue;
      BlockRef ref;
      ref.pool_tag = static_cast<std::uint16_t>(geometry_.pool_id);
      ref.size_class = static_cast<std::uint8_t>(c);
      ref.index = i;
      ref.generation = word.generation;
      found.push_back(ref);
    }
  }
  return found;
}

template <typename Access>
std::uint64_t BlockPool<Access>::free_orphans(std::span<const BlockRef> orphans,
                                              std::span<const BlockRef> referenced) noexcept {
  std::uint64_t freed = 0;
  const ReapPlan plan{false, referenced};
  for (const BlockRef& ref : orphans) {
    if (!names_block(ref) || is_referenced(plan, ref.size_class, ref.index, ref.generation)) {
      continue;
    }
    // SYNC pool.claim (acquire <- release in BlockPool::take): as in resolve().
    const std::uint64_t bits = Access::load_acquire(entry(ref.size_class, ref.index).word);
    const BlockWord word = BlockWord::decode(bits);
    if (word.state != BlockState::lent || word.owner != ParticipantId::nobody ||
        word.generation != ref.generation) {
      continue;  // held, freed or used again meanwhile
    }
    if (!change(ref, word, without(word, ParticipantId::nobody, false))) continue;
    push(ref.size_class, ref.index);
    ++freed;
  }
  if (freed != 0) count(counters_.reaped, mine().reaped, freed);
  return freed;
}

template <typename Access>
std::uint64_t BlockPool<Access>::free_orphans(std::span<const BlockRef> referenced) noexcept {
  if (area_.empty()) return 0;
  const std::uint64_t changed = resolve(ParticipantId::nobody, {false, referenced});
  count(counters_.reaped, mine().reaped, changed);
  return changed;
}

// The caller has the role of `gone`, so nobody else acts in its name; others may still change the
// words it shares with them. Each step is one CAS that a successor would repeat.
template <typename Access>
std::uint64_t BlockPool<Access>::resolve(ParticipantId gone, const ReapPlan& plan) noexcept {
  std::uint64_t changed = 0;
  for (std::uint32_t c = 0; c < kClassCount; ++c) {
    for (std::uint32_t i = 0; i < geometry_.classes[c].count; ++i) {
      auto& shared = entry(c, i).word;
      // SYNC pool.claim (acquire <- acq_rel in BlockPool::take): the role came before the claim.
      std::uint64_t bits = Access::load_acquire(shared);
      for (int tries = 0; tries < kMaxTries; ++tries) {
        const BlockWord word = BlockWord::decode(bits);
        if (!word.is_sound(geometry_.participants)) break;
        if (word.owner != gone && word.holder != gone) break;
        const bool travels = word.state == BlockState::lent || word.state == BlockState::held;
        const bool referenced = travels && is_referenced(plan, c, i, word.generation);
        const BlockWord then = without(word, gone, referenced);
        if (then == word) break;
        // SYNC pool.reap (acq_rel -> acquire in BlockPool::take):
        //   the dead stored its last before its death was proved; the next owner comes after.
        if (!Access::cas_acq_rel(shared, bits, then.encode())) continue;
        ++changed;
        if (then.state == BlockState::free) push(c, i);
        break;
      }
    }
  }
  return changed;
}

}  // namespace slipring::pool

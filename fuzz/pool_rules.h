// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include "guarded_area.h"
#include "slipring/pool/block_pool.h"
#include "support/oracle_access.h"

// What a participant of a pool may do with each of its words: docs/pool.md as a predicate.
namespace slipring::fuzz {

using pool::BlockState;
using pool::BlockWord;
using pool::ParticipantId;
using test::Rights;

inline constexpr std::uint32_t kParticipants = 4;
inline constexpr auto kNobody = ParticipantId::nobody;

/// Three classes, of which the last fills whole pages: behind it lies the guard.
[[nodiscard]] inline pool::PoolSpec small_pool() noexcept {
  pool::PoolSpec spec;
  spec.participants = kParticipants;
  spec.pool_id = 0xb10c;
  return spec.with(256, 5).with(1024, 3).with(4096, 2);
}
[[nodiscard]] inline const pool::PoolGeometry& pool_geometry() noexcept {
  static const pool::PoolGeometry geometry = *pool::lay_out(small_pool());
  return geometry;
}

/// Who acts, and what it may therefore do.
struct PoolActing {
  enum class As : std::uint8_t {
    user,           // claims, lends, holds, releases, reclaims
    joiner,         // takes any entry, and resolves what its dead holder left
    leaver,         // resolves its own words, gives its entry back
    reaper,         // the same for `gone`; for everyone but itself when that is nobody
    orphan_keeper,  // frees what is lent and owned by nobody
  };
  As as = As::user;
  ParticipantId me = kNobody;
  ParticipantId gone = kNobody;
};
inline PoolActing pool_acting;

/// May the one who acts take the place of participant `id`, which is dead?
[[nodiscard]] inline bool may_act_for(ParticipantId id) noexcept {
  switch (pool_acting.as) {
    case PoolActing::As::joiner: return true;
    case PoolActing::As::leaver: return id == pool_acting.me;
    case PoolActing::As::reaper:
      return pool_acting.gone == kNobody ? id != pool_acting.me : id == pool_acting.gone;
    case PoolActing::As::user:
    case PoolActing::As::orphan_keeper: return false;
  }
  return false;
}

[[nodiscard]] inline Rights rights_in_participant(ParticipantId id, std::size_t at) noexcept {
  using Entry = pool::ParticipantEntry;
  const bool joins = pool_acting.as == PoolActing::As::joiner;
  const bool is_counter = at >= offsetof(Entry, claims) && at < offsetof(Entry, token);
  if (is_counter) return id == pool_acting.me || joins ? Rights::read_write : Rights::read_only;
  if (at >= offsetof(Entry, role) + 8 && at < offsetof(Entry, token)) return Rights::read_only;
  if (!may_act_for(id)) return Rights::read_only;
  // Who joins keeps the role; who resolves for another, or for itself, gives it back.
  return joins && at < offsetof(Entry, token) ? Rights::by_swap : Rights::read_write;
}

[[nodiscard]] inline Rights pool_rights_at(std::size_t offset) noexcept {
  const pool::PoolGeometry& geometry = pool_geometry();
  if (offset >= geometry.data_offset) return Rights::read_only;  // the user's bytes
  if (offset >= geometry.entries_offset) {
    const std::size_t at = offset - geometry.entries_offset;
    if (at / sizeof(pool::BlockEntry) >= geometry.blocks) return Rights::read_only;
    const bool is_word = at % sizeof(pool::BlockEntry) < offsetof(pool::BlockEntry, next);
    return is_word ? Rights::by_swap : Rights::read_write;
  }
  if (offset >= pool::kPoolHeaderBytes) {
    const std::size_t at = offset - pool::kPoolHeaderBytes;
    constexpr std::size_t kBytes = sizeof(pool::ParticipantEntry);
    return rights_in_participant(static_cast<ParticipantId>(at / kBytes + 1), at % kBytes);
  }
  constexpr std::size_t kLists = offsetof(pool::PoolHeader, lists);
  const bool in_lists = offset >= kLists && offset < sizeof(pool::PoolHeader);
  const bool is_head = in_lists && (offset - kLists) % sizeof(pool::ListHead) < 8;
  return is_head ? Rights::by_swap : Rights::read_only;
}

/// B3: what a user may make of a word.
[[nodiscard]] inline bool is_users_step(const BlockWord& from, const BlockWord& to) noexcept {
  const ParticipantId me = pool_acting.me;
  const BlockWord claimed{BlockState::claimed, me, kNobody, from.generation};
  switch (from.state) {
    case BlockState::free: return from.is_sound(kParticipants) && to == claimed;
    case BlockState::claimed: {
      if (from != claimed) return false;
      const bool lends = to.state == BlockState::lent && to.owner == me &&
                         static_cast<std::uint32_t>(to.holder) <= kParticipants &&
                         to.generation == from.generation;
      return lends || to == from.freed();
    }
    case BlockState::lent: {
      const bool for_me =
          from.is_sound(kParticipants) && (from.holder == kNobody || from.holder == me);
      const BlockWord held{BlockState::held, from.owner, me, from.generation};
      return (for_me && to == held) || (from.owner == me && to == from.freed());
    }
    case BlockState::held: return from.holder == me && to == from.freed();
  }
  return false;
}

/// What may become of a word when a participant is taken out of it.
[[nodiscard]] inline bool is_resolution(const BlockWord& from, const BlockWord& to) noexcept {
  if (!from.is_sound(kParticipants) || from == to) return false;
  const auto results_of = [&](ParticipantId gone) {
    return to == pool::without(from, gone, true) || to == pool::without(from, gone, false);
  };
  if (pool_acting.as == PoolActing::As::orphan_keeper) {
    return from.state == BlockState::lent && from.owner == kNobody && results_of(kNobody);
  }
  for (const ParticipantId id : {from.owner, from.holder}) {
    if (id != kNobody && may_act_for(id) && results_of(id)) return true;
  }
  return false;
}

[[nodiscard]] inline bool is_pool_swap(std::size_t offset, std::uint64_t from,
                                       std::uint64_t to) noexcept {
  const pool::PoolGeometry& geometry = pool_geometry();
  if (offset >= geometry.entries_offset) {
    const BlockWord before = BlockWord::decode(from), after = BlockWord::decode(to);
    return pool_acting.as == PoolActing::As::user ? is_users_step(before, after)
                                                  : is_resolution(before, after);
  }
  if (offset >= pool::kPoolHeaderBytes) {
    const RoleWord before = RoleWord::decode(from), after = RoleWord::decode(to);
    return before.state != RoleWord::State::retired && after.state == RoleWord::State::held &&
           after.pid == (static_cast<std::uint32_t>(::getpid()) & 0x3fffff) &&
           after.generation == ((before.generation + 1) & 0xffffff);
  }
  const std::size_t size_class =
      (offset - offsetof(pool::PoolHeader, lists)) / sizeof(pool::ListHead);
  const auto before = pool::ListTop::decode(from), after = pool::ListTop::decode(to);
  return ((before.tag + 1) << 24) == (after.tag << 24) &&
         after.index_plus_1 <= geometry.classes[size_class].count;
}

}  // namespace slipring::fuzz

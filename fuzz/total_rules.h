// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include "guarded_total.h"
#include "support/oracle_access.h"

// What whoever claims in a ring of total order, takes an entry, leaves it, or reaps may do with
// each of its words: docs/total.md as a predicate.
namespace slipring::fuzz {

using test::Rights;

/// Who acts, and what it may therefore do.
struct TotalActing {
  enum class As : std::uint8_t { producer, sender, reaper, taker, leaver };
  const GuardedTotal* ring = nullptr;
  As as = As::producer;
  ring::OwnerSlot slot;     // of the producer, whoever acts
  std::uint32_t owner = 0;  // of whom claims are resolved
  bool has_claim = false;
  std::uint64_t claim_pos = 0;
  std::uint64_t claim_end = 0;

  [[nodiscard]] bool produces() const noexcept { return as == As::producer || as == As::sender; }
};
inline TotalActing total_acting;

/// True when `at`, an offset of the data area, is room that we claimed and did not resolve.
[[nodiscard]] inline bool is_claimed(std::size_t at) {
  using As = TotalActing::As;
  const TotalActing& acting = total_acting;
  if (acting.as == As::producer) {
    const std::size_t first = acting.claim_pos % kTotalCapacity;
    return acting.has_claim && at >= first && at - first < acting.claim_end - acting.claim_pos;
  }
  if (acting.as != As::sender) return false;
  // Claim and commit are one call: the descriptors say what it claimed.
  for (std::uint64_t pos = 0; pos < kTotalCapacity; pos += ring::kTotalGranule) {
    const ring::Descriptor desc = acting.ring->descriptor(pos);
    if (desc.state != ring::RecordState::claimed || desc.owner_id != acting.slot.index + 1)
      continue;
    if (at >= pos && at - pos < desc.granules * ring::kTotalGranule) return true;
  }
  return false;
}

[[nodiscard]] inline Rights rights_in_owner(std::size_t index, std::size_t at) {
  using As = TotalActing::As;
  const TotalActing& acting = total_acting;
  using Owner = ring::TotalOwner;
  const bool is_role = at < 8;
  const bool is_token = at >= offsetof(Owner, token);
  const bool is_counter = at >= offsetof(Owner, messages) && at < offsetof(Owner, rings) + 8;
  switch (acting.as) {
    case As::producer:
    case As::sender:
      return is_counter && index == acting.slot.index ? Rights::read_write : Rights::read_only;
    case As::taker:
      if (is_role) return Rights::by_swap;
      return is_token ? Rights::read_write : Rights::read_only;
    case As::leaver:
      return is_role && index == acting.slot.index ? Rights::read_write : Rights::read_only;
    case As::reaper: return Rights::read_only;
  }
  return Rights::read_only;
}

[[nodiscard]] inline Rights total_rights_at(std::size_t offset) {
  using As = TotalActing::As;
  const TotalActing& acting = total_acting;
  using Control = ring::TotalControl;
  const ring::TotalGeometry geometry = GuardedTotal::geometry();
  if (offset >= geometry.data_offset()) {
    return is_claimed(offset - geometry.data_offset()) ? Rights::read_write : Rights::read_only;
  }
  if (offset >= geometry.desc_offset()) {
    const std::size_t at = (offset - geometry.desc_offset()) / 8 * ring::kTotalGranule;
    const bool ours = acting.as == As::producer
                          ? acting.has_claim && at == acting.claim_pos % kTotalCapacity
                          : is_claimed(at);
    return ours ? Rights::read_write : Rights::by_swap;
  }
  if (offset >= geometry.owners_offset()) {
    const std::size_t in_table = offset - geometry.owners_offset();
    return rights_in_owner(in_table / sizeof(ring::TotalOwner),
                           in_table % sizeof(ring::TotalOwner));
  }
  const auto is_word = [&](std::size_t at, std::size_t size) {
    return offset >= at && offset < at + size;
  };
  const bool ours =
      is_word(offsetof(Control, claim_hint), 8) || is_word(offsetof(Control, space_wanted), 4);
  return acting.produces() && ours ? Rights::read_write : Rights::read_only;
}

[[nodiscard]] inline bool is_total_swap(std::size_t offset, std::uint64_t from, std::uint64_t to) {
  using As = TotalActing::As;
  const TotalActing& acting = total_acting;
  const ring::TotalGeometry geometry = GuardedTotal::geometry();
  if (offset < geometry.desc_offset()) {
    const RoleWord before = RoleWord::decode(from), after = RoleWord::decode(to);
    return acting.as == As::taker && before.state != RoleWord::State::retired &&
           after.state == RoleWord::State::held &&
           after.pid == (static_cast<std::uint32_t>(::getpid()) & 0x3fffff) &&
           after.generation == ((before.generation + 1) & 0xffffff);
  }
  const std::uint64_t granule = (offset - geometry.desc_offset()) / 8;
  const ring::Descriptor before = ring::Descriptor::decode(from),
                         after = ring::Descriptor::decode(to);
  if (acting.produces()) {
    const bool reaches_end = granule + after.granules == kGranules;
    return after.owner_id == acting.slot.index + 1 && after.granules != 0 &&
           granule + after.granules <= kGranules && ring::lap_ahead(before.lap, after.lap) < 0 &&
           (after.state == ring::RecordState::claimed ||
            (after.state == ring::RecordState::dead && reaches_end));
  }
  // Claimed becomes dead, and nothing else of it changes (T4).
  ring::Descriptor dead = before;
  dead.state = ring::RecordState::dead;
  const bool whose = acting.as == As::taker || before.owner_id == acting.owner + 1;
  return before.state == ring::RecordState::claimed && whose && after == dead;
}

}  // namespace slipring::fuzz

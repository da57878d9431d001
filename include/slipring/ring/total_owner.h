// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "slipring/base/role.h"
#include "slipring/ring/total_walk.h"

// Who may claim: the owner table of a ring of total order, and what becomes of the dead's claims.
namespace slipring::ring {

/// A place in the owner table that this process holds. Descriptors carry its index.
struct OwnerSlot {
  std::uint32_t index = 0;
  std::uint32_t generation = 0;
};

/// Takes a free entry of the owner table. An entry whose holder is proved dead is reaped first and
/// only then reused, so a descriptor never changes its owner (D3).
/// Progress: lock-free; system calls to prove deaths only when no entry is free.
/// Errors: in_use        each entry is held by a process not proved dead: too many producers,
///         segment_lost  the ring is retired,
///         bad_format, corrupt  as load_total_geometry, reap.
/// Orders: role.take, total.reap.
template <typename Access = NativeAccess>
[[nodiscard]] Result<OwnerSlot> take_owner(std::span<std::byte> area,
                                           const ProcessToken& self = self_token()) noexcept;

/// Gives the entry back in order. A claim still open is aborted first: it would hold up everyone.
/// Errors: corrupt  as reap; the entry is then kept, since a descriptor may still name it.
/// Orders: role.take, total.reap.
template <typename Access = NativeAccess>
[[nodiscard]] Result<void> leave_owner(std::span<std::byte> area, OwnerSlot slot) noexcept;

/// Resolves every record that a dead producer claimed and did not commit: claimed becomes dead, and
/// the consumer skips it. What it committed stays. Does nothing for an entry that was left in order
/// or never held. Returns how many records it resolved itself; ring the consumer in any case, the
/// dead may have taken a wake-up along. May be killed and repeated, and several may run it at once,
/// also beside a successor in the same entry.
/// Pass `watch`, one per entry, to make repeated looks cheap.
/// Progress: wait-free: at most two laps of descriptors; a bounded number of system calls.
/// Errors: in_use            the holder is not proved dead, or another at each of kMaxLooks looks,
///         invalid_argument  no such owner,
///         corrupt           descriptors that no producer stores,
///         bad_format        as load_total_geometry.
/// Orders: total.reap, total.claim, role.take.
template <typename Access = NativeAccess>
[[nodiscard]] Result<std::size_t> reap(std::span<std::byte> area, std::uint32_t owner,
                                       RoleWatch& watch) noexcept;
template <typename Access = NativeAccess>
[[nodiscard]] Result<std::size_t> reap(std::span<std::byte> area, std::uint32_t owner) noexcept;

namespace detail {

/// reap() in a ring whose geometry is known. `owner` is one of its entries.
template <typename Access>
Result<std::size_t> reap_entry(const TotalView& ring, std::uint32_t owner,
                               RoleWatch& watch) noexcept {
  const RoleRef role = ring.owner_role(owner);
  // SYNC role.take (acquire <- release in leave_role): who left resolved its claims before.
  std::uint64_t holder = Access::load_acquire(role.word);
  for (int looks = 0; looks < kMaxLooks; ++looks) {
    if (RoleWord::decode(holder).state != RoleWord::State::held) return 0;
    const RoleWatch::Peer verdict = watch.look<Access>(role);
    // The verdict is about the word that the watch saw: ours, if it is there before and after.
    const std::uint64_t after = Access::load_acquire(role.word);
    if (after == holder) {
      if (verdict != RoleWatch::Peer::dead) return fail(Errc::in_use, 0, "total: owner is alive");
      return resolve_claims<Access>(ring, owner, holder);
    }
    holder = after;  // it changed hands while we looked
  }
  return fail(Errc::in_use, 0, "total: owner changes hands");
}

}  // namespace detail

template <typename Access>
Result<std::size_t> reap(std::span<std::byte> area, std::uint32_t owner,
                         RoleWatch& watch) noexcept {
  const auto geometry = load_total_geometry<Access>(area);
  if (!geometry) return tl::unexpected(geometry.error());
  if (owner >= geometry->owners) return fail(Errc::invalid_argument, 0, "total: owner");
  return detail::reap_entry<Access>(TotalView(area, *geometry), owner, watch);
}

template <typename Access>
Result<std::size_t> reap(std::span<std::byte> area, std::uint32_t owner) noexcept {
  RoleWatch watch;
  return reap<Access>(area, owner, watch);
}

namespace detail {

/// Takes entry `index` if it is free, or its holder dead and reaped. `in_use` when neither.
template <typename Access>
Result<OwnerSlot> take_entry(const TotalView& ring, std::uint32_t index,
                             const ProcessToken& self) noexcept {
  const RoleRef role = ring.owner_role(index);
  RoleWatch watch;
  // While the dead still holds it any survivor can resolve its claims; once we hold it, only we.
  if (const auto reaped = reap_entry<Access>(ring, index, watch); !reaped) {
    return tl::unexpected(reaped.error());
  }
  const auto taken = take_role<Access>(role, self);
  if (!taken) return tl::unexpected(taken.error());
  if (taken->before == RoleWord::State::held) {
    // Another may have held it and died since the reaping: resolved again, before our first claim.
    const std::uint64_t mine = Access::load_acquire(role.word);
    if (const auto done = resolve_claims<Access>(ring, index, mine); !done) {
      return tl::unexpected(done.error());
    }
  }
  return OwnerSlot{index, taken->generation};
}

}  // namespace detail

template <typename Access>
Result<OwnerSlot> take_owner(std::span<std::byte> area, const ProcessToken& self) noexcept {
  const auto geometry = load_total_geometry<Access>(area);
  if (!geometry) return tl::unexpected(geometry.error());
  const TotalView ring(area, *geometry);
  // First what costs no proof.
  for (const bool held_ones : {false, true}) {
    for (std::uint32_t i = 0; i < geometry->owners; ++i) {
      const RoleWord now = RoleWord::decode(Access::load_relaxed(ring.owners[i].role));
      if ((now.state == RoleWord::State::held) != held_ones) continue;
      auto slot = detail::take_entry<Access>(ring, i, self);
      if (slot || slot.error().code != Errc::in_use) return slot;
    }
  }
  return fail(Errc::in_use, 0, "total: no owner slot");
}

template <typename Access>
Result<void> leave_owner(std::span<std::byte> area, OwnerSlot slot) noexcept {
  const auto geometry = load_total_geometry<Access>(area);
  if (!geometry) return tl::unexpected(geometry.error());
  if (slot.index >= geometry->owners) return fail(Errc::invalid_argument, 0, "total: owner");
  const TotalView ring(area, *geometry);
  const RoleRef role = ring.owner_role(slot.index);
  const std::uint64_t mine = Access::load_acquire(role.word);
  const RoleWord word = RoleWord::decode(mine);
  if (word.state != RoleWord::State::held || word.generation != slot.generation) {
    return fail(Errc::invalid_argument, 0, "total: not the owner");
  }
  if (const auto done = resolve_claims<Access>(ring, slot.index, mine); !done) {
    return tl::unexpected(done.error());
  }
  leave_role<Access>(role, slot.generation);
  return {};
}

}  // namespace slipring::ring

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "slipring/base/process.h"
#include "slipring/base/result.h"
#include "slipring/base/shared_access.h"

namespace slipring {

/// The decoded claim word of a role (producer or consumer of a lane):
///   |63         40|39        24|23      2|1   0|
///   | generation  | pid scope  |   pid   |state|
/// The holder's pid is in the word itself, so a claim never belongs to nobody: a process killed
/// between the CAS and the token beside it can still be named and proved dead (D2).
struct RoleWord {
  enum class State : std::uint8_t {
    vacant = 0,   ///< Never held.
    held = 1,     ///< By `pid`, alive or dead.
    left = 2,     ///< The last holder detached in order.
    retired = 3,  ///< The object is being removed: nobody attaches any more.
  };
  State state = State::vacant;
  std::uint32_t pid = 0;
  std::uint16_t scope = 0;
  std::uint32_t generation = 0;  ///< Plus one at each take; 24 bits, wraps.

  [[nodiscard]] static constexpr RoleWord decode(std::uint64_t bits) noexcept {
    return {static_cast<State>(bits & 3), static_cast<std::uint32_t>(bits >> 2) & 0x3fffff,
            static_cast<std::uint16_t>(bits >> 24), static_cast<std::uint32_t>(bits >> 40)};
  }
  [[nodiscard]] constexpr std::uint64_t encode() const noexcept {
    return static_cast<std::uint64_t>(state) | static_cast<std::uint64_t>(pid & 0x3fffff) << 2 |
           static_cast<std::uint64_t>(scope) << 24 |
           static_cast<std::uint64_t>(generation & 0xffffff) << 40;
  }
};

/// A role as it lies in a segment: the claim word, and the token of whoever holds it.
/// The word has several possible writers, one at a time (docs/sync-points.md, exceptions): the
/// holder while it is alive, anyone by CAS while the role is free or its holder proved dead.
struct RoleRef {
  SharedWord<std::uint64_t>& word;
  SharedToken& token;
};

/// A role taken by this process.
struct TakenRole {
  std::uint32_t generation = 0;
  RoleWord::State before = RoleWord::State::vacant;  ///< `held`: the predecessor is proved dead.
};

/// Looks at a role, after which one that is another's at each of them counts as in use: whoever
/// rewrites its word all the time holds nobody up.
inline constexpr int kMaxLooks = 64;

/// Takes a role that is vacant, left, or whose holder the kernel proves dead. `self` is this
/// process, or with self_thread_token() this thread: then the role ends with it.
/// Progress: wait-free: at most kMaxLooks looks; a bounded number of system calls for each.
/// Errors: in_use        a living (or unprovable) process holds it, or another at each look,
///         segment_lost  the object is retired: open it by name again.
/// Orders: role.take.
template <typename Access = NativeAccess>
[[nodiscard]] Result<TakenRole> take_role(RoleRef role, ProcessToken self = self_token()) noexcept;

/// Gives the role back in order. Everything stored before is visible to the next holder.
/// Orders: role.take.
template <typename Access = NativeAccess>
void leave_role(RoleRef role, std::uint32_t generation) noexcept;

/// Closes a free role for ever, before its object is removed. A role that another retirer closed
/// counts as closed.
/// Progress, Errors: as take_role, but for segment_lost.
template <typename Access = NativeAccess>
[[nodiscard]] Result<void> retire_role(RoleRef role) noexcept;

/// Follows whoever holds a role, for a peer that waits on it. Cheap while nothing changes: one
/// load, and one poll of the kept pidfd.
/// Threads: one at a time.
class RoleWatch {
 public:
  /// What the waiting side may conclude.
  enum class Peer : std::uint8_t {
    never_came,  ///< Nobody held the role yet.
    alive,       ///< Held by a process not proved dead.
    left,        ///< Closed in order. What it committed is visible.
    dead,        ///< The kernel proved it. What it committed is visible.
    retired,     ///< The object is being removed.
  };
  template <typename Access = NativeAccess>
  [[nodiscard]] Peer look(RoleRef role) noexcept;
  /// The pidfd of the holder that was last seen alive, readable on its death; -1 when there is
  /// none, and for a thread, whose end is found by looking. Ours; closed when another holder is
  /// found.
  [[nodiscard]] int fd() const noexcept {
    return watched_ != 0 && watch_.token().tid == 0 ? watch_.fd() : -1;
  }

 private:
  [[nodiscard]] Verdict verdict_on(const RoleWord& word,
                                   const Result<ProcessToken>& token) noexcept;

  std::uint64_t watched_ = 0;  // the claim word that watch_ is about
  PeerWatch watch_{ProcessToken{}};
};

}  // namespace slipring

#include "slipring/base/role_inl.h"

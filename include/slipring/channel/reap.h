// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "slipring/base/result.h"
#include "slipring/segment/segment.h"

// What becomes of a ring and of what lies in it when the processes at it are killed. No daemon has
// to run any of this: whoever attaches, waits, or tidies up does (docs/death.md).
namespace slipring::channel {

/// A place that somebody had in a ring.
struct HeldPlace {
  enum class Part : std::uint8_t {
    sender,       ///< `index` is its lane, or its entry in the owner table.
    receiver,     ///< `index` is 0.
    participant,  ///< Of the pool: `index` counts from 1.
  };
  Part part = Part::sender;
  std::uint32_t index = 0;
  std::uint32_t pid = 0;
  std::string command;  ///< As it called itself; any bytes, and empty when it did not come to it.
};

/// Whether a ring's name may go, and why. In the order that decides.
enum class Fate : std::uint8_t {
  used,     ///< Somebody who is not proved dead has a place.
  stays,    ///< Nobody has; whoever made it wants it to stay until it is removed.
  unread,   ///< Nobody has; committed messages wait for the next receiver.
  awaited,  ///< Nobody ever had; its maker is not proved dead, and may be about to.
  orphan,   ///< Its users are gone, and none of them could remove it.
};
[[nodiscard]] std::string_view to_string(Fate fate) noexcept;

/// What the kernel says of all who have a place in a ring.
struct Remains {
  Fate fate = Fate::used;
  std::vector<HeldPlace> living;  ///< Not proved dead.
  std::vector<HeldPlace> dead;    ///< Proved, and not yet succeeded.
  /// Total order: records that the dead claimed and did not commit; all others wait behind them.
  std::uint64_t open_claims = 0;

  /// Whether reap_ring() would change anything. A dead sender's or receiver's place alone needs
  /// nothing: its successor takes it.
  [[nodiscard]] bool has_work() const noexcept;
};

/// Looks at every place. Stores nothing; a read-only mapping will do.
/// Trust:    as check(). Rotten counts as unread: it is evidence.
/// Progress: a bounded number of system calls for each place that is held.
/// Errors:   those of RingBody::of.
/// Orders:   role.take, lane.reclaim, total.reclaim.
[[nodiscard]] Result<Remains> look_at_remains(const segment::Segment& segment);

/// What reap_ring found and did.
struct Reaped {
  std::uint32_t dead = 0;    ///< Places whose holder is proved dead,
  std::uint64_t claims = 0;  ///< their open claims that became records to skip,
  std::uint64_t blocks = 0;  ///< words of blocks that named them,
  std::uint32_t rung = 0;    ///< and doorbells rung for them.
};

/// Repairs what the proved dead hold in a ring, and rings the doorbells of those who wait on them.
/// Total order: their open claims are to be skipped. A pool: blocks that name them come back, and
/// their entries are free. Their places as senders are given free by the receiver, which tells of
/// the death behind what they had committed; a newcomer takes any place of the dead at once.
/// It may be killed anywhere, repeated, and run by several at once, beside successors, too (I12).
/// Threads:  any. Progress: as look_at_remains, and lock-free; waits for nobody.
/// Trust:    as look_at_remains.
/// Errors:   those of RingBody::of; permission  the segment is open read-only; corrupt  as
///           ring::reap. What was repaired before stays so.
/// Orders:   total.reap, pool.reap, doorbell.ring.
[[nodiscard]] Result<Reaped> reap_ring(const segment::Segment& segment);

/// Removes the name of a ring whose fate is `orphan`, judged under the lock that attaching takes,
/// so that nobody comes in between. `although_unread`: one whose fate is `unread`, as well. Errors:
/// in_use     its fate is another: look_at_remains() says which. Nothing was done,
///         not_found  the name is gone, or another's by now; timed_out  the lock; those of
///         RingBody::of and Segment::unlink.
[[nodiscard]] Result<void> remove_orphan(segment::Segment& segment, bool although_unread = false);

}  // namespace slipring::channel

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "slipring/ring/total_geometry.h"

namespace slipring::ring {

/// A told position that some consumer may have stored.
[[nodiscard]] constexpr bool is_total_position(std::uint64_t pos) noexcept {
  return is_aligned(pos, kTotalGranule) && pos <= kMaxPosition;
}

/// Visits the records from `from`, a boundary, until the frontier, or until one lap behind `from`,
/// or until `visit(pos, bits, descriptor)` returns false; returns the position reached. Reads only.
/// The ring may run meanwhile: what was overtaken is skipped, being consumed.
/// Progress: wait-free; the position only grows, so at most two loads for each granule of a lap.
/// Errors:   corrupt  a descriptor that no producer stores.
/// Orders:   total.claim, total.reclaim.
template <typename Access, typename Visit>
[[nodiscard]] Result<std::uint64_t> walk_records(const TotalView& ring, std::uint64_t from,
                                                 Visit&& visit) noexcept {
  std::uint64_t pos = from;
  while (pos - from < ring.capacity) {
    // SYNC total.claim (acquire <- release in TotalProducer::claim_granules):
    //   whoever sees a claim sees the read_pos that made room for it, and its owner's role.
    const std::uint64_t bits = Access::load_acquire(ring.descriptor(pos));
    const Descriptor desc = Descriptor::decode(bits);
    const std::int64_t ahead = lap_ahead(desc.lap, ring.lap(pos));
    if (ahead < 0) return pos;  // T2
    if (ahead > 0 || desc.state == RecordState::none) {
      // Overtaken: read_pos has passed this boundary, and we see at least that one.
      // SYNC total.reclaim (acquire <- release in TotalConsumer::tell_read): see above.
      const std::uint64_t read = Access::load_acquire(ring.control->read_pos);
      if (!is_total_position(read) || read <= pos) {
        return fail(Errc::corrupt, 0, "total: descriptor ahead of its lap");
      }
      pos = read;
      continue;
    }
    const auto end = ring.end_of(pos, desc);
    if (!end) return fail(Errc::corrupt, 0, "total: descriptor");
    if (!visit(pos, bits, desc)) return pos;
    pos = *end;
  }
  return pos;
}

/// Turns every open claim of owner `index` into a dead record, as long as its role word is
/// `holder`: that of a holder proved dead, or our own. Returns how many this call turned. Progress,
/// Errors: as walk_records. Orders:   total.reap, total.claim, total.reclaim.
template <typename Access>
[[nodiscard]] Result<std::size_t> resolve_claims(const TotalView& ring, std::uint32_t index,
                                                 std::uint64_t holder) noexcept {
  // SYNC total.reclaim (acquire <- release in TotalConsumer::tell_read):
  //   nothing below is claimed. All claims of the dead lie within a lap from here.
  const std::uint64_t from = Access::load_acquire(ring.control->read_pos);
  if (!is_total_position(from)) return fail(Errc::corrupt, 0, "total: read_pos");
  std::size_t resolved = 0;
  const auto end = walk_records<Access>(
      ring, from, [&](std::uint64_t pos, std::uint64_t bits, const Descriptor& desc) {
        if (desc.state != RecordState::claimed || desc.owner_id != index + 1) return true;
        // A successor takes the entry only when all claims of the dead are resolved. If the role
        // still is the one we judged, this claim is the dead one's; and if a faster reaper and a
        // successor come between here and the swap, the word has changed for ever (T3).
        if (Access::load_acquire(ring.owners[index].role) != holder) return false;
        Descriptor dead = desc;
        dead.state = RecordState::dead;
        // SYNC total.reap (release -> acquire in TotalConsumer::look, walk_records): the record is
        //   skipped by whoever sees this; recovery is done before the wake and before reuse.
        if (Access::cas_acq_rel(ring.descriptor(pos), bits, dead.encode())) ++resolved;
        return true;
      });
  if (!end) return tl::unexpected(end.error());
  return resolved;
}

}  // namespace slipring::ring

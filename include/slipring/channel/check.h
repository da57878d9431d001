// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "slipring/base/result.h"
#include "slipring/segment/segment.h"

namespace slipring::channel {

/// What a finding asks for.
enum class Severity : std::uint8_t {
  /// Somebody died and left what recovery repairs: the next to attach, or to reap. No fault.
  pending,
  /// What the protocol cannot produce, whoever died where.
  violation,
};

/// One thing that check() found.
struct Finding {
  Severity severity = Severity::violation;
  const char* rule = "";  ///< "I1" to "I8", "R1" to "R7", "T1" to "T6", "B1", "format": static.
  std::string where;      ///< "lane 3", "owner 2", "consumer", "pool", "participant 4".
  std::string what;       ///< A sentence of plain ASCII without its full stop.
};

/// What a look at a whole ring found. The counts are of what was judged.
struct CheckReport {
  std::vector<Finding> findings;  ///< At most kMaxFindings; what is beyond is counted.
  std::uint64_t violations = 0;
  std::uint64_t pendings = 0;
  std::uint64_t lanes = 0;      ///< Lanes, or 1 for a ring of total order.
  std::uint64_t records = 0;    ///< Unread, each one's header checked,
  std::uint64_t committed = 0;  ///< and all that were ever committed,
  std::uint64_t released = 0;   ///< and given back.
  std::uint64_t blocks = 0;     ///< Of the pool, each one's word checked.
  /// Parts that changed at each of kMaxLooks looks: alive, and not judged.
  std::uint64_t unsettled = 0;

  static constexpr std::size_t kMaxFindings = 256;
  [[nodiscard]] bool is_sound() const noexcept { return violations == 0; }
};

/// Looks at a part again while its words move, so often.
inline constexpr int kMaxCheckLooks = 64;

/// Verifies what a snapshot can show of I1 to I8 (docs/crash-testing.md#check): positions and
/// record headers, no told record missing, committed = released + unread to the unit in each lane,
/// each open claim somebody's, each block in one state. Read-only, on a live ring, a dead one, or
/// what is left of one: words that move are looked at again, and a live ring has no findings.
/// Threads:  any, beside all others.
/// Progress: bounded: at most kMaxCheckLooks walks of capacity / 8 loads for each lane, a load or
///           two for each block, a proof of death for each role.
/// Trust:    all of it is hostile: each word once, checked where it is used. No text of the segment
///           is repeated in a finding.
/// Errors:   those of RingBody::of: not a ring, or not one of this version.
/// Orders:   lane.publish, lane.reclaim, lane.tell_write, total.claim, total.reclaim, pool.claim,
///           role.take.
[[nodiscard]] Result<CheckReport> check(const segment::Segment& segment);

}  // namespace slipring::channel

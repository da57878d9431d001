// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "slipring/ring/layout.h"

// Many producers, one consumer, order per producer: one consumer block and a lane for each
// producer, behind each other in one span of bytes. On the hot path no two processes store to one
// line.
//
//   0x0000  consumer block            MpscConsumerSide, one page
//   0x1000  lane 0                    consumer area, producer area, as docs/format.md#lane has them
//           lane 1 ..                 each lane_stride() behind the one before
namespace slipring::ring {

inline constexpr std::uint64_t kMpscMagic = 0x5250435350524c53;  // "SLRPSCPR"
inline constexpr std::uint32_t kMpscVersion = 1;
inline constexpr std::uint32_t kMaxLanes = 4096;
inline constexpr std::uint64_t kDefaultLaneCapacity = std::uint64_t{64} << 10;

/// What never changes after creation.
struct MpscGeometry {
  std::uint32_t lanes = kDefaultSenders;                ///< Producers at a time, 1 to kMaxLanes.
  LaneGeometry lane{.capacity = kDefaultLaneCapacity};  ///< Of each; lane_id is that of lane 0.

  /// Bytes from one lane to the next.
  [[nodiscard]] constexpr std::uint64_t lane_stride() const noexcept {
    return 2 * kLaneAreaBytes + lane.capacity;
  }
  [[nodiscard]] constexpr std::uint64_t total_bytes() const noexcept {
    return kLaneAreaBytes + lanes * lane_stride();
  }
  friend bool operator==(const MpscGeometry&, const MpscGeometry&) = default;
};

/// What the consumer stores, and the two words that producers add to (exceptions to one writer,
/// docs/sync-points.md): `seq` once per sleep of the consumer, `epoch` once per join.
struct MpscConsumerSide {
  SharedWord<std::uint64_t> magic;    ///< 0x000 stored last, release
  SharedWord<std::uint64_t> version;  ///< 0x008
  SharedWord<std::uint64_t> lanes;    ///< 0x010
  SharedWord<std::uint64_t> stride;   ///< 0x018

  alignas(64) SharedWord<std::uint64_t> role;  ///< 0x040 RoleWord
  SharedWord<std::uint32_t> fence;             ///< 0x048 wait::FenceMode of this ringer
  SharedWord<std::uint32_t> reserved;

  alignas(kControlSpacing) SharedWord<std::uint64_t> sweeps;  ///< 0x080 told when idle
  SharedWord<std::uint64_t> joins_seen;                       ///< 0x088
  SharedWord<std::uint64_t> poisoned;                         ///< 0x090 lanes given up as corrupt

  alignas(kControlSpacing) SharedWord<std::uint64_t> ticket;  ///< 0x100 consumer is parked
  SharedWord<std::uint64_t> parked_since;                     ///< 0x108 CLOCK_MONOTONIC, ns

  alignas(kControlSpacing) SharedWord<std::uint32_t> seq;  ///< 0x180 consumer sleeps on it

  alignas(kControlSpacing) SharedWord<std::uint64_t> epoch;  ///< 0x200 plus 1 per join

  alignas(kControlSpacing) ReceiverCounts counts;  ///< 0x280 those of the lanes stay unused
  alignas(kControlSpacing) SharedToken token;      ///< 0x300 who holds the role
};
static_assert(offsetof(MpscConsumerSide, role) == 0x40);
static_assert(offsetof(MpscConsumerSide, ticket) == 0x100);
static_assert(offsetof(MpscConsumerSide, seq) == 0x180);
static_assert(offsetof(MpscConsumerSide, epoch) == 0x200);
static_assert(offsetof(MpscConsumerSide, counts) == 0x280);
static_assert(offsetof(MpscConsumerSide, token) == 0x300);
static_assert(sizeof(MpscConsumerSide) <= kLaneAreaBytes);

inline constexpr std::uint64_t kMpscFingerprint =
    fnv1a("slipring mpsc per_producer 1: block 1000 counts 280, lanes of consumer 1000 producer",
          kLaneFingerprint);

}  // namespace slipring::ring

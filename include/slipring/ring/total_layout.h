// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "slipring/ring/layout.h"

// The bytes of a ring of total order and nothing else; docs/total.md draws them. One area of one
// segment, shared tier only: every producer writes descriptors and data. Little-endian.
namespace slipring::ring {

inline constexpr std::uint64_t kTotalMagic = 0x4c41544f54524c53;  // "SLRTOTAL"
inline constexpr std::uint32_t kTotalVersion = 1;

inline constexpr std::uint64_t kTotalControlBytes = 4096;  ///< The owner table follows.
inline constexpr std::uint64_t kTotalGranule = 64;         ///< Records start at multiples.
inline constexpr std::uint32_t kMaxOwners = 1023;

/// Laps are counted modulo 2^36; ages below half of that are told apart.
inline constexpr std::uint64_t kLapBits = 36;
inline constexpr std::uint64_t kLapMask = (std::uint64_t{1} << kLapBits) - 1;
/// A descriptor older than this is renewed by the consumer (T6).
inline constexpr std::int64_t kRenewAge = std::int64_t{1} << 16;

/// How far `lap` is ahead of `than`; negative when it is behind.
[[nodiscard]] constexpr std::int64_t lap_ahead(std::uint64_t lap, std::uint64_t than) noexcept {
  const std::uint64_t ahead = (lap - than) & kLapMask;
  return ahead >> (kLapBits - 1) == 0
             ? static_cast<std::int64_t>(ahead)
             : static_cast<std::int64_t>(ahead) - (std::int64_t{1} << kLapBits);
}

/// What became of a record's room.
enum class RecordState : std::uint8_t {
  none = 0,       ///< No record of this lap starts here.
  claimed = 1,    ///< Its owner fills it. Changed by that owner, or on proof of its death.
  committed = 2,  ///< Whole.
  dead = 3,       ///< To be skipped: aborted, padding, or its owner died.
};

/// The one word that decides a record's fate (D1, D2). It lies beside the data, so a payload can
/// never look like one and nothing has to be cleared.
///   |63              28|27        18|17           2|1    0|
///   |  lap, mod 2^36   | owner + 1  |   granules   | state|       all zero: never claimed
struct Descriptor {
  std::uint64_t lap = 0;       ///< position / capacity + 1, mod 2^36.
  std::uint32_t owner_id = 0;  ///< Index in the owner table plus one; 0: the consumer's (T6).
  std::uint32_t granules = 0;  ///< Of the whole record, 64 bytes each.
  RecordState state = RecordState::none;

  [[nodiscard]] static constexpr Descriptor decode(std::uint64_t bits) noexcept {
    return {bits >> 28, static_cast<std::uint32_t>(bits >> 18) & 0x3ff,
            static_cast<std::uint32_t>(bits >> 2) & 0xffff, static_cast<RecordState>(bits & 3)};
  }
  [[nodiscard]] constexpr std::uint64_t encode() const noexcept {
    return (lap & kLapMask) << 28 | static_cast<std::uint64_t>(owner_id & 0x3ff) << 18 |
           static_cast<std::uint64_t>(granules & 0xffff) << 2 | static_cast<std::uint64_t>(state);
  }
  friend bool operator==(const Descriptor&, const Descriptor&) = default;
};

/// What never changes after creation: read once at attach, checked, kept in private memory (D8).
struct TotalGeometry {
  std::uint64_t capacity = kDefaultCapacity;  ///< Bytes of data area; a power of two.
  std::uint32_t owners = kDefaultSenders;     ///< Producers at a time; at most kMaxOwners.
  std::uint8_t bell = 0;      ///< wait::BellKind of both doorbells. Meaningless to this layer.
  std::uint64_t ring_id = 0;  ///< Random.
  std::uint64_t type_fingerprint = 0;  ///< Of the record type; 0: bytes.
  std::uint32_t type_size = 0;
  std::uint32_t type_align = 0;

  [[nodiscard]] constexpr std::uint64_t granules() const noexcept {
    return capacity / kTotalGranule;
  }
  /// Largest record: a quarter of the capacity, and what 16 bits of granules can say.
  [[nodiscard]] constexpr std::uint64_t max_record() const noexcept {
    return std::min(capacity / 4, std::uint64_t{0xffff} * kTotalGranule);
  }
  /// Largest payload: one line less, for the header.
  [[nodiscard]] constexpr std::uint64_t max_payload() const noexcept {
    return max_record() - kTotalGranule;
  }
  [[nodiscard]] constexpr std::uint64_t owners_offset() const noexcept {
    return kTotalControlBytes;
  }
  [[nodiscard]] constexpr std::uint64_t desc_offset() const noexcept {
    return owners_offset() + align_up(std::uint64_t{owners} * 256, 4096);
  }
  [[nodiscard]] constexpr std::uint64_t data_offset() const noexcept {
    return desc_offset() + align_up(granules() * kWordBytes, 4096);
  }
  [[nodiscard]] constexpr std::uint64_t area_bytes() const noexcept {
    return data_offset() + capacity;
  }
  friend bool operator==(const TotalGeometry&, const TotalGeometry&) = default;
};

// T1  Records tile the positions: one starts at 0, each next one at the end of the last. The end
//     of the last is the frontier; read_pos <= frontier <= read_pos + capacity at every instant.
// T2  Each boundary below the frontier had its descriptor stored with its own lap, and the lap in
//     a descriptor never goes back. So a descriptor older than its boundary marks the frontier.
// T3  Within one lap a descriptor goes none -> claimed -> committed or dead, or none -> dead
//     (padding), and never returns: a compare-and-swap that succeeds proves that nothing happened.
// T4  A claimed descriptor is changed by its living owner alone, or, once the kernel proved that
//     owner dead, from claimed to dead by anyone.
// T5  A record lies within one lap; one dead record fills what is left of the lap.
// T6  No descriptor gets 2^35 laps old: the consumer renews those older than 2^16 laps.

/// Control page of a ring. Who writes is named at each word.
struct TotalControl {
  // Stored by the creator before the segment has a name; constant afterwards.
  SharedWord<std::uint64_t> magic;             ///< 0x000 stored last, release
  SharedWord<std::uint64_t> geometry;          ///< 0x008 version:32 lg cap:8 bell:8 owners:16
  SharedWord<std::uint64_t> data_offset;       ///< 0x010 from the start of this area
  SharedWord<std::uint64_t> ring_id;           ///< 0x018
  SharedWord<std::uint64_t> limits;            ///< 0x020 largest payload:32 features:32
  SharedWord<std::uint64_t> type_fingerprint;  ///< 0x028
  SharedWord<std::uint64_t> type_shape;        ///< 0x030 size:32 align:32

  alignas(64) SharedWord<std::uint64_t> role;  ///< 0x040 RoleWord of the consumer
  SharedWord<std::uint32_t> fence;             ///< 0x048 wait::FenceMode of the consumer's ringer
  SharedWord<std::uint32_t> reserved;

  // The consumer stores these. Told lazily; its own copies are private.
  alignas(kControlSpacing) SharedWord<std::uint64_t> read_pos;  ///< 0x080 told every N/8
  SharedWord<std::uint64_t> messages;                           ///< 0x088 released
  SharedWord<std::uint64_t> redelivered;                        ///< 0x090
  SharedWord<std::uint64_t> visits;                             ///< 0x098 empty polls after records
  SharedWord<std::uint64_t> slips;                              ///< 0x0a0 paced waits
  SharedWord<std::uint64_t> parks;                              ///< 0x0a8
  SharedWord<std::uint64_t> before_pos;                         ///< 0x0b0 as R7 of the lane
  SharedWord<std::uint64_t> before_messages;                    ///< 0x0b8
  SharedWord<std::uint64_t> before_redelivered;                 ///< 0x0c0
  SharedWord<std::uint64_t> repeats_to;                         ///< 0x0c8 as R8 of the lane

  /// Start of some record, told every N/16 by whichever producer claims then. Proved by its
  /// descriptor before use, so any value is harmless.
  alignas(kControlSpacing) SharedWord<std::uint64_t> claim_hint;  ///< 0x100

  alignas(kControlSpacing) SharedWord<std::uint64_t> ticket;  ///< 0x180 consumer is parked
  SharedWord<std::uint64_t> parked_since;                     ///< 0x188 CLOCK_MONOTONIC, ns

  alignas(kControlSpacing) SharedWord<std::uint32_t> seq;  ///< 0x200 consumer sleeps on it

  /// Set by producers before they sleep on space_seq, cleared by the consumer before it rings.
  alignas(kControlSpacing) SharedWord<std::uint32_t> space_wanted;  ///< 0x280

  alignas(kControlSpacing) SharedWord<std::uint32_t> space_seq;  ///< 0x300 producers sleep on it

  alignas(kControlSpacing) SharedToken token;      ///< 0x380 of the consumer
  alignas(kControlSpacing) ReceiverCounts counts;  ///< 0x400
};

/// What one producer stores: an entry of the owner table. One writer: the holder of the role.
/// Counters go on from one holder to the next; a kill leaves them at most one message behind.
struct alignas(kControlSpacing) TotalOwner {
  SharedWord<std::uint64_t> role;   ///< 0x00 RoleWord
  SharedWord<std::uint32_t> fence;  ///< 0x08 wait::FenceMode of this ringer
  SharedWord<std::uint32_t> reserved;
  SharedWord<std::uint64_t> messages;      ///< 0x10 committed
  SharedWord<std::uint64_t> bytes;         ///< 0x18 payload bytes committed
  SharedWord<std::uint64_t> aborts;        ///< 0x20 claims given up
  SharedWord<std::uint64_t> fulls;         ///< 0x28 claims that found no room
  SharedWord<std::uint64_t> parked_since;  ///< 0x30 asleep on space_seq; CLOCK_MONOTONIC, ns
  SharedWord<std::uint64_t> rings;         ///< 0x38 doorbell wakes
  SenderCounts counts;                     ///< 0x40

  alignas(kControlSpacing) SharedToken token;  ///< 0x80 who holds the role
};

static_assert(std::is_standard_layout_v<TotalControl> && std::is_standard_layout_v<TotalOwner>);
static_assert(offsetof(TotalControl, role) == 0x40 && offsetof(TotalControl, fence) == 0x48);
static_assert(offsetof(TotalControl, read_pos) == 0x80);
static_assert(offsetof(TotalControl, repeats_to) == 0xc8);
static_assert(offsetof(TotalControl, claim_hint) == 0x100);
static_assert(offsetof(TotalControl, ticket) == 0x180);
static_assert(offsetof(TotalControl, seq) == 0x200);
static_assert(offsetof(TotalControl, space_wanted) == 0x280);
static_assert(offsetof(TotalControl, space_seq) == 0x300);
static_assert(offsetof(TotalControl, token) == 0x380);
static_assert(offsetof(TotalControl, counts) == 0x400);
static_assert(sizeof(TotalControl) == 0x480 && sizeof(TotalControl) <= kTotalControlBytes);
static_assert(offsetof(TotalOwner, messages) == 0x10 && offsetof(TotalOwner, rings) == 0x38);
static_assert(offsetof(TotalOwner, counts) == 0x40);
static_assert(offsetof(TotalOwner, token) == 0x80 && sizeof(TotalOwner) == 0x100);
static_assert(Descriptor::decode(~std::uint64_t{0}).encode() == ~std::uint64_t{0});

/// Changes whenever a byte above changes its meaning.
inline constexpr std::uint64_t kTotalFingerprint = fnv1a(
    "slipring total 1: control 480 repeats c8 page 1000 owner 100 counts 40 400 desc lap36 owner10 "
    "granules16 "
    "state2 "
    "granule 40 header size32 type16 kind8 flags8");

}  // namespace slipring::ring

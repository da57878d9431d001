// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "slipring/base/align.h"
#include "slipring/base/hash.h"
#include "slipring/base/process.h"
#include "slipring/base/shared_access.h"

// The bytes of a lane and nothing else: docs/format.md draws them, tests/format reads them back.
// A lane is two areas with one writer each. They lie in one segment (shared tier) or in two, where
// each side maps the other's read-only (sealed tier). All integers are little-endian.
namespace slipring::ring {

inline constexpr std::uint64_t kLaneProducerMagic = 0x50454e414c524c53;  // "SLRLANEP"
inline constexpr std::uint64_t kLaneConsumerMagic = 0x43454e414c524c53;  // "SLRLANEC"
inline constexpr std::uint32_t kLaneVersion = 1;

inline constexpr std::uint64_t kLaneAreaBytes = 4096;  ///< Control page of either area.
inline constexpr std::uint64_t kWordBytes = 8;
inline constexpr std::uint64_t kMinCapacity = 4096;
inline constexpr std::uint64_t kMaxCapacity = std::uint64_t{1} << 30;
inline constexpr std::uint64_t kDefaultCapacity = std::uint64_t{256} << 10;
inline constexpr std::uint32_t kDefaultSenders = 64;  ///< Of a ring that takes many.

/// Payloads up to this size count as small: a few of them share a line, or one fills it.
inline constexpr std::uint64_t kSmallBytes = 64;

/// A told position beyond this is not one (R2). Below it no sum of positions and sizes wraps.
inline constexpr std::uint64_t kMaxPosition = std::uint64_t{1} << 63;

/// From this size on a payload starts on a cache line of its own, not behind its header: it is
/// aligned for bulk copies, and filling it leaves the polled line alone.
inline constexpr std::uint64_t kOwnLineBytes = 512;

/// What a record is. Values are format; 3 and 4 are read by later layers.
enum class RecordKind : std::uint8_t {
  none = 0,     ///< A zero word: nothing here yet.
  data = 1,     ///< A message.
  padding = 2,  ///< Filler to the end of the lap; `size` is the whole record.
  chunk = 3,    ///< Part of a larger message.
  block = 4,    ///< Reference to a block of a pool.
  control = 5,  ///< For the library itself.
};

/// The commit word: the first 8 bytes of a record.
///   |63   56|55   48|47          32|31                 0|      all zero: nothing here yet
///   | flags | kind  |  user type   |   payload bytes    | payload ...
struct RecordHeader {
  std::uint32_t size = 0;
  std::uint16_t type = 0;
  RecordKind kind = RecordKind::none;
  std::uint8_t flags = 0;

  static constexpr std::uint8_t kOwnLine = 1;     ///< Payload starts at the next cache line.
  static constexpr std::uint8_t kKnownFlags = 1;  ///< Any other bit is refused as corrupt.

  [[nodiscard]] static constexpr RecordHeader decode(std::uint64_t bits) noexcept {
    return {static_cast<std::uint32_t>(bits), static_cast<std::uint16_t>(bits >> 32),
            static_cast<RecordKind>(static_cast<std::uint8_t>(bits >> 48)),
            static_cast<std::uint8_t>(bits >> 56)};
  }
  [[nodiscard]] constexpr std::uint64_t encode() const noexcept {
    return size | static_cast<std::uint64_t>(type) << 32 | static_cast<std::uint64_t>(kind) << 48 |
           static_cast<std::uint64_t>(flags) << 56;
  }
};

/// Where the payload of a record at `pos` starts.
[[nodiscard]] constexpr std::uint64_t payload_pos(std::uint64_t pos, bool own_line) noexcept {
  return own_line ? align_up(pos + kWordBytes, kCacheLine) : pos + kWordBytes;
}

/// What the layer above counts for tools, where the producer's other words are; this layer neither
/// reads nor stores it. One writer: the holder of the producer's role. They go on from one holder
/// to the next, and lag by one after a kill.
struct SenderCounts {
  SharedWord<std::uint64_t> waits;     ///< Times a message waited for room,
  SharedWord<std::uint64_t> timeouts;  ///< and in vain, to its deadline.
  SharedWord<std::uint64_t> refused;   ///< Messages given back at once for lack of room.
  SharedWord<std::uint64_t> stashed;   ///< Messages put by in private memory,
  SharedWord<std::uint64_t> dropped;   ///< and those of them that were given up.
  SharedWord<std::uint64_t> blocks;    ///< Messages sent by reference,
  SharedWord<std::uint64_t> streams;   ///< in chunks,
  SharedWord<std::uint64_t> directs;   ///< and read out of the sender's own memory.
};
/// The same for the consumer.
struct ReceiverCounts {
  SharedWord<std::uint64_t> open_messages;  ///< Begun and not complete, now.
  SharedWord<std::uint64_t> open_bytes;     ///< Memory that they take, now.
  SharedWord<std::uint64_t> completed;      ///< Messages put together from chunks.
  SharedWord<std::uint64_t> aborted;        ///< Given up by their senders, or died with them.
  SharedWord<std::uint64_t> faults;         ///< Chunks and references refused.
  SharedWord<std::uint64_t> deaths;         ///< Senders that the kernel proved dead.
  SharedWord<std::uint64_t> blocks;         ///< Messages read in place, by reference.
  SharedWord<std::uint64_t> directs;        ///< Messages read out of their sender's memory.
};
static_assert(sizeof(SenderCounts) == 64 && sizeof(ReceiverCounts) == 64);

/// What never changes after creation: read once at attach, checked, kept in private memory (D8).
struct LaneGeometry {
  std::uint64_t capacity = kDefaultCapacity;  ///< Bytes of data area; a power of two.
  std::uint32_t granule = 8;  ///< Records start at multiples: 8 packs, 64 gives each a line.
  std::uint8_t bell = 0;      ///< wait::BellKind of both doorbells. Meaningless to this layer.
  std::uint64_t lane_id = 0;  ///< Random; both areas carry it.
  std::uint64_t type_fingerprint = 0;  ///< Of the record type; 0: bytes.
  std::uint32_t type_size = 0;
  std::uint32_t type_align = 0;

  /// Largest payload: a quarter of the capacity.
  [[nodiscard]] constexpr std::uint64_t max_payload() const noexcept { return capacity / 4; }
  friend bool operator==(const LaneGeometry&, const LaneGeometry&) = default;
};

// R1  read_pos <= frontier <= read_pos + capacity, at every instant.
// R2  Positions only grow. An attach refuses one beyond 2^63; at 100 GB/s that is 2.9 years.
// R3  Before a record becomes visible, the header word right behind it is zero.
// R4  A record lies within one lap; one padding record fills what is left of the lap.
// R5  The word at the frontier is written once after its predecessor: by the commit.
// R6  Bytes of a record change only between claim and commit, and are reused only after read_pos
//     has passed their end.
// R7  The counters that belong to a told position are in memory at every instant: in the before_
//     words while before_pos equals the position, else in the counters themselves.
// R8  Unread records below repeats_to may have been used by a consumer that died. Its successor
//     says so before it can leave, so that whoever comes behind that one flags them as well.

/// What the producer of a lane stores; the data area follows at `data_offset`.
/// One writer: the holder of the producer role (before that, the creator).
struct LaneProducerSide {
  // Stored by the creator before the segment has a name; constant afterwards.
  SharedWord<std::uint64_t> magic;             ///< 0x000 stored last, release
  SharedWord<std::uint64_t> geometry;          ///< 0x008 version:32 lg cap:8 lg granule:8 bell:8
  SharedWord<std::uint64_t> data_offset;       ///< 0x010 from the start of this area
  SharedWord<std::uint64_t> lane_id;           ///< 0x018
  SharedWord<std::uint64_t> limits;            ///< 0x020 largest payload:32 features:32
  SharedWord<std::uint64_t> type_fingerprint;  ///< 0x028
  SharedWord<std::uint64_t> type_shape;        ///< 0x030 size:32 align:32

  alignas(64) SharedWord<std::uint64_t> role;  ///< 0x040 RoleWord
  SharedWord<std::uint32_t> fence;             ///< 0x048 wait::FenceMode of this ringer
  SharedWord<std::uint32_t> reserved;

  /// Lower bounds, told lazily for recovery and tools; the producer's own copies are private.
  alignas(kControlSpacing) SharedWord<std::uint64_t> write_pos;  ///< 0x080
  SharedWord<std::uint64_t> messages;                            ///< 0x088 committed
  SharedWord<std::uint64_t> bytes;                               ///< 0x090 payload bytes committed
  SharedWord<std::uint64_t> aborts;                              ///< 0x098 claims given up
  SharedWord<std::uint64_t> fulls;  ///< 0x0a0 claims that found no room
  SharedWord<std::uint64_t> rings;  ///< 0x0a8 doorbell wakes
  /// Killed while telling, the counters above may be ahead of write_pos: while before_pos equals
  /// write_pos, these belong to it (R7).
  SharedWord<std::uint64_t> before_pos;       ///< 0x0b0
  SharedWord<std::uint64_t> before_messages;  ///< 0x0b8
  SharedWord<std::uint64_t> before_bytes;     ///< 0x0c0

  alignas(kControlSpacing) SharedWord<std::uint32_t> data_seq;  ///< 0x100 consumer sleeps on it

  alignas(kControlSpacing) SharedWord<std::uint64_t> space_ticket;  ///< 0x180 producer is parked
  SharedWord<std::uint64_t> want_pos;      ///< 0x188 until read_pos is here
  SharedWord<std::uint64_t> parked_since;  ///< 0x190 CLOCK_MONOTONIC, ns

  alignas(kControlSpacing) SenderCounts counts;  ///< 0x200
  SharedWord<std::uint64_t> direct_withdrawn;    ///< 0x240 direct reads up to this number are off
  std::byte unused[0xb8];
  alignas(kControlSpacing) SharedToken token;  ///< 0x300 who holds the role
};

/// What the consumer of a lane stores. One writer: the holder of the consumer role.
struct LaneConsumerSide {
  SharedWord<std::uint64_t> magic;    ///< 0x000 stored last, release
  SharedWord<std::uint64_t> version;  ///< 0x008
  SharedWord<std::uint64_t> lane_id;  ///< 0x010

  alignas(64) SharedWord<std::uint64_t> role;  ///< 0x040 RoleWord
  SharedWord<std::uint32_t> fence;             ///< 0x048 wait::FenceMode of this ringer
  SharedWord<std::uint32_t> reserved;

  alignas(kControlSpacing) SharedWord<std::uint64_t> read_pos;  ///< 0x080 told every N/8
  SharedWord<std::uint64_t> messages;                           ///< 0x088 released
  SharedWord<std::uint64_t> redelivered;                        ///< 0x090
  SharedWord<std::uint64_t> visits;                             ///< 0x098 empty polls after records
  SharedWord<std::uint64_t> slips;                              ///< 0x0a0 paced waits
  SharedWord<std::uint64_t> parks;                              ///< 0x0a8
  SharedWord<std::uint64_t> before_pos;                         ///< 0x0b0 as for the producer
  SharedWord<std::uint64_t> before_messages;                    ///< 0x0b8
  SharedWord<std::uint64_t> before_redelivered;                 ///< 0x0c0
  SharedWord<std::uint64_t> repeats_to;                         ///< 0x0c8 see R8

  alignas(kControlSpacing) SharedWord<std::uint64_t> data_ticket;  ///< 0x100 consumer is parked
  SharedWord<std::uint64_t> parked_since;                          ///< 0x108 CLOCK_MONOTONIC, ns

  alignas(kControlSpacing) SharedWord<std::uint32_t> space_seq;  ///< 0x180 producer sleeps on it

  alignas(kControlSpacing) ReceiverCounts counts;  ///< 0x200
  SharedWord<std::uint64_t> direct_done;  ///< 0x240 number << 1 | refused: last direct read
  std::byte unused[0xb8];
  alignas(kControlSpacing) SharedToken token;  ///< 0x300 who holds the role
};

static_assert(std::is_standard_layout_v<LaneProducerSide> &&
              std::is_standard_layout_v<LaneConsumerSide>);
static_assert(offsetof(LaneProducerSide, role) == 0x40 &&
              offsetof(LaneProducerSide, fence) == 0x48);
static_assert(offsetof(LaneProducerSide, write_pos) == 0x80);
static_assert(offsetof(LaneProducerSide, data_seq) == 0x100);
static_assert(offsetof(LaneProducerSide, space_ticket) == 0x180);
static_assert(offsetof(LaneProducerSide, counts) == 0x200);
static_assert(offsetof(LaneProducerSide, direct_withdrawn) == 0x240);
static_assert(offsetof(LaneProducerSide, token) == 0x300);
static_assert(sizeof(LaneProducerSide) == 0x380 && sizeof(LaneProducerSide) <= kLaneAreaBytes);
static_assert(offsetof(LaneConsumerSide, role) == 0x40 &&
              offsetof(LaneConsumerSide, fence) == 0x48);
static_assert(offsetof(LaneConsumerSide, read_pos) == 0x80);
static_assert(offsetof(LaneConsumerSide, repeats_to) == 0xc8);
static_assert(offsetof(LaneConsumerSide, data_ticket) == 0x100);
static_assert(offsetof(LaneConsumerSide, space_seq) == 0x180);
static_assert(offsetof(LaneConsumerSide, counts) == 0x200);
static_assert(offsetof(LaneConsumerSide, direct_done) == 0x240);
static_assert(offsetof(LaneConsumerSide, token) == 0x300);
static_assert(sizeof(LaneConsumerSide) == 0x380);
static_assert(std::endian::native == std::endian::little, "the format is little-endian");

/// Changes whenever a byte above changes its meaning.
inline constexpr std::uint64_t kLaneFingerprint = fnv1a(
    "slipring lane 1: producer 380 consumer 380 repeats c8 counts 200 page 1000 header size32 "
    "type16 kind8 "
    "flags8");

}  // namespace slipring::ring

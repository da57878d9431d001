// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "slipring/base/align.h"
#include "slipring/base/hash.h"
#include "slipring/base/process.h"
#include "slipring/base/result.h"
#include "slipring/base/shared_access.h"

// The bytes of a block pool and nothing else; docs/pool.md draws them. Little-endian.
namespace slipring::pool {

inline constexpr std::uint64_t kPoolMagic = 0x424c4f4f50524c53;  // "SLRPOOLB"
inline constexpr std::uint32_t kPoolVersion = 1;
/// Number of a pool in segment::HeaderInfo::content.
inline constexpr std::uint64_t kContentBlockPool = 0x10;

inline constexpr std::uint64_t kMinBlockBytes = 256;
inline constexpr std::uint64_t kMaxBlockBytes = std::uint64_t{1} << 20;
inline constexpr std::uint32_t kClassCount = 13;  ///< 256 B, 512 B, ... 1 MiB.
inline constexpr std::uint32_t kMaxBlocksPerClass = std::uint32_t{1} << 23;
inline constexpr std::uint32_t kMaxParticipants = 4095;  ///< 12 bits of a block word; 0 is nobody.
inline constexpr std::uint64_t kPoolHeaderBytes = 4096;
inline constexpr std::uint64_t kPoolAlignment = 4096;  ///< Of the area; a segment's body has it.

/// Who takes part in a pool: its entry's number, from 1.
enum class ParticipantId : std::uint16_t { nobody = 0 };

/// Values are format; any other is refused.
enum class BlockState : std::uint8_t {
  free = 0,     ///< Nobody's.
  claimed = 1,  ///< Being filled by its owner.
  lent = 2,     ///< Filled; a reference is on its way to `holder`, or to anybody (nobody).
  held = 3,     ///< Being read by its holder.
};

// B1  A block is in one state, named by its word alone. List, links and caches are hints.
// B2  free <=> owner = holder = nobody. claimed => owner only. held => a holder.
// B3  Each change is one CAS of the whole word. Only `claim` leaves free; only the owner leaves
//     claimed, only the holder leaves held; or whoever has the role of a participant proved dead.
// B4  The generation grows by one each time the block becomes free: a word that was freed never
//     comes back, and an old reference never fits again (37 bits, then it wraps).
// B5  A participant's role is given to another process only when no word names it as owner or
//     reader. An address may outlive it: lent to one who left, a block is its successor's to hold.

/// The decoded word of a block:
///   |63                 27|26      15|14       3|2     0|
///   |     generation      |  holder  |  owner   | state |
struct BlockWord {
  BlockState state = BlockState::free;
  ParticipantId owner = ParticipantId::nobody;   ///< Who claimed it; nobody once it has left.
  ParticipantId holder = ParticipantId::nobody;  ///< Who reads it, or whom it is lent to.
  std::uint64_t generation = 0;

  static constexpr std::uint64_t kGenerationMask = (std::uint64_t{1} << 37) - 1;

  [[nodiscard]] static constexpr BlockWord decode(std::uint64_t bits) noexcept {
    return {static_cast<BlockState>(bits & 7), static_cast<ParticipantId>((bits >> 3) & 0xfff),
            static_cast<ParticipantId>((bits >> 15) & 0xfff), bits >> 27};
  }
  [[nodiscard]] constexpr std::uint64_t encode() const noexcept {
    return static_cast<std::uint64_t>(state) | static_cast<std::uint64_t>(owner) << 3 |
           static_cast<std::uint64_t>(holder) << 15 | (generation & kGenerationMask) << 27;
  }
  /// B2, and nobody beyond the participants of this pool.
  [[nodiscard]] bool is_sound(std::uint32_t participants) const noexcept;
  /// What it becomes when it is given back.
  [[nodiscard]] constexpr BlockWord freed() const noexcept {
    return {BlockState::free, ParticipantId::nobody, ParticipantId::nobody,
            (generation + 1) & kGenerationMask};
  }
  friend bool operator==(const BlockWord&, const BlockWord&) = default;
};

/// One block in the ownership table. Writers: whom B3 names, by CAS (docs/pool.md).
struct BlockEntry {
  SharedWord<std::uint64_t> word;  ///< BlockWord. The truth.
  SharedWord<std::uint64_t> next;  ///< Index + 1 of the next in the free list. A hint.
};

/// Head of the free list of a class: |63 tag 24|23 index + 1 0|, index + 1 = 0: empty.
struct ListHead {
  alignas(kControlSpacing) SharedWord<std::uint64_t> head;
};

/// One participant. One writer: the holder of its role.
struct ParticipantEntry {
  SharedWord<std::uint64_t> role;  ///< 0x00 RoleWord
  SharedWord<std::uint64_t> reserved[7];
  // Counters; a kill leaves them one behind.
  SharedWord<std::uint64_t> claims;              ///< 0x40
  SharedWord<std::uint64_t> returns;             ///< 0x48 released or reclaimed
  SharedWord<std::uint64_t> refused_references;  ///< 0x50 from peers, at hold()
  SharedWord<std::uint64_t> refused_returns;  ///< 0x58 lend, release, reclaim of what is not ours
  SharedWord<std::uint64_t> exhausted;        ///< 0x60 claims that found every class dry
  SharedWord<std::uint64_t> scans;            ///< 0x68 of a class's whole table
  SharedWord<std::uint64_t> list_resets;      ///< 0x70 lists found broken and emptied
  SharedWord<std::uint64_t> reaped;           ///< 0x78 words changed for the dead
  SharedToken token;                          ///< 0x80
};

/// The first page. All but the list heads is stored by the creator and constant afterwards.
struct PoolHeader {
  SharedWord<std::uint64_t> magic;                ///< 0x000 stored last, release
  SharedWord<std::uint64_t> shape;                ///< 0x008 version:32 participants:16 classes:16
  SharedWord<std::uint64_t> pool_id;              ///< 0x010 random
  SharedWord<std::uint64_t> total_bytes;          ///< 0x018
  SharedWord<std::uint64_t> entries_offset;       ///< 0x020 the ownership table
  SharedWord<std::uint64_t> data_offset;          ///< 0x028 the first block
  SharedWord<std::uint64_t> checksum;             ///< 0x030 of all other words before the lists
  SharedWord<std::uint64_t> reserved[9];          ///< 0x038
  SharedWord<std::uint64_t> counts[kClassCount];  ///< 0x080 blocks of 256 << i bytes
  SharedWord<std::uint64_t> unused[19];           ///< 0x0e8
  ListHead lists[kClassCount];                    ///< 0x180 free lists, each on lines of its own
};

static_assert(std::is_standard_layout_v<PoolHeader> && std::is_trivial_v<PoolHeader>);
static_assert(offsetof(PoolHeader, shape) == 0x08 && offsetof(PoolHeader, pool_id) == 0x10);
static_assert(offsetof(PoolHeader, total_bytes) == 0x18);
static_assert(offsetof(PoolHeader, entries_offset) == 0x20);
static_assert(offsetof(PoolHeader, data_offset) == 0x28);
static_assert(offsetof(PoolHeader, checksum) == 0x30);
static_assert(offsetof(PoolHeader, counts) == 0x80);
static_assert(offsetof(PoolHeader, lists) == 0x180 && sizeof(ListHead) == 128);
static_assert(sizeof(PoolHeader) == 0x800 && sizeof(PoolHeader) <= kPoolHeaderBytes);
static_assert(std::is_standard_layout_v<ParticipantEntry> && sizeof(ParticipantEntry) == 0x100);
static_assert(offsetof(ParticipantEntry, claims) == 0x40);
static_assert(offsetof(ParticipantEntry, reaped) == 0x78);
static_assert(offsetof(ParticipantEntry, token) == 0x80);
static_assert(sizeof(BlockEntry) == 16 && offsetof(BlockEntry, next) == 8);
static_assert(kMinBlockBytes << (kClassCount - 1) == kMaxBlockBytes);
static_assert(std::endian::native == std::endian::little, "the format is little-endian");

/// Changes whenever a byte above changes its meaning.
inline constexpr std::uint64_t kPoolFingerprint =
    fnv1a("slipring pool 1: header 1000 participant 100 entry 10 state3 owner12 holder12 gen37");

/// Bytes of a block of class `size_class`.
[[nodiscard]] constexpr std::uint64_t block_bytes(std::uint32_t size_class) noexcept {
  return kMinBlockBytes << size_class;
}
/// The smallest class whose blocks take `size` bytes. kClassCount or more: none does.
[[nodiscard]] constexpr std::uint32_t class_for(std::uint64_t size) noexcept {
  if (size <= kMinBlockBytes) return 0;
  return static_cast<std::uint32_t>(std::bit_width(size - 1)) -
         static_cast<std::uint32_t>(std::bit_width(kMinBlockBytes - 1));
}

/// What a pool is made of.
struct PoolSpec {
  std::array<std::uint32_t, kClassCount> counts{};  ///< Blocks of 256 << i bytes; 0: no such class.
  std::uint32_t participants = 64;
  std::uint64_t pool_id = 0;  ///< Random; tells references of two pools apart.

  PoolSpec& with(std::uint64_t bytes, std::uint32_t count) noexcept {
    if (const std::uint32_t c = class_for(bytes); c < kClassCount) counts[c] = count;
    return *this;
  }
};

/// Where everything lies: computed from a spec, kept in private memory (D8).
struct PoolGeometry {
  struct SizeClass {
    std::uint32_t count = 0;
    std::uint64_t first_entry = 0;  ///< In the ownership table.
    std::uint64_t data_offset = 0;
  };
  std::array<SizeClass, kClassCount> classes{};
  std::uint32_t participants = 0;
  std::uint64_t pool_id = 0;
  std::uint64_t blocks = 0;  ///< Of all classes.
  std::uint64_t largest_block = 0;
  std::uint64_t entries_offset = 0;
  std::uint64_t data_offset = 0;
  std::uint64_t total_bytes = 0;
};

/// Of what a header says. Two sets of counts may fill the same bytes; they differ here.
[[nodiscard]] std::uint64_t checksum_of(const PoolGeometry& geometry) noexcept;

/// Errors: invalid_argument  no blocks, no or too many participants, too many blocks of a class.
[[nodiscard]] Result<PoolGeometry> lay_out(const PoolSpec& spec) noexcept;

}  // namespace slipring::pool

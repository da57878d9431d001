// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "slipring/base/hash.h"
#include "slipring/base/process.h"
#include "slipring/base/shared_access.h"

// The bytes of a registry and nothing else; docs/registry.md draws them. Little-endian.
namespace slipring::manager {

/// Number of a registry in segment::HeaderInfo::content.
inline constexpr std::uint64_t kContentRegistry = 0x20;
inline constexpr std::uint32_t kRegistryEntries = 256;  ///< In one segment.
inline constexpr std::uint32_t kMaxRegistries = 64;     ///< Segments of one user in one place.
inline constexpr std::uint64_t kRegistryEntryBytes = 512;
inline constexpr std::uint64_t kRegistryBytes = kRegistryEntries * kRegistryEntryBytes;
inline constexpr std::size_t kMaxWhereBytes = 96;

/// What somebody is attached to. Values are format; any other is refused.
enum class Form : std::uint8_t {
  other = 0,     ///< Nothing of the below: Attachment::where says what.
  lane = 1,      ///< One producer, one consumer.
  lanes = 2,     ///< Many producers, a lane for each; the index is the lane.
  total = 3,     ///< Many producers in one order; the index is the owner slot.
  blocks = 4,    ///< A pool of blocks; the index is the participant.
  segments = 5,  ///< A pool of whole segments.
};

/// What part the attached process takes there. Values are format; any other is refused.
enum class Part : std::uint8_t {
  owner = 1,  ///< Made it, or looks after it.
  producer = 2,
  consumer = 3,
  inspector = 4,    ///< Looks on, and stores nothing.
  participant = 5,  ///< Of a pool: takes and gives back.
};

// E1  Whose an entry is, its role word says alone. Everything else in it is stored by that holder.
// E2  The checksum is over the role word, as held, and the description: one that matches was said
//     by the present holder, and said to the end. It is stored last.
// E3  A description that does not match says nothing: somebody is at it, was killed at it, or it
//     is not ours.
// E4  Nobody relies on an entry. Who holds what is decided by the roles in the segments themselves.

/// What an entry says, as words of type `Word`.
template <typename Word>
struct DescriptionOf {
  Word what;           ///< index:32 known:8 part:8 form:8 backend:8, the lowest bits last
  Word instance_high;  ///< Of the segment.
  Word instance_low;
  Word handles;    ///< descriptor:32 sysv id:32; `known` says which of them count
  Word since_ns;   ///< CLOCK_MONOTONIC, when it was enrolled.
  Word lengths;    ///< bytes of where:32 name:32
  Word name[25];   ///< Bytes, lowest first; zeros behind.
  Word where[12];  ///< The same.
};
using Description = DescriptionOf<SharedWord<std::uint64_t>>;
using DescriptionWords = DescriptionOf<std::uint64_t>;
inline constexpr std::size_t kDescriptionWords = sizeof(DescriptionWords) / 8;

inline constexpr std::uint8_t kKnowsSysvId = 1;  ///< Bits of `known`.
inline constexpr std::uint8_t kKnowsDescriptor = 2;

/// One attachment of one process. One writer: the holder of its role.
struct RegistryEntry {
  SharedWord<std::uint64_t> role;         ///< 0x000 RoleWord
  SharedWord<std::uint64_t> checksum;     ///< 0x008 E2
  SharedToken token;                      ///< 0x010
  Description description;                ///< 0x090
  SharedWord<std::uint64_t> reserved[3];  ///< 0x1e8 zero
};

static_assert(std::is_standard_layout_v<RegistryEntry> && std::is_trivial_v<RegistryEntry>);
static_assert(sizeof(RegistryEntry) == kRegistryEntryBytes);
static_assert(offsetof(RegistryEntry, checksum) == 0x008);
static_assert(offsetof(RegistryEntry, token) == 0x010);
static_assert(offsetof(RegistryEntry, description) == 0x090);
static_assert(offsetof(RegistryEntry, reserved) == 0x1e8);
static_assert(offsetof(Description, instance_high) == 0x08);
static_assert(offsetof(Description, handles) == 0x18 && offsetof(Description, since_ns) == 0x20);
static_assert(offsetof(Description, lengths) == 0x28 && offsetof(Description, name) == 0x30);
static_assert(offsetof(Description, where) == 0xf8 && sizeof(Description) == 0x158);
static_assert(sizeof(DescriptionWords) == sizeof(Description));
static_assert(sizeof(DescriptionWords::where) == kMaxWhereBytes);
static_assert(std::endian::native == std::endian::little, "the format is little-endian");

/// Changes whenever a byte above changes its meaning.
inline constexpr std::uint64_t kRegistryFingerprint =
    fnv1a("slipring registry 1: 256 entries 200 role checksum token description 158");

}  // namespace slipring::manager

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "slipring/base/process.h"
#include "slipring/base/result.h"
#include "slipring/base/shared_access.h"
#include "slipring/segment/name.h"

namespace slipring::segment {

/// Where the memory comes from. The values are part of the format.
enum class Backend : std::uint8_t {
  posix = 1,  ///< A file of the shared memory file system, as shm_open makes it.
  sysv = 2,   ///< A System V segment, seen by `ipcs`.
  memfd = 3,  ///< Without a name: its descriptor is handed over.
  file = 4,   ///< A file of any file system, memory-mapped.
};
[[nodiscard]] std::string_view to_string(Backend backend) noexcept;
/// Errors: invalid_argument  not one of "posix", "sysv", "memfd", "file".
[[nodiscard]] Result<Backend> parse_backend(std::string_view text) noexcept;

enum class OpenMode : std::uint8_t { read_write, read_only };

/// 128 random bits, drawn when the segment is made: two segments of one name differ here.
struct InstanceId {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  friend bool operator==(const InstanceId&, const InstanceId&) = default;
};
/// 32 hexadecimal digits.
[[nodiscard]] std::string to_string(const InstanceId& id);

inline constexpr std::uint64_t kMagic = 0x474e495250494c53;  ///< "SLIPRING", lowest byte first.
/// Reads as another number on a machine of other byte order; the low byte is a pointer's size.
inline constexpr std::uint64_t kCanary = 0x0a0b0c0d0e0f0000 | sizeof(void*);
inline constexpr std::uint64_t kFormatVersion = 1;
inline constexpr std::uint64_t kHeaderBytes = 4096;

/// What a body is. The layers above own the numbers; 0 means "do not care" in Expect.
inline constexpr std::uint64_t kContentLane = 1;   ///< A ring: one sender,
inline constexpr std::uint64_t kContentMpsc = 2;   ///< many, a lane each,
inline constexpr std::uint64_t kContentTotal = 3;  ///< or many in one order.

/// Features that a reader does not know: `compat` it ignores, `ro_compat` it may read but not
/// write, `incompat` it refuses. These are the ones that this library knows.
inline constexpr std::uint64_t kKnownRoCompat = 0;
inline constexpr std::uint64_t kKnownIncompat = 0;

inline constexpr std::uint64_t kFlagKeep = 1;  ///< Made to outlive its users (`create`).

/// The first page of every segment, as words of type `Word`. All words are stored by the creator
/// before the segment has a name (`magic` last) and are constant afterwards.
/// Format: docs/format.md#segment-header.
///
/// S1  A segment that somebody else can open is complete: magic was stored after everything else.
/// S2  The object's size is total_bytes, and body_offset + body_bytes <= total_bytes.
/// S3  checksum matches all other words but magic.
template <typename Word>
struct HeaderOf {
  Word magic;           ///< kMagic. Stored last.
  Word canary;          ///< kCanary.
  Word format_version;  ///< kFormatVersion.
  Word header_bytes;    ///< kHeaderBytes.
  Word compat;
  Word ro_compat;
  Word incompat;
  Word content;      ///< What the body is.
  Word fingerprint;  ///< Of the body's layout and types.
  Word instance_high;
  Word instance_low;
  Word total_bytes;      ///< Of the object: header, body, filler to the page's end.
  Word body_offset;      ///< kHeaderBytes.
  Word body_bytes;       ///< As asked for.
  Word page_bytes;       ///< Of the machine that made it.
  Word huge_page_bytes;  ///< As asked for; 0 for normal pages.
  Word backend;          ///< enum Backend.
  Word flags;            ///< kFlagKeep.
  Word mode;             ///< Permission bits.
  Word created_ns;       ///< Nanoseconds since 1970 by the wall clock. For display only.
  Word name_bytes;       ///< Length of `name`; 0 for none.
  Word checksum;         ///< S3.
  Word reserved[10];     ///< Zero.
  Word creator[16];      ///< A SharedToken: who made it.
  Word name[25];         ///< Bytes, lowest first; zeros behind.
  Word rest[439];        ///< Zero; not covered by the checksum.
};
using SegmentHeader = HeaderOf<SharedWord<std::uint64_t>>;
using HeaderWords = HeaderOf<std::uint64_t>;

static_assert(sizeof(SegmentHeader) == kHeaderBytes && sizeof(HeaderWords) == kHeaderBytes);
static_assert(std::is_standard_layout_v<SegmentHeader> && std::is_trivial_v<SegmentHeader>);
static_assert(offsetof(SegmentHeader, magic) == 0x000);
static_assert(offsetof(SegmentHeader, canary) == 0x008);
static_assert(offsetof(SegmentHeader, format_version) == 0x010);
static_assert(offsetof(SegmentHeader, header_bytes) == 0x018);
static_assert(offsetof(SegmentHeader, compat) == 0x020);
static_assert(offsetof(SegmentHeader, ro_compat) == 0x028);
static_assert(offsetof(SegmentHeader, incompat) == 0x030);
static_assert(offsetof(SegmentHeader, content) == 0x038);
static_assert(offsetof(SegmentHeader, fingerprint) == 0x040);
static_assert(offsetof(SegmentHeader, instance_high) == 0x048);
static_assert(offsetof(SegmentHeader, instance_low) == 0x050);
static_assert(offsetof(SegmentHeader, total_bytes) == 0x058);
static_assert(offsetof(SegmentHeader, body_offset) == 0x060);
static_assert(offsetof(SegmentHeader, body_bytes) == 0x068);
static_assert(offsetof(SegmentHeader, page_bytes) == 0x070);
static_assert(offsetof(SegmentHeader, huge_page_bytes) == 0x078);
static_assert(offsetof(SegmentHeader, backend) == 0x080);
static_assert(offsetof(SegmentHeader, flags) == 0x088);
static_assert(offsetof(SegmentHeader, mode) == 0x090);
static_assert(offsetof(SegmentHeader, created_ns) == 0x098);
static_assert(offsetof(SegmentHeader, name_bytes) == 0x0a0);
static_assert(offsetof(SegmentHeader, checksum) == 0x0a8);
static_assert(offsetof(SegmentHeader, creator) == 0x100);
static_assert(offsetof(SegmentHeader, name) == 0x180);
static_assert(offsetof(SegmentHeader, rest) == 0x248);

/// A header that was read and checked: private memory, nothing in it changes any more.
struct HeaderInfo {
  std::uint64_t format_version = kFormatVersion;
  std::uint64_t compat = 0;
  std::uint64_t ro_compat = 0;
  std::uint64_t incompat = 0;
  std::uint64_t content = 0;
  std::uint64_t fingerprint = 0;
  InstanceId instance;
  std::uint64_t total_bytes = 0;
  std::uint64_t body_offset = kHeaderBytes;
  std::uint64_t body_bytes = 0;
  std::uint64_t page_bytes = 0;
  std::uint64_t huge_page_bytes = 0;
  Backend backend = Backend::posix;
  bool keep = false;
  mode_t mode = 0600;
  std::int64_t created_ns = 0;  ///< Wall clock, for display only.
  ProcessToken creator;
  std::string name;  ///< Empty for a segment without a name.
};

/// What the opener wants to find. 0: does not care.
struct Expect {
  std::uint64_t content = 0;
  std::uint64_t fingerprint = 0;
};

/// Loads each word once, magic first.
/// Orders: segment.magic.
template <typename Access = NativeAccess>
[[nodiscard]] HeaderWords load_header(const SegmentHeader& shared) noexcept;

/// Stores all words but magic.
template <typename Access = NativeAccess>
void store_header(SegmentHeader& shared, const HeaderWords& words) noexcept;

/// Stores magic: from here on an opener may believe the header and the body.
/// Orders: segment.magic.
template <typename Access = NativeAccess>
void store_magic(SegmentHeader& shared) noexcept;

/// S3: over all words but itself, `magic` and `rest`.
[[nodiscard]] std::uint64_t header_checksum(const HeaderWords& words) noexcept;

/// Words that describe `info`, with their checksum and the magic.
[[nodiscard]] HeaderWords encode_header(const HeaderInfo& info) noexcept;

/// Believes nothing: the words may come from a stranger's file.
/// `object_bytes` is the size that the kernel gives for the object.
/// Trust:  S1 S2 S3; a bad word is an error, whose `op` names it.
/// Errors: bad_format       "header: truncated" (smaller than the header, or than the header says),
///                          "header: magic", "header: byte order", "header: version",
///                          "header: header bytes", "header: incompat", "header: backend",
///                          "header: page size", "header: geometry", "header: size" (larger than
///                          the header says), "header: mode", "header: flags", "header: name",
///                          "header: checksum", "header: creator", "header: content";
///         not_supported    "header: ro_compat": can be opened read_only;
///         type_mismatch    "header: fingerprint": sound, but of other types or another layout.
[[nodiscard]] Result<HeaderInfo> check_header(const HeaderWords& words, std::uint64_t object_bytes,
                                              OpenMode mode, const Expect& expect = {});

}  // namespace slipring::segment

#include "slipring/segment/header_inl.h"

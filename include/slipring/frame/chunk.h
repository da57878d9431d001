// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "slipring/base/result.h"

namespace slipring::frame {

/// Total of a message whose sender does not know it yet: the chunk with `last` tells.
inline constexpr std::uint64_t kOpenEnded = UINT64_MAX;

/// What a chunk says of itself. Bits 8 to 15 must be understood by the receiver, or the chunk is
/// refused; unknown ones of bits 4 to 7 are hints and ignored.
namespace chunk_flag {
inline constexpr std::uint16_t first = 1u << 0;      ///< Index 0.
inline constexpr std::uint16_t last = 1u << 1;       ///< The message ends with this body.
inline constexpr std::uint16_t abort = 1u << 2;      ///< The sender gives the message up: no body.
inline constexpr std::uint16_t has_check = 1u << 3;  ///< `check` holds the body's check.
inline constexpr std::uint16_t known = first | last | abort | has_check;
inline constexpr std::uint16_t must_be_understood = 0xff00;
}  // namespace chunk_flag

/// Stands in front of every chunk of a large message: 40 bytes, little-endian, no alignment wanted.
/// Format: docs/messages.md, "Chunk header"; each chunk tells its place, so that a receiver can
/// tell a cut, repeated, swapped or overlapping chunk from the next one.
///
/// F1  id is not 0.
/// F2  `first` if and only if index is 0; then offset is 0, too.
/// F3  Only a chunk with `last` or `abort` may have an empty body; so offset >= index.
/// F4  offset + body_bytes <= total, and with a known total `last` if and only if they are equal.
/// F5  `abort` excludes `last`, `has_check` and a body, and comes before the end.
/// F6  check is 0 without `has_check`.
struct ChunkHeader {
  std::uint64_t id = 0;          ///< Of the message; grows with each message of a source.
  std::uint32_t index = 0;       ///< 0, 1, 2, ... within the message.
  std::uint32_t body_bytes = 0;  ///< Behind this header.
  std::uint64_t offset = 0;      ///< Bytes of the message before this body.
  std::uint64_t total = kOpenEnded;
  std::uint16_t flags = 0;
  std::uint16_t type = 0;   ///< The user's own tag; the same in every chunk.
  std::uint32_t check = 0;  ///< body_check() of the body, with `has_check`.

  [[nodiscard]] bool has(std::uint16_t flag) const noexcept { return (flags & flag) != 0; }
  /// Bytes of the message up to the end of this body.
  [[nodiscard]] std::uint64_t end() const noexcept { return offset + body_bytes; }

  friend bool operator==(const ChunkHeader&, const ChunkHeader&) = default;
};

inline constexpr std::size_t kChunkHeaderBytes = 40;
/// Where each field lies.
inline constexpr std::size_t kChunkIdAt = 0, kChunkIndexAt = 8, kChunkBodyBytesAt = 12,
                             kChunkOffsetAt = 16, kChunkTotalAt = 24, kChunkFlagsAt = 32,
                             kChunkTypeAt = 34, kChunkCheckAt = 36;

/// Checks F1 to F6 and the flags.
/// Errors: bad_format  the op names the rule that is broken.
[[nodiscard]] Result<void> check_header(const ChunkHeader& header) noexcept;

/// Writes the first kChunkHeaderBytes of `to`.
/// Errors: invalid_argument  `to` is shorter, or the header breaks a rule. Nothing is written.
[[nodiscard]] Result<void> encode(const ChunkHeader& header, std::span<std::byte> to) noexcept;

/// Reads the header in front of `from`; what follows it is not looked at.
/// Threads: any.  Progress: wait-free.
/// Trust:   all of it: each byte is copied once, and the copy checked against itself.
/// Errors:  bad_format  cut short, unknown must-understand flags, or fields that contradict each
///                      other.
[[nodiscard]] Result<ChunkHeader> decode(std::span<const std::byte> from) noexcept;

/// A chunk as it came, in place.
struct Chunk {
  ChunkHeader header;
  std::span<const std::byte> body;
};

/// Reads a record that is exactly one chunk. The body's check is not computed yet.
/// Errors: bad_format  as decode, or the record's size is not that of header and body.
[[nodiscard]] Result<Chunk> decode_chunk(std::span<const std::byte> record) noexcept;

/// The low 32 bits of XXH3-64 over the body, seed 0. It detects accidents; it resists no attacker.
/// Source: Yann Collet, xxHash 0.8 specification.
[[nodiscard]] std::uint32_t body_check(std::span<const std::byte> body) noexcept;

}  // namespace slipring::frame

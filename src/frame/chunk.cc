// SPDX-License-Identifier: Apache-2.0
#include "slipring/frame/chunk.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <bit>
#include <cstring>
#include <memory>
#include <new>

#include "check.h"
#include "slipring/base/shared_access.h"

namespace slipring::frame {

// Words are stored as the machine has them.
static_assert(std::endian::native == std::endian::little, "the format is little-endian");
// One field follows the other, without holes.
static_assert(kChunkIndexAt == kChunkIdAt + sizeof(ChunkHeader::id));
static_assert(kChunkBodyBytesAt == kChunkIndexAt + sizeof(ChunkHeader::index));
static_assert(kChunkOffsetAt == kChunkBodyBytesAt + sizeof(ChunkHeader::body_bytes));
static_assert(kChunkTotalAt == kChunkOffsetAt + sizeof(ChunkHeader::offset));
static_assert(kChunkFlagsAt == kChunkTotalAt + sizeof(ChunkHeader::total));
static_assert(kChunkTypeAt == kChunkFlagsAt + sizeof(ChunkHeader::flags));
static_assert(kChunkCheckAt == kChunkTypeAt + sizeof(ChunkHeader::type));
static_assert(kChunkHeaderBytes == kChunkCheckAt + sizeof(ChunkHeader::check));

namespace {

template <typename T>
void put(std::byte* to, std::size_t at, T value) noexcept {
  std::memcpy(to + at, &value, sizeof(value));
}

template <typename T>
void get(const std::byte* from, std::size_t at, T& value) noexcept {
  std::memcpy(&value, from + at, sizeof(value));
}

}  // namespace

Result<void> check_header(const ChunkHeader& h) noexcept {
  const auto bad = [](const char* rule) { return fail(Errc::bad_format, 0, rule); };
  const std::uint16_t unknown = h.flags & static_cast<std::uint16_t>(~chunk_flag::known);
  if ((unknown & chunk_flag::must_be_understood) != 0) return bad("chunk: unknown flags");
  if (h.id == 0) return bad("chunk: id 0");
  if (h.has(chunk_flag::first) != (h.index == 0)) return bad("chunk: first without index 0");
  if (h.index == 0 && h.offset != 0) return bad("chunk: first with an offset");

  const bool ends = h.has(chunk_flag::last) || h.has(chunk_flag::abort);
  if (h.body_bytes == 0 && !ends) return bad("chunk: empty body");
  if (h.offset < h.index) return bad("chunk: index beyond offset");

  // An open end is no byte of the message: so end() never wraps, and never looks open-ended.
  const std::uint64_t most = h.total == kOpenEnded ? kOpenEnded - 1 : h.total;
  if (h.offset > most || h.body_bytes > most - h.offset) return bad("chunk: beyond total");
  if (h.has(chunk_flag::abort)) {
    if (h.has(chunk_flag::last) || h.has(chunk_flag::has_check) || h.body_bytes != 0) {
      return bad("chunk: abort with more");
    }
    if (h.index != 0 && h.offset == h.total) return bad("chunk: abort after the end");
  } else if (h.total != kOpenEnded && h.has(chunk_flag::last) != (h.end() == h.total)) {
    return bad("chunk: last and total disagree");
  }
  if (!h.has(chunk_flag::has_check) && h.check != 0) return bad("chunk: check without its flag");
  return {};
}

Result<void> encode(const ChunkHeader& h, std::span<std::byte> to) noexcept {
  if (to.size() < kChunkHeaderBytes) return fail(Errc::invalid_argument, 0, "chunk: no room");
  if (const auto fine = check_header(h); !fine) {
    return fail(Errc::invalid_argument, 0, fine.error().op);
  }
  std::byte bytes[kChunkHeaderBytes];
  put(bytes, kChunkIdAt, h.id);
  put(bytes, kChunkIndexAt, h.index);
  put(bytes, kChunkBodyBytesAt, h.body_bytes);
  put(bytes, kChunkOffsetAt, h.offset);
  put(bytes, kChunkTotalAt, h.total);
  put(bytes, kChunkFlagsAt, h.flags);
  put(bytes, kChunkTypeAt, h.type);
  put(bytes, kChunkCheckAt, h.check);
  NativeAccess::copy_in(to.data(), bytes, sizeof(bytes));
  return {};
}

Result<ChunkHeader> decode(std::span<const std::byte> from) noexcept {
  if (from.size() < kChunkHeaderBytes) return fail(Errc::bad_format, 0, "chunk: cut in its header");
  // TRUST F1..F6: one copy; only what was checked is used.
  std::byte bytes[kChunkHeaderBytes];
  NativeAccess::copy_out(bytes, from.data(), sizeof(bytes));
  ChunkHeader h;
  get(bytes, kChunkIdAt, h.id);
  get(bytes, kChunkIndexAt, h.index);
  get(bytes, kChunkBodyBytesAt, h.body_bytes);
  get(bytes, kChunkOffsetAt, h.offset);
  get(bytes, kChunkTotalAt, h.total);
  get(bytes, kChunkFlagsAt, h.flags);
  get(bytes, kChunkTypeAt, h.type);
  get(bytes, kChunkCheckAt, h.check);
  if (const auto fine = check_header(h); !fine) return tl::unexpected<Error>(fine.error());
  return h;
}

Result<Chunk> decode_chunk(std::span<const std::byte> record) noexcept {
  const auto header = decode(record);
  if (!header) return tl::unexpected<Error>(header.error());
  const auto body = record.subspan(kChunkHeaderBytes);
  if (body.size() != header->body_bytes) return fail(Errc::bad_format, 0, "chunk: cut in its body");
  return Chunk{*header, body};
}

std::uint32_t body_check(std::span<const std::byte> body) noexcept {
  return static_cast<std::uint32_t>(XXH3_64bits(body.data(), body.size()));
}

std::uint32_t body_check(std::span<const std::byte> front,
                         std::span<const std::byte> back) noexcept {
  if (back.empty()) return body_check(front);
  // Aligned by hand: where a sanitizer moves the frame to its own stack, alignas(64) is not kept.
  std::byte room[sizeof(XXH3_state_t) + alignof(XXH3_state_t)];
  void* place = room;
  std::size_t left = sizeof room;
  auto* state =
      ::new (std::align(alignof(XXH3_state_t), sizeof(XXH3_state_t), place, left)) XXH3_state_t;
  XXH3_INITSTATE(state);
  XXH3_64bits_reset(state);
  XXH3_64bits_update(state, front.data(), front.size());
  XXH3_64bits_update(state, back.data(), back.size());
  return static_cast<std::uint32_t>(XXH3_64bits_digest(state));
}

}  // namespace slipring::frame

// SPDX-License-Identifier: Apache-2.0
#include "slipring/frame/splitter.h"

#include <algorithm>

#include "slipring/base/shared_access.h"

namespace slipring::frame {
namespace {

constexpr std::uint64_t kMostChunks = std::uint64_t{1} << 32;  // an index has 32 bits

}  // namespace

Result<Splitter> Splitter::make(const SplitOptions& options) noexcept {
  if (options.id == 0) return fail(Errc::invalid_argument, 0, "message: id 0");
  if (options.max_body == 0) return fail(Errc::invalid_argument, 0, "message: chunks of no bytes");
  if (options.total != kOpenEnded && options.total != 0 &&
      (options.total - 1) / options.max_body >= kMostChunks - 1) {
    return fail(Errc::too_large, 0, "message: more chunks than an index counts");
  }
  return Splitter(options);
}

std::size_t Splitter::room() const noexcept {
  if (done()) return 0;
  return kChunkHeaderBytes +
         static_cast<std::size_t>(std::min<std::uint64_t>(options_.max_body, left()));
}

ChunkHeader Splitter::header(std::uint16_t flags) const noexcept {
  ChunkHeader h;
  h.id = options_.id;
  h.index = static_cast<std::uint32_t>(index_);
  h.offset = offset_;
  h.total = options_.total;
  h.flags = index_ == 0 ? static_cast<std::uint16_t>(flags | chunk_flag::first) : flags;
  h.type = options_.type;
  return h;
}

Result<std::span<std::byte>> Splitter::begin(std::span<std::byte> payload) noexcept {
  begun_ = false;
  if (done()) return fail(Errc::closed, 0, "message: ended");
  // The highest index is kept for an abort.
  if (index_ >= kMostChunks - 1) return fail(Errc::too_large, 0, "message: too many chunks");
  const std::uint64_t rest = left();
  if (payload.size() < kChunkHeaderBytes + (rest != 0 ? 1 : 0)) {
    return fail(Errc::invalid_argument, 0, "message: no room for a chunk");
  }
  open_ = payload.first(std::min(payload.size(), room()));
  begun_ = true;
  return open_.subspan(kChunkHeaderBytes);
}

Result<std::size_t> Splitter::end(std::size_t used, bool last) noexcept {
  if (!begun_ || used > open_.size() - kChunkHeaderBytes) {
    return fail(Errc::invalid_argument, 0, "message: no such chunk");
  }
  if (options_.total != kOpenEnded) {
    const bool reached = used == left();
    if (last && !reached) return fail(Errc::invalid_argument, 0, "message: last before total");
    last = reached;
  }
  if (used == 0 && !last) return fail(Errc::invalid_argument, 0, "message: empty chunk");

  ChunkHeader h = header(last ? chunk_flag::last : std::uint16_t{0});
  h.body_bytes = static_cast<std::uint32_t>(used);
  if (options_.check) {
    h.flags |= chunk_flag::has_check;
    h.check = body_check(open_.subspan(kChunkHeaderBytes, used));
  }
  if (const auto written = encode(h, open_); !written) {
    return tl::unexpected<Error>(written.error());
  }
  begun_ = false;
  offset_ += used;
  ++index_;
  if (last) state_ = State::complete;
  return kChunkHeaderBytes + used;
}

Result<std::size_t> Splitter::next_of(std::span<const std::byte> message,
                                      std::span<std::byte> payload) noexcept {
  const auto body = begin(payload);
  if (!body) return tl::unexpected<Error>(body.error());
  const std::uint64_t there = message.size() - std::min<std::uint64_t>(offset_, message.size());
  const auto used = static_cast<std::size_t>(std::min<std::uint64_t>(body->size(), there));
  if (used != 0) {
    NativeAccess::copy_in(body->data(), message.data() + static_cast<std::size_t>(offset_), used);
  }
  if (options_.total == kOpenEnded) return end(used, used == there);
  if (used < body->size()) {
    begun_ = false;
    return fail(Errc::closed, 0, "message: input shorter than its total");
  }
  return end(used);
}

Result<std::size_t> Splitter::finish(std::span<std::byte> payload) noexcept {
  if (done()) return fail(Errc::closed, 0, "message: ended");
  if (payload.size() < kChunkHeaderBytes) {
    return fail(Errc::invalid_argument, 0, "message: no room for a chunk");
  }
  open_ = payload.first(kChunkHeaderBytes);
  begun_ = true;
  return end(0, true);
}

Result<std::size_t> Splitter::abort(std::span<std::byte> payload) noexcept {
  if (done()) return fail(Errc::closed, 0, "message: ended");
  if (index_ != 0) {
    const auto written = encode(header(chunk_flag::abort), payload);
    if (!written) return tl::unexpected<Error>(written.error());
  }
  begun_ = false;
  state_ = State::aborted;
  return index_ == 0 ? 0 : kChunkHeaderBytes;
}

}  // namespace slipring::frame

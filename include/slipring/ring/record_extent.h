// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "slipring/base/result.h"
#include "slipring/ring/layout.h"

namespace slipring::ring {

/// Where a record lies, by its header alone.
struct RecordExtent {
  std::uint64_t payload = 0;
  std::uint64_t end = 0;  ///< Where the next record starts.
};

/// The shape of the lane, as private memory knows it.
struct LaneShape {
  std::uint64_t capacity = 0;
  std::uint64_t granule = 8;
  std::uint64_t max_payload = 0;
};

/// Checks a non-zero header found at `pos`: nothing when no producer could have stored it (R4).
/// Trust: the header is the peer's; the shape is ours.
[[nodiscard]] constexpr std::optional<RecordExtent> extent_of(const RecordHeader& header,
                                                              std::uint64_t pos,
                                                              const LaneShape& shape) noexcept {
  const std::uint64_t to_lap_end = shape.capacity - (pos & (shape.capacity - 1));
  switch (header.kind) {
    case RecordKind::data:
    case RecordKind::chunk:
    case RecordKind::block:
    case RecordKind::control: break;
    case RecordKind::padding:
      if (header.size != to_lap_end || header.flags != 0) return std::nullopt;
      return RecordExtent{pos, pos + header.size};
    default: return std::nullopt;
  }
  if ((header.flags & ~RecordHeader::kKnownFlags) != 0) return std::nullopt;
  if (header.size > shape.max_payload) return std::nullopt;
  const std::uint64_t payload = payload_pos(pos, (header.flags & RecordHeader::kOwnLine) != 0);
  const std::uint64_t end = align_up(payload + header.size, shape.granule);
  if (end - pos > to_lap_end) return std::nullopt;
  return RecordExtent{payload, end};
}

/// What a walk over committed records found.
struct Walked {
  std::uint64_t frontier = 0;  ///< The first position with nothing committed.
  std::uint64_t messages = 0;  ///< Records passed, padding excluded,
  std::uint64_t bytes = 0;     ///< and their payload.
};

/// Walks the commit words from `from`, a record boundary, to the frontier, and calls
/// `visit(header, extent)` for each record that is no padding. Reads only: it may be killed,
/// repeated, and run by several at once, beside a live producer, too.
/// Progress: at most capacity / 8 loads.
/// Errors:   corrupt  a header that no producer stores, or no frontier within one lap.
/// Orders:   lane.publish.
template <typename Access, typename Visit>
[[nodiscard]] Result<Walked> walk_committed(std::byte* data, const LaneShape& shape,
                                            std::uint64_t from, Visit&& visit) {
  Walked walked{from, 0, 0};
  bool behind_padding = false;
  while (walked.frontier - from <= shape.capacity - kWordBytes) {
    const std::uint64_t offset = walked.frontier & (shape.capacity - 1);
    // SYNC lane.publish (acquire <- release in LaneProducer::publish):
    //   the headers of a group behind its first one are visible with it.
    const std::uint64_t bits = Access::load_acquire(word_at<std::uint64_t>(data, offset));
    if (bits == 0 && !behind_padding) return walked;
    const RecordHeader header = RecordHeader::decode(bits);
    const auto extent = extent_of(header, walked.frontier, shape);
    if (!extent) return fail(Errc::corrupt, 0, "lane: record header");
    const bool is_padding = header.kind == RecordKind::padding;
    // R4: padding is published together with the record that did not fit before it.
    if (is_padding && behind_padding) return fail(Errc::corrupt, 0, "lane: two paddings in a row");
    behind_padding = is_padding;
    if (!is_padding) {
      walked.messages += 1;
      walked.bytes += header.size;
      visit(header, *extent);
    }
    walked.frontier = extent->end;
  }
  return fail(Errc::corrupt, 0, "lane: no frontier within a lap");
}
template <typename Access>
[[nodiscard]] Result<Walked> walk_committed(std::byte* data, const LaneShape& shape,
                                            std::uint64_t from) noexcept {
  return walk_committed<Access>(data, shape, from, [](const RecordHeader&, const RecordExtent&) {});
}

}  // namespace slipring::ring

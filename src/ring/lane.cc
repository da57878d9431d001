// SPDX-License-Identifier: Apache-2.0
#include "slipring/ring/lane.h"

namespace slipring::ring {

Result<void> check_geometry(const LaneGeometry& g) noexcept {
  if (!is_power_of_two(g.capacity) || g.capacity < kMinCapacity || g.capacity > kMaxCapacity) {
    return fail(Errc::invalid_argument, 0, "lane: capacity");
  }
  if (g.granule != 8 && g.granule != 16 && g.granule != 64) {
    return fail(Errc::invalid_argument, 0, "lane: granule");
  }
  if (g.type_size > g.max_payload()) return fail(Errc::too_large, 0, "lane: record type");
  return {};
}

void format_producer_area(std::span<std::byte> area, const LaneGeometry& g) noexcept {
  auto& side = *reinterpret_cast<LaneProducerSide*>(area.data());
  const auto lg = [](std::uint64_t v) { return static_cast<std::uint64_t>(std::countr_zero(v)); };
  NativeAccess::store_relaxed(side.geometry, kLaneVersion | lg(g.capacity) << 32 |
                                                 lg(g.granule) << 40 |
                                                 static_cast<std::uint64_t>(g.bell) << 48);
  NativeAccess::store_relaxed(side.data_offset, kLaneAreaBytes);
  NativeAccess::store_relaxed(side.lane_id, g.lane_id);
  NativeAccess::store_relaxed(side.limits, g.max_payload());
  NativeAccess::store_relaxed(side.type_fingerprint, g.type_fingerprint);
  NativeAccess::store_relaxed(side.type_shape,
                              g.type_size | static_cast<std::uint64_t>(g.type_align) << 32);
  // SYNC lane.join (release -> acquire in load_geometry): whoever sees the magic sees the rest.
  NativeAccess::store_release(side.magic, kLaneProducerMagic);
}

void format_consumer_area(std::span<std::byte> area, std::uint64_t lane_id) noexcept {
  auto& side = *reinterpret_cast<LaneConsumerSide*>(area.data());
  NativeAccess::store_relaxed(side.version, kLaneVersion);
  NativeAccess::store_relaxed(side.lane_id, lane_id);
  // SYNC lane.join (release -> acquire in load_both_areas): whoever sees the magic sees the rest.
  NativeAccess::store_release(side.magic, kLaneConsumerMagic);
}

}  // namespace slipring::ring

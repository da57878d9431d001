// SPDX-License-Identifier: Apache-2.0
#include "slipring/ring/mpsc.h"

namespace slipring::ring {

Result<void> check_geometry(const MpscGeometry& geometry) noexcept {
  if (geometry.lanes == 0 || geometry.lanes > kMaxLanes) {
    return fail(Errc::invalid_argument, 0, "mpsc: lanes");
  }
  return check_geometry(geometry.lane);
}

void format_mpsc_area(std::span<std::byte> area, const MpscGeometry& geometry) noexcept {
  const MpscParts parts(area, geometry);
  for (std::uint32_t i = 0; i < geometry.lanes; ++i) {
    LaneGeometry lane = geometry.lane;
    lane.lane_id += i;
    format_producer_area(parts.areas(i).producer, lane);
    format_consumer_area(parts.areas(i).consumer, lane.lane_id);
  }
  MpscConsumerSide& block = parts.consumer();
  NativeAccess::store_relaxed(block.version, kMpscVersion);
  NativeAccess::store_relaxed(block.lanes, geometry.lanes);
  NativeAccess::store_relaxed(block.stride, geometry.lane_stride());
  // SYNC mpsc.join_area (release -> acquire in load_mpsc_geometry): the lanes are formatted.
  NativeAccess::store_release(block.magic, kMpscMagic);
}

}  // namespace slipring::ring

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "guarded_area.h"
#include "slipring/ring/lane.h"

namespace slipring::fuzz {

inline constexpr std::uint64_t kCapacity = ring::kMinCapacity;

/// A fresh lane of 4 KiB on guarded areas.
struct GuardedLane {
  GuardedArea producer{ring::producer_area_bytes(kCapacity)};
  GuardedArea consumer{ring::kLaneAreaBytes};

  void format(std::uint32_t granule) const noexcept {
    producer.clear();
    consumer.clear();
    ring::LaneGeometry geometry;
    geometry.capacity = kCapacity;
    geometry.granule = granule;
    geometry.lane_id = 0x1a9e;
    ring::format_producer_area(producer.bytes(), geometry);
    ring::format_consumer_area(consumer.bytes(), geometry.lane_id);
  }
  [[nodiscard]] ring::LaneAreas areas() const noexcept {
    return {producer.bytes(), consumer.bytes()};
  }
};

}  // namespace slipring::fuzz

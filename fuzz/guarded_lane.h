// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "slipring/ring/lane.h"

// One fuzz input: a function of its bytes and nothing else.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace slipring::fuzz {

/// Pages of exact size between two pages that nobody may touch. Mapped once, cleared per input.
class GuardedArea {
 public:
  explicit GuardedArea(std::size_t size) {
    auto* all = static_cast<std::byte*>(
        ::mmap(nullptr, size + 2 * kGuard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (all == MAP_FAILED) std::abort();
    if (::mprotect(all + kGuard, size, PROT_READ | PROT_WRITE) != 0) std::abort();
    bytes_ = {all + kGuard, size};
  }
  GuardedArea(const GuardedArea&) = delete;
  GuardedArea& operator=(const GuardedArea&) = delete;
  ~GuardedArea() { ::munmap(bytes_.data() - kGuard, bytes_.size() + 2 * kGuard); }

  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }
  void clear() const noexcept { std::memset(bytes_.data(), 0, bytes_.size()); }

 private:
  static constexpr std::size_t kGuard = 4096;
  std::span<std::byte> bytes_;
};

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

inline void expect(bool truth) noexcept {
  if (!truth) __builtin_trap();
}

}  // namespace slipring::fuzz

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <utility>

#include "slipring/ring/lane.h"

// A lane on memory of its own, for tests. No gtest here: fuzz targets use it, too.
namespace slipring::test {

/// Where the two areas of a test lane lie.
enum class Placing {
  heap,     ///< One allocation of exact size; both ends see all of it read-write.
  crossed,  ///< Two memfds, each mapped twice: an end sees its peer's area read-only.
  shared,   ///< MAP_SHARED anonymous memory, for tests across fork.
};

/// One area: as its owner sees it and as the peer does.
struct AreaViews {
  std::span<std::byte> owner;
  std::span<std::byte> peer;
};

class TestLane {
 public:
  explicit TestLane(Placing placing, ring::LaneGeometry geometry = small_geometry())
      : placing_(placing), geometry_(geometry) {
    const std::size_t producer_bytes = ring::producer_area_bytes(geometry.capacity);
    if (placing == Placing::crossed) {
      consumer_ = map_twice(ring::kLaneAreaBytes);
      producer_ = map_twice(producer_bytes);
    } else {
      const std::size_t size = ring::kLaneAreaBytes + producer_bytes;
      auto* memory = static_cast<std::byte*>(
          placing == Placing::heap
              ? std::aligned_alloc(4096, size)
              : ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
      require(memory != nullptr && memory != MAP_FAILED, "memory for a lane");
      std::memset(memory, 0, size);
      const std::span<std::byte> all{memory, size};
      consumer_.owner = consumer_.peer = all.first(ring::kLaneAreaBytes);
      producer_.owner = producer_.peer = all.subspan(ring::kLaneAreaBytes);
    }
    ring::format_producer_area(producer_.owner, geometry);
    ring::format_consumer_area(consumer_.owner, geometry.lane_id);
  }
  TestLane(TestLane&& other) noexcept
      : placing_(other.placing_),
        geometry_(other.geometry_),
        producer_(std::exchange(other.producer_, {})),
        consumer_(std::exchange(other.consumer_, {})) {}
  TestLane& operator=(TestLane&&) = delete;
  ~TestLane() {
    if (producer_.owner.empty()) return;
    if (placing_ == Placing::heap) {
      std::free(consumer_.owner.data());
    } else if (placing_ == Placing::shared) {
      ::munmap(consumer_.owner.data(), consumer_.owner.size() + producer_.owner.size());
    } else {
      for (const auto& view : {producer_.owner, producer_.peer, consumer_.owner, consumer_.peer}) {
        ::munmap(view.data(), view.size());
      }
    }
  }

  /// Both areas as the producer maps them, and as the consumer does.
  [[nodiscard]] ring::LaneAreas for_producer() const { return {producer_.owner, consumer_.peer}; }
  [[nodiscard]] ring::LaneAreas for_consumer() const { return {producer_.peer, consumer_.owner}; }

  template <typename Access = NativeAccess>
  [[nodiscard]] Result<ring::LaneProducer<Access>> producer(
      ring::Predecessor before = ring::Predecessor::none, ring::LaneTuning tuning = {}) const {
    return ring::LaneProducer<Access>::attach(for_producer(), before, tuning);
  }
  template <typename Access = NativeAccess>
  [[nodiscard]] Result<ring::LaneConsumer<Access>> consumer(
      ring::Predecessor before = ring::Predecessor::none, ring::LaneTuning tuning = {}) const {
    return ring::LaneConsumer<Access>::attach(for_consumer(), before, tuning);
  }

  /// The control words, through the owner's mapping: what a test may look at and spoil.
  [[nodiscard]] ring::LaneProducerSide& producer_side() const {
    return *reinterpret_cast<ring::LaneProducerSide*>(producer_.owner.data());
  }
  [[nodiscard]] ring::LaneConsumerSide& consumer_side() const {
    return *reinterpret_cast<ring::LaneConsumerSide*>(consumer_.owner.data());
  }
  /// The word of the data area that a record at `pos` starts with.
  [[nodiscard]] SharedWord<std::uint64_t>& header(std::uint64_t pos) const {
    return word_at<std::uint64_t>(producer_.owner.data(),
                                  ring::kLaneAreaBytes + (pos & (geometry_.capacity - 1)));
  }
  [[nodiscard]] const ring::LaneGeometry& geometry() const { return geometry_; }

  static ring::LaneGeometry small_geometry() {
    ring::LaneGeometry geometry;
    geometry.capacity = ring::kMinCapacity;
    geometry.lane_id = 0x1a9e;
    return geometry;
  }

 private:
  static void require(bool ok, const char* what) {
    if (ok) return;
    std::perror(what);
    std::abort();
  }
  static AreaViews map_twice(std::size_t size) {
    const int fd = ::memfd_create("slipring-test-lane", MFD_CLOEXEC);
    require(fd >= 0 && ::ftruncate(fd, static_cast<off_t>(size)) == 0, "memfd");
    const auto map = [&](int protection) -> std::span<std::byte> {
      void* at = ::mmap(nullptr, size, protection, MAP_SHARED, fd, 0);
      require(at != MAP_FAILED, "mmap");
      return {static_cast<std::byte*>(at), size};
    };
    const AreaViews views{map(PROT_READ | PROT_WRITE), map(PROT_READ)};
    ::close(fd);
    return views;
  }

  Placing placing_;
  ring::LaneGeometry geometry_;
  AreaViews producer_;
  AreaViews consumer_;
};

/// Byte `i` of test message `n`. Never zero: stale payload must not pass for a cleared word.
[[nodiscard]] constexpr std::byte pattern(std::uint64_t n, std::size_t i) {
  return static_cast<std::byte>(((n * 31 + i * 7) & 0xff) | 1);
}

inline void fill_pattern(std::span<std::byte> payload, std::uint64_t n) {
  for (std::size_t i = 0; i < payload.size(); ++i) payload[i] = pattern(n, i);
}

[[nodiscard]] inline bool has_pattern(std::span<const std::byte> payload, std::uint64_t n) {
  for (std::size_t i = 0; i < payload.size(); ++i) {
    if (payload[i] != pattern(n, i)) return false;
  }
  return true;
}

}  // namespace slipring::test

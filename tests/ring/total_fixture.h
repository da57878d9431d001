// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "slipring/ring/total.h"
#include "support/child.h"
#include "support/matchers.h"
#include "support/shared_area.h"
#include "support/test_lane.h"  // pattern, fill_pattern, has_pattern

namespace slipring::ring {

using test::Child;
using test::FailsWith;
using test::fill_pattern;
using test::has_pattern;
using test::Succeeds;
using Native = NativeAccess;

/// A ring of total order on memory that forks share.
class TestTotal {
 public:
  TestTotal() : TestTotal(small()) {}
  explicit TestTotal(const TotalGeometry& geometry)
      : geometry_(geometry), memory_(geometry.area_bytes()) {
    format_total_area(area(), geometry);
  }
  static TotalGeometry small(std::uint32_t owners = 4, std::uint64_t capacity = kMinCapacity) {
    TotalGeometry geometry;
    geometry.capacity = capacity;
    geometry.owners = owners;
    geometry.ring_id = 0x707a1;
    return geometry;
  }
  /// As if everything before `pos` had been sent and read: its descriptors are of the lap before.
  void start_at(std::uint64_t pos) const {
    Native::store_relaxed(control().read_pos, pos);
    const TotalView ring = view();
    for (std::uint64_t i = 0; i < geometry_.granules(); ++i) {
      const std::uint64_t p = pos + i * kTotalGranule;
      poke(p, {ring.lap(p) - 1, 0, 0, RecordState::none});
    }
  }

  [[nodiscard]] std::span<std::byte> area() const { return {memory_.data(), memory_.size()}; }
  [[nodiscard]] const TotalGeometry& geometry() const { return geometry_; }
  [[nodiscard]] TotalView view() const { return {area(), geometry_}; }
  [[nodiscard]] TotalControl& control() const { return *view().control; }
  [[nodiscard]] TotalOwner& owner(std::uint32_t index) const { return view().owners[index]; }
  [[nodiscard]] Descriptor look_at(std::uint64_t pos) const {
    return Descriptor::decode(Native::load_acquire(view().descriptor(pos)));
  }
  void poke(std::uint64_t pos, const Descriptor& desc) const {
    Native::store_release(view().descriptor(pos), desc.encode());
  }
  /// Every word of the area, to see that nothing changed.
  [[nodiscard]] std::vector<std::byte> snapshot() const {
    return {memory_.data(), memory_.data() + memory_.size()};
  }

  /// A slot whose holder took it and is proved dead. Who attaches to it acts as the dead did.
  [[nodiscard]] OwnerSlot slot_of_the_dead() const {
    Child child([&] {
      const auto slot = take_owner(area());
      return slot ? static_cast<int>(slot->index) : 255;
    });
    const test::Ending end = child.wait();
    EXPECT_TRUE(WIFEXITED(end.status) && WEXITSTATUS(end.status) != 255);
    const auto index = static_cast<std::uint32_t>(WEXITSTATUS(end.status));
    return {index, RoleWord::decode(Native::load_acquire(owner(index).role)).generation};
  }

  template <typename Access = NativeAccess>
  [[nodiscard]] Result<TotalProducer<Access>> producer() const {
    const auto slot = take_owner<Access>(area());
    if (!slot) return tl::unexpected(slot.error());
    return TotalProducer<Access>::attach(area(), *slot);
  }
  template <typename Access = NativeAccess>
  [[nodiscard]] Result<TotalConsumer<Access>> consumer(Predecessor before = Predecessor::none,
                                                       TotalTuning tuning = {}) const {
    return TotalConsumer<Access>::attach(area(), before, tuning);
  }

 private:
  TotalGeometry geometry_;
  test::SharedArea memory_;
};

/// Sends message `n`: a payload of `size` bytes that only this n has, n as its type.
template <typename Access>
[[nodiscard]] Result<void> send(TotalProducer<Access>& producer, std::uint64_t n,
                                std::size_t size) {
  const auto claim = producer.try_claim(size);
  if (!claim) return tl::unexpected(claim.error());
  fill_pattern(claim->payload, n);
  producer.commit(size, static_cast<std::uint16_t>(n));
  return {};
}

/// Expects message `n` to be the oldest, and releases it.
template <typename Access>
void expect_next(TotalConsumer<Access>& consumer, std::uint64_t n, std::size_t size) {
  const auto record = consumer.try_peek();
  ASSERT_THAT(record, Succeeds()) << "message " << n;
  EXPECT_EQ(record->payload.size(), size) << "message " << n;
  EXPECT_EQ(record->type, static_cast<std::uint16_t>(n));
  EXPECT_TRUE(has_pattern(record->payload, n)) << "message " << n;
  consumer.release(*record);
}

/// A ring of 4 KiB with four producers and the consumer, all in this process.
class TotalTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kCapacity = kMinCapacity;
  static constexpr std::size_t kMaxPayload = kCapacity / 4 - 64;
  static constexpr std::size_t kLine = 56;  // payload of a record of one granule

  TotalTest() { open(); }
  void open() {
    producers_.clear();
    for (std::uint32_t i = 0; i < 4; ++i) {
      auto producer = ring_.producer();
      ASSERT_THAT(producer, Succeeds());
      producers_.push_back(*producer);
    }
    restart_consumer(Predecessor::none);
  }
  void restart_consumer(Predecessor before, TotalTuning tuning = {}) {
    auto consumer = ring_.consumer(before, tuning);
    ASSERT_THAT(consumer, Succeeds());
    consumer_ = *consumer;
  }
  [[nodiscard]] TotalProducer<>& producer(std::size_t i = 0) { return producers_[i]; }
  [[nodiscard]] TotalConsumer<>& consumer() { return *consumer_; }
  void expect_empty() { EXPECT_THAT(consumer().try_peek(), FailsWith(Errc::empty)); }
  /// Moves the frontier to `offset` of a lap, everything read and told.
  void advance_to_offset(std::uint64_t offset) {
    do {
      ASSERT_THAT(send(producer(), 1, kLine), Succeeds());
      expect_next(consumer(), 1, kLine);
    } while (consumer().read_pos() % kCapacity != offset);
    consumer().tell_read();
  }

  TestTotal ring_;
  std::vector<TotalProducer<>> producers_;
  std::optional<TotalConsumer<>> consumer_;
};

}  // namespace slipring::ring

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "support/test_lane.h"

namespace slipring::ring {

using test::fill_pattern;
using test::has_pattern;
using test::Placing;
using test::TestLane;
using Native = NativeAccess;

template <typename T>
[[nodiscard]] testing::AssertionResult fails_with(const Result<T>& result, Errc code) {
  if (result) return testing::AssertionFailure() << "succeeded, wanted " << to_string(code);
  if (result.error().code == code) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "failed with " << to_string(result.error().code) << " ("
                                     << result.error().op << "), wanted " << to_string(code);
}

/// What the lane suite is repeated over: each test holds for all of them.
struct LaneParam {
  Placing placing;
  std::uint32_t granule;
  std::uint32_t zero_ahead;
};

/// A lane of 4 KiB, both ends in this process.
class LaneTest : public testing::TestWithParam<LaneParam> {
 protected:
  static constexpr std::uint64_t kCapacity = kMinCapacity;
  static constexpr std::size_t kMaxPayload = kCapacity / 4;

  LaneTest() : lane_(GetParam().placing, geometry()) {
    restart_producer(Predecessor::none);
    restart_consumer(Predecessor::none);
  }

  static LaneGeometry geometry() {
    LaneGeometry g = TestLane::small_geometry();
    g.granule = GetParam().granule;
    return g;
  }
  static LaneTuning tuning() {
    LaneTuning t;
    t.zero_ahead_bytes = GetParam().zero_ahead;
    return t;
  }

  /// A successor attaches; what the predecessor knew is gone.
  void restart_producer(Predecessor before) {
    auto end = lane_.producer(before, tuning());
    ASSERT_TRUE(end) << end.error().op;
    producer_ = *end;
  }
  void restart_consumer(Predecessor before) {
    auto end = lane_.consumer(before, tuning());
    ASSERT_TRUE(end) << end.error().op;
    consumer_ = *end;
  }

  /// Sends message `n`: a payload of `size` bytes that only this n has.
  [[nodiscard]] bool send(std::uint64_t n, std::size_t size) {
    const auto claim = producer_->try_claim(size);
    if (!claim) return false;
    fill_pattern(claim->payload, n);
    producer_->commit(size, static_cast<std::uint16_t>(n));
    return true;
  }
  /// Expects message `n` to be the oldest, and releases it.
  void expect_next(std::uint64_t n, std::size_t size) {
    const auto record = consumer_->try_peek();
    ASSERT_TRUE(record) << "message " << n << ": " << record.error().op;
    EXPECT_EQ(record->payload.size(), size);
    EXPECT_EQ(record->type, static_cast<std::uint16_t>(n));
    EXPECT_TRUE(has_pattern(record->payload, n)) << "message " << n;
    consumer_->release(*record);
  }
  void expect_empty() { EXPECT_TRUE(fails_with(consumer_->try_peek(), Errc::empty)); }

  /// Messages of `size` until there is no room; how many.
  std::size_t fill(std::size_t size, std::uint64_t first = 0) {
    std::size_t sent = 0;
    while (send(first + sent, size)) ++sent;
    return sent;
  }
  /// Moves the frontier to `offset` of some lap, everything read and told.
  void advance_to_offset(std::uint64_t offset) {
    while (producer_->write_pos() % kCapacity != offset) {
      const std::uint64_t gap = (offset - producer_->write_pos()) % kCapacity;
      const std::uint64_t to_lap_end = kCapacity - producer_->write_pos() % kCapacity;
      const std::uint64_t step = std::min<std::uint64_t>({gap, to_lap_end, 256});
      ASSERT_TRUE(send(1, static_cast<std::size_t>(step - kWordBytes)));
      expect_next(1, static_cast<std::size_t>(step - kWordBytes));
    }
    consumer_->tell_read();
    producer_->tell_write();
  }
  /// End of a record that starts at `pos`, by the format alone.
  [[nodiscard]] static std::uint64_t end_of(std::uint64_t pos, std::size_t size) {
    return align_up(payload_pos(pos, size >= kOwnLineBytes) + size, GetParam().granule);
  }
  static void poke(SharedWord<std::uint64_t>& word, std::uint64_t value) {
    Native::store_release(word, value);
  }
  [[nodiscard]] static std::uint64_t look_at(const SharedWord<std::uint64_t>& word) {
    return Native::load_acquire(word);
  }

  TestLane lane_;
  std::optional<LaneProducer<>> producer_;
  std::optional<LaneConsumer<>> consumer_;
};

inline std::vector<LaneParam> all_lane_params() {
  std::vector<LaneParam> params;
  for (const Placing placing : {Placing::heap, Placing::crossed}) {
    for (const std::uint32_t granule : {8u, 16u, 64u}) {
      for (const std::uint32_t ahead : {0u, 512u, 4096u})
        params.push_back({placing, granule, ahead});
    }
  }
  return params;
}

inline std::string lane_param_name(const testing::TestParamInfo<LaneParam>& info) {
  return std::string(info.param.placing == Placing::heap ? "heap" : "crossed") + "_granule" +
         std::to_string(info.param.granule) + "_ahead" + std::to_string(info.param.zero_ahead);
}

// Here, once for all files: they are one program, and one unit.
INSTANTIATE_TEST_SUITE_P(AllPlacings, LaneTest, testing::ValuesIn(all_lane_params()),
                         lane_param_name);

}  // namespace slipring::ring

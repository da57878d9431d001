// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "guarded_lane.h"

// Arbitrary bytes in both areas of a lane, as after a crash of the machine or a stranger's hand.
// Attaching, the recovery walk and what follows must end in an error or in use within the lane.
// Input: byte 0: start from a real lane or from nothing; bytes 1, 2: sizes of the areas; then
// patches {offset:16, length:8, bytes}, offset counted through both areas.
namespace slipring::fuzz {
namespace {

using ring::Predecessor;

void patch(std::span<const std::uint8_t> input, std::span<std::byte> producer,
           std::span<std::byte> consumer) {
  while (input.size() > 3) {
    const std::size_t offset = input[0] | std::size_t{input[1]} << 8;
    const std::size_t length = std::min<std::size_t>(input[2], input.size() - 3);
    input = input.subspan(3);
    for (std::size_t i = 0; i < length; ++i) {
      const std::size_t at = (offset + i) % (producer.size() + consumer.size());
      const auto byte = static_cast<std::byte>(input[i]);
      (at < producer.size() ? producer[at] : consumer[at - producer.size()]) = byte;
    }
    input = input.subspan(length);
  }
}

/// A lane in its second lap: records unread, positions told, padding behind it.
void make_used(const GuardedLane& lane) {
  auto producer = ring::LaneProducer<>::attach(lane.areas(), Predecessor::none);
  auto consumer = ring::LaneConsumer<>::attach(lane.areas(), Predecessor::none);
  expect(producer && consumer);
  const std::array<std::byte, 700> message{};
  for (std::size_t i = 0; i < 30; ++i) {
    expect(producer->try_send({message.data(), i * 97 % message.size()}, 7).has_value());
    if (i > 26) continue;
    consumer->release(*consumer->try_peek());
    consumer->tell_read();
  }
}

template <typename Consumer>
void drain(Consumer& consumer) {
  std::uint64_t last = consumer.read_pos();
  for (int i = 0; i < 2000; ++i) {
    const auto record = consumer.try_peek();
    if (!record) return;
    expect(record->end > last);
    unsigned sum = 0;
    for (const std::byte b : record->payload) sum += static_cast<unsigned>(b);
    asm volatile("" : : "r"(sum));
    last = record->end;
    consumer.release(*record);
    expect(consumer.read_pos() == last);
  }
}

template <typename Producer>
void produce(Producer& producer) {
  for (std::size_t i = 0; i < 60; ++i) {
    const std::size_t size = i * 173 % (producer.max_payload() + 1);
    const auto claim = producer.try_claim(size);
    if (!claim) {
      expect(claim.error().code == Errc::full || claim.error().code == Errc::corrupt);
      return;
    }
    std::fill(claim->payload.begin(), claim->payload.end(), std::byte{0xff});
    producer.commit(size);
  }
}

}  // namespace
}  // namespace slipring::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipring;
  static const fuzz::GuardedLane lane;
  if (size < 3) return 0;
  const bool real = (data[0] & 1) != 0;
  lane.producer.clear();
  lane.consumer.clear();
  if (real) {
    constexpr std::array<std::uint32_t, 4> kGranules{8, 16, 64, 8};
    lane.format(kGranules[(data[0] >> 1) & 3]);
    fuzz::make_used(lane);
  }
  // Cut at the front, so that what is read beyond the end is the guard page.
  const auto cut = [](std::span<std::byte> area, std::uint8_t by) {
    return area.subspan(std::min<std::size_t>(area.size(), std::size_t{by} * 128));
  };
  const ring::LaneAreas areas{cut(lane.producer.bytes(), data[1]),
                              cut(lane.consumer.bytes(), data[2])};
  fuzz::patch({data + 3, size - 3}, lane.producer.bytes(), lane.consumer.bytes());
  const auto before = static_cast<ring::Predecessor>((data[0] >> 3) % 3);
  ring::LaneTuning tuning;
  tuning.zero_ahead_bytes = (data[0] & 0x40) != 0 ? 512 : 0;
  (void)ring::load_geometry<NativeAccess>(areas.producer);
  auto consumer = ring::LaneConsumer<>::attach(areas, before);
  auto producer = ring::LaneProducer<>::attach(areas, before, tuning);
  if (producer) fuzz::produce(*producer);
  if (consumer) fuzz::drain(*consumer);
  if (producer) fuzz::produce(*producer);
  return 0;
}

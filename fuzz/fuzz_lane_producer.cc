// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "guarded_lane.h"
#include "support/oracle_access.h"

// A consumer that lies about read_pos. The producer must claim inside the lane, store into its own
// area alone, load at most one word per call, and stay corrupt once it said so.
// Input: byte 0: mode, granule, predecessor; byte 1: zero-ahead; then answers and choices.
namespace slipring::fuzz {
namespace {

using test::OracleAccess;
using Producer = ring::LaneProducer<OracleAccess>;

constexpr std::uint64_t kLoadsToAttach = 64 + kCapacity / ring::kWordBytes;

class Driver {
 public:
  explicit Driver(Producer& producer) : producer_(producer) {}

  void step(std::uint8_t choice) {
    const bool own_line = (choice & 0x80) != 0;
    OracleAccess::limit_loads(1);
    switch (choice & 7) {
      case 0:
      case 1:
      case 2: claim(own_line); break;
      case 3: commit(OracleAccess::next_word<std::uint16_t>() % 2048); break;
      case 4:
        producer_.abort();
        expect(!producer_.has_open_claim());
        break;
      case 5: group(choice); break;
      case 6:
        (void)producer_.has_room(OracleAccess::next_word<std::uint16_t>(), own_line);
        expect(producer_.want_pos(64) - producer_.read_pos_seen() <= 2 * kCapacity);
        break;
      default: producer_.tell_write(); break;
    }
  }

 private:
  void claim(bool own_line) {
    const std::size_t size = OracleAccess::next_word<std::uint16_t>() % (kCapacity / 4 + 9);
    const auto claim = producer_.try_claim(size, own_line);
    if (!claim) {
      const Errc code = claim.error().code;
      expect(code == Errc::full || code == Errc::too_large || code == Errc::in_use ||
             code == Errc::corrupt);
      expect(!corrupt_ || code != Errc::full);
      corrupt_ = corrupt_ || code == Errc::corrupt;
      return;
    }
    expect(!corrupt_);
    expect(claim->payload.size() == size);
    if (size == 0) return;
    OracleAccess::check(claim->payload.data(), size, ring::kWordBytes, true);
    OracleAccess::zero(claim->payload.data(), size);
    claim->payload.back() = std::byte{0xff};
  }
  void commit(std::size_t used) {
    const std::uint64_t before = producer_.write_pos();
    const bool open = producer_.has_open_claim();
    producer_.commit(used, static_cast<std::uint16_t>(used));
    expect(open == (producer_.write_pos() != before));
  }
  void group(std::uint8_t choice) {
    if ((choice & 0x18) == 0) {
      producer_.abort_group();
    } else if ((choice & 8) != 0) {
      producer_.end_group();
    } else {
      (void)producer_.begin_group();
    }
  }

  Producer& producer_;
  bool corrupt_ = false;
};

}  // namespace
}  // namespace slipring::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipring;
  static const fuzz::GuardedLane lane;
  if (size < 2) return 0;
  const std::uint8_t setup = data[0];
  constexpr std::array<std::uint32_t, 4> kGranules{8, 16, 64, 8};
  constexpr std::array<std::uint32_t, 4> kAhead{0, 512, 4096, 24};
  lane.format(kGranules[(setup >> 1) & 3]);
  using test::OracleAccess;
  const auto mode = (setup & 1) != 0 ? OracleAccess::Mode::sticky : OracleAccess::Mode::free;
  OracleAccess::feed({data + 2, size - 2}, OracleAccess::Mode::sticky);
  OracleAccess::allow(lane.producer.bytes(), test::Rights::read_write);
  OracleAccess::allow(lane.consumer.bytes(), test::Rights::read_only);
  OracleAccess::limit_loads(fuzz::kLoadsToAttach);
  ring::LaneTuning tuning;
  tuning.zero_ahead_bytes = kAhead[data[1] & 3];
  tuning.tell_write_shift = data[1] >> 2;
  auto producer = fuzz::Producer::attach(lane.areas(),
                                         static_cast<ring::Predecessor>((setup >> 3) % 3), tuning);
  if (!producer) return 0;
  OracleAccess::switch_to(mode);
  fuzz::Driver driver(*producer);
  for (int i = 0; i < 200 && OracleAccess::has_input(); ++i) driver.step(OracleAccess::next_byte());
  return 0;
}

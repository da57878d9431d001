// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "guarded_lane.h"
#include "support/oracle_access.h"

// A producer that lies in every load. The consumer must stay inside the lane, store into its own
// area alone, end in a bounded number of loads, and stay corrupt once it said so.
// Input: byte 0: mode, granule, predecessor; then answers and choices, as they are asked for.
namespace slipring::fuzz {
namespace {

using ring::Record;
using test::OracleAccess;
using test::Rights;
using Consumer = ring::LaneConsumer<OracleAccess>;

constexpr std::uint64_t kLoadsToAttach = 64 + kCapacity / ring::kWordBytes;
constexpr std::uint64_t kLoadsPerPeek = 2;

void check_record(const Record& record, const Consumer& consumer) {
  OracleAccess::check(record.payload.data(), record.payload.size(), 1, false);
  unsigned sum = 0;
  for (const std::byte b : record.payload) sum += static_cast<unsigned>(b);
  asm volatile("" : : "r"(sum));  // every byte is there
  expect(record.payload.size() <= kCapacity / 4);
  expect(record.end > consumer.read_pos());
  expect(record.end - consumer.read_pos() <= 2 * kCapacity);
  expect(record.number - consumer.messages() - 1 < 8);  // modulo 2^64: the count is told, too
}

void use(Consumer& consumer) {
  std::array<Record, 8> records;
  bool corrupt = false;
  for (int i = 0; i < 64 && OracleAccess::has_input(); ++i) {
    const std::uint8_t choice = OracleAccess::next_byte();
    const std::uint64_t before = consumer.read_pos();
    switch (choice & 7) {
      case 0: {
        const std::size_t wanted = 1 + (choice >> 3) % records.size();
        OracleAccess::limit_loads(kLoadsPerPeek * (wanted + 1));
        const auto found = consumer.peek_many({records.data(), wanted});
        expect(!(corrupt && found));
        corrupt = corrupt || (!found && found.error().code == Errc::corrupt);
        if (!found) break;
        expect(*found >= 1 && *found <= wanted);
        for (std::size_t r = 0; r < *found; ++r) check_record(records[r], consumer);
        consumer.release(records[(choice >> 3) % *found]);
        expect(consumer.read_pos() > before);
        break;
      }
      case 1:
        OracleAccess::limit_loads(0);
        consumer.tell_read();
        break;
      case 2:
        OracleAccess::limit_loads(3);
        expect(consumer.approx_backlog() <= kCapacity);
        (void)consumer.wanted_pos();
        expect(consumer.has_record() || !corrupt);
        break;
      default: {
        OracleAccess::limit_loads(kLoadsPerPeek);
        const auto record = consumer.try_peek();
        expect(!(corrupt && record));
        corrupt = corrupt || (!record && record.error().code == Errc::corrupt);
        if (!record) break;
        check_record(*record, consumer);
        if ((choice & 8) != 0) break;
        consumer.release(*record);
        expect(consumer.read_pos() == record->end);
        consumer.release(*record);
        expect(consumer.read_pos() == record->end);
      }
    }
  }
}

}  // namespace
}  // namespace slipring::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipring;
  static const fuzz::GuardedLane lane;
  if (size == 0) return 0;
  const std::uint8_t setup = data[0];
  constexpr std::array<std::uint32_t, 4> kGranules{8, 16, 64, 8};
  lane.format(kGranules[(setup >> 1) & 3]);
  using test::OracleAccess;
  const auto mode = (setup & 1) != 0 ? OracleAccess::Mode::sticky : OracleAccess::Mode::free;
  // The areas are sound at attach, else a free oracle would have to guess two magics.
  OracleAccess::feed({data + 1, size - 1}, OracleAccess::Mode::sticky);
  OracleAccess::allow(lane.producer.bytes(), test::Rights::read_only);
  OracleAccess::allow(lane.consumer.bytes(), test::Rights::read_write);
  OracleAccess::limit_loads(fuzz::kLoadsToAttach);
  auto consumer =
      fuzz::Consumer::attach(lane.areas(), static_cast<ring::Predecessor>((setup >> 3) % 3));
  OracleAccess::switch_to(mode);
  if (consumer) fuzz::use(*consumer);
  return 0;
}

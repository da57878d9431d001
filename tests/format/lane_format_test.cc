// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstddef>
#include <map>
#include <span>
#include <string>

#include "support/test_lane.h"
#include "table_reader.h"

// Golden bytes: the tables of docs/format.md against a lane as the code makes it.
namespace slipring::ring {
namespace {

using test::FormatRow;
using test::read_format_table;

/// Where a field lies, as the compiler sees it.
struct Field {
  std::uint64_t offset;
  std::uint64_t size;
};
using Fields = std::map<std::string, Field>;

#define FIELD(type, name)                               \
  {                                                     \
#name, { offsetof(type, name), sizeof(type::name) } \
  }
const Fields kProducerFields = {
    FIELD(LaneProducerSide, magic),
    FIELD(LaneProducerSide, geometry),
    FIELD(LaneProducerSide, data_offset),
    FIELD(LaneProducerSide, lane_id),
    FIELD(LaneProducerSide, limits),
    FIELD(LaneProducerSide, type_fingerprint),
    FIELD(LaneProducerSide, type_shape),
    FIELD(LaneProducerSide, role),
    FIELD(LaneProducerSide, fence),
    FIELD(LaneProducerSide, reserved),
    FIELD(LaneProducerSide, write_pos),
    FIELD(LaneProducerSide, messages),
    FIELD(LaneProducerSide, bytes),
    FIELD(LaneProducerSide, aborts),
    FIELD(LaneProducerSide, fulls),
    FIELD(LaneProducerSide, rings),
    FIELD(LaneProducerSide, before_pos),
    FIELD(LaneProducerSide, before_messages),
    FIELD(LaneProducerSide, before_bytes),
    FIELD(LaneProducerSide, data_seq),
    FIELD(LaneProducerSide, space_ticket),
    FIELD(LaneProducerSide, want_pos),
    FIELD(LaneProducerSide, parked_since),
    FIELD(LaneProducerSide, counts),
    FIELD(LaneProducerSide, direct_withdrawn),
    FIELD(LaneProducerSide, unused),
    FIELD(LaneProducerSide, token),
};
const Fields kConsumerFields = {
    FIELD(LaneConsumerSide, magic),
    FIELD(LaneConsumerSide, version),
    FIELD(LaneConsumerSide, lane_id),
    FIELD(LaneConsumerSide, role),
    FIELD(LaneConsumerSide, fence),
    FIELD(LaneConsumerSide, reserved),
    FIELD(LaneConsumerSide, read_pos),
    FIELD(LaneConsumerSide, messages),
    FIELD(LaneConsumerSide, redelivered),
    FIELD(LaneConsumerSide, visits),
    FIELD(LaneConsumerSide, slips),
    FIELD(LaneConsumerSide, parks),
    FIELD(LaneConsumerSide, before_pos),
    FIELD(LaneConsumerSide, before_messages),
    FIELD(LaneConsumerSide, before_redelivered),
    FIELD(LaneConsumerSide, repeats_to),
    FIELD(LaneConsumerSide, data_ticket),
    FIELD(LaneConsumerSide, parked_since),
    FIELD(LaneConsumerSide, space_seq),
    FIELD(LaneConsumerSide, counts),
    FIELD(LaneConsumerSide, direct_done),
    FIELD(LaneConsumerSide, unused),
    FIELD(LaneConsumerSide, token),
};
#undef FIELD
const Fields kRecordFields = {
    {"size", {0, 4}},    {"type", {4, 2}},       {"kind", {6, 1}},         {"flags", {7, 1}},
    {"payload", {8, 5}}, {"alignment", {13, 3}}, {"next header", {16, 8}},
};

class LaneFormat : public testing::Test {
 protected:
  LaneFormat() : lane_(test::Placing::heap, geometry()) {
    auto producer = *lane_.producer();
    auto consumer = *lane_.consumer();
    EXPECT_TRUE(producer.try_send(std::as_bytes(std::span{"slips", 5}), 7));
    consumer.release(*consumer.try_peek());
    producer.tell_write();
    consumer.tell_read();
  }
  static LaneGeometry geometry() {
    LaneGeometry g;
    g.capacity = 4096;
    g.granule = 8;
    g.bell = 2;
    g.lane_id = 0x1122334455667788;
    g.type_fingerprint = 0xcafef00d12345678;
    g.type_size = 24;
    g.type_align = 8;
    return g;
  }
  static std::vector<FormatRow> table(const std::string& heading) {
    return read_format_table(SLIPRING_DOCS "/format.md", heading);
  }
  /// Every row is a field and every field a row, at the place and with the bytes of the table.
  static void expect_table(const std::string& heading, Fields fields,
                           std::span<const std::byte> memory) {
    const auto rows = table(heading);
    ASSERT_FALSE(rows.empty()) << "no table under '" << heading << "'";
    for (const FormatRow& row : rows) {
      SCOPED_TRACE(heading + ", " + row.name);
      const auto field = fields.find(row.name);
      ASSERT_NE(field, fields.end()) << "no such field, or twice in the table";
      EXPECT_EQ(row.offset, field->second.offset);
      EXPECT_EQ(row.size, field->second.size);
      const auto bytes = row.bytes();
      ASSERT_LE(row.offset + bytes.size(), memory.size());
      for (std::size_t i = 0; i < bytes.size(); ++i) {
        EXPECT_EQ(static_cast<unsigned>(memory[row.offset + i]), bytes[i]) << "byte " << i;
      }
      fields.erase(field);
    }
    for (const auto& [name, field] : fields) ADD_FAILURE() << heading << " lacks " << name;
  }
  /// What no row names is padding between fields, and zero: no field hides there.
  static void expect_nothing_else(const std::string& heading, std::span<const std::byte> memory) {
    std::vector<bool> named(memory.size());
    for (const FormatRow& row : table(heading)) {
      for (std::uint64_t i = 0; i < row.size; ++i) named[row.offset + i] = true;
    }
    for (std::size_t i = 0; i < memory.size(); ++i) {
      if (!named[i]) {
        EXPECT_EQ(memory[i], std::byte{0}) << heading << ", byte " << i;
      }
    }
  }

  test::TestLane lane_;
};

TEST_F(LaneFormat, TheProducerAreaHasTheBytesOfItsTable) {
  const auto memory = lane_.for_producer().producer.first(kLaneAreaBytes);
  expect_table("Lane: producer area", kProducerFields, memory);
  expect_nothing_else("Lane: producer area", memory);
}

TEST_F(LaneFormat, TheConsumerAreaHasTheBytesOfItsTable) {
  const auto memory = lane_.for_consumer().consumer;
  expect_table("Lane: consumer area", kConsumerFields, memory);
  expect_nothing_else("Lane: consumer area", memory);
}

TEST_F(LaneFormat, ARecordHasTheBytesOfItsTable) {
  const auto memory = lane_.for_producer().producer.subspan(kLaneAreaBytes);
  expect_table("Lane: record", kRecordFields, memory.first(24));
  const RecordHeader header{5, 7, RecordKind::data, 0};
  EXPECT_EQ(header.encode(), NativeAccess::load_acquire(lane_.header(0)));
}

// A field that nobody wrote into the lists above would be in neither table nor test.
TEST_F(LaneFormat, TheListsCoverEveryWordOfBothSides) {
  const auto covered = [](const Fields& fields) {
    std::uint64_t sum = 0;
    for (const auto& [name, field] : fields) sum += field.size;
    return sum;
  };
  // Bytes between the last word of a group and the start of the next one.
  constexpr std::uint64_t kProducerGaps = 0x08 + 0x30 + 0x38 + 0x7c + 0x68;
  constexpr std::uint64_t kConsumerGaps = 0x28 + 0x30 + 0x30 + 0x70 + 0x7c;
  EXPECT_EQ(covered(kProducerFields) + kProducerGaps, sizeof(LaneProducerSide));
  EXPECT_EQ(covered(kConsumerFields) + kConsumerGaps, sizeof(LaneConsumerSide));
}

TEST_F(LaneFormat, HeadersDecodeToWhatWasEncoded) {
  for (const std::uint32_t size : {0u, 1u, 1024u, 0xffffffffu}) {
    for (const int kind : {1, 2, 3, 4, 5, 255}) {
      const RecordHeader in{size, 0xabcd, static_cast<RecordKind>(kind), 0x5a};
      const RecordHeader out = RecordHeader::decode(in.encode());
      EXPECT_EQ(out.size, in.size);
      EXPECT_EQ(out.type, in.type);
      EXPECT_EQ(out.kind, in.kind);
      EXPECT_EQ(out.flags, in.flags);
    }
  }
}

}  // namespace
}  // namespace slipring::ring

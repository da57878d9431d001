// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstddef>
#include <map>
#include <string>

#include "slipring/segment/segment.h"
#include "table_reader.h"

// Golden bytes: the table of docs/format.md against the header of a fresh segment.
namespace slipring::segment {
namespace {

struct Field {
  std::uint64_t offset;
  std::uint64_t size;
};
#define FIELD(name)                                                       \
  {                                                                       \
#name, { offsetof(SegmentHeader, name), sizeof(SegmentHeader::name) } \
  }
const std::map<std::string, Field> kFields = {
    FIELD(magic),       FIELD(canary),        FIELD(format_version), FIELD(header_bytes),
    FIELD(compat),      FIELD(ro_compat),     FIELD(incompat),       FIELD(content),
    FIELD(fingerprint), FIELD(instance_high), FIELD(instance_low),   FIELD(total_bytes),
    FIELD(body_offset), FIELD(body_bytes),    FIELD(page_bytes),     FIELD(huge_page_bytes),
    FIELD(backend),     FIELD(flags),         FIELD(mode),           FIELD(created_ns),
    FIELD(name_bytes),  FIELD(checksum),      FIELD(reserved),       FIELD(creator),
    FIELD(name),        FIELD(rest),
};
#undef FIELD

TEST(SegmentFormat, TheHeaderHasTheBytesOfItsTableAndNoOthers) {
  if (::sysconf(_SC_PAGESIZE) != 4096) GTEST_SKIP() << "the sample has pages of 4096 bytes";
  Spec spec;
  spec.body_bytes = 4096;
  spec.content = 1;
  spec.fingerprint = 0x1122334455667788;
  spec.keep = true;
  auto made = draft(Backend::memfd, spec);
  ASSERT_TRUE(made);
  auto segment = std::move(*made).publish();
  ASSERT_TRUE(segment);
  SegmentHeader memory;
  ASSERT_EQ(::pread(segment->fd(), &memory, sizeof memory, 0), 4096);
  const auto* bytes = reinterpret_cast<const unsigned char*>(&memory);

  auto left = kFields;
  std::uint64_t covered = 0;
  for (const test::FormatRow& row :
       test::read_format_table(SLIPRING_DOCS "/format.md", "Segment: header")) {
    SCOPED_TRACE(row.name);
    const auto field = left.find(row.name);
    ASSERT_NE(field, left.end()) << "no such field, or twice in the table";
    EXPECT_EQ(row.offset, field->second.offset);
    EXPECT_EQ(row.size, field->second.size);
    EXPECT_EQ(row.offset, covered) << "a hole in front of it";
    covered = row.offset + row.size;
    left.erase(field);
    if (row.value == "?") continue;  // random, or of this run
    const auto golden = row.bytes();
    for (std::size_t i = 0; i < golden.size(); ++i) {
      ASSERT_EQ(bytes[row.offset + i], golden[i]) << "byte " << i;
    }
  }
  for (const auto& [name, field] : left) ADD_FAILURE() << "the table lacks " << name;
  EXPECT_EQ(covered, kHeaderBytes);
}

}  // namespace
}  // namespace slipring::segment

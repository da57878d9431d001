// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "slipring/manager/registry_inl.h"
#include "support/shared_area.h"
#include "table_reader.h"

// Golden bytes: the table of docs/format.md against an entry as the code makes it.
namespace slipring::manager {
namespace {

struct Field {
  std::uint64_t offset;
  std::uint64_t size;
};
#define ENTRY(name)                                                       \
  {                                                                       \
#name, { offsetof(RegistryEntry, name), sizeof(RegistryEntry::name) } \
  }
#define SAID(name)                                                        \
  {                                                                       \
#name, {                                                              \
      offsetof(RegistryEntry, description) + offsetof(Description, name), \
          sizeof(Description::name)                                       \
    }                                                                     \
  }
const std::map<std::string, Field> kFields = {
    ENTRY(role),    ENTRY(checksum),     ENTRY(token),       ENTRY(reserved),
    SAID(what),     SAID(instance_high), SAID(instance_low), SAID(handles),
    SAID(since_ns), SAID(lengths),       SAID(name),         SAID(where),
};
#undef ENTRY
#undef SAID

TEST(RegistryFormat, AnEntryHasTheBytesOfItsTableAndNoOthers) {
  Attachment sample;
  sample.form = Form::lanes;
  sample.part = Part::producer;
  sample.index = 9;
  sample.backend = segment::Backend::memfd;
  sample.instance = {0x1122334455667788, 0x99aabbccddeeff00};
  sample.sysv_id = 0x5eed;
  sample.descriptor = 0x17;
  sample.name = "md.btc";
  sample.where = "memfd";
  const test::SharedArea area(2 * kRegistryEntryBytes);
  const std::span<std::byte> table{area.data(), area.size()};
  const auto words = detail::encode_description(sample, 0x123456789abcdef);
  ASSERT_TRUE(words);
  const auto taken = detail::take_entry(table, *words);
  ASSERT_TRUE(taken);
  ASSERT_EQ(taken->entry, 0u);

  auto left = kFields;
  std::uint64_t covered = 0;
  for (const test::FormatRow& row :
       test::read_format_table(SLIPRING_DOCS "/format.md", "Registry: entry")) {
    SCOPED_TRACE(row.name);
    const auto field = left.find(row.name);
    ASSERT_NE(field, left.end()) << "no such field, or twice in the table";
    EXPECT_EQ(row.offset, field->second.offset);
    EXPECT_EQ(row.size, field->second.size);
    EXPECT_EQ(row.offset, covered) << "a hole in front of it";
    covered = row.offset + row.size;
    left.erase(field);
    if (row.value == "?") continue;  // of this process
    const auto golden = row.bytes();
    for (std::size_t i = 0; i < golden.size(); ++i) {
      ASSERT_EQ(static_cast<unsigned>(table[row.offset + i]), golden[i]) << "byte " << i;
    }
  }
  for (const auto& [name, field] : left) ADD_FAILURE() << "the table lacks " << name;
  EXPECT_EQ(covered, kRegistryEntryBytes);
  for (const std::byte byte : table.subspan(kRegistryEntryBytes)) ASSERT_EQ(byte, std::byte{0});
}

// FNV-1a over the role word and the description, each lowest byte first, starting at the
// fingerprint.
TEST(RegistryFormat, TheChecksumIsWhatTheTableSays) {
  const DescriptionWords words = *detail::encode_description({}, 0);
  std::uint64_t hash = kRegistryFingerprint;
  const auto feed = [&hash](unsigned char byte) { hash = (hash ^ byte) * 0x100000001b3; };
  const std::uint64_t role = 0x0102030405060708;
  for (int i = 0; i < 8; ++i) feed(static_cast<unsigned char>(role >> (8 * i)));
  const auto* bytes = reinterpret_cast<const unsigned char*>(&words);
  for (std::size_t i = 0; i < sizeof words; ++i) feed(bytes[i]);
  EXPECT_EQ(detail::description_checksum(role, words), hash);
}

}  // namespace
}  // namespace slipring::manager

// SPDX-License-Identifier: Apache-2.0
#include "slipring/frame/chunk.h"

#include "../format/table_reader.h"
#include "frame_fixture.h"

namespace slipring::frame {
namespace {

using namespace test;
using slipring::test::read_format_table;

/// The sample of docs/messages.md: the second chunk of three, with a check.
ChunkHeader sample() {
  ChunkHeader h;
  h.id = 0x1122334455667788;
  h.index = 1;
  h.body_bytes = 5;
  h.offset = 0x10000;
  h.total = 0x20000;
  h.flags = chunk_flag::has_check;
  h.type = 7;
  h.check = body_check(as_bytes("slips"));
  return h;
}

ChunkHeader any_first() {
  ChunkHeader h;
  h.id = 1;
  h.body_bytes = 10;
  h.total = 30;
  h.flags = chunk_flag::first;
  return h;
}

TEST(Chunk, HasTheBytesThatTheDocumentShows) {
  const auto rows = read_format_table(SLIPRING_DOCS "/messages.md", "Chunk header");
  ASSERT_EQ(rows.size(), 9u) << "eight fields and the body";
  Bytes record(kChunkHeaderBytes + 5);
  ASSERT_THAT(encode(sample(), record), Succeeds());
  std::copy_n(as_bytes("slips").begin(), 5, record.begin() + kChunkHeaderBytes);
  std::uint64_t at = 0;
  for (const auto& row : rows) {
    EXPECT_EQ(row.offset, at) << row.name << ": no holes";
    at = row.offset + row.size;
    ASSERT_LE(at, record.size());
    const auto want = row.bytes();
    EXPECT_EQ(0, std::memcmp(record.data() + row.offset, want.data(), want.size())) << row.name;
  }
  EXPECT_EQ(at, record.size());
}

TEST(Chunk, HasTheseBytesForEver) {
  const unsigned char golden[kChunkHeaderBytes] = {
      0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x01, 0x00, 0x00, 0x00, 0x05, 0x00,
      0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00,
      0x00, 0x00, 0x00, 0x00, 0x08, 0x00, 0x07, 0x00, 0xef, 0xbe, 0xad, 0xde};
  ChunkHeader h = sample();
  h.check = 0xdeadbeef;
  Bytes bytes(kChunkHeaderBytes);
  ASSERT_THAT(encode(h, bytes), Succeeds());
  EXPECT_EQ(0, std::memcmp(bytes.data(), golden, sizeof(golden)));
  const auto back = decode(bytes);
  ASSERT_THAT(back, Succeeds());
  EXPECT_EQ(*back, h);
}

// The empty body's value is that of the xxHash specification, 0x2d06800538d394c2.
TEST(Chunk, ChecksABodyByTheLowHalfOfXxh3) {
  EXPECT_EQ(body_check({}), 0x38d394c2u);
  const Bytes body = body_of(1000);
  Bytes other = body;
  other[999] ^= std::byte{1};
  EXPECT_NE(body_check(body), body_check(other));
}

TEST(Chunk, IsRefusedWhereverItIsCut) {
  const Bytes body = body_of(5);
  ChunkHeader h = sample();
  const Bytes whole = raw_chunk(h, body);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_THAT(decode_chunk(cut), FailsWith(Errc::bad_format)) << size;
    EXPECT_EQ(decode(cut).has_value(), size >= kChunkHeaderBytes) << size;
  }
  Bytes more = whole;
  more.push_back({});
  EXPECT_THAT(decode_chunk(more), FailsWith(Errc::bad_format)) << "one byte too many";
  ASSERT_THAT(decode_chunk(whole), Succeeds());
  EXPECT_TRUE(std::ranges::equal(decode_chunk(whole)->body, body));
}

TEST(Chunk, IsRefusedWithAFlagThatMustBeUnderstoodAndIsNot) {
  for (unsigned bit = 4; bit < 16; ++bit) {
    ChunkHeader h = any_first();
    h.flags = static_cast<std::uint16_t>(h.flags | 1u << bit);
    EXPECT_EQ(decode(raw_chunk(h)).has_value(), bit < 8) << bit;
  }
}

struct Bad {
  const char* what;
  void (*change)(ChunkHeader&);
};
class BadChunk : public testing::TestWithParam<Bad> {};

TEST_P(BadChunk, IsRefusedByBothSides) {
  ASSERT_THAT(check_header(any_first()), Succeeds());
  ChunkHeader h = any_first();
  GetParam().change(h);
  EXPECT_THAT(check_header(h), FailsWith(Errc::bad_format));
  EXPECT_THAT(decode(raw_chunk(h)), FailsWith(Errc::bad_format));
  Bytes to(kChunkHeaderBytes, std::byte{0xa5});
  EXPECT_THAT(encode(h, to), FailsWith(Errc::invalid_argument));
  EXPECT_EQ(to, Bytes(kChunkHeaderBytes, std::byte{0xa5})) << "nothing was written";
}

INSTANTIATE_TEST_SUITE_P(
    Rules, BadChunk,
    testing::Values(
        Bad{"IdZero", [](ChunkHeader& h) { h.id = 0; }},
        Bad{"FirstAtAnotherIndex", [](ChunkHeader& h) { h.index = 1, h.offset = 10; }},
        Bad{"IndexZeroWithoutFirst", [](ChunkHeader& h) { h.flags = 0; }},
        Bad{"FirstWithAnOffset", [](ChunkHeader& h) { h.offset = 1; }},
        Bad{"EmptyInTheMiddle", [](ChunkHeader& h) { h.body_bytes = 0; }},
        Bad{"IndexBeyondOffset", [](ChunkHeader& h) { h.index = 3, h.offset = 2, h.flags = 0; }},
        Bad{"BodyBeyondTotal", [](ChunkHeader& h) { h.body_bytes = 31; }},
        Bad{"OffsetBeyondTotal",
            [](ChunkHeader& h) { h.index = 1, h.offset = 31, h.body_bytes = 1, h.flags = 0; }},
        Bad{"EndWraps",
            [](ChunkHeader& h) {
              h.index = 1, h.offset = UINT64_MAX - 5, h.flags = 0, h.total = UINT64_MAX - 1;
            }},
        Bad{"OpenEndWraps",
            [](ChunkHeader& h) {
              h.index = 1, h.offset = UINT64_MAX - 5, h.flags = 0, h.total = kOpenEnded;
            }},
        Bad{"OpenEndReachesItsOwnMark",
            [](ChunkHeader& h) {
              h.index = 1, h.offset = UINT64_MAX - 10, h.flags = 0, h.total = kOpenEnded;
            }},
        Bad{"LastBeforeTotal", [](ChunkHeader& h) { h.flags |= chunk_flag::last; }},
        Bad{"TotalWithoutLast", [](ChunkHeader& h) { h.body_bytes = 30; }},
        Bad{"AbortWithABody", [](ChunkHeader& h) { h.flags |= chunk_flag::abort; }},
        Bad{"AbortAndLast",
            [](ChunkHeader& h) {
              h.body_bytes = 0, h.total = 0;
              h.flags = chunk_flag::first | chunk_flag::abort | chunk_flag::last;
            }},
        Bad{"AbortWithACheck",
            [](ChunkHeader& h) {
              h.body_bytes = 0;
              h.flags = chunk_flag::first | chunk_flag::abort | chunk_flag::has_check;
            }},
        Bad{"AbortAfterTheEnd",
            [](ChunkHeader& h) {
              h.index = 3, h.offset = 30, h.body_bytes = 0, h.flags = chunk_flag::abort;
            }},
        Bad{"CheckWithoutItsFlag", [](ChunkHeader& h) { h.check = 1; }}),
    [](const auto& bad) { return std::string(bad.param.what); });

// Every single-bit error is refused or leaves a header that keeps the rules.
TEST(Chunk, NeverReadsAHeaderThatBreaksARule) {
  const Bytes whole = raw_chunk(sample());
  for (std::size_t bit = 0; bit < 8 * kChunkHeaderBytes; ++bit) {
    Bytes flipped = whole;
    flipped[bit / 8] ^= std::byte{1} << (bit % 8);
    if (const auto h = decode(flipped)) {
      EXPECT_THAT(check_header(*h), Succeeds());
      EXPECT_NE(*h, sample());
    }
  }
}

TEST(Chunk, NeedsRoomForItsHeader) {
  Bytes small(kChunkHeaderBytes - 1);
  EXPECT_THAT(encode(sample(), small), FailsWith(Errc::invalid_argument));
}

}  // namespace
}  // namespace slipring::frame

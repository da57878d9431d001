// SPDX-License-Identifier: Apache-2.0
#include "slipring/segment/header.h"

#include <cstring>
#include <functional>

#include "fixture.h"

namespace slipring::segment {
namespace {

HeaderInfo sample() {
  HeaderInfo info;
  info.content = kContentLane;
  info.fingerprint = 0x1234;
  info.instance = {0x1111, 0x2222};
  info.total_bytes = 4096 + 8192;
  info.body_bytes = 8000;
  info.page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  info.backend = Backend::file;
  info.keep = true;
  info.mode = 0640;
  info.created_ns = 1'700'000'000'000'000'000;
  info.creator = self_token();
  info.name = "md.btc";
  return info;
}

Result<HeaderInfo> check(const HeaderWords& words, OpenMode mode = OpenMode::read_write,
                         Expect expect = {}) {
  return check_header(words, 4096 + 8192, mode, expect);
}

// The table of docs/format.md, as data.
TEST(Header, HasTheGoldenBytes) {
  HeaderInfo info = sample();
  info.creator = ProcessToken{};
  const HeaderWords words = encode_header(info);
  std::uint64_t golden[512] = {};
  golden[0x000 / 8] = 0x474e495250494c53;
  golden[0x008 / 8] = 0x0a0b0c0d0e0f0008;
  golden[0x010 / 8] = 1;
  golden[0x018 / 8] = 4096;
  golden[0x038 / 8] = 1;
  golden[0x040 / 8] = 0x1234;
  golden[0x048 / 8] = 0x1111;
  golden[0x050 / 8] = 0x2222;
  golden[0x058 / 8] = 12288;
  golden[0x060 / 8] = 4096;
  golden[0x068 / 8] = 8000;
  golden[0x070 / 8] = info.page_bytes;
  golden[0x080 / 8] = 4;
  golden[0x088 / 8] = 1;
  golden[0x090 / 8] = 0640;
  golden[0x098 / 8] = 1'700'000'000'000'000'000;
  golden[0x0a0 / 8] = 6;
  golden[0x180 / 8] = 0x6374622e646d;  // "md.btc", lowest byte first
  std::uint64_t actual[512];
  std::memcpy(actual, &words, sizeof actual);
  for (std::size_t i = 0; i < 512; ++i) {
    const bool is_hash = i == 0x0a8 / 8 || i == 0x178 / 8;  // of the header; of the token
    if (is_hash) {
      EXPECT_NE(actual[i], 0u);
    } else {
      EXPECT_EQ(actual[i], golden[i]) << "offset " << i * 8;
    }
  }
  EXPECT_EQ(std::memcmp(&words, "SLIPRING", 8), 0);
}

TEST(Header, ReadsWhatItWrote) {
  const HeaderInfo info = sample();
  alignas(8) SegmentHeader shared;
  std::memset(static_cast<void*>(&shared), 0, sizeof shared);
  store_header(shared, encode_header(info));
  EXPECT_TRUE(fails(check(load_header(shared)), Errc::bad_format, "header: magic"));
  store_magic(shared);
  const auto read = check(load_header(shared));
  ASSERT_TRUE(ok(read));
  EXPECT_EQ(read->content, info.content);
  EXPECT_EQ(read->fingerprint, info.fingerprint);
  EXPECT_EQ(read->instance, info.instance);
  EXPECT_EQ(read->total_bytes, info.total_bytes);
  EXPECT_EQ(read->body_bytes, info.body_bytes);
  EXPECT_EQ(read->backend, info.backend);
  EXPECT_EQ(read->keep, true);
  EXPECT_EQ(read->mode, 0640u);
  EXPECT_EQ(read->created_ns, info.created_ns);
  EXPECT_EQ(read->creator.pid, static_cast<std::uint32_t>(::getpid()));
  EXPECT_EQ(read->name, "md.btc");
}

struct Wrong {
  const char* op;
  std::function<void(HeaderWords&)> change;
  Errc code = Errc::bad_format;
};

TEST(Header, NamesTheWordThatIsWrong) {
  const Wrong table[] = {
      {"header: magic", [](HeaderWords& h) { h.magic = 0; }},
      {"header: magic", [](HeaderWords& h) { h.magic ^= 1; }},
      {"header: byte order", [](HeaderWords& h) { h.canary = __builtin_bswap64(h.canary); }},
      {"header: byte order", [](HeaderWords& h) { h.canary ^= 8 ^ 4; }},
      {"header: version", [](HeaderWords& h) { h.format_version = 0; }},
      {"header: version", [](HeaderWords& h) { h.format_version = 2; }},
      {"header: header bytes", [](HeaderWords& h) { h.header_bytes = 8192; }},
      {"header: incompat", [](HeaderWords& h) { h.incompat = 1ULL << 63; }},
      {"header: ro_compat", [](HeaderWords& h) { h.ro_compat = 1; }, Errc::not_supported},
      {"header: page size", [](HeaderWords& h) { h.page_bytes = 65536 * 2; }},
      {"header: geometry", [](HeaderWords& h) { h.body_offset = 4104; }},
      {"header: geometry", [](HeaderWords& h) { h.body_bytes = 8193; }},
      {"header: geometry", [](HeaderWords& h) { h.body_bytes = 0; }},
      {"header: geometry", [](HeaderWords& h) { h.body_bytes = ~0ULL; }},
      {"header: geometry", [](HeaderWords& h) { h.total_bytes = 4095; }},
      {"header: geometry", [](HeaderWords& h) { h.huge_page_bytes = 3; }},
      {"header: truncated", [](HeaderWords& h) { h.total_bytes = 12289; }},
      {"header: truncated", [](HeaderWords& h) { h.total_bytes = ~0ULL; }},
      {"header: size", [](HeaderWords& h) { h.total_bytes = 12287; }},
      {"header: backend", [](HeaderWords& h) { h.backend = 0; }},
      {"header: backend", [](HeaderWords& h) { h.backend = 5; }},
      {"header: backend", [](HeaderWords& h) { h.backend = 0x104; }},
      {"header: flags", [](HeaderWords& h) { h.flags = 2; }},
      {"header: mode", [](HeaderWords& h) { h.mode = 010000; }},
      {"header: name", [](HeaderWords& h) { h.name_bytes = 201; }},
      {"header: name", [](HeaderWords& h) { h.name[0] = 0x2f; }},
      {"header: name", [](HeaderWords& h) { h.name_bytes = 7; }},
      {"header: checksum", [](HeaderWords& h) { h.checksum ^= 1; }},
      {"header: checksum", [](HeaderWords& h) { h.content = 2; }},
      {"header: checksum", [](HeaderWords& h) { h.fingerprint ^= 1; }},
      {"header: checksum", [](HeaderWords& h) { h.instance_low ^= 1; }},
      {"header: checksum", [](HeaderWords& h) { h.created_ns ^= 1; }},
      {"header: checksum", [](HeaderWords& h) { h.reserved[9] = 1; }},
      {"header: checksum", [](HeaderWords& h) { h.creator[0] ^= 1; }},
      {"header: checksum", [](HeaderWords& h) { h.compat = 1; }},
  };
  for (const Wrong& wrong : table) {
    HeaderWords words = encode_header(sample());
    wrong.change(words);
    EXPECT_TRUE(fails(check(words), wrong.code, wrong.op)) << wrong.op;
  }
}

// F12: whatever rots, nobody takes it for a segment.
TEST(Header, RefusesEverySingleFlippedBit) {
  const HeaderWords good = encode_header(sample());
  for (std::size_t bit = 0; bit < detail::kUsedWords * 64; ++bit) {
    HeaderWords words = good;
    unsigned char bytes[sizeof words];
    std::memcpy(bytes, &words, sizeof bytes);
    bytes[bit / 8] = static_cast<unsigned char>(bytes[bit / 8] ^ (1u << (bit % 8)));
    std::memcpy(&words, bytes, sizeof bytes);
    ASSERT_FALSE(check(words)) << "bit " << bit;
  }
}

TEST(Header, RefusesObjectsSmallerThanItself) {
  const HeaderWords words = encode_header(sample());
  for (const std::uint64_t bytes : {0u, 1u, 4095u}) {
    EXPECT_TRUE(fails(check_header(words, bytes, OpenMode::read_only), Errc::bad_format,
                      "header: truncated"));
  }
}

TEST(Header, AllowsReadersWhatUnknownRoCompatBitsForbidWriters) {
  HeaderInfo info = sample();
  info.ro_compat = 1;
  info.compat = ~0ULL;
  const HeaderWords words = encode_header(info);
  EXPECT_TRUE(fails(check(words), Errc::not_supported, "header: ro_compat"));
  EXPECT_TRUE(ok(check(words, OpenMode::read_only)));
}

TEST(Header, ComparesWithWhatTheOpenerExpects) {
  const HeaderWords words = encode_header(sample());
  const OpenMode rw = OpenMode::read_write;
  EXPECT_TRUE(ok(check(words, rw, {kContentLane, 0x1234})));
  EXPECT_TRUE(ok(check(words, rw, {0, 0})));
  EXPECT_TRUE(fails(check(words, rw, {2, 0x1234}), Errc::bad_format, "header: content"));
  EXPECT_TRUE(fails(check(words, rw, {1, 0x1235}), Errc::type_mismatch, "header: fingerprint"));
}

TEST(Backend, IsSpelledTheSameBothWays) {
  for (const Backend b : {Backend::posix, Backend::sysv, Backend::memfd, Backend::file}) {
    EXPECT_EQ(*parse_backend(to_string(b)), b);
  }
  EXPECT_TRUE(fails(parse_backend("shm"), Errc::invalid_argument));
  EXPECT_TRUE(fails(parse_backend(""), Errc::invalid_argument));
}

}  // namespace
}  // namespace slipring::segment

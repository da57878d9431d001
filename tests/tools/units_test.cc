// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "../../src/channel/explain_table.h"
#include "../../tools/exit_code.h"
#include "../../tools/sizes.h"
#include "slipring/channel/explain.h"

namespace slipring::tools {
namespace {

using namespace std::chrono_literals;

constexpr Errc kAllCodes[] = {
    Errc::full,          Errc::empty,        Errc::timed_out,  Errc::closed,
    Errc::peer_dead,     Errc::corrupt,      Errc::bad_format, Errc::type_mismatch,
    Errc::cancelled,     Errc::segment_lost, Errc::not_found,  Errc::exists,
    Errc::in_use,        Errc::permission,   Errc::too_large,  Errc::invalid_argument,
    Errc::not_supported, Errc::no_space,     Errc::system,
};

TEST(Sizes, AreBinaryWithOneLetter) {
  EXPECT_EQ(parse_size("0"), 0u);
  EXPECT_EQ(parse_size("512"), 512u);
  EXPECT_EQ(parse_size("64K"), 65536u);
  EXPECT_EQ(parse_size("64k"), 65536u);
  EXPECT_EQ(parse_size("64KiB"), 65536u);
  EXPECT_EQ(parse_size("1.5K"), 1536u);
  EXPECT_EQ(parse_size("4M"), 4u << 20);
  EXPECT_EQ(parse_size("1G"), 1u << 30);
}

TEST(Sizes, AreRefusedWhenTheyAreNone) {
  for (const char* text : {"", "K", "-1", "+1", "1.5", "4iB", "4KK", "4 M", "0x10", "1e3", "nan",
                           "inf", "64X", "99999999999999999999G", "4M "}) {
    EXPECT_FALSE(parse_size(text)) << text;
  }
}

TEST(Durations, NeedAUnit) {
  EXPECT_EQ(parse_duration("10us"), 10us);
  EXPECT_EQ(parse_duration("5ms"), 5ms);
  EXPECT_EQ(parse_duration("2s"), 2s);
  EXPECT_EQ(parse_duration("0.5s"), 500ms);
  EXPECT_EQ(parse_duration("1m"), 60s);
  EXPECT_EQ(parse_duration("0"), 0s);
  for (const char* text : {"", "5", "s", "5 s", "-1s", "5S", "1e9h", "99999999999d"}) {
    EXPECT_FALSE(parse_duration(text)) << text;
  }
}

TEST(Text, HasAtMostThreeDigitsAndALetter) {
  EXPECT_EQ(human_bytes(0), "0");
  EXPECT_EQ(human_bytes(999), "999");
  EXPECT_EQ(human_bytes(1000), "1K");
  EXPECT_EQ(human_bytes(4096), "4K");
  EXPECT_EQ(human_bytes(2355), "2.3K");
  EXPECT_EQ(human_bytes(65536), "64K");
  EXPECT_EQ(human_bytes(std::uint64_t{1} << 30), "1G");
  EXPECT_EQ(human_count(937), "937");
  EXPECT_EQ(human_count(9800), "9.8K");
  EXPECT_EQ(human_rate(1.5e9), "1.5 GB/s");
  EXPECT_EQ(human_rate(612e6), "612 MB/s");
  EXPECT_EQ(grouped(61378560), "61 378 560");
  EXPECT_EQ(grouped(1000), "1 000");
  EXPECT_EQ(grouped(7), "7");
  EXPECT_EQ(counted(1, "record"), "1 record");
  EXPECT_EQ(counted(0, "record"), "0 records");
  EXPECT_EQ(counted(16384, "record"), "16 384 records");
  EXPECT_EQ(human_duration(310'000), "310us");
  EXPECT_EQ(human_age(0), "1s");
  EXPECT_EQ(human_age(std::int64_t{7260} * 1'000'000'000), "2h01m");
}

TEST(Explain, EscapesWhatATerminalWouldObey) {
  EXPECT_EQ(printable("md.btc"), "md.btc");
  EXPECT_EQ(printable("a\x1b[31m\n\xff\\"), "a\\x1b[31m\\x0a\\xff\\x5c");
}

// A fact that nobody looks up would stay a word in braces, or leave a hole.
TEST(Explain, FillsEveryTextOfItsTable) {
  for (const channel::Reason& reason : channel::kReasons) {
    const std::string op(reason.op);
    Subject subject("no.such.lane", "open");
    subject.record_bytes = 100;
    const Explanation text = explain(Error{reason.code, 0, op.c_str()}, subject);
    for (const std::string& line : {text.what, text.why, text.fix}) {
      EXPECT_FALSE(line.empty()) << to_string(reason.code) << " " << op;
      EXPECT_EQ(line.find_first_of("{}\n"), line.npos) << line;
      EXPECT_EQ(line.find("  "), line.npos) << line;
    }
    EXPECT_NE(text.what.find("(" + std::string(to_string(reason.code)) + ")"), text.what.npos);
  }
}

// First match wins: a row behind a more general one of its code would never be used.
TEST(Explain, UsesEveryRowOfItsTableAndKnowsEveryCode) {
  std::map<Errc, std::string_view> last;
  for (const channel::Reason& reason : channel::kReasons) {
    for (const channel::Reason& before : channel::kReasons) {
      if (&before == &reason) break;
      EXPECT_FALSE(before.code == reason.code && reason.op.starts_with(before.op))
          << to_string(reason.code) << " " << reason.op;
    }
    last[reason.code] = reason.op;
  }
  for (const Errc code : kAllCodes) {
    ASSERT_TRUE(last.contains(code)) << to_string(code);
    EXPECT_EQ(last[code], "") << to_string(code) << " has no row for other operations";
  }
}

TEST(Explain, NamesTheCallAndItsErrno) {
  const Explanation text =
      explain(Error{Errc::no_space, ENOSPC, "posix_fallocate"}, {"md.btc", "create"});
  EXPECT_NE(text.what.find("(no_space: posix_fallocate, ENOSPC)"), text.what.npos) << text.what;
  EXPECT_EQ(text.text(), text.what + "\n     why: " + text.why + "\n     fix: " + text.fix);
}

// docs/errors.md: | code | exit | C value | ..
TEST(ExitCodes, AreThoseOfTheDocument) {
  std::ifstream document(SLIPRING_DOCS "/errors.md");
  ASSERT_TRUE(document);
  std::map<std::string, int> told;
  for (std::string line; std::getline(document, line);) {
    std::istringstream cells(line);
    std::string bar, code;
    int exit = 0;
    if (cells >> bar >> code >> bar >> exit && bar == "|") told[code] = exit;
  }
  EXPECT_EQ(told.size(), std::size(kAllCodes));
  for (const Errc code : kAllCodes) {
    const std::string name(to_string(code));
    ASSERT_TRUE(told.contains(name)) << name;
    EXPECT_EQ(told[name], to_int(exit_code_of(code))) << name;
  }
}

}  // namespace
}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
#include "slipring/segment/name.h"

#include "fixture.h"

namespace slipring::segment {
namespace {

TEST(Name, TakesLettersDigitsDotsDashesAndUnderscores) {
  for (const std::string text : {"a", "md.btc", "A-Z_09", "...", ".hidden", "-x"}) {
    const auto name = Name::parse(text);
    ASSERT_TRUE(ok(name)) << text;
    EXPECT_EQ(name->str(), text);
  }
}

TEST(Name, DropsOneLeadingSlash) {
  EXPECT_EQ(Name::parse("/md.btc")->str(), "md.btc");
  EXPECT_TRUE(fails(Name::parse("//md"), Errc::invalid_argument, "name: slash"));
}

TEST(Name, MayBeTwoHundredBytesLongAndNoMore) {
  EXPECT_TRUE(ok(Name::parse(std::string(200, 'x'))));
  EXPECT_TRUE(ok(Name::parse("/" + std::string(200, 'x'))));
  EXPECT_TRUE(fails(Name::parse(std::string(201, 'x')), Errc::invalid_argument, "name: too long"));
}

TEST(Name, RefusesWhatIsEmpty) {
  EXPECT_TRUE(fails(Name::parse(""), Errc::invalid_argument, "name: empty"));
  EXPECT_TRUE(fails(Name::parse("/"), Errc::invalid_argument, "name: empty"));
}

TEST(Name, RefusesWaysOutOfTheDirectory) {
  EXPECT_TRUE(fails(Name::parse("."), Errc::invalid_argument, "name: dots"));
  EXPECT_TRUE(fails(Name::parse(".."), Errc::invalid_argument, "name: dots"));
  EXPECT_TRUE(fails(Name::parse("/.."), Errc::invalid_argument, "name: dots"));
  EXPECT_TRUE(fails(Name::parse("../etc"), Errc::invalid_argument, "name: slash"));
  EXPECT_TRUE(fails(Name::parse("a/b"), Errc::invalid_argument, "name: slash"));
  EXPECT_TRUE(fails(Name::parse("a/"), Errc::invalid_argument, "name: slash"));
}

TEST(Name, RefusesEveryOtherByte) {
  const std::string allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/";
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    const auto name = Name::parse(std::string("a") + c + "b");
    EXPECT_EQ(name.has_value(), allowed.find(c) != allowed.npos && c != '/') << byte;
  }
  EXPECT_TRUE(fails(Name::parse("\xff\xfe"), Errc::invalid_argument, "name: character"));
}

}  // namespace
}  // namespace slipring::segment

// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

// The main of a program that holds the tests of several files. --file=NAME runs those of one file;
// without it, all. Which tests are a file's is what gtest knows of each, so none can be forgotten
// in a list. A file without tests, and tests in a header, which would be no file's, are errors.
namespace {

std::string_view name_of(const char* path) {
  const char* slash = std::strrchr(path, '/');
  return slash == nullptr ? path : slash + 1;
}

/// A filter for the tests of `file`, or an empty string when they cannot be told.
std::string filter_for(std::string_view file) {
  constexpr std::string_view kEnd = "_test.cc";
  std::string filter;
  bool found = false;
  const auto& all = *testing::UnitTest::GetInstance();
  for (int s = 0; s < all.total_test_suite_count(); ++s) {
    const auto& suite = *all.GetTestSuite(s);
    for (int t = 0; t < suite.total_test_count(); ++t) {
      const auto& test = *suite.GetTestInfo(t);
      const std::string_view of = name_of(test.file());
      const bool synthetic = std::strcmp(suite.name(), "GoogleTestVerification") == 0;
      if (!synthetic && (of.size() < kEnd.size() || of.substr(of.size() - kEnd.size()) != kEnd)) {
        std::fprintf(stderr, "%s.%s is in %s, not in a file of tests\n", suite.name(), test.name(),
                     test.file());
        return "";
      }
      if (!synthetic && of != file) continue;
      found = found || !synthetic;
      filter.append(suite.name()).append(".").append(test.name()).append(":");
    }
  }
  if (found) return filter;
  std::fprintf(stderr, "no test is in %s\n", std::string(file).c_str());
  return "";
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  constexpr std::string_view kFile = "--file=";
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.substr(0, kFile.size()) != kFile) {
      std::fprintf(stderr, "usage: %s [--file=NAME_test.cc] [--gtest_...]\n", argv[0]);
      return 2;
    }
    const std::string filter = filter_for(argument.substr(kFile.size()));
    if (filter.empty()) return 1;
    GTEST_FLAG_SET(filter, filter);
  }
  return RUN_ALL_TESTS();
}

// SPDX-License-Identifier: Apache-2.0
#include "slipring/base/error.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include "slipring/base/result.h"
#include "support/matchers.h"

namespace slipring {
namespace {

TEST(Error, EveryCodeHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (int code = 0; code <= static_cast<int>(Errc::system); ++code) {
    const auto name = to_string(static_cast<Errc>(code));
    EXPECT_NE(name, "unknown") << code;
    EXPECT_TRUE(names.insert(name).second) << name;
  }
}

TEST(Error, EveryCodeHasARowInTheDocument) {
  std::ifstream file(SLIPRING_SOURCE_ROOT "/docs/errors.md");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  ASSERT_FALSE(text.empty());
  for (int code = 0; code <= static_cast<int>(Errc::system); ++code) {
    const std::string row = "| " + std::string(to_string(static_cast<Errc>(code))) + " | ";
    EXPECT_NE(text.find(row), std::string::npos) << row;
  }
}

TEST(Error, ACodeFromAnotherVersionIsNamedUnknown) {
  EXPECT_EQ(to_string(static_cast<Errc>(250)), "unknown");
}

TEST(Result, FailKeepsCodeErrnoAndOperation) {
  const Result<int> result = fail(Errc::no_space, ENOSPC, "posix_fallocate");
  ASSERT_THAT(result, test::FailsWith(Errc::no_space));
  EXPECT_EQ(result.error().sys, ENOSPC);
  EXPECT_STREQ(result.error().op, "posix_fallocate");
}

TEST(Result, FailErrnoTakesTheErrnoOfTheCallJustMade) {
  errno = EACCES;
  const Result<void> result = fail_errno("open");
  ASSERT_THAT(result, test::FailsWith(Errc::permission));
  EXPECT_EQ(result.error().sys, EACCES);
}

TEST(Result, HoldsAValue) {
  const Result<int> result = 7;
  EXPECT_THAT(result, test::Succeeds());
  EXPECT_THAT(result, test::Holds(7));
  EXPECT_THAT(result, testing::Not(test::FailsWith(Errc::full)));
}

TEST(Result, AnErrnoMeansWhatTheCallerCanDoNext) {
  const struct {
    int sys;
    Errc code;
  } table[] = {
      {EACCES, Errc::permission},
      {EPERM, Errc::permission},
      {ENOENT, Errc::not_found},
      {EEXIST, Errc::exists},
      {EBUSY, Errc::in_use},
      {ENOSPC, Errc::no_space},
      {ENOMEM, Errc::no_space},
      {ETIMEDOUT, Errc::timed_out},
      {EINVAL, Errc::invalid_argument},
      {ENAMETOOLONG, Errc::invalid_argument},
      {ENOSYS, Errc::not_supported},
      {EOPNOTSUPP, Errc::not_supported},
      {EMFILE, Errc::system},
      {EIO, Errc::system},
  };
  for (const auto& row : table) EXPECT_EQ(errc_of(row.sys), row.code) << row.sys;
}

TEST(RetryEintr, RepeatsWhileASignalInterrupts) {
  int calls = 0;
  const int got = retry_eintr([&] {
    errno = EINTR;
    return ++calls < 4 ? -1 : 42;
  });
  EXPECT_EQ(got, 42);
  EXPECT_EQ(calls, 4);
}

TEST(RetryEintr, PassesOtherFailuresOn) {
  int calls = 0;
  const int got = retry_eintr([&] {
    ++calls;
    errno = EBADF;
    return -1;
  });
  EXPECT_EQ(got, -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace slipring

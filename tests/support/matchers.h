// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>

#include <ostream>
#include <string>
#include <utility>

#include "slipring/base/result.h"

namespace slipring {

// Found by argument-dependent lookup: gtest shows errors as words, not as bytes.
inline void PrintTo(const Error& error, std::ostream* out) {
  *out << to_string(error.code) << " (op \"" << error.op << "\", errno " << error.sys << ")";
}

}  // namespace slipring

namespace slipring::test {

/// EXPECT_THAT(lane.try_claim(8), FailsWith(Errc::full));
MATCHER_P(FailsWith, code,
          std::string(negation ? "does not fail with " : "fails with ") +
              std::string(to_string(Errc{code}))) {
  if (arg.has_value()) {
    *result_listener << "which holds a value";
    return false;
  }
  if (result_listener->stream() != nullptr) {
    *result_listener << "which fails with ";
    PrintTo(arg.error(), result_listener->stream());
  }
  return arg.error().code == code;
}

/// ASSERT_THAT(result, Succeeds()); says which error stood in the way.
MATCHER(Succeeds, negation ? "fails" : "succeeds") {
  if (arg.has_value()) return true;
  if (result_listener->stream() != nullptr) {
    *result_listener << "which fails with ";
    PrintTo(arg.error(), result_listener->stream());
  }
  return false;
}

/// EXPECT_THAT(lane.try_peek(), Holds(Field(&Record::size, 8)));
template <typename Inner>
class HoldsMatcher {
 public:
  using is_gtest_matcher = void;
  explicit HoldsMatcher(Inner inner) : inner_(std::move(inner)) {}
  template <typename T>
  bool MatchAndExplain(const Result<T>& result, testing::MatchResultListener* listener) const {
    if (!result.has_value()) {
      if (listener->stream() != nullptr) {
        *listener << "which fails with ";
        PrintTo(result.error(), listener->stream());
      }
      return false;
    }
    return testing::SafeMatcherCast<const T&>(inner_).MatchAndExplain(*result, listener);
  }
  void DescribeTo(std::ostream* out) const { *out << "holds the value wanted"; }
  void DescribeNegationTo(std::ostream* out) const { *out << "does not hold that value"; }

 private:
  Inner inner_;
};
template <typename Inner>
HoldsMatcher<Inner> Holds(Inner inner) {
  return HoldsMatcher<Inner>(std::move(inner));
}

}  // namespace slipring::test

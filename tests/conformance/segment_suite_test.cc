// SPDX-License-Identifier: Apache-2.0
#include "segment_suite.h"

namespace slipring::segment {
namespace {

template <Backend kind>
struct Kind {
  static constexpr Backend backend = kind;
};
struct KindName {
  template <typename T>
  static std::string GetName(int) {
    return std::string(to_string(T::backend));
  }
};
using Kinds = testing::Types<Kind<Backend::posix>, Kind<Backend::sysv>, Kind<Backend::memfd>,
                             Kind<Backend::file>>;
INSTANTIATE_TYPED_TEST_SUITE_P(Every, SegmentSuite, Kinds, KindName);

}  // namespace
}  // namespace slipring::segment

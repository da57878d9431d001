// SPDX-License-Identifier: Apache-2.0
#include "conformance/doorbell_suite.h"

namespace slipring::test {
namespace {

template <wait::BellKind Kind, wait::FenceChoice Fence = wait::FenceChoice::automatic>
struct Bell {
  static constexpr wait::BellKind kind = Kind;
  static constexpr wait::FenceChoice fence = Fence;
};

using FutexAsymmetric = Bell<wait::BellKind::futex>;
using FutexSymmetric = Bell<wait::BellKind::futex, wait::FenceChoice::symmetric>;
using PosixSem = Bell<wait::BellKind::posix_sem>;
using SysvSem = Bell<wait::BellKind::sysv_sem>;
using Condvar = Bell<wait::BellKind::condvar>;
using Eventfd = Bell<wait::BellKind::eventfd>;
using Signal = Bell<wait::BellKind::signal>;

INSTANTIATE_TYPED_TEST_SUITE_P(FutexAsymmetric, DoorbellSuite, FutexAsymmetric);
INSTANTIATE_TYPED_TEST_SUITE_P(FutexSymmetric, DoorbellSuite, FutexSymmetric);
INSTANTIATE_TYPED_TEST_SUITE_P(PosixSem, DoorbellSuite, PosixSem);
INSTANTIATE_TYPED_TEST_SUITE_P(SysvSem, DoorbellSuite, SysvSem);
INSTANTIATE_TYPED_TEST_SUITE_P(Condvar, DoorbellSuite, Condvar);
INSTANTIATE_TYPED_TEST_SUITE_P(Eventfd, DoorbellSuite, Eventfd);
INSTANTIATE_TYPED_TEST_SUITE_P(Signal, DoorbellSuite, Signal);

}  // namespace
}  // namespace slipring::test

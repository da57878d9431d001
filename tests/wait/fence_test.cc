// SPDX-License-Identifier: Apache-2.0
#include "slipring/wait/fence.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "support/child.h"
#include "wait/deny.h"

namespace slipring::test {
namespace {

using namespace wait;

TEST(Fence, RegistersOnceAndRunsTheHeavyFenceWhereTheKernelHasIt) {
  if (!has_heavy_fence()) GTEST_SKIP() << "no membarrier here";
  EXPECT_EQ(register_ringer_process(), FenceMode::asymmetric);
  EXPECT_EQ(register_ringer_process(), FenceMode::asymmetric);
  EXPECT_TRUE(heavy_fence());
}

TEST(Fence, AForkedChildRegistersAnew) {
  if (!has_heavy_fence()) GTEST_SKIP() << "no membarrier here";
  EXPECT_EQ(register_ringer_process(), FenceMode::asymmetric);
  Child child([] { return register_ringer_process() == FenceMode::asymmetric ? 0 : 1; });
  EXPECT_TRUE(child.wait().exited_with(0));
}

TEST(Fence, FallsBackToSymmetricWhereMembarrierIsRefused) {
  for (const unsigned error : {unsigned{EPERM}, unsigned{ENOSYS}}) {
    Child child([&] {
      if (!deny(SYS_membarrier, error)) return 77;
      if (register_ringer_process() != FenceMode::symmetric) return 1;
      return heavy_fence() ? 2 : 0;
    });
    const Ending end = child.wait();
    if (end.exited_with(77)) GTEST_SKIP() << "no seccomp here";
    EXPECT_TRUE(end.exited_with(0)) << testing::PrintToString(end);
  }
}

// A filter may come after the first use.
TEST(Fence, NoticesThatMembarrierWentAway) {
  if (!heavy_fence()) GTEST_SKIP() << "no membarrier here";
  Child child([] {
    if (!deny(SYS_membarrier, EPERM)) return 77;
    if (heavy_fence()) return 1;
    return has_heavy_fence() ? 2 : 0;
  });
  const Ending end = child.wait();
  if (end.exited_with(77)) GTEST_SKIP() << "no seccomp here";
  EXPECT_TRUE(end.exited_with(0)) << testing::PrintToString(end);
}

}  // namespace
}  // namespace slipring::test

// SPDX-License-Identifier: Apache-2.0
#include "slipring/base/unique_fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>

namespace slipring {
namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) != -1; }
int open_null() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }

TEST(UniqueFd, ClosesAtTheEndOfItsScope) {
  int number = -1;
  {
    const UniqueFd fd{open_null()};
    ASSERT_TRUE(fd);
    number = fd.get();
    EXPECT_TRUE(is_open(number));
  }
  EXPECT_FALSE(is_open(number));
}

TEST(UniqueFd, OwnsNothingAtFirst) {
  const UniqueFd fd;
  EXPECT_FALSE(fd);
  EXPECT_EQ(fd.get(), -1);
}

TEST(UniqueFd, DescriptorZeroIsADescriptor) {
  UniqueFd zero{0};
  EXPECT_TRUE(zero);
  EXPECT_EQ(zero.release(), 0);
}

TEST(UniqueFd, AMoveLeavesNothingBehind) {
  UniqueFd from{open_null()};
  const int number = from.get();
  UniqueFd to{std::move(from)};
  EXPECT_EQ(to.get(), number);
  EXPECT_FALSE(from);  // NOLINT: what a move leaves is the promise under test
}

TEST(UniqueFd, AssignmentClosesWhatWasOwnedBefore) {
  UniqueFd fd{open_null()};
  const int before = fd.get();
  fd = UniqueFd{open_null()};
  EXPECT_FALSE(is_open(before) && before != fd.get());
  EXPECT_TRUE(is_open(fd.get()));
}

TEST(UniqueFd, SurvivesAssignmentToItself) {
  UniqueFd fd{open_null()};
  UniqueFd& same = fd;
  fd = std::move(same);
  EXPECT_TRUE(is_open(fd.get()));
}

TEST(UniqueFd, ReleaseGivesTheDescriptorAway) {
  UniqueFd fd{open_null()};
  const UniqueFd owner{fd.release()};
  EXPECT_FALSE(fd);
  EXPECT_TRUE(is_open(owner.get()));
}

}  // namespace
}  // namespace slipring

// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cstring>

#include "fixture.h"

namespace slipring::segment {
namespace {

class Memfd : public SegmentTest {
 protected:
  Result<Segment> published(bool seal_future_write = false) const {
    Spec s = spec();
    s.seal_future_write = seal_future_write;
    auto drafted = draft(Backend::memfd, s);
    if (!drafted) return tl::unexpected(drafted.error());
    return std::move(*drafted).publish();
  }
  static UniqueFd copy(int fd) { return UniqueFd{::fcntl(fd, F_DUPFD_CLOEXEC, 0)}; }
};

TEST_F(Memfd, CannotBeResizedByAnybody) {
  const auto s = published();
  ASSERT_TRUE(ok(s));
  EXPECT_EQ(::ftruncate(s->fd(), 0), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(::ftruncate(s->fd(), 1 << 20), -1);
  EXPECT_EQ(::fcntl(s->fd(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  EXPECT_EQ(s->where(), "memfd");
}

TEST_F(Memfd, HasNoName) {
  auto drafted = draft(Backend::memfd, spec());
  ASSERT_TRUE(ok(drafted));
  EXPECT_TRUE(fails(std::move(*drafted).publish(*Name::parse("s")), Errc::not_supported));
  auto s = std::move(*drafted).publish();
  ASSERT_TRUE(ok(s));
  EXPECT_FALSE(*s->still_named());
  EXPECT_TRUE(fails(s->unlink(), Errc::not_found));
}

// K4: the mapping that exists keeps writing, a new writable one is refused.
TEST_F(Memfd, SealedAgainstFutureWritesLeavesItsOwnerWriting) {
  const auto owner = published(true);
  ASSERT_TRUE(ok(owner));
  EXPECT_TRUE(
      fails(Segment::from_fd(copy(owner->fd()), OpenMode::read_write), Errc::permission, "mmap"));
  const auto reader = Segment::from_fd(copy(owner->fd()), OpenMode::read_only);
  ASSERT_TRUE(ok(reader));
  NativeAccess::store_relaxed(word_at<std::uint64_t>(owner->body().data(), 0), 77);
  EXPECT_EQ(NativeAccess::load_relaxed(word_at<std::uint64_t>(reader->body().data(), 0)), 77u);
}

TEST_F(Memfd, UnsealedIsRefused) {
  const auto s = published();
  ASSERT_TRUE(ok(s));
  // The same bytes in a memfd that its sender can still shrink.
  for (const unsigned flags : {unsigned{MFD_CLOEXEC}, MFD_CLOEXEC | MFD_ALLOW_SEALING}) {
    UniqueFd fd{::memfd_create("loose", flags)};
    ASSERT_EQ(::write(fd.get(), s->body().data() - 4096, s->info().total_bytes),
              static_cast<ssize_t>(s->info().total_bytes));
    ASSERT_EQ(::fchmod(fd.get(), 0600), 0);
    EXPECT_TRUE(
        fails(Segment::from_fd(copy(fd.get()), OpenMode::read_write), Errc::bad_format, "seals"));
    if ((flags & MFD_ALLOW_SEALING) == 0) continue;
    ASSERT_EQ(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK), 0);
    EXPECT_TRUE(
        fails(Segment::from_fd(copy(fd.get()), OpenMode::read_only), Errc::bad_format, "seals"));
    ASSERT_EQ(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_GROW), 0);
    EXPECT_TRUE(ok(Segment::from_fd(std::move(fd), OpenMode::read_only)));
  }
}

TEST_F(Memfd, IsTheOnlyKindOfDescriptorThatNeedsSeals) {
  auto s = make(Backend::posix, "s");
  ASSERT_TRUE(ok(s));
  const auto second = Segment::from_fd(copy(s->fd()), OpenMode::read_only);
  ASSERT_TRUE(ok(second));
  EXPECT_FALSE(*second->still_named());
  EXPECT_TRUE(ok(s->unlink()));
}

TEST_F(Memfd, IsNotTakenForAPipeADirectoryOrNothing) {
  const auto from = [](int fd) { return Segment::from_fd(UniqueFd{fd}, OpenMode::read_only); };
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  EXPECT_TRUE(fails(from(ends[0]), Errc::bad_format, "object: type"));
  ::close(ends[1]);
  EXPECT_TRUE(fails(from(::open("/", O_RDONLY | O_DIRECTORY)), Errc::bad_format, "object: type"));
  EXPECT_TRUE(fails(from(::open("/dev/zero", O_RDWR)), Errc::bad_format, "object: type"));
  EXPECT_TRUE(fails(from(-1), Errc::system, "from_fd"));
  const int empty = ::memfd_create("empty", MFD_CLOEXEC);
  ASSERT_EQ(::fchmod(empty, 0600), 0);
  EXPECT_TRUE(fails(from(empty), Errc::bad_format, "header: truncated"));
}

TEST_F(Memfd, ReadOnlyHoldsNoWritableDescriptor) {
  const auto s = published();
  ASSERT_TRUE(ok(s));
  const auto reader = Segment::from_fd(copy(s->fd()), OpenMode::read_only);
  ASSERT_TRUE(ok(reader));
  EXPECT_EQ(::fcntl(reader->fd(), F_GETFL) & O_ACCMODE, O_RDONLY);
}

class PassFd : public SegmentTest {
 protected:
  void SetUp() override {
    SegmentTest::SetUp();
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends_), 0);
  }
  void TearDown() override {
    for (const int end : ends_) {
      if (end != -1) ::close(end);
    }
    SegmentTest::TearDown();
  }
  // One byte with `count` copies of stdin.
  void send_many(int count) {
    char byte = 'x';
    iovec data{&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(32 * sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    if (count > 0) {
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(static_cast<std::size_t>(count) * sizeof(int));
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(static_cast<std::size_t>(count) * sizeof(int));
      const std::vector<int> fds(static_cast<std::size_t>(count), ends_[0]);
      std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
    }
    ASSERT_EQ(::sendmsg(ends_[0], &message, 0), 1);
  }
  int ends_[2] = {-1, -1};
};

TEST_F(PassFd, TakesExactlyOneDescriptorAndLeaksNone) {
  const std::size_t before = open_fds();
  send_many(0);
  EXPECT_TRUE(fails(receive_fd(ends_[1]), Errc::bad_format, "receive: not one descriptor"));
  send_many(2);
  EXPECT_TRUE(fails(receive_fd(ends_[1]), Errc::bad_format, "receive: not one descriptor"));
  send_many(20);
  EXPECT_TRUE(fails(receive_fd(ends_[1]), Errc::bad_format, "receive: truncated"));
  EXPECT_EQ(open_fds(), before);
  send_many(1);
  EXPECT_TRUE(ok(receive_fd(ends_[1])));
}

TEST_F(PassFd, SaysEmptyAndClosed) {
  EXPECT_TRUE(fails(receive_fd(ends_[1]), Errc::empty));
  ::close(std::exchange(ends_[0], -1));
  EXPECT_TRUE(fails(receive_fd(ends_[1]), Errc::closed));
  EXPECT_TRUE(fails(send_fd(ends_[1], 0), Errc::closed));
}

}  // namespace
}  // namespace slipring::segment

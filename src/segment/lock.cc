// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <time.h>

#include "object.h"
#include "slipring/segment/segment.h"

namespace slipring::segment {
namespace {

struct flock whole_object(short type) noexcept {
  struct flock range {};
  range.l_type = type;
  range.l_whence = SEEK_SET;
  return range;
}

}  // namespace

Result<SegmentLock> Segment::lock(Deadline deadline) const {
  UniqueFd opened;
  int fd = object_->fd.get();
  if (fd < 0 && object_->place) {  // SysV: the file that its name is
    const Result<UniqueFd> dir =
        detail::open_dir(object_->place->dir, object_->place->private_dir, false);
    if (!dir) return tl::unexpected(dir.error());
    Result<UniqueFd> link =
        detail::open_entry(dir->get(), object_->place->entry, OpenMode::read_write);
    // Removed meanwhile: nobody can attach by name, and the caller finds out.
    if (!link && link.error().code != Errc::not_found) return tl::unexpected(link.error());
    if (link) {
      opened = std::move(*link);
      fd = opened.get();
    }
  }
  if (fd < 0) return SegmentLock(-1, {});
  // An open file description lock: two Segments of one process exclude each other, and closing
  // another descriptor of the same file does not drop it, as it would a POSIX lock.
  struct flock range = whole_object(F_WRLCK);
  while (retry_eintr([&] { return ::fcntl(fd, F_OFD_SETLK, &range); }) != 0) {
    if (errno == EBADF) return fail(Errc::permission, EBADF, "lock: read-only");
    if (errno != EAGAIN && errno != EACCES) return fail_errno("F_OFD_SETLK");
    if (deadline.passed()) return fail(Errc::timed_out, 0, "lock");
    // Holders make a handful of system calls; sleeping in between keeps the wait bounded.
    const timespec pause{0, 200'000};
    ::nanosleep(&pause, nullptr);
  }
  return SegmentLock(fd, std::move(opened));
}

SegmentLock::~SegmentLock() {
  if (fd_ < 0) return;
  // Said aloud: a child forked meanwhile shares this lock and would keep it past our close().
  struct flock range = whole_object(F_UNLCK);
  ::fcntl(fd_, F_OFD_SETLK, &range);
}

}  // namespace slipring::segment

// SPDX-License-Identifier: Apache-2.0
// Files as segments: unnamed until complete, then linked, and removed without ever removing a
// stranger's. posix.cc uses the same steps in another directory.
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "object.h"

namespace slipring::segment::detail {
namespace {

bool same_file(const struct stat& a, const struct stat& b) noexcept {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

Result<Unnamed> make_temporary(int dir_fd) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    std::uint64_t random = 0;
    if (::getrandom(&random, sizeof random, 0) != sizeof random) continue;
    char temp[48];
    std::snprintf(temp, sizeof temp, ".slipring-%016llx.tmp",
                  static_cast<unsigned long long>(random));
    UniqueFd fd{::openat(dir_fd, temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)};
    if (fd) return Unnamed{std::move(fd), temp};
    if (errno != EEXIST) return fail_errno("open temporary");
  }
  return fail(Errc::exists, EEXIST, "open temporary");
}

}  // namespace

Result<Unnamed> make_unnamed(int dir_fd, bool allow_tmpfile) {
  if (allow_tmpfile) {
    UniqueFd fd{::openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
    if (fd) return Unnamed{std::move(fd), {}};
    // EISDIR and ENOENT: kernels and file systems that have never heard of it.
    if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT && errno != EINVAL) {
      return fail_errno("open O_TMPFILE");
    }
  }
  return make_temporary(dir_fd);
}

Result<void> give_name(int dir_fd, int fd, const std::string& temp, const std::string& entry) {
  if (!temp.empty()) {
    if (::linkat(dir_fd, temp.c_str(), dir_fd, entry.c_str(), 0) != 0) return fail_errno("linkat");
    ::unlinkat(dir_fd, temp.c_str(), 0);
    return {};
  }
  if (::linkat(fd, "", dir_fd, entry.c_str(), AT_EMPTY_PATH) == 0) return {};
  if (errno == EEXIST) return fail_errno("linkat");
  // Without CAP_DAC_READ_SEARCH only the way through /proc is open.
  const std::string self = "/proc/self/fd/" + std::to_string(fd);
  if (::linkat(AT_FDCWD, self.c_str(), dir_fd, entry.c_str(), AT_SYMLINK_FOLLOW) == 0) return {};
  return fail_errno("linkat");
}

Result<UniqueFd> open_entry(int dir_fd, const std::string& entry, OpenMode mode) {
  const int access = mode == OpenMode::read_only ? O_RDONLY : O_RDWR;
  // O_NONBLOCK: a FIFO in the place of a segment must not keep us.
  UniqueFd fd{
      ::openat(dir_fd, entry.c_str(), access | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)};
  if (!fd && (errno == ELOOP || errno == EISDIR || errno == ENXIO || errno == ENODEV)) {
    return fail(Errc::bad_format, errno, "object: type");
  }
  if (!fd) return fail_errno("open");
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0) return fail_errno("fstat");
  if (!S_ISREG(st.st_mode)) return fail(Errc::bad_format, 0, "object: type");
  return fd;
}

// Two removers of A and a re-creator: the first unlinks A, the creator links B, the second, which
// had looked before, unlinks B. So a look and its unlink are one step here, under a lock on A's
// inode: nothing can be linked over a name that exists, hence while A has its name only another
// holder of A's lock could take it away. We lock through a descriptor of our own, because a lock
// belongs to the open file, and a forked child shares the one that the segment holds. flock, not
// an fcntl lock: that wants a writable descriptor, and whoever may remove may not be one who
// may write.
Result<FileLock> lock_entry(int dir_fd, const std::string& entry, const struct stat& expected) {
  Result<UniqueFd> fd = open_entry(dir_fd, entry, OpenMode::read_only);
  if (!fd) return tl::unexpected(fd.error());
  struct stat st {};
  if (::fstat(fd->get(), &st) != 0) return fail_errno("fstat");
  if (!same_file(st, expected)) return fail(Errc::not_found, 0, "unlink: another instance");
  Result<FileLock> lock = FileLock::take(std::move(*fd));
  if (!lock) return lock;
  if (::fstatat(dir_fd, entry.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno("unlink");
  if (!same_file(st, expected)) return fail(Errc::not_found, 0, "unlink: another instance");
  return lock;
}

Result<void> remove_entry(const Place& place, int fd) {
  struct stat ours {};
  if (::fstat(fd, &ours) != 0) return fail_errno("fstat");
  const Result<UniqueFd> dir = open_dir(place.dir, place.private_dir, false);
  if (!dir) return tl::unexpected(dir.error());
  const Result<FileLock> lock = lock_entry(dir->get(), place.entry, ours);
  if (!lock) return tl::unexpected(lock.error());
  if (::unlinkat(dir->get(), place.entry.c_str(), 0) != 0) return fail_errno("unlink");
  return {};
}

Result<bool> leads_to(const Place& place, int fd) {
  struct stat ours {};
  struct stat named {};
  if (::fstat(fd, &ours) != 0) return fail_errno("fstat");
  if (::lstat(place.path().c_str(), &named) == 0) return same_file(ours, named);
  if (errno == ENOENT) return false;
  return fail_errno("stat");
}

Result<HeaderWords> read_header(int fd) {
  SegmentHeader copy;
  const auto got = retry_eintr([&] { return ::pread(fd, &copy, sizeof copy, 0); });
  if (got < 0) return fail_errno("pread");
  if (got != sizeof copy) return fail(Errc::bad_format, 0, "header: truncated");
  return load_header(copy);
}

Result<ObjectPtr> attach_fd(UniqueFd fd, OpenMode mode, const Expect& expect) {
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0) return fail_errno("fstat");
  if (!S_ISREG(st.st_mode)) return fail(Errc::bad_format, 0, "object: type");
  if (auto ok = check_owner(st.st_uid, st.st_gid, st.st_mode, mode); !ok) {
    return tl::unexpected(ok.error());
  }
  // Read rather than mapped: should somebody truncate the file now, a read ends early, and only a
  // look through a mapping would be a SIGBUS. The name was linked after the magic was stored, so
  // finding the name orders us behind the creator.
  const Result<HeaderWords> words = read_header(fd.get());
  if (!words) return tl::unexpected(words.error());
  Result<HeaderInfo> info =
      check_header(*words, static_cast<std::uint64_t>(st.st_size), mode, expect);
  if (!info) return tl::unexpected(info.error());
  Result<Mapping> mapping = Mapping::of_fd(fd.get(), info->total_bytes, mode);
  if (!mapping) return tl::unexpected(mapping.error());
  ObjectPtr object(new Object);
  object->backend = info->backend;
  object->mode = mode;
  object->fd = std::move(fd);
  object->mapping = std::move(*mapping);
  object->info = std::move(*info);
  return object;
}

Result<ObjectPtr> open_file(const Place& place, Backend backend, OpenMode mode,
                            const Expect& expect) {
  const Result<UniqueFd> dir = open_dir(place.dir, place.private_dir, false);
  if (!dir) return tl::unexpected(dir.error());
  Result<UniqueFd> fd = open_entry(dir->get(), place.entry, mode);
  if (!fd) return tl::unexpected(fd.error());
  Result<ObjectPtr> object = attach_fd(std::move(*fd), mode, expect);
  if (!object) return object;
  // A copy that somebody made by hand from one place to another.
  if ((*object)->backend != backend) return fail(Errc::bad_format, 0, "header: backend");
  (*object)->place = place;
  return object;
}

Result<void> draft_file(Object& draft, const Place& place, const Spec& spec) {
  const Result<UniqueFd> dir = open_dir(place.dir, place.private_dir, place.private_dir);
  if (!dir) return tl::unexpected(dir.error());
  Result<Unnamed> unnamed = make_unnamed(dir->get());
  if (!unnamed) return tl::unexpected(unnamed.error());
  draft.fd = std::move(unnamed->fd);
  draft.temp = std::move(unnamed->temp);
  draft.place = place;  // its directory: the destructor looks for `temp` there
  if (spec.group && ::fchown(draft.fd.get(), static_cast<uid_t>(-1), *spec.group) != 0) {
    return fail_errno("fchown");
  }
  if (::fchmod(draft.fd.get(), spec.mode) != 0) return fail_errno("fchmod");
  return take_room(draft, spec);
}

}  // namespace slipring::segment::detail

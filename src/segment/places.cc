// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <vector>

#include "object.h"
#include "slipring/base/deadline.h"

namespace slipring::segment {
namespace {

std::string environment(const char* variable) {
  const char* value = ::secure_getenv(variable);
  return value != nullptr ? value : "";
}

}  // namespace

Places Places::standard() {
  Places places;
  if (std::string shm = environment("SLIPRING_SHM_DIR"); !shm.empty()) places.shm = std::move(shm);
  places.files = environment("SLIPRING_DIR");
  if (!places.files.empty()) return places;
  const std::string runtime = environment("XDG_RUNTIME_DIR");
  places.files =
      runtime.empty() ? "/tmp/slipring-" + std::to_string(::geteuid()) : runtime + "/slipring";
  return places;
}

namespace detail {

Place posix_place(const Places& places, const std::string& name) {
  return {places.shm, false, name};
}
Place file_place(const Places& places, const std::string& name) {
  return {places.files, true, name + ".ring"};
}
Place sysv_place(const Places& places, const std::string& name) {
  return {places.files, true, name + ".sysv"};
}

Result<UniqueFd> open_dir(const std::string& dir, bool private_dir, bool make) {
  if (make) {
    if (::mkdir(dir.c_str(), 0700) == 0) {
      ::chmod(dir.c_str(), 0700);  // whatever the umask took
    } else if (errno != EEXIST) {
      return fail_errno("files dir: mkdir");
    }
  }
  const int follow = private_dir ? O_NOFOLLOW : 0;
  UniqueFd fd{::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | follow)};
  if (!fd && private_dir && (errno == ELOOP || errno == ENOTDIR)) {
    return fail(Errc::permission, errno, "files dir: not a directory");
  }
  if (!fd) return fail_errno(private_dir ? "files dir: open" : "shm dir: open");
  if (!private_dir) return fd;
  // Whoever could write here could put another object under our names.
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0) return fail_errno("files dir: fstat");
  if (st.st_uid != ::geteuid()) return fail(Errc::permission, 0, "files dir: owner");
  if ((st.st_mode & 0022) != 0) return fail(Errc::permission, 0, "files dir: writable by others");
  return fd;
}

Result<FileLock> FileLock::take(UniqueFd fd) {
  using namespace std::chrono_literals;
  const Deadline deadline = Deadline::in(1s);
  while (retry_eintr([&] { return ::flock(fd.get(), LOCK_EX | LOCK_NB); }) != 0) {
    if (errno != EWOULDBLOCK) return fail_errno("flock");
    if (deadline.passed()) return fail(Errc::timed_out, 0, "flock");
    // Holders make a handful of system calls. A sleep in between keeps the wait bounded, which a
    // blocking flock could only be with a signal.
    const timespec pause{0, 500'000};
    ::nanosleep(&pause, nullptr);
  }
  return FileLock(std::move(fd));
}

FileLock::~FileLock() {
  // Said aloud: a child forked meanwhile shares this lock and would keep it past our close().
  if (fd_) ::flock(fd_.get(), LOCK_UN);
}

Result<void> check_owner(uid_t uid, gid_t gid, mode_t mode, OpenMode open_mode) {
  if ((mode & 0002) != 0) return fail(Errc::permission, 0, "object: mode");
  if (uid == ::geteuid() || uid == 0) return {};
  // Root looks at everybody's segments and removes them, but does not take part in them.
  if (::geteuid() == 0 && open_mode == OpenMode::read_only) return {};
  if ((mode & 0060) != 0) {
    if (gid == ::getegid()) return {};
    std::vector<gid_t> groups(static_cast<std::size_t>(std::max(0, ::getgroups(0, nullptr))));
    const int count = ::getgroups(static_cast<int>(groups.size()), groups.data());
    if (count > 0 && std::find(groups.begin(), groups.begin() + count, gid) != groups.end()) {
      return {};
    }
  }
  return fail(Errc::permission, 0, "object: owner");
}

}  // namespace detail
}  // namespace slipring::segment

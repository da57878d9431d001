// SPDX-License-Identifier: Apache-2.0
// Stands before the C library and refuses what old kernels and some file systems do not have, so
// that the suite runs on the fallbacks.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>

extern "C" int openat(int dir, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  if ((flags & O_TMPFILE) == O_TMPFILE) {
    errno = EOPNOTSUPP;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_openat, dir, path, flags, mode));
}

extern "C" int madvise(void* address, std::size_t size, int advice) noexcept {
  if (advice == 23) {  // MADV_POPULATE_WRITE, since 5.14
    errno = EINVAL;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_madvise, address, size, advice));
}

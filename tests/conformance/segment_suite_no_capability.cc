// SPDX-License-Identifier: Apache-2.0
// Stands before the C library and refuses what needs CAP_DAC_READ_SEARCH: root runs the suite as
// an ordinary user would.
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

extern "C" int linkat(int from_dir, const char* from, int to_dir, const char* to,
                      int flags) noexcept {
  if ((flags & AT_EMPTY_PATH) != 0) {
    errno = ENOENT;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_linkat, from_dir, from, to_dir, to, flags));
}

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/stat.h>

#include <string>

#include "object.h"

namespace slipring::segment::detail {

/// The file that gives a SysV segment its name: "slipring-sysv 1 <shmid> <instance>\n".
struct SysvLink {
  int shmid = -1;
  InstanceId instance;
  struct stat st {};
};

/// Errors: not_found, bad_format "sysv: link" (a file that is no link of ours).
[[nodiscard]] Result<SysvLink> read_link(int dir_fd, const std::string& entry);

/// Does the id still mean the segment that the link was made for? A number that was given out
/// again, one that we may not read, and a segment marked for removal are all no.
[[nodiscard]] bool is_alive(const SysvLink& link);

}  // namespace slipring::segment::detail

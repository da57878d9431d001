// SPDX-License-Identifier: Apache-2.0
#include "slipring/base/result.h"

namespace slipring {

Errc errc_of(int sys) noexcept {
  switch (sys) {
    case EACCES:
    case EPERM: return Errc::permission;
    case ENOENT: return Errc::not_found;
    case EEXIST: return Errc::exists;
    case EBUSY: return Errc::in_use;
    case ENOSPC:
    case ENOMEM: return Errc::no_space;
    case ETIMEDOUT: return Errc::timed_out;
    case EINVAL:
    case ENAMETOOLONG: return Errc::invalid_argument;
    case ENOSYS:
    case EOPNOTSUPP: return Errc::not_supported;
    default: return Errc::system;
  }
}

}  // namespace slipring

// SPDX-License-Identifier: Apache-2.0
// Memory without a name: a descriptor that is inherited or sent.
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>

#include "object.h"

namespace slipring::segment::detail {

Result<void> draft_memfd(Object& draft, const Spec& spec) {
  unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  if (spec.huge_page_bytes != 0) {
    const auto log2 = static_cast<unsigned>(std::countr_zero(spec.huge_page_bytes));
    flags |= MFD_HUGETLB | log2 << MFD_HUGE_SHIFT;
  }
  draft.fd = UniqueFd{::memfd_create("slipring", flags)};
  if (!draft.fd) {
    const int sys = errno;
    // A page size that this machine does not have.
    const bool huge = spec.huge_page_bytes != 0 && (sys == EINVAL || sys == ENODEV);
    return fail(huge ? Errc::not_supported : errc_of(sys), sys, "memfd_create");
  }
  if (spec.group && ::fchown(draft.fd.get(), static_cast<uid_t>(-1), *spec.group) != 0) {
    return fail_errno("fchown");
  }
  if (::fchmod(draft.fd.get(), spec.mode) != 0) return fail_errno("fchmod");
  return take_room(draft, spec);
}

Result<void> seal_memfd(const Object& draft) {
  int seals = F_SEAL_SHRINK | F_SEAL_GROW;
  // Our mapping keeps writing; nobody gets another one that could.
  if (draft.seal_future_write) seals |= F_SEAL_FUTURE_WRITE;
  if (::fcntl(draft.fd.get(), F_ADD_SEALS, seals) != 0) return fail_errno("F_ADD_SEALS");
  return {};
}

Result<void> check_seals(int fd, Backend backend) {
  constexpr int kSize = F_SEAL_SHRINK | F_SEAL_GROW;
  const int seals = ::fcntl(fd, F_GET_SEALS);
  // Files of a tmpfs answer F_SEAL_SEAL alone, those of other file systems nothing: they cannot
  // be sealed, and their header must not claim to be a memfd. Everything else is one.
  const bool is_file = seals == -1 || seals == F_SEAL_SEAL;
  if (is_file && backend != Backend::memfd) return {};
  if (seals == -1 || (seals & kSize) != kSize) return fail(Errc::bad_format, 0, "seals");
  return {};
}

}  // namespace slipring::segment::detail

// SPDX-License-Identifier: Apache-2.0
// Room for memory: reserved here, where its lack is an error, instead of at the first store,
// where it is a SIGBUS.
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>

#include "object.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // linux/mman.h, since 5.14
#endif

namespace slipring::segment::detail {
namespace {

constexpr int kBind = 2;         // MPOL_BIND of linux/mempolicy.h
constexpr int kMaxNodes = 1024;  // what the kernel can be built for
// Signals interrupt, and undo, one step at most: a process with a fast timer gets on, too.
constexpr std::uint64_t kStepBytes = std::uint64_t{1} << 20;

std::uint64_t page_bytes() noexcept { return static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)); }

// The smallest memory.max from our control group up to its root; the maximum when there is none.
std::uint64_t cgroup_limit() {
  std::uint64_t limit = std::numeric_limits<std::uint64_t>::max();
  std::ifstream groups("/proc/self/cgroup");
  std::string line;
  while (std::getline(groups, line)) {
    if (!line.starts_with("0::/")) continue;  // version 2
    for (std::string path = line.substr(3); !path.empty(); path.resize(path.rfind('/'))) {
      std::uint64_t bytes = 0;
      if (std::ifstream("/sys/fs/cgroup" + path + "/memory.max") >> bytes) {
        limit = std::min(limit, bytes);
      }
    }
  }
  return limit;
}

// Transparent huge pages in a tmpfs are a matter of how it was mounted.
Result<void> check_thp(int fd, std::uint64_t bytes) {
  std::uint64_t pmd_bytes = 0;
  std::ifstream("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size") >> pmd_bytes;
  struct statfs fs {};
  struct stat st {};
  if (::fstatfs(fd, &fs) != 0 || ::fstat(fd, &st) != 0) return fail_errno("fstatfs");
  if (fs.f_type != TMPFS_MAGIC) return fail(Errc::not_supported, 0, "huge pages: not a tmpfs");
  if (bytes != pmd_bytes) return fail(Errc::not_supported, 0, "huge pages: size");
  const std::string device =
      " " + std::to_string(major(st.st_dev)) + ":" + std::to_string(minor(st.st_dev)) + " ";
  std::ifstream mounts("/proc/self/mountinfo");
  std::string line;
  while (std::getline(mounts, line)) {
    if (line.find(device) != line.npos && line.find("huge=") != line.npos) return {};
  }
  return fail(Errc::not_supported, 0, "huge pages: tmpfs mounted without huge=");
}

Result<void> check_room(int fd, std::uint64_t bytes) {
  struct rlimit limit {};
  // Beyond it ftruncate sends SIGXFSZ.
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && bytes > limit.rlim_cur) {
    return fail(Errc::too_large, EFBIG, "RLIMIT_FSIZE");
  }
  struct statfs fs {};
  struct statvfs room {};
  if (::fstatfs(fd, &fs) != 0) return fail_errno("fstatfs");
  if (::fstatvfs(fd, &room) != 0) return fail_errno("fstatvfs");
  if (fs.f_type == HUGETLBFS_MAGIC) return {};  // its mmap reserves, all or nothing
  // Asked first: posix_fallocate would fill the machine's memory before it says no. No blocks at
  // all is a tmpfs without a limit.
  if (room.f_blocks != 0 && (bytes - 1) / room.f_frsize >= room.f_bavail) {
    return fail(Errc::no_space, ENOSPC, "posix_fallocate");
  }
  return fs.f_type == TMPFS_MAGIC ? check_memory(bytes) : Result<void>{};
}

// Room is reserved already (sysv: accounted for), so these stores cannot fail.
Result<void> touch(const Mapping& mapping) {
  for (std::uint64_t at = 0; at < mapping.size(); at += page_bytes()) {
    NativeAccess::zero(mapping.data() + at, 1);
  }
  return {};
}

Result<void> reserve(int fd, std::uint64_t total, std::uint64_t step) {
  for (std::uint64_t done = 0; done < total; done += std::min(step, total - done)) {
    int e = EINTR;
    while (e == EINTR) {
      e = ::posix_fallocate(fd, static_cast<off_t>(done),
                            static_cast<off_t>(std::min(step, total - done)));
    }
    if (e == 0) continue;
    const bool room = e == ENOSPC || e == EDQUOT || e == ENOMEM;
    return fail(room ? Errc::no_space : errc_of(e), e, "posix_fallocate");
  }
  return {};
}

}  // namespace

Room memory_room() {
  Room room;
  std::ifstream meminfo("/proc/meminfo");
  std::string line;
  while (std::getline(meminfo, line)) {
    std::istringstream words(line);
    std::string key;
    std::uint64_t kib = 0;
    words >> key >> kib;
    if (key == "MemTotal:" || key == "SwapTotal:") room.total_bytes += kib * 1024;
    if (key == "MemAvailable:" || key == "SwapFree:") room.free_bytes += kib * 1024;
  }
  const std::uint64_t limit = cgroup_limit();
  return {std::min(room.free_bytes, limit), std::min(room.total_bytes, limit)};
}

Result<void> check_memory(std::uint64_t bytes) {
  const Room room = memory_room();
  // Without /proc nothing is known, and nothing is refused.
  if (room.total_bytes != 0 && bytes > room.free_bytes) {
    return fail(Errc::no_space, ENOMEM, "memory");
  }
  return {};
}

Result<void> populate(const Mapping& mapping) {
  for (std::uint64_t done = 0; done < mapping.size();) {
    const std::uint64_t step = std::min(kStepBytes, mapping.size() - done);
    if (::madvise(mapping.data() + done, step, MADV_POPULATE_WRITE) == 0) {
      done += step;
      continue;
    }
    if (errno == EINTR || errno == EAGAIN) continue;
    if (errno == EINVAL) return touch(mapping);  // before Linux 5.14
    // EFAULT is how the kernel reports what a store would have had as SIGBUS.
    const bool room = errno == EFAULT || errno == ENOMEM;
    return fail(room ? Errc::no_space : Errc::system, errno, "MADV_POPULATE_WRITE");
  }
  return {};
}

Result<void> bind_node(const Mapping& mapping, int node) {
  if (node < 0) return {};
  if (node >= kMaxNodes) return fail(Errc::invalid_argument, 0, "mbind");
  constexpr unsigned kBits = std::numeric_limits<unsigned long>::digits;
  unsigned long mask[kMaxNodes / kBits] = {};
  mask[static_cast<unsigned>(node) / kBits] = 1UL << (static_cast<unsigned>(node) % kBits);
  if (::syscall(SYS_mbind, mapping.data(), mapping.size(), kBind, mask, kMaxNodes + 1, 0) == 0) {
    return {};
  }
  if (errno == EPERM || errno == ENOSYS) return fail(Errc::not_supported, errno, "mbind");
  return fail_errno("mbind");
}

Result<void> lock_pages(const Mapping& mapping) {
  return ::mlock(mapping.data(), mapping.size()) == 0 ? Result<void>{} : fail_errno("mlock");
}

Result<void> take_room(Object& draft, const Spec& spec) {
  const std::uint64_t total = draft.info.total_bytes;
  const int fd = draft.fd.get();
  const bool thp = spec.huge_page_bytes != 0 && draft.backend != Backend::memfd;
  if (auto ok = check_room(fd, total); !ok) return ok;
  if (thp) {
    if (auto ok = check_thp(fd, spec.huge_page_bytes); !ok) return ok;
  }
  if (retry_eintr([&] { return ::ftruncate(fd, static_cast<off_t>(total)); }) != 0) {
    return fail_errno("ftruncate");
  }
  // Mapped before it has pages, because the policy and the page size must be known first. Nothing
  // is stored before posix_fallocate succeeded.
  Result<Mapping> mapping = Mapping::of_fd(fd, total, OpenMode::read_write);
  if (!mapping) return tl::unexpected(mapping.error());
  draft.mapping = std::move(*mapping);
  if (auto ok = bind_node(draft.mapping, spec.numa_node); !ok) return ok;
  if (thp) {
    if (::madvise(draft.mapping.data(), total, MADV_HUGEPAGE) != 0) {
      return fail(Errc::not_supported, errno, "MADV_HUGEPAGE");
    }
    // posix_fallocate knows no advice and would take small pages.
    if (auto ok = populate(draft.mapping); !ok) return ok;
  }
  if (auto ok = reserve(fd, total, std::max(kStepBytes, spec.huge_page_bytes)); !ok) return ok;
  if (spec.prefault) {
    if (auto ok = populate(draft.mapping); !ok) return ok;
  }
  return spec.lock ? lock_pages(draft.mapping) : Result<void>{};
}

}  // namespace slipring::segment::detail

// SPDX-License-Identifier: Apache-2.0
#include "sysv_link.h"

#include <sys/shm.h>
#include <unistd.h>

#include <charconv>
#include <string_view>

namespace slipring::segment::detail {
namespace {

constexpr std::string_view kPrefix = "slipring-sysv 1 ";

// Takes the number off the front of `text`; false when there is none.
template <typename T>
bool take_number(std::string_view& text, T& value, int base) noexcept {
  const auto [end, error] = std::from_chars(text.begin(), text.end(), value, base);
  if (error != std::errc{}) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.begin()));
  return true;
}

bool parse(std::string_view text, SysvLink& link) noexcept {
  if (!text.starts_with(kPrefix)) return false;
  text.remove_prefix(kPrefix.size());
  if (!take_number(text, link.shmid, 10) || link.shmid < 0) return false;
  if (text.size() != 1 + 32 + 1 || text.front() != ' ' || text.back() != '\n') return false;
  std::string_view high = text.substr(1, 16);
  std::string_view low = text.substr(17, 16);
  return take_number(high, link.instance.high, 16) && high.empty() &&
         take_number(low, link.instance.low, 16) && low.empty();
}

}  // namespace

Result<SysvLink> read_link(int dir_fd, const std::string& entry) {
  const Result<UniqueFd> fd = open_entry(dir_fd, entry, OpenMode::read_only);
  if (!fd) return tl::unexpected(fd.error());
  SysvLink link;
  if (::fstat(fd->get(), &link.st) != 0) return fail_errno("fstat");
  char text[128];
  const auto got = retry_eintr([&] { return ::pread(fd->get(), text, sizeof text, 0); });
  if (got < 0) return fail_errno("pread");
  if (!parse({text, static_cast<std::size_t>(got)}, link)) {
    return fail(Errc::bad_format, 0, "sysv: link");
  }
  return link;
}

bool is_alive(const SysvLink& link) {
  shmid_ds ds{};
  if (::shmctl(link.shmid, IPC_STAT, &ds) != 0) return false;
  if ((ds.shm_perm.mode & SHM_DEST) != 0 || ds.shm_segsz < kHeaderBytes) return false;
  const Result<Mapping> mapping = Mapping::of_sysv(link.shmid, OpenMode::read_only);
  // Not "gone" but "not to be told": out of memory, say. Then the link stays.
  if (!mapping) {
    return mapping.error().code != Errc::not_found && mapping.error().code != Errc::permission;
  }
  if (mapping->size() < kHeaderBytes) return false;
  const HeaderWords words = load_header(mapping->header());
  return InstanceId{words.instance_high, words.instance_low} == link.instance;
}

Result<void> link_sysv(const Object& draft, int dir_fd, const std::string& entry) {
  const Result<Unnamed> file = make_unnamed(dir_fd);
  if (!file) return tl::unexpected(file.error());
  const std::string text = std::string(kPrefix) + std::to_string(draft.shmid) + ' ' +
                           to_string(draft.info.instance) + '\n';
  const auto written =
      retry_eintr([&] { return ::pwrite(file->fd.get(), text.data(), text.size(), 0); });
  Result<void> named{};
  if (written < 0) {
    named = fail_errno("write link");
  } else if (written != static_cast<ssize_t>(text.size())) {
    named = fail(Errc::no_space, ENOSPC, "write link");
  } else {
    named = give_name(dir_fd, file->fd.get(), file->temp, entry);
  }
  if (!named && !file->temp.empty()) ::unlinkat(dir_fd, file->temp.c_str(), 0);
  return named;
}

Result<bool> remove_stale_link(int dir_fd, const std::string& entry) {
  for (int attempt = 0; attempt < 3; ++attempt) {
    const Result<SysvLink> link = read_link(dir_fd, entry);
    if (!link) {
      if (link.error().code == Errc::not_found) return true;
      if (link.error().code == Errc::bad_format) return false;  // somebody's file, not a link
      return tl::unexpected(link.error());
    }
    if (is_alive(*link)) return false;
    const Result<FileLock> lock = lock_entry(dir_fd, entry, link->st);
    // Another process took it away meanwhile, or put a new one there: look again.
    if (!lock && lock.error().code == Errc::not_found) continue;
    if (!lock) return tl::unexpected(lock.error());
    if (::unlinkat(dir_fd, entry.c_str(), 0) != 0) return fail_errno("unlink stale link");
    return true;
  }
  return false;
}

}  // namespace slipring::segment::detail

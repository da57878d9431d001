// SPDX-License-Identifier: Apache-2.0
// What killed makers leave that never had a name. Each look pins what it judges: an attachment pins
// a SysV id, a descriptor a file.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string_view>

#include "object.h"

namespace slipring::segment {
namespace detail {
namespace {

// True when nobody else has the file open, for reading or writing, or mapped: the kernel grants a
// write lease only then. Given back at once.
bool is_only_ours(int fd) noexcept {
  // Whoever opens it in this instant breaks the lease, of which we are told by a signal that
  // nobody minds instead of SIGIO.
  ::fcntl(fd, F_SETSIG, SIGURG);
  if (::fcntl(fd, F_SETLEASE, F_WRLCK) != 0) return false;
  ::fcntl(fd, F_SETLEASE, F_UNLCK);
  return true;
}

// A SysV segment without its magic was never finished, hence never anybody's but its maker's. One
// that is finished may have its name in other places, so of that nothing is said.
Result<Wreck> judge_sysv(int shmid, const Mapping& mapping) {
  shmid_ds ds{};
  if (::shmctl(shmid, IPC_STAT, &ds) != 0) return fail_errno("shmctl");
  if ((ds.shm_perm.mode & SHM_DEST) != 0) return fail(Errc::not_found, 0, "sysv: removed");
  if (mapping.size() < kHeaderBytes) return fail(Errc::in_use, 0, "wreck: not ours");
  HeaderWords words = load_header(mapping.header());
  if (words.magic != 0) return fail(Errc::in_use, 0, "wreck: not ours");
  words.magic = kMagic;  // all else was stored before it, and the checksum covers it
  const auto info = check_header(words, mapping.size(), OpenMode::read_only);
  if (!info || info->backend != Backend::sysv) return fail(Errc::in_use, 0, "wreck: not ours");
  if (ds.shm_nattch > 1 || PeerWatch(info->creator).look() != Verdict::dead) {
    return fail(Errc::in_use, 0, "wreck: in use");
  }
  return Wreck{"sysv id " + std::to_string(shmid), ds.shm_segsz, shmid, info->creator};
}

void add_files(const std::string& dir, bool private_dir, std::vector<Wreck>& wrecks) {
  const Result<UniqueFd> fd = open_dir(dir, private_dir, false);
  if (!fd) return;
  UniqueFd copy{::openat(fd->get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  DIR* stream = copy ? ::fdopendir(copy.get()) : nullptr;
  if (stream == nullptr) return;
  static_cast<void>(copy.release());
  while (const dirent* entry = ::readdir(stream)) {
    const std::string_view name = entry->d_name;
    if (!name.starts_with(".slipring-") || !name.ends_with(".tmp")) continue;
    const Result<UniqueFd> file = open_entry(fd->get(), entry->d_name, OpenMode::read_only);
    struct stat st {};
    if (!file || ::fstat(file->get(), &st) != 0 || !is_only_ours(file->get())) continue;
    wrecks.push_back({dir + "/" + entry->d_name, static_cast<std::uint64_t>(st.st_size), {}, {}});
  }
  ::closedir(stream);
}

Result<void> remove_file(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == path.npos) return fail(Errc::not_found, ENOENT, "unlink");
  const std::string entry = path.substr(slash + 1);
  const Result<UniqueFd> dir = open_dir(path.substr(0, slash), false, false);
  if (!dir) return tl::unexpected(dir.error());
  const Result<UniqueFd> file = open_entry(dir->get(), entry, OpenMode::read_only);
  if (!file) return tl::unexpected(file.error());
  if (!is_only_ours(file->get())) return fail(Errc::in_use, 0, "wreck: in use");
  if (::unlinkat(dir->get(), entry.c_str(), 0) != 0) return fail_errno("unlink");
  return {};
}

}  // namespace
}  // namespace detail

std::vector<Wreck> list_wrecks(const Places& places) {
  std::vector<Wreck> wrecks;
  struct shm_info unused {};
  const int last = ::shmctl(0, SHM_INFO, reinterpret_cast<shmid_ds*>(&unused));
  for (int index = 0; index <= last; ++index) {
    shmid_ds ds{};
    const int shmid = ::shmctl(index, SHM_STAT, &ds);
    if (shmid == -1) continue;
    const Result<detail::Mapping> pin = detail::Mapping::of_sysv(shmid, OpenMode::read_only);
    if (!pin) continue;
    if (auto wreck = detail::judge_sysv(shmid, *pin)) wrecks.push_back(std::move(*wreck));
  }
  detail::add_files(places.shm, false, wrecks);
  detail::add_files(places.files, true, wrecks);
  return wrecks;
}

Result<void> remove_wreck(const Wreck& wreck) {
  if (!wreck.sysv_id) return detail::remove_file(wreck.where);
  // While we are attached the id means this segment and no other.
  const Result<detail::Mapping> pin = detail::Mapping::of_sysv(*wreck.sysv_id, OpenMode::read_only);
  if (!pin) return tl::unexpected(pin.error());
  const auto still = detail::judge_sysv(*wreck.sysv_id, *pin);
  if (!still) return tl::unexpected(still.error());
  if (::shmctl(*wreck.sysv_id, IPC_RMID, nullptr) != 0) return fail_errno("shmctl IPC_RMID");
  return {};
}

}  // namespace slipring::segment

// SPDX-License-Identifier: Apache-2.0
// Looks, never touches: read-only attachments and reads, so that neither a hostile file nor one
// that shrinks under us can do more than produce a row with an error.
#include <dirent.h>
#include <fcntl.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <set>

#include "object.h"
#include "sysv_link.h"

namespace slipring::segment {
namespace detail {
namespace {

// The names in a directory, sorted. A directory that is not there has none.
Result<std::vector<std::string>> entries_of(const UniqueFd& dir) {
  std::vector<std::string> entries;
  UniqueFd copy{::openat(dir.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  DIR* stream = copy ? ::fdopendir(copy.get()) : nullptr;
  if (stream == nullptr) return fail_errno("opendir");
  static_cast<void>(copy.release());
  while (const dirent* entry = ::readdir(stream)) entries.emplace_back(entry->d_name);
  ::closedir(stream);
  std::ranges::sort(entries);
  return entries;
}

// The name behind `entry` less `suffix`; nothing for other entries and for temporaries.
std::optional<std::string> name_of(const std::string& entry, std::string_view suffix) {
  if (!entry.ends_with(suffix) || entry.starts_with(".slipring-")) return std::nullopt;
  const Result<Name> name = Name::parse(entry.substr(0, entry.size() - suffix.size()));
  return name ? std::optional(name->str()) : std::nullopt;
}

void add_file(int dir_fd, const Place& place, const std::string& name, Backend backend,
              std::vector<Listing>& rows) {
  struct stat st {};
  // Regular files alone are opened: opening a FIFO or a device can do something.
  if (::fstatat(dir_fd, place.entry.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return;
  if (!S_ISREG(st.st_mode)) return;
  const Result<UniqueFd> fd = open_entry(dir_fd, place.entry, OpenMode::read_only);
  if (!fd || ::fstat(fd->get(), &st) != 0) return;
  std::uint64_t magic = 0;
  const bool ours = ::pread(fd->get(), &magic, sizeof magic, 0) == sizeof magic && magic == kMagic;
  // In the files directory the suffix says that it was meant to be ours.
  if (!ours && backend == Backend::posix) return;
  Listing row;
  row.name = name;
  row.backend = backend;
  row.where = place.path();
  row.object_bytes = static_cast<std::uint64_t>(st.st_size);
  row.owner = st.st_uid;
  row.mode = st.st_mode & 07777;
  const Result<HeaderWords> words = read_header(fd->get());
  row.info = words ? check_header(*words, row.object_bytes, OpenMode::read_only)
                   : Result<HeaderInfo>(tl::unexpected(words.error()));
  rows.push_back(std::move(row));
}

Result<void> add_files(const std::string& dir, bool private_dir, Backend backend,
                       std::string_view suffix, std::vector<Listing>& rows) {
  const Result<UniqueFd> fd = open_dir(dir, private_dir, false);
  if (!fd) {
    return fd.error().code == Errc::not_found ? Result<void>{} : tl::unexpected(fd.error());
  }
  const auto entries = entries_of(*fd);
  if (!entries) return tl::unexpected(entries.error());
  for (const std::string& entry : *entries) {
    if (const auto name = name_of(entry, suffix)) {
      add_file(fd->get(), Place{dir, private_dir, entry}, *name, backend, rows);
    }
  }
  return {};
}

// False when the segment cannot be read, or is not ours.
bool describe_sysv(int shmid, Listing& row) {
  shmid_ds ds{};
  if (::shmctl(shmid, IPC_STAT, &ds) != 0) return false;
  // Removed and still attached: like an unlinked file, it is its users' business alone.
  if ((ds.shm_perm.mode & SHM_DEST) != 0) return false;
  row.backend = Backend::sysv;
  row.where = "sysv id " + std::to_string(shmid);
  row.sysv_id = shmid;
  row.attached = ds.shm_nattch;
  row.object_bytes = ds.shm_segsz;
  row.owner = ds.shm_perm.uid;
  row.mode = ds.shm_perm.mode & 0777;
  if (ds.shm_segsz < kHeaderBytes) return false;
  const Result<Mapping> mapping = Mapping::of_sysv(shmid, OpenMode::read_only);
  if (!mapping || mapping->size() < kHeaderBytes) return false;
  const HeaderWords words = load_header(mapping->header());
  if (words.magic != kMagic) return false;
  row.info = check_header(words, mapping->size(), OpenMode::read_only);
  return true;
}

void add_link(int dir_fd, const std::string& dir, const std::string& entry, const std::string& name,
              std::set<int>& seen, std::vector<Listing>& rows) {
  Listing row;
  const Result<SysvLink> link = read_link(dir_fd, entry);
  if (link && is_alive(*link) && describe_sysv(link->shmid, row)) {
    seen.insert(link->shmid);
  } else {
    row = Listing{};
    row.where = dir + "/" + entry;
    row.info = link ? fail(Errc::not_found, 0, "sysv: stale link") : tl::unexpected(link.error());
    if (link) row.owner = link->st.st_uid;
  }
  row.name = name;
  row.backend = Backend::sysv;
  rows.push_back(std::move(row));
}

}  // namespace

Result<void> list_sysv(const Places& places, std::vector<Listing>& rows) {
  std::set<int> seen;
  const Result<UniqueFd> dir = open_dir(places.files, true, false);
  if (!dir && dir.error().code != Errc::not_found) return tl::unexpected(dir.error());
  if (dir) {
    const auto entries = entries_of(*dir);
    if (!entries) return tl::unexpected(entries.error());
    for (const std::string& entry : *entries) {
      if (const auto name = name_of(entry, ".sysv")) {
        add_link(dir->get(), places.files, entry, *name, seen, rows);
      }
    }
  }
  struct shm_info unused {};
  const int last = ::shmctl(0, SHM_INFO, reinterpret_cast<shmid_ds*>(&unused));
  for (int index = 0; index <= last; ++index) {
    shmid_ds ds{};
    const int shmid = ::shmctl(index, SHM_STAT, &ds);
    Listing row;
    if (shmid == -1 || seen.contains(shmid) || !describe_sysv(shmid, row)) continue;
    rows.push_back(std::move(row));
  }
  return {};
}

}  // namespace detail

Result<std::vector<Listing>> list_segments(const Places& places) {
  std::vector<Listing> rows;
  if (auto ok = detail::add_files(places.shm, false, Backend::posix, "", rows); !ok) {
    return tl::unexpected(ok.error());
  }
  if (auto ok = detail::add_files(places.files, true, Backend::file, ".ring", rows); !ok) {
    return tl::unexpected(ok.error());
  }
  if (auto ok = detail::list_sysv(places, rows); !ok) return tl::unexpected(ok.error());
  return rows;
}

Result<Room> room_for(Backend backend, const Places& places) {
  if (backend == Backend::memfd || backend == Backend::sysv) return detail::memory_room();
  std::string dir = backend == Backend::posix ? places.shm : places.files;
  struct statvfs fs {};
  while (::statvfs(dir.c_str(), &fs) != 0) {
    // The files directory may not exist yet; its room is that of its parent.
    const std::size_t slash = dir.rfind('/');
    if (errno != ENOENT || slash == dir.npos || dir == "/") return fail_errno("statvfs");
    dir.resize(std::max<std::size_t>(slash, 1));
  }
  if (fs.f_blocks == 0) return detail::memory_room();  // a tmpfs without a limit
  return Room{fs.f_bavail * fs.f_frsize, fs.f_blocks * fs.f_frsize};
}

}  // namespace slipring::segment

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mapping.h"
#include "slipring/base/result.h"
#include "slipring/base/unique_fd.h"
#include "slipring/segment/segment.h"

namespace slipring::segment::detail {

/// Which file a name is: a directory that was checked, and an entry in it.
struct Place {
  std::string dir;
  bool private_dir = false;  ///< The files directory, which must be ours alone.
  std::string entry;
  [[nodiscard]] std::string path() const { return dir + "/" + entry; }
};
[[nodiscard]] Place posix_place(const Places& places, const std::string& name);
[[nodiscard]] Place file_place(const Places& places, const std::string& name);
[[nodiscard]] Place sysv_place(const Places& places, const std::string& name);

/// A file without a name, or, where O_TMPFILE is refused, with a name nobody looks for.
struct Unnamed {
  UniqueFd fd;
  std::string temp;  ///< Entry in the same directory; empty with O_TMPFILE.
};

/// What Draft and Segment own. A draft undoes itself; a segment only detaches.
struct Object {
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  ~Object();

  Backend backend = Backend::posix;
  OpenMode mode = OpenMode::read_write;
  UniqueFd fd;
  int shmid = -1;
  Mapping mapping;
  HeaderInfo info;
  std::optional<Place> place;  ///< Of its name, or of the SysV link.
  std::optional<key_t> key;

  // Of drafts alone.
  pid_t drafted_by = 0;  ///< 0 for a segment. A forked child's copy must undo nothing.
  Places places;
  std::string temp;
  bool seal_future_write = false;
};

// places.cc -----------------------------------------------------------------------------------

/// An O_RDONLY descriptor of the directory. `make`: mkdir 0700 first, private directories only.
[[nodiscard]] Result<UniqueFd> open_dir(const std::string& dir, bool private_dir, bool make);

/// An exclusive flock, released by the destructor.
class FileLock {
 public:
  /// Errors: timed_out  somebody kept it for 1 s: only a stopped process does.
  [[nodiscard]] static Result<FileLock> take(UniqueFd fd);
  FileLock() = default;
  FileLock(FileLock&&) = default;
  FileLock& operator=(FileLock&&) = default;
  ~FileLock();
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

 private:
  explicit FileLock(UniqueFd fd) noexcept : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

/// Is an object of this owner, group and mode one to map? World-writable never is.
[[nodiscard]] Result<void> check_owner(uid_t uid, gid_t gid, mode_t mode, OpenMode open_mode);

// file.cc -------------------------------------------------------------------------------------

[[nodiscard]] Result<Unnamed> make_unnamed(int dir_fd, bool allow_tmpfile = true);
/// Errors: exists.
[[nodiscard]] Result<void> give_name(int dir_fd, int fd, const std::string& temp,
                                     const std::string& entry);
/// Opens without following or blocking; a regular file or an error.
[[nodiscard]] Result<UniqueFd> open_entry(int dir_fd, const std::string& entry, OpenMode mode);
/// Locks the object that `entry` leads to, if it is the one of `expected`.
/// Errors: not_found  it leads elsewhere or nowhere.
[[nodiscard]] Result<FileLock> lock_entry(int dir_fd, const std::string& entry,
                                          const struct stat& expected);
/// Unlinks `place` if it still leads to the object of `fd`.
[[nodiscard]] Result<void> remove_entry(const Place& place, int fd);
/// Does `place` lead to the object of `fd`?
[[nodiscard]] Result<bool> leads_to(const Place& place, int fd);
/// The object behind a path, with its header checked.
[[nodiscard]] Result<ObjectPtr> open_file(const Place& place, Backend backend, OpenMode mode,
                                          const Expect& expect);
/// Checks header and size through the descriptor, then maps it.
[[nodiscard]] Result<ObjectPtr> attach_fd(UniqueFd fd, OpenMode mode, const Expect& expect);
/// Fills fd and mapping of a draft in `place.dir`.
[[nodiscard]] Result<void> draft_file(Object& draft, const Place& place, const Spec& spec);
[[nodiscard]] Result<HeaderWords> read_header(int fd);

// posix.cc, memfd.cc, sysv.cc -----------------------------------------------------------------

[[nodiscard]] Result<void> draft_posix(Object& draft, const Spec& spec);
[[nodiscard]] Result<void> draft_memfd(Object& draft, const Spec& spec);
[[nodiscard]] Result<void> seal_memfd(const Object& draft);
[[nodiscard]] Result<void> check_seals(int fd, Backend backend);
[[nodiscard]] Result<void> draft_sysv(Object& draft, const Spec& spec);
[[nodiscard]] Result<void> link_sysv(const Object& draft, int dir_fd, const std::string& entry);
void undo_sysv(int shmid) noexcept;
[[nodiscard]] Result<ObjectPtr> open_sysv(int shmid, OpenMode mode, const Expect& expect,
                                          bool wait_for_magic);
[[nodiscard]] Result<ObjectPtr> open_sysv_link(const Place& place, OpenMode mode,
                                               const Expect& expect);
[[nodiscard]] Result<ObjectPtr> open_sysv_key(key_t key, OpenMode mode, const Expect& expect);
[[nodiscard]] Result<bool> sysv_still_named(const Object& object);
[[nodiscard]] Result<void> unlink_sysv(const Object& object);
/// Removes a link whose segment is gone. False: it is alive (or no link of ours), so it stays.
[[nodiscard]] Result<bool> remove_stale_link(int dir_fd, const std::string& entry);
/// Adds all SysV segments to `rows`: links of `places` with their names, then the others.
[[nodiscard]] Result<void> list_sysv(const Places& places, std::vector<Listing>& rows);

// memory.cc -----------------------------------------------------------------------------------

/// Sizes, maps and reserves `draft.info.total_bytes` for the descriptor of a draft.
[[nodiscard]] Result<void> take_room(Object& draft, const Spec& spec);
[[nodiscard]] Result<void> populate(const Mapping& mapping);
[[nodiscard]] Result<void> bind_node(const Mapping& mapping, int node);
[[nodiscard]] Result<void> lock_pages(const Mapping& mapping);
/// Errors: no_space "memory"  more than the machine, or our control group, can give now.
[[nodiscard]] Result<void> check_memory(std::uint64_t bytes);
[[nodiscard]] Room memory_room();

}  // namespace slipring::segment::detail

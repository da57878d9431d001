// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "slipring/base/deadline.h"
#include "slipring/base/result.h"
#include "slipring/base/unique_fd.h"
#include "slipring/segment/header.h"
#include "slipring/segment/name.h"

namespace slipring::segment {
namespace detail {
struct Object;
struct ObjectDeleter {
  void operator()(Object* object) const noexcept;
};
using ObjectPtr = std::unique_ptr<Object, ObjectDeleter>;
}  // namespace detail

/// The two directories that names live in. One name leads to one segment in both together.
struct Places {
  std::string shm = "/dev/shm";  ///< posix: `<shm>/<name>`
  std::string files;             ///< file: `<files>/<name>.ring`, sysv: `<files>/<name>.sysv`

  /// shm is $SLIPRING_SHM_DIR or /dev/shm; files is $SLIPRING_DIR, else $XDG_RUNTIME_DIR/slipring,
  /// else /tmp/slipring-<uid>. `files` is made on demand, 0700, and is refused (permission,
  /// "files dir: ...") when it is a symbolic link, not ours, or writable by others.
  [[nodiscard]] static Places standard();
};

/// What draft() makes.
struct Spec {
  std::uint64_t body_bytes = 0;
  std::uint64_t content = 0;
  std::uint64_t fingerprint = 0;
  mode_t mode = 0600;                 ///< A subset of 0660; world access is refused. Not masked.
  std::optional<gid_t> group;         ///< Given to the object together with `mode`.
  std::uint64_t huge_page_bytes = 0;  ///< memfd, sysv: hugetlb pages. posix, file: THP on tmpfs.
  int numa_node = -1;                 ///< Not for `file`.
  bool lock = false;                  ///< mlock the creator's mapping.
  bool prefault = true;               ///< Room is reserved in any case; sysv always prefaults.
  bool keep = false;                  ///< Sets kFlagKeep.
  bool seal_future_write = false;     ///< memfd: publish() forbids new writable mappings.
  std::optional<key_t> sysv_key;      ///< sysv: a key that others know instead of IPC_PRIVATE.
  Places places = Places::standard();
};

class Draft;

/// Held while a role in a segment changes hands. The kernel drops it with its holder.
class SegmentLock {
 public:
  SegmentLock(SegmentLock&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), opened_(std::move(other.opened_)) {}
  SegmentLock& operator=(SegmentLock&&) = delete;
  ~SegmentLock();

 private:
  friend class Segment;
  SegmentLock(int fd, UniqueFd opened) noexcept : fd_(fd), opened_(std::move(opened)) {}
  int fd_;  // the segment's own, or opened_
  UniqueFd opened_;
};

/// One mapping of one segment. Its memory stays, whatever happens to the name, until the last
/// mapping is gone. Moved from, only destruction and assignment are allowed.
/// Threads: const members any; the memory's own rules are those of what lies in it.
class Segment {
 public:
  /// Looks for `name` in posix, then file, then sysv. Never waits, except at a half-made SysV
  /// segment of a known key (at most 1 s).
  /// Trust:  everything in the object; see check_header. Type, owner and mode of the object are
  ///         checked before a byte of it is read, and a FIFO in its place does not block.
  /// Errors: not_found    nothing has the name, or ("sysv: stale link") its segment is gone,
  ///         permission   the kernel refused; "object: owner", "object: mode": not to be trusted,
  ///         bad_format   "object: type" (symbolic link, FIFO, directory, device); check_header,
  ///         type_mismatch, not_supported  as check_header says.
  [[nodiscard]] static Result<Segment> open(const Name& name, OpenMode mode, Expect expect = {},
                                            const Places& places = Places::standard());
  [[nodiscard]] static Result<Segment> open_sysv_id(int shmid, OpenMode mode, Expect expect = {});
  /// Errors: bad_format  "sysv: creator died" before it was complete, as well.
  [[nodiscard]] static Result<Segment> open_sysv_key(key_t key, OpenMode mode, Expect expect = {});
  /// A descriptor that was received or inherited; it is consumed, also on failure.
  /// Errors: bad_format  "seals": a memfd that its sender could still shrink or grow; see open.
  [[nodiscard]] static Result<Segment> from_fd(UniqueFd fd, OpenMode mode, Expect expect = {});

  Segment(Segment&&) noexcept = default;
  Segment& operator=(Segment&&) noexcept = default;

  /// info().body_bytes bytes, aligned to 4096, valid while this Segment lives. Read-only memory
  /// when mode() is read_only: a store there is a SIGSEGV.
  [[nodiscard]] std::span<std::byte> body() const noexcept;
  [[nodiscard]] const HeaderInfo& info() const noexcept;
  [[nodiscard]] Backend backend() const noexcept;
  [[nodiscard]] OpenMode mode() const noexcept;
  /// Ours, not the caller's. -1 for sysv.
  [[nodiscard]] int fd() const noexcept;
  [[nodiscard]] std::optional<int> sysv_id() const noexcept;
  /// For people: "/dev/shm/md.btc", "sysv id 98307", "memfd".
  [[nodiscard]] std::string where() const;

  /// Does its name (or SysV key) still lead to this very instance? False when it never had one.
  [[nodiscard]] Result<bool> still_named() const;

  /// Excludes other processes, and other Segments of this one, that hold this lock of the same
  /// object. For attaching and detaching alone: no data path takes it, and no state is trusted
  /// because of it. A segment that has neither descriptor nor link (SysV by key or id) has no lock:
  /// what is returned then excludes nobody. The Segment outlives its lock.
  /// Errors: timed_out  somebody kept it until the deadline: a process stopped while attaching,
  ///         permission  the segment is open read-only.
  [[nodiscard]] Result<SegmentLock> lock(Deadline deadline) const;

  /// Removes the name, only if it still leads to this instance; SysV: IPC_RMID and the link.
  /// Whoever has it mapped keeps it.
  /// Errors: not_found  the name is gone or belongs to another instance by now; nothing was done,
  ///         timed_out  a stopped process holds the lock of the removal (1 s).
  [[nodiscard]] Result<void> unlink();

 private:
  friend class Draft;
  explicit Segment(detail::ObjectPtr object) noexcept : object_(std::move(object)) {}
  detail::ObjectPtr object_;
};

/// Memory that nobody else can see. Dropped, it vanishes, as it does when its process is killed
/// (except sysv, where the kernel keeps an id without magic: docs/reliability.md, D7).
/// Threads: one at a time.
class Draft {
 public:
  Draft(Draft&&) noexcept = default;
  Draft& operator=(Draft&&) noexcept = default;

  /// body_bytes zero bytes, aligned to 4096, for the caller to initialise.
  [[nodiscard]] std::span<std::byte> body() const noexcept;
  [[nodiscard]] const HeaderInfo& info() const noexcept;

  /// Gives it a name: complete and at once, or not at all.
  /// Errors: exists         the name is taken, in any kind of the same Places,
  ///         not_supported  a memfd has no name,
  ///         timed_out      a stopped process holds the lock of the names (1 s).
  [[nodiscard]] Result<Segment> publish(const Name& name) &&;
  /// memfd, and sysv known by key or id alone.
  /// Errors: invalid_argument  posix and file need a name.
  [[nodiscard]] Result<Segment> publish() &&;

 private:
  friend Result<Draft> draft(Backend backend, const Spec& spec);
  explicit Draft(detail::ObjectPtr object) noexcept : object_(std::move(object)) {}
  detail::ObjectPtr object_;
};

/// Makes unnamed memory: sized, reserved, prefaulted, zero.
/// Errors: invalid_argument  a zero size, a mode beyond 0660, an option of another backend,
///         too_large         more bytes than a file can have, or than RLIMIT_FSIZE allows,
///         no_space          "posix_fallocate": the file system has no room; "memory": the machine
///                           has none; other calls by their name. Nothing is left,
///         exists            "shmget": the SysV key is taken,
///         not_supported     no huge pages or NUMA policy to be had this way,
///         permission        the directory, the group, locked memory.
[[nodiscard]] Result<Draft> draft(Backend backend, const Spec& spec);

/// Hands a descriptor to the peer of a connected UNIX socket, with one byte of data.
/// Progress: one system call; blocks as the socket does.
/// Errors: full (a non-blocking socket), closed (the peer is gone), system.
[[nodiscard]] Result<void> send_fd(int unix_socket, int fd) noexcept;
/// Takes exactly one, close-on-exec.
/// Errors: bad_format  none, more than one, or a truncated control message: all were closed,
///         closed      end of stream; empty  a non-blocking socket.
[[nodiscard]] Result<UniqueFd> receive_fd(int unix_socket) noexcept;

/// ftok(3): offered for programs that agree by path, never a default, because different files
/// may give one key. `project` must not be 0 in its low byte.
[[nodiscard]] Result<key_t> sysv_key_of(const std::string& path, int project);

/// One segment found by list_segments().
struct Listing {
  std::string name;  ///< As it can be opened; empty when it has none here.
  Backend backend = Backend::posix;
  std::string where;                                 ///< Path, or "sysv id N".
  Result<HeaderInfo> info = fail(Errc::bad_format);  ///< Or what is wrong with it.
  std::uint64_t object_bytes = 0;
  uid_t owner = 0;
  mode_t mode = 0;
  std::optional<int> sysv_id;
  std::optional<std::uint64_t> attached;  ///< sysv: mappings in all processes.
};

/// All segments of `places`, and SysV segments by their header. Maps nothing writable and writes
/// nothing. What is not ours is skipped; ours, but rotten, is a row with its error.
[[nodiscard]] Result<std::vector<Listing>> list_segments(const Places& places = Places::standard());

/// Takes away a SysV name whose segment is gone (ipcrm, a reboot). publish() does so by itself.
/// Errors: not_found  no such link; in_use  it leads to a living segment: open it and unlink().
[[nodiscard]] Result<void> remove_stale(const Name& name,
                                        const Places& places = Places::standard());

/// Memory that its maker was killed over before anybody could find it: a SysV segment with its
/// header but without its magic, or, where O_TMPFILE is refused, a temporary file that nobody has
/// open.
struct Wreck {
  std::string where;  ///< Path, or "sysv id N".
  std::uint64_t object_bytes = 0;
  std::optional<int> sysv_id;
  ProcessToken maker;  ///< Proved dead; pid 0: a file, whose maker did not come to say who it is.
};
/// All that are proved to be nobody's. Of what cannot be proved nothing is said: a SysV id whose
/// maker was killed before it wrote the header may be anybody's.
[[nodiscard]] std::vector<Wreck> list_wrecks(const Places& places = Places::standard());
/// Errors: in_use     somebody has it by now, or its maker cannot be proved dead; nothing was done,
///         not_found  it is gone.
[[nodiscard]] Result<void> remove_wreck(const Wreck& wreck);

struct Room {
  std::uint64_t free_bytes = 0;
  std::uint64_t total_bytes = 0;
};
/// How much memory the backend could still take, for error texts. A guess: others take, too.
[[nodiscard]] Result<Room> room_for(Backend backend, const Places& places = Places::standard());

}  // namespace slipring::segment

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "slipring/base/result.h"
#include "slipring/manager/registry_layout.h"
#include "slipring/segment/segment.h"

/// Who is attached to what: a directory for people and tools, kept by the attached themselves.
namespace slipring::manager {
namespace detail {
struct RegistryTable;
struct RegistryState;

/// An entry that this process holds.
struct TakenEntry {
  std::uint32_t entry = 0;
  std::uint32_t generation = 0;  ///< Of its role.
};
}  // namespace detail

[[nodiscard]] std::string_view to_string(Form form) noexcept;
[[nodiscard]] std::string_view to_string(Part part) noexcept;

/// What a process says of one of its attachments. Nobody checks that it is true (E4).
struct Attachment {
  Form form = Form::other;
  Part part = Part::owner;
  std::uint32_t index = 0;                  ///< Lane, owner slot or participant: see Form.
  std::optional<segment::Backend> backend;  ///< Nothing: not in a segment.
  segment::InstanceId instance;
  std::optional<std::uint32_t> sysv_id;
  /// Of a memfd, in the attached process: others find it as /proc/PID/fd/N.
  std::optional<std::uint32_t> descriptor;
  std::string name;   ///< As segment::Name has it; empty when there is none.
  std::string where;  ///< Printable ASCII, at most kMaxWhereBytes: a path, "memfd", a URI.

  /// As `segment` says of itself. `where` stays empty when it does not fit.
  [[nodiscard]] static Attachment of(const segment::Segment& segment, Form form, Part part,
                                     std::uint32_t index = 0);
  friend bool operator==(const Attachment&, const Attachment&) = default;
};

/// What the kernel says of the process that holds an entry.
enum class Holder : std::uint8_t {
  alive,    ///< Or not to be judged from here, as in another pid namespace.
  stopped,  ///< Alive.
  dead,     ///< Proved.
};
[[nodiscard]] std::string_view to_string(Holder holder) noexcept;

/// One entry, as found.
struct RegistryRow {
  Attachment what;
  std::int64_t since_ns = 0;  ///< CLOCK_MONOTONIC, as the holder said: perhaps not in the past.
  Holder holder = Holder::alive;
  std::uint32_t pid = 0;
  std::string command;         ///< As it called itself when it enrolled; any bytes.
  std::uint32_t registry = 0;  ///< Number of the segment,
  std::uint32_t entry = 0;     ///< and of the entry in it.
};

/// What was found. Of a live registry each entry is as it was at some instant of the call.
struct RegistryView {
  std::vector<RegistryRow> rows;
  std::uint32_t registries = 0;  ///< Segments read.
  std::uint32_t unreadable = 0;  ///< Entries held, but not described (E3).
  std::uint32_t foreign = 0;     ///< Segments of such a name that are no registry for us.
};

struct Reaped {
  std::uint32_t entries = 0;     ///< Freed.
  std::uint32_t registries = 0;  ///< Removed.
};

/// An attachment that is listed as long as this lives, or until its process ends.
///
/// Threads:  one at a time; different enrolments any.
/// Progress: leave() makes system calls and waits at most 1 s for the lock.
class Enrolment {
 public:
  Enrolment(Enrolment&& other) noexcept;
  Enrolment& operator=(Enrolment&& other) noexcept;
  ~Enrolment() { leave(); }

  /// What became of the registry.
  enum class Left : std::uint8_t { nothing, kept, removed };
  /// Gives the entry back; the last one out removes the registry.
  /// Twice, moved from, or in a forked child: nothing, the entry is the parent's.
  Left leave() noexcept;

  [[nodiscard]] std::uint32_t registry() const noexcept { return registry_; }
  [[nodiscard]] std::uint32_t entry() const noexcept { return taken_.entry; }

 private:
  friend class Registry;
  Enrolment(std::shared_ptr<detail::RegistryTable> table, std::uint32_t registry,
            detail::TakenEntry taken) noexcept;
  std::shared_ptr<detail::RegistryTable> table_;
  std::uint32_t registry_;
  detail::TakenEntry taken_;
  pid_t pid_;
};

/// The registry of one user in one place, made by the first to enroll and removed by the last to
/// leave, without a daemon. An entry is a role (base/role.h) with a description beside it: killed
/// anywhere, its holder leaves one that is held by the dead, and shown as such until somebody
/// needs it or reap() frees it. An object of this class holds nothing; it may be kept or dropped.
///
/// It can fail, and what fails is the listing alone: go on without it.
///
/// Threads:  any. A child of fork() may use its parent's.
/// Progress: system calls; enroll() and reap() wait at most 1 s for a lock, and enroll() gives up
///           after 5 s of registries that come and go.
/// Trust:    all of the registry's bytes; see look(). Names in the directory may be taken by
///           others: such a segment is passed over.
/// Source:   docs/decisions/0011-the-registry-is-a-table-of-roles.md.
class Registry {
 public:
  /// `owner` is another user only for looking, as root may.
  explicit Registry(segment::Places places = segment::Places::standard(), uid_t owner = self());

  /// Errors: invalid_argument  "name: ..", "where: ..", "attachment: ..": what cannot be listed,
  ///         full        kMaxRegistries segments of kRegistryEntries are held by the living,
  ///         timed_out   a process is stopped inside the lock, or see Progress,
  ///         permission  the registry of another user; all names are taken by others;
  ///         those of segment::draft and Draft::publish.
  /// Orders: role.take, registry.describe.
  [[nodiscard]] Result<Enrolment> enroll(const Attachment& what) const;

  /// All entries that are held. Maps read-only, takes no lock, stores nothing; where nobody is
  /// enrolled it finds nothing.
  /// Trust:  each word is loaded once, and used when the whole verifies; a bounded number of loads.
  ///         Names are names, `where` is printable, `command` is any bytes.
  /// Errors: system  no descriptor or memory to look with.
  /// Orders: role.take, registry.describe.
  [[nodiscard]] Result<RegistryView> look() const;

  /// Frees entries whose holder is proved dead, then removes registries that nobody alive uses.
  /// Errors: timed_out, as enroll; system. What was freed stays so.
  [[nodiscard]] Result<Reaped> reap() const;

  /// "slipring.registry.UID.NUMBER"
  [[nodiscard]] static std::string name_of(uid_t owner, std::uint32_t number);

 private:
  [[nodiscard]] static uid_t self() noexcept;
  segment::Places places_;
  uid_t owner_;
  std::shared_ptr<detail::RegistryState> state_;
};

/// The segment that a row speaks of: by name, by SysV id, or through its holder's descriptor.
/// Trust:  all of the row; what is opened must be the instance that it says.
/// Errors: not_found  it is gone, or another instance is in its place,
///         not_supported  the row speaks of no segment, or of a memfd without its descriptor;
///         those of Segment::open and from_fd.
[[nodiscard]] Result<segment::Segment> open_attached(
    const RegistryRow& row, segment::OpenMode mode = segment::OpenMode::read_only,
    const segment::Places& places = segment::Places::standard());

}  // namespace slipring::manager

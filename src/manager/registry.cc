// SPDX-License-Identifier: Apache-2.0
// Which segments a registry is in, who makes and removes them, and the way to what a row names.
#include "slipring/manager/registry.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <mutex>
#include <utility>

#include "slipring/base/deadline.h"
#include "slipring/manager/registry_inl.h"
#include "slipring/segment/name.h"

namespace slipring::manager {
namespace {

using segment::OpenMode;
using segment::Segment;

constexpr auto kLockWait = std::chrono::seconds(1);
constexpr auto kAppearWait = std::chrono::seconds(5);

Result<segment::Name> name_at(uid_t owner, std::uint32_t number) {
  return segment::Name::parse(Registry::name_of(owner, number));
}

// Errors: not_found; is_foreign(): not for us; others: the kernel's.
Result<Segment> open_registry(const segment::Places& places, uid_t owner, std::uint32_t number,
                              OpenMode mode) {
  const auto name = name_at(owner, number);
  if (!name) return tl::unexpected(name.error());
  auto opened = Segment::open(*name, mode, {kContentRegistry, kRegistryFingerprint}, places);
  if (opened &&
      (opened->body().size() != kRegistryBytes || opened->backend() != segment::Backend::posix)) {
    return fail(Errc::bad_format, 0, "registry: size or kind");
  }
  return opened;
}

// One look instead of an attempt in each kind: most numbers are never used.
bool is_there(const segment::Places& places, uid_t owner, std::uint32_t number) {
  const std::string path = places.shm + "/" + Registry::name_of(owner, number);
  return ::faccessat(AT_FDCWD, path.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

Result<Segment> make_registry(const segment::Places& places, uid_t owner, std::uint32_t number) {
  const auto name = name_at(owner, number);
  if (!name) return tl::unexpected(name.error());
  segment::Spec spec;
  spec.body_bytes = kRegistryBytes;
  spec.content = kContentRegistry;
  spec.fingerprint = kRegistryFingerprint;
  spec.places = places;
  auto draft = segment::draft(segment::Backend::posix, spec);
  if (!draft) return tl::unexpected(draft.error());
  return std::move(*draft).publish(*name);  // zero bytes are entries that nobody ever held
}

// Another user's, another version's, or none at all: nothing that waiting would change.
bool is_foreign(Errc code) noexcept {
  return code == Errc::permission || code == Errc::bad_format || code == Errc::type_mismatch ||
         code == Errc::not_supported;
}

}  // namespace

namespace detail {

/// One segment of a registry as this process maps it, shared by its enrolments there.
struct RegistryTable {
  explicit RegistryTable(Segment mapped) noexcept : segment(std::move(mapped)) {}
  /// Errors: segment_lost  it was removed: open it by name again; full, timed_out.
  [[nodiscard]] Result<TakenEntry> take(const DescriptionWords& words) {
    const std::lock_guard threads(mutex);
    const auto lock = segment.lock(Deadline::in(kLockWait));
    if (!lock) return tl::unexpected(lock.error());
    // Under the lock nobody removes it: what is still named now stays so until we hold an entry.
    const auto still = segment.still_named();
    if (!still) return tl::unexpected(still.error());
    if (!*still) return fail(Errc::segment_lost, 0, "registry: removed");
    return take_entry(segment.body(), words);
  }
  /// True when the segment was removed.
  [[nodiscard]] bool leave(TakenEntry taken) noexcept {
    const std::lock_guard threads(mutex);
    const auto lock = segment.lock(Deadline::in(kLockWait));
    leave_entry(segment.body(), taken);
    // Without the lock nothing is removed: a leftover is better than somebody's entry lost.
    return lock && is_deserted(segment.body()) && segment.unlink();
  }

  Segment segment;
  // The segment's lock is of the open file, and tells threads that share it from nobody.
  std::mutex mutex;
};

/// What the copies of a Registry share: mappings that its enrolments keep.
struct RegistryState {
  using Tables = std::array<std::weak_ptr<RegistryTable>, kMaxRegistries>;
  pid_t pid = ::getpid();
  std::mutex mutex;
  Tables tables;
};

namespace {

Result<std::shared_ptr<RegistryTable>> open_or_make(const segment::Places& places, uid_t owner,
                                                    std::uint32_t number, Deadline give_up) {
  // Registries come and go while we look; each turn sees one of the two.
  for (;;) {
    auto found = open_registry(places, owner, number, OpenMode::read_write);
    if (!found && found.error().code == Errc::not_found) {
      found = make_registry(places, owner, number);
      if (!found && found.error().code == Errc::exists && !give_up.passed()) continue;
    }
    if (!found) return tl::unexpected(found.error());
    return std::make_shared<RegistryTable>(std::move(*found));
  }
}

}  // namespace
}  // namespace detail

using detail::RegistryState;
using detail::RegistryTable;

Enrolment::Enrolment(std::shared_ptr<RegistryTable> table, std::uint32_t registry,
                     detail::TakenEntry taken) noexcept
    : table_(std::move(table)), registry_(registry), taken_(taken), pid_(::getpid()) {}

Enrolment::Enrolment(Enrolment&& other) noexcept
    : table_(std::move(other.table_)),
      registry_(other.registry_),
      taken_(other.taken_),
      pid_(other.pid_) {}

Enrolment& Enrolment::operator=(Enrolment&& other) noexcept {
  if (this == &other) return *this;
  leave();
  table_ = std::move(other.table_);
  registry_ = other.registry_;
  taken_ = other.taken_;
  pid_ = other.pid_;
  return *this;
}

Enrolment::Left Enrolment::leave() noexcept {
  const std::shared_ptr<RegistryTable> table = std::exchange(table_, nullptr);
  if (!table || pid_ != ::getpid()) return Left::nothing;
  return table->leave(taken_) ? Left::removed : Left::kept;
}

Registry::Registry(segment::Places places, uid_t owner)
    : places_(std::move(places)), owner_(owner), state_(std::make_shared<RegistryState>()) {}

uid_t Registry::self() noexcept { return ::geteuid(); }

// /dev/shm is common to all users, and a registry is not: it would have to be writable by all.
std::string Registry::name_of(uid_t owner, std::uint32_t number) {
  return "slipring.registry." + std::to_string(owner) + "." + std::to_string(number);
}

Result<Enrolment> Registry::enroll(const Attachment& what) const {
  if (owner_ != self()) return fail(Errc::permission, 0, "registry: of another user");
  const auto words = detail::encode_description(what, monotonic_ns());
  if (!words) return tl::unexpected(words.error());
  // A forked child shares its parent's open files, whose locks do not keep the two apart, and may
  // have found the mutex locked for ever: it opens for itself.
  RegistryState::Tables fresh;
  const bool is_mine = state_->pid == ::getpid();
  std::unique_lock threads(state_->mutex, std::defer_lock);
  if (is_mine) threads.lock();
  RegistryState::Tables& tables = is_mine ? state_->tables : fresh;

  const Deadline give_up = Deadline::in(kAppearWait);
  tl::unexpected<Error> last = fail(Errc::full, 0, "registry: entries");
  for (std::uint32_t number = 0; number < kMaxRegistries;) {
    std::shared_ptr<RegistryTable> table = tables[number].lock();
    if (!table) {
      auto opened = detail::open_or_make(places_, owner_, number, give_up);
      if (!opened && !is_foreign(opened.error().code)) return tl::unexpected(opened.error());
      if (!opened) {
        if (number == 0) last = tl::unexpected(opened.error());
        ++number;
        continue;
      }
      table = std::move(*opened);
      tables[number] = table;
    }
    const auto taken = table->take(*words);
    if (taken) return Enrolment(std::move(table), number, *taken);
    switch (taken.error().code) {
      case Errc::full:
        last = tl::unexpected(taken.error());
        ++number;
        break;
      case Errc::segment_lost:
        tables[number].reset();
        if (give_up.passed()) return fail(Errc::timed_out, 0, "registry: comes and goes");
        break;
      default: return tl::unexpected(taken.error());
    }
  }
  return last;
}

Result<RegistryView> Registry::look() const {
  RegistryView view;
  // There may be holes: each segment is removed by the last one out of it.
  for (std::uint32_t number = 0; number < kMaxRegistries; ++number) {
    if (!is_there(places_, owner_, number)) continue;
    const auto found = open_registry(places_, owner_, number, OpenMode::read_only);
    if (found) {
      ++view.registries;
      detail::read_entries(found->body(), number, view);
    } else if (is_foreign(found.error().code)) {
      ++view.foreign;
    } else if (found.error().code != Errc::not_found) {
      return tl::unexpected(found.error());
    }
  }
  return view;
}

Result<Reaped> Registry::reap() const {
  Reaped reaped;
  if (owner_ != self()) return fail(Errc::permission, 0, "registry: of another user");
  for (std::uint32_t number = 0; number < kMaxRegistries; ++number) {
    if (!is_there(places_, owner_, number)) continue;
    auto found = open_registry(places_, owner_, number, OpenMode::read_write);
    if (!found) {
      if (found.error().code == Errc::not_found || is_foreign(found.error().code)) continue;
      return tl::unexpected(found.error());
    }
    const auto lock = found->lock(Deadline::in(kLockWait));
    if (!lock) return tl::unexpected(lock.error());
    reaped.entries += detail::reap_entries(found->body());
    if (detail::is_deserted(found->body()) && found->unlink()) ++reaped.registries;
  }
  return reaped;
}

namespace {

// A memfd has no name but the one that the kernel gives to its holder's descriptor.
Result<Segment> open_descriptor(const RegistryRow& row, OpenMode mode, segment::Expect expect) {
  const std::string path =
      "/proc/" + std::to_string(row.pid) + "/fd/" + std::to_string(*row.what.descriptor);
  struct stat st {};
  // TRUST: the number may be of anything by now. Only a regular file is opened: opening a device or
  // a FIFO can do something.
  if (::stat(path.c_str(), &st) != 0) return fail_errno("open descriptor");
  if (!S_ISREG(st.st_mode)) return fail(Errc::not_found, 0, "attachment: another instance");
  const int access = mode == OpenMode::read_only ? O_RDONLY : O_RDWR;
  UniqueFd fd{::open(path.c_str(), access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)};
  if (!fd) return fail_errno("open descriptor");
  return Segment::from_fd(std::move(fd), mode, expect);
}

Result<Segment> open_any(const RegistryRow& row, OpenMode mode, const segment::Places& places) {
  const Attachment& what = row.what;
  if (!what.backend) return fail(Errc::not_supported, 0, "attachment: no segment");
  if (*what.backend == segment::Backend::memfd) {
    if (!what.descriptor) return fail(Errc::not_supported, 0, "attachment: no descriptor");
    return open_descriptor(row, mode, {});
  }
  if (what.name.empty() && what.sysv_id) {
    return Segment::open_sysv_id(static_cast<int>(*what.sysv_id), mode);
  }
  const auto name = segment::Name::parse(what.name);
  if (!name) return fail(Errc::not_supported, 0, "attachment: no name");
  return Segment::open(*name, mode, {}, places);
}

}  // namespace

Result<Segment> open_attached(const RegistryRow& row, OpenMode mode,
                              const segment::Places& places) {
  auto opened = open_any(row, mode, places);
  if (opened && opened->info().instance != row.what.instance) {
    return fail(Errc::not_found, 0, "attachment: another instance");
  }
  return opened;
}

}  // namespace slipring::manager

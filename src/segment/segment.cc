// SPDX-License-Identifier: Apache-2.0
#include "slipring/segment/segment.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "object.h"
#include "slipring/base/align.h"

namespace slipring::segment {
namespace detail {

void ObjectDeleter::operator()(Object* object) const noexcept { delete object; }

Object::~Object() {
  if (drafted_by == 0 || drafted_by != ::getpid()) return;
  if (shmid != -1) undo_sysv(shmid);
  if (!temp.empty() && place) {
    if (const auto dir = open_dir(place->dir, place->private_dir, false)) {
      ::unlinkat(dir->get(), temp.c_str(), 0);
    }
  }
}

namespace {

// The one look at the wall clock: a time for people, which nothing is decided by.
std::int64_t wall_clock_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

Result<InstanceId> draw_instance() {
  InstanceId id;
  for (std::uint64_t* half : {&id.high, &id.low}) {
    // Requests of up to 256 bytes are filled whole.
    if (retry_eintr([&] { return ::getrandom(half, sizeof *half, 0); }) != sizeof *half) {
      return fail_errno("getrandom");
    }
  }
  return id;
}

Result<void> check_spec(Backend backend, const Spec& spec) {
  if (spec.body_bytes == 0) return fail(Errc::invalid_argument, 0, "size");
  // Headroom for header and rounding, so that no sum below can wrap or pass off_t.
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
  const std::uint64_t unit = spec.huge_page_bytes;
  if (unit != 0 && (!is_power_of_two(unit) || unit < kHeaderBytes || unit > kMost / 4)) {
    return fail(Errc::invalid_argument, 0, "huge pages: size");
  }
  if (spec.body_bytes > kMost / 2) return fail(Errc::too_large, EFBIG, "size");
  if ((spec.mode & ~mode_t{0660}) != 0) return fail(Errc::invalid_argument, 0, "mode");
  if (spec.sysv_key && (backend != Backend::sysv || *spec.sysv_key == 0)) {
    return fail(Errc::invalid_argument, 0, "sysv: key");
  }
  if (spec.seal_future_write && backend != Backend::memfd) {
    return fail(Errc::invalid_argument, 0, "seals");
  }
  if (spec.numa_node < -1) return fail(Errc::invalid_argument, 0, "mbind");
  if (spec.numa_node >= 0 && backend == Backend::file) {
    return fail(Errc::not_supported, 0, "mbind");  // the page cache of a file has no policy
  }
  return {};
}

bool entry_exists(int dir_fd, const std::string& entry) {
  struct stat st {};
  return ::fstatat(dir_fd, entry.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0;
}

// Exists when any kind has the name. A SysV link whose segment is gone is taken away.
Result<void> check_free(const Places& places, int files, const std::string& name) {
  const Result<UniqueFd> shm = open_dir(places.shm, false, false);
  if (shm && entry_exists(shm->get(), posix_place(places, name).entry)) {
    return fail(Errc::exists, EEXIST, "publish");
  }
  if (files < 0) return {};
  if (entry_exists(files, file_place(places, name).entry)) {
    return fail(Errc::exists, EEXIST, "publish");
  }
  const Result<bool> free = remove_stale_link(files, sysv_place(places, name).entry);
  if (!free) return tl::unexpected(free.error());
  return *free ? Result<void>{} : fail(Errc::exists, EEXIST, "publish");
}

Result<void> link_name(const Object& draft, const Place& place, int files) {
  if (draft.backend == Backend::sysv) return link_sysv(draft, files, place.entry);
  const Result<UniqueFd> dir = open_dir(place.dir, place.private_dir, false);
  if (!dir) return tl::unexpected(dir.error());
  return give_name(dir->get(), draft.fd.get(), draft.temp, place.entry);
}

// The files directory with the lock of its names. Empty when it does not exist and need not:
// then no other kind has any name.
Result<FileLock> lock_names(const Places& places, bool make) {
  Result<UniqueFd> files = open_dir(places.files, true, make);
  if (!files) {
    if (!make && files.error().code == Errc::not_found) return FileLock();
    return tl::unexpected(files.error());
  }
  return FileLock::take(std::move(*files));
}

}  // namespace
}  // namespace detail

using detail::Object;

Result<Draft> draft(Backend backend, const Spec& spec) {
  if (auto ok = detail::check_spec(backend, spec); !ok) return tl::unexpected(ok.error());
  const Result<InstanceId> instance = detail::draw_instance();
  if (!instance) return tl::unexpected(instance.error());
  detail::ObjectPtr object(new Object);
  object->drafted_by = ::getpid();
  object->backend = backend;
  object->places = spec.places;
  object->seal_future_write = spec.seal_future_write;
  HeaderInfo& info = object->info;
  info.page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  info.huge_page_bytes = spec.huge_page_bytes;
  info.content = spec.content;
  info.fingerprint = spec.fingerprint;
  info.instance = *instance;
  info.body_bytes = spec.body_bytes;
  info.total_bytes =
      align_up(kHeaderBytes + spec.body_bytes, std::max(info.page_bytes, spec.huge_page_bytes));
  info.backend = backend;
  info.keep = spec.keep;
  info.mode = spec.mode;
  info.created_ns = detail::wall_clock_ns();
  info.creator = self_token();

  Result<void> made = fail(Errc::invalid_argument, 0, "backend");
  switch (backend) {
    case Backend::posix: made = detail::draft_posix(*object, spec); break;
    case Backend::sysv: made = detail::draft_sysv(*object, spec); break;
    case Backend::memfd: made = detail::draft_memfd(*object, spec); break;
    case Backend::file:
      made = detail::draft_file(*object, detail::file_place(spec.places, {}), spec);
      break;
  }
  if (!made) return tl::unexpected(made.error());
  // Without magic, but with its creator: a SysV id that a killed creator leaves can be judged.
  store_header(object->mapping.header(), encode_header(info));
  return Draft(std::move(object));
}

std::span<std::byte> Draft::body() const noexcept {
  return {object_->mapping.data() + kHeaderBytes,
          static_cast<std::size_t>(object_->info.body_bytes)};
}
const HeaderInfo& Draft::info() const noexcept { return object_->info; }

Result<Segment> Draft::publish(const Name& name) && {
  Object& object = *object_;
  if (object.backend == Backend::memfd) {
    return fail(Errc::not_supported, 0, "publish: a memfd has no name");
  }
  // Two creators of one name in two kinds would not meet at linkat; they meet here. A posix
  // segment does not make the directory for it: while there is none, posix names are alone.
  const Result<detail::FileLock> names =
      detail::lock_names(object.places, object.backend != Backend::posix);
  if (!names) return tl::unexpected(names.error());
  const int files = names->fd();
  if (auto ok = detail::check_free(object.places, files, name.str()); !ok) {
    return tl::unexpected(ok.error());
  }
  detail::Place place =
      object.backend == Backend::posix  ? detail::posix_place(object.places, name.str())
      : object.backend == Backend::file ? detail::file_place(object.places, name.str())
                                        : detail::sysv_place(object.places, name.str());
  object.info.name = name.str();
  store_header(object.mapping.header(), encode_header(object.info));
  store_magic(object.mapping.header());
  if (auto ok = detail::link_name(object, place, files); !ok) {
    return tl::unexpected(ok.error().code == Errc::exists ? Error{Errc::exists, EEXIST, "publish"}
                                                          : ok.error());
  }
  object.place = std::move(place);
  object.temp.clear();
  object.drafted_by = 0;
  return Segment(std::move(object_));
}

Result<Segment> Draft::publish() && {
  Object& object = *object_;
  if (object.backend != Backend::memfd && object.backend != Backend::sysv) {
    return fail(Errc::invalid_argument, 0, "publish: a name is needed");
  }
  if (object.backend == Backend::memfd) {
    if (auto ok = detail::seal_memfd(object); !ok) return tl::unexpected(ok.error());
  }
  store_magic(object.mapping.header());
  object.drafted_by = 0;
  return Segment(std::move(object_));
}

Result<Segment> Segment::open(const Name& name, OpenMode mode, Expect expect,
                              const Places& places) {
  const auto posix = detail::posix_place(places, name.str());
  Result<detail::ObjectPtr> object = detail::open_file(posix, Backend::posix, mode, expect);
  if (!object && object.error().code == Errc::not_found) {
    const auto file = detail::file_place(places, name.str());
    object = detail::open_file(file, Backend::file, mode, expect);
  }
  if (!object && object.error().code == Errc::not_found) {
    object = detail::open_sysv_link(detail::sysv_place(places, name.str()), mode, expect);
  }
  if (!object) return tl::unexpected(object.error());
  return Segment(std::move(*object));
}

Result<Segment> Segment::open_sysv_id(int shmid, OpenMode mode, Expect expect) {
  Result<detail::ObjectPtr> object = detail::open_sysv(shmid, mode, expect, false);
  if (!object) return tl::unexpected(object.error());
  return Segment(std::move(*object));
}

Result<Segment> Segment::open_sysv_key(key_t key, OpenMode mode, Expect expect) {
  Result<detail::ObjectPtr> object = detail::open_sysv_key(key, mode, expect);
  if (!object) return tl::unexpected(object.error());
  return Segment(std::move(*object));
}

Result<Segment> Segment::from_fd(UniqueFd fd, OpenMode mode, Expect expect) {
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags == -1) return fail_errno("from_fd");
  if (mode == OpenMode::read_only && (flags & O_ACCMODE) == O_RDWR) {
    // A writable descriptor would let anybody in this process turn the mapping writable again.
    const std::string self = "/proc/self/fd/" + std::to_string(fd.get());
    struct stat st {};
    if (::fstat(fd.get(), &st) == 0 && S_ISREG(st.st_mode)) {
      if (UniqueFd weaker{::open(self.c_str(), O_RDONLY | O_CLOEXEC)}) fd = std::move(weaker);
    }
  }
  Result<detail::ObjectPtr> object = detail::attach_fd(std::move(fd), mode, expect);
  if (!object) return tl::unexpected(object.error());
  if (auto ok = detail::check_seals((*object)->fd.get(), (*object)->backend); !ok) {
    return tl::unexpected(ok.error());
  }
  return Segment(std::move(*object));
}

std::span<std::byte> Segment::body() const noexcept {
  return {object_->mapping.data() + kHeaderBytes,
          static_cast<std::size_t>(object_->info.body_bytes)};
}
const HeaderInfo& Segment::info() const noexcept { return object_->info; }
Backend Segment::backend() const noexcept { return object_->backend; }
OpenMode Segment::mode() const noexcept { return object_->mode; }
int Segment::fd() const noexcept { return object_->fd.get(); }
std::optional<int> Segment::sysv_id() const noexcept {
  return object_->shmid == -1 ? std::nullopt : std::optional(object_->shmid);
}

std::string Segment::where() const {
  if (object_->backend == Backend::sysv) return "sysv id " + std::to_string(object_->shmid);
  if (object_->place) return object_->place->path();
  return object_->backend == Backend::memfd ? "memfd" : "descriptor";
}

Result<bool> Segment::still_named() const {
  if (object_->backend == Backend::sysv) return detail::sysv_still_named(*object_);
  if (!object_->place) return false;
  return detail::leads_to(*object_->place, object_->fd.get());
}

Result<void> Segment::unlink() {
  if (object_->backend == Backend::sysv) return detail::unlink_sysv(*object_);
  if (!object_->place) return fail(Errc::not_found, 0, "unlink: no name");
  return detail::remove_entry(*object_->place, object_->fd.get());
}

Result<void> remove_stale(const Name& name, const Places& places) {
  const Result<UniqueFd> files = detail::open_dir(places.files, true, false);
  if (!files) return tl::unexpected(files.error());
  const std::string entry = detail::sysv_place(places, name.str()).entry;
  if (!detail::entry_exists(files->get(), entry)) return fail(Errc::not_found, ENOENT, "unlink");
  const Result<bool> removed = detail::remove_stale_link(files->get(), entry);
  if (!removed) return tl::unexpected(removed.error());
  return *removed ? Result<void>{} : fail(Errc::in_use, 0, "sysv: link is not stale");
}

}  // namespace slipring::segment

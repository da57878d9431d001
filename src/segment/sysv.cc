// SPDX-License-Identifier: Apache-2.0
// System V segments. They have numbers, not names, and no way to be made complete before others
// can find them. So a named one is IPC_PRIVATE, and its name is a small file that appears, whole,
// when the segment is; one with a known key is found half-made, and its openers wait.
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <bit>
#include <chrono>

#include "object.h"
#include "slipring/base/deadline.h"
#include "sysv_link.h"

#ifndef SHM_HUGE_SHIFT
#define SHM_HUGE_SHIFT 26
#endif

namespace slipring::segment {

Result<key_t> sysv_key_of(const std::string& path, int project) {
  if ((project & 0xff) == 0) return fail(Errc::invalid_argument, 0, "ftok: project");
  const key_t key = ::ftok(path.c_str(), project);
  if (key == -1) return fail_errno("ftok");
  return key;
}

namespace detail {
namespace {

Result<shmid_ds> status(int shmid) {
  shmid_ds ds{};
  if (::shmctl(shmid, IPC_STAT, &ds) == 0) return ds;
  if (errno == EINVAL || errno == EIDRM) return fail(Errc::not_found, errno, "shmctl");
  return fail_errno("shmctl");
}

bool removed(const shmid_ds& ds) noexcept { return (ds.shm_perm.mode & SHM_DEST) != 0; }

// Loads until the magic is there, its creator is proved dead, or a second has passed.
Result<HeaderWords> await_magic(const SegmentHeader& header, const shmid_ds& ds) {
  using namespace std::chrono_literals;
  const Deadline deadline = Deadline::in(1s);
  for (;;) {
    // The verdict first: what a dead creator stored is visible to the load that follows.
    const Verdict creator = look_at_pid(static_cast<std::uint32_t>(ds.shm_cpid));
    const HeaderWords words = load_header(header);
    if (words.magic != 0) return words;
    if (creator == Verdict::dead) return fail(Errc::bad_format, 0, "sysv: creator died");
    if (deadline.passed()) return words;
    const timespec pause{0, 1'000'000};
    ::nanosleep(&pause, nullptr);
  }
}

}  // namespace

Result<void> draft_sysv(Object& draft, const Spec& spec) {
  if (auto ok = spec.huge_page_bytes == 0 ? check_memory(draft.info.total_bytes) : Result<void>{};
      !ok) {
    return ok;
  }
  int flags = IPC_CREAT | IPC_EXCL | static_cast<int>(spec.mode);
  if (spec.huge_page_bytes != 0) {
    flags |= SHM_HUGETLB | std::countr_zero(spec.huge_page_bytes) << SHM_HUGE_SHIFT;
  }
  draft.shmid = ::shmget(spec.sysv_key.value_or(IPC_PRIVATE), draft.info.total_bytes, flags);
  if (draft.shmid == -1) {
    // EINVAL: beyond shmmax; with huge pages also a size that the machine does not have.
    if (errno == EINVAL && spec.huge_page_bytes == 0)
      return fail(Errc::too_large, EINVAL, "shmget");
    if (errno == EINVAL) return fail(Errc::not_supported, EINVAL, "shmget");
    return fail_errno("shmget");
  }
  draft.key = spec.sysv_key;
  if (spec.group) {
    Result<shmid_ds> ds = status(draft.shmid);
    if (!ds) return tl::unexpected(ds.error());
    ds->shm_perm.gid = *spec.group;
    if (::shmctl(draft.shmid, IPC_SET, &*ds) != 0) return fail_errno("shmctl IPC_SET");
  }
  Result<Mapping> mapping = Mapping::of_sysv(draft.shmid, OpenMode::read_write);
  if (!mapping) return tl::unexpected(mapping.error());
  draft.mapping = std::move(*mapping);
  if (auto ok = bind_node(draft.mapping, spec.numa_node); !ok) return ok;
  // There is no fallocate for it: populating is the only way to have the pages now.
  if (auto ok = populate(draft.mapping); !ok) return ok;
  return spec.lock ? lock_pages(draft.mapping) : Result<void>{};
}

void undo_sysv(int shmid) noexcept { ::shmctl(shmid, IPC_RMID, nullptr); }

Result<ObjectPtr> open_sysv(int shmid, OpenMode mode, const Expect& expect, bool wait_for_magic) {
  Result<Mapping> mapping = Mapping::of_sysv(shmid, mode);
  if (!mapping) return tl::unexpected(mapping.error());
  // Asked only now: while we are attached the id means this segment and no other.
  const Result<shmid_ds> ds = status(shmid);
  if (!ds) return tl::unexpected(ds.error());
  if (removed(*ds)) return fail(Errc::not_found, 0, "sysv: removed");
  if (auto ok = check_owner(ds->shm_perm.uid, ds->shm_perm.gid, ds->shm_perm.mode & 0777, mode);
      !ok) {
    return tl::unexpected(ok.error());
  }
  if (mapping->size() < kHeaderBytes) return fail(Errc::bad_format, 0, "header: truncated");
  const Result<HeaderWords> words = wait_for_magic
                                        ? await_magic(mapping->header(), *ds)
                                        : Result<HeaderWords>(load_header(mapping->header()));
  if (!words) return tl::unexpected(words.error());
  Result<HeaderInfo> info = check_header(*words, mapping->size(), mode, expect);
  if (!info) return tl::unexpected(info.error());
  if (info->backend != Backend::sysv) return fail(Errc::bad_format, 0, "header: backend");
  ObjectPtr object(new Object);
  object->backend = Backend::sysv;
  object->mode = mode;
  object->shmid = shmid;
  object->mapping = std::move(*mapping);
  object->info = std::move(*info);
  return object;
}

Result<ObjectPtr> open_sysv_key(key_t key, OpenMode mode, const Expect& expect) {
  // shmget would make a new segment of it.
  if (key == IPC_PRIVATE) return fail(Errc::invalid_argument, 0, "sysv: key");
  const int shmid = ::shmget(key, 0, 0);
  if (shmid == -1) return fail_errno("shmget");
  Result<ObjectPtr> object = open_sysv(shmid, mode, expect, true);
  if (object) (*object)->key = key;
  return object;
}

Result<ObjectPtr> open_sysv_link(const Place& place, OpenMode mode, const Expect& expect) {
  const Result<UniqueFd> dir = open_dir(place.dir, place.private_dir, false);
  if (!dir) return tl::unexpected(dir.error());
  const Result<SysvLink> link = read_link(dir->get(), place.entry);
  if (!link) return tl::unexpected(link.error());
  // Before anything else of it is judged: a reused number holds somebody else's memory.
  if (!is_alive(*link)) return fail(Errc::not_found, 0, "sysv: stale link");
  Result<ObjectPtr> object = open_sysv(link->shmid, mode, expect, false);
  if (!object) return object;
  if ((*object)->info.instance != link->instance) {
    return fail(Errc::not_found, 0, "sysv: stale link");
  }
  (*object)->place = place;
  return object;
}

Result<bool> sysv_still_named(const Object& object) {
  const Result<shmid_ds> ds = status(object.shmid);
  if (!ds) return tl::unexpected(ds.error());
  if (removed(*ds)) return false;
  if (object.place) {
    const Result<UniqueFd> dir = open_dir(object.place->dir, object.place->private_dir, false);
    if (!dir) return tl::unexpected(dir.error());
    const Result<SysvLink> link = read_link(dir->get(), object.place->entry);
    if (!link && link.error().code != Errc::not_found) return tl::unexpected(link.error());
    return link && link->shmid == object.shmid && link->instance == object.info.instance;
  }
  if (object.key) return ::shmget(*object.key, 0, 0) == object.shmid;
  return true;  // its id is all the name it has
}

Result<void> unlink_sysv(const Object& object) {
  const Result<shmid_ds> ds = status(object.shmid);
  if (!ds) return tl::unexpected(ds.error());
  UniqueFd dir;
  FileLock lock;
  if (object.place) {
    Result<UniqueFd> opened = open_dir(object.place->dir, object.place->private_dir, false);
    if (!opened) return tl::unexpected(opened.error());
    dir = std::move(*opened);
    const Result<SysvLink> link = read_link(dir.get(), object.place->entry);
    if (!link) return tl::unexpected(link.error());
    if (link->shmid != object.shmid || link->instance != object.info.instance) {
      return fail(Errc::not_found, 0, "unlink: another instance");
    }
    Result<FileLock> taken = lock_entry(dir.get(), object.place->entry, link->st);
    if (!taken) return tl::unexpected(taken.error());
    lock = std::move(*taken);
  } else if (removed(*ds)) {
    return fail(Errc::not_found, 0, "sysv: removed");
  }
  // The segment first: killed in between, we leave a stale link, which anyone can replace, and not
  // memory that nobody can name. We are attached, so the id cannot have changed its meaning.
  if (::shmctl(object.shmid, IPC_RMID, nullptr) != 0) return fail_errno("shmctl IPC_RMID");
  if (dir && ::unlinkat(dir.get(), object.place->entry.c_str(), 0) != 0)
    return fail_errno("unlink");
  return {};
}

}  // namespace detail
}  // namespace slipring::segment

// SPDX-License-Identifier: Apache-2.0
#include "slipring/wait/primitive.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "kinds.h"

namespace slipring::wait {
namespace {

constexpr std::array<std::string_view, kBellKinds> kNames = {"futex",   "posix_sem", "sysv_sem",
                                                             "condvar", "eventfd",   "signal"};
constexpr std::uint64_t kMagic = 0x534c424c;  // "SLBL"

}  // namespace

std::string_view to_string(BellKind kind) noexcept {
  const auto i = static_cast<std::size_t>(kind);
  return i < kNames.size() ? kNames[i] : "bad";
}

std::optional<BellKind> parse_bell_kind(std::string_view text) noexcept {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (text == kNames[i]) return static_cast<BellKind>(i);
  }
  return std::nullopt;
}

bool is_kill_safe(BellKind kind) noexcept { return kind != BellKind::condvar; }
bool trusts_peer(BellKind kind) noexcept {
  return kind == BellKind::posix_sem || kind == BellKind::condvar;
}
bool has_fd(BellKind kind) noexcept {
  return kind == BellKind::eventfd || kind == BellKind::signal;
}

Result<void> remove_leftovers(BellStore& store) noexcept {
  const auto seen = detail::read_store(store);
  if (!seen) return tl::unexpected(seen.error());
  if (!*seen) return {};
  if ((*seen)->kind == BellKind::sysv_sem) detail::remove_sysv_leftover(**seen);
  detail::clear_store(store);
  return {};
}

namespace detail {
namespace {

StoreWords& words_of(const BellStore& store) noexcept {
  return *reinterpret_cast<StoreWords*>(const_cast<std::byte*>(store.bytes));
}

bool needs_store(BellKind kind) noexcept {
  return kind != BellKind::futex && kind != BellKind::eventfd;
}

}  // namespace

Result<std::optional<StoreSeen>> read_store(const BellStore& store) noexcept {
  const StoreWords& words = words_of(store);
  // SYNC doorbell.store (acquire <- release in publish_store): the object is complete.
  const std::uint64_t tag = NativeAccess::load_acquire(words.tag);
  if (tag == 0) return std::nullopt;
  // TRUST: the sleeper's word. Magic, zeros and kind are checked; the rest is a number.
  const std::uint64_t kind = tag & 0xffff;
  if (tag >> 32 != kMagic || kind >= kBellKinds) return fail(Errc::bad_format, 0, "doorbell");
  return StoreSeen{static_cast<BellKind>(kind), static_cast<std::uint16_t>(tag >> 16),
                   NativeAccess::load_relaxed(words.object),
                   NativeAccess::load_relaxed(words.proof)};
}

void publish_store(BellStore& store, BellKind kind, std::uint16_t generation, std::uint64_t object,
                   std::uint64_t proof) noexcept {
  StoreWords& words = words_of(store);
  NativeAccess::store_relaxed(words.object, object);
  NativeAccess::store_relaxed(words.proof, proof);
  // SYNC doorbell.store (release -> acquire in read_store): whoever sees the tag may use the
  // object.
  NativeAccess::store_release(
      words.tag, kMagic << 32 | std::uint64_t{generation} << 16 | static_cast<std::uint64_t>(kind));
}

void clear_store(BellStore& store) noexcept { NativeAccess::store_release(words_of(store).tag, 0); }

std::byte* room(BellStore& store, std::uint16_t generation) noexcept {
  return store.bytes + kRoomOffset + kRoomSlot * (generation % kRoomSlots);
}

bool moved(const SharedWord<std::uint32_t>& seq, std::uint32_t seen) noexcept {
  // SYNC doorbell.ring (acquire <- release in Ringer::ring): what the ring announces is visible.
  return NativeAccess::load_acquire(seq) != seen;
}

void nap_until(Deadline until) noexcept {
  const timespec at = until.to_timespec();
  while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr) == EINTR) {
  }
}

void doze(Deadline until) noexcept {
  nap_until(until.or_earlier(Deadline::in(std::chrono::milliseconds(1))));
}

timespec left_until(Deadline until) noexcept {
  return Deadline::at_ns(std::max<std::int64_t>(until.ns() - monotonic_ns(), 0)).to_timespec();
}

void poll_until(int fd, Deadline until) noexcept {
  pollfd entry{fd, POLLIN, 0};
  const timespec left = left_until(until);
  ::ppoll(&entry, 1, &left, nullptr);
}

int this_process() noexcept { return static_cast<int>(::getpid()); }

Result<std::unique_ptr<SleepPrimitive>> make_sleep_primitive(BellKind kind, BellStore* store,
                                                             SleeperOptions& options) noexcept {
  if (store == nullptr && needs_store(kind))
    return fail(Errc::invalid_argument, 0, "doorbell store");
  std::uint16_t generation = 0;
  if (store != nullptr) {
    const auto before = read_store(*store);
    if (!before) return tl::unexpected(before.error());
    if (*before) {
      // A sleeper that left in order has cleared the tag: this one was killed.
      generation = (*before)->generation;
      if ((*before)->kind == BellKind::sysv_sem) remove_sysv_leftover(**before);
    }
    ++generation;
  }
  switch (kind) {
    case BellKind::futex: return make_futex_sleep(store, generation);
    case BellKind::posix_sem: return make_posix_sem_sleep(*store, generation);
    case BellKind::sysv_sem: return make_sysv_sem_sleep(*store, generation);
    case BellKind::condvar: return make_condvar_sleep(*store, generation);
    case BellKind::eventfd:
      return make_eventfd_sleep(store, generation, std::move(options.eventfd));
    case BellKind::signal: return make_signal_sleep(*store, generation, options.signal);
  }
  return fail(Errc::invalid_argument, 0, "doorbell kind");
}

Result<std::unique_ptr<WakePrimitive>> make_wake_primitive(BellKind kind, BellStore* store,
                                                           RingerOptions& options) noexcept {
  if (store == nullptr && needs_store(kind))
    return fail(Errc::invalid_argument, 0, "doorbell store");
  if (store != nullptr) {
    const auto there = read_store(*store);
    if (!there) return tl::unexpected(there.error());
    if (*there && (*there)->kind != kind) return fail(Errc::bad_format, 0, "doorbell kind");
  }
  switch (kind) {
    case BellKind::futex: return make_futex_wake();
    case BellKind::posix_sem: return make_posix_sem_wake(*store);
    case BellKind::sysv_sem: return make_sysv_sem_wake(*store);
    case BellKind::condvar: return make_condvar_wake(*store);
    case BellKind::eventfd: return make_eventfd_wake(std::move(options.eventfd));
    case BellKind::signal: return make_signal_wake(*store, options.signal, options.sleeper);
  }
  return fail(Errc::invalid_argument, 0, "doorbell kind");
}

}  // namespace detail
}  // namespace slipring::wait

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "slipring/base/deadline.h"
#include "slipring/base/process.h"
#include "slipring/base/result.h"
#include "slipring/base/shared_access.h"
#include "slipring/base/unique_fd.h"

namespace slipring::wait {

/// What a sleeper sleeps in. The protocol of tickets is the same for all: docs/doorbell.md.
enum class BellKind : std::uint8_t {
  futex = 0,      ///< The default. Needs no room in the store.
  posix_sem = 1,  ///< sem_t in the store.
  sysv_sem = 2,   ///< A private semaphore set, its id in the store.
  condvar = 3,    ///< Process-shared mutex and condition variable. **Not kill-safe.**
  eventfd = 4,    ///< A descriptor that both sides were given. Fit for epoll.
  signal = 5,     ///< A real-time signal, read through signalfd. Fit for epoll.
};
inline constexpr int kBellKinds = 6;

[[nodiscard]] std::string_view to_string(BellKind kind) noexcept;
[[nodiscard]] std::optional<BellKind> parse_bell_kind(std::string_view text) noexcept;
/// True when a peer killed at any instruction blocks nobody: all but condvar.
[[nodiscard]] bool is_kill_safe(BellKind kind) noexcept;
/// True when libc keeps state in the store that it believes: posix_sem, condvar. A hostile peer can
/// abort this process through the first, and write to its memory through the second.
[[nodiscard]] bool trusts_peer(BellKind kind) noexcept;
/// True when the sleeper has a descriptor for epoll: eventfd and signal.
[[nodiscard]] bool has_fd(BellKind kind) noexcept;

/// Room in a segment for the kernel objects of a doorbell; zero bytes before the first attach.
/// The sleeper makes and removes what lies here. Its one writer is the sleeper, except that
/// sem_t, mutex and condition variable are stored to by both sides, by libc's own protocols.
/// Bytes: docs/doorbell.md#store.
struct BellStore {
  alignas(64) std::byte bytes[512];
};
static_assert(sizeof(BellStore) == 512 && alignof(BellStore) == 64);

/// Whether to use membarrier where the kernel has it.
enum class FenceChoice : std::uint8_t {
  automatic,  ///< Asymmetric when the kernel agrees.
  symmetric,  ///< Never membarrier: for machines whose other CPUs must not be interrupted.
};

struct RingerOptions {
  FenceChoice fence = FenceChoice::automatic;
  bool one_of_many = false;  ///< Others ring this sleeper, too; it was attached with many_ringers.
  UniqueFd eventfd;          ///< Kind eventfd: the sleeper's, however it came here.
  ProcessToken sleeper;  ///< Kind signal: whom to signal. pid 0: told later, by expect_sleeper().
  int signal = 0;        ///< Kind signal: as the sleeper chose. 0: SIGRTMIN + 3.
};

struct SleeperOptions {
  FenceChoice fence = FenceChoice::automatic;
  /// Longest park while the fences pair. Longer than kMaxPark (50 ms) is for tests that want a
  /// lost wake-up to hang.
  std::chrono::milliseconds max_park{50};
  bool never_parks = false;  ///< A promise to spin: a symmetric ringer then needs no fence.
  /// More than one process rings. No single word then tells how they fence: without membarrier on
  /// this side every park is bounded by kUnfencedPark.
  bool many_ringers = false;
  UniqueFd eventfd;                ///< Kind eventfd: see make_eventfd().
  int signal = 0;                  ///< Kind signal. 0: SIGRTMIN + 3. One sleeper per number.
  std::uint64_t first_number = 0;  ///< Of the first sleep. 0: the clock's, unlike any before.
};

/// Removes the kernel objects that a killed sleeper left. For reapers and `rm`: the next sleeper
/// does it itself. The caller has proved the sleeper dead. Errors: bad_format  not a store.
[[nodiscard]] Result<void> remove_leftovers(BellStore& store) noexcept;

/// A descriptor fit for BellKind::eventfd: non-blocking, closed on exec.
[[nodiscard]] Result<UniqueFd> make_eventfd() noexcept;

namespace detail {

/// The sleeping half of a kind. Cold: called once the ticket is out.
class SleepPrimitive {
 public:
  SleepPrimitive() = default;
  SleepPrimitive(const SleepPrimitive&) = delete;
  SleepPrimitive& operator=(const SleepPrimitive&) = delete;
  virtual ~SleepPrimitive() = default;  ///< Removes nothing: see detach().

  /// Takes away wakes that came too late for an earlier ticket, so that none piles up.
  /// Called before `seq` is read for the next one.
  virtual void drain() noexcept {}
  /// Returns when `seq` is not `seen` (true) or `until` has passed (false). Adds to `spurious`
  /// each return of the kernel that was neither.
  virtual bool sleep(const SharedWord<std::uint32_t>& seq, std::uint32_t seen, Deadline until,
                     std::uint64_t& spurious) noexcept = 0;
  virtual int fd() const noexcept { return -1; }
  /// Removes the kernel objects. Called once, by the process that attached.
  virtual void detach() noexcept {}
};

/// The waking half of a kind. Cold: called once per ticket.
class WakePrimitive {
 public:
  WakePrimitive() = default;
  WakePrimitive(const WakePrimitive&) = delete;
  WakePrimitive& operator=(const WakePrimitive&) = delete;
  virtual ~WakePrimitive() = default;

  /// Wakes the sleeper after `seq` moved. False when it could not be: the store names no object
  /// of this kind, or the kernel refused. The bounded park then ends the sleep.
  virtual bool wake(const SharedWord<std::uint32_t>& seq) noexcept = 0;
  virtual void expect_sleeper(const ProcessToken&) noexcept {}
};

[[nodiscard]] Result<std::unique_ptr<SleepPrimitive>> make_sleep_primitive(
    BellKind kind, BellStore* store, SleeperOptions& options) noexcept;
[[nodiscard]] Result<std::unique_ptr<WakePrimitive>> make_wake_primitive(
    BellKind kind, BellStore* store, RingerOptions& options) noexcept;

/// Sleeps without touching shared memory, for handles that must not park.
void nap_until(Deadline until) noexcept;
/// The process that runs; getpid() without a library's cache.
[[nodiscard]] int this_process() noexcept;

}  // namespace detail
}  // namespace slipring::wait

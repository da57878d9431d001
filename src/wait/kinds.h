// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <optional>

#include "slipring/wait/primitive.h"

// Inside of the layer: what the kinds share, and how primitive.cc finds them.
namespace slipring::wait::detail {

/// The words at the start of a BellStore; all are stored by the sleeper.
///   tag  |63            32|31        16|15    8|7     0|
///        |  "SLBL"        | generation | zero  | kind  |   0: no sleeper is attached
/// The object that they describe is complete when the tag is seen.
struct StoreWords {
  SharedWord<std::uint64_t> tag;
  SharedWord<std::uint64_t> object;  ///< SysV: the id. Signal: pid | number << 32.
  SharedWord<std::uint64_t> proof;   ///< SysV: the set's change time.
};
inline constexpr std::size_t kRoomOffset = 64;  ///< sem_t, or three slots of mutex and condition
inline constexpr std::size_t kRoomSlot = 128;
inline constexpr unsigned kRoomSlots = 3;

/// The tag and its words, loaded once each.
struct StoreSeen {
  BellKind kind;
  std::uint16_t generation;
  std::uint64_t object;
  std::uint64_t proof;
};

/// Nothing when no sleeper is attached; bad_format when the tag is none of ours.
[[nodiscard]] Result<std::optional<StoreSeen>> read_store(const BellStore& store) noexcept;
/// Says what lies in the store; the object is made already.
void publish_store(BellStore& store, BellKind kind, std::uint16_t generation,
                   std::uint64_t object = 0, std::uint64_t proof = 0) noexcept;
void clear_store(BellStore& store) noexcept;
/// A place for libc's objects. Slots take turns: a ringer that is late with the object of the
/// sleeper before does not meet the new one half made.
[[nodiscard]] std::byte* room(BellStore& store, std::uint16_t generation) noexcept;

[[nodiscard]] bool moved(const SharedWord<std::uint32_t>& seq, std::uint32_t seen) noexcept;
/// One slice of 1 ms, for when the kernel object is gone: then a sleep becomes a poll.
void doze(Deadline until) noexcept;
/// What is left until `until`, for calls that take relative times; zero when passed.
[[nodiscard]] timespec left_until(Deadline until) noexcept;
/// Waits until `fd` is readable or `until` has passed; EINTR returns early.
void poll_until(int fd, Deadline until) noexcept;

using SleepResult = Result<std::unique_ptr<SleepPrimitive>>;
using WakeResult = Result<std::unique_ptr<WakePrimitive>>;

template <typename T, typename Base, typename... Args>
[[nodiscard]] Result<std::unique_ptr<Base>> make_one(Args&&... args) noexcept {
  std::unique_ptr<Base> made(new (std::nothrow) T(std::forward<Args>(args)...));
  if (made == nullptr) return fail(Errc::no_space, 0, "doorbell");
  return made;
}

// `generation` is the one to publish. A store is there where the kind needs one.
[[nodiscard]] SleepResult make_futex_sleep(BellStore* store, std::uint16_t generation) noexcept;
[[nodiscard]] WakeResult make_futex_wake() noexcept;
[[nodiscard]] SleepResult make_posix_sem_sleep(BellStore& store, std::uint16_t generation) noexcept;
[[nodiscard]] WakeResult make_posix_sem_wake(BellStore& store) noexcept;
[[nodiscard]] SleepResult make_sysv_sem_sleep(BellStore& store, std::uint16_t generation) noexcept;
[[nodiscard]] WakeResult make_sysv_sem_wake(BellStore& store) noexcept;
[[nodiscard]] SleepResult make_condvar_sleep(BellStore& store, std::uint16_t generation) noexcept;
[[nodiscard]] WakeResult make_condvar_wake(BellStore& store) noexcept;
[[nodiscard]] SleepResult make_eventfd_sleep(BellStore* store, std::uint16_t generation,
                                             UniqueFd fd) noexcept;
[[nodiscard]] WakeResult make_eventfd_wake(UniqueFd fd) noexcept;
[[nodiscard]] SleepResult make_signal_sleep(BellStore& store, std::uint16_t generation,
                                            int signal) noexcept;
[[nodiscard]] WakeResult make_signal_wake(BellStore& store, int signal,
                                          const ProcessToken& sleeper) noexcept;

/// Removes the set of a sleeper that was killed.
void remove_sysv_leftover(const StoreSeen& seen) noexcept;

}  // namespace slipring::wait::detail

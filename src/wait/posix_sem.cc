// SPDX-License-Identifier: Apache-2.0
#include <semaphore.h>
#include <time.h>

#include "kinds.h"

// The only sem_ calls of the library. A sem_t has the same bytes on both sides only if both are
// of the same word size and libc: attach checks nothing of that, the segment's layout does.
namespace slipring::wait::detail {
namespace {

static_assert(sizeof(sem_t) <= kRoomSlot);

// A peer can set the value to two thousand million: leftovers beyond these are woken by in vain.
constexpr int kMaxDrain = 64;

class PosixSemSleep final : public SleepPrimitive {
 public:
  PosixSemSleep(BellStore& store, sem_t* sem) noexcept : store_(store), sem_(sem) {}

  void drain() noexcept override {
    for (int i = 0; i < kMaxDrain && retry_eintr([&] { return ::sem_trywait(sem_); }) == 0; ++i) {
    }
  }

  bool sleep(const SharedWord<std::uint32_t>& seq, std::uint32_t seen, Deadline until,
             std::uint64_t& spurious) noexcept override {
    const timespec at = until.to_timespec();
    for (;;) {
      if (moved(seq, seen)) return true;
      if (until.passed()) return false;
      if (::sem_clockwait(sem_, CLOCK_MONOTONIC, &at) == 0) {
        if (!moved(seq, seen)) ++spurious;  // a post for an earlier ticket
      } else if (errno != EINTR && errno != ETIMEDOUT) {
        doze(until);
      }
    }
  }

  // Nothing to destroy: a sem_t is a number and the kernel holds nothing for it.
  void detach() noexcept override { clear_store(store_); }

 private:
  BellStore& store_;
  sem_t* sem_;
};

class PosixSemWake final : public WakePrimitive {
 public:
  explicit PosixSemWake(BellStore& store) noexcept : store_(store) {}
  bool wake(const SharedWord<std::uint32_t>&) noexcept override {
    const auto seen = read_store(store_);
    if (!seen || !*seen || (*seen)->kind != BellKind::posix_sem) return false;
    auto* const sem = reinterpret_cast<sem_t*>(room(store_, (*seen)->generation));
    // A full semaphore lets nobody sleep: as good as posted.
    return ::sem_post(sem) == 0 || errno == EOVERFLOW;
  }

 private:
  BellStore& store_;
};

}  // namespace

SleepResult make_posix_sem_sleep(BellStore& store, std::uint16_t generation) noexcept {
  auto* const sem = reinterpret_cast<sem_t*>(room(store, generation));
  if (::sem_init(sem, 1, 0) != 0) return fail_errno("sem_init");
  auto made = make_one<PosixSemSleep, SleepPrimitive>(store, sem);
  if (made) publish_store(store, BellKind::posix_sem, generation);
  return made;
}

WakeResult make_posix_sem_wake(BellStore& store) noexcept {
  return make_one<PosixSemWake, WakePrimitive>(store);
}

}  // namespace slipring::wait::detail

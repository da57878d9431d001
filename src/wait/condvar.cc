// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <sched.h>

#include <new>

#include "kinds.h"
#include "sanitizer.h"

// A process-shared mutex and condition variable. Not kill-safe: a process killed inside
// pthread_cond_signal leaves the condition's inner lock behind, and the next signal may never
// return. Each sleeper makes its own pair, so a killed *sleeper* harms nobody. And not for
// strangers: a robust mutex holds pointers, which libc follows.
namespace slipring::wait::detail {
namespace {

struct Pair {
  pthread_mutex_t mutex;
  pthread_cond_t moved;
};
static_assert(sizeof(Pair) <= kRoomSlot);

Pair* pair_in(BellStore& store, std::uint16_t generation) noexcept {
  return reinterpret_cast<Pair*>(room(store, generation));
}

// How long a ringer waits for a sleeper that was stopped between its look and its sleep.
constexpr std::chrono::milliseconds kLockPatience{5};

// True: locked. The mutex protects no data, so a dead owner leaves nothing to repair.
bool usable(pthread_mutex_t* mutex, int rc) noexcept {
  if (rc == EOWNERDEAD) rc = ::pthread_mutex_consistent(mutex);
  return rc == 0;
}

bool lock(pthread_mutex_t* mutex, Deadline until) noexcept {
#if defined(SLIPRING_TSAN)
  int rc = EBUSY;
  while ((rc = ::pthread_mutex_trylock(mutex)) == EBUSY && !until.passed()) ::sched_yield();
  return usable(mutex, rc);
#else
  const timespec at = until.to_timespec();
  return usable(mutex, ::pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &at));
#endif
}

int make_pair(Pair& pair) noexcept {
  pthread_mutexattr_t mutex_attr;
  pthread_condattr_t cond_attr;
  ::pthread_mutexattr_init(&mutex_attr);
  ::pthread_condattr_init(&cond_attr);
  int rc = ::pthread_mutexattr_setpshared(&mutex_attr, PTHREAD_PROCESS_SHARED);
  if (rc == 0) rc = ::pthread_mutexattr_setrobust(&mutex_attr, PTHREAD_MUTEX_ROBUST);
  if (rc == 0) rc = ::pthread_condattr_setpshared(&cond_attr, PTHREAD_PROCESS_SHARED);
  if (rc == 0) rc = ::pthread_condattr_setclock(&cond_attr, CLOCK_MONOTONIC);
  if (rc == 0) rc = ::pthread_mutex_init(&pair.mutex, &mutex_attr);
  if (rc == 0) rc = ::pthread_cond_init(&pair.moved, &cond_attr);
  ::pthread_condattr_destroy(&cond_attr);
  ::pthread_mutexattr_destroy(&mutex_attr);
  return rc;
}

class CondvarSleep final : public SleepPrimitive {
 public:
  CondvarSleep(BellStore& store, Pair* pair) noexcept : store_(store), pair_(pair) {}

  bool sleep(const SharedWord<std::uint32_t>& seq, std::uint32_t seen, Deadline until,
             std::uint64_t& spurious) noexcept override {
    const timespec at = until.to_timespec();
    if (!lock(&pair_->mutex, until)) {
      while (!moved(seq, seen) && !until.passed()) doze(until);
      return moved(seq, seen);
    }
    // The ringer moves seq before it takes the mutex: what is false here is false until we wait.
    while (!moved(seq, seen)) {
      const int rc = ::pthread_cond_timedwait(&pair_->moved, &pair_->mutex, &at);
      if (rc == ETIMEDOUT) break;
      if (!usable(&pair_->mutex, rc)) break;
      if (!moved(seq, seen)) ++spurious;
      if (until.passed()) break;
    }
    ::pthread_mutex_unlock(&pair_->mutex);
    return moved(seq, seen);
  }

  // Not destroyed: pthread_cond_destroy may wait for ever for somebody who was killed, and the
  // kernel holds nothing for the pair.
  void detach() noexcept override { clear_store(store_); }

 private:
  BellStore& store_;
  Pair* pair_;
};

class CondvarWake final : public WakePrimitive {
 public:
  explicit CondvarWake(BellStore& store) noexcept : store_(store) {}
  bool wake(const SharedWord<std::uint32_t>&) noexcept override {
    const auto seen = read_store(store_);
    if (!seen || !*seen || (*seen)->kind != BellKind::condvar) return false;
    Pair* const pair = pair_in(store_, (*seen)->generation);
    // Through the mutex once: a sleeper that looked at seq before we moved it is waiting by now.
    if (!lock(&pair->mutex, Deadline::in(kLockPatience))) return false;
    ::pthread_mutex_unlock(&pair->mutex);
    return ::pthread_cond_signal(&pair->moved) == 0;
  }

 private:
  BellStore& store_;
};

}  // namespace

SleepResult make_condvar_sleep(BellStore& store, std::uint16_t generation) noexcept {
  Pair* const pair = new (room(store, generation)) Pair;
  if (const int rc = make_pair(*pair); rc != 0) return fail(errc_of(rc), rc, "pthread_cond_init");
  auto made = make_one<CondvarSleep, SleepPrimitive>(store, pair);
  if (made) publish_store(store, BellKind::condvar, generation);
  return made;
}

WakeResult make_condvar_wake(BellStore& store) noexcept {
  return make_one<CondvarWake, WakePrimitive>(store);
}

}  // namespace slipring::wait::detail

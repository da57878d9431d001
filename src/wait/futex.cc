// SPDX-License-Identifier: Apache-2.0
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <climits>

#include "kinds.h"
#include "slipring/wait/gate.h"
#include "slipring/wait/wait_any.h"

// The only futex calls of the library. Never FUTEX_PRIVATE_FLAG: the other side is a process.
namespace slipring::wait {

void open_gate(const SharedWord<std::uint32_t>& seq) noexcept {
  ::syscall(SYS_futex, seq.policy_address(), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

namespace detail {
namespace {

enum class FutexEnd { woken, value_differs, timed_out, interrupted, refused };

FutexEnd end_of(long rc) noexcept {
  if (rc >= 0) return FutexEnd::woken;
  switch (errno) {
    case EAGAIN: return FutexEnd::value_differs;
    case ETIMEDOUT: return FutexEnd::timed_out;
    case EINTR: return FutexEnd::interrupted;
    default: return FutexEnd::refused;
  }
}

// FUTEX_WAIT_BITSET takes an absolute CLOCK_MONOTONIC time: EINTR needs no arithmetic.
FutexEnd futex_wait(const SharedWord<std::uint32_t>& word, std::uint32_t seen,
                    Deadline until) noexcept {
  const timespec at = until.to_timespec();
  return end_of(::syscall(SYS_futex, word.policy_address(), FUTEX_WAIT_BITSET, seen, &at, nullptr,
                          FUTEX_BITSET_MATCH_ANY));
}

// Sleeps by `wait` until `rung`, whatever the kernel says in between.
template <typename Rung, typename Wait>
bool sleep_while(Rung&& rung, Wait&& wait, Deadline until, std::uint64_t& spurious) noexcept {
  for (;;) {
    if (rung()) return true;
    switch (wait(until)) {
      case FutexEnd::woken:
        if (!rung()) ++spurious;
        break;
      case FutexEnd::timed_out: return rung();
      case FutexEnd::refused: doze(until); break;  // as EFAULT, when the memory is going away
      case FutexEnd::value_differs:
      case FutexEnd::interrupted: break;
    }
    if (until.passed()) return rung();
  }
}

class FutexSleep final : public SleepPrimitive {
 public:
  explicit FutexSleep(BellStore* store) noexcept : store_(store) {}
  bool sleep(const SharedWord<std::uint32_t>& seq, std::uint32_t seen, Deadline until,
             std::uint64_t& spurious) noexcept override {
    return sleep_while([&] { return moved(seq, seen); },
                       [&](Deadline at) { return futex_wait(seq, seen, at); }, until, spurious);
  }
  void detach() noexcept override {
    if (store_ != nullptr) clear_store(*store_);
  }

 private:
  BellStore* store_;
};

class FutexWake final : public WakePrimitive {
 public:
  bool wake(const SharedWord<std::uint32_t>& seq) noexcept override {
    return ::syscall(SYS_futex, seq.policy_address(), FUTEX_WAKE, 1, nullptr, nullptr, 0) >= 0;
  }
};

// False once the kernel, or a filter, said that it has no futex_waitv.
std::atomic<bool> g_has_waitv{true};

FutexEnd futex_wait_any(std::span<const SeqSeen> words, Deadline until) noexcept {
  std::array<::futex_waitv, kMaxWaitAny> entries{};
  for (std::size_t i = 0; i < words.size(); ++i) {
    entries[i].val = words[i].seen;
    entries[i].uaddr = reinterpret_cast<std::uintptr_t>(words[i].seq->policy_address());
    entries[i].flags = FUTEX_32;
  }
  const timespec at = until.to_timespec();
  return end_of(::syscall(SYS_futex_waitv, entries.data(), words.size(), 0, &at, CLOCK_MONOTONIC));
}

}  // namespace

SleepResult make_futex_sleep(BellStore* store, std::uint16_t generation) noexcept {
  if (store != nullptr) publish_store(*store, BellKind::futex, generation);
  return make_one<FutexSleep, SleepPrimitive>(store);
}

WakeResult make_futex_wake() noexcept { return make_one<FutexWake, WakePrimitive>(); }

bool sleep_on_any(std::span<const SeqSeen> words, Deadline until,
                  std::uint64_t& spurious) noexcept {
  const auto rung = [&] {
    for (const SeqSeen& word : words) {
      if (moved(*word.seq, word.seen)) return true;
    }
    return false;
  };
  const auto all = [&](Deadline at) {
    const FutexEnd end = futex_wait_any(words, at);
    if (end == FutexEnd::refused && (errno == ENOSYS || errno == EPERM)) {
      g_has_waitv.store(false, std::memory_order_relaxed);
      return FutexEnd::interrupted;
    }
    return end;
  };
  const auto first = [&](Deadline at) {
    const Deadline slice = at.or_earlier(Deadline::in(std::chrono::milliseconds(1)));
    const FutexEnd end = futex_wait(*words.front().seq, words.front().seen, slice);
    return end == FutexEnd::timed_out ? FutexEnd::interrupted : end;
  };
  const auto wait = [&](Deadline at) {
    return g_has_waitv.load(std::memory_order_relaxed) ? all(at) : first(at);
  };
  return sleep_while(rung, wait, until, spurious);
}

}  // namespace detail
}  // namespace slipring::wait

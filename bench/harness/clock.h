// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <time.h>

#include <cstdint>

#include "slipring/base/deadline.h"
#include "slipring/wait/wait_strategy.h"

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

// Two clocks. monotonic_ns() is CLOCK_MONOTONIC, for what lasts; ticks() is the time-stamp counter
// where there is an invariant one, for what is as short as a reading of the other.
namespace slipring::bench {

/// Now, in ticks: the same count on every CPU, as far as the kernel trusts it itself.
inline std::uint64_t ticks() noexcept {
#if defined(__x86_64__)
  return __rdtsc();
#else
  return static_cast<std::uint64_t>(monotonic_ns());
#endif
}

/// Measured once, over 20 ms, before anything else is.
[[nodiscard]] double ns_per_tick() noexcept;

[[nodiscard]] inline std::uint64_t ticks_of_ns(double ns) noexcept {
  return static_cast<std::uint64_t>(ns / ns_per_tick());
}

/// Lets the other side fall asleep. On the same CPU it needs ours for that: then we nap, too.
inline void idle_for(double ns, bool naps) noexcept {
  if (naps) {
    const timespec nap{0, static_cast<long>(ns)};
    ::nanosleep(&nap, nullptr);
    return;
  }
  const std::uint64_t until = ticks() + ticks_of_ns(ns);
  while (ticks() < until) wait::pause_cpu();
}

/// CPU time of the calling thread.
[[nodiscard]] inline std::int64_t thread_cpu_ns() noexcept {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

}  // namespace slipring::bench

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

namespace slipring::wait {

/// The fence that a ringer executes between publishing and looking at the ticket, as it tells the
/// sleeper in its `ringer_fence` word. Any other value there counts as none.
enum class FenceMode : std::uint32_t {
  symmetric = 0,   ///< A seq_cst fence per publication: needs nothing of the kernel.
  asymmetric = 1,  ///< A compiler barrier: the sleeper's membarrier pays for both.
  none = 2,        ///< Nothing, and nobody pays: the sleeper promised never to park.
};

[[nodiscard]] std::string_view to_string(FenceMode mode) noexcept;

/// Makes this process a target of heavy_fence(), from every process of the machine.
/// Returns asymmetric when the kernel agreed, symmetric when it cannot or may not.
/// Call it early: it may wait for a grace period. Once per process; fork keeps it, exec loses it.
/// Threads: any.  Progress: one or two system calls the first time, none later.
[[nodiscard]] FenceMode register_ringer_process() noexcept;

/// True while the kernel offers membarrier(GLOBAL_EXPEDITED) to this process.
[[nodiscard]] bool has_heavy_fence() noexcept;

/// The sleeper's side of the pair: a seq_cst fence, then membarrier(GLOBAL_EXPEDITED).
/// Returns whether the membarrier ran; if not, it pairs with symmetric ringers alone.
/// Progress: one system call, which interrupts every CPU that runs a registered process.
/// Source:   Dice, Lea et al., "Asymmetric fences", WG21 P1202R5: asymmetric_thread_fence_heavy.
bool heavy_fence() noexcept;

/// The seq_cst fence, out of line on purpose: code that is never symmetric holds no fence and no
/// lock prefix, and shows so to whoever disassembles it.
[[gnu::cold, gnu::noinline]] void full_fence() noexcept;

/// The ringer's side of the pair (P1202: asymmetric_thread_fence_light).
/// Progress: wait-free, no system call; a compiler barrier unless `mode` is symmetric.
inline void light_fence(FenceMode mode) noexcept {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (mode == FenceMode::symmetric) [[unlikely]]
    full_fence();
}

/// The fences of an Access policy: its own, where a model or a tracer brings them; else the real.
template <typename Access>
struct Fences {
  static void light(FenceMode mode) noexcept {
    if constexpr (requires { Access::light_fence(mode); }) {
      Access::light_fence(mode);
    } else {
      light_fence(mode);
    }
  }
  static void full() noexcept {
    if constexpr (requires { Access::full_fence(); }) {
      Access::full_fence();
    } else {
      full_fence();
    }
  }
  static bool heavy() noexcept {
    if constexpr (requires { Access::heavy_fence(); }) {
      return Access::heavy_fence();
    } else {
      return heavy_fence();
    }
  }
};

}  // namespace slipring::wait

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "slipring/base/deadline.h"
#include "slipring/base/result.h"
#include "slipring/wait/doorbell.h"

namespace slipring::wait {

/// How to wait: how long to look before parking, and whether to park at all. A value.
class WaitStrategy {
 public:
  enum class Kind : std::uint8_t { spin, adaptive, park };

  /// Never parks: one CPU is given to the wait. Attach the sleeper with `never_parks`.
  [[nodiscard]] static constexpr WaitStrategy spin() noexcept { return {Kind::spin, {}}; }
  /// Looks for `budget`, about what a park costs, then parks: at most twice the best choice.
  /// With one CPU to run on the budget is 0: there the peer cannot run while we look.
  [[nodiscard]] static constexpr WaitStrategy adaptive(
      std::chrono::nanoseconds budget = std::chrono::microseconds(20)) noexcept {
    return {Kind::adaptive, budget};
  }
  /// Parks at once when the bare polls bring nothing.
  [[nodiscard]] static constexpr WaitStrategy park() noexcept { return {Kind::park, {}}; }
  /// "spin", "adaptive" or "park".
  [[nodiscard]] static std::optional<WaitStrategy> parse(std::string_view text) noexcept;

  constexpr WaitStrategy() noexcept : WaitStrategy(adaptive()) {}
  [[nodiscard]] constexpr Kind kind() const noexcept { return kind_; }
  [[nodiscard]] constexpr bool parks() const noexcept { return kind_ != Kind::spin; }
  [[nodiscard]] constexpr std::chrono::nanoseconds budget() const noexcept { return budget_; }
  friend constexpr bool operator==(const WaitStrategy&, const WaitStrategy&) = default;

 private:
  constexpr WaitStrategy(Kind kind, std::chrono::nanoseconds budget) noexcept
      : kind_(kind), budget_(budget) {}
  Kind kind_;
  std::chrono::nanoseconds budget_;
};

[[nodiscard]] std::string_view to_string(WaitStrategy::Kind kind) noexcept;

/// Tells the CPU that this is a wait loop.
inline void pause_cpu() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#else
  asm volatile("" ::: "memory");
#endif
}

/// Polls without a pause before the ladder is climbed: about half a microsecond, longer than a
/// reply takes across CPUs. With 128 the clock and the pauses of the next rung stood in every round
/// trip.
inline constexpr int kBarePolls = 1024;
/// How often a wait that does not park asks `tick`.
inline constexpr std::chrono::milliseconds kTickEvery{10};

/// Waits until `ready()`, by the ladder of `strategy`.
///   ready() -> bool          asked often, and again after each park
///   idle()                   once, when the bare polls brought nothing: tell the peer what one
///                            delays while busy
///   tick() -> Result<void>   before the first park, after each bounded park, and about every
///                            10 ms: is the peer alive? Its error ends the wait, unless ready() is
///                            true after it: what a dead peer left is read first.
/// Progress: blocks until ready, the deadline or an error; no system call in the first rungs.
/// Errors:   timed_out  the deadline passed, and ready() was false after it; what tick() returned.
template <typename Bell, typename Ready, typename Idle, typename Tick>
[[nodiscard]] Result<void> wait_until(const WaitStrategy& strategy, Bell& sleeper,
                                      Deadline deadline, Ready&& ready, Idle&& idle, Tick&& tick);

namespace detail {
/// True when the calling thread may run on one CPU only. Asks the kernel once per second.
[[nodiscard]] bool has_one_cpu(std::int64_t now_ns) noexcept;
void yield_cpu() noexcept;
}  // namespace detail

}  // namespace slipring::wait

#include "slipring/wait/wait_strategy_inl.h"

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>

namespace slipring {

/// Now on CLOCK_MONOTONIC, in nanoseconds: the only clock that slipring waits by (D12).
[[nodiscard]] std::int64_t monotonic_ns() noexcept;

/// An instant on CLOCK_MONOTONIC after which a wait ends. It ends a wait, never a life: a passed
/// deadline proves nothing about the peer.
class Deadline {
 public:
  /// Waits for ever.
  [[nodiscard]] static constexpr Deadline never() noexcept {
    return Deadline(std::numeric_limits<std::int64_t>::max());
  }
  /// Already passed: one look, no wait.
  [[nodiscard]] static constexpr Deadline now() noexcept { return Deadline(0); }
  /// `wait` from now; negative waits are as good as now(), overlong ones as never().
  [[nodiscard]] static Deadline in(std::chrono::nanoseconds wait) noexcept {
    if (wait.count() <= 0) return now();
    const std::int64_t from = monotonic_ns();
    if (wait.count() >= std::numeric_limits<std::int64_t>::max() - from) return never();
    return Deadline(from + wait.count());
  }
  [[nodiscard]] static constexpr Deadline at_ns(std::int64_t monotonic) noexcept {
    return Deadline(std::max<std::int64_t>(monotonic, 0));
  }

  [[nodiscard]] bool passed() const noexcept {
    return at_ns_ != std::numeric_limits<std::int64_t>::max() &&
           (at_ns_ == 0 || monotonic_ns() >= at_ns_);
  }
  [[nodiscard]] constexpr bool is_never() const noexcept {
    return at_ns_ == std::numeric_limits<std::int64_t>::max();
  }
  [[nodiscard]] constexpr std::int64_t ns() const noexcept { return at_ns_; }
  [[nodiscard]] constexpr Deadline or_earlier(Deadline other) const noexcept {
    return Deadline(std::min(at_ns_, other.at_ns_));
  }
  /// As the kernel takes absolute times. never() becomes the year 292 after boot.
  [[nodiscard]] constexpr timespec to_timespec() const noexcept {
    return {static_cast<time_t>(at_ns_ / 1'000'000'000), static_cast<long>(at_ns_ % 1'000'000'000)};
  }
  /// What is left, as poll() takes it: -1 for never, rounded up so that no wait ends early.
  [[nodiscard]] int to_poll_ms() const noexcept;

 private:
  constexpr explicit Deadline(std::int64_t at_ns) noexcept : at_ns_(at_ns) {}
  std::int64_t at_ns_;
};

}  // namespace slipring

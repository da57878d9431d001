// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace slipring {

/// Bytes that one core takes ownership of at a time on every machine we support.
inline constexpr std::uint64_t kCacheLine = 64;

/// Distance between words with different writers: lines are prefetched in pairs.
inline constexpr std::uint64_t kControlSpacing = 128;

/// `value` rounded up to a multiple of `unit`, a power of two. The caller excludes overflow.
[[nodiscard]] constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t unit) noexcept {
  return (value + unit - 1) & ~(unit - 1);
}

[[nodiscard]] constexpr bool is_aligned(std::uint64_t value, std::uint64_t unit) noexcept {
  return (value & (unit - 1)) == 0;
}

[[nodiscard]] constexpr bool is_power_of_two(std::uint64_t value) noexcept {
  return value != 0 && (value & (value - 1)) == 0;
}

}  // namespace slipring

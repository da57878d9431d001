// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace slipring::pool {

/// Word at the head of a free list:
///   |63           24|23            0|
///   |      tag      |   index + 1   |      index + 1 = 0: nothing listed
/// The tag moves with each change (Treiber 1986 with a counter), so a CAS that succeeds has seen no
/// other life of the id on top.
struct ListTop {
  std::uint64_t tag = 0;
  std::uint32_t index_plus_1 = 0;

  [[nodiscard]] static constexpr ListTop decode(std::uint64_t bits) noexcept {
    return {bits >> 24, static_cast<std::uint32_t>(bits & 0xffffff)};
  }
  [[nodiscard]] constexpr std::uint64_t encode() const noexcept { return tag << 24 | index_plus_1; }
  /// The head after a change.
  [[nodiscard]] constexpr ListTop then(std::uint32_t top) const noexcept { return {tag + 1, top}; }
};

/// Tries of a CAS before its operation takes another way: a list is then left to the scan. A word
/// changes under its user only by a reaper, twice at most.
inline constexpr int kMaxTries = 64;
/// Listed ids in a row that are not free, before a list counts as broken.
inline constexpr int kOddIds = 64;

}  // namespace slipring::pool

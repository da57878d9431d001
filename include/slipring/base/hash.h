// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace slipring {

inline constexpr std::uint64_t kFnvBasis = 0xcbf29ce484222325;

/// FNV-1a over bytes: constexpr, so that fingerprints of types and layouts are compile-time
/// constants. It tells apart and detects accidents; it resists no attacker.
/// Source: Fowler, Noll, Vo; RFC 9923, 64-bit parameters.
[[nodiscard]] constexpr std::uint64_t fnv1a(std::string_view bytes,
                                            std::uint64_t hash = kFnvBasis) noexcept {
  for (const char c : bytes) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3;
  }
  return hash;
}

/// The same over the eight bytes of a word, lowest first.
[[nodiscard]] constexpr std::uint64_t fnv1a(std::uint64_t word, std::uint64_t hash) noexcept {
  for (int i = 0; i < 8; ++i) {
    hash ^= (word >> (8 * i)) & 0xff;
    hash *= 0x100000001b3;
  }
  return hash;
}

}  // namespace slipring

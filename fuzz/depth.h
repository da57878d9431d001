// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace slipring::fuzz {

/// A state that the corpus of a target has to reach: `const Depth kPadding{"padding delivered"};`,
/// and `kPadding.reached();` where it happens. The replay of a whole corpus counts them, and fails
/// when one is missing: an input whose bytes mean something else since yesterday is found out.
class Depth {
 public:
  explicit Depth(const char* what) noexcept : what_(what), next_(first()) { first() = this; }
  Depth(const Depth&) = delete;
  Depth& operator=(const Depth&) = delete;

  void reached() const noexcept { ++count_; }
  void reached_if(bool so) const noexcept { count_ += so ? 1 : 0; }

  [[nodiscard]] const char* what() const noexcept { return what_; }
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  /// All depths of this target: first(), then next() of each.
  [[nodiscard]] static const Depth*& first() noexcept {
    static const Depth* the_first = nullptr;
    return the_first;
  }
  [[nodiscard]] const Depth* next() const noexcept { return next_; }

 private:
  const char* what_;
  const Depth* next_;
  mutable std::uint64_t count_ = 0;
};

}  // namespace slipring::fuzz

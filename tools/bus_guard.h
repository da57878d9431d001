// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace slipring::tools {

/// While it lives, memory that a mapping loses (somebody truncates the file behind it) reads as
/// zeros instead of ending us with SIGBUS; was_hit() tells that what was read meanwhile is no
/// answer. For commands that look at other people's segments. One at a time.
class BusGuard {
 public:
  BusGuard() noexcept;
  BusGuard(const BusGuard&) = delete;
  BusGuard& operator=(const BusGuard&) = delete;
  ~BusGuard();

  /// Since the last call.
  [[nodiscard]] static bool was_hit() noexcept;
};

}  // namespace slipring::tools

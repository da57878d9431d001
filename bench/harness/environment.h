// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "harness/sides.h"

namespace slipring::bench {

/// Where a run takes place: what a reader needs to judge its figures, or to repeat them.
struct Environment {
  std::vector<std::pair<std::string, std::string>> facts;  ///< cpu, kernel, compiler, flags, ...
  std::vector<std::string> notes;  ///< What is missing here, and what that means.
  bool may_pin = true;
  bool may_lock = true;
  std::uint64_t last_level_bytes = 0;  ///< Of cache; 0: unknown.
};

/// Looks around. `lock_bytes`: as much as one measurement would lock in memory.
[[nodiscard]] Environment look_around(const std::string& commit, std::size_t lock_bytes);

/// Time that the hypervisor gave to others, all CPUs, since boot. In seconds.
[[nodiscard]] double steal_seconds();

}  // namespace slipring::bench

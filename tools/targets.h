// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "report.h"
#include "selector.h"
#include "slipring/segment/segment.h"

namespace slipring::tools {

/// A segment to be judged: what matched a selector, or everything.
struct Target {
  std::string name;  ///< For people, and as a selector understands it.
  segment::Listing listing;
  /// Mapped read-only, or why not. What vanished meanwhile is left out.
  Result<segment::Segment> segment = fail(Errc::not_found, 0, "open");
};

/// In the order of names. Without selectors: all rings, not what else slipring keeps in memory.
/// Failure: a selector is none, or matches nothing.
[[nodiscard]] Try<std::vector<Target>> find_targets(const std::vector<std::string>& selectors,
                                                    const std::string& action);

}  // namespace slipring::tools

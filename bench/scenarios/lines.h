// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace slipring::bench {

/// What one message costs in transfers of cache lines, counted by running the shipped source over
/// memory that keeps a book of who holds which line. No clock, no neighbour: the same everywhere.
struct LineCount {
  std::string form;       ///< "lane", "lane.lines", "total"
  std::size_t bytes = 0;  ///< Payload of each message.
  int visit = 1;          ///< Messages that the receiver finds when it looks.
  double upgrades = 0;    ///< Per message: a line taken from the other side, to be written.
  double reads = 0;       ///< Per message: a line fetched from the other side.
};
[[nodiscard]] std::vector<LineCount> count_lines();

}  // namespace slipring::bench

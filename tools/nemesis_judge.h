// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nemesis_log.h"

namespace slipring::tools::nemesis {

/// A promise found broken.
struct Violation {
  std::string rule;  ///< "I1" to "I8", "I11".
  std::string what;
};

/// What a run came to.
struct Tally {
  std::uint64_t messages = 0;                    ///< Delivered, each counted once,
  std::uint64_t redelivered = 0;                 ///< and how often again, with the mark.
  std::uint64_t acknowledged = 0, in_doubt = 0;  ///< Commits that returned, or may have happened.
  std::uint64_t aborted = 0;
  std::uint64_t lost = 0, twice = 0, torn = 0, reordered = 0, false_dead = 0, stalls = 0, left = 0;
  std::uint64_t kills = 0, pauses = 0, forks = 0, unlinks = 0, rounds = 0, checks = 0,
                told_dead = 0;
  std::int64_t longest_attach_ns = 0;  ///< From a kill to the successor's being attached.
  std::vector<Violation> violations;   ///< The first hundred.

  void add(const char* rule, std::string what);
  [[nodiscard]] bool is_clean() const noexcept { return violations.empty(); }
};

/// Decides from the logs alone, after everybody has ended and all was drained:
///   I1  what was acknowledged was delivered,          I2  whole, and twice only with the mark,
///   I3  in its sender's order,                        I4  a batch in doubt wholly or not at all,
///   I11 only who was killed was told of as dead;      and no call failed that must not.
void judge(const Log& log, Tally& tally);

}  // namespace slipring::tools::nemesis

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

// Figures that the documents show: .ci/check_reliability.py collects these lines and holds them to
// .ci/reliability_bounds.txt. A figure is printed by the test that measured it, or by none.
namespace slipring::test {

/// True in ./dev test --nightly: longer runs, and the bounds on time count.
[[nodiscard]] inline bool is_nightly() {
  const char* tier = std::getenv("SLIPRING_TIER");
  return tier != nullptr && std::string_view(tier) == "nightly";
}

/// "RELIABILITY test=T12 case=watched_16M tier=push key=value ..", printed at the end of the scope.
class Reliability {
 public:
  Reliability(std::string_view test, std::string_view of) {
    text_ = "RELIABILITY test=" + std::string(test) + " case=" + std::string(of) +
            " tier=" + (is_nightly() ? "nightly" : "push");
  }
  Reliability(const Reliability&) = delete;
  Reliability& operator=(const Reliability&) = delete;
  ~Reliability() {
    std::printf("%s\n", text_.c_str());
    std::fflush(stdout);
  }
  Reliability& add(std::string_view key, std::uint64_t value) {
    text_ += " " + std::string(key) + "=" + std::to_string(value);
    return *this;
  }

 private:
  std::string text_;
};

/// The smallest value that a share of all does not exceed; of an empty list 0.
[[nodiscard]] inline std::int64_t quantile(std::vector<std::int64_t> values, double share) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const auto at = static_cast<std::size_t>(share * static_cast<double>(values.size()));
  return values[std::min(at, values.size() - 1)];
}

}  // namespace slipring::test

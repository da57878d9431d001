// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

// Figures, and what may be said of many of them. docs/benchmarking.md has the reasons.
namespace slipring::bench {

/// Named numbers, in the order they were measured.
class Figures {
 public:
  void set(const std::string& name, double value) {
    for (auto& [known, old] : values_) {
      if (known == name) {
        old = value;
        return;
      }
    }
    values_.emplace_back(name, value);
  }
  /// NaN when there is none.
  [[nodiscard]] double get(const std::string& name) const noexcept {
    for (const auto& [known, value] : values_) {
      if (known == name) return value;
    }
    return std::numeric_limits<double>::quiet_NaN();
  }
  [[nodiscard]] bool has(const std::string& name) const noexcept { return !std::isnan(get(name)); }
  [[nodiscard]] const std::vector<std::pair<std::string, double>>& all() const noexcept {
    return values_;
  }

 private:
  std::vector<std::pair<std::string, double>> values_;
};

struct Quartiles {
  double low = 0, median = 0, high = 0;
  std::size_t count = 0;
};
/// Of an even number the upper of the two in the middle: what is given was measured.
[[nodiscard]] inline Quartiles quartiles(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const auto at = [&](double q) {
    return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
  };
  return {at(0.25), at(0.5), at(0.75), values.size()};
}

/// How the two CPUs behave while something is measured: the hypervisor may move them.
[[nodiscard]] inline const char* round_class(double raw_ns) noexcept {
  if (raw_ns > 800) return "far";  // not within one socket: what is true there is true nowhere else
  return raw_ns < 100 ? "sibling" : raw_ns > 180 ? "cross" : "unclear";
}

/// Is one ahead of the other? By chance 17 of 21 happens once in 250 times.
struct Versus {
  Quartiles ratio;
  std::size_t wins = 0;
  [[nodiscard]] bool ahead() const noexcept {
    return ratio.count > 0 && wins * 21 >= ratio.count * 17 && ratio.low > 1;
  }
};
/// One ratio for each round in which both were measured: `ours[i]` and `theirs[i]`, NaN for none.
[[nodiscard]] inline Versus versus(const std::vector<double>& ours,
                                   const std::vector<double>& theirs) {
  std::vector<double> ratios;
  Versus out;
  for (std::size_t i = 0; i < std::min(ours.size(), theirs.size()); ++i) {
    if (std::isnan(ours[i]) || std::isnan(theirs[i]) || theirs[i] <= 0) continue;
    ratios.push_back(ours[i] / theirs[i]);
    if (ratios.back() > 1) ++out.wins;
  }
  out.ratio = quartiles(std::move(ratios));
  return out;
}

}  // namespace slipring::bench

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cell.h"
#include "results.h"

namespace slipring::bench {

/// A request that makes no sense, or not here, in three lines.
struct Refused {
  std::string what, why, fix;
};

/// What the command line says.
struct Options {
  enum class Kind { own, quick, full } kind = Kind::own;
  std::vector<std::string> versus{"pipe", "unix", "boost"};
  std::vector<std::size_t> sizes{64};
  std::vector<double> rates;  ///< Messages/s; none: saturation and round trips.
  std::size_t ring_bytes = std::size_t{256} << 10;
  int rounds = 0;      ///< 0: as the kind has it.
  double seconds = 0;  ///< Of each measurement; 0: as the kind has it.
  std::optional<Cpus> cpus;
  std::string json_file;  ///< "-": standard output, instead of the table.
  bool lines = false;     ///< BENCH lines, as they come.
  bool list = false;
  bool help = false;
  std::string commit;
};
[[nodiscard]] tl::expected<Options, Refused> parse_options(int argc, char** argv);
extern const char* const kUsage;

/// "64", "4K", "1M"; nothing when it is no size.
[[nodiscard]] std::optional<std::size_t> parse_bytes(const std::string& text);

/// What is going to be measured, and how.
struct Plan {
  std::string name;
  int rounds = 11;
  Terms terms;
  double calibration = 0.25;  ///< As calibrate() takes it.
  double limit_s = 0;         ///< No round is begun that might end later; 0: all of them.
  std::vector<Cell> cells;
  /// A guess, in seconds.
  [[nodiscard]] double expected_seconds() const;
};

/// Everything of `options` that the field can do. Whoever cannot is moved to `field.left_out`.
[[nodiscard]] tl::expected<Plan, Refused> make_plan(const Options& options, Field& field,
                                                    const Environment& where);

}  // namespace slipring::bench

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cell.h"
#include "harness/environment.h"

namespace slipring::bench {

/// One measurement of one cell in one round.
struct Row {
  std::size_t cell = 0;
  int round = 0;
  std::string of_class;  ///< Empty: dropped, the CPUs changed place meanwhile.
  double raw_ns = 0;
  Figures figures;
  std::string why;  ///< Void, for this reason.
};

/// What a run asks, and what it found.
struct Results {
  std::vector<Cell> cells;
  std::vector<Row> rows;
  std::vector<Figures> calibrations;  ///< One for each round.
  std::vector<LeftOut> left_out;
  Environment where;
  int dropped = 0;  ///< Groups of cells, in all rounds.
  int groups = 0;
  double seconds = 0;
  double steal_s = 0;
  std::string plan;
  int rounds = 0;
  Cpus cpus;

  /// The class that targets are judged on: the one with the most rows.
  [[nodiscard]] std::string main_class() const;
  /// `figure` of `cell`, one for each round, NaN where there is none. A class, or "" for all.
  [[nodiscard]] std::vector<double> by_round(std::size_t cell, const std::string& figure,
                                             const std::string& of_class) const;
  [[nodiscard]] Quartiles summary(std::size_t cell, const std::string& figure,
                                  const std::string& of_class) const;
};

/// Figures that are a multiple of something in the same round: x_raw, x_futex, x_bulk, ...
void add_ratios(const Cell& cell, const Figures& calibration, double raw_ns, Figures& figures);

/// "BENCH name=... key=value ...": one line for a row.
[[nodiscard]] std::string line_of(const Results& results, const Row& row);
/// The whole run, as JSON.
[[nodiscard]] std::string json_of(const Results& results);
/// For people: one table per question.
[[nodiscard]] std::string table_of(const Results& results);

/// One of the aims of this library, and what became of it.
struct Target {
  enum class Verdict { met, missed, open };
  std::string id;      ///< "M4"
  std::string name;    ///< "64 B against the best rival"
  std::string wanted;  ///< ">= 5x"
  std::string figure;  ///< "3.51x [3.40, 3.66]"
  std::string detail;  ///< Who against whom, or why it could not be judged.
  Verdict verdict = Verdict::open;
  double value = 0, limit = 0;
};
[[nodiscard]] const char* to_string(Target::Verdict verdict) noexcept;
/// Judged on main_class(). What was not measured is open, with the reason.
[[nodiscard]] std::vector<Target> judge(const Results& results);
[[nodiscard]] std::string lines_of(const std::vector<Target>& targets, const Results& results);

}  // namespace slipring::bench

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "contender.h"
#include "harness/calibrate.h"
#include "harness/figures.h"
#include "harness/histogram.h"

namespace slipring::bench {

/// What is asked.
enum class Scenario : std::uint8_t {
  throughput,  ///< Saturated, one producer or several; messages/s.
  round_trip,  ///< `depth` messages under way; ns for there and back.
  wake,        ///< A round trip in which both sides fall asleep.
  open_loop,   ///< On a schedule; ns from the intended time.
  hand_over,   ///< Round trip of a filled block that nobody touches.
  idle,        ///< What idle producers cost a busy one.
};
[[nodiscard]] const char* to_string(Scenario scenario) noexcept;

/// One measurement, to be repeated in every round.
struct Cell {
  Scenario scenario = Scenario::throughput;
  const Contender* who = nullptr;
  Shape shape;
  Flow flow;
  double rate = 0;         ///< Open loop: messages/s; below 0: that share of saturation.
  bool one_cpu = false;    ///< Both sides on the same CPU.
  std::uint32_t idle = 0;  ///< Idle producers beside the busy one.

  /// Messages/s as of the last time; decides how many make a measurement long enough.
  double pace = 0;
  /// Latencies of all rounds of a class, for the shares that one round does not resolve.
  std::map<std::string, std::shared_ptr<Histogram>> merged{};

  /// Cells of one question are measured next to each other: same scenario, size, group, ...
  [[nodiscard]] std::string question() const;
};

/// What every measurement is told.
struct Terms {
  Cpus cpus;
  double seconds = 0.1;      ///< Of each measurement.
  std::uint64_t laps = 100;  ///< Of the ring, at least.
};

/// Measures it once. Figures, or why it is void: a lost or torn message, a call that failed.
[[nodiscard]] Try<Figures> measure(Cell& cell, const Terms& terms, Histogram& latency);

[[nodiscard]] Try<Figures> measure_throughput(Cell& cell, const Terms& terms);
[[nodiscard]] Try<Figures> measure_round_trip(Cell& cell, const Terms& terms, Histogram& latency);
[[nodiscard]] Try<Figures> measure_open_loop(Cell& cell, const Terms& terms, Histogram& latency);
[[nodiscard]] Try<Figures> measure_hand_over(Cell& cell, const Terms& terms);
[[nodiscard]] Try<Figures> measure_idle(Cell& cell, const Terms& terms);

}  // namespace slipring::bench

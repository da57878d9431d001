// SPDX-License-Identifier: Apache-2.0
#include "cell.h"

namespace slipring::bench {

const char* to_string(Scenario scenario) noexcept {
  switch (scenario) {
    case Scenario::throughput: return "throughput";
    case Scenario::round_trip: return "round_trip";
    case Scenario::wake: return "wake";
    case Scenario::open_loop: return "open_loop";
    case Scenario::hand_over: return "hand_over";
    case Scenario::idle: return "idle";
  }
  return "";
}

std::string Cell::question() const {
  std::string text = to_string(scenario);
  // Blocks of any size are one question, and so are rings with one producer and with more.
  if (scenario == Scenario::hand_over || scenario == Scenario::idle) return text;
  text += " size=" + std::to_string(shape.size) + " ring=" + std::to_string(shape.ring_bytes);
  if (scenario == Scenario::throughput) text += " group=" + std::to_string(flow.group);
  if (scenario == Scenario::round_trip) text += " depth=" + std::to_string(flow.depth);
  if (scenario == Scenario::open_loop) text += " rate=" + std::to_string(rate);
  if (one_cpu) text += " one_cpu";
  return text;
}

Try<Figures> measure(Cell& cell, const Terms& terms, Histogram& latency) {
  switch (cell.scenario) {
    case Scenario::throughput: return measure_throughput(cell, terms);
    case Scenario::round_trip:
    case Scenario::wake: return measure_round_trip(cell, terms, latency);
    case Scenario::open_loop: return measure_open_loop(cell, terms, latency);
    case Scenario::hand_over: return measure_hand_over(cell, terms);
    case Scenario::idle: return measure_idle(cell, terms);
  }
  return because("no such scenario");
}

}  // namespace slipring::bench

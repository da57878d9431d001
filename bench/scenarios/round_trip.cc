// SPDX-License-Identifier: Apache-2.0
// How long is a round trip, as a mean of many that nobody looks at, and as a histogram of as many
// that a clock is read for? And the same when both sides fall asleep in between.
#include <algorithm>

#include "cell.h"
#include "harness/clock.h"

namespace slipring::bench {
namespace {

Try<Figures> run_once(const Cell& cell, const Terms& terms, std::uint64_t turns,
                      Histogram* latency) {
  Shape shape = cell.shape;
  shape.there_and_back = true;
  auto session = cell.who->open(shape);
  if (!session) return because(session.error());
  Flow flow = cell.flow;
  flow.count = turns;
  flow.warm_up = turns / 10;
  const int cpu = cell.one_cpu ? terms.cpus.second : terms.cpus.first;
  Run run;
  const auto ran = run.go(cell.who->traits().placement,
                          {{terms.cpus.second,
                            [&](SideReport& report, Board&, const Begin& begin) {
                              return (*session)->echo(flow, report, begin);
                            }},
                           {cpu, [&](SideReport& report, Board& board, const Begin& begin) {
                              return (*session)->ping(flow, report, board, begin);
                            }}});
  if (!ran) return because(ran.error());
  const SideReport& pinger = (*ran)->sides[1];
  Figures out;
  out.set("rtt_ns",
          static_cast<double>(pinger.to_ns - pinger.from_ns) / static_cast<double>(flow.count));
  const Histogram& seen = (*ran)->latency;
  for (const auto& [name, q] :
       {std::pair{"p50_ns", 0.5}, std::pair{"p99_ns", 0.99}, std::pair{"p999_ns", 0.999}}) {
    if (seen.resolves(q)) out.set(name, static_cast<double>(seen.at(q)) * ns_per_tick());
  }
  out.set("max_ns", static_cast<double>(seen.max()) * ns_per_tick());
  double cpu_ns = 0, switches = 0, pinned = 1;
  for (int i = 0; i < 2; ++i) {
    const SideReport& side = (*ran)->sides[i];
    cpu_ns += static_cast<double>(side.cpu_ns);
    switches += static_cast<double>(side.involuntary);
    if (!side.pinned) pinned = 0;
  }
  out.set("cpu_ns", cpu_ns / static_cast<double>(flow.warm_up + 2 * flow.count));
  out.set("switches", switches);
  out.set("pinned", pinned);
  if (latency != nullptr) latency->merge(seen);
  return out;
}

}  // namespace

Try<Figures> measure_round_trip(Cell& cell, const Terms& terms, Histogram& latency) {
  if (cell.pace == 0) {
    const auto found = run_once(cell, terms, cell.scenario == Scenario::wake ? 50 : 1000, nullptr);
    if (!found) return found;
    cell.pace = 1e9 / (found->get("rtt_ns") + cell.flow.gap_ns);
  }
  // Half of the time without a look at the clock, half with.
  const auto turns = static_cast<std::uint64_t>(cell.pace * terms.seconds / 2);
  auto found = run_once(cell, terms, std::clamp<std::uint64_t>(turns, 100, 2'000'000), &latency);
  if (found) cell.pace = 1e9 / (found->get("rtt_ns") + cell.flow.gap_ns);
  return found;
}

}  // namespace slipring::bench

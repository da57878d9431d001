// SPDX-License-Identifier: Apache-2.0
// How late is a message, counted from the time when it should have been sent? The sender keeps a
// schedule and does not wait for the receiver: what stands still shows up in every message that
// was due meanwhile.
#include <algorithm>
#include <cmath>

#include "cell.h"
#include "harness/clock.h"

namespace slipring::bench {

Try<Figures> measure_open_loop(Cell& cell, const Terms& terms, Histogram& latency) {
  double rate = cell.rate;
  if (rate < 0) {
    // A share of saturation: as fast as this contender was a moment ago.
    Cell saturated = cell;
    saturated.pace = cell.pace;
    Terms brief = terms;
    brief.laps = 4;
    brief.seconds = terms.seconds / 4;
    const auto found = measure_throughput(saturated, brief);
    if (!found) return found;
    cell.pace = saturated.pace;
    rate = -cell.rate * found->get("mps") * 1e6;
  }
  auto session = cell.who->open(cell.shape);
  if (!session) return because(session.error());
  Flow flow = cell.flow;
  flow.interval_ns = 1e9 / rate;
  flow.count = std::max<std::uint64_t>(
      100, static_cast<std::uint64_t>(std::min(rate * terms.seconds * 2, 4e6)));
  flow.warm_up = flow.count / 10;
  Run run;
  const auto ran =
      run.go(cell.who->traits().placement,
             {{terms.cpus.second,
               [&](SideReport& report, Board& board, const Begin& begin) {
                 return (*session)->receive_on_schedule(flow, report, board, begin);
               }},
              {terms.cpus.first, [&](SideReport& report, Board& board, const Begin& begin) {
                 return (*session)->send_on_schedule(flow, report, board, begin);
               }}});
  if (!ran) return because(ran.error());
  const Histogram& seen = (*ran)->latency;
  const SideReport& receiver = (*ran)->sides[0];
  const double all = static_cast<double>(flow.count + flow.warm_up);
  Figures out;
  out.set("rate", rate);
  for (const auto& [name, q] :
       {std::pair{"p50_ns", 0.5}, std::pair{"p90_ns", 0.9}, std::pair{"p99_ns", 0.99},
        std::pair{"p999_ns", 0.999}, std::pair{"p9999_ns", 0.9999}}) {
    if (seen.resolves(q)) out.set(name, static_cast<double>(seen.at(q)) * ns_per_tick());
  }
  out.set("max_ns", static_cast<double>(seen.max()) * ns_per_tick());
  // The sender keeps the time, which takes a CPU: only the receiver's says something.
  out.set("receiver_cpu_ns", static_cast<double>(receiver.cpu_ns) / all);
  out.set("sender_cpu_ns", static_cast<double>((*ran)->sides[1].cpu_ns) / all);
  out.set("switches", static_cast<double>(receiver.involuntary + (*ran)->sides[1].involuntary));
  out.set("pinned", receiver.pinned && (*ran)->sides[1].pinned ? 1 : 0);
  latency.merge(seen);
  return out;
}

}  // namespace slipring::bench

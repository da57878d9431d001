// SPDX-License-Identifier: Apache-2.0
// How many messages a second, when the sender always has one more? One producer, or several: on
// two CPUs they share one, which shows whether the total falls, not whether it scales.
#include <algorithm>

#include "cell.h"

namespace slipring::bench {
namespace {

constexpr std::size_t kLook = std::size_t{32} << 20;  // bytes: enough for a guess

Try<Figures> run_once(const Cell& cell, const Terms& terms, std::uint64_t count) {
  auto session = cell.who->open(cell.shape);
  if (!session) return because(session.error());
  Flow flow = cell.flow;
  const std::uint32_t producers = cell.shape.producers;
  flow.count = count;
  // The CPUs may be ten times as far apart as when its pace was taken.
  if (producers == 1) flow.patience_ns = 3e9 * terms.seconds;
  flow.warm_up = std::max<std::uint64_t>(1, count / 10);
  const int producer_cpu = cell.one_cpu ? terms.cpus.second : terms.cpus.first;
  std::vector<Side> sides;
  // The receiver is first: some channels want it to be there before anybody sends.
  sides.push_back({terms.cpus.second, [&](SideReport& report, Board& board, const Begin& begin) {
                     return (*session)->drain(flow, producers, report, board, begin);
                   }});
  for (std::uint32_t i = 0; i < producers; ++i) {
    sides.push_back({producer_cpu, [&, i](SideReport& report, Board& board, const Begin& begin) {
                       Flow mine = flow;
                       mine.stream = i;
                       return (*session)->pump(mine, report, board, begin);
                     }});
  }
  const std::int64_t helper_from = cell.who->helper_cpu_ns();
  Run run;
  const auto ran = run.go(cell.who->traits().placement, sides);
  if (!ran) return because(ran.error());
  const SideReport& receiver = (*ran)->sides[0];
  const double seconds = static_cast<double>(receiver.to_ns - receiver.from_ns) / 1e9;
  const double messages = static_cast<double>(receiver.messages);
  const double all = messages + static_cast<double>(flow.warm_up * producers);
  double cpu_ns = 0, switches = 0, pinned = 1;
  for (std::uint32_t i = 0; i <= producers; ++i) {
    const SideReport& side = (*ran)->sides[i];
    cpu_ns += static_cast<double>(side.cpu_ns);
    switches += static_cast<double>(side.involuntary);
    if (!side.pinned) pinned = 0;
  }
  Figures out;
  out.set("mps", messages / seconds / 1e6);
  out.set("gbs", messages * static_cast<double>(cell.shape.size) / seconds / 1e9);
  out.set("seconds", seconds);
  out.set("messages", messages);
  out.set("cpu_ns", cpu_ns / all);
  if (helper_from != 0) {
    out.set("helper_cpu_ns", static_cast<double>(cell.who->helper_cpu_ns() - helper_from) / all);
  }
  out.set("switches", switches);
  out.set("pinned", pinned);
  return out;
}

}  // namespace

Try<Figures> measure_throughput(Cell& cell, const Terms& terms) {
  const std::uint64_t lap = std::max<std::uint64_t>(1, cell.shape.ring_bytes / cell.shape.size);
  if (cell.pace == 0) {
    // Nobody knows yet how fast it is: a look, long enough to be past the start.
    const std::uint64_t look =
        std::min<std::uint64_t>(std::clamp<std::uint64_t>(4 * lap, 200, 20'000),
                                std::max<std::size_t>(2, kLook / cell.shape.size));
    const auto found = run_once(cell, terms, look);
    if (!found) return found;
    cell.pace = found->get("mps") * 1e6;
  }
  const double producers = cell.shape.producers;
  auto count = static_cast<std::uint64_t>(cell.pace * terms.seconds / producers);
  // So many laps only of what is a ring in shared memory: the others are slow, and have none.
  if (cell.who->traits().has_ring) count = std::max(count, terms.laps * lap / cell.shape.producers);
  count = std::max<std::uint64_t>(count, cell.shape.size < kLook ? 100 : 4);
  const auto found = run_once(cell, terms, count);
  if (found) cell.pace = found->get("mps") * 1e6;
  return found;
}

}  // namespace slipring::bench

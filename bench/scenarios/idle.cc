// SPDX-License-Identifier: Apache-2.0
// What do idle producers cost a busy one? One thread plays both: the busy lane gets a burst, the
// consumer reads until it finds nothing. The rings are bare, without a channel around them.
#include <algorithm>

#include "cell.h"
#include "harness/memory.h"
#include "slipring/ring/mpsc.h"

namespace slipring::bench {
namespace {

constexpr int kBurst = 32;

/// Nanoseconds for a burst: sent, read, and found empty behind it.
Try<double> burst_ns(std::uint32_t idle, double seconds, int cpu) {
  ring::MpscGeometry geometry;
  geometry.lanes = idle + 1;
  geometry.lane.capacity = std::uint64_t{16} << 10;
  auto arena = Arena::make(geometry.total_bytes(), false);
  if (!arena) return because(arena.error());
  const std::span<std::byte> area{arena->data(), geometry.total_bytes()};
  ring::format_mpsc_area(area, geometry);
  const ring::MpscParts parts(area, geometry);
  Run run;
  const auto body = [&](SideReport& report, Board&, const Begin& begin) {
    for (std::uint32_t i = 0; i <= idle; ++i) {
      if (!take_role(parts.producer_role(i))) return report.fail("no place for a producer");
    }
    auto busy = ring::LaneProducer<>::attach(parts.areas(idle / 2), ring::Predecessor::none);
    auto consumer = ring::MpscConsumer<>::attach(area, ring::Predecessor::none);
    if (!busy || !consumer) return report.fail("cannot attach");
    begin();
    const std::byte message[16] = {};
    const auto until = static_cast<std::int64_t>(seconds * 1e9);
    std::uint64_t turns = 0;
    for (std::int64_t warm = 500;; --warm) {
      if (warm == 0) report.from_ns = monotonic_ns();
      for (int i = 0; i < kBurst; ++i) {
        if (!busy->try_send(message)) return report.fail("a message was refused");
      }
      int seen = 0;
      // A quiet lane is polled in one of 16 sweeps: an empty one may come too early.
      while (seen < kBurst) {
        const auto record = consumer->try_peek();
        if (!record) continue;
        consumer->release(*record);
        ++seen;
      }
      if (consumer->try_peek()) return report.fail("a message came twice");
      if (warm > 0) continue;
      ++turns;
      if (turns % 64 != 0) continue;
      report.to_ns = monotonic_ns();
      if (report.to_ns - report.from_ns > until) break;
    }
    report.messages = turns;
    return true;
  };
  const auto ran = run.go(Placement::processes, {{cpu, body}});
  if (!ran) return because(ran.error());
  const SideReport& side = (*ran)->sides[0];
  return static_cast<double>(side.to_ns - side.from_ns) / static_cast<double>(side.messages);
}

}  // namespace

Try<Figures> measure_idle(Cell& cell, const Terms& terms) {
  const auto alone = burst_ns(0, terms.seconds / 2, terms.cpus.first);
  if (!alone) return because(alone.error());
  const auto among = burst_ns(cell.idle, terms.seconds / 2, terms.cpus.first);
  if (!among) return because(among.error());
  Figures out;
  out.set("burst_ns", *among);
  out.set("x_alone", *among / *alone);
  return out;
}

}  // namespace slipring::bench

// SPDX-License-Identifier: Apache-2.0
// What do idle producers cost a busy one? One thread plays both: the busy lane gets a burst, the
// consumer reads until it finds nothing, and the price is that of one burst, as a ratio to that of
// the same burst with no other lane joined.
//
// usage: bench_idle_lanes [--quick] [--rounds N] [--cpus A,B]
#include <map>

#include "harness.h"
#include "slipring/ring/mpsc.h"

namespace {

using namespace slipring;
using namespace slipring::bench;

constexpr std::uint32_t kIdle[] = {0, 63, 1000, 4095};
constexpr int kBursts[] = {1, 32, 256};

/// Nanoseconds for a burst: sent, read, and found empty behind it.
double burst_ns(std::uint32_t idle, int burst) {
  ring::MpscGeometry geometry;
  geometry.lanes = idle + 1;
  geometry.lane.capacity = std::uint64_t{16} << 10;
  const std::size_t bytes = geometry.total_bytes();
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return -1;
  const std::span<std::byte> area{static_cast<std::byte*>(memory), bytes};
  ring::format_mpsc_area(area, geometry);
  const ring::MpscParts parts(area, geometry);
  for (std::uint32_t i = 0; i <= idle; ++i) {
    if (!take_role(parts.producer_role(i))) return -1;
  }
  auto busy = ring::LaneProducer<>::attach(parts.areas(idle / 2), ring::Predecessor::none);
  auto consumer = ring::MpscConsumer<>::attach(area, ring::Predecessor::none);
  if (!busy || !consumer) return -1;
  const std::byte message[16] = {};
  const int turns = 20'000 / burst + 2'000;
  std::int64_t from = 0;
  for (int turn = -turns / 10; turn < turns; ++turn) {
    if (turn == 0) from = monotonic_ns();
    for (int i = 0; i < burst; ++i) {
      if (!busy->try_send(message)) return -1;
    }
    int seen = 0;
    // A quiet lane is polled in one of 16 sweeps: an empty one may come too early.
    while (seen < burst) {
      const auto record = consumer->try_peek();
      if (!record) continue;
      consumer->release(*record);
      ++seen;
    }
    if (consumer->try_peek()) return -1;
  }
  const double ns = static_cast<double>(monotonic_ns() - from) / turns;
  ::munmap(memory, bytes);
  return ns;
}

}  // namespace

int main(int argc, char** argv) {
  Options opt;
  if (!Options::parse(argc, argv, opt, [](const std::string&, const char*) { return false; })) {
    std::fprintf(stderr, "usage: bench_idle_lanes [--quick] [--rounds N] [--cpus A,B]\n");
    return 1;
  }
  pin_to(opt.cpu);
  std::map<std::pair<int, std::uint32_t>, std::vector<double>> ratios, times;
  for (int round = 0; round < opt.rounds; ++round) {
    for (const int burst : kBursts) {
      const double alone = burst_ns(0, burst);
      for (const std::uint32_t idle : kIdle) {
        const double ns = burst_ns(idle, burst);
        if (alone < 0 || ns < 0) {
          std::fprintf(stderr, "bench: a message was lost among %u idle lanes\n", idle);
          return 1;
        }
        ratios[{burst, idle}].push_back(ns / alone);
        times[{burst, idle}].push_back(ns);
      }
    }
  }
  for (const auto& [key, values] : ratios) {
    const Quartiles q = quartiles(values);
    std::printf(
        "BENCH-SUMMARY name=idle_lanes burst=%d idle=%u ns=%.0f ratio=%.3f low=%.3f high=%.3f "
        "rounds=%zu\n",
        key.first, key.second, quartiles(times[key]).median, q.median, q.low, q.high,
        values.size());
  }
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// How long is a round trip between two pinned processes, one message in flight? Given in ns and as
// a multiple of the floor: one bare cache line bounced between the same CPUs in the same round.
//
// usage: bench_rtt [--rounds N] [--cpus A,B] [--require RATIO]
//   --require  exit 1 when the median ratio at 8, 16 or 56 bytes is above RATIO, in rounds with the
//              two CPUs on cores of their own; 77 when there was none
#include <cstring>
#include <map>
#include <string>

#include "harness.h"
#include "slipring/channel/shm.h"

namespace {

using namespace slipring;
using namespace slipring::bench;
using channel::ShmReceiver;
using channel::ShmSender;

constexpr int kTurns = 100'000;
constexpr std::size_t kSizes[] = {8, 16, 56, 64, 256};

channel::ShmOptions shm_options() {
  channel::ShmOptions options;
  options.kind = segment::Backend::memfd;
  options.wait = wait::WaitStrategy::spin();
  return options;
}

/// One round trip in ns, or a negative number when a message was lost or torn.
double round_trip_ns(std::size_t size, const Options& opt) {
  const auto options = shm_options();
  auto there = channel::create_unnamed_ring(options);
  auto back = channel::create_unnamed_ring(options);
  if (!there || !back) return -1;
  Peer echo(opt.peer_cpu, [&] {
    auto rx = ShmReceiver::attach(std::move(*there), options);
    auto tx = ShmSender::attach(std::move(*back), options);
    if (!rx || !tx) return false;
    std::byte copy[256];
    for (int i = 0; i < kTurns + kTurns / 10; ++i) {
      auto message = rx->peek();
      if (!message || message->bytes().size() != size) return false;
      std::memcpy(copy, message->bytes().data(), size);
      message->release();
      if (!tx->send({copy, size})) return false;
    }
    return true;
  });
  pin_to(opt.cpu);
  auto tx = ShmSender::attach(std::move(*there), options);
  auto rx = ShmReceiver::attach(std::move(*back), options);
  if (!tx || !rx) return -1;
  std::byte out[256] = {};
  std::int64_t from = 0;
  for (std::uint64_t i = 0; i < kTurns + kTurns / 10; ++i) {
    if (i == kTurns / 10) from = monotonic_ns();
    std::memcpy(out, &i, sizeof i);
    if (!tx->send({out, size})) return -1;
    auto message = rx->peek();
    // The reply depends on the payload, and every byte of it is looked at.
    if (!message || std::memcmp(message->bytes().data(), out, size) != 0) return -1;
  }
  const double ns = static_cast<double>(monotonic_ns() - from) / kTurns;
  return echo.join() ? ns : -1;
}

}  // namespace

int main(int argc, char** argv) {
  Options opt;
  double require = 0;
  const auto own = [&](const std::string& name, const char* value) {
    require = std::atof(value);
    return name == "--require";
  };
  if (!Options::parse(argc, argv, opt, own)) {
    std::fprintf(stderr, "usage: bench_rtt [--rounds N] [--cpus A,B] [--require RATIO]\n");
    return 1;
  }
  if (::sysconf(_SC_NPROCESSORS_ONLN) < 2) {
    std::fprintf(stderr, "bench: needs two CPUs\n");
    return 77;
  }
  // The hypervisor moves the CPUs: rounds of one class are compared with each other alone.
  std::map<std::string, std::map<std::size_t, std::vector<double>>> ratios;
  int dropped = 0;
  for (int round = 0; round < opt.rounds; ++round) {
    const double before = raw_round_trip_ns(opt.cpu, opt.peer_cpu, 200'000);
    std::map<std::size_t, double> took;
    // Rotated, so that nobody always follows the same neighbour.
    for (std::size_t i = 0; i < std::size(kSizes); ++i) {
      const std::size_t size = kSizes[(i + static_cast<std::size_t>(round)) % std::size(kSizes)];
      took[size] = round_trip_ns(size, opt);
      if (took[size] < 0) {
        std::fprintf(stderr, "bench: a message of %zu bytes was lost or torn\n", size);
        return 1;
      }
    }
    const double after = raw_round_trip_ns(opt.cpu, opt.peer_cpu, 200'000);
    if (std::string(round_class(before)) != round_class(after)) {
      ++dropped;
      continue;
    }
    const double raw = (before + after) / 2;
    for (const auto& [size, ns] : took) {
      ratios[round_class(raw)][size].push_back(ns / raw);
      std::printf("BENCH name=rtt bytes=%zu round=%d class=%s rtt_ns=%.1f raw_ns=%.1f ratio=%.3f\n",
                  size, round, round_class(raw), ns, raw, ns / raw);
    }
  }
  std::printf("# rounds %d, dropped %d (the CPUs changed place)\n", opt.rounds, dropped);
  bool met = true;
  for (const auto& [of_class, sizes] : ratios) {
    for (const auto& [size, values] : sizes) {
      const Quartiles q = quartiles(values);
      const bool counts = require > 0 && size <= 56 && of_class == "cross";
      met = met && (!counts || q.median <= require);
      std::printf(
          "BENCH-SUMMARY name=rtt class=%s bytes=%zu ratio=%.3f low=%.3f high=%.3f rounds=%zu%s\n",
          of_class.c_str(), size, q.median, q.low, q.high, values.size(),
          !counts               ? ""
          : q.median <= require ? " met"
                                : " missed");
    }
  }
  if (require > 0 && !ratios.contains("cross")) {
    std::printf("# no round with the CPUs on cores of their own: the requirement was not judged\n");
    return 77;
  }
  return met ? 0 : 1;
}

// SPDX-License-Identifier: Apache-2.0
// Where does a message go best: into the ring, into a block, or into chunks? And what does it cost
// to hand a block over that is filled already?
//
//   tiers     messages of one size, copied in and read whole; GB/s of each tier, and as a ratio to
//             the ring's (or, beyond its records, to the stream's) of the same round
//   hand-over round trip of a filled block that nobody touches, as a ratio to that of 64 bytes
//
// usage: bench_tiers [--quick] [--rounds N] [--cpus A,B] [--require RATIO]
//   --require  exit 1 when the hand-over of 1 MiB costs RATIO round trips of 64 bytes or more
#include <cstring>
#include <map>
#include <string>

#include "harness.h"
#include "slipring/channel/message_receiver.h"
#include "slipring/channel/message_sender.h"

namespace {

using namespace slipring;
using namespace slipring::bench;
using namespace slipring::channel;

constexpr std::size_t kSizes[] = {512,      1 << 10,  2 << 10,  4 << 10,   8 << 10,
                                  16 << 10, 32 << 10, 64 << 10, 256 << 10, 1 << 20};
constexpr Tier kTiers[] = {Tier::ring, Tier::block, Tier::stream};
constexpr const char* kTierNames[] = {"ring", "block", "stream"};
constexpr std::size_t kHandedOver[] = {4 << 10, 64 << 10, 1 << 20};

ShmOptions shm_options(bool with_pool) {
  ShmOptions options;
  options.kind = segment::Backend::memfd;
  options.wait = wait::WaitStrategy::spin();
  if (with_pool) {
    pool::PoolSpec blocks;
    for (std::size_t bytes = 256; bytes <= 1 << 20; bytes *= 2) blocks.with(bytes, 4);
    options.pool = blocks;
  }
  return options;
}

/// Edges that leave one tier for every size, as far as it can take it.
MessageSender::Options only(Tier tier) {
  MessageSender::Options options;
  options.tiers.block_from = tier == Tier::block ? 1 : ~std::uint64_t{0};
  return options;
}

std::uint64_t sum_of(std::span<const std::byte> bytes) {
  std::uint64_t sum = 0, word = 0;
  for (std::size_t at = 0; at + 8 <= bytes.size(); at += 8) {
    std::memcpy(&word, bytes.data() + at, 8);
    sum += word;
  }
  return sum;
}

/// GB/s, or a negative number when a message was lost or torn.
double throughput(std::size_t size, Tier tier, const Options& opt) {
  const auto options = shm_options(tier == Tier::block);
  auto segment = create_unnamed_ring(options);
  if (!segment) return -1;
  const std::size_t count = std::max<std::size_t>(200, (std::size_t{96} << 20) / size);
  const std::size_t warm_up = count / 10;
  std::vector<std::byte> message(size);
  for (std::size_t i = 0; i < size; ++i) message[i] = static_cast<std::byte>(i * 7);
  const std::uint64_t expected = sum_of(message);
  Peer sender(opt.peer_cpu, [&] {
    auto ring = ShmSender::attach(std::move(*segment), options);
    if (!ring) return false;
    auto tx = MessageSender::over(std::move(*ring), only(tier));
    if (!tx) return false;
    for (std::size_t i = 0; i < warm_up + count; ++i) {
      if (tier != Tier::stream) {
        if (!tx->send(message)) return false;
        continue;
      }
      auto stream = tx->stream(size);  // also what would fit a record
      std::size_t at = 0;
      while (stream && !stream->done()) {
        const auto body = stream->next();
        if (!body) return false;
        std::memcpy(body->data(), message.data() + at, body->size());
        at += body->size();
        if (!stream->commit(body->size())) return false;
      }
    }
    return true;
  });
  pin_to(opt.cpu);
  auto ring = ShmReceiver::attach(std::move(*segment), options);
  MessageReceiver::Options in_parts;
  in_parts.mode = frame::Mode::parts;
  if (!ring) return -1;
  auto rx = MessageReceiver::over(std::move(*ring), in_parts);
  if (!rx) return -1;
  std::int64_t from = 0;
  for (std::size_t i = 0; i < warm_up + count; ++i) {
    if (i == warm_up) from = monotonic_ns();
    std::uint64_t sum = 0;
    for (bool last = false; !last;) {
      auto part = rx->peek();
      if (!part) return -1;
      sum += sum_of(part->bytes());
      last = part->is_last();
    }
    // Parts end where they like: their words need not add up to those of the whole.
    if (tier != Tier::stream && sum != expected) return -1;
  }
  const double seconds = static_cast<double>(monotonic_ns() - from) / 1e9;
  return sender.join() ? static_cast<double>(count * size) / seconds / 1e9 : -1;
}

/// Round trip in ns: a message of `size` there, 64 bytes back. Of a block nothing is touched.
double round_trip_ns(std::size_t size, const Options& opt) {
  constexpr int kTurns = 30'000;
  const auto there_options = shm_options(true);
  const auto back_options = shm_options(false);
  auto there = create_unnamed_ring(there_options);
  auto back = create_unnamed_ring(back_options);
  if (!there || !back) return -1;
  Peer echo(opt.peer_cpu, [&] {
    auto in = ShmReceiver::attach(std::move(*there), there_options);
    auto tx = ShmSender::attach(std::move(*back), back_options);
    if (!in || !tx) return false;
    auto rx = MessageReceiver::over(std::move(*in), {});
    if (!rx) return false;
    const std::byte reply[64] = {};
    for (int i = 0; i < kTurns + kTurns / 10; ++i) {
      auto message = rx->peek();
      if (!message || message->size() != size) return false;
      message->release();
      if (!tx->send(reply)) return false;
    }
    return true;
  });
  pin_to(opt.cpu);
  auto out = ShmSender::attach(std::move(*there), there_options);
  auto rx = ShmReceiver::attach(std::move(*back), back_options);
  if (!out || !rx) return -1;
  MessageSender::Options in_blocks;
  in_blocks.tiers.block_from = 4096;
  auto tx = MessageSender::over(std::move(*out), in_blocks);
  if (!tx) return -1;
  std::int64_t from = 0;
  for (int i = 0; i < kTurns + kTurns / 10; ++i) {
    if (i == kTurns / 10) from = monotonic_ns();
    auto claim = tx->claim(size);
    if (!claim || (size > 64 && claim->tier() != Tier::block)) return -1;
    if (size <= 64) std::memset(claim->payload().data(), i, size);
    if (!claim->commit()) return -1;
    if (!rx->peek()) return -1;
  }
  const double ns = static_cast<double>(monotonic_ns() - from) / kTurns;
  return echo.join() ? ns : -1;
}

using Figures = std::map<std::size_t, std::map<std::string, std::vector<double>>>;

bool run_round(int round, const Options& opt, Figures& ratios) {
  for (const std::size_t size : kSizes) {
    std::map<std::string, double> gbs;
    for (std::size_t i = 0; i < std::size(kTiers); ++i) {
      const std::size_t which = (i + static_cast<std::size_t>(round)) % std::size(kTiers);
      if (kTiers[which] == Tier::ring && size > 64 << 10) continue;
      const double rate = throughput(size, kTiers[which], opt);
      if (rate < 0) {
        std::fprintf(stderr, "bench: %zu bytes by %s: lost or torn\n", size, kTierNames[which]);
        return false;
      }
      gbs[kTierNames[which]] = rate;
    }
    const double base = gbs.contains("ring") ? gbs["ring"] : gbs["stream"];
    for (const auto& [name, rate] : gbs) {
      ratios[size][name].push_back(rate / base);
      std::printf("BENCH name=tiers bytes=%zu tier=%s round=%d gbs=%.3f ratio=%.3f\n", size,
                  name.c_str(), round, rate, rate / base);
    }
  }
  const double small = round_trip_ns(64, opt);
  for (const std::size_t size : kHandedOver) {
    const double ns = round_trip_ns(size, opt);
    if (small < 0 || ns < 0) {
      std::fprintf(stderr, "bench: a block of %zu bytes was lost\n", size);
      return false;
    }
    ratios[size]["hand-over"].push_back(ns / small);
    std::printf("BENCH name=handover bytes=%zu round=%d rtt_ns=%.1f rtt64_ns=%.1f ratio=%.3f\n",
                size, round, ns, small, ns / small);
  }
  return true;
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
    std::fprintf(stderr,
                 "usage: bench_tiers [--quick] [--rounds N] [--cpus A,B] [--require RATIO]\n");
    return 1;
  }
  if (::sysconf(_SC_NPROCESSORS_ONLN) < 2) {
    std::fprintf(stderr, "bench: needs two CPUs\n");
    return 77;
  }
  Figures ratios;
  for (int round = 0; round < opt.rounds; ++round) {
    if (!run_round(round, opt, ratios)) return 1;
  }
  bool met = true;
  for (const auto& [size, tiers] : ratios) {
    for (const auto& [name, values] : tiers) {
      const Quartiles q = quartiles(values);
      const bool counts = require > 0 && name == "hand-over" && size == 1 << 20;
      met = met && (!counts || q.median < require);
      std::printf(
          "BENCH-SUMMARY name=tiers bytes=%zu tier=%s ratio=%.3f low=%.3f high=%.3f rounds=%zu%s\n",
          size, name.c_str(), q.median, q.low, q.high, values.size(),
          !counts              ? ""
          : q.median < require ? " met"
                               : " missed");
    }
  }
  return met ? 0 : 1;
}

// SPDX-License-Identifier: Apache-2.0
// What does it cost to hand over a block that is filled already? A round trip: a block there, of
// which nobody touches a byte, and 64 bytes back.
#include <algorithm>
#include <cstring>

#include "cell.h"
#include "harness/memory.h"
#include "slipring/channel/message_receiver.h"
#include "slipring/channel/message_sender.h"

namespace slipring::bench {
namespace {

using namespace slipring::channel;

ShmOptions shm_options(std::size_t block_bytes) {
  ShmOptions options;
  options.kind = segment::Backend::memfd;
  options.wait = wait::WaitStrategy::spin();
  if (block_bytes > 0) {
    options.pool = pool::PoolSpec{}.with(std::max<std::size_t>(block_bytes, 4096), 4);
    options.prefault = false;  // not a byte of the blocks is touched
  }
  return options;
}

bool echo(segment::Segment there, segment::Segment back, std::size_t size, std::uint64_t turns,
          SideReport& report, const Begin& begin) {
  auto in = ShmReceiver::attach(std::move(there), shm_options(size));
  auto tx = ShmSender::attach(std::move(back), shm_options(0));
  if (!in || !tx) return report.fail("cannot attach");
  auto rx = MessageReceiver::over(std::move(*in), {});
  if (!rx) return report.fail(text_of(rx.error()));
  begin();
  const std::byte reply[64] = {};
  for (std::uint64_t i = 0; i < turns; ++i) {
    auto message = rx->peek();
    if (!message || message->size() != size) return report.fail("a block was lost");
    message->release();
    if (!tx->send(reply)) return report.fail("a reply was refused");
  }
  return true;
}

bool ping(segment::Segment there, segment::Segment back, std::size_t size, std::uint64_t turns,
          SideReport& report, const Begin& begin) {
  auto out = ShmSender::attach(std::move(there), shm_options(size));
  auto rx = ShmReceiver::attach(std::move(back), shm_options(0));
  if (!out || !rx) return report.fail("cannot attach");
  MessageSender::Options in_blocks;
  in_blocks.tiers.block_from = 4096;
  auto tx = MessageSender::over(std::move(*out), in_blocks);
  if (!tx) return report.fail(text_of(tx.error()));
  begin();
  for (std::uint64_t i = 0; i < turns + turns / 10; ++i) {
    if (i == turns / 10) report.from_ns = monotonic_ns();
    auto claim = tx->claim(size);
    if (!claim || (size > 64 && claim->tier() != Tier::block)) return report.fail("no block");
    if (size <= 64) std::memset(claim->payload().data(), static_cast<int>(i), size);
    if (!claim->commit()) return report.fail("a block was refused");
    if (!rx->peek()) return report.fail("a reply was lost");
  }
  report.to_ns = monotonic_ns();
  return true;
}

}  // namespace

Try<Figures> measure_hand_over(Cell& cell, const Terms& terms) {
  const std::size_t size = cell.shape.size;
  auto there = create_unnamed_ring(shm_options(size));
  auto back = create_unnamed_ring(shm_options(0));
  if (!there) return because(text_of(there.error()));
  if (!back) return because(text_of(back.error()));
  const auto turns = std::max<std::uint64_t>(
      1000, static_cast<std::uint64_t>((cell.pace == 0 ? 1e5 : cell.pace) * terms.seconds));
  Run run;
  // Each side is a process: what is moved here is its own copy.
  const auto ran = run.go(
      Placement::processes,
      {{terms.cpus.second,
        [&](SideReport& report, Board&, const Begin& begin) {
          return echo(std::move(*there), std::move(*back), size, turns + turns / 10, report, begin);
        }},
       {terms.cpus.first, [&](SideReport& report, Board&, const Begin& begin) {
          return ping(std::move(*there), std::move(*back), size, turns, report, begin);
        }}});
  if (!ran) return because(ran.error());
  const SideReport& pinger = (*ran)->sides[1];
  Figures out;
  out.set("rtt_ns",
          static_cast<double>(pinger.to_ns - pinger.from_ns) / static_cast<double>(turns));
  cell.pace = 1e9 / out.get("rtt_ns");
  return out;
}

}  // namespace slipring::bench

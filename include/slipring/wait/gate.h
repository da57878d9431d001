// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "slipring/base/deadline.h"
#include "slipring/base/result.h"
#include "slipring/base/shared_access.h"
#include "slipring/wait/doorbell.h"
#include "slipring/wait/fence.h"
#include "slipring/wait/primitive.h"

namespace slipring::wait {

/// Wakes all who sleep at the gate whose word was just raised.
/// Progress: one system call.
void open_gate(const SharedWord<std::uint32_t>& seq) noexcept;

/// A gate: many sleepers, one opener, one futex word. Where a doorbell names its one sleeper by a
/// ticket, a gate has a mark that any sleeper sets and the opener clears, so that an opener with
/// nobody at the gate pays one load. Fences are symmetric on both sides: the opener looks rarely.
///
///   sleeper: park_unless(announce, ready, deadline)      opener, after making room
///     G1  s = seq                   (acquire)              O1  publish the room
///     G2  announce(): set the mark                         O2  full fence
///     G3  full fence                                       O3  if the mark is clear: done
///     G4  if ready(): return                               O4  clear it; seq += 1   (release)
///     G5  sleep while seq == s, bounded                    O5  open_gate(seq)
///
/// No lost wake-up: of G3 and O2 one is first. If O2, then G4 sees O1. If G3, then O3 sees a mark,
/// ours or one that stands for ours: it was cleared only by an O4 behind our G1, and then seq is
/// not s. An opener killed between O1 and O5 costs one bounded park.
///
/// Threads:  one at a time; each sleeper has its own.
/// Trust:    `seq` is the opener's: a bad one shortens or lengthens a sleep within kMaxPark.
template <typename Access = NativeAccess>
class GateSleeper {
 public:
  /// `max_park`: longer than kMaxPark is for tests that want a lost wake-up to hang.
  /// Errors: no_space  no memory.
  [[nodiscard]] static Result<GateSleeper> attach(
      const SharedWord<std::uint32_t>& seq,
      std::chrono::milliseconds max_park = kMaxPark) noexcept {
    SleeperOptions options;
    auto sleep = detail::make_sleep_primitive(BellKind::futex, nullptr, options);
    if (!sleep) return tl::unexpected(sleep.error());
    return GateSleeper(seq, std::move(*sleep), max_park);
  }

  /// Sleeps unless `ready()`, asked once the mark is out. At most min(deadline, kMaxPark).
  /// Orders: gate.mark, gate.open.
  template <typename Announce, typename Ready>
  [[nodiscard]] WakeReason park_unless(Announce&& announce, Ready&& ready, Deadline deadline) {
    // SYNC gate.open (acquire <- release in TotalConsumer::space_wanted_seen):
    //   what was made room for up to here is seen by ready().
    const std::uint32_t seen = Access::load_acquire(*seq_);
    announce();
    // SYNC gate.mark (heavy fence <-> light fence in ReceiverState::open_gate_if_wanted): of our
    // mark and
    //   its room, at least one is seen by the other side.
    Fences<Access>::full();
    if (ready()) return WakeReason::ready;
    const std::int64_t from_ns = monotonic_ns();
    const bool rung = sleep_->sleep(*seq_, seen, deadline.or_earlier(Deadline::in(max_park_)),
                                    counters_.spurious);
    ++counters_.parks;
    counters_.parked_ns += static_cast<std::uint64_t>(monotonic_ns() - from_ns);
    return rung ? WakeReason::rung : WakeReason::timed_out;
  }
  [[nodiscard]] const SleeperCounters& counters() const noexcept { return counters_; }

 private:
  GateSleeper(const SharedWord<std::uint32_t>& seq, std::unique_ptr<detail::SleepPrimitive> sleep,
              std::chrono::milliseconds max_park) noexcept
      : seq_(&seq), sleep_(std::move(sleep)), max_park_(max_park) {}
  const SharedWord<std::uint32_t>* seq_;
  std::unique_ptr<detail::SleepPrimitive> sleep_;
  std::chrono::milliseconds max_park_;
  SleeperCounters counters_;
};

}  // namespace slipring::wait

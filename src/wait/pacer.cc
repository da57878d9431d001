// SPDX-License-Identifier: Apache-2.0
#include "slipring/wait/pacer.h"

#include <algorithm>

#include "slipring/wait/wait_strategy.h"

namespace slipring::wait {
namespace {

/// A slip costs latency: it has to bring at least a tenth more, and a longer one a twentieth.
constexpr double kWorthFirst = 1.10;
constexpr double kWorthLonger = 1.05;

}  // namespace

void Pacer::begin(Phase phase, std::int64_t slip_ns, std::int64_t now_ns) noexcept {
  phase_ = phase;
  slip_ns_ = slip_ns;
  visits_left_ = visits_ = phase == Phase::on ? kOnWindows * kWindow : kWindow;
  bytes_ = 0;
  singles_ = 0;
  began_ns_ = now_ns;
}

void Pacer::give_up(std::int64_t hold) noexcept {
  hold_ = std::min(hold, kMaxHold);
  begin(Phase::off, 0, 0);
  visits_left_ = hold_;
}

void Pacer::turn(std::int64_t now_ns) noexcept {
  const std::int64_t took_ns = now_ns - began_ns_;
  if (phase_ == Phase::off || phase_ == Phase::on) {
    if (cap_ns_ < kFirstSlip.count()) return give_up(kMaxHold);
    return begin(Phase::without, 0, now_ns);
  }
  if (took_ns < kMinWindowNs) {  // too short to tell anything
    visits_left_ = kWindow;
    visits_ += kWindow;
    return;
  }
  const double rate = static_cast<double>(bytes_) / static_cast<double>(took_ns);
  if (phase_ == Phase::without) {
    best_rate_ = rate;
    best_slip_ns_ = 0;
    // A sender that leaves us waiting for longer than a slip has nothing to gain from one.
    if (took_ns > visits_ * cap_ns_) return give_up(2 * hold_);
    return begin(Phase::trial, kFirstSlip.count(), now_ns);
  }
  if (rate > best_rate_ * (best_slip_ns_ == 0 ? kWorthFirst : kWorthLonger)) {
    best_rate_ = rate;
    best_slip_ns_ = slip_ns_;
    if (slip_ns_ < cap_ns_) {
      return begin(Phase::trial, std::min(2 * slip_ns_, cap_ns_), now_ns);
    }
  }
  if (best_slip_ns_ == 0) return give_up(2 * hold_);
  hold_ = kFirstHold;
  begin(Phase::on, best_slip_ns_, now_ns);
}

void stay_away(std::int64_t ns, Deadline deadline) noexcept {
  const std::int64_t until = std::min(monotonic_ns() + ns, deadline.ns());
  while (monotonic_ns() < until) pause_cpu();
}

}  // namespace slipring::wait

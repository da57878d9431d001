// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "slipring/wait/wait_strategy.h"

namespace slipring::wait {
namespace detail {

/// The rungs above the bare polls.
template <typename Bell, typename Ready, typename Tick>
class Ladder {
 public:
  Ladder(const WaitStrategy& strategy, Bell& sleeper, Deadline deadline, Ready& ready,
         Tick& tick) noexcept
      : strategy_(strategy), sleeper_(sleeper), deadline_(deadline), ready_(ready), tick_(tick) {}

  [[nodiscard]] Result<void> climb() {
    ticked_at_ns_ = monotonic_ns();
    if (look(budget_until())) return {};
    if (!strategy_.parks()) return spin();
    return park();
  }

 private:
  static constexpr int kPollsPerClock = 32;

  [[nodiscard]] std::int64_t budget_until() const noexcept {
    if (!strategy_.parks() || has_one_cpu(ticked_at_ns_)) return 0;
    const std::int64_t until = ticked_at_ns_ + strategy_.budget().count();
    return until < deadline_.ns() ? until : deadline_.ns();
  }

  /// Polls with pauses until `until_ns`. True: ready.
  [[nodiscard]] bool look(std::int64_t until_ns) {
    while (monotonic_ns() < until_ns) {
      for (int i = 0; i < kPollsPerClock; ++i) {
        if (ready_()) return true;
        pause_cpu();
      }
    }
    return false;
  }

  /// Asks `tick`, whose error counts only if there is nothing left to read.
  [[nodiscard]] Result<bool> ask() {
    ticked_at_ns_ = monotonic_ns();
    const Result<void> went = tick_();
    if (ready_()) return true;
    if (!went) return tl::unexpected(went.error());
    return false;
  }

  [[nodiscard]] Result<void> spin() {
    const bool alone = has_one_cpu(ticked_at_ns_);
    for (;;) {
      const std::int64_t until = ticked_at_ns_ + std::chrono::nanoseconds(kTickEvery).count();
      while (monotonic_ns() < until) {
        for (int i = 0; i < kPollsPerClock; ++i) {
          if (ready_()) return {};
          pause_cpu();
        }
        if (deadline_.passed()) return ready_() ? Result<void>{} : fail(Errc::timed_out, 0, "wait");
        if (alone) yield_cpu();  // the peer can only run if we do not
      }
      const Result<bool> done = ask();
      if (!done) return tl::unexpected(done.error());
      if (*done) return {};
    }
  }

  [[nodiscard]] Result<void> park() {
    for (;;) {
      if (deadline_.passed()) return ready_() ? Result<void>{} : fail(Errc::timed_out, 0, "wait");
      // Also when it was rung for nothing: so does who found the peer dead.
      const Result<bool> done = ask();
      if (!done) return tl::unexpected(done.error());
      if (*done) return {};
      if (sleeper_.park_unless(ready_, deadline_) == WakeReason::ready || ready_()) return {};
    }
  }

  const WaitStrategy& strategy_;
  Bell& sleeper_;
  Deadline deadline_;
  Ready& ready_;
  Tick& tick_;
  std::int64_t ticked_at_ns_ = 0;
};

}  // namespace detail

template <typename Bell, typename Ready, typename Idle, typename Tick>
Result<void> wait_until(const WaitStrategy& strategy, Bell& sleeper, Deadline deadline,
                        Ready&& ready, Idle&& idle, Tick&& tick) {
  for (int i = 0; i < kBarePolls; ++i) {
    if (ready()) return {};
  }
  idle();
  if (deadline.passed()) return ready() ? Result<void>{} : fail(Errc::timed_out, 0, "wait");
  return detail::Ladder<Bell, Ready, Tick>(strategy, sleeper, deadline, ready, tick).climb();
}

}  // namespace slipring::wait

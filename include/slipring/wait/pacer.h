// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>

#include "slipring/base/deadline.h"

namespace slipring::wait {

/// How long a consumer stays away from a ring that ran empty: a *slip*.
///
/// A consumer that is as fast as its producer polls the very line that is being written, and each
/// message pays for a hand-over of that line. Kept apart for a microsecond, the two share that
/// price among all messages of the next visit: cost per message is c + h/n. Request and reply, and
/// slow senders, must not wait. So a slip is tried by its effect: windows of some visits with and
/// without it are timed, and it stays only while it moves more bytes per second. Tries get rarer
/// each time in vain. docs/lane.md, "Pacing".
///
/// Threads:  one at a time.  Progress: wait-free; it decides, and waits for nothing itself.
class Pacer {
 public:
  static constexpr std::chrono::nanoseconds kFirstSlip{250};
  static constexpr std::chrono::nanoseconds kDefaultCap{2000};

  /// `cap` bounds every slip; below kFirstSlip: never any.
  explicit Pacer(std::chrono::nanoseconds cap) noexcept : cap_ns_(cap.count()) {}

  /// At the first empty poll after a visit that took `records` and `bytes` of ring. Returns the ns
  /// to stay away before the next poll; 0: go on polling. Reads the clock once per window, through
  /// `now()`, in ns.
  template <typename Now>
  [[nodiscard]] std::int64_t after_visit(std::uint64_t records, std::uint64_t bytes,
                                         Now&& now) noexcept {
    bytes_ += bytes;
    if (phase_ == Phase::on && records <= 1 && ++singles_ > 1) [[unlikely]]
      give_up(kFirstHold);  // no stream any more: one by one
    if (--visits_left_ <= 0) [[unlikely]]
      turn(now());
    slips_ += slip_ns_ != 0;
    return slip_ns_;
  }

  [[nodiscard]] std::int64_t slip_ns() const noexcept { return slip_ns_; }
  [[nodiscard]] std::uint64_t slips() const noexcept { return slips_; }

 private:
  enum class Phase : std::uint8_t {
    off,      // no slip, and no clock, for hold_ visits
    without,  // a window without a slip, to compare with
    trial,    // a window with one that is longer than the best so far
    on,       // the best one, until it is due to be looked at again
  };
  static constexpr std::int64_t kWindow = 16;  // visits
  static constexpr std::int64_t kMinWindowNs = 10'000;
  static constexpr std::int64_t kOnWindows = 64;
  static constexpr std::int64_t kFirstHold = 64;
  static constexpr std::int64_t kMaxHold = 65'536;

  void turn(std::int64_t now_ns) noexcept;
  void begin(Phase phase, std::int64_t slip_ns, std::int64_t now_ns) noexcept;
  void give_up(std::int64_t hold) noexcept;

  std::int64_t cap_ns_;
  std::int64_t slip_ns_ = 0;
  std::int64_t visits_left_ = kFirstHold;  // to the next look at the clock
  std::uint64_t bytes_ = 0;                // of this window
  std::int64_t visits_ = 0;
  std::int64_t began_ns_ = 0;
  double best_rate_ = 0;  // bytes per ns, and
  std::int64_t best_slip_ns_ = 0;
  std::int64_t hold_ = kFirstHold;
  std::uint32_t singles_ = 0;
  std::uint64_t slips_ = 0;
  Phase phase_ = Phase::off;
};

/// Lets `ns` pass, at most to the deadline, without touching memory that anybody else writes.
void stay_away(std::int64_t ns, Deadline deadline) noexcept;

}  // namespace slipring::wait

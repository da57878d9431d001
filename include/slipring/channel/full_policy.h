// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "slipring/base/deadline.h"

namespace slipring::channel {

/// What a sender does with a message that finds no room. A value.
/// Of a message in chunks, refuse and stash decide about its beginning: half of it is of no use, so
/// from then on it waits as long as somebody receives.
/// Source: the options of Mach's msg_send: wait, wait so long, return, and one message put by with
///         a notice for when there is room; ours puts by as many as fit a bound, in their order.
class OnFull {
 public:
  enum class Kind : std::uint8_t { wait, wait_for, refuse, stash };

  /// Until there is room, or the receiver is gone.
  [[nodiscard]] static constexpr OnFull wait() noexcept { return {Kind::wait, {}, 0}; }
  /// The same, at most so long: then `timed_out`, and nothing of the message was sent.
  [[nodiscard]] static constexpr OnFull wait_for(std::chrono::nanoseconds limit) noexcept {
    return {Kind::wait_for, limit, 0};
  }
  /// Not at all: `full`.
  [[nodiscard]] static constexpr OnFull refuse() noexcept { return {Kind::refuse, {}, 0}; }
  /// Put it by in private memory, up to so many bytes of messages; any later call sends what fits,
  /// oldest first. More than that is `full`.
  [[nodiscard]] static constexpr OnFull stash(std::size_t bytes) noexcept {
    return {Kind::stash, {}, bytes};
  }
  constexpr OnFull() noexcept : OnFull(wait()) {}

  [[nodiscard]] constexpr Kind kind() const noexcept { return kind_; }
  [[nodiscard]] constexpr bool waits() const noexcept {
    return kind_ == Kind::wait || kind_ == Kind::wait_for;
  }
  [[nodiscard]] constexpr std::size_t stash_bytes() const noexcept { return stash_bytes_; }
  /// When a wait that begins now has to end.
  [[nodiscard]] Deadline deadline() const noexcept {
    return kind_ == Kind::wait ? Deadline::never() : Deadline::in(limit_);
  }
  friend constexpr bool operator==(const OnFull&, const OnFull&) = default;

 private:
  constexpr OnFull(Kind kind, std::chrono::nanoseconds limit, std::size_t bytes) noexcept
      : kind_(kind), limit_(limit), stash_bytes_(bytes) {}
  Kind kind_;
  std::chrono::nanoseconds limit_;
  std::size_t stash_bytes_;
};

}  // namespace slipring::channel

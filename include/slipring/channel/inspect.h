// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "slipring/base/role.h"
#include "slipring/channel/lane_link.h"
#include "slipring/segment/segment.h"
#include "slipring/wait/doorbell.h"

namespace slipring::channel {

/// One end of a lane as an outsider finds it.
struct EndView {
  RoleWatch::Peer state = RoleWatch::Peer::never_came;
  std::uint32_t pid = 0;         ///< Of the holder, or of the last one; 0: nobody came yet.
  std::string command;           ///< As it called itself when it attached; may be empty.
  std::uint32_t generation = 0;  ///< How many held this end before, and this one.
  bool stopped = false;          ///< Alive, in state T or t: the kernel's word, not a guess.
  bool parked = false;
  std::int64_t parked_since_ns = 0;  ///< CLOCK_MONOTONIC.
};

/// What a lane shows to whoever maps it read-only. Positions and counters are told lazily, so they
/// are low by up to a sixteenth (write) and an eighth (read) of the capacity unless `exact`.
struct LaneView {
  ring::LaneGeometry geometry;
  EndView producer;
  EndView consumer;
  std::uint64_t write_pos = 0;
  std::uint64_t read_pos = 0;
  std::uint64_t backlog_bytes = 0;    ///< 0 when the told positions contradict each other.
  std::uint64_t committed = 0;        ///< Messages,
  std::uint64_t committed_bytes = 0;  ///< their payload,
  std::uint64_t released = 0;         ///< and those given back by receivers.
  std::uint64_t redelivered = 0;
  std::uint64_t aborts = 0;
  std::uint64_t fulls = 0;
  bool exact = false;

  /// "ok", "idle" (nobody attached), "pressure" (over 3/4 full), "stopped", "dead", "waiting" (one
  /// end is missing), in the order that matters to an operator.
  [[nodiscard]] const char* state() const noexcept;
};

/// Looks at a lane without taking part. Stores nothing; a read-only mapping will do.
/// Trust:    all of it is hostile: each word once, checked where it is used.
/// Progress: a bounded number of loads and system calls; `exact` walks the commit words of the
///           backlog, at most capacity / 8 loads of lines that data moves in.
/// Errors:   bad_format  not a lane; corrupt  `exact` met a header that no producer stores.
[[nodiscard]] Result<LaneView> inspect(const segment::Segment& segment, bool exact = false);

}  // namespace slipring::channel

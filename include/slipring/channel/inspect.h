// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "slipring/base/role.h"
#include "slipring/channel/ring_body.h"
#include "slipring/pool/block_pool.h"
#include "slipring/segment/segment.h"

namespace slipring::channel {

/// One end of a ring as an outsider finds it.
struct EndView {
  RoleWatch::Peer state = RoleWatch::Peer::never_came;
  std::uint32_t pid = 0;         ///< Of the holder, or of the last one; 0: nobody came yet.
  std::string command;           ///< As it called itself when it attached; may be empty.
  std::uint32_t generation = 0;  ///< How many held this end before, and this one.
  bool stopped = false;          ///< Alive, in state T or t: the kernel's word, not a guess.
  bool parked = false;
  std::int64_t parked_since_ns = 0;  ///< CLOCK_MONOTONIC.
};

/// A place for a sender: a lane, or an entry of the owner table. Positions are those of its lane;
/// in a ring of total order they stay 0.
struct SenderView {
  std::uint32_t index = 0;
  EndView end;
  std::uint64_t write_pos = 0;
  std::uint64_t read_pos = 0;
  std::uint64_t backlog_bytes = 0;    ///< 0 when the told positions contradict each other.
  std::uint64_t committed = 0;        ///< Messages,
  std::uint64_t committed_bytes = 0;  ///< and their payload.
  std::uint64_t aborts = 0;
  std::uint64_t fulls = 0;  ///< Claims that found no room.
  std::uint64_t waits = 0, timeouts = 0, refused = 0, stashed = 0, dropped = 0;
  std::uint64_t blocks = 0, streams = 0, directs = 0;  ///< Messages by reference, in chunks, read.
};

/// A record that its owner claimed and did not commit: all others wait behind it (total order).
struct BlockerView {
  std::uint32_t sender = 0;
  std::uint64_t position = 0;
};

/// What a ring shows to whoever maps it read-only. Positions and counters are told lazily, so they
/// are low by up to a sixteenth (write) and an eighth (read) of the capacity unless `exact`.
struct RingView {
  RingShape shape;
  EndView consumer;
  std::vector<SenderView> senders;  ///< Places that somebody held; of a lane always one.
  std::uint64_t write_pos = 0;      ///< Of a lane, and of a total order.
  std::uint64_t read_pos = 0;
  std::uint64_t backlog_bytes = 0;                                          ///< Of all senders.
  std::uint64_t committed = 0, committed_bytes = 0, aborts = 0, fulls = 0;  ///< Of all senders.
  std::uint64_t released = 0;  ///< Messages given back by receivers.
  std::uint64_t redelivered = 0;
  std::uint64_t open_messages = 0, open_bytes = 0;  ///< Large ones, being put together.
  std::uint64_t completed = 0, aborted = 0, faults = 0, deaths = 0;
  std::optional<BlockerView> blocker;
  std::optional<pool::PoolAudit> pool;
  bool exact = false;

  /// The sender that says most about the ring: a stopped one, else one that lives, died or left.
  [[nodiscard]] const EndView& sender() const noexcept;
  [[nodiscard]] std::size_t living_senders() const noexcept;

  /// "ok", "idle" (nobody attached), "pressure" (a data area is over 3/4 full), "stopped", "dead",
  /// "waiting" (one end is missing), in the order that matters to an operator.
  [[nodiscard]] const char* state() const noexcept;
};

/// Looks at a ring without taking part. Stores nothing; a read-only mapping will do.
/// Trust:    all of it is hostile: each word once, checked where it is used.
/// Progress: a bounded number of loads and system calls for each sender; `exact` walks the commit
///           words of the backlog, at most capacity / 8 loads of lines that data moves in; a pool
///           costs a load for each block.
/// Errors:   those of RingBody::of; corrupt  `exact` met a header that no producer stores.
[[nodiscard]] Result<RingView> inspect(const segment::Segment& segment, bool exact = false);

}  // namespace slipring::channel

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "slipring/channel/schema.h"
#include "slipring/pool/layout.h"
#include "slipring/ring/layout.h"
#include "slipring/segment/segment.h"
#include "slipring/wait/doorbell.h"
#include "slipring/wait/pacer.h"
#include "slipring/wait/wait_strategy.h"

namespace slipring::channel {

/// How many senders a ring takes, and which order holds between them. Values are format.
enum class RingForm : std::uint8_t {
  lane = 1,          ///< One sender.
  per_producer = 2,  ///< Many, each with a lane of its own; no order between them. The default of
                     ///< many: a stopped or killed sender delays nobody.
  total = 3,         ///< Many, in one order for all: that of their claims. A stopped sender with an
                     ///< open claim holds up delivery.
};
/// "lane", "mpsc", "total".
[[nodiscard]] std::string_view to_string(RingForm form) noexcept;

/// What this end of a ring is tuned for; each end has its own. docs/lane.md, "Profiles".
enum class Profile : std::uint8_t {
  balanced,    ///< Replies are not delayed, streams are paced, by 2 us at most.
  latency,     ///< A receiver never stays away from an empty ring.
  throughput,  ///< It may, for 10 us; and a sender clears more ahead.
};
/// "balanced", "latency", "throughput".
[[nodiscard]] std::string_view to_string(Profile profile) noexcept;

/// What a ring is made as, and how this end of it behaves. What exists already keeps its form and
/// geometry; only type and tuning of the opener count then.
struct ShmOptions {
  segment::Backend kind = segment::Backend::posix;
  RingForm form = RingForm::lane;
  /// Bytes; a power of two, 4 KiB to 1 GiB. Form per_producer: of each sender's lane.
  std::uint64_t capacity = ring::kDefaultCapacity;
  std::uint32_t senders = ring::kDefaultSenders;  ///< At a time; not for `lane`.
  std::uint32_t granule = 8;  ///< 8 packs records, 64 gives each a line; `total` always has 64.
  Schema schema;              ///< Of the record type; default: bytes.
  wait::BellKind bell = wait::BellKind::futex;  ///< Of a lane, for both directions.
  wait::WaitStrategy wait = wait::WaitStrategy::adaptive();
  Profile profile = Profile::balanced;
  /// Of a receiver that waits: how long at most it stays away from a ring that ran empty, for the
  /// sake of throughput (wait::Pacer). 0: never; nothing: as the profile has it.
  std::optional<std::chrono::nanoseconds> max_slip;
  /// Of this receiver: each release is told at once. After its death one message at most repeats,
  /// and those still in view; else what an eighth of the capacity holds.
  bool ack_each = false;
  /// Blocks for messages by reference, behind the ring in the same segment; nothing: none.
  std::optional<pool::PoolSpec> pool;

  mode_t mode = 0600;
  std::optional<gid_t> group;
  std::uint64_t huge_page_bytes = 0;
  int numa_node = -1;
  bool lock = false;  ///< mlock
  bool prefault = true;
  /// True: stays until it is removed. False: the last one out removes it, once all was read.
  bool keep = false;
  /// This end is its thread's: it ends with the thread, although the process lives on. No other
  /// thread may use or close it.
  bool of_thread = false;
  std::optional<key_t> sysv_key;
  segment::Places places = segment::Places::standard();
};

}  // namespace slipring::channel

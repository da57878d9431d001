// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string_view>

#include "slipring/base/result.h"
#include "slipring/segment/segment.h"

namespace slipring::manager {

/// What a Reaper has done since it was started.
struct ReaperCounters {
  std::uint64_t watched = 0;      ///< Holders of places whose death it waits for now.
  std::uint64_t deaths = 0;       ///< Places found held by the dead.
  std::uint64_t claims = 0;       ///< Open claims made records to skip,
  std::uint64_t blocks = 0;       ///< and words of blocks that named the dead.
  std::uint64_t rung = 0;         ///< Doorbells rung for them.
  std::int64_t reported_ns = 0;   ///< CLOCK_MONOTONIC, when the kernel told of the last death,
  std::int64_t recovered_ns = 0;  ///< and when its recovery was done.
};

/// One thread that waits for the deaths of all who have a place in some rings, and runs
/// channel::reap_ring for them at once, so that those who wait on the dead learn of it from a
/// doorbell instead of at their next look. Nobody needs it for safety: docs/death.md.
///
/// A newcomer is found within `look_every`; killed before that, it is found dead then.
///
/// Threads:  any. A forked child has no such thread: its copy does nothing.
/// Progress: watch() opens and maps; the destructor waits for the thread, which never blocks but in
///           epoll_wait.
/// Trust:    as reap_ring(). A ring that turns out rotten is forgotten.
class Reaper {
 public:
  static constexpr std::chrono::milliseconds kLookEvery{10};

  /// Errors: system, no_space  no thread, descriptor or memory to be had.
  [[nodiscard]] static Result<Reaper> start(std::chrono::milliseconds look_every = kLookEvery);
  Reaper(Reaper&&) noexcept;
  Reaper& operator=(Reaper&&) noexcept;
  /// Stops and joins.
  ~Reaper();

  /// Watches a ring, through a mapping of the Reaper's own, until its name leads to it no more and
  /// nobody has a place in it.
  /// Errors: those of Segment::open and RingBody::of; permission  mapped read-only.
  [[nodiscard]] Result<void> watch(std::string_view name,
                                   const segment::Places& places = segment::Places::standard());
  /// The same for a segment that was opened by other means.
  [[nodiscard]] Result<void> watch(segment::Segment segment);

  [[nodiscard]] ReaperCounters counters() const;
  /// How many rings it watches.
  [[nodiscard]] std::size_t rings() const;

 private:
  struct State;
  explicit Reaper(std::unique_ptr<State> state) noexcept;
  void stop() noexcept;
  std::unique_ptr<State> state_;
};

}  // namespace slipring::manager

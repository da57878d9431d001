// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "harness/histogram.h"

// A measurement has two or more sides, each on a CPU of its own. They are processes, or threads
// of one process; in either case children of ours, so that what one of them does to itself (an
// assertion of a rival, a hang) ends this measurement and nothing else.
namespace slipring::bench {

/// A value, or why there is none, for people.
template <typename T>
using Try = tl::expected<T, std::string>;
[[nodiscard]] inline tl::unexpected<std::string> because(std::string why) {
  return tl::unexpected(std::move(why));
}

enum class Placement : std::uint8_t { processes, threads };

/// What a side found. In memory that all share; one writer.
struct SideReport {
  std::int64_t from_ns = 0, to_ns = 0;  ///< What was timed, on CLOCK_MONOTONIC.
  std::uint64_t messages = 0;           ///< Within that.
  std::int64_t cpu_ns = 0;              ///< CPU time of all that the side did, attaching aside.
  std::uint64_t involuntary = 0;        ///< Times that the kernel took its CPU away meanwhile.
  bool pinned = false;
  bool done = false;
  char why[200] = {};

  /// Notes why it cannot go on. Always false.
  bool fail(const std::string& text) noexcept;
};

class Board;

/// One side: what runs on a CPU. `begin` waits until every side is there; call it once, when
/// attached. False, with a reason in the report: the measurement is void.
struct Side {
  int cpu = 0;
  std::function<bool(SideReport& report, Board& board, const std::function<void()>& begin)> body;
};

/// Memory that all sides of a run share: their reports, and what one of them measured.
class Board {
 public:
  static constexpr std::size_t kMaxSides = 9;
  SideReport sides[kMaxSides];
  Histogram latency;                       ///< In ticks.
  std::atomic<std::uint64_t> start_ticks;  ///< When the first message is due; 0: not known yet.
  std::atomic<std::uint32_t> arrived;
  std::atomic<std::uint64_t> granted;  ///< Messages that a lone producer will have sent,
  std::atomic<bool> over;              ///< unless it gave up there: it took too long.
};

/// Runs the sides to their ends. A side that fails takes the others with it; one that is not done
/// after `limit_s` is killed.
/// The Board of the run, or why it is void.
class Run {
 public:
  Run();
  ~Run();
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  [[nodiscard]] Try<const Board*> go(Placement placement, const std::vector<Side>& sides,
                                     double limit_s = 30);

 private:
  Board* board_ = nullptr;
};

/// From now on SIGINT and SIGTERM end a run between two measurements, so that nothing is left
/// behind.
void heed_signals() noexcept;
/// The one that came; 0: none.
[[nodiscard]] int signal_seen() noexcept;

/// Does `cpu` exist, and may we run on it? Pins the calling thread when it may.
[[nodiscard]] bool pin_to(int cpu) noexcept;
/// CPUs that this process may use.
[[nodiscard]] std::vector<int> usable_cpus();

}  // namespace slipring::bench

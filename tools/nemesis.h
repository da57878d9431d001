// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "nemesis_judge.h"
#include "slipring/base/result.h"
#include "slipring/channel/shm_options.h"

/// Workers that are killed, stopped, forked and robbed of their ring's name while they send, and a
/// verdict from what they noted: docs/nemesis.md.
namespace slipring::tools::nemesis {

/// A mistake of a worker, for the test that shows that the judge finds it.
enum class Defect : std::uint8_t { none, lose, repeat, tear, swap, slander };

/// One thing that is done to a worker. Its slot says to whom, whoever it is by then: 0 receives.
struct Fault {
  enum class What : std::uint8_t { kill, pause, fork, unlink };
  std::chrono::microseconds at{};  ///< Since the run began.
  What what = What::kill;
  unsigned slot = 0;
  std::chrono::microseconds length{};  ///< Of a pause.
  friend bool operator==(const Fault&, const Fault&) = default;
};

struct Options {
  std::uint64_t seed = 1;
  unsigned procs = 6;  ///< One of them receives; in a ring for one sender there are two.
  double kills_per_s = 0;
  bool pause = false, fork = false, unlink = false;
  std::chrono::milliseconds length{10'000};
  std::chrono::milliseconds round{2'000};
  std::optional<channel::RingForm> form;  ///< Nothing: all in turns,
  std::optional<segment::Backend> kind;   ///< and all of these.
  std::uint64_t capacity = 64 << 10;
  segment::Places places = segment::Places::standard();
  std::string evidence_dir;     ///< Where a directory is made when a promise is broken.
  std::vector<Fault> schedule;  ///< Nothing: drawn from the seed.
  Defect defect = Defect::none;
};

/// The faults of a run: a function of the options alone, so that a seed repeats them.
[[nodiscard]] std::vector<Fault> draw_schedule(const Options& options);
/// "1532 kill 3", a line each: microseconds, what, slot, and of a pause its length.
[[nodiscard]] std::string to_text(const std::vector<Fault>& schedule);
/// Errors: invalid_argument  a line that is none; `sys` is its number.
[[nodiscard]] Result<std::vector<Fault>> parse_schedule(const std::string& text);

struct Outcome {
  Tally tally;
  std::string evidence;  ///< The directory; empty when all was kept.
};

/// Runs it. `should_stop()` is asked about every 10 ms; `tell(done, tally)` once per round.
/// Forks: the caller has no threads.
/// Errors: no_space, permission, system  a ring, a log or a process could not be made.
[[nodiscard]] Result<Outcome> run(
    const Options& options, const std::function<bool()>& should_stop,
    const std::function<void(std::chrono::milliseconds done, const Tally&)>& tell);

}  // namespace slipring::tools::nemesis

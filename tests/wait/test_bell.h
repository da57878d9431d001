// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <thread>
#include <utility>

#include "slipring/base/align.h"
#include "slipring/base/result.h"
#include "slipring/wait/doorbell.h"
#include "support/shared_area.h"

namespace slipring::test {

using namespace std::chrono_literals;

/// The words of one doorbell and of one test, as they lie in a segment: a line for each writer.
struct BellWords {
  alignas(kControlSpacing) SharedWord<std::uint64_t> ticket;
  SharedWord<std::uint64_t> parked_since;
  alignas(kControlSpacing) SharedWord<std::uint32_t> seq;
  SharedWord<std::uint32_t> ringer_fence;
  alignas(kControlSpacing) SharedWord<std::uint64_t> published;  // what the ringer publishes
  alignas(kControlSpacing) wait::BellStore store;
};

inline wait::BellRef ref_of(BellWords& words) {
  return {words.ticket, words.seq, words.ringer_fence, &words.store, &words.parked_since};
}

inline int bell_signal() { return SIGRTMIN + 3; }

inline void block_signal(int number) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

/// One doorbell of a kind over memory that forks share; makes either end, in any process.
class TestBell {
 public:
  explicit TestBell(wait::BellKind kind, wait::FenceChoice fence = wait::FenceChoice::automatic,
                    int signal = 0)
      : kind_(kind), fence_(fence), signal_(signal == 0 ? bell_signal() : signal) {
    if (kind == wait::BellKind::eventfd) fd_ = std::move(wait::make_eventfd().value());
    // Before any thread starts: a thread that does not block it would take the ring.
    if (kind == wait::BellKind::signal) block_signal(signal_);
  }

  [[nodiscard]] wait::SleeperOptions sleeper_options() const {
    wait::SleeperOptions options;
    options.fence = fence_;
    options.signal = signal_;
    options.eventfd = UniqueFd(fd_ ? ::dup(fd_.get()) : -1);
    return options;
  }
  [[nodiscard]] wait::RingerOptions ringer_options(const ProcessToken& sleeper) const {
    wait::RingerOptions options;
    options.fence = fence_;
    options.signal = signal_;
    options.sleeper = sleeper;
    options.eventfd = UniqueFd(fd_ ? ::dup(fd_.get()) : -1);
    return options;
  }
  [[nodiscard]] wait::Sleeper<> sleeper(std::chrono::milliseconds max_park = wait::kMaxPark) {
    wait::SleeperOptions options = sleeper_options();
    options.max_park = max_park;
    return std::move(wait::Sleeper<>::attach(kind_, ref(), std::move(options)).value());
  }
  [[nodiscard]] wait::Ringer<> ringer(const ProcessToken& sleeper = self_token()) {
    return std::move(wait::Ringer<>::attach(kind_, ref(), ringer_options(sleeper)).value());
  }

  [[nodiscard]] wait::BellKind kind() const { return kind_; }
  [[nodiscard]] BellWords& words() const { return area_.as<BellWords>(); }
  [[nodiscard]] wait::BellRef ref() const { return ref_of(words()); }
  [[nodiscard]] wait::BellState state() const { return wait::look_at(ref()); }
  void publish(std::uint64_t value) const { NativeAccess::store_release(words().published, value); }
  [[nodiscard]] std::uint64_t published() const {
    return NativeAccess::load_acquire(words().published);
  }

  /// Returns when the other side has its ticket out. The test's watchdog bounds it.
  void await_parked() const {
    while (!state().parked) std::this_thread::yield();
  }
  /// The same, and most likely in the kernel by now.
  void await_asleep() const {
    await_parked();
    std::this_thread::sleep_for(2ms);
  }

 private:
  SharedArea area_{sizeof(BellWords)};
  wait::BellKind kind_;
  wait::FenceChoice fence_;
  int signal_;
  UniqueFd fd_;
};

/// Longer than any test: a wake-up that is lost with this as max_park hangs, and its watchdog
/// tells.
inline constexpr std::chrono::milliseconds kForever = 1h;

/// A waiter's check of its peer that never finds anything wrong.
inline constexpr auto kFine = []() -> Result<void> { return {}; };

inline std::chrono::nanoseconds since(std::int64_t from_ns) {
  return std::chrono::nanoseconds(monotonic_ns() - from_ns);
}

}  // namespace slipring::test

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "harness/figures.h"
#include "harness/sides.h"

// What the hardware and the kernel give to whoever asks for nothing else. A contender's figure is
// read as a multiple of these, taken in the same round between the same CPUs.
namespace slipring::bench {

struct Cpus {
  int first = 0, second = 1;
  [[nodiscard]] bool is_one() const noexcept { return first == second; }
};

/// The floor of a round trip: two words on lines 128 bytes apart, stored by one CPU and polled by
/// the other. Nanoseconds for there and back.
[[nodiscard]] Try<double> raw_round_trip_ns(Cpus cpus, std::uint32_t turns);

/// The limit of a stream: blocks of `block` bytes through a ring, filled by the widest stores and
/// read by loads of every byte, one index word for each block. GB/s.
[[nodiscard]] Try<double> bulk_limit_gbs(Cpus cpus, std::size_t ring, std::size_t block,
                                         std::uint64_t bytes);
/// The same, but both sides keep the bytes: copied out of 64 MiB, and into 64 MiB.
[[nodiscard]] Try<double> copy_limit_gbs(Cpus cpus, std::size_t ring, std::size_t block,
                                         std::uint64_t bytes);
/// memcpy on one core. GB/s.
[[nodiscard]] Try<double> memcpy_gbs(int cpu, std::size_t size, std::uint64_t bytes);

/// Idle time before each of the turns below, for both sides to fall asleep in. Not counted.
inline constexpr double kWakeGapNs = 20'000;
enum class Sleep : std::uint8_t { futex, pipe, eventfd };
/// A wake there and a wake back, with nothing around them. Nanoseconds.
[[nodiscard]] Try<double> wake_round_trip_ns(Cpus cpus, Sleep by, std::uint32_t turns);

/// clock_ns, ticks_ns: one reading of either clock. hiccup_ns: the largest gap between two
/// readings in a loop that does nothing else, for 50 ms. offset_ns: how far the counters of the
/// two CPUs are apart, at most.
[[nodiscard]] Try<Figures> clocks(Cpus cpus);

/// All of it, as much as `budget` allows: 1 is what a full run takes, 0.25 a quick one. What one
/// CPU cannot show is left out.
[[nodiscard]] Figures calibrate(Cpus cpus, std::size_t ring, double budget);

}  // namespace slipring::bench

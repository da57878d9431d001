// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "slipring/base/deadline.h"

// Measures on machines that one cannot trust: everything is a ratio to a calibration of the same
// round, and a figure is a median over rounds with its quartiles. docs/benchmarking.md.
namespace slipring::bench {

/// What every program takes: [--rounds N] [--cpus A,B], and what it adds.
struct Options {
  int rounds = 21;
  int cpu = 0, peer_cpu = 1;

  /// `more(name, value)`: a program's own option; false when it knows none of that name.
  template <typename More>
  [[nodiscard]] static bool parse(int argc, char** argv, Options& opt, More&& more) {
    for (int i = 1; i < argc; ++i) {
      const std::string arg = argv[i];
      if (arg == "--quick") {  // as ./dev bench gives it
        opt.rounds = 11;
        continue;
      }
      const char* value = i + 1 < argc ? argv[++i] : nullptr;
      if (value == nullptr) return false;
      if (arg == "--rounds")
        opt.rounds = std::atoi(value);
      else if (arg == "--cpus" && std::sscanf(value, "%d,%d", &opt.cpu, &opt.peer_cpu) == 2)
        continue;
      else if (!more(arg, value))
        return false;
    }
    return opt.rounds > 0;
  }
};

inline void pin_to(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<unsigned>(cpu), &set);
  if (::sched_setaffinity(0, sizeof set, &set) != 0) {
    std::fprintf(stderr, "bench: cannot pin to cpu %d\n", cpu);
    std::exit(77);
  }
}

/// The other side of a measurement: a forked process on its own CPU, which ends with its work.
template <typename Body>
class Peer {
 public:
  Peer(int cpu, Body body) : pid_(::fork()) {
    if (pid_ != 0) return;
    pin_to(cpu);
    ::_exit(body() ? 0 : 1);
  }
  /// True when it did all that it had to.
  bool join() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

 private:
  pid_t pid_;
};

/// The floor of a round trip: two words on lines 128 bytes apart, stored by one CPU and polled by
/// the other, in memory that two processes share. Nanoseconds for there and back.
inline double raw_round_trip_ns(int cpu, int peer_cpu, std::uint32_t turns) {
  struct Words {
    alignas(128) std::atomic<std::uint32_t> there;
    alignas(128) std::atomic<std::uint32_t> back;
  };
  void* const memory = ::mmap(nullptr, sizeof(Words), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  auto& words = *static_cast<Words*>(memory);
  const std::uint32_t warm_up = turns / 10;
  Peer echo(peer_cpu, [&] {
    for (std::uint32_t i = 1; i <= warm_up + turns; ++i) {
      while (words.there.load(std::memory_order_acquire) != i) {
      }
      words.back.store(i, std::memory_order_release);
    }
    return true;
  });
  pin_to(cpu);
  std::int64_t from = 0;
  for (std::uint32_t i = 1; i <= warm_up + turns; ++i) {
    if (i == warm_up + 1) from = monotonic_ns();
    words.there.store(i, std::memory_order_release);
    while (words.back.load(std::memory_order_acquire) != i) {
    }
  }
  const double ns = static_cast<double>(monotonic_ns() - from) / turns;
  echo.join();
  ::munmap(memory, sizeof(Words));
  return ns;
}

/// How the two CPUs behave in this round: the hypervisor may move them.
inline const char* round_class(double raw_ns) {
  return raw_ns < 100 ? "sibling" : raw_ns > 180 ? "cross" : "unclear";
}

struct Quartiles {
  double low, median, high;
};
inline Quartiles quartiles(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double q) {
    return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
  };
  return {at(0.25), at(0.5), at(0.75)};
}

}  // namespace slipring::bench

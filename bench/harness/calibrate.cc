// SPDX-License-Identifier: Apache-2.0
#include "harness/calibrate.h"

#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <new>
#include <vector>

#include "harness/clock.h"
#include "harness/memory.h"
#include "harness/pattern.h"

namespace slipring::bench {
namespace {

constexpr std::size_t kPrivateBytes = std::size_t{64} << 20;

/// Two words that never share a line, nor a pair of lines that is fetched together.
struct Words {
  alignas(128) std::atomic<std::uint32_t> there;
  alignas(128) std::atomic<std::uint32_t> back;
};
struct Indices {
  alignas(128) std::atomic<std::uint64_t> written;
  alignas(128) std::atomic<std::uint64_t> read;
  alignas(128) std::byte end[1];
};

double seconds_of(const SideReport& report) {
  return static_cast<double>(report.to_ns - report.from_ns) / 1e9;
}

/// A ring of blocks with one index word each. `put(to)` and `take(from)` are what is done to one.
template <typename Put, typename Take>
Try<double> stream_gbs(Cpus cpus, std::size_t ring, std::size_t block, std::uint64_t bytes,
                       const Put& put, const Take& take) {
  auto arena = Arena::make(4096 + ring, false);
  if (!arena) return because(arena.error());
  auto& at = *::new (arena->data()) Indices{};
  std::byte* const data = arena->data() + 4096;
  const std::uint64_t slots = ring / block;
  const std::uint64_t warm_up = 2 * slots;
  const std::uint64_t total = warm_up + bytes / block;
  Run run;
  const auto ran = run.go(Placement::processes,
                          {{cpus.first,
                            [&](SideReport&, Board&, const auto& begin) {
                              const auto state = put.prepare();
                              begin();
                              std::uint64_t free_until = slots;
                              for (std::uint64_t i = 0; i < total; ++i) {
                                while (i >= free_until)
                                  free_until = at.read.load(std::memory_order_acquire) + slots;
                                put(state, data + i % slots * block, block, i);
                                at.written.store(i + 1, std::memory_order_release);
                              }
                              return true;
                            }},
                           {cpus.second, [&](SideReport& report, Board&, const auto& begin) {
                              const auto state = take.prepare();
                              begin();
                              std::uint64_t seen = 0, wrong = 0;
                              while (seen < total) {
                                const std::uint64_t until =
                                    at.written.load(std::memory_order_acquire);
                                for (; seen < until; ++seen) {
                                  if (seen == warm_up) report.from_ns = monotonic_ns();
                                  wrong |= take(state, data + seen % slots * block, block, seen);
                                  at.read.store(seen + 1, std::memory_order_release);
                                }
                              }
                              report.to_ns = monotonic_ns();
                              return wrong == 0 || report.fail("calibration: a block was torn");
                            }}});
  if (!ran) return because(ran.error());
  return static_cast<double>((total - warm_up) * block) / seconds_of((*ran)->sides[1]) / 1e9;
}

struct Fill {
  [[nodiscard]] int prepare() const { return 0; }
  void operator()(int, std::byte* to, std::size_t size, std::uint64_t i) const {
    fill_wide(to, size, i);
  }
};
struct Look {
  [[nodiscard]] int prepare() const { return 0; }
  std::uint64_t operator()(int, const std::byte* from, std::size_t size, std::uint64_t i) const {
    return sum_wide(from, size) ^ expected_sum(size, i);
  }
};
struct Private {
  // Touched, so that no page is missing when it counts.
  [[nodiscard]] std::shared_ptr<std::vector<std::byte>> prepare() const {
    auto bytes = std::make_shared<std::vector<std::byte>>(kPrivateBytes);
    fill_wide(bytes->data(), bytes->size(), 0);
    return bytes;
  }
  static std::byte* of(const std::shared_ptr<std::vector<std::byte>>& bytes, std::size_t size,
                       std::uint64_t i) {
    return bytes->data() + i * size % kPrivateBytes;
  }
};
struct CopyIn : Private {
  void operator()(const std::shared_ptr<std::vector<std::byte>>& mine, std::byte* to,
                  std::size_t size, std::uint64_t i) const {
    std::memcpy(to, of(mine, size, i), size);
  }
};
struct CopyOut : Private {
  std::uint64_t operator()(const std::shared_ptr<std::vector<std::byte>>& mine,
                           const std::byte* from, std::size_t size, std::uint64_t i) const {
    std::memcpy(of(mine, size, i), from, size);
    // It is in the cache by now; a stream of messages looks at its bytes, too.
    return sum_wide(from, size) ^ expected_sum(size, i * size % kPrivateBytes / 8 * kStep);
  }
};

/// Two sides that hand a turn to and fro: `mine(i)` gives the turn to the other, and waits for it.
template <typename Ask, typename Answer>
Try<double> turns_ns(Cpus cpus, std::uint32_t turns, const Ask& ask, const Answer& answer,
                     double gap_ns = 0) {
  const std::uint32_t warm_up = turns / 10;
  Run run;
  const auto ran = run.go(
      Placement::processes,
      {{cpus.first,
        [&](SideReport& report, Board&, const auto& begin) {
          begin();
          std::uint64_t spent = 0;
          for (std::uint32_t i = 1; i <= warm_up + turns; ++i) {
            if (i == warm_up + 1) report.from_ns = monotonic_ns();
            std::uint64_t from = 0;
            if (gap_ns > 0) {
              idle_for(gap_ns, cpus.is_one());
              from = ticks();
            }
            if (!ask(i)) return report.fail("calibration: a wake failed");
            if (gap_ns > 0 && i > warm_up) spent += ticks() - from;
          }
          report.to_ns = monotonic_ns();
          if (gap_ns > 0) {
            report.to_ns = report.from_ns +
                           static_cast<std::int64_t>(static_cast<double>(spent) * ns_per_tick());
          }
          return true;
        }},
       {cpus.second, [&](SideReport& report, Board&, const auto& begin) {
          begin();
          for (std::uint32_t i = 1; i <= warm_up + turns; ++i) {
            if (!answer(i)) return report.fail("calibration: a wake failed");
          }
          return true;
        }}});
  if (!ran) return because(ran.error());
  return seconds_of((*ran)->sides[0]) * 1e9 / turns;
}

void futex_wake(std::atomic<std::uint32_t>& word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t until) {
  for (;;) {
    const std::uint32_t now = word.load(std::memory_order_acquire);
    if (now == until) return;
    ::syscall(SYS_futex, &word, FUTEX_WAIT, now, nullptr, nullptr, 0);
  }
}

/// Nobody sleeps before its look: each wait is one system call, each wake another.
Try<double> futex_ns(Cpus cpus, std::uint32_t turns) {
  auto arena = Arena::make(sizeof(Words), false);
  if (!arena) return because(arena.error());
  auto& words = *::new (arena->data()) Words{};
  const auto give = [](std::atomic<std::uint32_t>& word, std::uint32_t i) {
    word.store(i, std::memory_order_release);
    futex_wake(word);
  };
  return turns_ns(
      cpus, turns,
      [&](std::uint32_t i) {
        give(words.there, i);
        futex_wait(words.back, i);
        return true;
      },
      [&](std::uint32_t i) {
        futex_wait(words.there, i);
        give(words.back, i);
        return true;
      },
      kWakeGapNs);
}

/// By descriptors: 8 bytes, as an eventfd takes them.
Try<double> fds_ns(Cpus cpus, std::uint32_t turns, Sleep by) {
  int there[2] = {-1, -1}, back[2] = {-1, -1};
  if (by == Sleep::eventfd) {
    there[0] = there[1] = ::eventfd(0, EFD_CLOEXEC);
    back[0] = back[1] = ::eventfd(0, EFD_CLOEXEC);
  } else if (::pipe(there) != 0 || ::pipe(back) != 0) {
    there[0] = back[0] = -1;
  }
  const auto give = [](int fd) {
    const std::uint64_t one = 1;
    return ::write(fd, &one, sizeof one) == sizeof one;
  };
  const auto take = [](int fd) {
    std::uint64_t one = 0;
    return ::read(fd, &one, sizeof one) == sizeof one;
  };
  auto took = turns_ns(
      cpus, turns, [&](std::uint32_t) { return give(there[1]) && take(back[0]); },
      [&](std::uint32_t) { return take(there[0]) && give(back[1]); }, kWakeGapNs);
  for (const auto& pair : {there, back}) {
    if (pair[0] >= 0) ::close(pair[0]);
    if (pair[1] >= 0 && pair[1] != pair[0]) ::close(pair[1]);
  }
  return took;
}

}  // namespace

Try<double> raw_round_trip_ns(Cpus cpus, std::uint32_t turns) {
  auto arena = Arena::make(sizeof(Words), false);
  if (!arena) return because(arena.error());
  auto& words = *::new (arena->data()) Words{};
  return turns_ns(
      cpus, turns,
      [&](std::uint32_t i) {
        words.there.store(i, std::memory_order_release);
        while (words.back.load(std::memory_order_acquire) != i) {
        }
        return true;
      },
      [&](std::uint32_t i) {
        while (words.there.load(std::memory_order_acquire) != i) {
        }
        words.back.store(i, std::memory_order_release);
        return true;
      });
}

Try<double> bulk_limit_gbs(Cpus cpus, std::size_t ring, std::size_t block, std::uint64_t bytes) {
  return stream_gbs(cpus, ring, block, bytes, Fill{}, Look{});
}

Try<double> copy_limit_gbs(Cpus cpus, std::size_t ring, std::size_t block, std::uint64_t bytes) {
  return stream_gbs(cpus, ring, block, bytes, CopyIn{}, CopyOut{});
}

Try<double> memcpy_gbs(int cpu, std::size_t size, std::uint64_t bytes) {
  Run run;
  const std::uint64_t turns = std::max<std::uint64_t>(1, bytes / size);
  const auto ran =
      run.go(Placement::processes, {{cpu, [&](SideReport& report, Board&, const auto& begin) {
                                       std::vector<std::byte> from(size, std::byte{1}), to(size);
                                       std::memcpy(to.data(), from.data(), size);
                                       begin();
                                       report.from_ns = monotonic_ns();
                                       for (std::uint64_t i = 0; i < turns; ++i) {
                                         std::memcpy(to.data(), from.data(), size);
                                         asm volatile("" : : "r"(to.data()) : "memory");
                                       }
                                       report.to_ns = monotonic_ns();
                                       return true;
                                     }}});
  if (!ran) return because(ran.error());
  return static_cast<double>(turns * size) / seconds_of((*ran)->sides[0]) / 1e9;
}

Try<double> wake_round_trip_ns(Cpus cpus, Sleep by, std::uint32_t turns) {
  return by == Sleep::futex ? futex_ns(cpus, turns) : fds_ns(cpus, turns, by);
}

Try<Figures> clocks(Cpus cpus) {
  Figures out;
  const auto cost_of = [](auto&& read) {
    constexpr int kReadings = 20'000;
    const std::int64_t from = monotonic_ns();
    for (int i = 0; i < kReadings; ++i) read();
    return static_cast<double>(monotonic_ns() - from) / kReadings;
  };
  // In a child, pinned: whoever calibrates is not.
  struct Found {
    std::atomic<double> clock, tick, hiccup;
    alignas(128) std::atomic<std::uint64_t> asked;
    alignas(128) std::atomic<std::uint64_t> said;
    double offset;
  };
  auto arena = Arena::make(sizeof(Found), false);
  if (!arena) return because(arena.error());
  auto& found = *::new (arena->data()) Found{};
  Run run;
  auto ran =
      run.go(Placement::processes, {{cpus.first, [&](SideReport&, Board&, const auto& begin) {
                                       begin();
                                       found.clock = cost_of([] { return monotonic_ns(); });
                                       found.tick = cost_of([] {
                                         const std::uint64_t now = ticks();
                                         asm volatile("" : : "r"(now));
                                       });
                                       const std::uint64_t until = ticks() + ticks_of_ns(50e6);
                                       std::uint64_t last = ticks(), widest = 0;
                                       for (std::uint64_t now = last; now < until; last = now) {
                                         now = ticks();
                                         widest = std::max(widest, now - last);
                                       }
                                       found.hiccup = static_cast<double>(widest) * ns_per_tick();
                                       return true;
                                     }}});
  if (!ran) return because(ran.error());
  out.set("clock_ns", found.clock);
  out.set("ticks_ns", found.tick);
  out.set("hiccup_ns", found.hiccup);
  if (cpus.is_one()) return out;
  // Their reading lies between two of ours: the tightest of many such brackets counts.
  constexpr std::uint64_t kTurns = 20'000;
  Run second;
  ran = second.go(Placement::processes,
                  {{cpus.first,
                    [&](SideReport&, Board&, const auto& begin) {
                      begin();
                      std::uint64_t narrowest = ~std::uint64_t{0};
                      for (std::uint64_t i = 1; i <= kTurns; ++i) {
                        const std::uint64_t from = ticks();
                        found.asked.store(i, std::memory_order_release);
                        std::uint64_t theirs = 0;
                        do {
                          theirs = found.said.load(std::memory_order_acquire);
                        } while (theirs == 0);
                        const std::uint64_t to = ticks();
                        found.said.store(0, std::memory_order_release);
                        if (to - from >= narrowest) continue;
                        narrowest = to - from;
                        found.offset = (static_cast<double>(theirs) - static_cast<double>(from) -
                                        static_cast<double>(narrowest) / 2) *
                                       ns_per_tick();
                      }
                      return true;
                    }},
                   {cpus.second, [&](SideReport&, Board&, const auto& begin) {
                      begin();
                      for (std::uint64_t i = 1; i <= kTurns; ++i) {
                        while (found.asked.load(std::memory_order_acquire) != i) {
                        }
                        found.said.store(ticks(), std::memory_order_release);
                      }
                      return true;
                    }}});
  if (!ran) return because(ran.error());
  out.set("offset_ns", found.offset);
  return out;
}

Figures calibrate(Cpus cpus, std::size_t ring, double budget) {
  Figures out;
  const auto add = [&](const char* name, const Try<double>& value) {
    if (value) out.set(name, *value);
  };
  const auto some = [&](double count) { return static_cast<std::uint64_t>(count * budget); };
  const auto few = [&](double count) { return static_cast<std::uint32_t>(count * budget); };
  if (const auto found = clocks(cpus)) {
    for (const auto& [name, value] : found->all()) out.set(name, value);
  }
  const Cpus alone{cpus.first, cpus.first};
  constexpr double kGiB = 1 << 30;
  if (!cpus.is_one()) {
    add("bulk_256_gbs", bulk_limit_gbs(cpus, ring, 256, some(kGiB)));
    add("bulk_1k_gbs", bulk_limit_gbs(cpus, ring, 1 << 10, some(kGiB)));
    add("bulk_4k_gbs", bulk_limit_gbs(cpus, ring, 4 << 10, some(kGiB)));
    add("bulk_64k_gbs", bulk_limit_gbs(cpus, ring, 64 << 10, some(kGiB)));
    add("bulk_4m_ring_gbs", bulk_limit_gbs(cpus, std::size_t{4} << 20, 64 << 10, some(kGiB)));
    add("copy_64k_gbs", copy_limit_gbs(cpus, ring, 64 << 10, some(kGiB)));
    add("futex_ns", wake_round_trip_ns(cpus, Sleep::futex, few(2000)));
    add("pipe_ns", wake_round_trip_ns(cpus, Sleep::pipe, few(1000)));
    add("eventfd_ns", wake_round_trip_ns(cpus, Sleep::eventfd, few(1000)));
  }
  add("futex_one_cpu_ns", wake_round_trip_ns(alone, Sleep::futex, few(10'000)));
  add("memcpy_64k_gbs", memcpy_gbs(cpus.first, 64 << 10, some(kGiB)));
  add("memcpy_1m_gbs", memcpy_gbs(cpus.first, 1 << 20, some(kGiB)));
  add("memcpy_64m_gbs", memcpy_gbs(cpus.first, 64 << 20, some(kGiB)));
  return out;
}

}  // namespace slipring::bench

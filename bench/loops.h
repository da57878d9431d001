// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <concepts>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "contender.h"
#include "harness/clock.h"
#include "harness/pattern.h"

// The bodies of a session, written once for all contenders. A contender brings a Form:
//
//   struct Form {
//     static Try<Form> make(const Shape&);      memory; before the sides exist
//     Try<Sender> sender(std::uint32_t who);    in the side that sends
//     Try<Receiver> receiver();                 in the side that receives
//   };
//   Sender:    bool put(size, base, wait)                one message: filled (pattern.h) and sent
//              bool put_many(size, base, count, wait)    all of them; if it has groups
//   Receiver:  bool take(see, wait)                      see(bytes, size) of one message
//              std::size_t take_many(see, max, wait)     of 1 to max; if it has groups; 0: failed
//
// `wait()` is to be called between two failing looks. `size` is a number or a type with a value.
// A form whose messages have a size of their own says so by kSize.
namespace slipring::bench {

template <std::size_t N>
using Fixed = std::integral_constant<std::size_t, N>;

/// Between two failing looks.
class Backoff {
 public:
  explicit Backoff(bool pause) noexcept : pause_(pause) {}
  void operator()() const noexcept {
    if (pause_) wait::pause_cpu();
  }

 private:
  bool pause_;
};

/// Calls `body(size)` with a constant where sizes are small enough to unroll for.
template <typename Form, typename Body>
bool with_size(std::size_t size, Body&& body) {
  if constexpr (requires { Form::kSize; }) {
    return body(Fixed<Form::kSize>{});
  } else {
    switch (size) {
      case 8: return body(Fixed<8>{});
      case 56: return body(Fixed<56>{});
      case 64: return body(Fixed<64>{});
      case 256: return body(Fixed<256>{});
      default: return body(size);
    }
  }
}

/// Sleeps or spins until `due`, in ticks.
inline void wait_until_ticks(std::uint64_t due, bool naps) noexcept {
  for (;;) {
    const std::uint64_t now = ticks();
    if (now >= due) return;
    const double left_ns = static_cast<double>(due - now) * ns_per_tick();
    if (naps && left_ns > 60'000) {
      // It wakes up late, as sleepers do; the rest is spun away.
      const timespec nap{0, std::min(static_cast<long>(left_ns) - 55'000, 900'000'000L)};
      ::nanosleep(&nap, nullptr);
    } else {
      wait::pause_cpu();
    }
  }
}

template <typename Form>
class SessionOf final : public Session {
 public:
  SessionOf(Form there, std::optional<Form> back, std::size_t size)
      : there_(std::move(there)), back_(std::move(back)), size_(size) {}

  bool pump(const Flow& flow, SideReport& report, Board& board, const Begin& begin) override {
    auto tx = there_.sender(flow.stream);
    if (!tx) return report.fail(tx.error());
    begin();
    const Backoff wait(flow.pause);
    const std::uint64_t total = flow.warm_up + flow.count;
    const std::uint64_t slice = slice_of(flow, total);
    const std::int64_t until = monotonic_ns() + static_cast<std::int64_t>(flow.patience_ns);
    return with_size<Form>(size_, [&](auto size) {
      std::uint64_t i = 0;
      while (i < total) {
        if (flow.patience_ns > 0 && i > flow.warm_up && monotonic_ns() > until) {
          board.over.store(true, std::memory_order_release);
          return true;
        }
        const std::uint64_t end = std::min(total, i + slice);
        board.granted.store(end, std::memory_order_release);
        if constexpr (requires { tx->put_many(size, i, i, wait); }) {
          while (flow.group > 1 && i < end) {
            const std::uint64_t count = std::min<std::uint64_t>(flow.group, end - i);
            if (!tx->put_many(size, base_of(flow.stream, i), count, wait)) return lost(report);
            i += count;
          }
        }
        for (; i < end; ++i) {
          if (!tx->put(size, base_of(flow.stream, i), wait)) return lost(report);
        }
      }
      return true;
    });
  }

  bool drain(const Flow& flow, std::uint32_t producers, SideReport& report, Board& board,
             const Begin& begin) override {
    auto rx = there_.receiver();
    if (!rx) return report.fail(rx.error());
    begin();
    const Backoff wait(flow.pause);
    const std::uint64_t warm_up = flow.warm_up * producers;
    const std::uint64_t total = warm_up + flow.count * producers;
    return with_size<Form>(size_, [&](auto size) {
      Checker check(size);
      const auto until = [&](std::uint64_t seen) {
        if constexpr (requires { rx->take_many(check, std::size_t{1}, wait); }) {
          while (flow.group > 1 && check.seen() < seen) {
            if (rx->take_many(check, flow.group, wait) == 0) return false;
          }
        }
        while (check.seen() < seen) {
          if (!rx->take(check, wait)) return false;
        }
        return true;
      };
      // Only what is going to be sent is waited for.
      const auto granted = [&](std::uint64_t most) {
        if (flow.patience_ns == 0) return most;
        for (;;) {
          const bool is_over = board.over.load(std::memory_order_acquire);
          const std::uint64_t known = board.granted.load(std::memory_order_acquire);
          if (known > check.seen() || is_over) return std::min(known, most);
          ::sched_yield();
        }
      };
      while (check.seen() < warm_up) {
        if (!until(granted(warm_up))) return lost(report);
      }
      report.from_ns = monotonic_ns();
      const std::uint64_t before = check.seen();
      for (std::uint64_t next = 0; check.seen() < total;) {
        next = granted(total);
        if (next <= check.seen()) break;
        if (!until(next)) return lost(report);
      }
      report.to_ns = monotonic_ns();
      report.messages = check.seen() - before;
      return check.all_well() || report.fail("a message was lost, torn or out of order");
    });
  }

  bool ping(const Flow& flow, SideReport& report, Board& board, const Begin& begin) override {
    if (!back_) return report.fail("no way back");
    auto tx = there_.sender(0);
    if (!tx) return report.fail(tx.error());
    auto rx = back_->receiver();
    if (!rx) return report.fail(rx.error());
    begin();
    const Backoff wait(flow.pause);
    return with_size<Form>(size_, [&](auto size) {
      Checker check(size);
      const std::uint64_t total = flow.warm_up + 2 * flow.count;
      std::uint64_t sent_at[kMaxDepth] = {};
      std::uint64_t sent = 0, spent = 0;
      const auto send = [&](bool timed) {
        if (flow.gap_ns > 0) idle_for(flow.gap_ns, flow.naps);
        if (timed || flow.gap_ns > 0) sent_at[sent % kMaxDepth] = ticks();
        return tx->put(size, base_of(0, sent++), wait);
      };
      while (sent < flow.depth) {
        if (!send(true)) return lost(report);
      }
      for (std::uint64_t i = 0; i < total; ++i) {
        // First without a look at the clock, whose reading stands in every round trip.
        const bool timed = i >= flow.warm_up + flow.count;
        if (i == flow.warm_up) report.from_ns = monotonic_ns();
        if (i == flow.warm_up + flow.count) report.to_ns = monotonic_ns();
        if (!rx->take(check, wait)) return lost(report);
        if (!timed && i >= flow.warm_up && flow.gap_ns > 0)
          spent += ticks() - sent_at[i % kMaxDepth];
        if (timed && i >= flow.warm_up + flow.count + flow.depth) {
          board.latency.record(ticks() - sent_at[i % kMaxDepth]);
        }
        if (sent < total && !send(timed)) return lost(report);
      }
      // The gaps are not part of it.
      if (flow.gap_ns > 0) {
        report.to_ns =
            report.from_ns + static_cast<std::int64_t>(static_cast<double>(spent) * ns_per_tick());
      }
      report.messages = flow.count;
      return check.all_well() || report.fail("a reply was lost, torn or out of order");
    });
  }

  bool echo(const Flow& flow, SideReport& report, const Begin& begin) override {
    if (!back_) return report.fail("no way back");
    auto rx = there_.receiver();
    if (!rx) return report.fail(rx.error());
    auto tx = back_->sender(0);
    if (!tx) return report.fail(tx.error());
    begin();
    const Backoff wait(flow.pause);
    return with_size<Form>(size_, [&](auto size) {
      Checker check(size);
      for (std::uint64_t i = 0; i < flow.warm_up + 2 * flow.count; ++i) {
        if (!rx->take(check, wait)) return lost(report);
        if (!tx->put(size, check.last(), wait))
          return lost(report);  // the reply depends on the payload
      }
      return check.all_well() || report.fail("a message was lost, torn or out of order");
    });
  }

  bool send_on_schedule(const Flow& flow, SideReport& report, Board& board,
                        const Begin& begin) override {
    auto tx = there_.sender(0);
    if (!tx) return report.fail(tx.error());
    begin();
    const Backoff wait(flow.pause);
    const double interval = flow.interval_ns / ns_per_tick();
    const std::uint64_t start = ticks() + ticks_of_ns(1e6);
    board.start_ticks.store(start, std::memory_order_release);
    return with_size<Form>(size_, [&](auto size) {
      for (std::uint64_t i = 0; i < flow.warm_up + flow.count; ++i) {
        // Late or not, the next one is due when it is due.
        wait_until_ticks(start + static_cast<std::uint64_t>(static_cast<double>(i) * interval),
                         flow.naps);
        if (!tx->put(size, base_of(0, i), wait)) return lost(report);
      }
      return true;
    });
  }

  bool receive_on_schedule(const Flow& flow, SideReport& report, Board& board,
                           const Begin& begin) override {
    auto rx = there_.receiver();
    if (!rx) return report.fail(rx.error());
    begin();
    const Backoff wait(flow.pause);
    const double interval = flow.interval_ns / ns_per_tick();
    return with_size<Form>(size_, [&](auto size) {
      Checker check(size);
      std::uint64_t start = 0;
      for (std::uint64_t i = 0; i < flow.warm_up + flow.count; ++i) {
        if (i == flow.warm_up) report.from_ns = monotonic_ns();
        if (!rx->take(check, wait)) return lost(report);
        const std::uint64_t now = ticks();
        if (start == 0) start = board.start_ticks.load(std::memory_order_acquire);
        const auto due = start + static_cast<std::uint64_t>(static_cast<double>(i) * interval);
        if (i >= flow.warm_up) board.latency.record(now > due ? now - due : 0);
      }
      report.to_ns = monotonic_ns();
      report.messages = flow.count;
      return check.all_well() || report.fail("a message was lost, torn or out of order");
    });
  }

 private:
  static constexpr std::size_t kMaxDepth = 64;

  /// Between two looks at the clock: a few dozen in a run, whole groups.
  static std::uint64_t slice_of(const Flow& flow, std::uint64_t total) {
    if (flow.patience_ns == 0) return total;
    const std::uint64_t share = std::max<std::uint64_t>(1, total / 32);
    return (share + flow.group - 1) / flow.group * flow.group;
  }

  static bool lost(SideReport& report) {
    return report.why[0] == 0 ? report.fail("a call failed in the middle") : false;
  }

  Form there_;
  std::optional<Form> back_;
  std::size_t size_;
};

/// A session of one form, with a way back when the shape asks for one.
template <typename Form, typename... More>
Try<std::unique_ptr<Session>> session_of(const Shape& shape, const More&... more) {
  auto there = Form::make(shape, more...);
  if (!there) return because(there.error());
  std::optional<Form> back;
  if (shape.there_and_back) {
    auto made = Form::make(shape, more...);
    if (!made) return because(made.error());
    back.emplace(std::move(*made));
  }
  return std::make_unique<SessionOf<Form>>(std::move(*there), std::move(back), shape.size);
}

/// For queues of elements: the sizes that they are built for.
template <template <std::size_t> typename Form, std::size_t... Sizes>
Try<std::unique_ptr<Session>> session_of_size(const Shape& shape, std::index_sequence<Sizes...>) {
  Try<std::unique_ptr<Session>> made = because("not built for messages of this size");
  ((shape.size == Sizes ? void(made = session_of<Form<Sizes>>(shape)) : void()), ...);
  return made;
}
template <std::size_t... Sizes>
[[nodiscard]] std::vector<std::size_t> sizes_of(std::index_sequence<Sizes...>) {
  return {Sizes...};
}
using ElementSizes = std::index_sequence<8, 56, 64, 256, 1024, 4096>;

/// What queues of elements carry.
template <std::size_t N>
struct alignas(8) Element {
  std::byte bytes[N];
};

}  // namespace slipring::bench

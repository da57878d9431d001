// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "slipring/base/deadline.h"
#include "slipring/base/result.h"
#include "slipring/base/shared_access.h"
#include "slipring/wait/fence.h"
#include "slipring/wait/primitive.h"

namespace slipring::wait {

/// No sleep lasts longer: a wake-up lost with a killed ringer costs this much and no more.
inline constexpr std::chrono::milliseconds kMaxPark{50};
/// The bound while the two sides' fences do not pair yet.
inline constexpr std::chrono::milliseconds kUnfencedPark{1};

/// The words of one doorbell. Two writers, and no word that both write, so the words may lie in
/// two segments, each mapped read-only by the other side.
///
///   ringer: ring_if_parked()                     sleeper: park_unless(ready, deadline)
///     P1  publish                                  C1  s = seq                   (acquire)
///     P2  light fence                              C2  ticket = {number + 1}     (release)
///     P3  if ticket == dealt: return               C3  heavy fence
///     P4  dealt = ticket; awake: return            C4  if ready(): ticket = awake, return
///     P5  seq += 1               (release)         C5  sleep while seq == s, bounded
///     P6  wake                                     C6  ticket = awake; look at everything
///
/// No lost wake-up (docs/doorbell.md): of the two fences one is first. If P2, then C4 sees P1 and
/// does not sleep. If C3, then P3 sees C2, and C1 had read seq before P5 raised it: C5 returns at
/// once, or sleeps already and P6 wakes it. P6 is the only line that knows the kind.
struct BellRef {
  SharedWord<std::uint64_t>& ticket;                  ///< Sleeper stores. See Ticket.
  SharedWord<std::uint32_t>& seq;                     ///< Ringer stores; the futex word.
  SharedWord<std::uint32_t>& ringer_fence;            ///< Ringer stores: its FenceMode.
  BellStore* store = nullptr;                         ///< Kinds futex and eventfd do without.
  SharedWord<std::uint64_t>* parked_since = nullptr;  ///< Sleeper stores: monotonic ns, 0 awake.
};

/// A ticket, taken apart:  |63 .. 2 number, 0 awake| 1 never_parks | 0 wants_sym|
/// Each sleep has its own number, so "already rung for" is one comparison and never mistaken.
struct Ticket {
  std::uint64_t bits = 0;
  [[nodiscard]] static constexpr Ticket make(std::uint64_t number, bool never_parks,
                                             bool wants_sym) noexcept {
    return {number << 2 | std::uint64_t{never_parks} << 1 | std::uint64_t{wants_sym}};
  }
  [[nodiscard]] constexpr std::uint64_t number() const noexcept { return bits >> 2; }
  [[nodiscard]] constexpr bool awake() const noexcept { return number() == 0; }
  [[nodiscard]] constexpr bool never_parks() const noexcept { return (bits & 2) != 0; }
  [[nodiscard]] constexpr bool wants_sym() const noexcept { return (bits & 1) != 0; }
};

/// The ticket of nobody.
inline constinit SharedWord<std::uint64_t> kNobodySleeps{};

struct RingerCounters {
  std::uint64_t rings = 0;   ///< Times `seq` was raised.
  std::uint64_t wakes = 0;   ///< Wakes that reached the kernel.
  std::uint64_t failed = 0;  ///< Rings whose wake could not be made: no object, or refused.
};

/// The side that publishes and wakes.
///
/// Threads:  one at a time.
/// Progress: ring_if_parked() is wait-free and makes no system call unless the sleeper holds a
///           ticket that this ringer has not dealt with; then a bounded number, once per ticket.
/// Trust:    `ticket` and the store are the sleeper's. A bad ticket costs it or us a wake for
///           nothing; a bad store is a failed wake. Kind condvar trusts its peer with its life.
/// Source:   eventcounts (Reed, Kanodia 1979), as the futex protocols of folly and abseil; split
///           in two words with one writer each, and one wake per ticket: docs/doorbell.md.
template <typename Access = NativeAccess>
class Ringer {
 public:
  /// Starts symmetric, and tells the sleeper when it goes asymmetric.
  /// Errors: bad_format        the store belongs to a doorbell of another kind,
  ///         invalid_argument  the kind needs a store or a descriptor that was not given.
  [[nodiscard]] static Result<Ringer> attach(BellKind kind, BellRef bell,
                                             RingerOptions options = {}) noexcept;

  /// Wakes the sleeper if it may have looked before what we just published. The hot path.
  /// Orders: doorbell.park, doorbell.ticket.
  void ring_if_parked() noexcept {
    // SYNC doorbell.park (light fence <-> heavy fence in Sleeper::announce):
    //   of our publication and its ticket, at least one is seen by the other side.
    Fences<Access>::light(mode_);
    if (Access::load_relaxed(*ticket_) != dealt_) [[unlikely]]
      deal();
  }
  /// The same, when `worth_it()` says so. A ticket not worth a ring now is looked at again next
  /// time.
  template <typename WorthIt>
  void ring_if_parked(WorthIt&& worth_it) noexcept {
    // SYNC doorbell.park (light fence <-> heavy fence in Sleeper::announce): as above.
    Fences<Access>::light(mode_);
    if (Access::load_relaxed(*ticket_) != dealt_) [[unlikely]] {
      // SYNC doorbell.ticket (acquire <- release in Sleeper::store_ticket):
      //   what the sleeper stored for worth_it() before its ticket is visible to it.
      static_cast<void>(Access::load_acquire(*ticket_));
      if (worth_it()) deal();
    }
  }
  /// Rings whether anybody sleeps or not: after joining, closing, and recovery for the dead.
  /// Orders: doorbell.ring.
  [[gnu::cold, gnu::noinline]] void ring() noexcept;

  /// In a child of fork(), whose copy must not ring: from now on nobody sleeps here.
  void disown() noexcept {
    ticket_ = &kNobodySleeps;
    dealt_ = 0;
  }

  /// Kind signal: the process to signal from now on. Others ignore it.
  void expect_sleeper(const ProcessToken& token) noexcept { wake_->expect_sleeper(token); }

  [[nodiscard]] BellKind kind() const noexcept { return kind_; }
  [[nodiscard]] FenceMode fence() const noexcept { return mode_; }
  [[nodiscard]] const RingerCounters& counters() const noexcept { return counters_; }

 private:
  Ringer(BellKind kind, const BellRef& bell, std::unique_ptr<detail::WakePrimitive> wake,
         bool registered, bool one_of_many) noexcept;
  [[gnu::cold, gnu::noinline]] void deal() noexcept;
  [[nodiscard]] Ticket negotiate(Ticket seen) noexcept;
  [[nodiscard]] FenceMode fence_for(Ticket seen) const noexcept;

  FenceMode mode_ = FenceMode::symmetric;
  const SharedWord<std::uint64_t>* ticket_;
  std::uint64_t dealt_ = 0;  // the ticket word that we have dealt with
  SharedWord<std::uint32_t>* seq_;
  SharedWord<std::uint32_t>* ringer_fence_;
  std::unique_ptr<detail::WakePrimitive> wake_;
  RingerCounters counters_;
  BellKind kind_;
  bool registered_;
  bool one_of_many_;
};

/// Rings a doorbell whose ringer is proved dead, for whoever waits on it: raises `seq`, which
/// several may do at once, and wakes. Touches no other word, so a successor may ring beside it.
/// Kind condvar is left to its bounded park: the dead may hold its mutex. Progress: a bounded
/// number of system calls. Errors:   as Ringer::attach. Orders:   doorbell.ring.
template <typename Access = NativeAccess>
[[gnu::cold]] Result<void> ring_for_the_dead(BellKind kind, const BellRef& bell) noexcept;

enum class WakeReason : std::uint8_t {
  ready,      ///< `ready` said so: nobody slept.
  rung,       ///< `seq` moved. Look at everything: rings merge, and may come for nothing.
  timed_out,  ///< The deadline, or a bounded park, is over. Look at everything all the same.
};

struct SleeperCounters {
  std::uint64_t parks = 0;      ///< Sleeps begun, `ready` being false to the end.
  std::uint64_t spurious = 0;   ///< Returns of the kernel with `seq` unmoved and time left.
  std::uint64_t parked_ns = 0;  ///< Time in those sleeps.
};

/// The side that parks. Detaching (the destructor) leaves the ticket awake and no kernel object.
///
/// Threads:  one at a time.
/// Progress: park_unless() blocks until rung, the deadline, or kMaxPark, whichever is first.
/// Trust:    `seq` and `ringer_fence` are the ringer's: a bad one shortens or lengthens a sleep
///           within kMaxPark.
/// A forked child's copy never parks, never touches the words and removes nothing: it naps.
template <typename Access = NativeAccess>
class Sleeper {
 public:
  /// Awake at first. Removes what a killed predecessor left in the store.
  /// Errors: invalid_argument  the kind needs a store or a descriptor that was not given,
  ///         in_use            kind signal: this process has a sleeper on that number already,
  ///         system, no_space  the kernel refused the object.
  [[nodiscard]] static Result<Sleeper> attach(BellKind kind, BellRef bell,
                                              SleeperOptions options = {}) noexcept;
  Sleeper(Sleeper&& other) noexcept = default;
  Sleeper& operator=(Sleeper&& other) noexcept;
  ~Sleeper() { leave(); }

  /// Sleeps unless `ready()`, asked once the ticket is out: after a ring that followed a false
  /// answer it never sleeps on. At most min(deadline, park_bound()).
  /// Orders: doorbell.park, doorbell.ticket, doorbell.ring.
  template <typename Ready>
  [[nodiscard]] WakeReason park_unless(Ready&& ready, Deadline deadline) noexcept;

  /// For epoll (kinds with a descriptor): takes a ticket and leaves it out. True: wait for fd() to
  /// become readable, at most park_bound(), then disarm(). False: nothing is armed, as ready()
  /// said so, or because this sleeper has no descriptor or may not park.
  template <typename Ready>
  [[nodiscard]] bool arm(Ready&& ready) noexcept;
  /// Takes the ticket back and empties the descriptor. Look at everything after it.
  void disarm() noexcept;
  /// Readable when rung while armed; -1 for kinds without one. Stays ours.
  [[nodiscard]] int fd() const noexcept { return sleep_->fd(); }

  /// Stores the awake ticket. Only wait_any and takers of tickets by hand need it.
  void awake() noexcept;
  /// Longest sleep that the fences of both sides allow now: kMaxPark, or kUnfencedPark.
  [[nodiscard]] std::chrono::milliseconds park_bound() const noexcept { return bound_; }

  [[nodiscard]] BellKind kind() const noexcept { return kind_; }
  [[nodiscard]] bool wants_symmetric() const noexcept { return wants_sym_; }
  [[nodiscard]] FenceChoice fence_choice() const noexcept { return choice_; }
  /// False in a forked child and with `never_parks`.
  [[nodiscard]] bool may_park() const noexcept;
  [[nodiscard]] const SleeperCounters& counters() const noexcept { return counters_; }

  /// Takes a ticket without a fence and returns the `seq` that was read before. For wait_any:
  /// one heavy fence serves many tickets, each of which is then told of it.
  [[nodiscard]] std::uint32_t take_ticket() noexcept;
  /// Tells what heavy_fence() said after take_ticket(). Sets park_bound().
  void fenced(bool heavy_ran) noexcept;
  [[nodiscard]] const SharedWord<std::uint32_t>& seq() const noexcept { return *seq_; }
  void count_park(std::int64_t from_ns, std::uint64_t spurious) noexcept;

 private:
  Sleeper(BellKind kind, const BellRef& bell, std::unique_ptr<detail::SleepPrimitive> sleep,
          const SleeperOptions& options) noexcept;
  [[nodiscard]] std::uint32_t announce() noexcept;
  [[nodiscard]] WakeReason sleep(std::uint32_t seen, Deadline deadline) noexcept;
  void store_ticket(std::uint64_t number) noexcept;
  void leave() noexcept;

  SharedWord<std::uint64_t>* ticket_;
  SharedWord<std::uint64_t>* parked_since_;
  const SharedWord<std::uint32_t>* seq_;
  const SharedWord<std::uint32_t>* ringer_fence_;
  std::unique_ptr<detail::SleepPrimitive> sleep_;  // null: moved from
  std::uint64_t number_;
  SleeperCounters counters_;
  std::chrono::milliseconds max_park_;
  std::chrono::milliseconds bound_;
  int owner_pid_;
  BellKind kind_;
  FenceChoice choice_;
  bool never_parks_;
  bool many_ringers_;
  bool wants_sym_;
};

/// What anybody may learn from outside about a doorbell, without taking part.
struct BellState {
  bool parked = false;
  std::uint64_t sleep_number = 0;
  std::int64_t parked_since_ns = 0;  ///< CLOCK_MONOTONIC; 0 when awake or not recorded.
  FenceMode fence = FenceMode::symmetric;
};
template <typename Access = NativeAccess>
[[nodiscard]] BellState look_at(const BellRef& bell) noexcept;

}  // namespace slipring::wait

#include "slipring/wait/doorbell_inl.h"

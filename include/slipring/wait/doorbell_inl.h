// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <utility>

#include "slipring/wait/doorbell.h"

namespace slipring::wait {

template <typename Access>
Ringer<Access>::Ringer(BellKind kind, const BellRef& bell,
                       std::unique_ptr<detail::WakePrimitive> wake, bool registered,
                       bool one_of_many) noexcept
    : ticket_(&bell.ticket),
      seq_(&bell.seq),
      ringer_fence_(&bell.ringer_fence),
      wake_(std::move(wake)),
      kind_(kind),
      registered_(registered),
      one_of_many_(one_of_many) {
  // A killed predecessor may have promised more, or less, than we do until now.
  Access::store_release(*ringer_fence_, static_cast<std::uint32_t>(mode_));
  // A ticket that is out already stays undealt: our first publication has to ring for it.
  const Ticket seen = negotiate(Ticket{Access::load_acquire(*ticket_)});
  dealt_ = Ticket::make(0, seen.never_parks(), seen.wants_sym()).bits;
}

template <typename Access>
Result<Ringer<Access>> Ringer<Access>::attach(BellKind kind, BellRef bell,
                                              RingerOptions options) noexcept {
  auto wake = detail::make_wake_primitive(kind, bell.store, options);
  if (!wake) return tl::unexpected(wake.error());
  const bool registered =
      options.fence == FenceChoice::automatic && register_ringer_process() == FenceMode::asymmetric;
  return Ringer(kind, bell, std::move(*wake), registered, options.one_of_many);
}

template <typename Access>
void Ringer<Access>::ring() noexcept {
  // SYNC doorbell.ring (release -> acquire in Sleeper::take_ticket and SleepPrimitive::sleep):
  //   what we published, or recovered for the dead, is visible to the sleeper that wakes.
  Access::add_release(*seq_, 1);
  ++counters_.rings;
  // Killed here, we take the wake along: the sleeper's bounded park is the backstop.
  ++(wake_->wake(*seq_) ? counters_.wakes : counters_.failed);
}

template <typename Access>
Result<void> ring_for_the_dead(BellKind kind, const BellRef& bell) noexcept {
  if (kind == BellKind::condvar) return {};
  RingerOptions options;
  auto wake = detail::make_wake_primitive(kind, bell.store, options);
  if (!wake) return tl::unexpected(wake.error());
  // SYNC doorbell.ring (release -> acquire in Sleeper::take_ticket and SleepPrimitive::sleep): what
  //   was recovered for the dead is visible to the sleeper that wakes.
  Access::add_release(bell.seq, 1);
  static_cast<void>((*wake)->wake(bell.seq));  // the bounded park is the backstop
  return {};
}

template <typename Access>
void Ringer<Access>::deal() noexcept {
  // SYNC doorbell.ticket (acquire <- release in Sleeper::store_ticket):
  //   the sleeper has read seq before it stored this ticket, so our increment comes after.
  // TRUST: the word is compared and taken apart, nothing else; any value is a ticket.
  const Ticket seen = negotiate(Ticket{Access::load_acquire(*ticket_)});
  dealt_ = seen.bits;
  if (!seen.awake()) ring();
}

template <typename Access>
FenceMode Ringer<Access>::fence_for(Ticket seen) const noexcept {
  if (registered_ && !seen.wants_sym()) return FenceMode::asymmetric;
  // One of many stays fenced: a sleeper that looks at no single word cannot know better.
  return seen.never_parks() && !one_of_many_ ? FenceMode::none : FenceMode::symmetric;
}

template <typename Access>
Ticket Ringer<Access>::negotiate(Ticket seen) noexcept {
  // A sleeper that keeps changing its mind ends up with the fence that is always right.
  for (int turn = 0; turn < 4 && fence_for(seen) != mode_; ++turn) {
    mode_ = turn < 3 ? fence_for(seen) : FenceMode::symmetric;
    // SYNC doorbell.fence_mode (release -> acquire in Sleeper::fenced):
    //   whoever reads this mode sees all that was published under the one before.
    Access::store_release(*ringer_fence_, static_cast<std::uint32_t>(mode_));
    // Of this store and a ticket that wants otherwise, one is seen by the other side: either the
    // sleeper reads the new mode, and sleeps short, or we read its ticket here, and change again.
    Fences<Access>::full();
    seen = Ticket{Access::load_acquire(*ticket_)};
  }
  return seen;
}

template <typename Access>
Sleeper<Access>::Sleeper(BellKind kind, const BellRef& bell,
                         std::unique_ptr<detail::SleepPrimitive> sleep,
                         const SleeperOptions& options) noexcept
    : ticket_(&bell.ticket),
      parked_since_(bell.parked_since),
      seq_(&bell.seq),
      ringer_fence_(&bell.ringer_fence),
      sleep_(std::move(sleep)),
      // SUBTLE: a ringer may still hold the last ticket of our predecessor as dealt. Numbers that
      // start at the clock never meet it: nobody sleeps once per nanosecond.
      number_(options.first_number != 0 ? options.first_number - 1
                                        : static_cast<std::uint64_t>(monotonic_ns())),
      max_park_(options.max_park),
      bound_(options.max_park),
      owner_pid_(detail::this_process()),
      kind_(kind),
      choice_(options.fence),
      never_parks_(options.never_parks),
      many_ringers_(options.many_ringers),
      wants_sym_(options.fence == FenceChoice::symmetric || !has_heavy_fence()) {
  awake();
}

template <typename Access>
Result<Sleeper<Access>> Sleeper<Access>::attach(BellKind kind, BellRef bell,
                                                SleeperOptions options) noexcept {
  auto sleep = detail::make_sleep_primitive(kind, bell.store, options);
  if (!sleep) return tl::unexpected(sleep.error());
  return Sleeper(kind, bell, std::move(*sleep), options);
}

template <typename Access>
Sleeper<Access>& Sleeper<Access>::operator=(Sleeper&& other) noexcept {
  if (this == &other) return *this;
  leave();
  ticket_ = other.ticket_;
  parked_since_ = other.parked_since_;
  seq_ = other.seq_;
  ringer_fence_ = other.ringer_fence_;
  sleep_ = std::move(other.sleep_);
  number_ = other.number_;
  counters_ = other.counters_;
  max_park_ = other.max_park_;
  bound_ = other.bound_;
  owner_pid_ = other.owner_pid_;
  kind_ = other.kind_;
  choice_ = other.choice_;
  never_parks_ = other.never_parks_;
  many_ringers_ = other.many_ringers_;
  wants_sym_ = other.wants_sym_;
  return *this;
}

template <typename Access>
void Sleeper<Access>::leave() noexcept {
  if (sleep_ == nullptr || owner_pid_ != detail::this_process()) return;
  if (parked_since_ != nullptr) Access::store_relaxed(*parked_since_, 0);
  // The promises leave with us: the next sleeper makes its own.
  Access::store_release(*ticket_, 0);
  sleep_->detach();
}

template <typename Access>
bool Sleeper<Access>::may_park() const noexcept {
  return !never_parks_ && owner_pid_ == detail::this_process();
}

template <typename Access>
void Sleeper<Access>::store_ticket(std::uint64_t number) noexcept {
  // SYNC doorbell.ticket (release -> acquire in Ringer::deal):
  //   whoever sees this ticket comes after our load of seq, and after the store's objects.
  Access::store_release(*ticket_, Ticket::make(number, never_parks_, wants_sym_).bits);
}

template <typename Access>
void Sleeper<Access>::awake() noexcept {
  store_ticket(0);
  if (parked_since_ != nullptr) Access::store_relaxed(*parked_since_, 0);
}

template <typename Access>
std::uint32_t Sleeper<Access>::take_ticket() noexcept {
  sleep_->drain();
  // SYNC doorbell.ring (acquire <- release in Ringer::ring):
  //   rings up to here are answered by ready(), which sees what they announce.
  const std::uint32_t seen = Access::load_acquire(*seq_);
  if (parked_since_ != nullptr) {
    Access::store_relaxed(*parked_since_, static_cast<std::uint64_t>(monotonic_ns()));
  }
  number_ = (number_ + 1) & (~std::uint64_t{0} >> 2);
  if (number_ == 0) number_ = 1;  // 0 means awake
  store_ticket(number_);
  return seen;
}

template <typename Access>
void Sleeper<Access>::fenced(bool heavy_ran) noexcept {
  if (!heavy_ran && !wants_sym_) {
    // The kernel refused after all, as under a filter installed meanwhile.
    wants_sym_ = true;
    store_ticket(number_);
    Fences<Access>::full();
  }
  // SYNC doorbell.fence_mode (acquire <- release in Ringer::negotiate):
  //   read before ready() is asked: what was published under an older mode is seen by it.
  const auto mode = static_cast<FenceMode>(Access::load_acquire(*ringer_fence_));
  const bool paired =
      many_ringers_ ? heavy_ran
                    : mode == FenceMode::symmetric || (mode == FenceMode::asymmetric && heavy_ran);
  bound_ = paired ? max_park_ : std::min(max_park_, kUnfencedPark);
}

template <typename Access>
std::uint32_t Sleeper<Access>::announce() noexcept {
  const std::uint32_t seen = take_ticket();
  // SYNC doorbell.park (heavy fence <-> light fence in Ringer::ring_if_parked):
  //   of our ticket and its publication, at least one is seen by the other side.
  bool heavy_ran = false;
  if (choice_ == FenceChoice::automatic) {
    heavy_ran = Fences<Access>::heavy();
  } else {
    Fences<Access>::full();
  }
  fenced(heavy_ran);
  return seen;
}

template <typename Access>
void Sleeper<Access>::count_park(std::int64_t from_ns, std::uint64_t spurious) noexcept {
  ++counters_.parks;
  counters_.spurious += spurious;
  counters_.parked_ns += static_cast<std::uint64_t>(monotonic_ns() - from_ns);
}

template <typename Access>
WakeReason Sleeper<Access>::sleep(std::uint32_t seen, Deadline deadline) noexcept {
  const std::int64_t from_ns = monotonic_ns();
  const Deadline until =
      deadline.or_earlier(Deadline::at_ns(from_ns + std::chrono::nanoseconds(bound_).count()));
  std::uint64_t spurious = 0;
  const bool rung = sleep_->sleep(*seq_, seen, until, spurious);
  count_park(from_ns, spurious);
  return rung ? WakeReason::rung : WakeReason::timed_out;
}

template <typename Access>
template <typename Ready>
WakeReason Sleeper<Access>::park_unless(Ready&& ready, Deadline deadline) noexcept {
  if (!may_park()) [[unlikely]] {
    if (ready()) return WakeReason::ready;
    detail::nap_until(deadline.or_earlier(Deadline::in(kUnfencedPark)));
    return WakeReason::timed_out;
  }
  const std::uint32_t seen = announce();
  const bool was_ready = ready();
  const WakeReason reason = was_ready ? WakeReason::ready : sleep(seen, deadline);
  awake();
  return reason;
}

template <typename Access>
template <typename Ready>
bool Sleeper<Access>::arm(Ready&& ready) noexcept {
  if (!may_park() || fd() < 0) return false;
  static_cast<void>(announce());
  if (!ready()) return true;
  awake();
  return false;
}

template <typename Access>
void Sleeper<Access>::disarm() noexcept {
  if (!may_park()) return;
  awake();
  sleep_->drain();
}

template <typename Access>
BellState look_at(const BellRef& bell) noexcept {
  BellState state;
  const Ticket ticket{Access::load_acquire(bell.ticket)};
  state.parked = !ticket.awake();
  state.sleep_number = ticket.number();
  state.fence = static_cast<FenceMode>(Access::load_relaxed(bell.ringer_fence));
  if (state.parked && bell.parked_since != nullptr) {
    state.parked_since_ns = static_cast<std::int64_t>(Access::load_relaxed(*bell.parked_since));
  }
  return state;
}

}  // namespace slipring::wait

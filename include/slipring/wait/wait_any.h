// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "slipring/base/deadline.h"
#include "slipring/base/result.h"
#include "slipring/wait/doorbell.h"

namespace slipring::wait {

/// As many as futex_waitv takes.
inline constexpr std::size_t kMaxWaitAny = 128;

namespace detail {
struct SeqSeen {
  const SharedWord<std::uint32_t>* seq;
  std::uint32_t seen;
};
/// Sleeps until one of the words moved or `until` has passed. False: passed. Without futex_waitv
/// it sleeps on the first in slices of 1 ms and looks at the others in between.
[[nodiscard]] bool sleep_on_any(std::span<const SeqSeen> words, Deadline until,
                                std::uint64_t& spurious) noexcept;
}  // namespace detail

/// Waits on many doorbells at once: all tickets, one heavy fence, one look, one sleep.
///   ready_index() -> std::optional<std::size_t>   which one is ready, if any; the caller's choice
///                                                 of order is its fairness
///   tick() -> Result<void>                        as in wait_until
/// The better way, where one can choose: one doorbell per waiting thread, named by many lanes.
/// Threads:  owns all the sleepers meanwhile.
/// Progress: blocks until ready, the deadline or an error; a park is bounded as a single one's.
/// Errors:   timed_out; what tick() returned; not_supported  a sleeper is not of kind futex, or
///           may not park; too_large  more than kMaxWaitAny; invalid_argument  none at all.
/// Orders:   doorbell.park, doorbell.ticket, doorbell.ring.
/// Source:   futex_waitv(2), Linux 5.16.
template <typename Access, typename ReadyIndex, typename Tick>
[[nodiscard]] Result<std::size_t> wait_any(std::span<Sleeper<Access>*> sleepers,
                                           ReadyIndex&& ready_index, Deadline deadline,
                                           Tick&& tick) {
  if (sleepers.empty()) return fail(Errc::invalid_argument, 0, "wait_any");
  if (sleepers.size() > kMaxWaitAny) return fail(Errc::too_large, 0, "wait_any");
  for (const Sleeper<Access>* sleeper : sleepers) {
    if (sleeper->kind() != BellKind::futex || !sleeper->may_park()) {
      return fail(Errc::not_supported, 0, "wait_any");
    }
  }
  bool spares_others = false;  // one sleeper that may not interrupt other CPUs speaks for all
  for (const Sleeper<Access>* sleeper : sleepers) {
    spares_others |= sleeper->fence_choice() == FenceChoice::symmetric;
  }
  std::array<detail::SeqSeen, kMaxWaitAny> words;
  for (;;) {
    std::optional<std::size_t> index = ready_index();
    if (index) return *index;
    if (deadline.passed()) return fail(Errc::timed_out, 0, "wait_any");
    // Also when rung for nothing: so does who found a peer dead.
    const Result<void> went = tick();
    if (index = ready_index(); index) return *index;
    if (!went) return tl::unexpected(went.error());

    for (std::size_t i = 0; i < sleepers.size(); ++i) {
      words[i] = {&sleepers[i]->seq(), sleepers[i]->take_ticket()};
    }
    // SYNC doorbell.park (heavy fence <-> light fence in Ringer::ring_if_parked): as in announce,
    //   for all tickets at once.
    if (spares_others) Fences<Access>::full();
    const bool heavy_ran = !spares_others && Fences<Access>::heavy();
    std::chrono::milliseconds bound = std::chrono::milliseconds::max();
    for (Sleeper<Access>* sleeper : sleepers) {
      sleeper->fenced(heavy_ran);
      bound = std::min(bound, sleeper->park_bound());
    }
    index = ready_index();
    if (!index) {
      const std::int64_t from_ns = monotonic_ns();
      std::uint64_t spurious = 0;
      static_cast<void>(detail::sleep_on_any({words.data(), sleepers.size()},
                                             deadline.or_earlier(Deadline::in(bound)), spurious));
      for (Sleeper<Access>* sleeper : sleepers) sleeper->count_park(from_ns, spurious);
    }
    for (Sleeper<Access>* sleeper : sleepers) sleeper->awake();
    if (index) return *index;
  }
}

}  // namespace slipring::wait

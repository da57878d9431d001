// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "slipring/base/hash.h"

// What workers note of their calls, in memory that survives whoever is killed, and what their
// messages look like. A note is one 8-byte store, so a killed writer leaves it done or not done.
namespace slipring::tools::nemesis {

/// A word that the process of a log and those who read it share.
class Note {
 public:
  [[nodiscard]] std::uint64_t get() const noexcept {
    return std::atomic_ref(value_).load(std::memory_order_acquire);
  }
  void set(std::uint64_t value) noexcept {
    std::atomic_ref(value_).store(value, std::memory_order_release);
  }
  std::uint64_t add(std::uint64_t value = 1) noexcept {
    return std::atomic_ref(value_).fetch_add(value, std::memory_order_acq_rel);
  }

 private:
  mutable std::uint64_t value_ = 0;
};

/// One sender, from its fork to its end. Its message number n is determined by who it is and n.
struct SenderLog {
  Note pid, slot, place;
  Note attached;         ///< CLOCK_MONOTONIC, or 0.
  Note successor_of_ns;  ///< When its predecessor was killed, or 0.
  Note committed;        ///< Messages whose commit returned: ok.
  Note from, to;    ///< The batch being committed; beyond `committed` its outcome is indeterminate.
  Note aborted;     ///< Claims given up on purpose.
  Note killed;      ///< Stored by the coordinator before the signal.
  Note ended;       ///< It left in order.
  Note failed;      ///< 1 + Errc of a call that must not fail; 0: none did.
  Note false_dead;  ///< Told that the receiver died while it lived all through the call.
  Note forks, forks_not_refused;
};

/// Messages [first, end) of one sender, as one receiver was given them one after the other.
struct Run {
  Note sender, first, end;
  Note receiver;
  Note redelivered;  ///< 1: all of them came with that mark.
};

struct ReceiverLog {
  Note pid, attached, killed, ended, failed;
  Note torn, strange, reordered;  ///< Payload not its sum; no message of ours; not in claim order.
};

/// A death that a receiver was told of.
struct DepartedLog {
  Note pid, place;
};

inline constexpr std::uint64_t kMostSenders = 1 << 15;
inline constexpr std::uint64_t kMostReceivers = 1 << 13;
inline constexpr std::uint64_t kMostRuns = 1 << 19;
inline constexpr std::uint64_t kMostSlots = 64;

/// All of it; zero bytes are an empty log.
struct Log {
  Note stop;       ///< 1: senders, 2: the receiver, too, once all is drained.
  Note tickets;    ///< Total order: drawn before and inside each claim.
  Note delivered;  ///< Messages seen first, for the coordinator to see that things move.
  Note runs, departed, senders, receivers;
  Note fork_request[kMostSlots];
  SenderLog sender[kMostSenders];
  ReceiverLog receiver[kMostReceivers];
  DepartedLog departed_of[kMostSenders];
  Run run[kMostRuns];
};

/// What a message starts with; words that follow from `sum` fill the rest.
struct Head {
  std::uint64_t sender, number;
  std::uint64_t before, inside;  ///< Tickets; 0 without an order between senders.
  std::uint64_t size, sum;
};

[[nodiscard]] inline std::uint64_t sum_of(const Head& head) noexcept {
  std::uint64_t sum = kFnvBasis;
  for (const std::uint64_t word : {head.sender, head.number, head.before, head.inside, head.size}) {
    sum = fnv1a(word, sum);
  }
  return sum;
}

inline void write_message(std::span<std::byte> payload, Head head) noexcept {
  head.size = payload.size();
  head.sum = sum_of(head);
  std::memcpy(payload.data(), &head, sizeof head);
  for (std::size_t at = sizeof head; at < payload.size(); at += 8) {
    const std::uint64_t word = head.sum ^ at;
    std::memcpy(payload.data() + at, &word, std::min<std::size_t>(8, payload.size() - at));
  }
}

/// False: it is not whole. `head` is what it says of itself in any case.
[[nodiscard]] inline bool read_message(std::span<const std::byte> payload, Head& head) noexcept {
  if (payload.size() < sizeof head) return false;
  std::memcpy(&head, payload.data(), sizeof head);
  if (head.size != payload.size() || head.sum != sum_of(head)) return false;
  for (std::size_t at = sizeof head; at < payload.size(); at += 8) {
    const std::uint64_t word = head.sum ^ at;
    if (std::memcmp(payload.data() + at, &word, std::min<std::size_t>(8, payload.size() - at)) !=
        0) {
      return false;
    }
  }
  return true;
}

}  // namespace slipring::tools::nemesis

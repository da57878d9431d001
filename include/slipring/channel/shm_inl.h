// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <utility>
#include <variant>

#include "slipring/base/fork_guard.h"
#include "slipring/channel/counters.h"
#include "slipring/channel/shm.h"
#include "slipring/wait/gate.h"
#include "slipring/wait/pacer.h"

// The hot path of both ends, inline for a sender's lane and a single lane's receiver: lane, light
// fence, one compare. What may sleep, and the rings that many share, is in shm.cc.
namespace slipring::channel {

/// What an endpoint is over in a child of fork(): nothing. The ring's other forms are left as they
/// were, not destroyed, since another thread may have been inside.
struct OfTheParent {
  [[nodiscard]] static constexpr bool has_record() noexcept { return false; }
  [[nodiscard]] static constexpr std::uint64_t messages() noexcept { return 0; }
  [[nodiscard]] static constexpr std::uint64_t bytes() noexcept { return 0; }
  [[nodiscard]] static constexpr std::uint64_t approx_backlog() noexcept { return 0; }
  [[nodiscard]] static Result<ring::Record> try_peek() noexcept { return refusal(); }
  [[nodiscard]] static tl::unexpected<Error> refusal() noexcept {
    return fail(Errc::invalid_argument, 0, "endpoint: of the parent");
  }
};

/// On the heap, so that claims and messages outlive a move of their endpoint.
struct SenderState {
  ShmLink link;
  std::variant<ring::LaneProducer<>, ring::TotalProducer<>, OfTheParent> ring;
  wait::Ringer<> data_bell;
  std::optional<wait::Sleeper<>> space_bell;   // none: closed, or total order
  std::optional<wait::GateSleeper<>> at_gate;  // total order: all wait at one gate
  wait::WaitStrategy strategy;
  SenderTally tally;
  /// Messages committed when a wait was counted last: one that a caller cuts in slices is one.
  std::optional<std::uint64_t> waited_behind{};
  std::unique_ptr<ForkGuard> fork_guard{};

  [[nodiscard]] bool is_of_the_parent() const noexcept {
    return std::holds_alternative<OfTheParent>(ring);
  }
  /// Null in a ring of total order, and in a child of fork().
  [[nodiscard]] ring::LaneProducer<>* lane() noexcept {
    return std::get_if<ring::LaneProducer<>>(&ring);
  }
  [[nodiscard]] ring::TotalProducer<>& total() noexcept {
    return *std::get_if<ring::TotalProducer<>>(&ring);
  }
  // Out of line: they hold the locked instruction of a total order, and a lane's path stays clean.
  [[nodiscard, gnu::noinline]] Result<ring::Claim> claim_in_total(std::size_t size,
                                                                  bool own_line) noexcept;
  [[gnu::noinline]] void commit_in_total(std::size_t used, std::uint16_t type,
                                         ring::RecordKind kind) noexcept;
  [[gnu::noinline]] void abort_in_total() noexcept;
  [[gnu::noinline]] void count_wait(Deadline deadline) noexcept;
  [[nodiscard, gnu::noinline]] Result<void> send_in_total(std::span<const std::byte> message,
                                                          std::uint16_t type) noexcept;
};

struct ReceiverState {
  struct Taken {
    std::uint64_t records = 0, bytes = 0;
  };

  ShmLink link;
  std::variant<ring::LaneConsumer<>, ring::MpscConsumer<>, ring::TotalConsumer<>, OfTheParent> ring;
  std::optional<wait::Sleeper<>> data_bell;  // none: closed
  /// One for each lane that was joined; a ring of total order has a gate instead.
  std::vector<std::optional<wait::Ringer<>>> space_bells;
  wait::WaitStrategy strategy;
  ReceiverTally tally;
  wait::Pacer pacer;
  std::size_t released_of_first = 0;  // ShmMessage::release_to
  Taken visited{};                    // at the end of the last visit
  bool ran_empty = false;  // that end came with a batch, and the pacer has not seen it yet
  std::uint32_t empty_polls = 0;
  std::uint64_t deaths = 0;
  std::deque<Departed> departed{};
  std::unique_ptr<ForkGuard> fork_guard{};

  [[nodiscard]] bool is_of_the_parent() const noexcept {
    return std::holds_alternative<OfTheParent>(ring);
  }
  /// Null unless there is one sender.
  [[nodiscard]] ring::LaneConsumer<>* lane() noexcept {
    return std::get_if<ring::LaneConsumer<>>(&ring);
  }
  /// Rings a sender that is parked for room, once there is as much as it asked for.
  void ring_for_space(ring::LaneConsumer<>& lane) noexcept {
    space_bells.front()->ring_if_parked([&lane] { return lane.read_pos() >= lane.wanted_pos(); });
  }
  [[gnu::noinline]] void release_among_many(const ring::Record& record) noexcept;
  [[gnu::noinline]] void ring_for_space_of(std::uint32_t sender) noexcept;
  void open_gate_if_wanted(ring::TotalConsumer<>& total) noexcept;
  /// What was given back of all lanes, since we attached or since the ring was made.
  [[nodiscard]] Taken taken() const noexcept;
  /// The ring ran empty: stays away as long as the pacer finds good.
  void pace(Deadline deadline) noexcept;
  /// Nothing to read: tell what was held back for a batch.
  void settle() noexcept;
  [[nodiscard]] bool has_record() noexcept;
  /// The same, of many senders a part at a time: for polling.
  [[nodiscard]] bool has_record_soon() noexcept;
  void look_after_the_dead() noexcept;
};

inline ShmClaim::ShmClaim(ShmClaim&& other) noexcept
    : state_(std::exchange(other.state_, nullptr)), payload_(other.payload_) {}

inline void ShmClaim::commit(std::size_t used, std::uint16_t type, ring::RecordKind kind) noexcept {
  if (state_ == nullptr) return;
  if (auto* lane = state_->lane()) [[likely]]
    lane->commit(used, type, kind);
  else
    state_->commit_in_total(used, type, kind);
  state_->data_bell.ring_if_parked();
  state_ = nullptr;
}

inline void ShmClaim::abort() noexcept {
  if (state_ == nullptr) return;
  SenderState& s = *std::exchange(state_, nullptr);
  if (auto* lane = s.lane()) [[likely]]
    lane->abort();
  else
    s.abort_in_total();
}

inline ShmGroup::ShmGroup(ShmGroup&& other) noexcept
    : state_(std::exchange(other.state_, nullptr)) {}

inline Result<void> ShmGroup::try_send(std::span<const std::byte> message,
                                       std::uint16_t type) noexcept {
  if (state_ == nullptr) return fail(Errc::invalid_argument, 0, "group: over");
  auto* lane = state_->lane();
  if (lane == nullptr) [[unlikely]]
    return OfTheParent::refusal();
  if (lane->send_plain(message, type)) [[likely]]
    return {};
  return try_send_slowly(message, type);
}

inline void ShmGroup::commit() noexcept {
  if (state_ == nullptr) return;
  if (auto* lane = state_->lane()) lane->end_group();
  state_->data_bell.ring_if_parked();
  state_ = nullptr;
}

inline void ShmGroup::abort() noexcept {
  if (state_ == nullptr) return;
  if (auto* lane = std::exchange(state_, nullptr)->lane()) lane->abort_group();
}

inline void ShmMessage::release_to(std::size_t bytes) noexcept {
  if (state_ == nullptr) return;
  state_->released_of_first = bytes < record_.payload.size() ? bytes : 0;
  if (state_->released_of_first == 0) return release();
  state_ = nullptr;
}

inline std::size_t& ShmReceiver::released_of_first() noexcept { return state_->released_of_first; }

inline std::byte* ShmSender::claim_plain(std::size_t size, bool own_line) noexcept {
  auto* lane = state_->lane();
  return lane != nullptr ? lane->claim_plain(size, own_line) : nullptr;
}

inline Result<ShmClaim> ShmSender::try_claim(std::size_t size, bool own_line) noexcept {
  if (std::byte* const payload = claim_plain(size, own_line)) [[likely]]
    return Result<ShmClaim>(tl::in_place, state_.get(), std::span(payload, size));
  return try_claim_slowly(size, own_line);
}

inline Result<ShmClaim> ShmSender::claim(std::size_t size, Deadline deadline,
                                         bool own_line) noexcept {
  if (std::byte* const payload = claim_plain(size, own_line)) [[likely]]
    return Result<ShmClaim>(tl::in_place, state_.get(), std::span(payload, size));
  return claim_slowly(size, deadline, own_line);
}

inline bool ShmSender::send_plain(std::span<const std::byte> message, std::uint16_t type) noexcept {
  auto* lane = state_->lane();
  if (lane == nullptr || !lane->send_plain(message, type)) [[unlikely]]
    return false;
  state_->data_bell.ring_if_parked();
  return true;
}

[[gnu::always_inline]] inline Result<void> ShmSender::try_send(std::span<const std::byte> message,
                                                               std::uint16_t type) noexcept {
  if (send_plain(message, type)) [[likely]]
    return {};
  return try_send_slowly(message, type);
}

[[gnu::always_inline]] inline Result<void> ShmSender::send(std::span<const std::byte> message,
                                                           Deadline deadline,
                                                           std::uint16_t type) noexcept {
  if (send_plain(message, type)) [[likely]]
    return {};
  return send_slowly(message, deadline, type);
}

inline ShmMessage::ShmMessage(ShmMessage&& other) noexcept
    : state_(std::exchange(other.state_, nullptr)), record_(other.record_) {}

inline void ShmMessage::release() noexcept {
  if (state_ == nullptr) return;
  ReceiverState& s = *std::exchange(state_, nullptr);
  if (auto* lane = s.lane()) [[likely]] {
    if (lane->release(record_)) s.ring_for_space(*lane);
  } else {
    s.release_among_many(record_);
  }
}

inline bool ShmReceiver::peek_plain(ring::Record& out) noexcept {
  auto* lane = state_->lane();
  return lane != nullptr && lane->peek_plain(out);
}

template <typename Message>
inline Result<Message> ShmReceiver::message_of(const ring::Record& record) noexcept {
  return Result<Message>(tl::in_place, state_.get(), record);
}

inline Result<std::size_t> ShmReceiver::look(std::span<ring::Record> out) noexcept {
  if (auto* lane = state_->lane()) [[likely]]
    return lane->peek_many(out);
  return look_among_many(out);
}

inline Result<ShmMessage> ShmReceiver::try_peek() noexcept {
  ring::Record record;
  if (peek_plain(record)) [[likely]]
    return message_of(record);
  return try_peek_closely();
}

inline Result<ShmMessage> ShmReceiver::peek(Deadline deadline) noexcept {
  ring::Record record;
  if (peek_plain(record)) [[likely]]
    return message_of(record);
  return peek_slowly(deadline);
}

inline Result<std::size_t> ShmReceiver::peek_many(std::span<ring::Record> out,
                                                  Deadline deadline) noexcept {
  if (out.empty()) return fail(Errc::invalid_argument, 0, "peek_many");
  ReceiverState& s = *state_;
  if (s.ran_empty) [[unlikely]]
    s.pace(deadline);  // the last batch emptied the ring
  auto found = look(out);
  while (!found) [[unlikely]] {
      if (found.error().code != Errc::empty) return found;
      if (const auto ok = wait_for_record(deadline); !ok) return tl::unexpected(ok.error());
      found = look(out);
    }
  s.ran_empty = *found < out.size();
  return found;
}

inline void ShmReceiver::release(const ring::Record& record) noexcept {
  if (auto* lane = state_->lane()) [[likely]] {
    if (lane->release(record)) state_->ring_for_space(*lane);
  } else {
    state_->release_among_many(record);
  }
}

}  // namespace slipring::channel

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

#include "slipring/channel/shm.h"

// The hot path of both ends, inline: lane, light fence, one compare. What may sleep is in shm.cc.
namespace slipring::channel {

/// On the heap, so that claims and messages outlive a move of their endpoint.
struct SenderState {
  LaneLink link;
  ring::LaneProducer<> lane;
  wait::Ringer<> data_bell;
  std::optional<wait::Sleeper<>> space_bell;  // none: closed
  wait::WaitStrategy strategy;
};

struct ReceiverState {
  LaneLink link;
  ring::LaneConsumer<> lane;
  std::optional<wait::Sleeper<>> data_bell;  // none: closed
  wait::Ringer<> space_bell;
  wait::WaitStrategy strategy;
  std::uint32_t empty_polls = 0;

  /// Rings a sender that is parked for room, once there is as much as it asked for.
  void ring_for_space() noexcept {
    space_bell.ring_if_parked([this] { return lane.read_pos() >= lane.wanted_pos(); });
  }
  /// Nothing to read: tell what was held back for a batch.
  void settle() noexcept {
    lane.tell_read();
    ring_for_space();
  }
};

inline ShmClaim::ShmClaim(ShmClaim&& other) noexcept
    : state_(std::exchange(other.state_, nullptr)), payload_(other.payload_) {}

inline void ShmClaim::commit(std::size_t used, std::uint16_t type) noexcept {
  if (state_ == nullptr) return;
  state_->lane.commit(used, type);
  state_->data_bell.ring_if_parked();
  state_ = nullptr;
}

inline void ShmClaim::abort() noexcept {
  if (state_ != nullptr) std::exchange(state_, nullptr)->lane.abort();
}

inline ShmGroup::ShmGroup(ShmGroup&& other) noexcept
    : state_(std::exchange(other.state_, nullptr)) {}

inline Result<void> ShmGroup::try_send(std::span<const std::byte> message,
                                       std::uint16_t type) noexcept {
  if (state_ == nullptr) return fail(Errc::invalid_argument, 0, "group: over");
  return state_->lane.try_send(message, type);
}

inline void ShmGroup::commit() noexcept {
  if (state_ == nullptr) return;
  state_->lane.end_group();
  state_->data_bell.ring_if_parked();
  state_ = nullptr;
}

inline void ShmGroup::abort() noexcept {
  if (state_ != nullptr) std::exchange(state_, nullptr)->lane.abort_group();
}

inline Result<ShmClaim> ShmSender::try_claim(std::size_t size, bool own_line) noexcept {
  const auto claim = state_->lane.try_claim(size, own_line);
  if (!claim) [[unlikely]]
    return tl::unexpected(claim.error());
  return ShmClaim(state_.get(), claim->payload);
}

inline Result<ShmClaim> ShmSender::claim(std::size_t size, Deadline deadline,
                                         bool own_line) noexcept {
  auto claim = try_claim(size, own_line);
  if (claim || claim.error().code != Errc::full) [[likely]]
    return claim;
  if (const auto ok = wait_for_room(size, own_line, deadline); !ok) {
    return tl::unexpected(ok.error());
  }
  return try_claim(size, own_line);
}

inline Result<void> ShmSender::try_send(std::span<const std::byte> message,
                                        std::uint16_t type) noexcept {
  const auto sent = state_->lane.try_send(message, type);
  if (sent) [[likely]]
    state_->data_bell.ring_if_parked();
  return sent;
}

inline Result<void> ShmSender::send(std::span<const std::byte> message, Deadline deadline,
                                    std::uint16_t type) noexcept {
  auto sent = try_send(message, type);
  if (sent || sent.error().code != Errc::full) [[likely]]
    return sent;
  if (const auto ok = wait_for_room(message.size(), false, deadline); !ok) return ok;
  return try_send(message, type);
}

inline ShmMessage::ShmMessage(ShmMessage&& other) noexcept
    : state_(std::exchange(other.state_, nullptr)), record_(other.record_) {}

inline void ShmMessage::release() noexcept {
  if (state_ == nullptr) return;
  if (state_->lane.release(record_)) state_->ring_for_space();
  state_ = nullptr;
}

inline Result<ShmMessage> ShmReceiver::try_peek() noexcept {
  const auto record = state_->lane.try_peek();
  if (record) [[likely]]
    return ShmMessage(state_.get(), *record);
  if (record.error().code == Errc::empty) return tl::unexpected(nothing_now());
  return tl::unexpected(record.error());
}

inline Result<ShmMessage> ShmReceiver::peek(Deadline deadline) noexcept {
  auto record = state_->lane.try_peek();
  while (!record) [[unlikely]] {
      if (record.error().code != Errc::empty) return tl::unexpected(record.error());
      if (const auto ok = wait_for_record(deadline); !ok) return tl::unexpected(ok.error());
      record = state_->lane.try_peek();
    }
  return ShmMessage(state_.get(), *record);
}

inline Result<std::size_t> ShmReceiver::peek_many(std::span<ring::Record> out,
                                                  Deadline deadline) noexcept {
  if (out.empty()) return fail(Errc::invalid_argument, 0, "peek_many");
  auto found = state_->lane.peek_many(out);
  while (!found) [[unlikely]] {
      if (found.error().code != Errc::empty) return found;
      if (const auto ok = wait_for_record(deadline); !ok) return tl::unexpected(ok.error());
      found = state_->lane.peek_many(out);
    }
  return found;
}

inline void ShmReceiver::release(const ring::Record& record) noexcept {
  if (state_->lane.release(record)) state_->ring_for_space();
}

}  // namespace slipring::channel

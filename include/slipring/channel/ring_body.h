// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "slipring/base/role.h"
#include "slipring/channel/shm_options.h"
#include "slipring/ring/mpsc.h"
#include "slipring/ring/total.h"
#include "slipring/segment/segment.h"
#include "slipring/wait/doorbell.h"

namespace slipring::channel {

/// Kernel objects of a lane's doorbells other than futex. Libc's own protocol writes them from both
/// sides: the named exception to one writer per byte.
struct BellPage {
  wait::BellStore data;
  wait::BellStore space;
};
static_assert(sizeof(BellPage) <= 4096);

/// What all forms of a ring have in common, read once from the segment and checked.
struct RingShape {
  RingForm form = RingForm::lane;
  std::uint64_t capacity = 0;     ///< Bytes of one data area; per_producer has one for each sender.
  std::uint64_t max_payload = 0;  ///< Of one record.
  std::uint32_t granule = 8;
  std::uint32_t senders = 1;
  wait::BellKind bell = wait::BellKind::futex;
  Schema schema;
  std::uint64_t ring_id = 0;

  /// Bytes of all data areas.
  [[nodiscard]] std::uint64_t total_capacity() const noexcept {
    return form == RingForm::per_producer ? capacity * senders : capacity;
  }
};

/// The parts of a ring's segment, whatever its form. Pointers into one mapping; copies are views.
///
///   lane          consumer area | bell page | producer area | pool
///   per_producer  consumer block | lanes | pool
///   total         control page | owner table | descriptors | data | pool
///
/// The header's fingerprint says whether there is a pool: an opener that knows none refuses it.
class RingBody {
 public:
  /// Trust:  all of the body; what is returned was checked against the size of the mapping.
  /// Errors: bad_format     "header: content": no ring; or what the form's own loader says,
  ///         type_mismatch  "header: fingerprint": another layout of this form.
  /// Orders: lane.join, mpsc.join_area, total.join.
  [[nodiscard]] static Result<RingBody> of(const segment::Segment& segment) noexcept;

  [[nodiscard]] const RingShape& shape() const noexcept { return shape_; }
  [[nodiscard]] RoleRef consumer_role() const noexcept;
  /// `sender` is below shape().senders, here and below.
  [[nodiscard]] RoleRef sender_role(std::uint32_t sender) const noexcept;
  /// Rung by that sender, slept on by the consumer. Total order: the same words but the fence.
  [[nodiscard]] wait::BellRef data_bell(std::uint32_t sender) const noexcept;
  /// Rung by the consumer, slept on by that sender. Not for total order, which has a gate.
  [[nodiscard]] wait::BellRef space_bell(std::uint32_t sender) const noexcept;
  [[nodiscard]] ring::SenderCounts& sender_counts(std::uint32_t sender) const noexcept;
  [[nodiscard]] ring::ReceiverCounts& receiver_counts() const noexcept;

  /// Of a sender's lane. Not for total order.
  [[nodiscard]] ring::LaneAreas lane(std::uint32_t sender) const noexcept;
  [[nodiscard]] ring::LaneProducerSide& producer_side(std::uint32_t sender) const noexcept {
    return *reinterpret_cast<ring::LaneProducerSide*>(lane(sender).producer.data());
  }
  [[nodiscard]] ring::LaneConsumerSide& consumer_side(std::uint32_t sender) const noexcept {
    return *reinterpret_cast<ring::LaneConsumerSide*>(lane(sender).consumer.data());
  }
  /// What the ring layer of this form takes; for `lane` the consumer area and what follows.
  [[nodiscard]] std::span<std::byte> area() const noexcept { return area_; }
  [[nodiscard]] ring::MpscParts mpsc() const noexcept { return {area_, mpsc_}; }
  [[nodiscard]] ring::TotalView total() const noexcept { return {area_, total_}; }
  /// Of a lane.
  [[nodiscard]] BellPage& bells() const noexcept;
  /// Empty: no pool.
  [[nodiscard]] std::span<std::byte> pool() const noexcept { return pool_; }

  /// Whether anything committed waits to be read. A rotten ring counts as unread: it is evidence.
  [[nodiscard]] bool has_unread() const noexcept;

 private:
  RingShape shape_;
  std::span<std::byte> area_;
  std::span<std::byte> pool_;
  ring::MpscGeometry mpsc_;
  ring::TotalGeometry total_;
};

/// Bytes of the segment that draft_ring would make: ring, pool and header, before huge pages.
/// Errors: those of the form's check_geometry and of pool::lay_out.
[[nodiscard]] Result<std::uint64_t> segment_bytes(const ShmOptions& options);

/// The segment of a new ring, formatted, without a name yet.
/// Errors: those of the form's check_geometry, pool::lay_out and segment::draft; not_supported
///         "ring: doorbell.."  only a lane has doorbells other than futex, and none by descriptor.
[[nodiscard]] Result<segment::Draft> draft_ring(const ShmOptions& options);

}  // namespace slipring::channel

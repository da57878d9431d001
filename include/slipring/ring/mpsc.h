// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "slipring/base/role.h"
#include "slipring/ring/lane.h"
#include "slipring/ring/mpsc_layout.h"

namespace slipring::ring {

/// Errors: invalid_argument  lanes not in 1 .. kMaxLanes, or as check_geometry of one lane;
///         too_large         a type larger than a lane takes.
[[nodiscard]] Result<void> check_geometry(const MpscGeometry& geometry) noexcept;

/// Formats zero bytes, the block's magic last. For the creator, before anybody else sees them.
/// Orders: mpsc.join_area.
void format_mpsc_area(std::span<std::byte> area, const MpscGeometry& geometry) noexcept;

/// Reads the block and lane 0, each word once, and checks them against the size of the area.
/// Errors: bad_format  not such a ring, another version, or numbers that contradict each other.
/// Orders: mpsc.join_area, lane.join.
template <typename Access>
[[nodiscard]] Result<MpscGeometry> load_mpsc_geometry(std::span<std::byte> area) noexcept;

/// The parts of the area, by a geometry that was checked. Views; nothing is loaded.
class MpscParts {
 public:
  MpscParts(std::span<std::byte> area, const MpscGeometry& geometry) noexcept
      : area_(area), stride_(geometry.lane_stride()), lanes_(geometry.lanes) {}

  [[nodiscard]] std::uint32_t lanes() const noexcept { return lanes_; }
  [[nodiscard]] MpscConsumerSide& consumer() const noexcept {
    return *reinterpret_cast<MpscConsumerSide*>(area_.data());
  }
  [[nodiscard]] RoleRef consumer_role() const noexcept {
    return {consumer().role, consumer().token};
  }
  /// `lane` is below lanes().
  [[nodiscard]] LaneAreas areas(std::uint32_t lane) const noexcept {
    const std::span<std::byte> bytes = area_.subspan(kLaneAreaBytes + lane * stride_, stride_);
    return {bytes.subspan(kLaneAreaBytes), bytes.first(kLaneAreaBytes)};
  }
  [[nodiscard]] LaneProducerSide& producer(std::uint32_t lane) const noexcept {
    return *reinterpret_cast<LaneProducerSide*>(areas(lane).producer.data());
  }
  [[nodiscard]] RoleRef producer_role(std::uint32_t lane) const noexcept {
    LaneProducerSide& side = producer(lane);
    return {side.role, side.token};
  }

 private:
  std::span<std::byte> area_;
  std::uint64_t stride_;
  std::uint32_t lanes_;
};

/// A lane that this process now produces into.
struct JoinedLane {
  std::uint32_t lane = 0;
  TakenRole role;
};

/// Takes a lane: one that nobody held, else one that was left, else one whose holder is proved
/// dead. What a predecessor committed there is read before what the new producer commits.
/// Afterwards attach a LaneProducer to its areas, call announce_join, and ring the consumer.
/// Progress: lock-free; at most a proof per lane.
/// Errors: in_use  all lanes have living holders.
/// Orders: role.take.
template <typename Access = NativeAccess>
[[nodiscard]] Result<JoinedLane> join_lane(const MpscParts& parts,
                                           const ProcessToken& self = self_token()) noexcept;

/// Makes the consumer look at the lanes again. It may come for nothing.
/// Orders: mpsc.join.
template <typename Access = NativeAccess>
void announce_join(const MpscParts& parts) noexcept;

/// The consumer's end: polls lanes, busy ones always, quiet ones a slice at a time, so that a
/// thousand idle producers cost a busy one little. A stopped, killed or lying producer touches its
/// own lane only.
///
/// Threads:  one at a time.
/// Progress: a peek polls at most every lane once; no system call.
/// Trust:    as LaneConsumer, for each lane. A corrupt lane is reported once, then left alone.
/// Fairness: at most kVisitBytes from one lane while another has something (deficit round robin,
///           Shreedhar and Varghese 1995, with one quantum for all).
template <typename Access = NativeAccess>
class MpscConsumer {
 public:
  static constexpr std::uint64_t kVisitBytes = std::uint64_t{16} << 10;
  static constexpr std::uint32_t kBusySweeps = 16;    ///< Without a record for so long: quiet.
  static constexpr std::uint32_t kAllBusy = 64;       ///< With so few lanes none is ever quiet.
  static constexpr std::uint64_t kQuietRecords = 64;  ///< A slice of the quiet after so many.

  /// Attaches to every lane that was ever held. After a consumer's death `before` flags what it may
  /// have used, lane by lane.
  /// Errors: bad_format; corrupt lanes do not fail the attach, they are reported by try_peek.
  /// Orders: mpsc.join, lane.join, lane.publish.
  [[nodiscard]] static Result<MpscConsumer> attach(std::span<std::byte> area, Predecessor before,
                                                   LaneTuning tuning = {}) noexcept;

  /// A record that was not yet released; the same again until it is.
  /// Errors: empty    nothing is committed in any lane,
  ///         corrupt  a lane broke the format; once for each such lane, the others go on.
  [[nodiscard]] Result<Record> try_peek() noexcept;
  /// As many records of one lane as are committed and fit `out` and the lane's visit; at least one.
  [[nodiscard]] Result<std::size_t> peek_many(std::span<Record> out) noexcept;
  /// Gives the record and all older ones of its lane, Record::source, back. Releasing twice
  /// changes nothing. True when read_pos was told, so that the lane's producer may be rung.
  bool release(const Record& record) noexcept;

  /// True when try_peek would not say `empty`. Looks at every lane and at new ones: for the moment
  /// before a park.
  [[nodiscard]] bool has_record() noexcept;
  /// The same of the busy lanes and the next slice of the quiet ones: for polling. Calls in a row
  /// come by every lane.
  [[nodiscard]] bool has_record_soon() noexcept;

  /// Tells every read_pos that is behind and calls `told(lane)` for each.
  template <typename Told>
  void tell_read(Told&& told) noexcept;

  [[nodiscard]] const LaneConsumer<Access>* lane(std::uint32_t lane) const noexcept {
    return lane < slots_.size() ? slots_[lane] : nullptr;
  }
  [[nodiscard]] std::uint32_t attached_lanes() const noexcept {
    return static_cast<std::uint32_t>(members_.size());
  }
  /// Bytes told as committed and not yet released, of all lanes: low by what is not told yet.
  [[nodiscard]] std::uint64_t approx_backlog() const noexcept;
  [[nodiscard]] std::uint64_t messages() const noexcept;
  /// Records and bytes of ring given back through this consumer, of all lanes together.
  [[nodiscard]] std::uint64_t released_records() const noexcept { return released_records_; }
  [[nodiscard]] std::uint64_t released_bytes() const noexcept { return released_bytes_; }
  [[nodiscard]] std::uint32_t poisoned_lanes() const noexcept { return poisoned_; }
  [[nodiscard]] const MpscGeometry& geometry() const noexcept { return geometry_; }

 private:
  struct Member {
    LaneConsumer<Access> lane;
    std::uint32_t index;
    std::uint32_t idle_sweeps = 0;
    bool poisoned = false;
  };
  /// All that polling needs of a lane; a lane itself has no room in a cache with a thousand others.
  struct Poll {
    const SharedWord<std::uint64_t>* next;  // header word of its next record
    std::uint32_t member;
  };
  MpscConsumer(const MpscGeometry& geometry, const MpscParts& parts, LaneTuning tuning)
      : geometry_(geometry),
        parts_(parts),
        tuning_(tuning),
        slots_(geometry.lanes),
        refused_(geometry.lanes) {}
  void look_for_joins();
  void attach_lanes(Predecessor before);
  [[nodiscard]] Poll poll_of(std::uint32_t member) const noexcept;
  [[nodiscard]] static bool has_something(const Poll& poll) noexcept;
  void wake_quiet(std::size_t how_many) noexcept;
  void put_by(std::size_t busy_at) noexcept;
  [[nodiscard]] std::size_t quiet_slice() const noexcept {
    return quiet_.size() / 64 < 4 ? 4 : quiet_.size() / 64;
  }
  [[nodiscard]] Result<std::size_t> take_from(Member& member, std::span<Record> out) noexcept;

  MpscGeometry geometry_;
  MpscParts parts_;
  LaneTuning tuning_;
  std::deque<Member> members_;  // stable addresses
  std::vector<LaneConsumer<Access>*> slots_;
  // Every sound member is in one of these; room for all is there before the first is added.
  std::vector<Poll> busy_, quiet_;
  std::size_t current_ = 0;      // the one being visited, in busy_
  std::size_t quiet_at_ = 0;     // the next one to look at, in quiet_
  std::uint64_t quiet_due_ = 0;  // released_records_ to do so at
  std::uint64_t visit_left_ = kVisitBytes;
  std::uint64_t released_records_ = 0, released_bytes_ = 0;
  std::uint64_t seen_epoch_ = 0;
  std::uint32_t poisoned_ = 0;
  std::vector<bool> refused_;     // lanes that could not be attached
  std::uint32_t unreported_ = 0;  // of these
};

}  // namespace slipring::ring

#include "slipring/ring/mpsc_inl.h"

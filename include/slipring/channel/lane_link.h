// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string_view>

#include "slipring/base/deadline.h"
#include "slipring/base/role.h"
#include "slipring/channel/lane_options.h"
#include "slipring/ring/lane.h"
#include "slipring/segment/segment.h"
#include "slipring/wait/doorbell.h"

namespace slipring::channel {

/// Of the body: consumer area, bell page, producer area, in this order.
inline constexpr std::uint64_t kLaneBodyFingerprint =
    fnv1a("body: consumer 1000 bells 1000 producer", ring::kLaneFingerprint);

/// Kernel objects of doorbells other than futex. Libc's own protocol writes them from both sides:
/// the named exception to one writer per byte.
struct BellPage {
  wait::BellStore data;
  wait::BellStore space;
};
static_assert(sizeof(BellPage) <= 4096);

/// The parts of a lane's segment. Pointers into one mapping; copies are views.
struct LaneParts {
  ring::LaneAreas areas;
  BellPage* bells = nullptr;

  /// Errors: bad_format  the body is too small to hold a lane.
  [[nodiscard]] static Result<LaneParts> of(std::span<std::byte> body) noexcept;

  [[nodiscard]] ring::LaneProducerSide& producer() const noexcept {
    return *reinterpret_cast<ring::LaneProducerSide*>(areas.producer.data());
  }
  [[nodiscard]] ring::LaneConsumerSide& consumer() const noexcept {
    return *reinterpret_cast<ring::LaneConsumerSide*>(areas.consumer.data());
  }
  [[nodiscard]] RoleRef producer_role() const noexcept {
    return {producer().role, producer().token};
  }
  [[nodiscard]] RoleRef consumer_role() const noexcept {
    return {consumer().role, consumer().token};
  }
  /// Rung by the producer, slept on by the consumer; and the reverse.
  [[nodiscard]] wait::BellRef data_bell() const noexcept;
  [[nodiscard]] wait::BellRef space_bell() const noexcept;
};

/// Which end of a lane.
enum class End : std::uint8_t { producer, consumer };

/// How a name is resolved.
enum class Intent : std::uint8_t { open, create, open_or_create };

/// An attached role in a mapped lane: what both ends of a shm channel share. It owns mapping and
/// role; detach gives the role back and, as the last one out, removes a segment that nobody
/// promised to keep and that holds nothing unread.
///
/// Attach and detach run under the segment's kernel lock, so that nobody attaches to a name that is
/// being removed. The lock dies with its holder; no data-path operation takes it.
///
/// Threads:  one at a time.
/// Progress: attach and detach make system calls and wait at most 1 s for the lock.
class LaneLink {
 public:
  /// Errors: those of Segment::open and draft; in_use  a living process holds this end;
  ///         type_mismatch  the lane carries another type.
  [[nodiscard]] static Result<LaneLink> attach(std::string_view name, End end, Intent intent,
                                               const LaneOptions& options);
  /// For a segment without a name, or opened by other means. Never removed by detach.
  [[nodiscard]] static Result<LaneLink> attach(segment::Segment segment, End end,
                                               const LaneOptions& options);

  LaneLink(LaneLink&& other) noexcept;
  LaneLink& operator=(LaneLink&& other) noexcept;
  ~LaneLink() { detach(); }

  /// What became of the segment.
  enum class Left : std::uint8_t { kept, removed, unread };
  /// Gives the role back, then runs `after_leaving`, still under the lock: it rings the peer, who
  /// finds that we left, and no successor is there yet to share our words with.
  /// Twice: nothing. In a forked child: nothing, the role is the parent's.
  Left detach(const std::function<void()>& after_leaving = {}) noexcept;

  [[nodiscard]] const segment::Segment& segment() const noexcept { return segment_; }
  [[nodiscard]] const LaneParts& parts() const noexcept { return parts_; }
  [[nodiscard]] const ring::LaneGeometry& geometry() const noexcept { return geometry_; }
  [[nodiscard]] ring::Predecessor predecessor() const noexcept { return before_; }
  [[nodiscard]] bool created() const noexcept { return created_; }
  /// False in a child of fork, which must not use its parent's end.
  [[nodiscard]] bool is_mine() const noexcept;
  /// What the kernel says of the other end. Cheap while nothing changes.
  [[nodiscard]] RoleWatch::Peer look_at_peer() noexcept;

 private:
  LaneLink(segment::Segment segment, LaneParts parts, ring::LaneGeometry geometry, End end)
      : segment_(std::move(segment)), parts_(parts), geometry_(geometry), end_(end) {}
  [[nodiscard]] static Result<LaneLink> take(segment::Segment segment, End end,
                                             const LaneOptions& options, bool named);
  [[nodiscard]] RoleRef role_of(End end) const noexcept {
    return end == End::producer ? parts_.producer_role() : parts_.consumer_role();
  }
  [[nodiscard]] bool has_unread() const noexcept;

  segment::Segment segment_;
  LaneParts parts_;
  ring::LaneGeometry geometry_;
  End end_;
  ring::Predecessor before_ = ring::Predecessor::none;
  std::uint32_t generation_ = 0;
  std::uint32_t owner_pid_ = 0;
  bool attached_ = false;
  bool named_ = false;
  bool created_ = false;
  RoleWatch peer_watch_;
};

/// Makes the segment of a lane, formatted and published. Nobody holds a role in it.
/// Errors: those of ring::check_geometry, segment::draft and Draft::publish.
[[nodiscard]] Result<segment::Segment> create_lane(std::string_view name,
                                                   const LaneOptions& options);
/// The same without a name: memfd, or a SysV segment known by its id.
[[nodiscard]] Result<segment::Segment> create_unnamed_lane(const LaneOptions& options);

/// Removes the name of a lane that nobody alive holds an end of, and the kernel objects that dead
/// sleepers left with it. The caller has asked who is there; whoever is, keeps the memory.
/// Errors: those of Segment::unlink.
[[nodiscard]] Result<void> remove_lane(segment::Segment& segment);

}  // namespace slipring::channel

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "slipring/base/deadline.h"
#include "slipring/base/role.h"
#include "slipring/channel/ring_body.h"
#include "slipring/channel/shm_options.h"
#include "slipring/ring/lane.h"
#include "slipring/segment/segment.h"

namespace slipring::channel {

/// Which end of a ring.
enum class End : std::uint8_t { producer, consumer };

/// How a name is resolved.
enum class Intent : std::uint8_t { open, create, open_or_create };

/// A sender whose death the receiver proved, and whose place is free again.
struct Departed {
  std::uint32_t sender = 0;  ///< Its lane, or entry in the owner table: Record::source.
  ProcessToken who;          ///< pid 0: killed before it could say who it was.
};

/// An attached role in a mapped ring: what both ends of a shm channel share. It owns mapping and
/// role; detach gives the role back and, as the last one out, removes a segment that nobody
/// promised to keep and that holds nothing unread.
///
/// Attach and detach run under the segment's kernel lock, so that nobody attaches to a name that is
/// being removed. The lock dies with its holder; no data-path operation takes it.
///
/// Threads:  one at a time.
/// Progress: attach and detach make system calls and wait at most 1 s for the lock.
class ShmLink {
 public:
  /// Errors: those of Segment::open and draft_ring; in_use  a living process holds this end, or
  ///         living processes hold the places of all senders; type_mismatch  another type.
  [[nodiscard]] static Result<ShmLink> attach(std::string_view name, End end, Intent intent,
                                              const ShmOptions& options);
  /// For a segment without a name, or opened by other means. Never removed by detach.
  [[nodiscard]] static Result<ShmLink> attach(segment::Segment segment, End end,
                                              const ShmOptions& options);

  ShmLink(ShmLink&& other) noexcept;
  ShmLink& operator=(ShmLink&& other) noexcept;
  ~ShmLink() { detach(); }

  /// What became of the segment.
  enum class Left : std::uint8_t { kept, removed, unread };
  /// Gives the role back, then runs `after_leaving`, still under the lock: it rings the peer, who
  /// finds that we left, and no successor is there yet to share our words with.
  /// Twice: nothing. In a forked child: nothing, the role is the parent's.
  Left detach(const std::function<void()>& after_leaving = {}) noexcept;

  [[nodiscard]] const segment::Segment& segment() const noexcept { return segment_; }
  [[nodiscard]] const RingBody& body() const noexcept { return body_; }
  [[nodiscard]] const RingShape& shape() const noexcept { return body_.shape(); }
  /// Of a sender: its lane, or entry in the owner table.
  [[nodiscard]] std::uint32_t sender() const noexcept { return sender_; }
  [[nodiscard]] std::uint32_t generation() const noexcept { return generation_; }
  [[nodiscard]] ring::Predecessor predecessor() const noexcept { return before_; }
  [[nodiscard]] bool created() const noexcept { return created_; }
  /// False in a child of fork, which must not use its parent's end, and of an end of a thread in
  /// all others: once that has ended, a successor may have taken the place.
  [[nodiscard]] bool is_mine() const noexcept;

  /// What the kernel says of the other end. Cheap while nothing changes. Of many senders: alive
  /// while one is; else dead when one of them died since the last time that all were gone; else
  /// left; never_came when none ever did.
  [[nodiscard]] RoleWatch::Peer look_at_peer() noexcept;

  /// Of one sender, for its receiver.
  [[nodiscard]] RoleWatch::Peer look_at_sender(std::uint32_t sender) {
    return watch_of(sender).look(body_.sender_role(sender));
  }

  /// For the receiver of many: looks at every sender, and gives the places of the dead free once
  /// `is_drained(sender)`: what they committed was released, what they claimed is resolved.
  /// Each death is told once.
  /// Progress: a load for each place, a system call for each sender attached.
  [[nodiscard]] std::vector<Departed> look_at_senders(
      const std::function<bool(std::uint32_t sender)>& is_drained);

 private:
  ShmLink(segment::Segment segment, const RingBody& body, End end)
      : segment_(std::move(segment)), body_(body), end_(end) {}
  [[nodiscard]] static Result<ShmLink> take(segment::Segment segment, End end,
                                            const ShmOptions& options, bool named);
  [[nodiscard]] Result<void> take_place(const ProcessToken& self);
  [[nodiscard]] RoleRef my_role() const noexcept {
    return end_ == End::consumer ? body_.consumer_role() : body_.sender_role(sender_);
  }
  [[nodiscard]] RoleWatch& watch_of(std::uint32_t sender);
  [[nodiscard]] RoleWatch::Peer look_at_all_senders();
  [[nodiscard]] bool is_anybody_else_alive();

  segment::Segment segment_;
  RingBody body_;
  End end_;
  std::uint32_t sender_ = 0;
  ring::Predecessor before_ = ring::Predecessor::none;
  std::uint32_t generation_ = 0;
  std::uint32_t owner_pid_ = 0;
  std::uint32_t owner_tid_ = 0;  // 0: of the process
  bool attached_ = false;
  bool named_ = false;
  bool created_ = false;
  bool saw_death_ = false;  // of many senders: one died in this stream
  bool all_gone_ = false;   // of many senders: as of the last look
  RoleWatch consumer_watch_;
  std::vector<RoleWatch> sender_watches_;  // made when first needed
};

/// Makes the segment of a ring, formatted and published. Nobody holds a role in it.
/// Errors: those of draft_ring and Draft::publish.
[[nodiscard]] Result<segment::Segment> create_ring(std::string_view name,
                                                   const ShmOptions& options);
/// The same without a name: memfd, or a SysV segment known by its id.
[[nodiscard]] Result<segment::Segment> create_unnamed_ring(const ShmOptions& options);

/// Removes the name of a ring that nobody alive holds an end of, and the kernel objects that dead
/// sleepers left with it. The caller has asked who is there; whoever is, keeps the memory.
/// Errors: those of Segment::unlink.
[[nodiscard]] Result<void> remove_ring(segment::Segment& segment);

}  // namespace slipring::channel

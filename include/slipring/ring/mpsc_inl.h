// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "slipring/ring/mpsc.h"

namespace slipring::ring {

template <typename Access>
Result<MpscGeometry> load_mpsc_geometry(std::span<std::byte> area) noexcept {
  if (area.size() < kLaneAreaBytes) return fail(Errc::bad_format, 0, "mpsc: area too small");
  const auto& block = *reinterpret_cast<const MpscConsumerSide*>(area.data());
  // SYNC mpsc.join_area (acquire <- release in format_mpsc_area):
  //   all lanes were formatted before the magic was stored.
  if (Access::load_acquire(block.magic) != kMpscMagic) {
    return fail(Errc::bad_format, 0, "mpsc: magic");
  }
  if (Access::load_relaxed(block.version) != kMpscVersion) {
    return fail(Errc::bad_format, 0, "mpsc: version");
  }
  const std::uint64_t lanes = Access::load_relaxed(block.lanes);
  const std::uint64_t stride = Access::load_relaxed(block.stride);
  if (lanes == 0 || lanes > kMaxLanes) return fail(Errc::bad_format, 0, "mpsc: lanes");
  // Lane 0 says what all are; its own check needs the bytes that it may lie in.
  if (area.size() < 3 * kLaneAreaBytes) return fail(Errc::bad_format, 0, "mpsc: area too small");
  const auto lane = load_geometry<Access>(area.subspan(2 * kLaneAreaBytes));
  if (!lane) return tl::unexpected(lane.error());
  MpscGeometry geometry;
  geometry.lanes = static_cast<std::uint32_t>(lanes);
  geometry.lane = *lane;
  if (stride != geometry.lane_stride() || area.size() < geometry.total_bytes()) {
    return fail(Errc::bad_format, 0, "mpsc: geometry");
  }
  return geometry;
}

template <typename Access>
Result<JoinedLane> join_lane(const MpscParts& parts, const ProcessToken& self) noexcept {
  using State = RoleWord::State;
  // Fresh lanes first, then those that were left, then those of the dead: a lane with a history may
  // still hold its predecessor's records, in front of ours.
  for (const State wanted : {State::vacant, State::left, State::held}) {
    for (std::uint32_t lane = 0; lane < parts.lanes(); ++lane) {
      const RoleRef role = parts.producer_role(lane);
      // SYNC role.take (acquire <- release in leave_role): only to choose; take_role decides.
      const RoleWord word = RoleWord::decode(Access::load_acquire(role.word));
      if (word.state != wanted) continue;
      const auto taken = take_role<Access>(role, self);
      if (taken) return JoinedLane{lane, *taken};
      if (taken.error().code != Errc::in_use) return tl::unexpected(taken.error());
    }
  }
  return fail(Errc::in_use, 0, "mpsc: every lane is held");
}

template <typename Access>
void announce_join(const MpscParts& parts) noexcept {
  // SYNC mpsc.join (release -> acquire in MpscConsumer::look_for_joins):
  //   whoever sees the new epoch finds our role word taken.
  Access::add_release(parts.consumer().epoch, 1);
}

template <typename Access>
Result<MpscConsumer<Access>> MpscConsumer<Access>::attach(std::span<std::byte> area,
                                                          Predecessor before,
                                                          LaneTuning tuning) noexcept {
  const auto geometry = load_mpsc_geometry<Access>(area);
  if (!geometry) return tl::unexpected(geometry.error());
  MpscConsumer consumer(*geometry, MpscParts(area, *geometry), tuning);
  consumer.busy_.reserve(geometry->lanes);
  consumer.quiet_.reserve(geometry->lanes);
  // SYNC mpsc.join (acquire <- release in announce_join): the roles taken before it are visible.
  consumer.seen_epoch_ = Access::load_acquire(consumer.parts_.consumer().epoch);
  // TRUST: every lane is looked at, whatever number a producer left there.
  consumer.attach_lanes(before);
  return consumer;
}

template <typename Access>
void MpscConsumer<Access>::look_for_joins() {
  // SYNC mpsc.join (acquire <- release in announce_join): as in attach.
  const std::uint64_t epoch = Access::load_acquire(parts_.consumer().epoch);
  if (epoch == seen_epoch_) return;
  seen_epoch_ = epoch;
  attach_lanes(Predecessor::none);
}

template <typename Access>
void MpscConsumer<Access>::attach_lanes(Predecessor before) {
  for (std::uint32_t i = 0; i < parts_.lanes(); ++i) {
    if (slots_[i] != nullptr || refused_[i]) continue;
    // SYNC role.take (acquire <- release in leave_role): only whether anybody ever came.
    const RoleWord word = RoleWord::decode(Access::load_acquire(parts_.producer_role(i).word));
    if (word.state == RoleWord::State::vacant) continue;
    auto lane = LaneConsumer<Access>::attach(parts_.areas(i), before, tuning_);
    // TRUST: all lanes have the shape of lane 0, or one of them lies.
    const bool sound = lane && lane->geometry().capacity == geometry_.lane.capacity &&
                       lane->geometry().granule == geometry_.lane.granule;
    if (!sound) {
      refused_[i] = true;
      ++poisoned_;
      ++unreported_;
      continue;
    }
    members_.push_back(Member{std::move(*lane), i});
    slots_[i] = &members_.back().lane;
    busy_.push_back(poll_of(static_cast<std::uint32_t>(members_.size() - 1)));
  }
}

template <typename Access>
auto MpscConsumer<Access>::poll_of(std::uint32_t member) const noexcept -> Poll {
  return {&members_[member].lane.next_header(), member};
}

template <typename Access>
bool MpscConsumer<Access>::has_something(const Poll& poll) noexcept {
  // SYNC lane.publish (acquire <- release in LaneProducer::publish): only whether to visit the
  // lane; what it holds is read there.
  return Access::load_acquire(*poll.next) != 0;
}

// Looks at the next quiet lanes and makes busy those with something.
template <typename Access>
void MpscConsumer<Access>::wake_quiet(std::size_t how_many) noexcept {
  for (std::size_t left = std::min(how_many, quiet_.size()); left != 0; --left) {
    if (quiet_at_ >= quiet_.size()) quiet_at_ = 0;
    if (!has_something(quiet_[quiet_at_])) {
      ++quiet_at_;
      continue;
    }
    members_[quiet_[quiet_at_].member].idle_sweeps = 0;
    busy_.push_back(quiet_[quiet_at_]);
    quiet_[quiet_at_] = quiet_.back();  // looked at in its turn, here
    quiet_.pop_back();
  }
}

template <typename Access>
void MpscConsumer<Access>::put_by(std::size_t busy_at) noexcept {
  quiet_.push_back(busy_[busy_at]);
  busy_[busy_at] = busy_.back();
  busy_.pop_back();
}

template <typename Access>
Result<std::size_t> MpscConsumer<Access>::take_from(Member& member,
                                                    std::span<Record> out) noexcept {
  if (member.poisoned) return fail(Errc::empty, 0, "mpsc: peek");
  const auto found = member.lane.peek_many(out);
  if (found) {
    member.idle_sweeps = 0;
    for (Record& record : out.first(*found)) record.source = member.index;
  } else if (found.error().code == Errc::corrupt) {
    member.poisoned = true;  // its word stays as it is: the sweep drops it
    ++poisoned_;
  }
  return found;
}

template <typename Access>
Result<std::size_t> MpscConsumer<Access>::peek_many(std::span<Record> out) noexcept {
  if (out.empty()) return 0;
  if (unreported_ != 0) [[unlikely]] {
    --unreported_;
    return fail(Errc::corrupt, 0, "mpsc: lane");
  }
  // The lane being visited first, as long as it has something and its visit is not over.
  if (current_ < busy_.size() && visit_left_ != 0) {
    auto found = take_from(members_[busy_[current_].member], out);
    if (found || found.error().code == Errc::corrupt) return found;
  }
  look_for_joins();
  if (unreported_ != 0) [[unlikely]]
    return peek_many(out);
  if (released_records_ >= quiet_due_) {
    quiet_due_ = released_records_ + kQuietRecords;
    wake_quiet(quiet_slice());
  }
  for (std::size_t left = busy_.size(); left != 0; --left) {
    if (++current_ >= busy_.size()) current_ = 0;
    Poll& poll = busy_[current_];
    Member& member = members_[poll.member];
    poll.next = &member.lane.next_header();
    if (!has_something(poll) || member.poisoned) {
      if (++member.idle_sweeps > kBusySweeps && members_.size() > kAllBusy && !member.poisoned) {
        put_by(current_);
        if (current_-- == 0) current_ = busy_.empty() ? 0 : busy_.size() - 1;
      }
      continue;
    }
    auto found = take_from(member, out);
    if (!found && found.error().code == Errc::empty) continue;
    visit_left_ = kVisitBytes;
    return found;
  }
  // Nothing of the busy ones: a caller that only tries comes by the quiet ones this way.
  const std::size_t busy = busy_.size();
  wake_quiet(quiet_.size() / 16 + 4);
  if (busy_.size() == busy) return fail(Errc::empty, 0, "mpsc: peek");
  current_ = busy;
  visit_left_ = kVisitBytes;
  return take_from(members_[busy_[busy].member], out);
}

template <typename Access>
Result<Record> MpscConsumer<Access>::try_peek() noexcept {
  Record record;
  const auto found = peek_many({&record, 1});
  if (!found) return tl::unexpected(found.error());
  return record;
}

template <typename Access>
bool MpscConsumer<Access>::release(const Record& record) noexcept {
  if (record.source >= slots_.size() || slots_[record.source] == nullptr) return false;
  LaneConsumer<Access>& lane = *slots_[record.source];
  const std::uint64_t from = lane.read_pos(), number = lane.messages();
  const bool told = lane.release(record);
  // What was given back, not what was asked for: a second release shortens nobody's visit.
  const std::uint64_t bytes = lane.read_pos() - from;
  visit_left_ -= std::min(visit_left_, bytes);
  released_bytes_ += bytes;
  released_records_ += lane.messages() - number;
  return told;
}

template <typename Access>
std::uint64_t MpscConsumer<Access>::approx_backlog() const noexcept {
  std::uint64_t backlog = 0;
  for (const Member& member : members_) backlog += member.lane.approx_backlog();
  return backlog;
}

template <typename Access>
std::uint64_t MpscConsumer<Access>::messages() const noexcept {
  std::uint64_t messages = 0;
  for (const Member& member : members_) messages += member.lane.messages();
  return messages;
}

template <typename Access>
bool MpscConsumer<Access>::has_record_soon() noexcept {
  look_for_joins();
  const std::size_t busy = busy_.size();
  wake_quiet(quiet_slice());
  if (unreported_ != 0 || busy_.size() != busy) return true;
  return std::any_of(busy_.begin(), busy_.end(), [this](Poll& poll) {
    const Member& member = members_[poll.member];
    poll.next = &member.lane.next_header();
    return !member.poisoned && has_something(poll);
  });
}

template <typename Access>
bool MpscConsumer<Access>::has_record() noexcept {
  wake_quiet(quiet_.size());
  return has_record_soon();
}

template <typename Access>
template <typename Told>
void MpscConsumer<Access>::tell_read(Told&& told) noexcept {
  for (Member& member : members_) {
    if (member.lane.tell_read()) told(member.index);
  }
}

}  // namespace slipring::ring

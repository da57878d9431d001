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
  }
}

template <typename Access>
bool MpscConsumer<Access>::is_due(const Member& member) const noexcept {
  if (member.idle_sweeps < kHotSweeps || members_.size() <= kAllHot) return true;
  // A quiet lane is polled in one of 16 sweeps, each sweep another sixteenth of them.
  return member.index % 16 == sweep_ % 16;
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
    member.poisoned = true;
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
  if (!members_.empty() && visit_left_ != 0) {
    auto found = take_from(members_[current_], out);
    if (found || found.error().code == Errc::corrupt) return found;
  }
  look_for_joins();
  if (unreported_ != 0) [[unlikely]]
    return peek_many(out);
  ++sweep_;
  const std::size_t count = members_.size();
  for (std::size_t step = 1; step <= count; ++step) {
    const std::size_t at = (current_ + step) % count;
    Member& member = members_[at];
    if (!is_due(member)) continue;
    auto found = take_from(member, out);
    if (!found && found.error().code == Errc::empty) {
      if (member.idle_sweeps < kHotSweeps) ++member.idle_sweeps;
      continue;
    }
    current_ = at;
    visit_left_ = kVisitBytes;
    return found;
  }
  return fail(Errc::empty, 0, "mpsc: peek");
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
  const std::uint64_t from = lane.read_pos();
  const bool told = lane.release(record);
  // What was given back, not what was asked for: a second release shortens nobody's visit.
  visit_left_ -= std::min(visit_left_, lane.read_pos() - from);
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
bool MpscConsumer<Access>::has_record() noexcept {
  look_for_joins();
  bool found = unreported_ != 0;
  for (Member& member : members_) {
    if (member.poisoned || !member.lane.has_record()) continue;
    member.idle_sweeps = 0;  // so that the next sweep visits it
    found = true;
  }
  return found;
}

template <typename Access>
template <typename Told>
void MpscConsumer<Access>::tell_read(Told&& told) noexcept {
  for (Member& member : members_) {
    if (member.lane.tell_read()) told(member.index);
  }
}

}  // namespace slipring::ring

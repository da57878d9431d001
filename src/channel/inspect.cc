// SPDX-License-Identifier: Apache-2.0
#include "slipring/channel/inspect.h"

#include "slipring/ring/record_extent.h"

namespace slipring::channel {
namespace {

EndView look_at_end(RoleRef role, const wait::BellRef& sleeps_on) {
  EndView end;
  RoleWatch watch;
  end.state = watch.look(role);
  const RoleWord word = RoleWord::decode(NativeAccess::load_acquire(role.word));
  end.pid = word.pid;
  end.generation = word.generation;
  const auto token = load_token(role.token);
  if (token && token->pid == word.pid) end.command = token->command;
  if (end.state == RoleWatch::Peer::alive) {
    end.stopped = is_stopped(word.pid);
    const wait::BellState bell = wait::look_at(sleeps_on);
    end.parked = bell.parked;
    end.parked_since_ns = bell.parked_since_ns;
  }
  return end;
}

}  // namespace

const char* LaneView::state() const noexcept {
  using Peer = RoleWatch::Peer;
  if (producer.state == Peer::dead || consumer.state == Peer::dead) return "dead";
  if (producer.stopped || consumer.stopped) return "stopped";
  const bool sends = producer.state == Peer::alive;
  const bool receives = consumer.state == Peer::alive;
  if (!sends && !receives) return "idle";
  if (backlog_bytes > geometry.capacity / 4 * 3) return "pressure";
  return sends && receives ? "ok" : "waiting";
}

Result<LaneView> inspect(const segment::Segment& segment, bool exact) {
  if (segment.info().content != segment::kContentLane)
    return fail(Errc::bad_format, 0, "header: content");
  const auto parts = LaneParts::of(segment.body());
  if (!parts) return tl::unexpected(parts.error());
  const auto geometry = ring::load_geometry<NativeAccess>(parts->areas.producer);
  if (!geometry) return tl::unexpected(geometry.error());

  LaneView view;
  view.geometry = *geometry;
  view.producer = look_at_end(parts->producer_role(), parts->space_bell());
  view.consumer = look_at_end(parts->consumer_role(), parts->data_bell());
  const auto& p = parts->producer();
  const auto& c = parts->consumer();
  // SYNC lane.reclaim (acquire <- release in LaneConsumer::tell_read): only to be no older than it.
  view.read_pos = NativeAccess::load_acquire(c.read_pos);
  // SYNC lane.tell_write (acquire <- release in LaneProducer::tell_write): the words below are set.
  view.write_pos = NativeAccess::load_acquire(p.write_pos);
  view.committed = NativeAccess::load_relaxed(p.messages);
  view.committed_bytes = NativeAccess::load_relaxed(p.bytes);
  view.aborts = NativeAccess::load_relaxed(p.aborts);
  view.fulls = NativeAccess::load_relaxed(p.fulls);
  view.released = NativeAccess::load_relaxed(c.messages);
  view.redelivered = NativeAccess::load_relaxed(c.redelivered);
  if (exact && is_aligned(view.write_pos, geometry->granule)) {
    const ring::LaneShape shape{geometry->capacity, geometry->granule, geometry->max_payload()};
    const auto walked = ring::walk_committed<NativeAccess>(
        parts->areas.producer.data() + ring::kLaneAreaBytes, shape, view.write_pos);
    if (!walked) return tl::unexpected(walked.error());
    view.write_pos = walked->frontier;
    view.committed += walked->messages;
    view.committed_bytes += walked->bytes;
    view.exact = true;
  }
  // Told at different times: read_pos may have passed the told write_pos.
  const std::uint64_t backlog = view.write_pos - view.read_pos;
  view.backlog_bytes = backlog <= geometry->capacity ? backlog : 0;
  return view;
}

}  // namespace slipring::channel

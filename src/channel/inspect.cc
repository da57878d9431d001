// SPDX-License-Identifier: Apache-2.0
#include "slipring/channel/inspect.h"

#include <algorithm>
#include <utility>

#include "slipring/ring/record_extent.h"
#include "slipring/ring/total_walk.h"

namespace slipring::channel {
namespace {

using Peer = RoleWatch::Peer;
using Native = NativeAccess;

EndView look_at_end(RoleRef role) {
  EndView end;
  RoleWatch watch;
  end.state = watch.look(role);
  const RoleWord word = RoleWord::decode(Native::load_acquire(role.word));
  end.pid = word.pid;
  end.generation = word.generation;
  const auto token = load_token(role.token);
  if (token && token->pid == word.pid) end.command = token->command;
  if (end.state == Peer::alive) end.stopped = is_stopped(word.pid);
  return end;
}

void add_sleep(EndView& end, bool parked, std::int64_t since_ns) {
  if (end.state != Peer::alive) return;
  end.parked = parked;
  end.parked_since_ns = since_ns;
}

void add_sleep(EndView& end, const wait::BellRef& sleeps_on) {
  const wait::BellState bell = wait::look_at(sleeps_on);
  add_sleep(end, bell.parked, bell.parked_since_ns);
}

void add_counts(SenderView& view, const ring::SenderCounts& counts) {
  view.waits = Native::load_relaxed(counts.waits);
  view.timeouts = Native::load_relaxed(counts.timeouts);
  view.refused = Native::load_relaxed(counts.refused);
  view.stashed = Native::load_relaxed(counts.stashed);
  view.dropped = Native::load_relaxed(counts.dropped);
  view.blocks = Native::load_relaxed(counts.blocks);
  view.streams = Native::load_relaxed(counts.streams);
  view.directs = Native::load_relaxed(counts.directs);
}

// Told at different times: read_pos may have passed the told write_pos.
std::uint64_t backlog_of(std::uint64_t write, std::uint64_t read, std::uint64_t capacity) {
  const std::uint64_t backlog = write - read;
  return backlog <= capacity ? backlog : 0;
}

Result<SenderView> look_at_lane(const RingBody& body, std::uint32_t index, bool exact) {
  const RingShape& shape = body.shape();
  SenderView view;
  view.index = index;
  view.end = look_at_end(body.sender_role(index));
  add_sleep(view.end, body.space_bell(index));
  const auto& p = body.producer_side(index);
  const auto& c = body.consumer_side(index);
  // SYNC lane.reclaim (acquire <- release in LaneConsumer::tell_read): only to be no older than it.
  view.read_pos = Native::load_acquire(c.read_pos);
  // SYNC lane.tell_write (acquire <- release in LaneProducer::tell_write): the words below are set.
  view.write_pos = Native::load_acquire(p.write_pos);
  view.committed = Native::load_relaxed(p.messages);
  view.committed_bytes = Native::load_relaxed(p.bytes);
  view.aborts = Native::load_relaxed(p.aborts);
  view.fulls = Native::load_relaxed(p.fulls);
  if (exact && is_aligned(view.write_pos, shape.granule)) {
    const ring::LaneShape lane{shape.capacity, shape.granule, shape.max_payload};
    const auto walked = ring::walk_committed<Native>(
        body.lane(index).producer.data() + ring::kLaneAreaBytes, lane, view.write_pos);
    if (!walked) return tl::unexpected(walked.error());
    view.write_pos = walked->frontier;
    view.committed += walked->messages;
    view.committed_bytes += walked->bytes;
  }
  view.backlog_bytes = backlog_of(view.write_pos, view.read_pos, shape.capacity);
  return view;
}

SenderView look_at_owner(const RingBody& body, std::uint32_t index) {
  const ring::TotalOwner& owner = body.total().owners[index];
  SenderView view;
  view.index = index;
  view.end = look_at_end(body.sender_role(index));
  const std::uint64_t since = Native::load_relaxed(owner.parked_since);
  add_sleep(view.end, since != 0, static_cast<std::int64_t>(since));
  view.committed = Native::load_relaxed(owner.messages);
  view.committed_bytes = Native::load_relaxed(owner.bytes);
  view.aborts = Native::load_relaxed(owner.aborts);
  view.fulls = Native::load_relaxed(owner.fulls);
  return view;
}

/// The frontier is nowhere told: it is where the walk over the descriptors ends.
Result<void> look_at_total(RingView& view, const RingBody& body) {
  const ring::TotalView ring = body.total();
  // SYNC total.reclaim (acquire <- release in TotalConsumer::tell_read): descriptors behind it.
  view.read_pos = Native::load_acquire(ring.control->read_pos);
  if (!ring::is_total_position(view.read_pos)) return fail(Errc::corrupt, 0, "total: read_pos");
  const auto end = ring::walk_records<Native>(
      ring, view.read_pos, [&](std::uint64_t pos, std::uint64_t, const ring::Descriptor& record) {
        if (record.state == ring::RecordState::claimed && !view.blocker) {
          view.blocker = BlockerView{record.owner_id - 1, pos};
        }
        return true;
      });
  if (!end) return tl::unexpected(end.error());
  view.write_pos = *end;
  view.backlog_bytes = backlog_of(view.write_pos, view.read_pos, view.shape.capacity);
  return {};
}

// Of how much use an end is to somebody who can see only one of many.
int weight_of(const EndView& end) {
  if (end.stopped) return 4;
  switch (end.state) {
    case Peer::alive: return 3;
    case Peer::dead: return 2;
    case Peer::left:
    case Peer::retired: return 1;
    case Peer::never_came: break;
  }
  return 0;
}

}  // namespace

const EndView& RingView::sender() const noexcept {
  static const EndView kNobody;
  const auto most = std::ranges::max_element(
      senders, {}, [](const SenderView& sender) { return weight_of(sender.end); });
  return most == senders.end() ? kNobody : most->end;
}

std::size_t RingView::living_senders() const noexcept {
  return static_cast<std::size_t>(std::ranges::count_if(
      senders, [](const SenderView& sender) { return sender.end.state == Peer::alive; }));
}

const char* RingView::state() const noexcept {
  const auto any = [this](auto&& test) { return std::ranges::any_of(senders, test); };
  const bool sender_dead = any([](const SenderView& s) { return s.end.state == Peer::dead; });
  const bool sender_stopped = any([](const SenderView& s) { return s.end.stopped; });
  if (sender_dead || consumer.state == Peer::dead) return "dead";
  if (sender_stopped || consumer.stopped) return "stopped";
  const bool sends = living_senders() != 0;
  const bool receives = consumer.state == Peer::alive;
  if (!sends && !receives) return "idle";
  const std::uint64_t much = shape.capacity / 4 * 3;
  const bool presses = shape.form == RingForm::total
                           ? backlog_bytes > much
                           : any([=](const SenderView& s) { return s.backlog_bytes > much; });
  if (presses) return "pressure";
  return sends && receives ? "ok" : "waiting";
}

Result<RingView> inspect(const segment::Segment& segment, bool exact) {
  const auto body = RingBody::of(segment);
  if (!body) return tl::unexpected(body.error());
  RingView view;
  view.shape = body->shape();
  const bool is_total = view.shape.form == RingForm::total;
  view.consumer = look_at_end(body->consumer_role());
  add_sleep(view.consumer, body->data_bell(0));
  if (is_total) {
    if (const auto ok = look_at_total(view, *body); !ok) return tl::unexpected(ok.error());
    view.released = Native::load_relaxed(body->total().control->messages);
    view.redelivered = Native::load_relaxed(body->total().control->redelivered);
  }
  for (std::uint32_t i = 0; i < view.shape.senders; ++i) {
    // SYNC role.take (acquire <- release in leave_role): only whether anybody ever came.
    const RoleWord word = RoleWord::decode(Native::load_acquire(body->sender_role(i).word));
    const bool is_lane = view.shape.form == RingForm::lane;
    if (word.state == RoleWord::State::vacant && !is_lane) continue;
    auto sender =
        is_total ? Result<SenderView>(look_at_owner(*body, i)) : look_at_lane(*body, i, exact);
    if (!sender) return tl::unexpected(sender.error());
    add_counts(*sender, body->sender_counts(i));
    view.committed += sender->committed;
    view.committed_bytes += sender->committed_bytes;
    view.aborts += sender->aborts;
    view.fulls += sender->fulls;
    if (!is_total) {
      view.backlog_bytes += sender->backlog_bytes;
      view.released += Native::load_relaxed(body->consumer_side(i).messages);
      view.redelivered += Native::load_relaxed(body->consumer_side(i).redelivered);
    }
    if (is_lane) {
      view.write_pos = sender->write_pos;
      view.read_pos = sender->read_pos;
    }
    view.senders.push_back(std::move(*sender));
  }
  const ring::ReceiverCounts& counts = body->receiver_counts();
  view.open_messages = Native::load_relaxed(counts.open_messages);
  view.open_bytes = Native::load_relaxed(counts.open_bytes);
  view.completed = Native::load_relaxed(counts.completed);
  view.aborted = Native::load_relaxed(counts.aborted);
  view.faults = Native::load_relaxed(counts.faults);
  view.deaths = Native::load_relaxed(counts.deaths);
  if (!body->pool().empty()) {
    auto audit = pool::audit<Native>(body->pool());
    if (!audit) return tl::unexpected(audit.error());
    view.pool = std::move(*audit);
  }
  view.exact = exact;
  return view;
}

}  // namespace slipring::channel

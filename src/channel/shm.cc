// SPDX-License-Identifier: Apache-2.0
#include "slipring/channel/shm.h"

#include <array>
#include <memory>

#include "slipring/wait/wait_any.h"

namespace slipring::channel {
namespace {

using Peer = RoleWatch::Peer;

wait::SleeperOptions sleeper_options(const wait::WaitStrategy& strategy, RingForm form, End end) {
  wait::SleeperOptions options;
  options.never_parks = !strategy.parks();
  options.many_ringers = form != RingForm::lane && end == End::consumer;
  return options;
}

/// What the end of the other side means, once nothing more can come of it.
Error end_of(Peer peer, const char* op) {
  return Error{peer == Peer::dead ? Errc::peer_dead : Errc::closed, 0, op};
}

bool is_gone(Peer peer) {
  return peer == Peer::dead || peer == Peer::left || peer == Peer::retired;
}

ring::LaneTuning tuning_of(Profile profile) {
  ring::LaneTuning tuning;
  if (profile == Profile::throughput) tuning.zero_ahead_bytes = 1024;
  return tuning;
}

std::chrono::nanoseconds slip_of(const ShmOptions& options) {
  if (options.max_slip) return *options.max_slip;
  switch (options.profile) {
    case Profile::latency: return std::chrono::nanoseconds(0);
    case Profile::throughput: return std::chrono::microseconds(10);
    default: return wait::Pacer::kDefaultCap;
  }
}

/// The gate of a ring of total order, as wait_until takes a place to park.
struct AtGate {
  wait::GateSleeper<>& gate;
  ring::TotalProducer<>& ring;
  SharedWord<std::uint64_t>& parked_since;

  template <typename Ready>
  [[nodiscard]] wait::WakeReason park_unless(Ready&& ready, Deadline deadline) {
    NativeAccess::store_relaxed(parked_since, static_cast<std::uint64_t>(monotonic_ns()));
    const auto reason = gate.park_unless([this] { ring.set_space_wanted(); }, ready, deadline);
    NativeAccess::store_relaxed(parked_since, 0);
    return reason;
  }
};

}  // namespace

// ------------------------------------------------------------------------------------ sender

Result<ring::Claim> SenderState::claim_in_total(std::size_t size, bool own_line) noexcept {
  if (is_of_the_parent()) return OfTheParent::refusal();
  return total().try_claim(size, own_line);
}
void SenderState::commit_in_total(std::size_t used, std::uint16_t type,
                                  ring::RecordKind kind) noexcept {
  if (!is_of_the_parent()) total().commit(used, type, kind);
}
void SenderState::abort_in_total() noexcept {
  if (is_of_the_parent()) return;
  total().abort();
  data_bell.ring_if_parked();  // whoever waited behind our claim goes on
}
Result<void> SenderState::send_in_total(std::span<const std::byte> message,
                                        std::uint16_t type) noexcept {
  if (is_of_the_parent()) return OfTheParent::refusal();
  return total().try_send(message, type);
}

void SenderState::count_wait(Deadline deadline) noexcept {
  const std::uint64_t sent = std::visit([](const auto& end) { return end.messages(); }, ring);
  if (waited_behind == sent || deadline.passed()) return;
  waited_behind = sent;
  tally.waits.add();
}

ShmSender::ShmSender(std::unique_ptr<SenderState> state) noexcept : state_(std::move(state)) {}
ShmSender::ShmSender(ShmSender&&) noexcept = default;
ShmSender& ShmSender::operator=(ShmSender&& other) noexcept {
  if (this != &other) {
    close();
    state_ = std::move(other.state_);
  }
  return *this;
}
ShmSender::~ShmSender() { close(); }

Result<ShmSender> ShmSender::over(Result<ShmLink> link, const ShmOptions& options) {
  if (!link) return tl::unexpected(link.error());
  const RingBody& body = link->body();
  const RingShape& shape = body.shape();
  const std::uint32_t me = link->sender();

  std::optional<decltype(SenderState::ring)> end;
  std::optional<wait::Sleeper<>> space_bell;
  std::optional<wait::GateSleeper<>> at_gate;
  if (shape.form == RingForm::total) {
    auto total = ring::TotalProducer<>::attach(body.area(), {me, link->generation()});
    if (!total) return tl::unexpected(total.error());
    end.emplace(std::move(*total));
    auto gate = wait::GateSleeper<>::attach(body.total().control->space_seq);
    if (!gate) return tl::unexpected(gate.error());
    at_gate = std::move(*gate);
  } else {
    auto lane = ring::LaneProducer<>::attach(body.lane(me), link->predecessor(),
                                             tuning_of(options.profile));
    if (!lane) return tl::unexpected(lane.error());
    end.emplace(std::move(*lane));
    auto bell = wait::Sleeper<>::attach(shape.bell, body.space_bell(me),
                                        sleeper_options(options.wait, shape.form, End::producer));
    if (!bell) return tl::unexpected(bell.error());
    space_bell = std::move(*bell);
  }
  wait::RingerOptions ringing;
  ringing.one_of_many = shape.form != RingForm::lane;
  auto data_bell = wait::Ringer<>::attach(shape.bell, body.data_bell(me), std::move(ringing));
  if (!data_bell) return tl::unexpected(data_bell.error());
  if (shape.form == RingForm::per_producer) ring::announce_join(body.mpsc());
  // A predecessor killed between commit and bell took the wake along: ring for it. And a consumer
  // that sleeps has to look for a lane that was joined.
  data_bell->ring();
  SenderTally tally(body.sender_counts(me));
  auto state = std::make_unique<SenderState>(
      SenderState{std::move(*link), std::move(*end), std::move(*data_bell), std::move(space_bell),
                  std::move(at_gate), options.wait, tally});
  state->fork_guard = std::make_unique<ForkGuard>(state.get(), [](void* object) noexcept {
    auto& mine = *static_cast<SenderState*>(object);
    std::construct_at(&mine.ring, OfTheParent{});
    mine.data_bell.disown();
  });
  return ShmSender(std::move(state));
}

Result<ShmSender> ShmSender::open(std::string_view name, const ShmOptions& options) {
  return over(ShmLink::attach(name, End::producer, Intent::open, options), options);
}
Result<ShmSender> ShmSender::create(std::string_view name, const ShmOptions& options) {
  return over(ShmLink::attach(name, End::producer, Intent::create, options), options);
}
Result<ShmSender> ShmSender::open_or_create(std::string_view name, const ShmOptions& options) {
  return over(ShmLink::attach(name, End::producer, Intent::open_or_create, options), options);
}
Result<ShmSender> ShmSender::attach(segment::Segment segment, const ShmOptions& options) {
  return over(ShmLink::attach(std::move(segment), End::producer, options), options);
}

Result<void> ShmSender::wait_for_room(std::size_t size, bool own_line, Deadline deadline) noexcept {
  SenderState& s = *state_;
  if (s.is_of_the_parent()) return OfTheParent::refusal();
  const auto idle = [] {};
  const auto tick = [&]() -> Result<void> {
    const Peer peer = s.link.look_at_peer();
    if (is_gone(peer)) return tl::unexpected(end_of(peer, "send: receiver"));
    return {};
  };
  s.count_wait(deadline);
  if (auto* lane = s.lane()) {
    // Waiting inside a group waits for ever: what would make room is withheld by ourselves.
    if (lane->has_open_group()) return fail(Errc::full, 0, "send: group open");
    lane->tell_write();
    // Stored before the ticket: whoever sees us parked sees what for.
    NativeAccess::store_relaxed(s.link.body().producer_side(s.link.sender()).want_pos,
                                lane->want_pos(size));
    return wait::wait_until(
        s.strategy, *s.space_bell, deadline, [&] { return lane->has_room(size, own_line); }, idle,
        tick);
  }
  AtGate place{*s.at_gate, s.total(), s.link.body().total().owners[s.link.sender()].parked_since};
  return wait::wait_until(
      s.strategy, place, deadline, [&] { return s.total().has_room(size, own_line); }, idle, tick);
}

Result<bool> ShmSender::wait_for_direct(std::uint64_t number) noexcept {
  SenderState& s = *state_;
  if (s.is_of_the_parent()) return OfTheParent::refusal();
  ring::LaneProducerSide& mine = s.link.body().producer_side(s.link.sender());
  const auto& theirs = s.link.body().consumer_side(s.link.sender()).direct_done;
  std::uint64_t answer = 0;
  const auto answered = [&] {
    // SYNC lane.direct (acquire <- release in ShmReceiver::answer_direct): its reads of our memory
    //   come before what we do with it next.
    answer = NativeAccess::load_acquire(theirs);
    return answer >> 1 >= number;
  };
  for (;;) {
    const auto waited = wait::wait_until(
        s.strategy, *s.space_bell, Deadline::never(), answered, [] {},
        [&]() -> Result<void> {
          const Peer peer = s.link.look_at_peer();
          if (is_gone(peer)) return tl::unexpected(end_of(peer, "send: receiver"));
          return {};
        });
    if (waited) return answer >> 1 == number ? (answer & 1) == 0 : false;
    // The record stays behind, and a successor may come to it at any time: withdrawn, it will not
    // read. If one came before it could see that, it is alive now, and its answer will come.
    NativeAccess::store_release(mine.direct_withdrawn, number);
    wait::full_fence();
    if (is_gone(s.link.look_at_peer())) return tl::unexpected(waited.error());
  }
}

Result<ShmGroup> ShmSender::group() noexcept {
  if (state_->is_of_the_parent()) return OfTheParent::refusal();
  auto* lane = state_->lane();
  if (lane == nullptr) return fail(Errc::not_supported, 0, "group: total order");
  if (const auto ok = lane->begin_group(); !ok) return tl::unexpected(ok.error());
  return ShmGroup(state_.get());
}

void ShmSender::flush() noexcept {
  if (auto* lane = state_->lane()) lane->tell_write();
}

bool ShmSender::is_of_the_parent() const noexcept { return state_->is_of_the_parent(); }

ShmLink::Left ShmSender::close() noexcept {
  if (!state_ || !state_->link.is_mine()) return ShmLink::Left::kept;
  SenderState& s = *state_;
  if (auto* lane = s.lane()) {
    if (lane->has_open_claim()) lane->abort();
    if (lane->has_open_group()) lane->abort_group();
    lane->tell_write();
  } else if (s.total().has_open_claim()) {
    s.total().abort();
  }
  // Our words first, the role then: a successor never shares a word with us.
  s.space_bell.reset();
  return s.link.detach([&s] { s.data_bell.ring(); });
}

Peer ShmSender::look_at_receiver() noexcept { return state_->link.look_at_peer(); }

std::uint64_t ShmSender::approx_backlog() noexcept {
  if (auto* lane = state_->lane()) {
    static_cast<void>(lane->has_room(lane->max_payload()));  // looks at read_pos
    return lane->write_pos() - lane->read_pos_seen();
  }
  if (state_->is_of_the_parent()) return 0;
  return state_->total().approx_backlog();
}

std::uint64_t ShmSender::max_payload() const noexcept { return state_->link.shape().max_payload; }

SenderCounters ShmSender::counters() const noexcept {
  const SenderState& s = *state_;
  const wait::SleeperCounters sleeps = s.space_bell ? s.space_bell->counters()
                                       : s.at_gate  ? s.at_gate->counters()
                                                    : wait::SleeperCounters{};
  return std::visit(
      [&](const auto& end) {
        return SenderCounters{end.messages(), end.bytes(), sleeps.parks,
                              s.data_bell.counters().wakes};
      },
      s.ring);
}

SenderTally& ShmSender::tally() noexcept { return state_->tally; }
const ShmLink& ShmSender::link() const noexcept { return state_->link; }

// ---------------------------------------------------------------------------------- receiver

bool ReceiverState::has_record_soon() noexcept {
  auto* many = std::get_if<ring::MpscConsumer<>>(&ring);
  return many != nullptr ? many->has_record_soon() : has_record();
}

bool ReceiverState::has_record() noexcept {
  return std::visit([](auto& end) { return end.has_record(); }, ring);
}

void ReceiverState::ring_for_space_of(std::uint32_t sender) noexcept {
  std::optional<wait::Ringer<>>& bell = space_bells[sender];
  if (!bell) {
    auto made = wait::Ringer<>::attach(link.shape().bell, link.body().space_bell(sender));
    if (!made) return;  // no memory: its bounded park is the backstop
    bell = std::move(*made);
  }
  const auto* lane = std::get<ring::MpscConsumer<>>(ring).lane(sender);
  bell->ring_if_parked([lane] { return lane->read_pos() >= lane->wanted_pos(); });
}

void ReceiverState::open_gate_if_wanted(ring::TotalConsumer<>& total) noexcept {
  // SYNC gate.mark (light fence <-> heavy fence in GateSleeper::park_unless): of the room that we
  //   told and a sleeper's mark, at least one is seen by the other side. A full fence, since it is
  //   paid once in an eighth of a lap.
  wait::full_fence();
  if (total.space_wanted_seen()) wait::open_gate(link.body().total().control->space_seq);
}

void ReceiverState::release_among_many(const ring::Record& record) noexcept {
  if (is_of_the_parent()) return;
  if (auto* total = std::get_if<ring::TotalConsumer<>>(&ring)) {
    if (total->release(record)) open_gate_if_wanted(*total);
  } else if (std::get<ring::MpscConsumer<>>(ring).release(record)) {
    ring_for_space_of(record.source);
  }
}

void ReceiverState::settle() noexcept {
  if (is_of_the_parent()) return;
  if (auto* one = lane()) {
    one->tell_read();
    ring_for_space(*one);
  } else if (auto* total = std::get_if<ring::TotalConsumer<>>(&ring)) {
    if (total->tell_read()) open_gate_if_wanted(*total);
  } else {
    std::get<ring::MpscConsumer<>>(ring).tell_read(
        [this](std::uint32_t sender) { ring_for_space_of(sender); });
  }
}

ReceiverState::Taken ReceiverState::taken() const noexcept {
  if (const auto* one = std::get_if<ring::LaneConsumer<>>(&ring)) {
    return {one->messages(), one->read_pos()};
  }
  if (const auto* total = std::get_if<ring::TotalConsumer<>>(&ring)) {
    return {total->messages(), total->read_pos()};
  }
  if (is_of_the_parent()) return {};
  const auto& many = std::get<ring::MpscConsumer<>>(ring);
  return {many.released_records(), many.released_bytes()};
}

void ReceiverState::pace(Deadline deadline) noexcept {
  if (is_of_the_parent()) return;
  const Taken now = taken();
  const std::int64_t ns = pacer.after_visit(
      now.records - visited.records, now.bytes - visited.bytes, [] { return monotonic_ns(); });
  visited = now;
  ran_empty = false;
  if (ns > 0) wait::stay_away(ns, deadline);
}

void ReceiverState::look_after_the_dead() noexcept {
  if (lane() != nullptr || is_of_the_parent()) return;
  const auto is_drained = [this](std::uint32_t sender) {
    if (link.shape().form == RingForm::total) {
      // Its open claim is made a record to skip; what it committed needs it no more.
      return ring::reap(link.body().area(), sender).has_value();
    }
    const auto* lane = std::get<ring::MpscConsumer<>>(ring).lane(sender);
    return lane == nullptr || lane->is_poisoned() || !lane->has_record();
  };
  const std::vector<Departed> found = link.look_at_senders(is_drained);
  tally.deaths.add(found.size());
  deaths += found.size();
  departed.insert(departed.end(), found.begin(), found.end());
}

ShmReceiver::ShmReceiver(std::unique_ptr<ReceiverState> state) noexcept
    : state_(std::move(state)) {}
ShmReceiver::ShmReceiver(ShmReceiver&&) noexcept = default;
ShmReceiver& ShmReceiver::operator=(ShmReceiver&& other) noexcept {
  if (this != &other) {
    close();
    state_ = std::move(other.state_);
  }
  return *this;
}
ShmReceiver::~ShmReceiver() { close(); }

namespace {

using RingEnd = decltype(ReceiverState::ring);

Result<RingEnd> attach_consumer(const ShmLink& link, const ShmOptions& options) {
  const auto as_end = [](auto end) -> Result<RingEnd> {
    if (!end) return tl::unexpected(end.error());
    return RingEnd(std::move(*end));
  };
  const RingBody& body = link.body();
  ring::LaneTuning lane = tuning_of(options.profile);
  ring::TotalTuning total;
  if (options.ack_each) lane.tell_read_shift = total.tell_read_shift = 63;
  switch (link.shape().form) {
    case RingForm::per_producer:
      return as_end(ring::MpscConsumer<>::attach(body.area(), link.predecessor(), lane));
    case RingForm::total:
      return as_end(ring::TotalConsumer<>::attach(body.area(), link.predecessor(), total));
    default: return as_end(ring::LaneConsumer<>::attach(body.lane(0), link.predecessor(), lane));
  }
}

}  // namespace

Result<ShmReceiver> ShmReceiver::over(Result<ShmLink> link, const ShmOptions& options) {
  if (!link) return tl::unexpected(link.error());
  const RingBody body = link->body();
  const RingShape& shape = body.shape();
  auto end = attach_consumer(*link, options);
  if (!end) return tl::unexpected(end.error());
  // The words of sender 0 serve all senders: only its fence word is its own, and not looked at.
  auto data_bell = wait::Sleeper<>::attach(
      shape.bell, body.data_bell(0), sleeper_options(options.wait, shape.form, End::consumer));
  if (!data_bell) return tl::unexpected(data_bell.error());
  auto state = std::make_unique<ReceiverState>(ReceiverState{std::move(*link),
                                                             std::move(*end),
                                                             std::move(*data_bell),
                                                             {},
                                                             options.wait,
                                                             ReceiverTally(body.receiver_counts()),
                                                             wait::Pacer(slip_of(options))});
  state->visited = state->taken();
  // What died with a predecessor: messages under assembly, and wakes between read_pos and bell.
  state->tally.open_messages.set(0);
  state->tally.open_bytes.set(0);
  if (auto* total = std::get_if<ring::TotalConsumer<>>(&state->ring)) {
    state->open_gate_if_wanted(*total);
  } else if (auto* many = std::get_if<ring::MpscConsumer<>>(&state->ring)) {
    state->space_bells.resize(shape.senders);
    for (std::uint32_t i = 0; i < shape.senders; ++i) {
      if (many->lane(i) == nullptr) continue;
      state->ring_for_space_of(i);
      if (state->space_bells[i]) state->space_bells[i]->ring();
    }
  } else {
    auto space_bell = wait::Ringer<>::attach(shape.bell, body.space_bell(0));
    if (!space_bell) return tl::unexpected(space_bell.error());
    space_bell->ring();
    state->space_bells.emplace_back(std::move(*space_bell));
  }
  state->fork_guard = std::make_unique<ForkGuard>(state.get(), [](void* object) noexcept {
    std::construct_at(&static_cast<ReceiverState*>(object)->ring, OfTheParent{});
  });
  return ShmReceiver(std::move(state));
}

Result<ShmReceiver> ShmReceiver::open(std::string_view name, const ShmOptions& options) {
  return over(ShmLink::attach(name, End::consumer, Intent::open, options), options);
}
Result<ShmReceiver> ShmReceiver::create(std::string_view name, const ShmOptions& options) {
  return over(ShmLink::attach(name, End::consumer, Intent::create, options), options);
}
Result<ShmReceiver> ShmReceiver::open_or_create(std::string_view name, const ShmOptions& options) {
  return over(ShmLink::attach(name, End::consumer, Intent::open_or_create, options), options);
}
Result<ShmReceiver> ShmReceiver::attach(segment::Segment segment, const ShmOptions& options) {
  return over(ShmLink::attach(std::move(segment), End::consumer, options), options);
}

Result<std::size_t> ShmReceiver::look_among_many(std::span<ring::Record> out) noexcept {
  if (state_->is_of_the_parent()) return OfTheParent::refusal();
  if (auto* total = std::get_if<ring::TotalConsumer<>>(&state_->ring)) return total->peek_many(out);
  return std::get<ring::MpscConsumer<>>(state_->ring).peek_many(out);
}

Result<ShmClaim> ShmSender::try_claim_slowly(std::size_t size, bool own_line) noexcept {
  auto* lane = state_->lane();
  const auto claim =
      lane != nullptr ? lane->try_claim(size, own_line) : state_->claim_in_total(size, own_line);
  if (!claim) return tl::unexpected(claim.error());
  return ShmClaim(state_.get(), claim->payload);
}

Result<ShmClaim> ShmSender::claim_slowly(std::size_t size, Deadline deadline,
                                         bool own_line) noexcept {
  // Of many at one gate, another may be faster to the room that we were woken for.
  for (;;) {
    auto claim = try_claim_slowly(size, own_line);
    if (claim || claim.error().code != Errc::full) return claim;
    if (const auto ok = wait_for_room(size, own_line, deadline); !ok) {
      return tl::unexpected(ok.error());
    }
  }
}

Result<void> ShmGroup::try_send_slowly(std::span<const std::byte> message,
                                       std::uint16_t type) noexcept {
  return state_->lane()->try_send(message, type);
}

Result<void> ShmSender::try_send_slowly(std::span<const std::byte> message,
                                        std::uint16_t type) noexcept {
  auto* lane = state_->lane();
  auto sent =
      lane != nullptr ? lane->try_send(message, type) : state_->send_in_total(message, type);
  if (sent) state_->data_bell.ring_if_parked();
  return sent;
}

Result<void> ShmSender::send_slowly(std::span<const std::byte> message, Deadline deadline,
                                    std::uint16_t type) noexcept {
  for (;;) {
    auto sent = try_send_slowly(message, type);
    if (sent || sent.error().code != Errc::full) return sent;
    if (const auto ok = wait_for_room(message.size(), false, deadline); !ok) return ok;
  }
}

Result<ShmMessage> ShmReceiver::try_peek_closely() noexcept {
  const auto found = std::visit([](auto& ring) { return ring.try_peek(); }, state_->ring);
  if (found) return message_of(*found);
  if (found.error().code == Errc::empty) return tl::unexpected(nothing_now());
  return tl::unexpected(found.error());
}

Result<ShmMessage> ShmReceiver::peek_slowly(Deadline deadline) noexcept {
  for (;;) {
    const auto found = std::visit([](auto& ring) { return ring.try_peek(); }, state_->ring);
    if (found) return message_of(*found);
    if (found.error().code != Errc::empty) return tl::unexpected(found.error());
    if (const auto ok = wait_for_record(deadline); !ok) return tl::unexpected(ok.error());
  }
}

Error ShmReceiver::nothing_now() noexcept {
  ReceiverState& s = *state_;
  // A caller that only ever tries still lets waiting senders go on, and the dead be found.
  if (++s.empty_polls % 64 == 0) {
    s.settle();
    s.look_after_the_dead();
  }
  bool left = false;
  for (std::uint32_t i = 0; i < s.link.shape().senders; ++i) {
    // SYNC role.take (acquire <- release in leave_role): a sender that left has committed all it
    // will.
    const RoleWord word =
        RoleWord::decode(NativeAccess::load_acquire(s.link.body().sender_role(i).word));
    if (word.state == RoleWord::State::held) return Error{Errc::empty, 0, "peek"};
    left |= word.state == RoleWord::State::left;
  }
  if (!left || s.has_record()) return Error{Errc::empty, 0, "peek"};
  return end_of(s.link.look_at_peer(), "peek: sender");
}

namespace {

/// Polls as the state finds good, but parks only after a look at everything.
struct ThoroughSleeper {
  ReceiverState& state;
  template <typename Ready>
  wait::WakeReason park_unless(Ready&&, Deadline deadline) noexcept {
    return state.data_bell->park_unless([this] { return state.has_record(); }, deadline);
  }
};

}  // namespace

Result<void> ShmReceiver::wait_for_record(Deadline deadline) noexcept {
  ReceiverState& s = *state_;
  if (deadline.passed()) {
    // Who never waits finds the dead, and the end, all the same.
    Error found = nothing_now();
    if (s.empty_polls % 64 == 0 && found.code == Errc::empty) {
      const Peer peer = s.link.look_at_peer();
      if (is_gone(peer)) found = end_of(peer, "peek: sender");
    }
    if (s.has_record()) return {};
    if (found.code == Errc::empty) found = Error{Errc::timed_out, 0, "wait"};
    return tl::unexpected(found);
  }
  s.pace(deadline);
  ThoroughSleeper sleeper{s};
  return wait::wait_until(
      s.strategy, sleeper, deadline, [&] { return s.has_record_soon(); }, [&] { s.settle(); },
      [&]() -> Result<void> {
        s.settle();
        s.look_after_the_dead();
        const Peer peer = s.link.look_at_peer();
        // What it left behind is read first, in a quiet lane, too.
        if (is_gone(peer) && !s.has_record()) return tl::unexpected(end_of(peer, "peek: sender"));
        return {};
      });
}

bool ShmReceiver::is_of_the_parent() const noexcept { return state_->is_of_the_parent(); }

ShmLink::Left ShmReceiver::close() noexcept {
  if (!state_ || !state_->link.is_mine()) return ShmLink::Left::kept;
  ReceiverState& s = *state_;
  s.settle();
  s.tally.open_messages.set(0);
  s.tally.open_bytes.set(0);
  s.data_bell.reset();
  return s.link.detach([&s] {
    for (std::optional<wait::Ringer<>>& bell : s.space_bells) {
      if (bell) bell->ring();
    }
    if (s.link.shape().form == RingForm::total) {
      // Whoever waits at the gate finds that we left.
      NativeAccess::add_release(s.link.body().total().control->space_seq, 1);
      wait::open_gate(s.link.body().total().control->space_seq);
    }
  });
}

void ShmReceiver::answer_direct(std::uint32_t source, std::uint64_t number,
                                bool was_read) noexcept {
  ReceiverState& s = *state_;
  if (s.is_of_the_parent()) return;
  // SYNC lane.direct (release -> acquire in ShmSender::wait_for_direct): we are done with its
  // memory.
  NativeAccess::store_release(s.link.body().consumer_side(source).direct_done,
                              number << 1 | (was_read ? 0 : 1));
  if (s.lane() != nullptr) {
    s.space_bells.front()->ring();
  } else {
    s.ring_for_space_of(source);  // makes the bell
    if (s.space_bells[source]) s.space_bells[source]->ring();
  }
}

std::optional<ring::BlockedBy> ShmReceiver::blocked_by() noexcept {
  auto* total = std::get_if<ring::TotalConsumer<>>(&state_->ring);
  return total != nullptr ? total->blocked_by() : std::nullopt;
}

std::optional<Departed> ShmReceiver::next_departed() noexcept {
  if (state_->departed.empty()) return std::nullopt;
  const Departed first = state_->departed.front();
  state_->departed.pop_front();
  return first;
}

Peer ShmReceiver::look_at_sender() noexcept { return state_->link.look_at_peer(); }
std::uint64_t ShmReceiver::approx_backlog() const noexcept {
  return std::visit([](const auto& end) { return end.approx_backlog(); }, state_->ring);
}

ReceiverCounters ShmReceiver::counters() const noexcept {
  const wait::SleeperCounters bell =
      state_->data_bell ? state_->data_bell->counters() : wait::SleeperCounters{};
  const std::uint64_t messages =
      std::visit([](const auto& end) { return end.messages(); }, state_->ring);
  return {messages, bell.parks, bell.spurious, state_->deaths};
}

ReceiverTally& ShmReceiver::tally() noexcept { return state_->tally; }
const ShmLink& ShmReceiver::link() const noexcept { return state_->link; }

Result<std::size_t> wait_any(std::span<ShmReceiver* const> receivers, Deadline deadline) noexcept {
  std::array<wait::Sleeper<>*, wait::kMaxWaitAny> sleepers{};
  if (receivers.size() > sleepers.size()) return fail(Errc::too_large, 0, "wait_any");
  for (const ShmReceiver* receiver : receivers) {
    if (receiver->state_->is_of_the_parent()) return OfTheParent::refusal();
  }
  std::array<bool, wait::kMaxWaitAny> ended{};
  for (std::size_t i = 0; i < receivers.size(); ++i)
    sleepers[i] = &*receivers[i]->state_->data_bell;
  const auto ready = [&]() -> std::optional<std::size_t> {
    for (std::size_t i = 0; i < receivers.size(); ++i) {
      if (ended[i] || receivers[i]->state_->has_record()) return i;
    }
    return std::nullopt;
  };
  const auto tick = [&]() -> Result<void> {
    for (std::size_t i = 0; i < receivers.size(); ++i) {
      receivers[i]->state_->settle();
      receivers[i]->state_->look_after_the_dead();
      ended[i] = is_gone(receivers[i]->state_->link.look_at_peer());
    }
    return {};
  };
  return wait::wait_any<NativeAccess>({sleepers.data(), receivers.size()}, ready, deadline, tick);
}

}  // namespace slipring::channel

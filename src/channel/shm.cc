// SPDX-License-Identifier: Apache-2.0
#include "slipring/channel/shm.h"

#include <array>
#include <vector>

#include "slipring/wait/wait_any.h"

namespace slipring::channel {
namespace {

wait::SleeperOptions sleeper_options(const wait::WaitStrategy& strategy) {
  wait::SleeperOptions options;
  options.never_parks = !strategy.parks();
  return options;
}

/// What the end of the other side means, once nothing more can come of it.
Error end_of(RoleWatch::Peer peer, const char* op) {
  return Error{peer == RoleWatch::Peer::dead ? Errc::peer_dead : Errc::closed, 0, op};
}

bool is_gone(RoleWatch::Peer peer) {
  return peer == RoleWatch::Peer::dead || peer == RoleWatch::Peer::left ||
         peer == RoleWatch::Peer::retired;
}

}  // namespace

// ------------------------------------------------------------------------------------ sender

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

Result<ShmSender> ShmSender::over(Result<LaneLink> link, const LaneOptions& options) {
  if (!link) return tl::unexpected(link.error());
  const LaneParts parts = link->parts();
  const auto kind = static_cast<wait::BellKind>(link->geometry().bell);
  auto lane = ring::LaneProducer<>::attach(parts.areas, link->predecessor());
  if (!lane) return tl::unexpected(lane.error());
  auto data_bell = wait::Ringer<>::attach(kind, parts.data_bell());
  if (!data_bell) return tl::unexpected(data_bell.error());
  auto space_bell =
      wait::Sleeper<>::attach(kind, parts.space_bell(), sleeper_options(options.wait));
  if (!space_bell) return tl::unexpected(space_bell.error());
  // A predecessor killed between commit and bell took the wake along: ring for it.
  data_bell->ring();
  return ShmSender(std::make_unique<SenderState>(
      SenderState{std::move(*link), std::move(*lane), std::move(*data_bell), std::move(*space_bell),
                  options.wait}));
}

Result<ShmSender> ShmSender::open(std::string_view name, const LaneOptions& options) {
  return over(LaneLink::attach(name, End::producer, Intent::open, options), options);
}
Result<ShmSender> ShmSender::create(std::string_view name, const LaneOptions& options) {
  return over(LaneLink::attach(name, End::producer, Intent::create, options), options);
}
Result<ShmSender> ShmSender::open_or_create(std::string_view name, const LaneOptions& options) {
  return over(LaneLink::attach(name, End::producer, Intent::open_or_create, options), options);
}
Result<ShmSender> ShmSender::attach(segment::Segment segment, const LaneOptions& options) {
  return over(LaneLink::attach(std::move(segment), End::producer, options), options);
}

Result<void> ShmSender::wait_for_room(std::size_t size, bool own_line, Deadline deadline) noexcept {
  SenderState& s = *state_;
  // Waiting inside a group waits for ever: what would make room is withheld by ourselves.
  if (s.lane.has_open_group()) return fail(Errc::full, 0, "send: group open");
  s.lane.tell_write();
  // Stored before the ticket: whoever sees us parked sees what for.
  NativeAccess::store_relaxed(s.link.parts().producer().want_pos, s.lane.want_pos(size));
  return wait::wait_until(
      s.strategy, *s.space_bell, deadline, [&] { return s.lane.has_room(size, own_line); }, [] {},
      [&]() -> Result<void> {
        const RoleWatch::Peer peer = s.link.look_at_peer();
        if (is_gone(peer)) return tl::unexpected(end_of(peer, "send: receiver"));
        return {};
      });
}

Result<ShmGroup> ShmSender::group() noexcept {
  if (const auto ok = state_->lane.begin_group(); !ok) return tl::unexpected(ok.error());
  return ShmGroup(state_.get());
}

void ShmSender::flush() noexcept { state_->lane.tell_write(); }

LaneLink::Left ShmSender::close() noexcept {
  if (!state_ || !state_->link.is_mine()) return LaneLink::Left::kept;
  SenderState& s = *state_;
  if (s.lane.has_open_claim()) s.lane.abort();
  if (s.lane.has_open_group()) s.lane.abort_group();
  s.lane.tell_write();
  // Our words first, the role then: a successor never shares a word with us.
  s.space_bell.reset();
  return s.link.detach([&s] { s.data_bell.ring(); });
}

RoleWatch::Peer ShmSender::look_at_receiver() noexcept { return state_->link.look_at_peer(); }

std::uint64_t ShmSender::approx_backlog() noexcept {
  static_cast<void>(state_->lane.has_room(state_->lane.max_payload()));  // looks at read_pos
  return state_->lane.write_pos() - state_->lane.read_pos_seen();
}

std::uint64_t ShmSender::max_payload() const noexcept { return state_->lane.max_payload(); }

SenderCounters ShmSender::counters() const noexcept {
  const wait::SleeperCounters sleeps =
      state_->space_bell ? state_->space_bell->counters() : wait::SleeperCounters{};
  return {state_->lane.messages(), state_->lane.bytes(), sleeps.parks,
          state_->data_bell.counters().wakes};
}

const LaneLink& ShmSender::link() const noexcept { return state_->link; }

// ---------------------------------------------------------------------------------- receiver

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

Result<ShmReceiver> ShmReceiver::over(Result<LaneLink> link, const LaneOptions& options) {
  if (!link) return tl::unexpected(link.error());
  const LaneParts parts = link->parts();
  const auto kind = static_cast<wait::BellKind>(link->geometry().bell);
  auto lane = ring::LaneConsumer<>::attach(parts.areas, link->predecessor());
  if (!lane) return tl::unexpected(lane.error());
  auto data_bell = wait::Sleeper<>::attach(kind, parts.data_bell(), sleeper_options(options.wait));
  if (!data_bell) return tl::unexpected(data_bell.error());
  auto space_bell = wait::Ringer<>::attach(kind, parts.space_bell());
  if (!space_bell) return tl::unexpected(space_bell.error());
  // A predecessor killed between telling read_pos and the bell took the wake along.
  space_bell->ring();
  return ShmReceiver(std::make_unique<ReceiverState>(
      ReceiverState{std::move(*link), std::move(*lane), std::move(*data_bell),
                    std::move(*space_bell), options.wait}));
}

Result<ShmReceiver> ShmReceiver::open(std::string_view name, const LaneOptions& options) {
  return over(LaneLink::attach(name, End::consumer, Intent::open, options), options);
}
Result<ShmReceiver> ShmReceiver::create(std::string_view name, const LaneOptions& options) {
  return over(LaneLink::attach(name, End::consumer, Intent::create, options), options);
}
Result<ShmReceiver> ShmReceiver::open_or_create(std::string_view name, const LaneOptions& options) {
  return over(LaneLink::attach(name, End::consumer, Intent::open_or_create, options), options);
}
Result<ShmReceiver> ShmReceiver::attach(segment::Segment segment, const LaneOptions& options) {
  return over(LaneLink::attach(std::move(segment), End::consumer, options), options);
}

Error ShmReceiver::nothing_now() noexcept {
  ReceiverState& s = *state_;
  // A caller that only ever tries still lets a waiting sender go on.
  if (++s.empty_polls % 64 == 0) s.settle();
  const RoleRef role = s.link.parts().producer_role();
  // SYNC role.take (acquire <- release in leave_role): a sender that left has committed all it
  // will.
  const RoleWord word = RoleWord::decode(NativeAccess::load_acquire(role.word));
  if (word.state == RoleWord::State::left && !s.lane.has_record()) {
    return Error{Errc::closed, 0, "peek: sender"};
  }
  return Error{Errc::empty, 0, "peek"};
}

Result<void> ShmReceiver::wait_for_record(Deadline deadline) noexcept {
  ReceiverState& s = *state_;
  return wait::wait_until(
      s.strategy, *s.data_bell, deadline, [&] { return s.lane.has_record(); }, [&] { s.settle(); },
      [&]() -> Result<void> {
        s.settle();
        const RoleWatch::Peer peer = s.link.look_at_peer();
        // What it left behind is read first: wait_until asks has_record() once more.
        if (is_gone(peer)) return tl::unexpected(end_of(peer, "peek: sender"));
        return {};
      });
}

LaneLink::Left ShmReceiver::close() noexcept {
  if (!state_ || !state_->link.is_mine()) return LaneLink::Left::kept;
  ReceiverState& s = *state_;
  s.lane.tell_read();
  s.data_bell.reset();
  return s.link.detach([&s] { s.space_bell.ring(); });
}

RoleWatch::Peer ShmReceiver::look_at_sender() noexcept { return state_->link.look_at_peer(); }
std::uint64_t ShmReceiver::approx_backlog() const noexcept { return state_->lane.approx_backlog(); }

ReceiverCounters ShmReceiver::counters() const noexcept {
  const wait::SleeperCounters bell =
      state_->data_bell ? state_->data_bell->counters() : wait::SleeperCounters{};
  return {state_->lane.messages(), bell.parks, bell.spurious};
}

const LaneLink& ShmReceiver::link() const noexcept { return state_->link; }

Result<std::size_t> wait_any(std::span<ShmReceiver* const> receivers, Deadline deadline) noexcept {
  std::array<wait::Sleeper<>*, wait::kMaxWaitAny> sleepers{};
  if (receivers.size() > sleepers.size()) return fail(Errc::too_large, 0, "wait_any");
  std::array<bool, wait::kMaxWaitAny> ended{};
  for (std::size_t i = 0; i < receivers.size(); ++i)
    sleepers[i] = &*receivers[i]->state_->data_bell;
  const auto ready = [&]() -> std::optional<std::size_t> {
    for (std::size_t i = 0; i < receivers.size(); ++i) {
      if (ended[i] || receivers[i]->state_->lane.has_record()) return i;
    }
    return std::nullopt;
  };
  const auto tick = [&]() -> Result<void> {
    for (std::size_t i = 0; i < receivers.size(); ++i) {
      receivers[i]->state_->settle();
      ended[i] = is_gone(receivers[i]->state_->link.look_at_peer());
    }
    return {};
  };
  return wait::wait_any<NativeAccess>({sleepers.data(), receivers.size()}, ready, deadline, tick);
}

}  // namespace slipring::channel

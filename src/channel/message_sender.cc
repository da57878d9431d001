// SPDX-License-Identifier: Apache-2.0
#include "slipring/channel/message_sender.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "direct_read.h"
#include "slipring/channel/counters.h"
#include "slipring/channel/stash.h"

namespace slipring::channel {

std::uint32_t chunk_body_bytes(const Tiers& tiers, const RingShape& shape) noexcept {
  const std::uint64_t most =
      std::min(shape.capacity / 8, shape.max_payload) - frame::kChunkHeaderBytes;
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(tiers.chunk_bytes, 1, most));
}

/// On the heap, so that claims and streams outlive a move of their sender.
struct MessageSenderState {
  ShmSender ring;
  Tiers tiers;
  OnFull on_full;
  std::uint32_t chunk_body;
  std::optional<pool::BlockPool<>> pool;
  Stash stash;
  /// Given up, and the receiver does not know it yet for lack of room.
  std::vector<frame::Splitter> given_up;
  /// Ids grow from one sender to the next in the same place: the clock does.
  std::uint64_t next_id = static_cast<std::uint64_t>(monotonic_ns());
  std::uint64_t direct_number = 0;
  bool has_begun = false;

  [[nodiscard]] const RingBody& body() const noexcept { return ring.link().body(); }
  [[nodiscard]] std::uint64_t largest_block() const noexcept {
    return pool ? pool->geometry().largest_block : 0;
  }

  /// Room in the ring, waited for as the policy says. Errors: full only where it does not wait.
  [[nodiscard]] Result<ShmClaim> claim(std::size_t size, const OnFull& policy,
                                       Deadline until) noexcept {
    if (!policy.waits()) return ring.try_claim(size);
    return ring.claim(size, until);
  }
  /// Room for one more part of a message that has begun, by a policy that does not wait: half of it
  /// is of no use to anybody, so it goes on as long as somebody receives. Errors: full  nobody
  /// does.
  [[nodiscard]] Result<ShmClaim> claim_for_rest(std::size_t size) noexcept {
    for (;;) {
      auto room = ring.claim(size, Deadline::in(std::chrono::milliseconds(50)));
      if (room || room.error().code != Errc::timed_out) return room;
      if (ring.look_at_receiver() != RoleWatch::Peer::alive) return fail(Errc::full, 0, "message");
    }
  }
  [[nodiscard]] Result<void> put_control(ControlRecord record, const OnFull& policy,
                                         Deadline until) noexcept {
    auto room = claim(sizeof record, policy, until);
    if (!room) return tl::unexpected(room.error());
    NativeAccess::copy_in(room->payload().data(), &record, sizeof record);
    room->commit(sizeof record, 0, ring::RecordKind::control);
    return {};
  }
  /// Before the first chunk: what a predecessor left open here is over.
  [[nodiscard]] Result<void> begin_chunks(const OnFull& policy, Deadline until) noexcept {
    if (has_begun) return {};
    ControlRecord record;
    record.what = static_cast<std::uint32_t>(ControlRecord::What::begin);
    const auto put = put_control(record, policy, until);
    has_begun = put.has_value();
    return put;
  }

  [[nodiscard]] Result<frame::Splitter> split(std::uint64_t total, std::uint16_t type) noexcept {
    return frame::Splitter::make({next_id++, total, chunk_body, type, tiers.check_chunks});
  }
  void give_up(const frame::Splitter& splitter) noexcept {
    if (splitter.done()) return;
    try {
      given_up.push_back(splitter);
    } catch (const std::bad_alloc&) {
      // The receiver frees it when we end, or by its limits.
    }
    tell_given_up(Deadline::now());
  }
  void tell_given_up(Deadline until) noexcept {
    while (!given_up.empty()) {
      auto room = ring.claim(frame::kChunkHeaderBytes, until);
      if (!room) return;
      const auto bytes = given_up.back().abort(room->payload());
      if (bytes && *bytes != 0) room->commit(*bytes, 0, ring::RecordKind::chunk);
      given_up.pop_back();
    }
  }

  [[nodiscard]] Result<void> send_now(std::span<const std::byte> message,
                                      const SendOptions& options, const OnFull& policy,
                                      Deadline until) noexcept;
  [[nodiscard]] Result<bool> send_block(std::span<const std::byte> message, std::uint16_t type,
                                        const OnFull& policy, Deadline until) noexcept;
  [[nodiscard]] Result<void> send_chunks(std::span<const std::byte> message,
                                         const SendOptions& options, const OnFull& policy,
                                         Deadline until) noexcept;
  [[nodiscard]] Result<bool> send_direct(std::span<const std::byte> message, std::uint16_t type,
                                         const OnFull& policy, Deadline until) noexcept;
  [[nodiscard]] Result<pool::Block> claim_block(std::size_t size) noexcept;
  [[nodiscard]] Result<void> drain(const OnFull& policy, Deadline until) noexcept;
};

// -------------------------------------------------------------------------------------- tiers

Result<pool::Block> MessageSenderState::claim_block(std::size_t size) noexcept {
  if (ring.is_of_the_parent()) return OfTheParent::refusal();
  auto block = pool->claim(size);
  if (block || block.error().code != Errc::full) return block;
  // Dry: perhaps the dead have some. What they lent stays lent; the receiver clears that.
  if (pool->reap_all() == 0) return block;
  return pool->claim(size);
}

// False: no block is to be had, and the message goes another way.
Result<bool> MessageSenderState::send_block(std::span<const std::byte> message, std::uint16_t type,
                                            const OnFull& policy, Deadline until) noexcept {
  const auto block = claim_block(message.size());
  if (!block) return false;
  NativeAccess::copy_in(block->bytes.data(), message.data(), message.size());
  auto room = claim(sizeof(pool::BlockRef), policy, until);
  if (!room) {
    static_cast<void>(pool->reclaim(block->ref));
    return tl::unexpected(room.error());
  }
  // Lent, then committed: killed in between, the block is an orphan that the receiver frees.
  const auto ref = pool->lend(*block, message.size());
  if (!ref) return false;
  NativeAccess::copy_in(room->payload().data(), &*ref, sizeof *ref);
  room->commit(sizeof *ref, type, ring::RecordKind::block);
  ring.tally().blocks.add();
  return true;
}

Result<void> MessageSenderState::send_chunks(std::span<const std::byte> message,
                                             const SendOptions& options, const OnFull& policy,
                                             Deadline until) noexcept {
  auto splitter = split(message.size(), options.type);
  if (!splitter) return tl::unexpected(splitter.error());
  if (const auto begun = begin_chunks(policy, until); !begun) return begun;
  while (!splitter->done()) {
    // A policy that does not wait decides about the beginning.
    const bool is_first = splitter->progress().handed_over == 0;
    auto room = is_first || policy.waits() ? claim(splitter->room(), policy, until)
                                           : claim_for_rest(splitter->room());
    if (!room) {
      give_up(*splitter);
      return tl::unexpected(room.error());
    }
    const auto bytes = splitter->next_of(message, room->payload());
    if (!bytes) return tl::unexpected(bytes.error());
    room->commit(*bytes, options.type, ring::RecordKind::chunk);
    if (options.progress != nullptr) {
      options.progress(options.progress_context, splitter->progress());
    }
  }
  ring.tally().streams.add();
  return {};
}

// False: the receiver may not, or cannot, read our memory.
Result<bool> MessageSenderState::send_direct(std::span<const std::byte> message, std::uint16_t type,
                                             const OnFull& policy, Deadline until) noexcept {
  allow_direct_reads(body());
  auto room = claim(sizeof(ControlRecord), policy, until);
  if (!room) return tl::unexpected(room.error());
  const ControlRecord record{static_cast<std::uint32_t>(ControlRecord::What::direct),
                             static_cast<std::uint32_t>(::getpid()),
                             reinterpret_cast<std::uintptr_t>(message.data()), message.size(),
                             ++direct_number};
  NativeAccess::copy_in(room->payload().data(), &record, sizeof record);
  room->commit(sizeof record, type, ring::RecordKind::control);
  ring.flush();
  const auto read = ring.wait_for_direct(direct_number);
  if (read && *read) ring.tally().directs.add();
  return read;
}

Result<void> MessageSenderState::send_now(std::span<const std::byte> message,
                                          const SendOptions& options, const OnFull& policy,
                                          Deadline until) noexcept {
  const bool has_lane = body().shape().form != RingForm::total;
  if (options.direct && has_lane && !message.empty()) {
    const auto read = send_direct(message, options.type, policy, until);
    if (!read) return tl::unexpected(read.error());
    if (*read) return {};
  }
  Tier tier = tier_for(message.size(), tiers, ring.max_payload(), largest_block());
  if (tier == Tier::block) {
    const auto sent = send_block(message, options.type, policy, until);
    if (!sent) return tl::unexpected(sent.error());
    if (*sent) return {};
    tier = tier_for(message.size(), tiers, ring.max_payload(), 0);
  }
  if (tier == Tier::stream) return send_chunks(message, options, policy, until);
  return policy.waits() ? ring.send(message, until, options.type)
                        : ring.try_send(message, options.type);
}

Result<void> MessageSenderState::drain(const OnFull& policy, Deadline until) noexcept {
  while (!stash.empty()) {
    const Stash::Entry& oldest = stash.front();
    SendOptions options;
    options.type = oldest.type;
    if (const auto sent = send_now(oldest.bytes, options, policy, until); !sent) return sent;
    stash.pop();
  }
  return {};
}

// -------------------------------------------------------------------------------------- claim

MessageClaim::MessageClaim(MessageClaim&& other) noexcept
    : state_(std::exchange(other.state_, nullptr)),
      ring_(std::move(other.ring_)),
      block_(std::exchange(other.block_, std::nullopt)),
      payload_(other.payload_) {}

Result<void> MessageClaim::commit(std::size_t used, std::uint16_t type) noexcept {
  if (state_ == nullptr || used > payload_.size()) {
    return fail(Errc::invalid_argument, 0, "message: commit");
  }
  MessageSenderState& s = *std::exchange(state_, nullptr);
  if (s.ring.is_of_the_parent()) return OfTheParent::refusal();
  if (!block_) {
    ring_.commit(used, type);
    return {};
  }
  const auto ref = s.pool->lend(*std::exchange(block_, std::nullopt), used);
  if (!ref) {
    ring_.abort();
    return fail(Errc::corrupt, 0, "pool: lend");
  }
  NativeAccess::copy_in(ring_.payload().data(), &*ref, sizeof *ref);
  ring_.commit(sizeof *ref, type, ring::RecordKind::block);
  s.ring.tally().blocks.add();
  return {};
}

void MessageClaim::abort() noexcept {
  MessageSenderState* s = std::exchange(state_, nullptr);
  if (s == nullptr) return;
  ring_.abort();
  if (block_ && !s->ring.is_of_the_parent()) static_cast<void>(s->pool->reclaim(block_->ref));
  block_.reset();
}

// ------------------------------------------------------------------------------------- stream

MessageStream::MessageStream(MessageStream&& other) noexcept
    : state_(other.state_),
      splitter_(std::exchange(other.splitter_, std::nullopt)),
      claim_(std::move(other.claim_)) {
  other.claim_.reset();
}

Result<std::span<std::byte>> MessageStream::next(Deadline deadline) noexcept {
  if (done()) return fail(Errc::closed, 0, "message: over");
  if (claim_) return fail(Errc::in_use, 0, "message: a body is open");
  if (const auto begun = state_->begin_chunks(OnFull::wait(), deadline); !begun) {
    return tl::unexpected(begun.error());
  }
  auto room = state_->ring.claim(splitter_->room(), deadline);
  if (!room) return tl::unexpected(room.error());
  claim_.emplace(std::move(*room));
  auto body = splitter_->begin(claim_->payload());
  if (!body) claim_.reset();
  return body;
}

Result<void> MessageStream::commit(std::size_t used, bool last) noexcept {
  if (!claim_) return fail(Errc::invalid_argument, 0, "message: no body is open");
  const auto bytes = splitter_->end(used, last);
  if (!bytes) return tl::unexpected(bytes.error());
  claim_->commit(*bytes, splitter_->options().type, ring::RecordKind::chunk);
  claim_.reset();
  if (splitter_->done()) state_->ring.tally().streams.add();
  return {};
}

void MessageStream::abort() noexcept {
  claim_.reset();
  if (splitter_) state_->give_up(*splitter_);
  splitter_.reset();
}

// ------------------------------------------------------------------------------------- sender

MessageSender::MessageSender(std::unique_ptr<MessageSenderState> state) noexcept
    : state_(std::move(state)) {}
MessageSender::MessageSender(MessageSender&&) noexcept = default;
MessageSender& MessageSender::operator=(MessageSender&& other) noexcept {
  if (this != &other) {
    close();
    state_ = std::move(other.state_);
  }
  return *this;
}
MessageSender::~MessageSender() { close(); }

Result<MessageSender> MessageSender::over(ShmSender sender, const Options& messages) {
  const RingBody& body = sender.link().body();
  std::optional<pool::BlockPool<>> pool;
  if (!body.pool().empty()) {
    auto attached = pool::BlockPool<>::attach(body.pool());
    if (!attached && attached.error().code != Errc::full) return tl::unexpected(attached.error());
    if (attached) pool.emplace(std::move(*attached));
  }
  const std::uint32_t chunk_body = chunk_body_bytes(messages.tiers, body.shape());
  auto state = std::make_unique<MessageSenderState>(MessageSenderState{
      std::move(sender), messages.tiers, messages.on_full, chunk_body, std::move(pool), {}, {}});
  if (state->body().shape().form != RingForm::total) {
    // Numbers go on behind whatever the last sender in this place asked, or took back.
    const std::uint32_t me = state->ring.link().sender();
    state->direct_number =
        std::max(NativeAccess::load_relaxed(state->body().consumer_side(me).direct_done) >> 1,
                 NativeAccess::load_relaxed(state->body().producer_side(me).direct_withdrawn));
  }
  return MessageSender(std::move(state));
}

namespace {
Result<MessageSender> over_opened(Result<ShmSender> sender, const MessageSender::Options& options) {
  if (!sender) return tl::unexpected(sender.error());
  return MessageSender::over(std::move(*sender), options);
}
}  // namespace

Result<MessageSender> MessageSender::open(std::string_view name, const ShmOptions& options,
                                          const Options& messages) {
  return over_opened(ShmSender::open(name, options), messages);
}
Result<MessageSender> MessageSender::open_or_create(std::string_view name,
                                                    const ShmOptions& options,
                                                    const Options& messages) {
  return over_opened(ShmSender::open_or_create(name, options), messages);
}

Result<Sent> MessageSender::send(std::span<const std::byte> message,
                                 const SendOptions& options) noexcept {
  MessageSenderState& s = *state_;
  const OnFull policy = options.on_full.value_or(s.on_full);
  const Deadline until = policy.deadline();
  s.tell_given_up(Deadline::now());
  // What was put by goes first, so that order holds.
  Result<void> sent = s.drain(policy, until);
  if (sent) sent = s.send_now(message, options, policy, until);
  if (sent) return Sent::queued;
  if (sent.error().code == Errc::timed_out) s.ring.tally().timeouts.add();
  if (sent.error().code != Errc::full) return tl::unexpected(sent.error());
  if (policy.kind() == OnFull::Kind::stash &&
      s.stash.push(message, options.type, policy.stash_bytes())) {
    s.ring.tally().stashed.add();
    return Sent::stashed;
  }
  s.ring.tally().refused.add();
  return tl::unexpected(sent.error());
}

Result<MessageClaim> MessageSender::claim(std::size_t size, Deadline deadline) noexcept {
  MessageSenderState& s = *state_;
  s.tell_given_up(Deadline::now());
  if (const auto drained = s.drain(OnFull::wait(), deadline); !drained) {
    return tl::unexpected(drained.error());
  }
  const Tier tier = tier_for(size, s.tiers, s.ring.max_payload(), s.largest_block());
  if (tier == Tier::stream) return fail(Errc::too_large, 0, "message: claim");
  std::optional<pool::Block> block;
  if (tier == Tier::block) {
    auto claimed = s.claim_block(size);
    if (!claimed && size > s.ring.max_payload()) return tl::unexpected(claimed.error());
    if (claimed) block = *claimed;
  }
  auto room = s.ring.claim(block ? sizeof(pool::BlockRef) : size, deadline);
  if (!room) {
    if (block) static_cast<void>(s.pool->reclaim(block->ref));
    return tl::unexpected(room.error());
  }
  const std::span<std::byte> payload = block ? block->bytes.first(size) : room->payload();
  return MessageClaim(&s, std::move(*room), block, payload);
}

Result<MessageStream> MessageSender::stream(std::uint64_t total, std::uint16_t type) noexcept {
  state_->tell_given_up(Deadline::now());
  const auto splitter = state_->split(total, type);
  if (!splitter) return tl::unexpected(splitter.error());
  return MessageStream(state_.get(), *splitter);
}

Result<void> MessageSender::drain(Deadline deadline) noexcept {
  state_->tell_given_up(Deadline::now());
  return state_->drain(OnFull::wait(), deadline);
}

std::size_t MessageSender::stashed() const noexcept { return state_->stash.count(); }
void MessageSender::flush() noexcept { state_->ring.flush(); }

ShmLink::Left MessageSender::close() noexcept {
  if (!state_ || !state_->ring.link().is_mine()) return ShmLink::Left::kept;
  MessageSenderState& s = *state_;
  s.tell_given_up(Deadline::now());
  static_cast<void>(s.drain(OnFull::refuse(), Deadline::now()));
  if (const std::size_t lost = s.stash.clear(); lost != 0) s.ring.tally().dropped.add(lost);
  if (s.pool) s.pool->detach();
  return s.ring.close();
}

ShmSender& MessageSender::ring() noexcept { return state_->ring; }
const ShmSender& MessageSender::ring() const noexcept { return state_->ring; }
std::uint64_t MessageSender::largest_block() const noexcept { return state_->largest_block(); }

}  // namespace slipring::channel

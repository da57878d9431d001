// SPDX-License-Identifier: Apache-2.0
#include "slipring/channel/message_receiver.h"

#include <array>
#include <new>
#include <utility>
#include <vector>

#include "direct_read.h"
#include "slipring/channel/counters.h"
#include "slipring/pool/block_pool.h"
#include "slipring/ring/record_extent.h"
#include "slipring/ring/total_walk.h"
#include "slipring/wait/wait_any.h"

namespace slipring::channel {
namespace {

/// Memory of a message that was read out of its sender's.
struct DirectMemory {
  std::unique_ptr<std::byte[]> bytes;
  std::size_t size = 0;
};

/// The message that was peeked and not yet released.
struct Current {
  Tier tier = Tier::ring;
  std::uint16_t type = 0;
  std::uint32_t source = 0;
  bool redelivered = false;
  std::uint64_t size = 0, offset = 0, total = 0;
  bool is_last = true;
  std::optional<ring::Record> record;    // still ours in the ring
  std::optional<pool::BlockView> block;  // held
  frame::Message message;                // put together
  DirectMemory direct;
  iovec one{};  // what is in one piece

  [[nodiscard]] std::span<const iovec> parts() const noexcept {
    const bool many = tier == Tier::stream && !record;
    return many ? message.parts() : std::span<const iovec>(&one, 1);
  }
  void points_to(std::span<const std::byte> bytes) noexcept {
    one = {const_cast<std::byte*>(bytes.data()), bytes.size()};
    size = bytes.size();
  }
};

/// The references committed and not released, in all lanes: what orphans are compared with.
std::vector<pool::BlockRef> references_in(const RingBody& body) {
  std::vector<pool::BlockRef> found;
  const auto note = [&](std::byte* payload, const ring::RecordHeader& header) {
    if (header.kind != ring::RecordKind::block || header.size != sizeof(pool::BlockRef)) return;
    pool::BlockRef ref;
    NativeAccess::copy_out(&ref, payload, sizeof ref);
    found.push_back(ref);
  };
  const RingShape& shape = body.shape();
  const ring::LaneShape lane{shape.capacity, shape.granule, shape.max_payload};
  if (shape.form == RingForm::total) {
    const ring::TotalView ring = body.total();
    // SYNC total.reclaim (acquire <- release in TotalConsumer::tell_read): records behind it.
    const std::uint64_t read = NativeAccess::load_acquire(ring.control->read_pos);
    if (!ring::is_total_position(read)) return found;
    static_cast<void>(ring::walk_records<NativeAccess>(
        ring, read, [&](std::uint64_t pos, std::uint64_t, const ring::Descriptor& record) {
          if (record.state != ring::RecordState::committed) return true;
          const auto header =
              ring::RecordHeader::decode(NativeAccess::load_relaxed(ring.header(pos)));
          const auto extent = ring::extent_of(header, pos, lane);
          if (extent) note(ring.data + ring.offset(extent->payload), header);
          return true;
        }));
    return found;
  }
  for (std::uint32_t i = 0; i < shape.senders; ++i) {
    // SYNC lane.reclaim (acquire <- release in LaneConsumer::tell_read): records behind it.
    const std::uint64_t read = NativeAccess::load_acquire(body.consumer_side(i).read_pos);
    if (!is_aligned(read, shape.granule)) continue;
    std::byte* data = body.lane(i).producer.data() + ring::kLaneAreaBytes;
    static_cast<void>(ring::walk_committed<NativeAccess>(
        data, lane, read, [&](const ring::RecordHeader& header, const ring::RecordExtent& extent) {
          note(data + (extent.payload & (shape.capacity - 1)), header);
        }));
  }
  return found;
}

bool has_ended(Errc code) { return code == Errc::closed || code == Errc::peer_dead; }

}  // namespace

struct MessageReceiverState {
  MessageReceiverState(ShmReceiver receiver, const MessageReceiver::Options& options,
                       std::optional<pool::BlockPool<>> blocks)
      : ring(std::move(receiver)),
        pool(std::move(blocks)),
        assembler(options.mode, options.limits),
        limits(options.limits),
        holders(pool ? ring.link().shape().senders : 0) {
    // What a predecessor held when it died is lent again, for the references that are still there.
    clear_orphans();
    for (std::uint32_t i = 0; i < holders.size(); ++i) holders[i] = holder_of(i);
  }

  ShmReceiver ring;
  std::optional<pool::BlockPool<>> pool;
  frame::Assembler assembler;
  frame::Limits limits;
  std::optional<Current> current;
  std::deque<Departed> departed;
  /// With a pool: the role word of each sender's place when a record of it was taken last.
  std::vector<std::uint64_t> holders;

  /// Opens what a record brings as `current`. False: nothing for the user, look further.
  [[nodiscard]] Result<bool> take(const ring::Record& record) noexcept;
  [[nodiscard]] Result<bool> take_block(const ring::Record& record) noexcept;
  [[nodiscard]] Result<bool> take_chunk(const ring::Record& record) noexcept;
  [[nodiscard]] Result<bool> take_control(const ring::Record& record) noexcept;
  [[nodiscard]] Result<bool> take_direct(const ring::Record& record,
                                         const ControlRecord& control) noexcept;
  Current& open(const ring::Record& record, Tier tier) noexcept;
  /// Counts a bad record, gives it back and says what was wrong with it.
  [[nodiscard]] tl::unexpected<Error> refuse(const ring::Record& record, Errc code,
                                             const char* why) noexcept;
  /// Whoever got parts of a message has to know that the rest will not come. Others saw nothing.
  [[nodiscard]] Result<bool> given_up() const noexcept {
    if (assembler.mode() != frame::Mode::parts) return false;
    return fail(Errc::cancelled, 0, "message: given up");
  }
  void tell_open() noexcept;
  /// Frees what `source` left open. True: it was something.
  bool forget(std::uint32_t source) noexcept;
  void note_departed() noexcept;
  [[nodiscard]] std::uint64_t holder_of(std::uint32_t source) const noexcept {
    // SYNC role.take (acquire <- release in leave_role): only whether it is another one.
    return NativeAccess::load_acquire(ring.link().body().sender_role(source).word);
  }
  void note_holder(std::uint32_t source) noexcept;
  void note_end() noexcept;
  void clear_orphans() noexcept;
  void release_current() noexcept;
};

void MessageReceiverState::tell_open() noexcept {
  ring.tally().open_messages.set(assembler.open_messages());
  ring.tally().open_bytes.set(assembler.bytes_under_assembly());
}

bool MessageReceiverState::forget(std::uint32_t source) noexcept {
  const std::size_t dropped = assembler.drop(source);
  if (dropped == 0) return false;
  ring.tally().aborted.add(dropped);
  tell_open();
  return true;
}

// What the dead claimed is free again, what they lent and never committed too. The order decides:
// an orphan's owner was proved dead, so that no reference to it is committed behind our look.
void MessageReceiverState::clear_orphans() noexcept {
  if (!pool || ring.is_of_the_parent()) return;
  pool->reap_all();
  try {
    const std::vector<pool::BlockRef> orphans = pool->orphans();
    if (!orphans.empty()) pool->free_orphans(orphans, references_in(ring.link().body()));
  } catch (const std::bad_alloc&) {
    // Another time.
  }
}

void MessageReceiverState::note_departed() noexcept {
  bool any = false;
  while (auto one = ring.next_departed()) {
    forget(one->sender);
    departed.push_back(*one);
    any = true;
  }
  if (any) clear_orphans();
}

// A place that a successor took from the dead before we looked: nobody departed, and what the dead
// one lent without committing is still out.
void MessageReceiverState::note_holder(std::uint32_t source) noexcept {
  if (source >= holders.size()) return;
  const std::uint64_t word = holder_of(source);
  if (word == std::exchange(holders[source], word)) return;
  clear_orphans();
}

// All senders are gone and everything was read: what is still open never becomes whole.
void MessageReceiverState::note_end() noexcept {
  for (std::uint32_t i = 0; i < ring.link().shape().senders && assembler.open_messages() != 0;
       ++i) {
    forget(i);
  }
  clear_orphans();
}

tl::unexpected<Error> MessageReceiverState::refuse(const ring::Record& record, Errc code,
                                                   const char* why) noexcept {
  ring.tally().faults.add();
  ring.release(record);
  return fail(code, 0, why);
}

Current& MessageReceiverState::open(const ring::Record& record, Tier tier) noexcept {
  Current& now = current.emplace();
  now.tier = tier;
  now.type = record.type;
  now.source = record.source;
  now.redelivered = record.redelivered;
  return now;
}

Result<bool> MessageReceiverState::take_block(const ring::Record& record) noexcept {
  pool::BlockRef ref;
  if (!pool || record.payload.size() != sizeof ref) {
    return refuse(record, Errc::bad_format, "message: reference");
  }
  NativeAccess::copy_out(&ref, record.payload.data(), sizeof ref);
  const auto view = pool->hold(ref);
  if (!view) {
    // A receiver that died between giving the block back and telling so: it was used, and is gone.
    if (record.redelivered && view.error().code == Errc::corrupt) {
      ring.release(record);
      return false;
    }
    return refuse(record, view.error().code, view.error().op);
  }
  Current& now = open(record, Tier::block);
  now.record = record;
  now.block = *view;
  now.points_to(view->bytes);
  now.total = now.size;
  ring.tally().blocks.add();
  return true;
}

Result<bool> MessageReceiverState::take_chunk(const ring::Record& record) noexcept {
  auto step = assembler.take(record.source, record.payload);
  tell_open();
  if (!step) return refuse(record, step.error().code, step.error().op);
  using What = frame::Step::What;
  if (step->what == What::aborted) {
    ring.tally().aborted.add();
    ring.release(record);
    return given_up();
  }
  if (step->what == What::complete) ring.tally().completed.add();
  const bool in_parts = assembler.mode() == frame::Mode::parts;
  const bool shows = step->what == What::complete || (in_parts && step->what == What::part);
  if (!shows) {
    ring.release(record);
    return false;
  }
  Current& now = open(record, Tier::stream);
  now.type = step->of.type;
  now.is_last = step->what == What::complete;
  if (in_parts) {
    now.record = record;
    now.offset = step->offset;
    now.total = now.is_last ? step->of.so_far : step->of.total;
    now.points_to(step->body);
    return true;
  }
  now.message = std::move(step->message);
  now.size = now.total = now.message.size();
  ring.release(record);  // it is in memory of our own
  return true;
}

Result<bool> MessageReceiverState::take_direct(const ring::Record& record,
                                               const ControlRecord& control) noexcept {
  const auto answer = [&](bool was_read) {
    ring.answer_direct(record.source, control.number, was_read);
  };
  if (ring.link().shape().form == RingForm::total || control.length == 0) {
    return refuse(record, Errc::bad_format, "message: direct read");
  }
  if (control.length > limits.max_message) {
    answer(false);
    return refuse(record, Errc::too_large, "message: oversized");
  }
  DirectMemory memory{std::unique_ptr<std::byte[]>(new (std::nothrow) std::byte[control.length]),
                      control.length};
  // A refusal is no fault: the sender takes another way, and its message comes by that.
  auto& link = const_cast<ShmLink&>(ring.link());
  const bool was_read =
      memory.bytes != nullptr &&
      read_directly(link, record.source, control, {memory.bytes.get(), memory.size}).has_value();
  answer(was_read);
  if (!was_read) {
    ring.release(record);
    return false;
  }
  Current& now = open(record, Tier::direct);
  now.direct = std::move(memory);
  now.points_to({now.direct.bytes.get(), now.direct.size});
  now.total = now.size;
  ring.tally().directs.add();
  ring.release(record);
  return true;
}

Result<bool> MessageReceiverState::take_control(const ring::Record& record) noexcept {
  ControlRecord control;
  if (record.payload.size() != sizeof control) {
    return refuse(record, Errc::bad_format, "message: control record");
  }
  NativeAccess::copy_out(&control, record.payload.data(), sizeof control);
  switch (static_cast<ControlRecord::What>(control.what)) {
    case ControlRecord::What::begin: {
      const bool was_open = forget(record.source);
      ring.release(record);
      if (was_open) return given_up();
      return false;
    }
    case ControlRecord::What::direct: return take_direct(record, control);
  }
  return refuse(record, Errc::bad_format, "message: control record");
}

Result<bool> MessageReceiverState::take(const ring::Record& record) noexcept {
  note_holder(record.source);
  switch (record.kind) {
    case ring::RecordKind::block: return take_block(record);
    case ring::RecordKind::chunk: return take_chunk(record);
    case ring::RecordKind::control: return take_control(record);
    default: break;
  }
  Current& now = open(record, Tier::ring);
  now.record = record;
  now.points_to(record.payload);
  now.total = now.size;
  return true;
}

void MessageReceiverState::release_current() noexcept {
  if (!current) return;
  // The block first: killed in between, our successor finds a reference that fits no more.
  const bool is_ours = !ring.is_of_the_parent();
  if (current->block && is_ours) static_cast<void>(pool->release(*current->block));
  if (current->record) ring.release(*current->record);
  current.reset();
}

// ----------------------------------------------------------------------------------- incoming

Tier Incoming::tier() const noexcept { return state_->current->tier; }
std::uint16_t Incoming::type() const noexcept { return state_->current->type; }
std::uint32_t Incoming::source() const noexcept { return state_->current->source; }
bool Incoming::redelivered() const noexcept { return state_->current->redelivered; }
std::uint64_t Incoming::size() const noexcept { return state_->current->size; }
std::uint64_t Incoming::offset() const noexcept { return state_->current->offset; }
std::uint64_t Incoming::total() const noexcept { return state_->current->total; }
bool Incoming::is_last() const noexcept { return state_->current->is_last; }
std::span<const iovec> Incoming::parts() const noexcept { return state_->current->parts(); }

std::span<const std::byte> Incoming::bytes() const noexcept {
  const std::span<const iovec> all = parts();
  if (all.size() != 1) return {};
  return {static_cast<const std::byte*>(all.front().iov_base), all.front().iov_len};
}

void Incoming::release() noexcept {
  if (state_ != nullptr) std::exchange(state_, nullptr)->release_current();
}

// ----------------------------------------------------------------------------------- receiver

MessageReceiver::MessageReceiver(std::unique_ptr<MessageReceiverState> state) noexcept
    : state_(std::move(state)) {}
MessageReceiver::MessageReceiver(MessageReceiver&&) noexcept = default;
MessageReceiver& MessageReceiver::operator=(MessageReceiver&& other) noexcept {
  if (this != &other) {
    close();
    state_ = std::move(other.state_);
  }
  return *this;
}
MessageReceiver::~MessageReceiver() { close(); }

Result<MessageReceiver> MessageReceiver::over(ShmReceiver receiver, const Options& messages) {
  const std::span<std::byte> area = receiver.link().body().pool();
  std::optional<pool::BlockPool<>> pool;
  if (!area.empty()) {
    auto attached = pool::BlockPool<>::attach(area);
    if (!attached) {
      return fail(attached.error().code == Errc::full ? Errc::no_space : attached.error().code, 0,
                  "pool: participants");
    }
    pool.emplace(std::move(*attached));
  }
  auto state =
      std::make_unique<MessageReceiverState>(std::move(receiver), messages, std::move(pool));
  return MessageReceiver(std::move(state));
}

namespace {
Result<MessageReceiver> over_opened(Result<ShmReceiver> receiver,
                                    const MessageReceiver::Options& options) {
  if (!receiver) return tl::unexpected(receiver.error());
  return MessageReceiver::over(std::move(*receiver), options);
}
}  // namespace

Result<MessageReceiver> MessageReceiver::open(std::string_view name, const ShmOptions& options,
                                              const Options& messages) {
  return over_opened(ShmReceiver::open(name, options), messages);
}
Result<MessageReceiver> MessageReceiver::open_or_create(std::string_view name,
                                                        const ShmOptions& options,
                                                        const Options& messages) {
  return over_opened(ShmReceiver::open_or_create(name, options), messages);
}

Result<Incoming> MessageReceiver::peek(Deadline deadline) noexcept {
  MessageReceiverState& s = *state_;
  // Chunks that keep coming complete nothing for a long time: the deadline holds all the same. One
  // that has passed before asks for what is there, all of it.
  const bool only_looks = deadline.passed();
  while (!s.current) {
    ring::Record record;
    const auto found = s.ring.peek_many({&record, 1}, deadline);
    s.note_departed();
    if (!found) {
      if (has_ended(found.error().code)) s.note_end();
      return tl::unexpected(found.error());
    }
    const auto taken = s.take(record);
    if (!taken) return tl::unexpected(taken.error());
    if (!*taken && !only_looks && deadline.passed()) return fail(Errc::timed_out, 0, "peek");
  }
  return Incoming(&s);
}

Result<std::size_t> MessageReceiver::peek_plain(std::span<ring::Record> out,
                                                Deadline deadline) noexcept {
  MessageReceiverState& s = *state_;
  if (s.current) return 0;
  const auto found = s.ring.peek_many(out, deadline);
  s.note_departed();
  if (!found) {
    if (has_ended(found.error().code)) s.note_end();
    return found;
  }
  std::size_t plain = 0;
  while (plain < *found && out[plain].kind == ring::RecordKind::data) ++plain;
  return plain;
}

void MessageReceiver::release_plain(const ring::Record& record) noexcept {
  state_->ring.release(record);
}

void MessageReceiver::on_progress(frame::Assembler::ProgressFn call, void* context) noexcept {
  state_->assembler.on_progress(call, context);
}
Result<void> MessageReceiver::refuse(std::uint32_t source, std::uint64_t id) noexcept {
  const auto refused = state_->assembler.refuse(source, id);
  state_->tell_open();
  return refused;
}
std::size_t MessageReceiver::list_open(std::span<frame::OpenMessage> out) const noexcept {
  return state_->assembler.list_open(out);
}

std::optional<Departed> MessageReceiver::next_departed() noexcept {
  state_->note_departed();
  if (state_->departed.empty()) return std::nullopt;
  const Departed first = state_->departed.front();
  state_->departed.pop_front();
  return first;
}

ShmLink::Left MessageReceiver::close() noexcept {
  if (!state_ || !state_->ring.link().is_mine()) return ShmLink::Left::kept;
  MessageReceiverState& s = *state_;
  // Kept and not released: it waits for a successor, block included; but not what is in our memory.
  if (s.current && !s.current->record) s.ring.tally().aborted.add();
  s.current.reset();
  if (s.pool) s.pool->detach();
  return s.ring.close();
}

ShmReceiver& MessageReceiver::ring() noexcept { return state_->ring; }
const frame::Counters& MessageReceiver::chunk_counters() const noexcept {
  return state_->assembler.counters();
}

Result<std::size_t> wait_any(std::span<MessageReceiver* const> receivers,
                             Deadline deadline) noexcept {
  std::array<ShmReceiver*, wait::kMaxWaitAny> rings{};
  if (receivers.size() > rings.size()) return fail(Errc::too_large, 0, "wait_any");
  for (std::size_t i = 0; i < receivers.size(); ++i) rings[i] = &receivers[i]->ring();
  return wait_any(std::span<ShmReceiver* const>(rings.data(), receivers.size()), deadline);
}

}  // namespace slipring::channel

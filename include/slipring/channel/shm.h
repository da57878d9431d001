// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "slipring/base/deadline.h"
#include "slipring/channel/shm_link.h"
#include "slipring/channel/shm_options.h"
#include "slipring/ring/lane.h"
#include "slipring/ring/mpsc.h"
#include "slipring/ring/total.h"
#include "slipring/wait/doorbell.h"

/// The shared-memory channel: a ring in a segment, a doorbell in each direction, and the kernel's
/// word on who is alive. This layer joins what rank 2 keeps apart. One API for one sender or many,
/// in either order: ShmOptions::form decides when the ring is made.
namespace slipring {
template <typename T>
class Sender;  // typed.h
template <typename T>
class Receiver;  // typed.h
}  // namespace slipring

namespace slipring::channel {

class ShmSender;
class ShmReceiver;
struct SenderState;    // shm_inl.h
struct ReceiverState;  // shm_inl.h
struct SenderTally;    // counters.h
struct ReceiverTally;  // counters.h

/// Room in the ring, filled in place. Dropped without commit(): given up, nothing becomes visible.
/// Valid while its sender lives, wherever that is moved to.
class ShmClaim {
 public:
  ShmClaim(ShmClaim&& other) noexcept;
  ShmClaim& operator=(ShmClaim&&) = delete;
  ~ShmClaim() { abort(); }

  /// Contiguous; 8-byte aligned, 64 from ring::kOwnLineBytes on.
  [[nodiscard]] std::span<std::byte> payload() const noexcept { return payload_; }
  /// Publishes the first `used` bytes. Once; later calls do nothing.
  /// Progress: wait-free; a system call only when the receiver is parked.
  void commit(std::size_t used, std::uint16_t type = 0,
              ring::RecordKind kind = ring::RecordKind::data) noexcept;
  void commit() noexcept { commit(payload_.size()); }
  void abort() noexcept;

  /// For senders.
  ShmClaim(SenderState* state, std::span<std::byte> payload) noexcept
      : state_(state), payload_(payload) {}

 private:
  SenderState* state_;
  std::span<std::byte> payload_;
};

/// Several messages that appear together, or not at all when we die before commit(). Dropped
/// without commit(): all taken back. At most half the capacity. Not in a ring of total order, where
/// others claim in between.
class ShmGroup {
 public:
  ShmGroup(ShmGroup&& other) noexcept;
  ShmGroup& operator=(ShmGroup&&) = delete;
  ~ShmGroup() { abort(); }

  /// Errors: full  no room, or more than half the capacity: commit what is there, then go on.
  [[nodiscard]] Result<void> try_send(std::span<const std::byte> message,
                                      std::uint16_t type = 0) noexcept;
  void commit() noexcept;
  void abort() noexcept;

 private:
  friend class ShmSender;
  explicit ShmGroup(SenderState* state) noexcept : state_(state) {}
  [[nodiscard, gnu::noinline]] Result<void> try_send_slowly(std::span<const std::byte> message,
                                                            std::uint16_t type) noexcept;
  SenderState* state_;
};

/// What a sender counted since the lane was made, and since it attached.
struct SenderCounters {
  std::uint64_t messages = 0;  ///< Committed from this sender's place, by all that had it,
  std::uint64_t bytes = 0;     ///< and their payload.
  std::uint64_t parks = 0;     ///< Times this sender slept for room.
  std::uint64_t wakes = 0;     ///< System calls made to wake the receiver.
};

/// The sending end of a shared-memory channel.
///
/// Threads:  one at a time.
/// Progress: try_ forms are wait-free; the others block until room, the deadline, or proof that
///           nobody will make room.
/// Crash:    killed anywhere, what commit() returned for is delivered, the rest never was.
/// Fork:     the child's copy is refused everything, and leaves nothing: docs/death.md.
class ShmSender {
 public:
  /// Errors: those of ShmLink::attach. `open` finds what exists, `create` refuses it.
  [[nodiscard]] static Result<ShmSender> open(std::string_view name,
                                              const ShmOptions& options = {});
  [[nodiscard]] static Result<ShmSender> create(std::string_view name,
                                                const ShmOptions& options = {});
  [[nodiscard]] static Result<ShmSender> open_or_create(std::string_view name,
                                                        const ShmOptions& options = {});
  /// In a segment that was handed over or made without a name.
  [[nodiscard]] static Result<ShmSender> attach(segment::Segment segment,
                                                const ShmOptions& options = {});

  ShmSender(ShmSender&&) noexcept;
  ShmSender& operator=(ShmSender&&) noexcept;
  ~ShmSender();

  /// Errors: as ring::LaneProducer::try_claim.
  [[nodiscard]] Result<ShmClaim> try_claim(std::size_t size, bool own_line = false) noexcept;
  /// Errors: timed_out; closed, peer_dead  the receiver is gone and the ring is full. What was
  ///         committed waits for a successor.
  [[nodiscard]] Result<ShmClaim> claim(std::size_t size, Deadline deadline = Deadline::never(),
                                       bool own_line = false) noexcept;

  [[nodiscard]] Result<void> try_send(std::span<const std::byte> message,
                                      std::uint16_t type = 0) noexcept;
  [[nodiscard]] Result<void> send(std::span<const std::byte> message,
                                  Deadline deadline = Deadline::never(),
                                  std::uint16_t type = 0) noexcept;
  /// Errors: in_use  a claim or a group is open; not_supported  the ring is of total order.
  [[nodiscard]] Result<ShmGroup> group() noexcept;

  /// Waits until a claim of `size` would find room, or fail for another reason than that.
  /// Errors: timed_out; closed, peer_dead  as claim().
  [[nodiscard, gnu::noinline]] Result<void> wait_for_room(std::size_t size, bool own_line,
                                                          Deadline deadline) noexcept;

  /// Waits until the receiver answered for the direct read of that number, or a later one: true
  /// when it read, false when it would or could not. Not for total order.
  /// Errors: closed, peer_dead  it is gone, and nobody will read it any more.
  [[nodiscard]] Result<bool> wait_for_direct(std::uint64_t number) noexcept;

  /// Makes positions and counters exact for whoever looks from outside.
  void flush() noexcept;
  /// Leaves in order; the receiver gets every message, then `closed`. The destructor does it, too.
  ShmLink::Left close() noexcept;

  /// In a child of fork(): every call is refused (invalid_argument, "endpoint: of the parent").
  [[nodiscard]] bool is_of_the_parent() const noexcept;
  [[nodiscard]] RoleWatch::Peer look_at_receiver() noexcept;
  /// Bytes that the receiver has not given back, as far as it told: low by nothing, high by an
  /// eighth of the capacity.
  [[nodiscard]] std::uint64_t approx_backlog() noexcept;
  [[nodiscard]] std::uint64_t max_payload() const noexcept;
  [[nodiscard]] SenderCounters counters() const noexcept;
  /// What tools see of this sender; for the layers above to count in.
  [[nodiscard]] SenderTally& tally() noexcept;
  [[nodiscard]] const ShmLink& link() const noexcept;

 private:
  template <typename T>
  friend class slipring::Sender;
  // One result, made in place, on the hot path: see ShmReceiver.
  [[nodiscard]] std::byte* claim_plain(std::size_t size, bool own_line) noexcept;
  [[nodiscard, gnu::noinline]] Result<ShmClaim> try_claim_slowly(std::size_t size,
                                                                 bool own_line) noexcept;
  [[nodiscard, gnu::noinline]] Result<ShmClaim> claim_slowly(std::size_t size, Deadline deadline,
                                                             bool own_line) noexcept;
  [[nodiscard, gnu::always_inline]] bool send_plain(std::span<const std::byte> message,
                                                    std::uint16_t type) noexcept;
  [[nodiscard, gnu::noinline]] Result<void> try_send_slowly(std::span<const std::byte> message,
                                                            std::uint16_t type) noexcept;
  [[nodiscard, gnu::noinline]] Result<void> send_slowly(std::span<const std::byte> message,
                                                        Deadline deadline,
                                                        std::uint16_t type) noexcept;
  explicit ShmSender(std::unique_ptr<SenderState> state) noexcept;
  [[nodiscard]] static Result<ShmSender> over(Result<ShmLink> link, const ShmOptions& options);
  std::unique_ptr<SenderState> state_;
};

/// One received message, in place. Released at the end of its scope.
class ShmMessage {
 public:
  ShmMessage(ShmMessage&& other) noexcept;
  ShmMessage& operator=(ShmMessage&&) = delete;
  ~ShmMessage() { release(); }

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return record_.payload; }
  [[nodiscard]] std::uint16_t type() const noexcept { return record_.type; }
  /// `data`, unless the sender sends messages of any size: those are for a MessageReceiver.
  [[nodiscard]] ring::RecordKind kind() const noexcept { return record_.kind; }
  [[nodiscard]] std::uint64_t number() const noexcept { return record_.number; }
  /// Of many senders: whose, as an index below shape().senders.
  [[nodiscard]] std::uint32_t source() const noexcept { return record_.source; }
  /// True when a receiver that died may have used it already.
  [[nodiscard]] bool redelivered() const noexcept { return record_.redelivered; }
  /// Gives the room back, and that of all older messages (form per_producer: of this sender).
  /// Once; later calls do nothing.
  void release() noexcept;
  /// Gives back its first `bytes` alone, in private: for a layer above that reads it in pieces. The
  /// next peek returns all of it again, ShmReceiver::released_of_first() says how far it was read;
  /// when that is all, release(). Once; later calls do nothing.
  void release_to(std::size_t bytes) noexcept;
  /// Leaves it unreleased: the next peek returns it again.
  void keep() noexcept { state_ = nullptr; }

  /// For receivers.
  ShmMessage(ReceiverState* state, const ring::Record& record) noexcept
      : state_(state), record_(record) {}

 private:
  ReceiverState* state_;
  ring::Record record_;
};

struct ReceiverCounters {
  std::uint64_t messages = 0;  ///< Released in this ring, by all receivers that it had.
  std::uint64_t parks = 0;     ///< Times this receiver slept.
  std::uint64_t spurious = 0;  ///< Of those, ended for nothing.
  std::uint64_t deaths = 0;    ///< Of many senders: those proved dead, since it attached.
};

/// The receiving end of a shared-memory channel.
///
/// Threads:  one at a time.
/// Progress: try_peek is wait-free; peek blocks until a message, the deadline, or the end.
/// End:      after the last sender left or was proved dead, every message committed comes first,
///           then `closed`, or `peer_dead` when one of them died, until a new sender attaches.
///           While others live, the death of one of many ends nothing: next_departed() tells of it.
class ShmReceiver {
 public:
  [[nodiscard]] static Result<ShmReceiver> open(std::string_view name,
                                                const ShmOptions& options = {});
  [[nodiscard]] static Result<ShmReceiver> create(std::string_view name,
                                                  const ShmOptions& options = {});
  [[nodiscard]] static Result<ShmReceiver> open_or_create(std::string_view name,
                                                          const ShmOptions& options = {});
  [[nodiscard]] static Result<ShmReceiver> attach(segment::Segment segment,
                                                  const ShmOptions& options = {});

  ShmReceiver(ShmReceiver&&) noexcept;
  ShmReceiver& operator=(ShmReceiver&&) noexcept;
  ~ShmReceiver();

  /// The oldest message not yet released.
  /// Errors: empty; closed  the sender left and all was read; corrupt  (sticky).
  [[nodiscard]] Result<ShmMessage> try_peek() noexcept;
  /// Errors: timed_out, closed, peer_dead, corrupt.
  [[nodiscard]] Result<ShmMessage> peek(Deadline deadline = Deadline::never()) noexcept;
  /// As many of the oldest messages as are there and fit `out`, at least one; form per_producer: of
  /// one sender. Valid until released.
  [[nodiscard]] Result<std::size_t> peek_many(std::span<ring::Record> out,
                                              Deadline deadline = Deadline::never()) noexcept;
  /// Gives back `record` and all older ones; form per_producer: of its sender.
  void release(const ring::Record& record) noexcept;

  /// Bytes of the oldest record that ShmMessage::release_to() gave back.
  [[nodiscard]] std::size_t& released_of_first() noexcept;

  /// Tells a sender what became of its direct read, and wakes it. Not for total order.
  void answer_direct(std::uint32_t source, std::uint64_t number, bool was_read) noexcept;

  /// Total order: whose open claim holds up delivery, once a peek found nothing for it.
  [[nodiscard]] std::optional<ring::BlockedBy> blocked_by() noexcept;
  /// One of many senders that was proved dead, each once. Its messages came before.
  [[nodiscard]] std::optional<Departed> next_departed() noexcept;

  /// Leaves in order: what was released is told, the rest waits for a successor.
  ShmLink::Left close() noexcept;

  /// In a child of fork(): every call is refused (invalid_argument, "endpoint: of the parent").
  [[nodiscard]] bool is_of_the_parent() const noexcept;
  [[nodiscard]] RoleWatch::Peer look_at_sender() noexcept;
  [[nodiscard]] std::uint64_t approx_backlog() const noexcept;
  [[nodiscard]] ReceiverCounters counters() const noexcept;
  [[nodiscard]] ReceiverTally& tally() noexcept;
  [[nodiscard]] const ShmLink& link() const noexcept;

 private:
  template <typename T>
  friend class slipring::Receiver;
  friend Result<std::size_t> wait_any(std::span<ShmReceiver* const> receivers,
                                      Deadline deadline) noexcept;
  explicit ShmReceiver(std::unique_ptr<ReceiverState> state) noexcept;
  [[nodiscard]] static Result<ShmReceiver> over(Result<ShmLink> link, const ShmOptions& options);
  [[nodiscard, gnu::noinline]] Result<void> wait_for_record(Deadline deadline) noexcept;
  [[nodiscard, gnu::noinline]] Error nothing_now() noexcept;
  // The hot path makes one result, in place, and hands none on: copies of it would cost more than
  // the record. What is not plain goes out of line as a whole.
  [[nodiscard]] bool peek_plain(ring::Record& out) noexcept;
  template <typename Message = ShmMessage>
  [[nodiscard]] Result<Message> message_of(const ring::Record& record) noexcept;
  [[nodiscard, gnu::noinline]] Result<ShmMessage> try_peek_closely() noexcept;
  [[nodiscard, gnu::noinline]] Result<ShmMessage> peek_slowly(Deadline deadline) noexcept;
  [[nodiscard, gnu::noinline]] Result<std::size_t> look_among_many(
      std::span<ring::Record> out) noexcept;
  [[nodiscard]] Result<std::size_t> look(std::span<ring::Record> out) noexcept;
  std::unique_ptr<ReceiverState> state_;
};

/// Waits until one of the receivers has something to say: a message, or its end. The index of the
/// first such in `receivers`; start it at another place each time to be fair.
/// Errors: timed_out, invalid_argument (none at all), too_large (over wait::kMaxWaitAny),
///         not_supported (a doorbell that is not a futex, or a strategy that never parks).
[[nodiscard]] Result<std::size_t> wait_any(std::span<ShmReceiver* const> receivers,
                                           Deadline deadline = Deadline::never()) noexcept;

}  // namespace slipring::channel

#include "slipring/channel/shm_inl.h"

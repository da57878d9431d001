// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "slipring/channel/full_policy.h"
#include "slipring/channel/shm.h"
#include "slipring/channel/tiers.h"
#include "slipring/frame/splitter.h"
#include "slipring/pool/block_pool.h"

/// Messages of any size over a shm ring, and what becomes of them when there is no room.
namespace slipring::channel {

struct MessageSenderState;  // message_sender.cc

/// How one message is sent. The defaults are those of the sender.
struct SendOptions {
  std::uint16_t type = 0;  ///< The user's own tag.
  std::optional<OnFull> on_full;
  /// Ask the receiver to read our memory instead of copying twice; send() returns when it has.
  /// Where it may not, the message goes another way, and that is counted.
  bool direct = false;
  /// Called after each chunk that was handed over; for messages that go in chunks.
  void (*progress)(void* context, const frame::Progress& progress) noexcept = nullptr;
  void* progress_context = nullptr;
};

/// What became of a message that was accepted.
enum class Sent : std::uint8_t {
  queued,   ///< Committed: it survives our death.
  stashed,  ///< Put by in private memory; it does not.
};

/// Room for one message, filled in place: in the ring, or in a block of the pool. Dropped without
/// commit(): given up.
class MessageClaim {
 public:
  MessageClaim(MessageClaim&& other) noexcept;
  MessageClaim& operator=(MessageClaim&&) = delete;
  ~MessageClaim() { abort(); }

  [[nodiscard]] std::span<std::byte> payload() const noexcept { return payload_; }
  [[nodiscard]] Tier tier() const noexcept { return block_ ? Tier::block : Tier::ring; }
  /// Sends the first `used` bytes. Never waits: room for the reference was claimed, too.
  /// Errors: invalid_argument  it is over, or longer than the payload; corrupt  the pool is rotten.
  [[nodiscard]] Result<void> commit(std::size_t used, std::uint16_t type = 0) noexcept;
  [[nodiscard]] Result<void> commit() noexcept { return commit(payload_.size()); }
  void abort() noexcept;

 private:
  friend class MessageSender;
  MessageClaim(MessageSenderState* state, ShmClaim ring, std::optional<pool::Block> block,
               std::span<std::byte> payload) noexcept
      : state_(state), ring_(std::move(ring)), block_(block), payload_(payload) {}
  MessageSenderState* state_;
  ShmClaim ring_;
  std::optional<pool::Block> block_;
  std::span<std::byte> payload_;
};

/// One message in chunks, produced in place, one body after the other; other messages of the same
/// sender may go in between. Dropped before its end: given up, and the receiver is told.
///
///   while (!stream.done()) { body = stream.next(deadline);  n = fill *body;  stream.commit(n); }
class MessageStream {
 public:
  MessageStream(MessageStream&& other) noexcept;
  MessageStream& operator=(MessageStream&&) = delete;
  ~MessageStream() { abort(); }

  [[nodiscard]] bool done() const noexcept { return !splitter_ || splitter_->done(); }
  [[nodiscard]] frame::Progress progress() const noexcept { return splitter_->progress(); }
  /// Room for the next body, ours until commit(). Empty only for a message of no bytes.
  /// Errors: timed_out; closed, peer_dead  the receiver is gone and the ring is full; in_use  a
  ///         claim of this sender is open; closed "message: ..."  the message has ended.
  [[nodiscard]] Result<std::span<std::byte>> next(Deadline deadline = Deadline::never()) noexcept;
  /// Hands the first `used` bytes over. An open-ended message ends with `last`.
  /// Errors: as frame::Splitter::end.
  [[nodiscard]] Result<void> commit(std::size_t used, bool last = false) noexcept;
  /// Gives it up. What the receiver has of it, it frees.
  void abort() noexcept;

 private:
  friend class MessageSender;
  MessageStream(MessageSenderState* state, const frame::Splitter& splitter) noexcept
      : state_(state), splitter_(splitter) {}
  MessageSenderState* state_;
  std::optional<frame::Splitter> splitter_;  // none: moved from
  std::optional<ShmClaim> claim_;
};

/// The sending end for messages of any size.
///
/// Threads:  one at a time.
/// Progress: as ShmSender; a message in chunks blocks until its last one is handed over.
/// Crash:    killed anywhere, what send() returned `queued` for is delivered; of a message in
///           chunks, nothing. Blocks that it held come back.
class MessageSender {
 public:
  struct Options {
    Tiers tiers;
    OnFull on_full;
  };
  /// Errors: those of ShmSender.
  [[nodiscard]] static Result<MessageSender> open(std::string_view name, const ShmOptions& options,
                                                  const Options& messages);
  [[nodiscard]] static Result<MessageSender> open_or_create(std::string_view name,
                                                            const ShmOptions& options,
                                                            const Options& messages);
  /// Over a sender that exists. In a pool with all places taken it goes without one.
  [[nodiscard]] static Result<MessageSender> over(ShmSender sender, const Options& messages);

  MessageSender(MessageSender&&) noexcept;
  MessageSender& operator=(MessageSender&&) noexcept;
  ~MessageSender();

  /// Sends one message of any size, by the tier that suits it.
  /// Errors: full        no room now, and the policy is to refuse, or the stash has none either,
  ///         timed_out   no room within the policy's time; nothing of it was sent, or it was given
  ///                     up in the middle and the receiver drops it,
  ///         closed, peer_dead  the receiver is gone and there is no room.
  [[nodiscard]] Result<Sent> send(std::span<const std::byte> message,
                                  const SendOptions& options = {}) noexcept;
  /// Errors: too_large  neither a record nor a block takes it: stream() does; full  every block is
  ///         in use, and it fits no record; timed_out, closed, peer_dead  as ShmSender::claim.
  [[nodiscard]] Result<MessageClaim> claim(std::size_t size,
                                           Deadline deadline = Deadline::never()) noexcept;
  /// Starts a message in chunks: `total` bytes, or frame::kOpenEnded.
  [[nodiscard]] Result<MessageStream> stream(std::uint64_t total, std::uint16_t type = 0) noexcept;

  /// Sends what was put by.
  /// Errors: timed_out, closed, peer_dead; what is left stays.
  [[nodiscard]] Result<void> drain(Deadline deadline = Deadline::never()) noexcept;
  [[nodiscard]] std::size_t stashed() const noexcept;
  void flush() noexcept;
  /// Leaves in order. What is still put by is sent if there is room now, else dropped and counted.
  ShmLink::Left close() noexcept;

  [[nodiscard]] ShmSender& ring() noexcept;
  [[nodiscard]] const ShmSender& ring() const noexcept;
  /// Bytes of the largest block; 0 without a pool.
  [[nodiscard]] std::uint64_t largest_block() const noexcept;

 private:
  explicit MessageSender(std::unique_ptr<MessageSenderState> state) noexcept;
  std::unique_ptr<MessageSenderState> state_;
};

}  // namespace slipring::channel

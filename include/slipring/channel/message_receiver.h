// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "slipring/channel/shm.h"
#include "slipring/channel/tiers.h"
#include "slipring/frame/assembler.h"

namespace slipring::channel {

struct MessageReceiverState;  // message_receiver.cc

/// One received message, or with frame::Mode::parts one part of it. Released at the end of its
/// scope; kept, the next peek returns it again.
class Incoming {
 public:
  Incoming(Incoming&& other) noexcept : state_(other.state_) { other.state_ = nullptr; }
  Incoming& operator=(Incoming&&) = delete;
  ~Incoming() { release(); }

  [[nodiscard]] Tier tier() const noexcept;
  [[nodiscard]] std::uint16_t type() const noexcept;
  [[nodiscard]] std::uint32_t source() const noexcept;  ///< Of many senders, which.
  /// True when a receiver that died may have used it already.
  [[nodiscard]] bool redelivered() const noexcept;

  /// Bytes here: of the message, or of this part.
  [[nodiscard]] std::uint64_t size() const noexcept;
  /// In one piece. Empty when it is not: look at parts().
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept;
  /// In order, as writev takes them.
  [[nodiscard]] std::span<const iovec> parts() const noexcept;

  /// False for a part that more follow.
  [[nodiscard]] bool is_last() const noexcept;
  [[nodiscard]] bool is_first() const noexcept { return offset() == 0; }
  [[nodiscard]] std::uint64_t offset() const noexcept;  ///< Of this part in the message.
  /// Of the whole message; frame::kOpenEnded while its sender does not say.
  [[nodiscard]] std::uint64_t total() const noexcept;

  /// Gives back what it holds: room in the ring, a block, memory. Once.
  void release() noexcept;
  void keep() noexcept { state_ = nullptr; }

 private:
  friend class MessageReceiver;
  explicit Incoming(MessageReceiverState* state) noexcept : state_(state) {}
  MessageReceiverState* state_;
};

/// The receiving end for messages of any size.
///
/// Threads:  one at a time; one message at a time.
/// Progress: as ShmReceiver.
/// Trust:    headers of chunks and references are the senders' bytes. A bad one is a typed error of
///           one peek, counted; the messages behind it go on.
/// End:      as ShmReceiver. A message whose sender died in the middle is freed and counted.
/// Crash:    what was peeked and not released comes again, flagged. A message under assembly dies
///           with its receiver; its successor refuses the rest and counts it.
class MessageReceiver {
 public:
  struct Options {
    frame::Mode mode = frame::Mode::assembled;
    frame::Limits limits;
  };
  [[nodiscard]] static Result<MessageReceiver> open(std::string_view name,
                                                    const ShmOptions& options,
                                                    const Options& messages);
  [[nodiscard]] static Result<MessageReceiver> open_or_create(std::string_view name,
                                                              const ShmOptions& options,
                                                              const Options& messages);
  /// Errors: no_space  the pool's places are all taken by living processes.
  [[nodiscard]] static Result<MessageReceiver> over(ShmReceiver receiver, const Options& messages);

  MessageReceiver(MessageReceiver&&) noexcept;
  MessageReceiver& operator=(MessageReceiver&&) noexcept;
  ~MessageReceiver();

  /// The oldest message that is complete; in Mode::parts, the next part.
  /// Errors: timed_out, closed, peer_dead  as ShmReceiver::peek,
  ///         corrupt, bad_format  a chunk or a reference that no sender makes; the next peek goes
  ///         on, too_large, no_space  a message over our limits; the next peek goes on, cancelled
  ///         Mode::parts: the sender gave a message up, or died, behind some parts of it.
  [[nodiscard]] Result<Incoming> peek(Deadline deadline = Deadline::never()) noexcept;
  [[nodiscard]] Result<Incoming> try_peek() noexcept { return peek(Deadline::now()); }

  /// As many messages in a row that lie in the ring as are there and fit `out`, without the price
  /// of an Incoming for each. 0: peek() has the next one. Give them back with release_plain().
  /// Errors: as peek().
  [[nodiscard]] Result<std::size_t> peek_plain(std::span<ring::Record> out,
                                               Deadline deadline = Deadline::never()) noexcept;
  void release_plain(const ring::Record& record) noexcept;

  /// Called after each chunk that brought a message on, its end included.
  void on_progress(frame::Assembler::ProgressFn call, void* context) noexcept;
  /// We want no more of that message.
  /// Errors: not_found  no such message is open.
  [[nodiscard]] Result<void> refuse(std::uint32_t source, std::uint64_t id) noexcept;
  /// Writes the messages under assembly to `out`, as many as fit. Returns how many there are.
  std::size_t list_open(std::span<frame::OpenMessage> out) const noexcept;
  /// Of many senders: one that died, each once. Its messages came before.
  [[nodiscard]] std::optional<Departed> next_departed() noexcept;

  ShmLink::Left close() noexcept;
  [[nodiscard]] ShmReceiver& ring() noexcept;
  [[nodiscard]] const frame::Counters& chunk_counters() const noexcept;

 private:
  explicit MessageReceiver(std::unique_ptr<MessageReceiverState> state) noexcept;
  std::unique_ptr<MessageReceiverState> state_;
};

/// As wait_any of ShmReceivers: which of them has something to say. A kept message counts.
[[nodiscard]] Result<std::size_t> wait_any(std::span<MessageReceiver* const> receivers,
                                           Deadline deadline = Deadline::never()) noexcept;

}  // namespace slipring::channel

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "progress.h"
#include "report.h"
#include "slipring/channel/message_receiver.h"
#include "transfer.h"

namespace slipring::tools {

struct ReceiveOptions {
  std::optional<std::chrono::nanoseconds> timeout;  ///< Longest wait for a message.
  std::chrono::nanoseconds linger{};  ///< For another sender, after the last has closed.
  std::uint64_t count = 0;            ///< End after that many messages; 0: no limit.
  bool lines = false;                 ///< A newline behind each.
  std::uint64_t message_limit = 0;    ///< Bytes, of a message from one of many senders.
  bool shows_progress = false;
};

/// Writing to standard output failed with errno `sys`.
[[nodiscard]] tl::unexpected<Failure> output_failed(int sys);

/// Carries messages to standard output until the senders, or our output, end.
class Receiving {
 public:
  Receiving(const ReceiveOptions& opt, Subject subject, channel::MessageReceiver receiver);

  [[nodiscard]] Outcome run();

 private:
  using Records = std::span<const ring::Record>;

  [[nodiscard]] channel::ShmReceiver& ring() { return receiver_.ring(); }
  [[nodiscard]] bool is_sender_gone();
  [[nodiscard]] bool has_news();
  [[nodiscard]] Outcome pump();
  /// What is there, written and given back. True: the count that was asked for is reached.
  [[nodiscard]] Result<bool> take(Deadline until);
  [[nodiscard]] Try<void> deliver(Records records);
  [[nodiscard]] Try<void> deliver(channel::Incoming& message);
  [[nodiscard]] Try<void> write_all(std::span<iovec> parts);
  [[nodiscard]] Try<void> between();
  /// What to do when nothing came, for the reason given. Nothing: look again.
  [[nodiscard]] std::optional<Outcome> pause(const Error& error);
  [[nodiscard]] bool another_sender_comes();
  void note_departed();
  void note_given_up();
  void tell_of_loss(const std::string& line);
  [[nodiscard]] Outcome complete() const;
  /// One message is lost, the others go on: said at once, and what we end with.
  [[nodiscard]] std::optional<Outcome> lose_message(const Error& error);
  [[nodiscard]] tl::unexpected<Failure> sender_died(const Error& error);
  [[nodiscard]] std::string so_far() const;
  void restart_timeout() {
    if (opt_.timeout) give_up_ = Deadline::in(*opt_.timeout);
  }

  ReceiveOptions opt_;
  Subject subject_;
  channel::MessageReceiver receiver_;
  PeerHistory sender_;
  NameWatch name_;
  Progress progress_;
  Tally tally_;
  Deadline give_up_ = Deadline::never();
  std::optional<Failure> output_;  // why writing failed
  std::optional<Failure> first_loss_;
  std::uint64_t open_bytes_ = 0;  // of a message whose parts were written, and whose end was not
  std::uint64_t aborted_seen_ = 0;
  std::uint64_t lost_ = 0;          // messages
  std::uint64_t died_ = 0;          // senders
  std::vector<ProcessToken> dead_;  // of many senders
};

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "input.h"
#include "progress.h"
#include "report.h"
#include "slipring/channel/message_sender.h"
#include "transfer.h"

namespace slipring::tools {

/// How the input is cut into messages.
struct Cut {
  enum class By : unsigned char {
    records,   ///< Of `bytes` at most; from a pipe what is there, at once.
    lines,     ///< One each, without its newline.
    messages,  ///< Of `bytes` each, whatever their size; the last one is shorter.
    whole,     ///< All of it is one message.
  };
  By by = By::records;
  std::uint64_t bytes = 0;
};

/// Carries an input into a ring, message by message, until one of the two ends.
class Sending {
 public:
  Sending(Subject subject, Input input, channel::MessageSender sender, channel::OnFull on_full,
          bool shows_progress);

  [[nodiscard]] Outcome run(const Cut& cut);

 private:
  [[nodiscard]] channel::ShmSender& ring() { return sender_.ring(); }
  [[nodiscard]] bool stashes() const { return on_full_.kind() == channel::OnFull::Kind::stash; }
  /// Whether input goes through memory of our own: what may be put by, and in a ring of total
  /// order, where a claim that is open while we read would hold up everybody.
  [[nodiscard]] bool reads_first() const {
    return stashes() || sender_.ring().link().shape().form == channel::RingForm::total;
  }
  [[nodiscard]] bool fits_one_piece(std::uint64_t size) const;
  [[nodiscard]] bool is_receiver_gone();
  void tick();
  void count(std::uint64_t bytes);
  void count_drained(std::uint64_t left);
  [[nodiscard]] tl::unexpected<Failure> receiver_ended(const Error& error) const;
  /// Why waiting for room is over, if it is; called each time that none was found for a while.
  [[nodiscard]] Try<void> go_on_waiting(const Error& error, Deadline until);
  template <typename Attempt>
  auto with_room(Attempt&& attempt) -> Try<typename decltype(attempt(Deadline::now()))::value_type>;

  [[nodiscard]] Outcome pump(const Cut& cut);
  [[nodiscard]] Outcome pump_messages(std::uint64_t size, bool gathers);
  [[nodiscard]] Outcome pump_lines();
  /// Fills `room` from the input; with `gathers` to its end, however the bytes arrive.
  [[nodiscard]] Try<std::size_t> fill(std::span<std::byte> room, bool gathers);
  [[nodiscard]] Try<Input::State> wait_for_input();
  /// Nothing: the message fits a block alone, and each is in use.
  [[nodiscard]] Try<std::optional<channel::MessageClaim>> claim(std::size_t size);
  // Each sends one message of at most `size` bytes. False: the input has ended.
  [[nodiscard]] Try<bool> send_in_place(std::size_t size, bool gathers);
  [[nodiscard]] Try<bool> send_by_memory(std::size_t size, bool gathers);
  /// `ahead` was read before, and comes first.
  [[nodiscard]] Try<bool> send_chunks(std::uint64_t size, bool even_if_empty,
                                      std::span<const std::byte> ahead = {});
  [[nodiscard]] Try<void> send_lines(std::span<const std::span<const std::byte>> lines);
  [[nodiscard]] Try<void> put(std::span<const std::byte> message);
  [[nodiscard]] Try<void> put_or_stash(std::span<const std::byte> message);
  [[nodiscard]] Try<void> drain_stash();
  [[nodiscard]] std::uint64_t close_stash();
  [[nodiscard]] tl::unexpected<Failure> line_too_long(std::uint64_t line);

  Subject subject_;
  Input input_;
  channel::MessageSender sender_;
  channel::OnFull on_full_;
  PeerHistory receiver_;
  NameWatch name_;
  Progress progress_;
  Tally tally_;
  bool in_middle_ = false;            // of a message in chunks
  std::vector<std::byte> memory_;     // what was read first
  std::deque<std::uint64_t> put_by_;  // sizes of what is in the stash
};

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
// The work of `slipring send`: read(2) goes straight into the claimed room.
#include "sending.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "sizes.h"
#include "stop.h"

namespace slipring::tools {

Sending::Sending(Subject subject, Input input, channel::MessageSender sender,
                 channel::OnFull on_full, bool shows_progress)
    : subject_(std::move(subject)),
      input_(std::move(input)),
      sender_(std::move(sender)),
      on_full_(on_full),
      receiver_(ring().link().body(), channel::End::consumer, is_receiver_gone(), false),
      progress_(shows_progress, printable(subject_.name), input_.size()) {}

Outcome Sending::run(const Cut& cut) {
  const std::uint64_t dropped_before = ring().tally().dropped.value();
  Outcome outcome = pump(cut);
  if (outcome) {
    if (const auto drained = drain_stash(); !drained) outcome = tl::unexpected(drained.error());
  }
  const channel::SenderCounters counters = ring().counters();
  Summary summary;
  summary.command = "send";
  summary.name = subject_.name;
  summary.kind = ring().link().segment().backend();
  summary.left = sender_.close();
  summary.dropped = ring().tally().dropped.value() - dropped_before;
  count_drained(*summary.dropped);
  summary.tally = tally_;
  summary.seconds = progress_.seconds();
  summary.parks = counters.parks;
  summary.wakes = counters.wakes;
  summary.exit = outcome ? *outcome : outcome.error().exit;
  progress_.finish(tally_);
  print_summary(summary);
  if (*summary.dropped != 0) {
    note(fmt::format("{} put by and not sent: no room was made",
                     counted(*summary.dropped, "message")));
  }
  if (outcome && summary.left == channel::ShmLink::Left::unread && voice().verbose) {
    note(fmt::format("{} keeps what nobody has read yet; slipring recv {} gets it",
                     printable(subject_.name), printable(subject_.name)));
  }
  return outcome;
}

bool Sending::is_receiver_gone() {
  const RoleWatch::Peer peer = ring().look_at_receiver();
  return peer == RoleWatch::Peer::left || peer == RoleWatch::Peer::dead;
}

void Sending::tick() {
  progress_.tick(tally_, [this] { return ring().approx_backlog(); });
}

void Sending::count(std::uint64_t bytes) {
  tally_.bytes += bytes;
  tally_.records += 1;
}

// What was put by counts once it is out of our memory, where `left` messages are still.
void Sending::count_drained(std::uint64_t left) {
  while (put_by_.size() > left) {
    count(put_by_.front());
    put_by_.pop_front();
  }
}

bool Sending::fits_one_piece(std::uint64_t size) const {
  return size <= std::max<std::uint64_t>(sender_.ring().max_payload(), sender_.largest_block());
}

// The receiver ended, and we have not: that is no good end, however it left.
tl::unexpected<Failure> Sending::receiver_ended(const Error& error) const {
  auto failure = failed(error, subject_);
  failure.value().exit = ExitCode::peer_dead;
  failure.value().text.why += fmt::format("; sent so far: {} bytes in {}", grouped(tally_.bytes),
                                          counted(tally_.records, "record"));
  if (in_middle_) {
    failure.value().text.fix = fmt::format(
        "slipring recv {} drops what is there of it; then send it again", printable(subject_.name));
  }
  return failure;
}

Try<void> Sending::go_on_waiting(const Error& error, Deadline until) {
  const Errc code = error.code;
  if (stop_signal() != 0) return stopped();
  const bool ended = code == Errc::closed || code == Errc::peer_dead;
  if (ended && !receiver_.is_old_news()) return receiver_ended(error);
  if (!ended && code != Errc::timed_out && code != Errc::full) return failed(error, subject_);
  const bool alone = ring().look_at_receiver() != RoleWatch::Peer::alive;
  // Half a message is of no use: in its middle, a policy that does not wait asks for somebody who
  // receives, not for room.
  if (!on_full_.waits() && (!in_middle_ || alone)) {
    ring().tally().refused.add();
    return failed(Error{Errc::full, 0, stashes() ? "stash" : "send"}, subject_);
  }
  if (until.passed()) {
    ring().tally().timeouts.add();
    return failed(Error{Errc::timed_out, 0, "wait"}, subject_);
  }
  if (alone && name_.is_gone(ring().link().segment())) {
    return failed(Error{Errc::segment_lost, 0, "wait"}, subject_);
  }
  if (ended) nap(std::chrono::milliseconds(10));
  tick();
  return {};
}

// Runs `attempt`, a call that may find no room, until it succeeds or there is a reason not to wait.
// `attempt(Deadline)` returns a Result.
template <typename Attempt>
auto Sending::with_room(Attempt&& attempt)
    -> Try<typename decltype(attempt(Deadline::now()))::value_type> {
  const bool waits = on_full_.waits() || in_middle_;
  const Deadline until = on_full_.waits() ? on_full_.deadline()
                         : in_middle_     ? Deadline::never()
                                          : Deadline::now();
  for (;;) {
    const Deadline slice = waits ? Deadline::in(kSlice) : Deadline::now();
    auto done = attempt(slice.or_earlier(until));
    if (done) {
      if constexpr (std::is_void_v<typename decltype(done)::value_type>)
        return {};
      else
        return std::move(*done);
    }
    if (const auto on = go_on_waiting(done.error(), until); !on) {
      return tl::unexpected(on.error());
    }
  }
}

Outcome Sending::pump(const Cut& cut) {
  switch (cut.by) {
    case Cut::By::lines: return pump_lines();
    case Cut::By::messages: return pump_messages(cut.bytes, true);
    case Cut::By::records: return pump_messages(cut.bytes, false);
    case Cut::By::whole: break;
  }
  const auto sent = send_chunks(input_.left().value_or(frame::kOpenEnded), true);
  if (!sent) return tl::unexpected(sent.error());
  return ExitCode::ok;
}

// Whatever comes first: something to read, or the end. Meanwhile tools see exact positions.
Try<Input::State> Sending::wait_for_input() {
  for (;;) {
    if (stop_signal() != 0) return stopped();
    const Input::State state = input_.wait(kSlice);
    if (state != Input::State::nothing_yet) return state;
    sender_.flush();
    tick();
  }
}

Try<std::size_t> Sending::fill(std::span<std::byte> room, bool gathers) {
  std::size_t filled = 0;
  do {
    const auto got = input_.read(room.subspan(filled));
    if (!got) return got;
    if (stop_signal() != 0) return stopped();
    if (*got == 0) break;
    filled += *got;
    if (!gathers || filled == room.size()) break;
    const auto state = wait_for_input();
    if (!state) return tl::unexpected(state.error());
    if (*state == Input::State::end) break;
  } while (true);
  return filled;
}

Outcome Sending::pump_messages(std::uint64_t size, bool gathers) {
  for (;;) {
    const auto state = wait_for_input();
    if (!state) return tl::unexpected(state.error());
    if (*state == Input::State::end) return ExitCode::ok;
    std::uint64_t next = std::min(size, input_.left().value_or(size));
    // What a pipe has goes at once, and asks for no more room than it needs.
    if (!gathers) next = std::min(next, input_.available().value_or(next));
    const auto sent = !fits_one_piece(next) ? send_chunks(next, false)
                      : reads_first() ? send_by_memory(static_cast<std::size_t>(next), gathers)
                                      : send_in_place(static_cast<std::size_t>(next), gathers);
    if (!sent) return tl::unexpected(sent.error());
    if (!*sent) return ExitCode::ok;
    tick();
  }
}

Try<std::optional<channel::MessageClaim>> Sending::claim(std::size_t size) {
  using Room = std::optional<channel::MessageClaim>;
  return with_room([&](Deadline until) -> Result<Room> {
    auto claim = sender_.claim(size, until);
    if (claim) return Room(std::move(*claim));
    if (claim.error().code == Errc::full) return Room();  // the pool is dry
    return tl::unexpected(claim.error());
  });
}

Try<bool> Sending::send_in_place(std::size_t size, bool gathers) {
  auto room = claim(size);
  if (!room) return tl::unexpected(room.error());
  if (!*room) return send_chunks(size, false);
  const auto got = fill((*room)->payload(), gathers);
  if (!got) return tl::unexpected(got.error());
  if (*got == 0) return false;  // a file that became shorter
  if (const auto sent = (*room)->commit(*got); !sent) return failed(sent.error(), subject_);
  count(*got);
  return true;
}

Try<bool> Sending::send_by_memory(std::size_t size, bool gathers) {
  memory_.resize(std::max(memory_.size(), size));
  const auto got = fill(std::span(memory_).first(size), gathers);
  if (!got) return tl::unexpected(got.error());
  if (*got == 0) return false;
  const std::span<const std::byte> message = std::span(memory_).first(*got);
  const auto sent = stashes() ? put_or_stash(message) : put(message);
  if (!sent) return tl::unexpected(sent.error());
  return true;
}

// `size` bytes at most, or frame::kOpenEnded. A chunk is read where it is sent from, or first.
Try<bool> Sending::send_chunks(std::uint64_t size, bool even_if_empty,
                               std::span<const std::byte> ahead) {
  const bool is_known = !ahead.empty() || input_.left().has_value();
  auto stream = sender_.stream(is_known ? size : frame::kOpenEnded);
  if (!stream) return failed(stream.error(), subject_);
  std::uint64_t bytes = 0;
  while (!stream->done()) {
    if (ahead.empty()) {
      if (const auto state = wait_for_input(); !state) return tl::unexpected(state.error());
      if (reads_first()) {
        memory_.resize(std::max<std::size_t>(memory_.size(), channel::Tiers{}.chunk_bytes));
        const std::size_t some = std::min<std::uint64_t>(memory_.size(), size - bytes);
        const auto got = input_.read(std::span(memory_).first(some));
        if (!got) return tl::unexpected(got.error());
        ahead = std::span(memory_).first(*got);
      }
    }
    const auto body = with_room([&](Deadline until) { return stream->next(until); });
    if (!body) return tl::unexpected(body.error());
    const std::span<std::byte> room =
        body->first(static_cast<std::size_t>(std::min<std::uint64_t>(body->size(), size - bytes)));
    std::size_t got = std::min(room.size(), ahead.size());
    if (got != 0) {
      std::memcpy(room.data(), ahead.data(), got);
      ahead = ahead.subspan(got);
    } else if (!reads_first()) {
      const auto read = input_.read(room);
      if (!read) return tl::unexpected(read.error());
      got = *read;
    }
    if (stop_signal() != 0) return stopped();
    bytes += got;
    const bool at_end = got == 0 || bytes == size;
    if (bytes == 0 && !is_known && !even_if_empty) return false;
    if (got == 0 && is_known && bytes < size) {
      return tl::unexpected(
          Failure{{Errc::cancelled, "the input ended before its own size (cancelled)",
                   fmt::format("{} of {} bytes came: somebody made the file shorter",
                               grouped(bytes), grouped(size)),
                   "the receiver drops the message; send it again"},
                  ExitCode::system});
    }
    if (const auto done = stream->commit(got, !is_known && at_end); !done) {
      return failed(done.error(), subject_);
    }
    tally_.bytes += got;
    in_middle_ = !stream->done();
    tick();
  }
  tally_.records += 1;
  return true;
}

// One message that is in memory.
Try<void> Sending::put(std::span<const std::byte> message) {
  auto room = claim(message.size());
  if (!room) return tl::unexpected(room.error());
  if (!*room) {
    const auto sent = send_chunks(message.size(), true, message);
    if (!sent) return tl::unexpected(sent.error());
    return {};
  }
  if (!message.empty()) {
    std::memcpy((*room)->payload().data(), message.data(), message.size());
  }
  if (const auto sent = (*room)->commit(); !sent) return failed(sent.error(), subject_);
  count(message.size());
  return {};
}

Try<void> Sending::put_or_stash(std::span<const std::byte> message) {
  channel::SendOptions options;
  options.on_full = on_full_;
  const auto sent = sender_.send(message, options);
  if (!sent && sent.error().code == Errc::full) {
    const RoleWatch::Peer peer = ring().look_at_receiver();
    const bool is_gone = peer == RoleWatch::Peer::dead || peer == RoleWatch::Peer::left;
    if (is_gone && !receiver_.is_old_news()) {
      const Errc code = peer == RoleWatch::Peer::dead ? Errc::peer_dead : Errc::closed;
      return receiver_ended(Error{code, 0, "send: receiver"});
    }
    return failed(Error{Errc::full, 0, "stash"}, subject_);
  }
  if (!sent) return go_on_waiting(sent.error(), Deadline::now());
  put_by_.push_back(message.size());
  count_drained(sender_.stashed());
  return {};
}

// What was put by waits for room like anything else, once there is nothing more to read.
Try<void> Sending::drain_stash() {
  if (sender_.stashed() == 0) return {};
  on_full_ = channel::OnFull::wait();
  return with_room([this](Deadline until) {
    auto drained = sender_.drain(until);
    count_drained(sender_.stashed());
    return drained;
  });
}

tl::unexpected<Failure> Sending::line_too_long(std::uint64_t line) {
  return tl::unexpected(
      Failure{{Errc::too_large,
               fmt::format("line {} is longer than {} bytes; the {} lines before it were sent "
                           "(too_large)",
                           grouped(line), grouped(ring().max_payload()), grouped(tally_.records)),
               fmt::format("a record takes at most a quarter of the capacity, which is {}",
                           human_bytes(ring().link().shape().capacity)),
               "a ring with a larger --capacity; or without --lines, any bytes pass"},
              ExitCode::usage});
}

// As many lines as there is room for become visible together: one publication, at most one wake.
Try<void> Sending::send_lines(std::span<const std::span<const std::byte>> lines) {
  const bool in_groups = !reads_first();
  for (std::size_t at = 0; at < lines.size();) {
    if (in_groups) {
      auto group = ring().group();
      if (!group) return failed(group.error(), subject_);
      const std::size_t from = at;
      while (at < lines.size() && group->try_send(lines[at])) ++at;
      group->commit();
      for (std::size_t i = from; i < at; ++i) count(lines[i].size());
      if (at == lines.size()) break;
    }
    const auto sent = stashes() ? put_or_stash(lines[at]) : put(lines[at]);
    if (!sent) return sent;
    ++at;
  }
  return {};
}

Outcome Sending::pump_lines() {
  const std::size_t longest = ring().max_payload();
  std::vector<std::byte> buffer(std::max<std::size_t>(longest + 1, 256u << 10));
  std::vector<std::span<const std::byte>> lines;
  std::size_t filled = 0;
  for (bool at_end = false; !at_end;) {
    const auto state = wait_for_input();
    if (!state) return tl::unexpected(state.error());
    tick();
    at_end = *state == Input::State::end;
    if (!at_end) {
      const auto got = input_.read(std::span(buffer).subspan(filled));
      if (!got) return tl::unexpected(got.error());
      at_end = *got == 0 && stop_signal() == 0;
      filled += *got;
    }
    lines.clear();
    std::size_t begin = 0;
    while (begin < filled) {
      const void* found = std::memchr(buffer.data() + begin, '\n', filled - begin);
      if (found == nullptr && !at_end) break;
      const std::size_t end =
          found != nullptr
              ? static_cast<std::size_t>(static_cast<const std::byte*>(found) - buffer.data())
              : filled;
      if (end - begin > longest) break;
      lines.push_back(std::span(buffer).subspan(begin, end - begin));
      begin = end + 1;
    }
    if (const auto sent = send_lines(lines); !sent) return tl::unexpected(sent.error());
    begin = std::min(begin, filled);  // a last line without its newline ends at `filled`
    if (filled - begin > longest) return line_too_long(tally_.records + 1);
    std::memmove(buffer.data(), buffer.data() + begin, filled - begin);
    filled -= begin;
  }
  return ExitCode::ok;
}

}  // namespace slipring::tools

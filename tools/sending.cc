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
  Outcome outcome = pump(cut);
  if (outcome) {
    if (const auto drained = drain_stash(); !drained) outcome = tl::unexpected(drained.error());
  }
  const channel::SenderCounters counters = ring().counters();
  Summary summary{"send",
                  subject_.name,
                  ring().link().segment().backend(),
                  tally_,
                  progress_.seconds(),
                  counters.parks,
                  counters.wakes,
                  {},
                  {}};
  summary.left = sender_.close();
  summary.exit = outcome ? *outcome : outcome.error().exit;
  progress_.finish(tally_);
  print_summary(summary);
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

// The receiver ended, and we have not: that is no good end, however it left.
tl::unexpected<Failure> Sending::receiver_ended(const Error& error) const {
  auto failure = failed(error, subject_);
  failure.value().exit = ExitCode::peer_dead;
  failure.value().text.why += fmt::format("; sent so far: {} bytes in {} records",
                                          grouped(tally_.bytes), grouped(tally_.records));
  return failure;
}

Try<void> Sending::go_on_waiting(const Error& error, Deadline until) {
  const Errc code = error.code;
  if (stop_signal() != 0) return stopped();
  const bool ended = code == Errc::closed || code == Errc::peer_dead;
  if (ended && !receiver_.is_old_news()) return receiver_ended(error);
  if (!ended && code != Errc::timed_out && code != Errc::full) return failed(error, subject_);
  if (!on_full_.waits()) {
    ring().tally().refused.add();
    return failed(Error{Errc::full, 0, "send"}, subject_);
  }
  if (until.passed()) {
    ring().tally().timeouts.add();
    return failed(Error{Errc::timed_out, 0, "wait"}, subject_);
  }
  const bool alone = ring().look_at_receiver() != RoleWatch::Peer::alive;
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
  const Deadline until = on_full_.waits() ? on_full_.deadline() : Deadline::now();
  for (;;) {
    const Deadline slice = on_full_.waits() ? Deadline::in(kSlice) : Deadline::now();
    auto done = attempt(slice.or_earlier(until));
    if (done) {
      if constexpr (std::is_void_v<typename decltype(done)::value_type>)
        return {};
      else
        return std::move(*done);
    }
    if (const auto on = go_on_waiting(done.error(), until); !on) return tl::unexpected(on.error());
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
  const bool fits = size <= std::max<std::uint64_t>(ring().max_payload(), sender_.largest_block());
  for (;;) {
    const auto state = wait_for_input();
    if (!state) return tl::unexpected(state.error());
    if (*state == Input::State::end) return ExitCode::ok;
    const std::uint64_t next = std::min(size, input_.left().value_or(size));
    const auto sent = !fits       ? send_chunks(next, false)
                      : stashes() ? send_stashable(static_cast<std::size_t>(next), gathers)
                                  : send_in_place(static_cast<std::size_t>(next), gathers);
    if (!sent) return tl::unexpected(sent.error());
    if (!*sent) return ExitCode::ok;
  }
}

Try<bool> Sending::send_in_place(std::size_t size, bool gathers) {
  auto claim = with_room([&](Deadline until) { return sender_.claim(size, until); });
  if (!claim) return tl::unexpected(claim.error());
  const auto got = fill(claim->payload(), gathers);
  if (!got) return tl::unexpected(got.error());
  if (*got == 0) return false;  // the end, of an input that could not say so before
  if (const auto sent = claim->commit(*got); !sent) return failed(sent.error(), subject_);
  count(*got);
  tick();
  return true;
}

// Through private memory, since it may have to be put by.
Try<bool> Sending::send_stashable(std::size_t size, bool gathers) {
  std::vector<std::byte> message(size);
  const auto got = fill(message, gathers);
  if (!got) return tl::unexpected(got.error());
  if (*got == 0) return false;
  message.resize(*got);
  if (const auto sent = put(message); !sent) return tl::unexpected(sent.error());
  tick();
  return true;
}

// `size` bytes at most, or frame::kOpenEnded, each chunk read where it is sent from.
Try<bool> Sending::send_chunks(std::uint64_t size, bool even_if_empty) {
  const bool is_known = input_.left().has_value();
  auto stream = sender_.stream(is_known ? size : frame::kOpenEnded);
  if (!stream) return failed(stream.error(), subject_);
  std::uint64_t bytes = 0;
  while (!stream->done()) {
    if (const auto state = wait_for_input(); !state) return tl::unexpected(state.error());
    const auto body = with_room([&](Deadline until) { return stream->next(until); });
    if (!body) return tl::unexpected(body.error());
    const std::uint64_t most = std::min<std::uint64_t>(body->size(), size - bytes);
    const auto got = input_.read(body->first(static_cast<std::size_t>(most)));
    if (!got) return tl::unexpected(got.error());
    if (stop_signal() != 0) return stopped();
    bytes += *got;
    const bool at_end = *got == 0 || bytes == size;
    if (bytes == 0 && !is_known && !even_if_empty) return false;
    if (*got == 0 && is_known && bytes < size) {
      return tl::unexpected(
          Failure{{Errc::cancelled, "the input ended before its own size (cancelled)",
                   fmt::format("{} of {} bytes came: somebody made the file shorter",
                               grouped(bytes), grouped(size)),
                   "the receiver drops the message; send it again"},
                  ExitCode::system});
    }
    if (const auto done = stream->commit(*got, !is_known && at_end); !done) {
      return failed(done.error(), subject_);
    }
    tally_.bytes += *got;
    tick();
  }
  tally_.records += 1;
  return true;
}

// One message that is in memory, by the policy.
Try<void> Sending::put(std::span<const std::byte> message) {
  if (stashes()) {
    channel::SendOptions options;
    options.on_full = on_full_;
    const auto sent = sender_.send(message, options);
    if (!sent && sent.error().code != Errc::full) {
      return go_on_waiting(sent.error(), Deadline::now());
    }
    if (!sent) return failed(Error{Errc::full, 0, "stash"}, subject_);
  } else {
    const auto sent = with_room([&](Deadline until) { return ring().send(message, until); });
    if (!sent) return sent;
  }
  count(message.size());
  return {};
}

// What was put by waits for room like anything else, once there is nothing more to read.
Try<void> Sending::drain_stash() {
  if (sender_.stashed() == 0) return {};
  on_full_ = channel::OnFull::wait();
  return with_room([this](Deadline until) { return sender_.drain(until); });
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
  const bool in_groups = !stashes() && ring().link().shape().form != channel::RingForm::total;
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
    if (const auto sent = put(lines[at++]); !sent) return sent;
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

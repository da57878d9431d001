// SPDX-License-Identifier: Apache-2.0
// The work of `slipring recv`: writev(2) straight from the ring, a block, or what was put together.
#include "receiving.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "rows.h"
#include "sizes.h"
#include "stop.h"

namespace slipring::tools {
namespace {

constexpr std::size_t kBatch = 256;    // with a newline each, half of what writev takes
constexpr std::size_t kIovMax = 1024;  // and what it takes
char g_newline = '\n';

std::string name_of(const ProcessToken& who) {
  if (who.pid == 0) return "one whose name is not known";
  return fmt::format("{}({})", who.command[0] != 0 ? printable(who.command) : "pid", who.pid);
}

// Of the errors of a peek, those behind which the next one goes on: a message that broke a rule or
// a limit, or a block that its reference does not fit.
bool is_about_one_message(const Error& error) {
  const std::string_view op = error.op;
  return op.starts_with("message: ") || op.starts_with("pool: ");
}

}  // namespace

tl::unexpected<Failure> output_failed(int sys) {
  errno = sys;
  std::string why;
  std::string fix = "what was not written stays in the ring: receive again";
  if (sys == EPIPE) why = "the program that reads our output has ended";
  if (sys == EBADF) why = "it was closed before we started", fix = "slipring recv NAME >FILE";
  if (sys == ENOSPC) fix = "df shows which file system is full; " + fix;
  return failed_call("cannot write to standard output", "write", std::move(why), std::move(fix));
}

Receiving::Receiving(const ReceiveOptions& opt, Subject subject, channel::MessageReceiver receiver)
    : opt_(opt),
      subject_(std::move(subject)),
      receiver_(std::move(receiver)),
      sender_(ring().link().body(), channel::End::producer, is_sender_gone(), has_news()),
      progress_(opt.shows_progress, printable(subject_.name), std::nullopt) {}

Outcome Receiving::run() {
  aborted_seen_ = ring().tally().aborted.value();
  Outcome outcome = pump();
  Summary summary;
  summary.command = "recv";
  summary.name = subject_.name;
  summary.kind = ring().link().segment().backend();
  summary.tally = tally_;
  summary.seconds = progress_.seconds();
  summary.parks = ring().counters().parks;
  summary.lost = lost_;
  summary.died = died_;
  summary.left = receiver_.close();
  summary.exit = outcome ? *outcome : outcome.error().exit;
  progress_.finish(tally_);
  print_summary(summary);
  return outcome;
}

bool Receiving::is_sender_gone() {
  const RoleWatch::Peer peer = ring().look_at_sender();
  return peer == RoleWatch::Peer::left || peer == RoleWatch::Peer::dead;
}

// A sender that ended before we came counts if it left something, or if nobody received before.
bool Receiving::has_news() {
  auto found = ring().try_peek();
  if (!found) return ring().link().predecessor() == ring::Predecessor::none;
  found->keep();
  return true;
}

Try<void> Receiving::write_all(std::span<iovec> parts) {
  while (!parts.empty()) {
    const std::size_t some = std::min(parts.size(), kIovMax);
    const ssize_t n = ::writev(STDOUT_FILENO, parts.data(), static_cast<int>(some));
    if (n < 0 && errno == EAGAIN) {  // somebody made our standard output non-blocking
      pollfd poll{STDOUT_FILENO, POLLOUT, 0};
      ::poll(&poll, 1, static_cast<int>(kSlice.count()));
    } else if (n < 0 && errno != EINTR) {
      return output_failed(errno);
    }
    if (n < 0) {
      if (stop_signal() != 0) return stopped();
      continue;
    }
    auto left = static_cast<std::size_t>(n);
    while (!parts.empty() && left >= parts.front().iov_len) {
      left -= parts.front().iov_len;
      parts = parts.subspan(1);
    }
    if (!parts.empty()) {
      parts.front().iov_base = static_cast<std::byte*>(parts.front().iov_base) + left;
      parts.front().iov_len -= left;
    }
  }
  return {};
}

// Writes and gives back in portions, so that the sender goes on while we write the next one.
Try<void> Receiving::deliver(Records records) {
  std::array<iovec, 2 * kBatch> parts;
  const std::uint64_t portion = ring().link().shape().capacity / 8;
  while (!records.empty()) {
    std::size_t taken = 0;
    std::size_t used = 0;
    std::uint64_t bytes = 0;
    while (taken < records.size() && (taken == 0 || bytes < portion)) {
      const std::span<const std::byte> payload = records[taken++].payload;
      parts[used++] = {const_cast<std::byte*>(payload.data()), payload.size()};
      if (opt_.lines) parts[used++] = {&g_newline, 1};
      bytes += payload.size();
    }
    if (const auto written = write_all(std::span(parts).first(used)); !written) return written;
    receiver_.release_plain(records[taken - 1]);
    tally_.bytes += bytes;
    tally_.records += taken;
    records = records.subspan(taken);
  }
  return {};
}

// A message, or a part of one, that does not lie in a record of its own.
Try<void> Receiving::deliver(channel::Incoming& message) {
  const bool is_part = !(message.is_first() && message.is_last());
  if (is_part && message.is_first() && message.total() != frame::kOpenEnded) {
    progress_.expect(tally_.bytes + message.total());
  }
  std::vector<iovec> parts(message.parts().begin(), message.parts().end());
  if (opt_.lines && message.is_last()) parts.push_back({&g_newline, 1});
  if (const auto written = write_all(parts); !written) {
    message.keep();
    return written;
  }
  tally_.bytes += message.size();
  open_bytes_ += message.size();
  if (message.is_last()) {
    tally_.records += 1;
    open_bytes_ = 0;
    progress_.expect(std::nullopt);
  }
  message.release();
  return {};
}

Result<bool> Receiving::take(Deadline until) {
  std::array<ring::Record, kBatch> batch;
  std::size_t limit = kBatch;
  if (opt_.count != 0) limit = std::min<std::uint64_t>(limit, opt_.count - tally_.records);
  const auto plain = receiver_.peek_plain(std::span(batch).first(limit), until);
  if (!plain) return tl::unexpected(plain.error());
  Try<void> done;
  if (*plain != 0) {
    progress_.starts();
    done = deliver(Records(batch.data(), *plain));
  } else {
    auto message = receiver_.peek(until);
    if (!message) return tl::unexpected(message.error());
    progress_.starts();
    done = deliver(*message);
  }
  progress_.moved();
  if (!done) output_ = done.error();
  return opt_.count != 0 && tally_.records == opt_.count;
}

// Between two looks at the ring, when nothing is there. A reader of our output that is gone counts
// only when there is more to write: `tar x` ends at the end of the archive, before we do.
Try<void> Receiving::between() {
  if (stop_signal() != 0) return stopped();
  const bool alone = ring().look_at_sender() != RoleWatch::Peer::alive;
  if (alone && name_.is_gone(ring().link().segment())) {
    return failed(Error{Errc::segment_lost, 0, "wait"}, subject_);
  }
  if (give_up_.passed()) return failed(Error{Errc::timed_out, 0, "wait"}, subject_);
  progress_.tick(tally_, [this] { return ring().approx_backlog(); });
  return {};
}

bool Receiving::another_sender_comes() {
  const Deadline until = Deadline::in(opt_.linger);
  while (!sender_.has_changed()) {
    if (until.passed() || stop_signal() != 0) return false;
    nap(std::chrono::milliseconds(5));
  }
  sender_.remember();
  return true;
}

// A note would end up in the middle of the progress line. A sender that does nothing right does not
// fill our terminal.
void Receiving::tell_of_loss(const std::string& line) {
  constexpr std::uint64_t kTold = 8;
  if (lost_ > kTold) return;
  progress_.clear();
  note(lost_ == kTold ? line + "; more are counted in silence" : line);
}

// The death of one of many ends nothing while others live, and is not passed over in silence.
void Receiving::note_departed() {
  while (const auto departed = receiver_.next_departed()) {
    dead_.push_back(departed->who);
    died_ += 1;
    progress_.clear();
    note(fmt::format("sender {} died; what it had finished was delivered", name_of(departed->who)));
  }
}

// What is put together in memory goes in silence when its sender ends in the middle. Of one sender
// the parts are out, and take() fails.
void Receiving::note_given_up() {
  const std::uint64_t now = ring().tally().aborted.value();
  const std::uint64_t lost = now - std::exchange(aborted_seen_, now);
  if (lost == 0 || ring().link().shape().form == channel::RingForm::lane) return;
  lost_ += lost;
  tell_of_loss(fmt::format("{} dropped: its sender ended in the middle", counted(lost, "message")));
  if (first_loss_) return;
  first_loss_ = failed(Error{Errc::cancelled, 0, "message: given up"}, subject_).value();
}

std::string Receiving::so_far() const {
  return fmt::format("{} bytes in {}", grouped(tally_.bytes), counted(tally_.records, "record"));
}

// `error` is about one message: the next look at the ring goes on behind it.
std::optional<Outcome> Receiving::lose_message(const Error& error) {
  Subject subject = subject_;
  subject.message_bytes = opt_.message_limit;
  // A receiver before us got its beginning and ended; whoever sent it has not done anything wrong.
  const bool was_begun = std::string_view(error.op) == "message: gap";
  Failure failure =
      failed(was_begun ? Error{Errc::cancelled, 0, error.op} : error, subject).value();
  lost_ += 1;
  if (error.code == Errc::cancelled && open_bytes_ != 0) {
    failure.text.what = fmt::format("a sender gave a message up after {} bytes of it (cancelled)",
                                    grouped(open_bytes_));
  }
  // Parts of it are out: what follows would be taken for the rest.
  if (open_bytes_ != 0) return tl::unexpected(std::move(failure));
  const std::string prefix = fmt::format("cannot {} {}: ", subject.action, printable(subject.name));
  const bool has_prefix = failure.text.what.starts_with(prefix);
  tell_of_loss("dropped: " + failure.text.what.substr(has_prefix ? prefix.size() : 0));
  if (!first_loss_) first_loss_ = std::move(failure);
  return std::nullopt;
}

tl::unexpected<Failure> Receiving::sender_died(const Error& error) {
  Failure failure = failed(error, subject_).value();
  if (dead_.empty()) {
    std::string who = "the sender";
    if (const auto token = load_token(ring().link().body().sender_role(0).token)) {
      who = "sender " + name_of(*token);
    }
    died_ = 1;
    lost_ += open_bytes_ != 0 ? 1 : 0;
    failure.text.what =
        fmt::format("{} died {}after {} (peer_dead)", who,
                    open_bytes_ != 0 ? "in the middle of a message, " : "", so_far());
  } else {
    constexpr std::size_t kShown = 4;
    std::string who;
    for (std::size_t i = 0; i < std::min(dead_.size(), kShown); ++i) {
      who += (i == 0 ? "" : ", ") + name_of(dead_[i]);
    }
    if (dead_.size() > kShown) who += fmt::format(" and {} more", dead_.size() - kShown);
    failure.text.what = fmt::format("{} died: {}; {} came from all together (peer_dead)",
                                    counted(dead_.size(), "sender"), who, so_far());
  }
  failure.text.why = fmt::format(
      "the kernel reports {} gone; all that {} had committed was delivered",
      dead_.size() > 1 ? "these processes" : "that process", dead_.size() > 1 ? "they" : "it");
  if (open_bytes_ != 0) {
    failure.text.why +=
        fmt::format(", {} bytes of an unfinished message at the end", grouped(open_bytes_));
  } else if (lost_ != 0) {
    failure.text.why += fmt::format(", but {} that never became whole", counted(lost_, "message"));
  } else {
    failure.text.why += ", the rest never came";
  }
  failure.text.fix =
      fmt::format("start the sender again: slipring send {}; nothing has to be repaired",
                  printable(subject_.name));
  return tl::unexpected(std::move(failure));
}

// The end of a stream in which something was lost is not a good one.
Outcome Receiving::complete() const {
  if (!first_loss_) return ExitCode::ok;
  Failure failure = *first_loss_;
  if (lost_ > 1)
    failure.text.why += fmt::format("; {} were lost in all", counted(lost_, "message"));
  return tl::unexpected(std::move(failure));
}

std::optional<Outcome> Receiving::pause(const Error& error) {
  if (is_about_one_message(error)) return lose_message(error);
  const bool ended = error.code == Errc::closed || error.code == Errc::peer_dead;
  if (!ended && error.code != Errc::timed_out) return failed(error, subject_);
  if (ended && !sender_.is_old_news()) {
    if (error.code == Errc::peer_dead) return sender_died(error);
    // It had no room to say that it gave the message up.
    if (open_bytes_ != 0) return lose_message(Error{Errc::cancelled, 0, "message: given up"});
    sender_.remember();
    if (another_sender_comes()) return std::nullopt;
    return stop_signal() != 0 ? Outcome(stopped()) : complete();
  }
  if (const auto go_on = between(); !go_on) return tl::unexpected(go_on.error());
  if (ended) nap(std::chrono::milliseconds(10));
  return std::nullopt;
}

Outcome Receiving::pump() {
  restart_timeout();
  for (;;) {
    if (stop_signal() != 0) return stopped();
    const auto enough = take(give_up_.or_earlier(Deadline::in(kSlice)));
    note_departed();
    note_given_up();
    if (!enough) {
      if (auto over = pause(enough.error())) return *std::move(over);
      continue;
    }
    if (output_) return tl::unexpected(*output_);
    if (*enough) return complete();
    progress_.tick(tally_, [this] { return ring().approx_backlog(); });
    restart_timeout();
  }
}

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
// `slipring recv`: a lane to standard output, writev(2) straight from the ring.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>

#include "commands.h"
#include "lane_flags.h"
#include "progress.h"
#include "selector.h"
#include "sizes.h"
#include "slipring/channel/shm.h"
#include "stop.h"
#include "transfer.h"

namespace slipring::tools {
namespace {

constexpr const char* kCommand = "slipring recv";
constexpr std::size_t kBatch = 256;  // with a newline each, half of what writev takes

struct RecvOptions {
  std::string name;
  LaneFlags lane;
  std::string timeout;
  std::string linger = "300ms";
  std::uint64_t count = 0;  // 0: no limit
  bool lines = false;
  bool progress = false;
};

tl::unexpected<Failure> output_failed(int sys) {
  errno = sys;
  std::string why;
  std::string fix = "what was not written stays in the lane: receive again";
  if (sys == EPIPE) why = "the program that reads our output has ended";
  if (sys == EBADF) why = "it was closed before we started", fix = "slipring recv NAME >FILE";
  if (sys == ENOSPC) fix = "df shows which file system is full; " + fix;
  return failed_call("cannot write to standard output", "write", std::move(why), std::move(fix));
}

class Receiving {
 public:
  struct Waits {
    std::optional<std::chrono::nanoseconds> timeout;
    std::chrono::nanoseconds linger;
  };
  Receiving(const RecvOptions& opt, Subject subject, channel::ShmReceiver receiver, Waits waits)
      : opt_(opt),
        subject_(std::move(subject)),
        receiver_(std::move(receiver)),
        waits_(waits),
        sender_(receiver_.link().parts().producer_role().word, is_sender_gone(), has_news()),
        progress_(opt.progress, printable(opt.name), std::nullopt) {}

  [[nodiscard]] Outcome run() {
    Outcome outcome = pump();
    const channel::ReceiverCounters counters = receiver_.counters();
    Summary summary{"recv",
                    opt_.name,
                    receiver_.link().segment().backend(),
                    tally_,
                    progress_.seconds(),
                    counters.parks,
                    {},
                    {},
                    {}};
    summary.left = receiver_.close();
    summary.exit = outcome ? *outcome : outcome.error().exit;
    progress_.finish(tally_);
    print_summary(summary);
    return outcome;
  }

 private:
  using Records = std::span<const ring::Record>;

  [[nodiscard]] bool is_sender_gone() {
    const RoleWatch::Peer peer = receiver_.look_at_sender();
    return peer == RoleWatch::Peer::left || peer == RoleWatch::Peer::dead;
  }
  // A sender that ended before we came counts if it left something, or if nobody received before.
  [[nodiscard]] bool has_news() {
    const auto found = receiver_.try_peek();
    if (!found) return receiver_.link().predecessor() == ring::Predecessor::none;
    const_cast<channel::ShmMessage&>(*found).keep();
    return true;
  }

  [[nodiscard]] Outcome pump();
  [[nodiscard]] Try<void> deliver(Records records);
  [[nodiscard]] Try<void> write_all(std::span<iovec> parts);
  [[nodiscard]] Try<void> between();
  [[nodiscard]] bool another_sender_comes();
  [[nodiscard]] tl::unexpected<Failure> sender_died(const Error& error) const;

  const RecvOptions& opt_;
  Subject subject_;
  channel::ShmReceiver receiver_;
  Waits waits_;
  PeerHistory sender_;
  NameWatch name_;
  Progress progress_;
  Tally tally_;
  Deadline give_up_ = Deadline::never();
};

Try<void> Receiving::write_all(std::span<iovec> parts) {
  while (!parts.empty()) {
    const ssize_t n = ::writev(STDOUT_FILENO, parts.data(), static_cast<int>(parts.size()));
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

// Writes and releases in portions, so that the sender goes on while we write the next one.
Try<void> Receiving::deliver(Records records) {
  static char newline = '\n';
  std::array<iovec, 2 * kBatch> parts;
  const std::uint64_t portion = receiver_.link().geometry().capacity / 8;
  while (!records.empty()) {
    std::size_t taken = 0;
    std::size_t used = 0;
    std::uint64_t bytes = 0;
    while (taken < records.size() && (taken == 0 || bytes < portion)) {
      const std::span<const std::byte> payload = records[taken++].payload;
      parts[used++] = {const_cast<std::byte*>(payload.data()), payload.size()};
      if (opt_.lines) parts[used++] = {&newline, 1};
      bytes += payload.size();
    }
    if (const auto written = write_all(std::span(parts).first(used)); !written) return written;
    receiver_.release(records[taken - 1]);
    tally_.bytes += bytes;
    tally_.records += taken;
    records = records.subspan(taken);
  }
  return {};
}

// Between two looks at the lane, when nothing is there. A reader of our output that is gone counts
// only when there is more to write: `tar x` ends at the end of the archive, before we do.
Try<void> Receiving::between() {
  if (stop_signal() != 0) return stopped();
  const bool alone = receiver_.look_at_sender() != RoleWatch::Peer::alive;
  if (alone && name_.is_gone(receiver_.link().segment())) {
    return failed(Error{Errc::segment_lost, 0, "wait"}, subject_);
  }
  if (give_up_.passed()) return failed(Error{Errc::timed_out, 0, "wait"}, subject_);
  progress_.tick(tally_, [this] { return receiver_.approx_backlog(); });
  return {};
}

bool Receiving::another_sender_comes() {
  const Deadline until = Deadline::in(waits_.linger);
  while (!sender_.has_changed()) {
    if (until.passed() || stop_signal() != 0) return false;
    nap(std::chrono::milliseconds(5));
  }
  sender_.remember();
  return true;
}

tl::unexpected<Failure> Receiving::sender_died(const Error& error) const {
  auto failure = failed(error, subject_);
  const auto token = load_token(receiver_.link().parts().producer_role().token);
  const std::string who =
      token ? fmt::format(" {}({})", printable(token->command), token->pid) : std::string();
  failure.value().text.what = fmt::format("sender{} died after {} bytes in {} records (peer_dead)",
                                          who, grouped(tally_.bytes), grouped(tally_.records));
  failure.value().text.why =
      "the kernel reports that process gone; all that it committed was delivered, the rest never "
      "came";
  failure.value().text.fix = fmt::format(
      "start the sender again: slipring send {}; nothing has to be repaired", printable(opt_.name));
  return failure;
}

Outcome Receiving::pump() {
  std::array<ring::Record, kBatch> batch;
  const auto restart_timeout = [this] {
    if (waits_.timeout) give_up_ = Deadline::in(*waits_.timeout);
  };
  restart_timeout();
  for (;;) {
    if (stop_signal() != 0) return stopped();
    std::size_t limit = kBatch;
    if (opt_.count != 0) limit = std::min<std::uint64_t>(limit, opt_.count - tally_.records);
    const auto found = receiver_.peek_many(std::span(batch).first(limit),
                                           give_up_.or_earlier(Deadline::in(kSlice)));
    if (found) {
      if (const auto done = deliver(Records(batch.data(), *found)); !done) {
        return tl::unexpected(done.error());
      }
      if (opt_.count != 0 && tally_.records == opt_.count) return ExitCode::ok;
      progress_.tick(tally_, [this] { return receiver_.approx_backlog(); });
      restart_timeout();
      continue;
    }
    const Errc code = found.error().code;
    const bool ended = code == Errc::closed || code == Errc::peer_dead;
    if (!ended && code != Errc::timed_out) return failed(found.error(), subject_);
    if (ended && !sender_.is_old_news()) {
      if (code == Errc::peer_dead) return sender_died(found.error());
      sender_.remember();
      if (!another_sender_comes()) return stop_signal() != 0 ? Outcome(stopped()) : ExitCode::ok;
      continue;
    }
    if (const auto go_on = between(); !go_on) return tl::unexpected(go_on.error());
    if (ended) nap(std::chrono::milliseconds(10));
  }
}

Result<channel::ShmReceiver> attach(const Selector& selector, const channel::LaneOptions& options) {
  if (selector.by == Selector::By::name) {
    return channel::ShmReceiver::open_or_create(selector.name, options);
  }
  auto segment = open_selected(selector, segment::OpenMode::read_write);
  if (!segment) return tl::unexpected(segment.error());
  return channel::ShmReceiver::attach(std::move(*segment), options);
}

Outcome run_recv(const RecvOptions& opt) {
  const auto options = lane_options(opt.lane, kCommand);
  if (!options) return tl::unexpected(options.error());
  const auto timeout = duration_flag(opt.timeout, "--timeout", kCommand);
  if (!timeout) return tl::unexpected(timeout.error());
  const auto linger = duration_flag(opt.linger, "--linger", kCommand);
  if (!linger) return tl::unexpected(linger.error());
  Subject subject(opt.name, "receive from");
  subject.command = kCommand;
  subject.end = channel::End::consumer;
  subject.options = *options;
  const auto selector = parse_selector(opt.name, subject, false);
  if (!selector) return tl::unexpected(selector.error());
  if (selector->by == Selector::By::name) subject.name = selector->name;
  if (closed_at_start().out) return output_failed(EBADF);

  catch_stop_signals();
  auto receiver = attach(*selector, *options);
  if (!receiver) return failed(receiver.error(), subject);
  note_difference(opt.lane, *options, receiver->link(), opt.name);
  Receiving receiving(opt, std::move(subject), std::move(*receiver),
                      {*timeout, linger->value_or(std::chrono::nanoseconds(0))});
  return receiving.run();
}

}  // namespace

void add_recv(CLI::App& app, Job& job) {
  auto opt = std::make_shared<RecvOptions>();
  CLI::App* sub = app.add_subcommand("recv", "Receive from a lane to standard output");
  sub->add_option("name", opt->name, "the lane; made when nobody did yet")
      ->required()
      ->type_name("NAME");
  sub->add_flag("--lines", opt->lines, "a newline behind each record");
  sub->add_option("-c,--count", opt->count, "end after that many records")->type_name("N");
  sub->add_option("--timeout", opt->timeout, "longest wait for a record")->type_name("TIME");
  sub->add_option("--linger", opt->linger,
                  "wait for another sender after the last has closed (default 300ms)")
      ->type_name("TIME");
  sub->add_flag("--progress", opt->progress, "show what goes through, on a terminal");
  sub->add_flag("-J,--json", voice().json, "summary and errors as JSON, on stderr");
  add_lane_flags(*sub, opt->lane, false);
  sub->footer(
      "It ends with 0 when every sender has closed, with 7 when one died.\n\n"
      "Example:\n  slipring recv backup | tar x");
  sub->callback([opt, &job] { job = [opt] { return run_recv(*opt); }; });
}

}  // namespace slipring::tools

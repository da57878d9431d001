// SPDX-License-Identifier: Apache-2.0
// `slipring send`: a file or standard input into a lane, read(2) straight into the claimed room.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "commands.h"
#include "input.h"
#include "lane_flags.h"
#include "progress.h"
#include "selector.h"
#include "sizes.h"
#include "slipring/channel/shm.h"
#include "stop.h"
#include "transfer.h"

namespace slipring::tools {
namespace {

constexpr std::uint64_t kDefaultRecord = std::uint64_t{64} << 10;
constexpr const char* kCommand = "slipring send";

struct SendOptions {
  std::string name;
  std::string file = "-";
  LaneFlags lane;
  std::string record;
  std::string timeout;
  bool lines = false;
  bool try_once = false;
  bool progress = false;
};

class Sending {
 public:
  Sending(const SendOptions& opt, Subject subject, Input input, channel::ShmSender sender,
          std::optional<std::chrono::nanoseconds> timeout)
      : opt_(opt),
        subject_(std::move(subject)),
        input_(std::move(input)),
        sender_(std::move(sender)),
        timeout_(timeout),
        receiver_(sender_.link().parts().consumer_role().word, is_receiver_gone(), false),
        progress_(opt.progress, printable(opt.name), input_.size()) {}

  [[nodiscard]] Outcome run(std::size_t record) {
    Outcome outcome = opt_.lines ? pump_lines() : pump_bytes(record);
    const channel::SenderCounters counters = sender_.counters();
    Summary summary{"send",
                    opt_.name,
                    sender_.link().segment().backend(),
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
    if (outcome && summary.left == channel::LaneLink::Left::unread && voice().verbose) {
      note(fmt::format("{} keeps what nobody has read yet; slipring recv {} gets it",
                       printable(opt_.name), printable(opt_.name)));
    }
    return outcome;
  }

 private:
  [[nodiscard]] bool is_receiver_gone() {
    const RoleWatch::Peer peer = sender_.look_at_receiver();
    return peer == RoleWatch::Peer::left || peer == RoleWatch::Peer::dead;
  }
  void tick() {
    progress_.tick(tally_, [this] { return sender_.approx_backlog(); });
  }
  void count(std::size_t bytes) {
    tally_.bytes += bytes;
    tally_.records += 1;
  }

  // The receiver ended, and we have not: that is no good end, however it left.
  [[nodiscard]] tl::unexpected<Failure> receiver_ended(const Error& error) const {
    auto failure = failed(error, subject_);
    failure.value().exit = ExitCode::peer_dead;
    failure.value().text.why += fmt::format("; sent so far: {} bytes in {} records",
                                            grouped(tally_.bytes), grouped(tally_.records));
    return failure;
  }

  // Runs `attempt`, a call that may find no room, until it succeeds or there is a reason not to
  // wait. `attempt(Deadline)` returns a Result.
  template <typename Attempt>
  auto with_room(Attempt&& attempt)
      -> Try<typename decltype(attempt(Deadline::now()))::value_type> {
    const Deadline until = timeout_ ? Deadline::in(*timeout_) : Deadline::never();
    for (;;) {
      const Deadline slice = opt_.try_once ? Deadline::now() : Deadline::in(kSlice);
      auto done = attempt(slice.or_earlier(until));
      if (done) {
        if constexpr (std::is_void_v<typename decltype(done)::value_type>)
          return {};
        else
          return std::move(*done);
      }
      const Errc code = done.error().code;
      if (stop_signal() != 0) return stopped();
      const bool ended = code == Errc::closed || code == Errc::peer_dead;
      if (ended && !receiver_.is_old_news()) return receiver_ended(done.error());
      if (!ended && code != Errc::timed_out && code != Errc::full) {
        return failed(done.error(), subject_);
      }
      if (opt_.try_once) return failed(Error{Errc::full, 0, "send"}, subject_);
      if (until.passed()) return failed(Error{Errc::timed_out, 0, "wait"}, subject_);
      const bool alone = sender_.look_at_receiver() != RoleWatch::Peer::alive;
      if (alone && name_.is_gone(sender_.link().segment())) {
        return failed(Error{Errc::segment_lost, 0, "wait"}, subject_);
      }
      if (ended) nap(std::chrono::milliseconds(10));
      tick();
    }
  }

  [[nodiscard]] Outcome pump_bytes(std::size_t record);
  [[nodiscard]] Outcome pump_lines();
  [[nodiscard]] Try<void> send_lines(std::span<const std::span<const std::byte>> lines);
  [[nodiscard]] tl::unexpected<Failure> line_too_long(std::uint64_t line) const;

  const SendOptions& opt_;
  Subject subject_;
  Input input_;
  channel::ShmSender sender_;
  std::optional<std::chrono::nanoseconds> timeout_;
  PeerHistory receiver_;
  NameWatch name_;
  Progress progress_;
  Tally tally_;
};

Outcome Sending::pump_bytes(std::size_t record) {
  for (;;) {
    if (stop_signal() != 0) return stopped();
    const Input::State state = input_.wait(kSlice);
    if (state == Input::State::end) return ExitCode::ok;
    if (state == Input::State::nothing_yet) {
      sender_.flush();
      tick();
      continue;
    }
    const std::size_t size = input_.next_size(record);
    auto claim = with_room([&](Deadline until) { return sender_.claim(size, until); });
    if (!claim) return tl::unexpected(claim.error());
    const auto got = input_.read(claim->payload());
    if (!got) return tl::unexpected(got.error());
    if (*got == 0) {  // the end, of an input that could not say so before
      claim->abort();
      if (stop_signal() != 0) return stopped();
      return ExitCode::ok;
    }
    claim->commit(*got);
    count(*got);
    tick();
  }
}

tl::unexpected<Failure> Sending::line_too_long(std::uint64_t line) const {
  const std::uint64_t limit = sender_.max_payload();
  return tl::unexpected(
      Failure{{Errc::too_large,
               fmt::format("line {} is longer than {} bytes; the {} lines before it were sent "
                           "(too_large)",
                           grouped(line), grouped(limit), grouped(tally_.records)),
               fmt::format("a record takes at most a quarter of the capacity, which is {}",
                           human_bytes(sender_.link().geometry().capacity)),
               "a lane with a larger --capacity; or without --lines, any bytes pass"},
              ExitCode::usage});
}

// As many lines as there is room for become visible together: one publication, at most one wake.
Try<void> Sending::send_lines(std::span<const std::span<const std::byte>> lines) {
  std::size_t at = 0;
  while (at < lines.size()) {
    auto group = sender_.group();
    if (!group) return failed(group.error(), subject_);
    const std::size_t from = at;
    while (at < lines.size() && group->try_send(lines[at])) ++at;
    group->commit();
    for (std::size_t i = from; i < at; ++i) count(lines[i].size());
    if (at == lines.size()) break;
    const auto sent = with_room([&](Deadline until) { return sender_.send(lines[at], until); });
    if (!sent) return sent;
    count(lines[at++].size());
  }
  return {};
}

Outcome Sending::pump_lines() {
  const std::size_t longest = sender_.max_payload();
  std::vector<std::byte> buffer(std::max<std::size_t>(longest + 1, 256u << 10));
  std::vector<std::span<const std::byte>> lines;
  std::size_t filled = 0;
  for (bool at_end = false; !at_end;) {
    if (stop_signal() != 0) return stopped();
    const Input::State state = input_.wait(kSlice);
    tick();
    if (state == Input::State::nothing_yet) {
      sender_.flush();
      continue;
    }
    at_end = state == Input::State::end;
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

// Checks --record against the lane, or against what would be made: before anything is made.
Try<std::size_t> record_size(const std::optional<std::uint64_t>& asked, const Subject& subject,
                             const Selector& selector) {
  std::uint64_t capacity = subject.options.capacity;
  if (const auto existing = open_selected(selector, segment::OpenMode::read_only)) {
    const auto parts = channel::LaneParts::of(existing->body());
    const auto geometry = parts ? ring::load_geometry<NativeAccess>(parts->areas.producer)
                                : Result<ring::LaneGeometry>(tl::unexpected(parts.error()));
    if (geometry) capacity = geometry->capacity;
  }
  if (!asked) return std::min(kDefaultRecord, capacity / 4);
  if (*asked == 0) {
    return usage("bad size '0' for --record", "records of no bytes would never end",
                 fmt::format("{} {} --record 64K", kCommand, printable(subject.name)));
  }
  if (*asked <= capacity / 4) return static_cast<std::size_t>(*asked);
  Subject with_record = subject;
  with_record.record_bytes = *asked;
  return failed(Error{Errc::too_large, 0, "lane: claim"}, with_record);
}

Result<channel::ShmSender> attach(const Selector& selector, const channel::LaneOptions& options) {
  if (selector.by == Selector::By::name) {
    return channel::ShmSender::open_or_create(selector.name, options);
  }
  auto segment = open_selected(selector, segment::OpenMode::read_write);
  if (!segment) return tl::unexpected(segment.error());
  return channel::ShmSender::attach(std::move(*segment), options);
}

Outcome run_send(const SendOptions& opt) {
  auto options = lane_options(opt.lane, kCommand);
  if (!options) return tl::unexpected(options.error());
  const auto record = size_flag(opt.record, "--record", kCommand);
  if (!record) return tl::unexpected(record.error());
  const auto timeout = duration_flag(opt.timeout, "--timeout", kCommand);
  if (!timeout) return tl::unexpected(timeout.error());
  Subject subject(opt.name, "send to");
  subject.command = kCommand;
  subject.end = channel::End::producer;
  subject.options = *options;
  const auto selector = parse_selector(opt.name, subject, false);
  if (!selector) return tl::unexpected(selector.error());
  if (selector->by == Selector::By::name) subject.name = selector->name;

  // The input first: when it cannot be read, no object is left behind.
  auto input = Input::open(opt.file, closed_at_start().in);
  if (!input) return tl::unexpected(input.error());
  const auto size = record_size(*record, subject, *selector);
  if (!size) return tl::unexpected(size.error());
  catch_stop_signals();
  auto sender = attach(*selector, *options);
  if (!sender) return failed(sender.error(), subject);
  note_difference(opt.lane, *options, sender->link(), opt.name);
  // Another one may have made it meanwhile, smaller than what we looked at.
  if (*record && **record > sender->max_payload()) {
    subject.record_bytes = **record;
    return failed(Error{Errc::too_large, 0, "lane: claim"}, subject);
  }
  const std::size_t fitting = std::min<std::size_t>(*size, sender->max_payload());
  Sending sending(opt, std::move(subject), std::move(*input), std::move(*sender), *timeout);
  return sending.run(fitting);
}

}  // namespace

void add_send(CLI::App& app, Job& job) {
  auto opt = std::make_shared<SendOptions>();
  CLI::App* sub = app.add_subcommand("send", "Send a file or standard input into a lane");
  sub->add_option("name", opt->name, "the lane; made when nobody did yet")
      ->required()
      ->type_name("NAME");
  sub->add_option("file", opt->file, "what to send; - is standard input")->type_name("FILE");
  auto* record =
      sub->add_option("--record", opt->record,
                      "bytes per record (default 64K, at most a quarter of the capacity)")
          ->type_name("SIZE");
  sub->add_flag("--lines", opt->lines, "a record per line")->excludes(record);
  sub->add_option("--timeout", opt->timeout, "longest wait for room")->type_name("TIME");
  sub->add_flag("--try", opt->try_once, "do not wait for room: end with 5 when it is full");
  sub->add_flag("--progress", opt->progress, "show what goes through, on a terminal");
  sub->add_flag("-J,--json", voice().json, "summary and errors as JSON, on stderr");
  add_lane_flags(*sub, opt->lane, false);
  sub->footer(
      "Example:\n  tar c DIR | slipring send backup        # and: slipring recv backup | tar x");
  sub->callback([opt, &job] { job = [opt] { return run_send(*opt); }; });
}

}  // namespace slipring::tools

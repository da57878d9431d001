// SPDX-License-Identifier: Apache-2.0
// `slipring recv`: a ring to standard output.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "attachments.h"
#include "commands.h"
#include "receiving.h"
#include "ring_flags.h"
#include "selector.h"
#include "sizes.h"
#include "stop.h"

namespace slipring::tools {
namespace {

constexpr const char* kRecvCommand = "slipring recv";
constexpr std::uint64_t kMostPerMessage = std::uint64_t{1} << 40;

struct RecvOptions {
  std::string name;
  RingFlags ring;
  std::string timeout;
  std::string linger = "300ms";
  std::string message_size;
  std::string count;
  ReceiveOptions receive;
};

Result<channel::ShmReceiver> attach_receiver(const Selector& selector,
                                             const channel::ShmOptions& options) {
  if (selector.by == Selector::By::name) {
    return channel::ShmReceiver::open_or_create(selector.name, options);
  }
  auto segment = open_selected(selector, segment::OpenMode::read_write);
  if (!segment) return tl::unexpected(segment.error());
  return channel::ShmReceiver::attach(std::move(*segment), options);
}

// From one sender the parts of a large message are written as they come, in constant memory. From
// many they would be mixed: there each message is put together first, one from each at a time.
channel::MessageReceiver::Options message_options(const channel::RingShape& shape,
                                                  std::uint64_t limit) {
  channel::MessageReceiver::Options options;
  const bool one = shape.form == channel::RingForm::lane;
  options.mode = one ? frame::Mode::parts : frame::Mode::pieces;
  frame::Limits& limits = options.limits;
  limits.max_message = limit;
  // A sender that keeps to the limit is not refused for what others have open. Pieces have slack.
  const std::uint64_t one_each = limit + 8192;
  limits.max_bytes_per_source = std::max(limits.max_bytes_per_source, one_each);
  limits.max_bytes = std::max(limits.max_bytes, one_each * shape.senders);
  return options;
}

Outcome run_recv(const RecvOptions& opt) {
  const auto options = shm_options(opt.ring, kRecvCommand);
  if (!options) return tl::unexpected(options.error());
  ReceiveOptions receive = opt.receive;
  const auto timeout = duration_flag(opt.timeout, "--timeout", kRecvCommand);
  if (!timeout) return tl::unexpected(timeout.error());
  const auto linger = duration_flag(opt.linger, "--linger", kRecvCommand);
  if (!linger) return tl::unexpected(linger.error());
  const auto count = count_flag(opt.count, "--count", kRecvCommand);
  if (!count) return tl::unexpected(count.error());
  const auto limit = size_flag(opt.message_size, "--message-size", kRecvCommand);
  if (!limit) return tl::unexpected(limit.error());
  receive.message_limit = limit->value_or(frame::Limits{}.max_message);
  if (receive.message_limit == 0 || receive.message_limit > kMostPerMessage) {
    return usage(fmt::format("bad size '{}' for --message-size", printable(opt.message_size)),
                 "a message from one of many senders is put together in memory; at most 1T",
                 fmt::format("{} {} --message-size 64M", kRecvCommand, printable(opt.name)));
  }
  receive.count = *count;
  receive.timeout = *timeout;
  receive.linger = linger->value_or(std::chrono::nanoseconds(0));
  Subject subject(opt.name, "receive from");
  subject.command = kRecvCommand;
  subject.end = channel::End::consumer;
  subject.options = *options;
  const auto selector = parse_selector(opt.name, subject, false);
  if (!selector) return tl::unexpected(selector.error());
  if (selector->by == Selector::By::name) subject.name = selector->name;
  if (closed_at_start().out) return output_failed(EBADF);

  catch_stop_signals();
  auto ring = attach_receiver(*selector, *options);
  if (!ring) return failed(ring.error(), subject);
  note_difference(opt.ring, *options, ring->link(), opt.name);
  const auto enrolled = enroll(ring->link(), channel::End::consumer);
  const channel::RingShape shape = ring->link().shape();
  if (shape.form == channel::RingForm::lane && *limit) {
    note(fmt::format("{} has one sender: its messages pass through, and --message-size is not used",
                     printable(opt.name)));
  }
  const auto messages = message_options(shape, receive.message_limit);
  auto receiver = channel::MessageReceiver::over(std::move(*ring), messages);
  if (!receiver) return failed(receiver.error(), subject);
  Receiving receiving(receive, std::move(subject), std::move(*receiver));
  return receiving.run();
}

}  // namespace

void add_recv(CLI::App& app, Job& job) {
  auto opt = std::make_shared<RecvOptions>();
  CLI::App* sub = app.add_subcommand("recv", "Receive from a ring to standard output");
  sub->add_option("name", opt->name, "the ring; made when nobody did yet")
      ->required()
      ->type_name("NAME");
  sub->add_flag("--lines", opt->receive.lines, "a newline behind each message");
  sub->add_option("-c,--count", opt->count, "end after that many messages")->type_name("N");
  sub->add_option("--timeout", opt->timeout, "longest wait for a message")->type_name("TIME");
  sub->add_option("--linger", opt->linger,
                  "wait for another sender after the last has closed (default 300ms)")
      ->type_name("TIME");
  sub->add_option("--message-size", opt->message_size,
                  "the largest message taken from one of many senders (default 16M)")
      ->type_name("SIZE");
  sub->add_flag("--progress", opt->receive.shows_progress, "show what goes through, on a terminal");
  sub->add_flag("-J,--json", voice().json, "summary and errors as JSON, on stderr");
  add_ring_flags(*sub, opt->ring, false);
  sub->footer(
      "It ends with 0 when every sender has closed, with 7 when one died.\n\n"
      "Example:\n  slipring recv backup | tar x");
  sub->callback([opt, &job] { job = [opt] { return run_recv(*opt); }; });
}

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
// `slipring send`: a file or standard input into a ring.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "attachments.h"
#include "commands.h"
#include "ring_flags.h"
#include "selector.h"
#include "sending.h"
#include "sizes.h"
#include "stop.h"

namespace slipring::tools {
namespace {

constexpr std::uint64_t kDefaultRecord = std::uint64_t{64} << 10;
constexpr const char* kSendCommand = "slipring send";

struct SendOptions {
  std::string name;
  std::string file = "-";
  RingFlags ring;
  std::string record, message_size, timeout, full;
  bool lines = false;
  bool whole = false;
  bool try_once = false;
  bool progress = false;
};

// What was asked for by --record, --lines, --message-size, --whole. Records without a size get one
// that fits the ring.
Try<Cut> cut_of(const SendOptions& opt, const Subject& subject) {
  Cut cut;
  if (opt.lines) cut.by = Cut::By::lines;
  if (opt.whole) cut.by = Cut::By::whole;
  if (!opt.message_size.empty()) cut.by = Cut::By::messages;
  for (const auto& [text, flag] :
       {std::pair(&opt.record, "--record"), std::pair(&opt.message_size, "--message-size")}) {
    const auto size = size_flag(*text, flag, kSendCommand);
    if (!size) return tl::unexpected(size.error());
    if (!*size) continue;
    if (**size == 0) {
      return usage(fmt::format("bad size '0' for {}", flag), "messages of no bytes would never end",
                   fmt::format("{} {} {} 64K", kSendCommand, printable(subject.name), flag));
    }
    cut.bytes = **size;
  }
  return cut;
}

Try<channel::OnFull> policy_of(const SendOptions& opt) {
  const auto timeout = duration_flag(opt.timeout, "--timeout", kSendCommand);
  if (!timeout) return tl::unexpected(timeout.error());
  if (!opt.full.empty()) {
    const auto policy = full_policy(opt.full, kSendCommand);
    if (policy && policy->kind() == channel::OnFull::Kind::stash && opt.whole) {
      return usage(
          "--whole and --full stash exclude each other",
          "what is put by lies in memory, and --whole reads while it sends",
          fmt::format("{} {} FILE --whole --full wait", kSendCommand, printable(opt.name)));
    }
    return policy;
  }
  if (opt.try_once) return channel::OnFull::refuse();
  return *timeout ? channel::OnFull::wait_for(**timeout) : channel::OnFull::wait();
}

/// What the ring takes in one piece. Of the one that is there, else of that which would be made.
struct Pieces {
  std::uint64_t record = 0;
  std::uint64_t block = 0;  ///< 0: there is no pool.
};

Pieces pieces_of(const channel::ShmOptions& options, const Selector& selector) {
  Pieces most{options.capacity / 4, 0};
  if (options.pool) {
    for (std::uint32_t c = 0; c < pool::kClassCount; ++c) {
      if (options.pool->counts[c] != 0) most.block = pool::block_bytes(c);
    }
  }
  const auto existing = open_selected(selector, segment::OpenMode::read_only);
  if (!existing) return most;
  const auto body = channel::RingBody::of(*existing);
  if (!body) return most;
  most = {body->shape().max_payload, 0};
  if (body->pool().empty()) return most;
  if (const auto pool = pool::load_geometry(body->pool())) most.block = pool->largest_block;
  return most;
}

// Checks sizes against the ring before anything is made.
Try<void> check_cut(Cut& cut, const channel::OnFull& on_full, const Subject& subject,
                    const Selector& selector) {
  if (cut.by != Cut::By::records && cut.by != Cut::By::messages) return {};
  const Pieces most = pieces_of(subject.options, selector);
  if (cut.by == Cut::By::messages) {
    const std::uint64_t piece = std::max(most.record, most.block);
    if (on_full.kind() != channel::OnFull::Kind::stash || cut.bytes <= piece) return {};
    return usage(fmt::format("messages of {} cannot be put by", human_bytes(cut.bytes)),
                 fmt::format("{} takes {} in one piece; what goes in chunks waits for room",
                             printable(subject.name), human_bytes(piece)),
                 fmt::format("{} {} --message-size {} --full wait", kSendCommand,
                             printable(subject.name), cut.bytes));
  }
  if (cut.bytes == 0) cut.bytes = std::min(kDefaultRecord, most.record);
  if (cut.bytes <= most.record) return {};
  Subject with_record = subject;
  with_record.record_bytes = cut.bytes;
  return failed(Error{Errc::too_large, 0, "lane: claim"}, with_record);
}

Result<channel::ShmSender> attach_sender(const Selector& selector,
                                         const channel::ShmOptions& options) {
  if (selector.by == Selector::By::name) {
    return channel::ShmSender::open_or_create(selector.name, options);
  }
  auto segment = open_selected(selector, segment::OpenMode::read_write);
  if (!segment) return tl::unexpected(segment.error());
  return channel::ShmSender::attach(std::move(*segment), options);
}

Outcome run_send(const SendOptions& opt) {
  auto options = shm_options(opt.ring, kSendCommand);
  if (!options) return tl::unexpected(options.error());
  Subject subject(opt.name, "send to");
  subject.command = kSendCommand;
  subject.end = channel::End::producer;
  subject.options = *options;
  auto cut = cut_of(opt, subject);
  if (!cut) return tl::unexpected(cut.error());
  const auto on_full = policy_of(opt);
  if (!on_full) return tl::unexpected(on_full.error());
  const auto selector = parse_selector(opt.name, subject, false);
  if (!selector) return tl::unexpected(selector.error());
  if (selector->by == Selector::By::name) subject.name = selector->name;

  // The input first: when it cannot be read, no object is left behind.
  auto input = Input::open(opt.file, closed_at_start().in);
  if (!input) return tl::unexpected(input.error());
  const bool asked = cut->bytes != 0;
  if (const auto ok = check_cut(*cut, *on_full, subject, *selector); !ok) {
    return tl::unexpected(ok.error());
  }
  catch_stop_signals();
  auto ring = attach_sender(*selector, *options);
  if (!ring) return failed(ring.error(), subject);
  note_difference(opt.ring, *options, ring->link(), opt.name);
  // Another one may have made it meanwhile, smaller than what we looked at.
  if (cut->by == Cut::By::records && cut->bytes > ring->max_payload()) {
    subject.record_bytes = cut->bytes;
    if (asked) return failed(Error{Errc::too_large, 0, "lane: claim"}, subject);
    cut->bytes = ring->max_payload();
  }
  const auto enrolled = enroll(ring->link(), channel::End::producer);
  auto sender = channel::MessageSender::over(std::move(*ring), {{}, *on_full});
  if (!sender) return failed(sender.error(), subject);
  Sending sending(std::move(subject), std::move(*input), std::move(*sender), *on_full,
                  opt.progress);
  return sending.run(*cut);
}

}  // namespace

void add_send(CLI::App& app, Job& job) {
  auto opt = std::make_shared<SendOptions>();
  CLI::App* sub = app.add_subcommand("send", "Send a file or standard input into a ring");
  sub->add_option("name", opt->name, "the ring; made when nobody did yet")
      ->required()
      ->type_name("NAME");
  sub->add_option("file", opt->file, "what to send; - is standard input")->type_name("FILE");
  auto* record =
      sub->add_option("--record", opt->record,
                      "bytes per record (default 64K, at most a quarter of the capacity)")
          ->type_name("SIZE");
  auto* lines = sub->add_flag("--lines", opt->lines, "a record per line")->excludes(record);
  auto* message = sub->add_option("--message-size", opt->message_size,
                                  "bytes per message: any size, larger than the ring too")
                      ->type_name("SIZE")
                      ->excludes(record)
                      ->excludes(lines);
  sub->add_flag("--whole", opt->whole, "all of it is one message")
      ->excludes(record)
      ->excludes(lines)
      ->excludes(message);
  auto* timeout =
      sub->add_option("--timeout", opt->timeout, "longest wait for room: --full wait:TIME")
          ->type_name("TIME");
  auto* once = sub->add_flag("--try", opt->try_once, "do not wait for room: --full refuse")
                   ->excludes(timeout);
  sub->add_option("--full", opt->full,
                  "without room: wait (default), wait:TIME, refuse or stash:SIZE")
      ->type_name("POLICY")
      ->excludes(timeout)
      ->excludes(once);
  sub->add_flag("--progress", opt->progress, "show what goes through, on a terminal");
  sub->add_flag("-J,--json", voice().json, "summary and errors as JSON, on stderr");
  add_ring_flags(*sub, opt->ring, false);
  sub->footer(
      "Example:\n  tar c DIR | slipring send backup        # and: slipring recv backup | tar x");
  sub->callback([opt, &job] { job = [opt] { return run_send(*opt); }; });
}

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
// `slipring stat`: everything about one lane, read-only.
#include <fmt/format.h>

#include <memory>

#include "commands.h"
#include "lane_flags.h"
#include "lanes.h"
#include "sizes.h"
#include "slipring/base/deadline.h"
#include "stop.h"

namespace slipring::tools {
namespace {

struct StatOptions {
  std::string selector;
  std::string interval;
  std::uint64_t count = 0;
  bool exact = false;
};

std::string label(const char* text) {
  return fmt::format("{}{:<11}{}", voice().color_out ? "\x1b[2m" : "", text,
                     voice().color_out ? "\x1b[0m" : "");
}

std::string doing(const channel::EndView& end, bool sends) {
  using Peer = RoleWatch::Peer;
  switch (end.state) {
    case Peer::never_came: return "-                nobody yet";
    case Peer::left:
      return fmt::format("-                {} left in order",
                         end.command.empty() ? "the last one" : printable(end.command));
    case Peer::retired: return "-                the segment is being removed";
    default: break;
  }
  std::string text = fmt::format("{:<16} ", holder_text(end));
  if (end.state == Peer::dead) return text + "dead: the kernel reports it gone";
  if (end.stopped) return text + "stopped by a signal or a debugger; alive all the same";
  if (!end.parked) return text + "alive, running";
  const std::string since = end.parked_since_ns > 0
                                ? " since " + human_duration(monotonic_ns() - end.parked_since_ns)
                                : "";
  return text + (sends ? "alive, waits for room" : "alive, waits for records") + since;
}

std::string hint_of(const channel::LaneView& view, const std::string& name) {
  using Peer = RoleWatch::Peer;
  if (view.producer.state == Peer::dead || view.consumer.state == Peer::dead) {
    return fmt::format("nothing to repair: slipring {} {} takes the place of the dead",
                       view.producer.state == Peer::dead ? "send" : "recv", name);
  }
  if (view.consumer.stopped)
    return fmt::format("it goes on after: kill -CONT {}", view.consumer.pid);
  if (view.producer.stopped)
    return fmt::format("it goes on after: kill -CONT {}", view.producer.pid);
  if (view.backlog_bytes > view.geometry.capacity / 4 * 3) {
    return view.consumer.state == Peer::alive ? "the receiver does not keep up"
                                              : "nobody receives: slipring recv " + name;
  }
  return {};
}

std::string type_line(const ring::LaneGeometry& geometry) {
  std::string type = geometry.type_size == 0
                         ? std::string("bytes")
                         : fmt::format("{} bytes, align {}, fingerprint {:08x}", geometry.type_size,
                                       geometry.type_align, geometry.type_fingerprint >> 32);
  return fmt::format("{}; records of at most {}, at multiples of {}; bell {}", type,
                     human_bytes(geometry.max_payload()), geometry.granule,
                     to_string(static_cast<wait::BellKind>(geometry.bell)));
}

std::string describe(const LaneRow& row) {
  const channel::LaneView& view = *row.view;
  const ring::LaneGeometry& geometry = view.geometry;
  const std::string name = printable(label_of(row.listing));
  std::string text = fmt::format(
      "{} lane, {}, {} in {}, mode {:04o} {}\n", label(name.c_str()),
      row.listing.backend == segment::Backend::posix ? "posix" : to_string(row.listing.backend),
      human_bytes(geometry.capacity), printable(row.listing.where), row.listing.mode & 07777,
      owner_text(row.listing));
  const auto age = age_ns(row);
  text += fmt::format("{} {}; layout {}, uuid {}; {}, made {} ago by {}({})\n", label("state"),
                      row.state(), row.info->format_version, to_string(row.info->instance),
                      row.info->keep ? "stays" : "removed by its last user",
                      age ? human_age(*age) : "?", printable(row.info->creator.command),
                      row.info->creator.pid);
  text += fmt::format("{} {}\n", label("type"), type_line(geometry));
  text += fmt::format(
      "{} write {}   read {}   backlog {} ({:.0f} %){}\n", label("positions"),
      grouped(view.write_pos), grouped(view.read_pos), human_bytes(view.backlog_bytes),
      100.0 * static_cast<double>(view.backlog_bytes) / static_cast<double>(geometry.capacity),
      view.exact ? ", exact" : ", as last told");
  text += fmt::format("{} {}\n", label("producer"), doing(view.producer, true));
  text += fmt::format("{} {}\n", label("consumer"), doing(view.consumer, false));
  text += fmt::format(
      "{} in {} records, {} bytes   out {}   full {}   aborted {}   redelivered {}\n",
      label("counts"), grouped(view.committed), grouped(view.committed_bytes),
      grouped(view.released), grouped(view.fulls), grouped(view.aborts), grouped(view.redelivered));
  if (row.in_per_s) {
    text += fmt::format("{} in {}/s, {}   out {}/s\n", label("rates"), human_count(*row.in_per_s),
                        human_rate(row.in_bytes_per_s.value_or(0)),
                        human_count(row.out_per_s.value_or(0)));
  }
  const std::string hint = hint_of(view, name);
  if (!hint.empty()) text += fmt::format("{} {}\n", label("hint"), hint);
  return text;
}

Try<std::vector<LaneRow>> look(const Selector& selector, const StatOptions& opt,
                               std::chrono::nanoseconds sample) {
  Subject subject(selector.text, "look at");
  subject.options.places = places();
  auto rows = look_at_lanes({selector}, sample, opt.exact);
  if (!rows) return rows;
  if (rows->empty()) {
    // Nothing of ours: opening it tells whether nothing is there, or something else.
    const auto segment = open_selected(selector, segment::OpenMode::read_only);
    return failed(segment || selector.by == Selector::By::glob ? Error{Errc::not_found, 0, "stat"}
                                                               : segment.error(),
                  subject);
  }
  for (const LaneRow& row : *rows) {
    if (row.view) continue;
    subject.name = label_of(row.listing);
    return failed(*row.error, subject);
  }
  return rows;
}

// One line per interval: what moved in it.
Outcome follow(const Selector& selector, const StatOptions& opt, std::chrono::nanoseconds every) {
  catch_stop_signals();
  if (!voice().json) {
    const auto printed =
        print_out(fmt::format("{:>8} {:>11} {:>8} {:>8} {:>5}  {:<20} {:<20} {}\n", "IN/S",
                              "BYTES/S", "OUT/S", "BACKLOG", "USE%", "PROD", "CONS", "STATE"));
    if (!printed) return printed;
  }
  for (std::uint64_t round = 0; opt.count == 0 || round < opt.count; ++round) {
    const auto rows = look(selector, opt, every);
    if (stop_signal() != 0) return stopped();
    if (!rows) return tl::unexpected(rows.error());
    std::string text;
    if (voice().json) text = json_document("stat", *rows);
    for (const LaneRow& row : *rows) {
      if (voice().json) break;
      const channel::LaneView& view = *row.view;
      text += fmt::format("{:>8} {:>11} {:>8} {:>8} {:>5.0f}  {:<20} {:<20} {}\n",
                          human_count(row.in_per_s.value_or(0)),
                          human_rate(row.in_bytes_per_s.value_or(0)),
                          human_count(row.out_per_s.value_or(0)), human_bytes(view.backlog_bytes),
                          100.0 * static_cast<double>(view.backlog_bytes) /
                              static_cast<double>(view.geometry.capacity),
                          end_text(view.producer), end_text(view.consumer), row.state());
    }
    if (const auto printed = print_out(text); !printed) return printed;
  }
  return ExitCode::ok;
}

Outcome run_stat(const StatOptions& opt) {
  const auto interval = duration_flag(opt.interval, "-i", "slipring stat");
  if (!interval) return tl::unexpected(interval.error());
  Subject subject(opt.selector, "look at");
  subject.command = "slipring stat";
  const auto selector = parse_selector(opt.selector, subject, true);
  if (!selector) return tl::unexpected(selector.error());
  if (*interval && (*interval)->count() > 0) return follow(*selector, opt, **interval);

  const auto rows = look(*selector, opt, std::chrono::milliseconds(100));
  if (!rows) return tl::unexpected(rows.error());
  if (voice().json) return print_out(json_document("stat", *rows));
  std::string text;
  for (const LaneRow& row : *rows) text += (text.empty() ? "" : "\n") + describe(row);
  return print_out(text);
}

}  // namespace

void add_stat(CLI::App& app, Job& job) {
  auto opt = std::make_shared<StatOptions>();
  CLI::App* sub = app.add_subcommand("stat", "Show everything about one lane");
  sub->add_option("selector", opt->selector, "a name, 'md.*', sysv:0xKEY or sysv-id:N")
      ->required()
      ->type_name("SEL");
  sub->add_flag("--exact", opt->exact, "walk the commit words instead of taking what was told");
  sub->add_option("-i,--interval", opt->interval, "a line per interval")->type_name("TIME");
  sub->add_option("-c,--count", opt->count, "that many lines")->type_name("N");
  sub->add_flag("-J,--json", voice().json, "as JSON; one line per interval");
  sub->footer("Example:\n  slipring stat md.btc -i 1s");
  sub->callback([opt, &job] { job = [opt] { return run_stat(*opt); }; });
}

}  // namespace slipring::tools

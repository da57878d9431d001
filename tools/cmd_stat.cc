// SPDX-License-Identifier: Apache-2.0
// `slipring stat`: everything about one ring, read-only.
#include <fmt/format.h>

#include <memory>

#include "commands.h"
#include "describe.h"
#include "ring_flags.h"
#include "rows.h"
#include "sizes.h"
#include "slipring/base/deadline.h"
#include "stop.h"

namespace slipring::tools {
namespace {

struct StatOptions {
  std::string selector;
  std::string interval;
  std::string sample = "100ms";
  std::string count_text;
  std::uint64_t count = 0;  // 0: no limit
  bool exact = false;
};

Try<std::vector<Row>> look(const Selector& selector, const StatOptions& opt,
                           std::chrono::nanoseconds sample) {
  Subject subject(selector.text, "look at");
  subject.options.places = places();
  auto rows = look_at_rings({selector}, sample, opt.exact);
  if (!rows) return rows;
  if (rows->empty()) {
    // Nothing of ours: opening it tells whether nothing is there, or something else.
    const auto segment = open_selected(selector, segment::OpenMode::read_only);
    return failed(segment || selector.by == Selector::By::glob ? Error{Errc::not_found, 0, "stat"}
                                                               : segment.error(),
                  subject);
  }
  for (const Row& row : *rows) {
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
    for (const Row& row : *rows) {
      if (voice().json) break;
      const channel::RingView& view = *row.view;
      text += fmt::format("{:>8} {:>11} {:>8} {:>8} {:>5.0f}  {:<20} {:<20} {}\n",
                          human_count(row.in_per_s.value_or(0)),
                          human_rate(row.in_bytes_per_s.value_or(0)),
                          human_count(row.out_per_s.value_or(0)), human_bytes(view.backlog_bytes),
                          100.0 * static_cast<double>(view.backlog_bytes) /
                              static_cast<double>(view.shape.total_capacity()),
                          senders_text(view), end_text(view.consumer), row.state());
    }
    if (const auto printed = print_out(text); !printed) return printed;
  }
  return ExitCode::ok;
}

Outcome run_stat(StatOptions opt) {
  const auto count = count_flag(opt.count_text, "-c", "slipring stat");
  if (!count) return tl::unexpected(count.error());
  opt.count = *count;
  const auto interval = duration_flag(opt.interval, "-i", "slipring stat");
  if (!interval) return tl::unexpected(interval.error());
  const auto sample = duration_flag(opt.sample, "--sample", "slipring stat");
  if (!sample) return tl::unexpected(sample.error());
  Subject subject(opt.selector, "look at");
  subject.command = "slipring stat";
  const auto selector = parse_selector(opt.selector, subject, true);
  if (!selector) return tl::unexpected(selector.error());
  if (*interval && (*interval)->count() > 0) return follow(*selector, opt, **interval);

  const auto rows = look(*selector, opt, sample->value_or(std::chrono::nanoseconds(0)));
  if (!rows) return tl::unexpected(rows.error());
  if (voice().json) return print_out(json_document("stat", *rows));
  std::string text;
  for (const Row& row : *rows) text += (text.empty() ? "" : "\n") + describe(row);
  return print_out(text);
}

}  // namespace

void add_stat(CLI::App& app, Job& job) {
  auto opt = std::make_shared<StatOptions>();
  CLI::App* sub = app.add_subcommand("stat", "Show everything about one ring");
  sub->add_option("selector", opt->selector, "a name, 'md.*', sysv:0xKEY, sysv-id:N or fd:PID/N")
      ->required()
      ->type_name("SEL");
  sub->add_flag("--exact", opt->exact, "walk the commit words instead of taking what was told");
  sub->add_option("--sample", opt->sample, "time between two looks, for rates (default 100ms)")
      ->type_name("TIME");
  sub->add_option("-i,--interval", opt->interval, "a line per interval")->type_name("TIME");
  sub->add_option("-c,--count", opt->count_text, "that many lines")->type_name("N");
  sub->add_flag("-J,--json", voice().json, "as JSON; one line per interval");
  sub->footer("Example:\n  slipring stat md.btc -i 1s");
  sub->callback([opt, &job] { job = [opt] { return run_stat(*opt); }; });
}

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
// `slipring ls`: all segments of all kinds. Reads headers and control lines through read-only
// mappings: listing never changes a segment, and a corrupt one is a row, not the end of the list.
#include <fmt/format.h>

#include <map>
#include <memory>

#include "commands.h"
#include "ring_flags.h"
#include "rows.h"
#include "sizes.h"
#include "table.h"

namespace slipring::tools {
namespace {

struct LsOptions {
  std::vector<std::string> selectors;
  std::string columns;
  std::string sample = "100ms";
  TableFormat format;
  bool no_headings = false;
};

// "2 ok, 1 corrupt", with a hint for what wants looking after.
std::string footer(const std::vector<Row>& rows) {
  std::map<std::string, int> counts;
  for (const Row& row : rows) counts[row.state()] += 1;
  std::string text;
  for (const auto& [state, count] : counts) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, state);
  }
  if (counts.contains("corrupt") || counts.contains("stale")) {
    text += "; to remove what is of no use: slipring rm -f NAME";
  } else if (counts.contains("dead")) {
    text += "; a newcomer takes the place of the dead at once";
  }
  return text + "\n";
}

Outcome run_ls(const LsOptions& opt) {
  const auto sample = duration_flag(opt.sample, "--sample", "slipring ls");
  if (!sample) return tl::unexpected(sample.error());
  const auto columns = choose_columns(opt.columns);
  if (!columns) return tl::unexpected(columns.error());
  std::vector<Selector> selectors;
  for (const std::string& text : opt.selectors) {
    const auto selector = parse_selector(text, Subject(text, "list"), true);
    if (!selector) return tl::unexpected(selector.error());
    selectors.push_back(*selector);
  }
  const auto rows = look_at_rings(selectors, sample->value_or(std::chrono::nanoseconds(0)));
  if (!rows) return tl::unexpected(rows.error());
  if (rows->empty() && !selectors.empty()) {
    Subject subject(selectors.front().text, "list");
    subject.options.places = places();
    return failed(Error{Errc::not_found, 0, "list"}, subject);
  }
  if (voice().json) return print_out(json_document("ls", *rows));
  if (rows->empty()) {
    note("no segments here; slipring create NAME makes one, so do send and recv");
    return ExitCode::ok;
  }
  std::string text = draw_table(*rows, *columns, opt.format);
  const bool for_people = !opt.format.raw && opt.format.headings && !voice().quiet;
  const std::string last = footer(*rows);
  if (for_people) text += voice().color_out ? "\x1b[2m" + last + "\x1b[0m" : last;
  return print_out(text);
}

}  // namespace

void add_ls(CLI::App& app, Job& job) {
  auto opt = std::make_shared<LsOptions>();
  CLI::App* sub = app.add_subcommand("ls", "List segments: size, backlog, rate, who, state");
  sub->add_option("selectors", opt->selectors, "names, 'md.*', sysv:0xKEY, sysv-id:N, fd:PID/N")
      ->type_name("SEL");
  std::string known;
  for (const Column& column : ls_columns()) {
    known +=
        fmt::format("\n  {:<11} {}{}", column.name, column.help, column.by_default ? "" : " *");
  }
  sub->add_option("-o,--output", opt->columns, "which columns; +COLS adds to the usual ones")
      ->type_name("COLS");
  sub->add_option("--sample", opt->sample, "time between two looks, for rates (default 100ms)")
      ->type_name("TIME");
  sub->add_flag("-b,--bytes", opt->format.bytes, "plain numbers instead of 4M");
  sub->add_flag("-n,--noheadings", opt->no_headings, "rows only");
  sub->add_flag("-r,--raw", opt->format.raw, "words split by one space, for scripts");
  sub->add_flag("-J,--json", voice().json, "all that is known, as JSON");
  sub->footer("Columns (* on request):" + known +
              "\n\nExample:\n  slipring ls 'md.*' -o NAME,STATE,BACKLOG");
  sub->callback([opt, &job] {
    opt->format.headings = !opt->no_headings;
    job = [opt] { return run_ls(*opt); };
  });
}

}  // namespace slipring::tools

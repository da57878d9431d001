// SPDX-License-Identifier: Apache-2.0
// `slipring check`: the promises that a snapshot can show, one by one, on a live ring, a dead one,
// or what is left of one. Reads through a read-only mapping, and believes nothing.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "bus_guard.h"
#include "commands.h"
#include "ring_flags.h"
#include "sizes.h"
#include "slipring/channel/check.h"
#include "targets.h"

namespace slipring::tools {
namespace {

using channel::CheckReport;
using channel::Finding;
using channel::Severity;

struct CheckOptions {
  std::vector<std::string> selectors;
};

const char* to_text(Severity severity) {
  return severity == Severity::violation ? "violation" : "pending";
}

Result<CheckReport> check_one(const Target& target) {
  if (!target.segment) return tl::unexpected(target.segment.error());
  static_cast<void>(BusGuard::was_hit());
  auto report = channel::check(*target.segment);
  // What was read of lost pages were zeros: no finding of them is one.
  if (BusGuard::was_hit()) return fail(Errc::bad_format, 0, "header: truncated");
  return report;
}

// 6 says that a promise is broken or nothing can be said, 4 that somebody died and left work.
ExitCode exit_of(const CheckReport& report) {
  if (!report.is_sound()) return ExitCode::corrupt;
  return report.pendings != 0 ? ExitCode::state : ExitCode::ok;
}

// Of several the one that says most: broken, not to be read, work left, sound.
ExitCode worse(ExitCode a, ExitCode b) {
  const auto weight = [](ExitCode code) {
    switch (code) {
      case ExitCode::ok: return 0;
      case ExitCode::state: return 1;
      case ExitCode::corrupt: return 3;
      default: return 2;
    }
  };
  return weight(a) >= weight(b) ? a : b;
}

std::string describe(const std::string& name, const CheckReport& report) {
  std::string text = fmt::format(
      "{}: {}; {}, {} unread of {} committed", printable(name),
      !report.is_sound()     ? counted(report.violations, "violation")
      : report.pendings != 0 ? counted(report.pendings, "place") + " to be recovered"
                             : "sound",
      counted(report.lanes, "lane"), grouped(report.records), counted(report.committed, "record"));
  if (report.blocks != 0) text += ", " + counted(report.blocks, "block");
  if (report.unsettled != 0) text += fmt::format("; {} moving all the time", report.unsettled);
  text += '\n';
  for (const Finding& finding : report.findings) {
    text += fmt::format("  {:<9} {:<6} {}: {}\n", to_text(finding.severity), finding.rule,
                        finding.where, finding.what);
  }
  const std::uint64_t more = report.violations + report.pendings - report.findings.size();
  if (more != 0) text += fmt::format("  and {} more\n", more);
  if (!report.is_sound()) {
    text += "  fix: keep a copy of it for a report, stop its users, then: slipring rm -f " +
            printable(name) + "\n";
  } else if (report.pendings != 0) {
    text +=
        "  fix: nothing; a newcomer takes the place of the dead at once, and slipring gc "
        "--apply brings back what they held\n";
  }
  return text;
}

nlohmann::ordered_json to_json(const Target& target, const Result<CheckReport>& report) {
  using Json = nlohmann::ordered_json;
  Json json = {{"name", printable(target.name)},
               {"where", printable(target.listing.where)},
               {"error", Json()}};
  if (!report) {
    json["sound"] = Json();
    json["error"] = {{"code", to_string(report.error().code)}, {"op", report.error().op}};
    return json;
  }
  json["sound"] = report->is_sound();
  json["violations"] = report->violations;
  json["pending"] = report->pendings;
  json["lanes"] = report->lanes;
  json["records"] = report->records;
  json["committed"] = report->committed;
  json["released"] = report->released;
  json["blocks"] = report->blocks;
  json["unsettled"] = report->unsettled;
  json["findings"] = Json::array();
  for (const Finding& finding : report->findings) {
    json["findings"].push_back({{"severity", to_text(finding.severity)},
                                {"rule", finding.rule},
                                {"where", finding.where},
                                {"what", finding.what}});
  }
  return json;
}

Outcome run_check(const CheckOptions& opt) {
  const BusGuard guard;
  const auto targets = find_targets(opt.selectors, "check");
  if (!targets) return tl::unexpected(targets.error());
  ExitCode worst = ExitCode::ok;
  auto rings = nlohmann::ordered_json::array();
  std::string text;
  std::vector<Failure> unreadable;
  for (const Target& target : *targets) {
    const auto report = check_one(target);
    rings.push_back(to_json(target, report));
    if (report) {
      worst = worse(worst, exit_of(*report));
      text += describe(target.name, *report);
      continue;
    }
    Subject subject(target.name, "check");
    subject.options.places = places();
    unreadable.push_back(failed(report.error(), subject).value());
    worst = worse(worst, unreadable.back().exit);
  }
  if (voice().json) {
    const nlohmann::ordered_json body = {
        {"schema", 1}, {"command", "check"}, {"rings", std::move(rings)}, {"exit", to_int(worst)}};
    text = nlohmann::ordered_json{{"slipring", body}}.dump() + "\n";
  } else if (voice().quiet) {
    text.clear();
  } else if (targets->empty()) {
    text = "no rings here\n";
  }
  if (const auto printed = print_out(text); !printed) return printed;
  // As JSON each is told at its ring.
  for (const Failure& failure : unreadable) {
    if (!voice().json) report(failure);
  }
  return worst;
}

}  // namespace

void add_check(CLI::App& app, Job& job) {
  auto opt = std::make_shared<CheckOptions>();
  CLI::App* sub = app.add_subcommand("check", "Verify what a ring promises, changing nothing");
  sub->add_option("selectors", opt->selectors, "names, 'md.*', sysv:0xKEY, sysv-id:N, fd:PID/N")
      ->type_name("SEL");
  sub->add_flag("-J,--json", voice().json, "as JSON");
  sub->footer(
      "Ends with 0: sound; 4: sound, and somebody died whose place is to be recovered; 6: a "
      "promise\n"
      "is broken, or it cannot be read.\n\nExample:\n  slipring check orders");
  sub->callback([opt, &job] { job = [opt] { return run_check(*opt); }; });
}

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
// The benchmark: calibrates, measures everybody once per round in rotating order, and says what
// may be said of it. docs/benchmarking.md.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "harness/clock.h"
#include "harness/json.h"
#include "plan.h"

namespace slipring::bench {
namespace {

int refuse(const Refused& refused, bool json) {
  if (json) {
    Json text;
    text.open('{').key("slipring").open('{').key("error").open('{');
    const auto from = refused.what.rfind('('), to = refused.what.rfind(')');
    const bool has_code = from != std::string::npos && to != std::string::npos && to > from;
    text.put("code", has_code ? refused.what.substr(from + 1, to - from - 1) : "invalid_argument");
    text.put("what", refused.what).put("why", refused.why).put("fix", refused.fix);
    text.close('}').close('}').close('}');
    std::fprintf(stderr, "%s\n", text.text().c_str());
  } else {
    std::fprintf(stderr, "slipring: %s\n     why: %s\n     fix: %s\n", refused.what.c_str(),
                 refused.why.c_str(), refused.fix.c_str());
  }
  return refused.what.find("(not_found)") != std::string::npos ? 2 : 1;
}

/// Cells of one question, next to each other in the plan.
std::vector<std::pair<std::size_t, std::size_t>> groups_of(const std::vector<Cell>& cells) {
  std::vector<std::pair<std::size_t, std::size_t>> groups;
  for (std::size_t from = 0; from < cells.size();) {
    std::size_t to = from + 1;
    while (to < cells.size() && cells[to].question() == cells[from].question()) ++to;
    groups.emplace_back(from, to);
    from = to;
  }
  return groups;
}

class Running {
 public:
  Running(const Plan& plan, Results& results, bool lines)
      : plan_(plan), results_(results), lines_(lines) {}

  void round(int number) {
    results_.calibrations.push_back(
        calibrate(plan_.terms.cpus, std::size_t{256} << 10, plan_.calibration));
    double before = raw();
    results_.calibrations.back().set("raw_ns", before);
    for (const auto& [from, to] : groups_of(results_.cells)) {
      const std::size_t first_row = results_.rows.size();
      const std::size_t count = to - from;
      for (std::size_t i = 0; i < count; ++i) {
        // Rotated, so that nobody always follows the same neighbour.
        one(number, from + (i + static_cast<std::size_t>(number)) % count);
      }
      const double after = raw();
      close_group(first_row, before, after);
      before = after;
    }
  }

 private:
  /// The raw round trip beside each group: which class it was measured in.
  double raw() {
    if (plan_.terms.cpus.is_one()) return 0;
    return raw_round_trip_ns(plan_.terms.cpus, 20'000).value_or(0);
  }

  void one(int number, std::size_t index) {
    Cell& cell = results_.cells[index];
    Row row;
    row.cell = index;
    row.round = number;
    Histogram& seen = *histogram_;
    seen = Histogram{};
    auto found = measure(cell, plan_.terms, seen);
    if (found)
      row.figures = std::move(*found);
    else
      row.why = found.error();
    results_.rows.push_back(std::move(row));
    latencies_.push_back(seen.count() > 0 ? std::make_shared<Histogram>(seen) : nullptr);
  }

  void close_group(std::size_t first_row, double before, double after) {
    ++results_.groups;
    const bool is_one = plan_.terms.cpus.is_one();
    const bool stayed = std::strcmp(round_class(before), round_class(after)) == 0;
    if (!is_one && !stayed) ++results_.dropped;
    for (std::size_t i = first_row; i < results_.rows.size(); ++i) {
      Row& row = results_.rows[i];
      row.raw_ns = (before + after) / 2;
      if (is_one || stayed) row.of_class = is_one ? "one-cpu" : round_class(row.raw_ns);
      Cell& cell = results_.cells[row.cell];
      add_ratios(cell, results_.calibrations.back(), row.raw_ns, row.figures);
      if (const auto& seen = latencies_[i - first_row]; seen && !row.of_class.empty()) {
        auto& merged = cell.merged[row.of_class];
        if (!merged) merged = std::make_shared<Histogram>();
        merged->merge(*seen);
      }
      if (lines_) std::printf("%s\n", line_of(results_, row).c_str());
    }
    latencies_.clear();
    if (lines_) std::fflush(stdout);
  }

  const Plan& plan_;
  Results& results_;
  bool lines_;
  std::unique_ptr<Histogram> histogram_ = std::make_unique<Histogram>();
  std::vector<std::shared_ptr<Histogram>> latencies_;  // of the group that is under way
};

void run(const Plan& plan, Results& results, bool lines) {
  const bool shows = ::isatty(STDERR_FILENO) == 1 && !lines;
  const std::int64_t from = monotonic_ns();
  const double steal_from = steal_seconds();
  Running running(plan, results, lines);
  for (int i = 0; i < plan.rounds; ++i) {
    const double spent = static_cast<double>(monotonic_ns() - from) / 1e9;
    if (signal_seen() != 0) break;
    if (plan.limit_s > 0 && i > 0 && spent + spent / i > plan.limit_s) break;
    results.rounds = i + 1;
    if (shows) std::fprintf(stderr, "\rround %d of %d ", i + 1, plan.rounds);
    running.round(i);
  }
  if (shows) std::fprintf(stderr, "\r%40s\r", "");
  results.seconds = static_cast<double>(monotonic_ns() - from) / 1e9;
  results.steal_s = steal_seconds() - steal_from;
}

void print_field(const Field& field) {
  for (const auto& who : field.contenders) {
    const Traits& traits = who->traits();
    const bool is_out = std::any_of(field.left_out.begin(), field.left_out.end(),
                                    [&](const LeftOut& out) { return out.name == traits.name; });
    if (is_out) continue;
    std::printf("%-28s %s%s\n", traits.name.c_str(), traits.what.c_str(),
                traits.placement == Placement::threads ? " (between threads)" : "");
  }
  for (const auto& [name, why] : field.left_out) {
    std::printf("%-28s left out: %s\n", name.c_str(), why.c_str());
  }
}

void print_context(const Results& results) {
  for (const auto& [name, text] : results.where.facts) {
    if (name == "cpu" || name == "kernel" || name == "compiler" || name == "caches") {
      std::printf("# %s: %s\n", name.c_str(), text.c_str());
    }
  }
  for (const auto& note : results.where.notes) std::printf("# %s\n", note.c_str());
  for (const auto& [name, why] : results.left_out) {
    std::printf("# left out: %s: %s\n", name.c_str(), why.c_str());
  }
  double switches = 0;
  for (const Row& row : results.rows) {
    if (row.figures.has("switches")) switches += row.figures.get("switches");
  }
  std::printf("# cpus %d,%d, %d rounds, %.0f s; steal %.1f s, %.0f involuntary switches\n",
              results.cpus.first, results.cpus.second, results.rounds, results.seconds,
              results.steal_s, switches);
  std::printf(
      "# class of the CPUs: %s; %d of %d groups dropped, the CPUs changed place meanwhile\n",
      results.main_class().c_str(), results.dropped, results.groups);
}

int write_json(const Results& results, const std::string& path) {
  const std::string text = json_of(results);
  std::FILE* const file = path == "-" ? stdout : std::fopen(path.c_str(), "w");
  const bool fine = file != nullptr &&
                    std::fwrite(text.data(), 1, text.size(), file) == text.size() &&
                    std::fflush(file) == 0;
  if (file != nullptr && file != stdout) std::fclose(file);
  if (fine) return 0;
  std::fprintf(stderr,
               "slipring: cannot write %s (system)\n     why: %s\n     fix: --json FILE in a "
               "directory that is yours\n",
               path.c_str(), std::strerror(errno));
  return 9;
}

int main_of(int argc, char** argv) {
  const auto options = parse_options(argc, argv);
  const bool to_json =
      std::any_of(argv, argv + argc,
                  [](const char* word) { return std::strcmp(word, "--json=-") == 0; }) ||
      (options && options->json_file == "-");
  if (!options) return refuse(options.error(), to_json);
  if (options->help) {
    std::fputs(kUsage, stdout);
    return 0;
  }
  Field field = whole_field();
  Results results;
  (void)ns_per_tick();
  results.where = look_around(options->commit, std::size_t{4} << 20);
  auto plan = make_plan(*options, field, results.where);
  if (!plan) return refuse(plan.error(), to_json);
  if (options->list) {
    print_field(field);
    return 0;
  }
  results.cells = plan->cells;
  results.plan = plan->name;
  results.rounds = plan->rounds;
  results.cpus = plan->terms.cpus;
  results.left_out = field.left_out;
  if (results.cpus.is_one()) {
    results.where.notes.emplace_back(
        "one CPU only: left out is whoever polls, with the floors that take two CPUs; what is left "
        "falls asleep instead");
  }
  if (!to_json && plan->expected_seconds() > 20) {
    std::printf("# about %.0f s\n", plan->expected_seconds());
    std::fflush(stdout);
  }
  run(*plan, results, options->lines);
  if (signal_seen() != 0) return 128 + signal_seen();
  if (!to_json) {
    print_context(results);
    if (options->kind == Options::Kind::own)
      std::printf("\n%s", table_of(results).c_str());
    else
      std::printf("\n%s", lines_of(judge(results), results).c_str());
  }
  return options->json_file.empty() ? 0 : write_json(results, options->json_file);
}

}  // namespace
}  // namespace slipring::bench

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  slipring::bench::heed_signals();
  return slipring::bench::main_of(argc, argv);
}

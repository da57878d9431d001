// SPDX-License-Identifier: Apache-2.0
#include "results.h"

#include <cmath>
#include <cstdio>

#include "harness/clock.h"
#include "harness/json.h"
#include "scenarios/lines.h"

namespace slipring::bench {
namespace {

template <typename... Args>
std::string format(const char* how, const Args&... args) {
  char text[400];
  std::snprintf(text, sizeof text, how, args...);
  return text;
}

constexpr const char* kClasses[] = {"cross", "unclear", "sibling", "far", "one-cpu"};

/// The figure that a scenario is about, and the ratio that goes with it.
std::pair<const char*, const char*> main_figures(const Cell& cell) {
  switch (cell.scenario) {
    case Scenario::throughput: return {"mps", cell.shape.size >= 64 ? "x_bulk" : "gbs"};
    case Scenario::round_trip: return {"rtt_ns", "x_raw"};
    case Scenario::wake: return {"rtt_ns", "x_futex"};
    case Scenario::open_loop: return {"p50_ns", "x_raw"};
    case Scenario::hand_over: return {"rtt_ns", "x_raw"};
    case Scenario::idle: return {"burst_ns", "x_alone"};
  }
  return {"", ""};
}

std::string name_of(const Cell& cell) {
  std::string name = cell.who != nullptr ? cell.who->traits().name : "slipring.mpsc";
  if (cell.scenario == Scenario::hand_over) name = "slipring.block";
  return name;
}

void put_curve(Json& json, const Histogram& seen) {
  // Denser towards the end, which is what is looked at.
  json.open('[');
  for (const double q : {0.0001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995,
                         0.998, 0.999, 0.9995, 0.9998, 0.9999, 0.99995, 0.99999}) {
    if (!seen.resolves(q)) break;
    json.open('[').value(q).value(static_cast<double>(seen.at(q)) * ns_per_tick()).close(']');
  }
  json.close(']');
}

void put_summary(Json& json, const Results& results, std::size_t index, const std::string& of) {
  std::vector<std::string> names;
  for (const Row& row : results.rows) {
    if (row.cell != index || row.of_class != of || !row.why.empty()) continue;
    for (const auto& [name, value] : row.figures.all()) {
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  }
  json.open('{');
  for (const auto& name : names) {
    const Quartiles q = results.summary(index, name, of);
    json.key(name).open('[').value(q.low).value(q.median).value(q.high).close(']');
  }
  json.close('}');
}

}  // namespace

std::string Results::main_class() const {
  std::map<std::string, std::size_t> counts;
  for (const Row& row : rows) {
    if (row.why.empty() && !row.of_class.empty()) ++counts[row.of_class];
  }
  std::string best = kClasses[0];
  for (const char* of_class : kClasses) {
    if (counts[of_class] > counts[best]) best = of_class;
  }
  return best;
}

std::vector<double> Results::by_round(std::size_t cell, const std::string& figure,
                                      const std::string& of_class) const {
  std::vector<double> values(static_cast<std::size_t>(std::max(rounds, 0)), std::nan(""));
  for (const Row& row : rows) {
    if (row.cell != cell || !row.why.empty() || row.of_class.empty()) continue;
    if (!of_class.empty() && row.of_class != of_class) continue;
    values[static_cast<std::size_t>(row.round)] = row.figures.get(figure);
  }
  return values;
}

Quartiles Results::summary(std::size_t cell, const std::string& figure,
                           const std::string& of_class) const {
  std::vector<double> values = by_round(cell, figure, of_class);
  std::erase_if(values, [](double value) { return std::isnan(value); });
  return quartiles(std::move(values));
}

void add_ratios(const Cell& cell, const Figures& calibration, double raw_ns, Figures& figures) {
  const auto over = [&](const char* name, const char* figure, double base) {
    if (figures.has(figure) && base > 0) figures.set(name, figures.get(figure) / base);
  };
  switch (cell.scenario) {
    case Scenario::throughput: {
      // Against the stream of blocks of its size; small messages against that of a page, and large
      // ones, which leave the caches of one core, against that through 4 MiB.
      const std::size_t size = cell.shape.size;
      const char* const limit = size >= std::size_t{1} << 20    ? "bulk_4m_ring_gbs"
                                : size >= std::size_t{64} << 10 ? "bulk_64k_gbs"
                                : size == std::size_t{1} << 10  ? "bulk_1k_gbs"
                                                                : "bulk_4k_gbs";
      over("x_bulk", "gbs", calibration.get(limit));
      over("x_bulk_256", "gbs", calibration.get("bulk_256_gbs"));
      over("x_copy", "gbs", calibration.get("copy_64k_gbs"));
      break;
    }
    case Scenario::round_trip:
    case Scenario::hand_over:
      over("x_raw", "rtt_ns", raw_ns);
      over("x_raw_p50", "p50_ns", raw_ns);
      break;
    case Scenario::wake:
      over("x_futex", "rtt_ns", calibration.get(cell.one_cpu ? "futex_one_cpu_ns" : "futex_ns"));
      break;
    case Scenario::open_loop: over("x_raw", "p50_ns", raw_ns); break;
    case Scenario::idle: break;
  }
}

std::string line_of(const Results& results, const Row& row) {
  const Cell& cell = results.cells[row.cell];
  std::string line =
      format("BENCH name=%s scenario=%s bytes=%zu round=%d class=%s raw_ns=%.1f",
             name_of(cell).c_str(), to_string(cell.scenario), cell.shape.size, row.round,
             row.of_class.empty() ? "dropped" : row.of_class.c_str(), row.raw_ns);
  if (cell.scenario == Scenario::throughput) {
    line += format(" ring=%zu group=%u producers=%u", cell.shape.ring_bytes, cell.flow.group,
                   cell.shape.producers);
  }
  if (cell.scenario == Scenario::round_trip) line += format(" depth=%u", cell.flow.depth);
  if (cell.scenario == Scenario::idle) line += format(" idle=%u", cell.idle);
  if (cell.who != nullptr && cell.who->traits().retries)
    line += cell.flow.pause ? " pause=1" : " pause=0";
  if (!row.why.empty()) return line + " void=\"" + row.why + "\"";
  for (const auto& [name, value] : row.figures.all())
    line += format(" %s=%.4g", name.c_str(), value);
  return line;
}

std::string json_of(const Results& results) {
  Json json;
  json.open('{').put("schema", 1).put("plan", results.plan).put("rounds", results.rounds);
  json.put("seconds", results.seconds).put("steal_s", results.steal_s);
  json.put("groups", results.groups).put("dropped", results.dropped);
  json.put("class", results.main_class());
  json.key("cpus").open('[').value(results.cpus.first).value(results.cpus.second).close(']');
  json.new_line().key("environment").open('{');
  for (const auto& [name, text] : results.where.facts) json.new_line().put(name, text);
  json.put("pinned", results.where.may_pin).put("locked", results.where.may_lock);
  json.put("last_level_bytes", results.where.last_level_bytes);
  double switches = 0;
  for (const Row& row : results.rows) {
    if (row.figures.has("switches")) switches += row.figures.get("switches");
  }
  json.put("involuntary_switches", switches).close('}');
  json.new_line().key("notes").open('[');
  for (const auto& note : results.where.notes) json.value(note);
  json.close(']').new_line().key("left_out").open('[');
  for (const auto& [name, why] : results.left_out) {
    json.new_line().open('{').put("name", name).put("why", why).close('}');
  }
  json.close(']').new_line().key("calibrations").open('[');
  for (const auto& calibration : results.calibrations) {
    json.new_line().open('{');
    for (const auto& [name, value] : calibration.all()) json.put(name, value);
    json.close('}');
  }
  json.close(']').new_line().key("cells").open('[');
  for (std::size_t i = 0; i < results.cells.size(); ++i) {
    const Cell& cell = results.cells[i];
    json.new_line().open('{').put("name", name_of(cell)).put("scenario", to_string(cell.scenario));
    if (cell.who != nullptr) {
      const Traits& traits = cell.who->traits();
      json.put("family", traits.family).put("what", traits.what);
      json.put("threads", traits.placement == Placement::threads);
      if (traits.retries) json.put("pause", cell.flow.pause);
    }
    json.put("bytes", std::uint64_t{cell.shape.size})
        .put("ring", std::uint64_t{cell.shape.ring_bytes});
    json.put("group", std::uint64_t{cell.flow.group})
        .put("producers", std::uint64_t{cell.shape.producers});
    json.put("depth", std::uint64_t{cell.flow.depth})
        .put("rate", cell.rate)
        .put("one_cpu", cell.one_cpu);
    json.put("idle", std::uint64_t{cell.idle}).put("gap_ns", cell.flow.gap_ns);
    json.key("classes").open('{');
    for (const char* of_class : kClasses) {
      const auto counted = results.summary(i, main_figures(cell).first, of_class);
      if (counted.count == 0) continue;
      json.key(of_class).open('{').put("rounds", std::uint64_t{counted.count}).key("figures");
      put_summary(json, results, i, of_class);
      const auto merged = cell.merged.find(of_class);
      if (merged != cell.merged.end() && merged->second->count() > 0) {
        json.put("samples", merged->second->count());
        json.put("max_ns", static_cast<double>(merged->second->max()) * ns_per_tick()).key("curve");
        put_curve(json, *merged->second);
      }
      json.close('}');
    }
    json.close('}').close('}');
  }
  json.close(']').new_line().key("rows").open('[');
  for (const Row& row : results.rows) {
    json.new_line().open('{').put("cell", std::uint64_t{row.cell}).put("round", row.round);
    json.put("class", row.of_class.empty() ? "dropped" : row.of_class).put("raw_ns", row.raw_ns);
    if (!row.why.empty()) json.put("void", row.why);
    for (const auto& [name, value] : row.figures.all()) json.put(name, value);
    json.close('}');
  }
  json.close(']').new_line().key("lines").open('[');
  if (results.plan != "own") {
    for (const LineCount& counted : count_lines()) {
      json.new_line()
          .open('{')
          .put("form", counted.form)
          .put("bytes", std::uint64_t{counted.bytes});
      json.put("visit", counted.visit).put("upgrades", counted.upgrades);
      json.put("reads", counted.reads).close('}');
    }
  }
  json.close(']').new_line().key("targets").open('[');
  for (const Target& target : judge(results)) {
    json.new_line().open('{').put("id", target.id).put("name", target.name);
    json.put("wanted", target.wanted).put("figure", target.figure).put("detail", target.detail);
    json.put("value", target.value).put("limit", target.limit);
    json.put("verdict", to_string(target.verdict)).close('}');
  }
  json.close(']').close('}');
  return json.text() + "\n";
}

std::string table_of(const Results& results) {
  std::string text;
  const std::string of_class = results.main_class();
  std::string last;
  for (std::size_t i = 0; i < results.cells.size(); ++i) {
    const Cell& cell = results.cells[i];
    const std::string question = cell.question();
    if (question != last) {
      text += (text.empty() ? "" : "\n") + question + "\n";
      switch (cell.scenario) {
        case Scenario::throughput:
          text += format("  %-30s %9s %19s %9s %8s\n", "", "M/s", "quartiles", "GB/s", "of limit");
          break;
        case Scenario::open_loop:
          text += format("  %-30s %9s %9s %9s %9s %11s\n", "latency in ns, from when it was due",
                         "p50", "p99", "p99.9", "max", "CPU ns/msg");
          break;
        case Scenario::idle: text += format("  %-30s %9s %9s\n", "", "ns", "x alone"); break;
        case Scenario::round_trip:
        case Scenario::hand_over:
        case Scenario::wake:
          text += format("  %-30s %9s %9s %9s %9s %9s\n", "round trip in ns", "mean", "x floor",
                         "p50", "p99", "max");
          break;
      }
      last = question;
    }
    const auto median = [&](const char* name) { return results.summary(i, name, of_class).median; };
    std::string name = name_of(cell);
    if (cell.shape.producers > 1) name += format(" x%u", cell.shape.producers);
    if (cell.flow.pause) name += " (pause)";
    if (cell.scenario == Scenario::hand_over) name += format(" %zu B", cell.shape.size);
    if (cell.scenario == Scenario::idle) name += format(" +%u idle", cell.idle);
    const auto [figure, ratio] = main_figures(cell);
    const Quartiles q = results.summary(i, figure, of_class);
    if (q.count == 0) {
      std::string why = "dropped: the CPUs changed place in every round";
      for (const Row& row : results.rows) {
        if (row.cell == i && !row.why.empty()) why = "void: " + row.why;
      }
      text += format("  %-30s ", name.c_str()) + why + "\n";
      continue;
    }
    switch (cell.scenario) {
      case Scenario::throughput:
        text += format("  %-30s %9.3f [%8.3f,%8.3f] %9.3f %7.0f%%\n", name.c_str(), q.median, q.low,
                       q.high, median("gbs"), median("x_bulk") * 100);
        break;
      case Scenario::open_loop:
        text += format("  %-30s %9.0f %9.0f %9.0f %9.0f %11.0f\n", name.c_str(), q.median,
                       median("p99_ns"), median("p999_ns"), median("max_ns"),
                       median("receiver_cpu_ns"));
        break;
      case Scenario::idle:
        text += format("  %-30s %9.0f %9.3f\n", name.c_str(), q.median, median(ratio));
        break;
      case Scenario::round_trip:
      case Scenario::hand_over:
      case Scenario::wake:
        text += format("  %-30s %9.1f %9.2f %9.0f %9.0f %9.0f\n", name.c_str(), q.median,
                       median(ratio), median("p50_ns"), median("p99_ns"), median("max_ns"));
        break;
    }
  }
  return text;
}

}  // namespace slipring::bench

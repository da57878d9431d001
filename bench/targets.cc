// SPDX-License-Identifier: Apache-2.0
// The aims of this library, and what became of them in a run. Judged on one class of rounds, by
// medians of ratios within a round. Whatever was not measured stays open, with the reason.
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>

#include "results.h"

namespace slipring::bench {
namespace {

template <typename... Args>
std::string format(const char* how, const Args&... args) {
  char text[300];
  std::snprintf(text, sizeof text, how, args...);
  return text;
}

class Judge {
 public:
  explicit Judge(const Results& results) : results_(results), class_(results.main_class()) {}

  [[nodiscard]] std::vector<Target> all() {
    latency();
    small("M2", 8, 1, 3, 200);
    small("M3", 8, 32, 2, 450);
    small("M4", 64, 1, 5, 0);
    of_limit("M4", 64, 0.5, "x_bulk");
    small("M5", 256, 1, 4, 0);
    for (const std::size_t size : {std::size_t{1} << 10, std::size_t{4} << 10,
                                   std::size_t{64} << 10, std::size_t{1} << 20}) {
      of_limit("M4+", size, 0.8, "x_bulk");
    }
    hand_over();
    of_limit("M7", std::size_t{64} << 20, 0.8, "x_copy");
    wake();
    add({"M9", "system calls, locked instructions", "0 and 0", "-",
         "counted with every push: tests/channel/hot_path_test.py", Target::Verdict::open, 0, 0});
    second_producer();
    idle();
    pacing();
    return std::move(targets_);
  }

 private:
  using Index = std::optional<std::size_t>;

  template <typename Is>
  [[nodiscard]] std::vector<std::size_t> cells(const Is& is) const {
    std::vector<std::size_t> found;
    for (std::size_t i = 0; i < results_.cells.size(); ++i) {
      const Cell& cell = results_.cells[i];
      if (is(cell) && median(i, main_figure(cell)) > 0) found.push_back(i);
    }
    return found;
  }
  [[nodiscard]] static const char* main_figure(const Cell& cell) {
    switch (cell.scenario) {
      case Scenario::throughput: return "mps";
      case Scenario::open_loop: return "p50_ns";
      case Scenario::idle: return "x_alone";
      default: return "rtt_ns";
    }
  }
  [[nodiscard]] double median(std::size_t cell, const char* figure) const {
    return results_.summary(cell, figure, class_).median;
  }
  [[nodiscard]] std::string name(std::size_t index) const {
    const Cell& cell = results_.cells[index];
    return (cell.who != nullptr ? cell.who->traits().name : std::string("slipring.mpsc")) +
           (cell.flow.pause ? " (pause)" : "");
  }
  [[nodiscard]] static bool is_ours(const Cell& cell) {
    return cell.who == nullptr || cell.who->traits().family == "slipring";
  }
  /// Threads of ours are there to be read beside rivals that cannot leave a process.
  [[nodiscard]] static bool is_judged(const Cell& cell) {
    return cell.who == nullptr || !is_ours(cell) ||
           cell.who->traits().placement == Placement::processes;
  }
  [[nodiscard]] Index largest(const std::vector<std::size_t>& of, const char* figure) const {
    Index best;
    for (const std::size_t i : of) {
      if (!best || median(i, figure) > median(*best, figure)) best = i;
    }
    return best;
  }

  void add(Target target) { targets_.push_back(std::move(target)); }
  void open(const char* id, const std::string& what, const std::string& wanted,
            const std::string& why) {
    add({id, what, wanted, "-", why, Target::Verdict::open, 0, 0});
  }
  void at_least(const char* id, const std::string& what, const Quartiles& q, double limit,
                const char* how, const std::string& detail) {
    judged(id, what, ">= ", q, limit, how, detail, q.median >= limit);
  }
  void at_most(const char* id, const std::string& what, const Quartiles& q, double limit,
               const char* how, const std::string& detail) {
    judged(id, what, "<= ", q, limit, how, detail, q.median <= limit);
  }
  void judged(const char* id, const std::string& what, const char* relation, const Quartiles& q,
              double limit, const char* how, const std::string& detail, bool met) {
    const auto text = [&](double value) {
      char out[40];
      std::snprintf(out, sizeof out, how, value);
      return std::string(out);
    };
    add({id, what, relation + text(limit),
         text(q.median) + " [" + text(q.low) + ", " + text(q.high) + "]", detail,
         met ? Target::Verdict::met : Target::Verdict::missed, q.median, limit});
  }

  /// M1: of the forms of ours, the one whose worst size is best.
  void latency() {
    const std::string what = "round trip, up to 56 B, over raw";
    std::map<std::string, std::size_t> worst;
    for (const std::size_t i : cells([](const Cell& cell) {
           return cell.scenario == Scenario::round_trip && is_ours(cell) && is_judged(cell) &&
                  cell.shape.size <= 56 && cell.flow.depth == 1 && cell.shape.producers == 1;
         })) {
      const auto [at, is_new] = worst.emplace(name(i), i);
      if (!is_new && median(i, "x_raw") > median(at->second, "x_raw")) at->second = i;
    }
    Index best;
    for (const auto& [form, i] : worst) {
      if (!best || median(i, "x_raw") < median(*best, "x_raw")) best = i;
    }
    if (!best) return open("M1", what, "<= 1.25x", "no round trip was measured");
    std::string detail = name(*best) + format(" at %zu B", results_.cells[*best].shape.size);
    if (worst.contains("slipring") && name(*best) != "slipring") {
      detail += format("; default %.2fx", median(worst["slipring"], "x_raw"));
    }
    at_most("M1", what, results_.summary(*best, "x_raw", class_), 1.25, "%.2fx", detail);
  }

  /// Against the best rival of the same question, and in messages per second.
  void small(const char* id, std::size_t size, std::uint32_t group, double factor, double mps) {
    const std::string what = format("%zu B%s", size, group > 1 ? ", groups of 32" : "");
    const auto asked = [&](bool ours) {
      return cells([&](const Cell& cell) {
        return cell.scenario == Scenario::throughput && cell.shape.size == size &&
               cell.flow.group == group && cell.shape.producers == 1 && is_ours(cell) == ours &&
               is_judged(cell) && cell.shape.ring_bytes == std::size_t{256} << 10;
      });
    };
    const Index ours = largest(asked(true), "mps");
    const Index rival = largest(asked(false), "mps");
    const std::string over = what + ", over the best rival";
    if (!ours) {
      open(id, over, format(">= %.0fx", factor), "not measured");
    } else if (!rival) {
      open(id, over, format(">= %.0fx", factor), "no rival is here: " + missing());
    } else {
      const Versus both =
          versus(results_.by_round(*ours, "mps", class_), results_.by_round(*rival, "mps", class_));
      at_least(id, over, both.ratio, factor, "%.2fx",
               format("%s %.1f M/s, %s %.1f M/s, ahead in %zu of %zu", name(*ours).c_str(),
                      median(*ours, "mps"), name(*rival).c_str(), median(*rival, "mps"), both.wins,
                      both.ratio.count));
    }
    if (mps == 0) return;
    if (!ours) return open(id, what, format(">= %.0f M/s", mps), "not measured");
    at_least(id, what, results_.summary(*ours, "mps", class_), mps, "%.0f M/s", name(*ours));
  }

  [[nodiscard]] std::string missing() const {
    std::string names;
    for (const auto& out : results_.left_out) names += (names.empty() ? "" : ", ") + out.name;
    return names.empty() ? "none was asked for" : "left out " + names;
  }

  void of_limit(const char* id, std::size_t size, double share, const char* figure) {
    const std::string of = std::string(figure) == "x_copy" ? "copied stream" : "stream";
    const std::string what = (size >= std::size_t{1} << 20   ? format("%zu MiB", size >> 20)
                              : size >= std::size_t{1} << 10 ? format("%zu KiB", size >> 10)
                                                             : format("%zu B", size)) +
                             ", of the limit of a " + of;
    const Index ours = largest(cells([&](const Cell& cell) {
                                 return cell.scenario == Scenario::throughput && is_ours(cell) &&
                                        is_judged(cell) && cell.shape.size == size &&
                                        cell.flow.group == 1 && cell.shape.producers == 1 &&
                                        cell.shape.ring_bytes == std::size_t{256} << 10;
                               }),
                               figure);
    const std::string wanted = format(">= %.0f%%", share * 100);
    if (!ours || !(median(*ours, figure) > 0)) return open(id, what, wanted, "not measured");
    Quartiles q = results_.summary(*ours, figure, class_);
    for (double* value : {&q.low, &q.median, &q.high}) *value *= 100;
    std::string detail = name(*ours) + format(" %.2f GB/s", median(*ours, "gbs"));
    if (size < 512) {
      detail += format("; %.0f%% of blocks of 256 B", median(*ours, "x_bulk_256") * 100);
    }
    at_least(id, what, q, share * 100, "%.0f%%", detail);
  }

  [[nodiscard]] Index hand_over_of(std::size_t size) const {
    return largest(cells([&](const Cell& cell) {
                     return cell.scenario == Scenario::hand_over && cell.shape.size == size;
                   }),
                   "rtt_ns");
  }
  void hand_over() {
    const Index small = hand_over_of(64), large = hand_over_of(std::size_t{1} << 20);
    if (!small || !large) {
      return open("M6", "a block of 1 MiB handed over, over 64 B", "< 2x", "not measured");
    }
    const Versus over = versus(results_.by_round(*large, "rtt_ns", class_),
                               results_.by_round(*small, "rtt_ns", class_));
    at_most("M6", "a block of 1 MiB handed over, over 64 B", over.ratio, 2, "%.2fx",
            format("%.0f ns, 64 B %.0f ns", median(*large, "rtt_ns"), median(*small, "rtt_ns")));
    const Index least = hand_over_of(std::size_t{64} << 10);
    if (!least) return;
    const Versus range = versus(results_.by_round(*large, "rtt_ns", class_),
                                results_.by_round(*least, "rtt_ns", class_));
    at_most("M6", "a block of 1 MiB handed over, over 64 KiB", range.ratio, 1.1, "%.2fx",
            "1 MiB is the largest block; beyond it, messages go in chunks");
  }

  void wake() {
    Index best;
    for (const std::size_t i : cells([](const Cell& cell) {
           return cell.scenario == Scenario::wake && is_ours(cell) && !cell.one_cpu &&
                  cell.flow.gap_ns == kWakeGapNs && cell.who->traits().name == "slipring.park";
         })) {
      best = i;
    }
    const std::string what = "park and wake, over a raw futex";
    if (!best || !(median(*best, "x_futex") > 0))
      return open("M8", what, "<= 1.15x", "not measured");
    at_most("M8", what, results_.summary(*best, "x_futex", class_), 1.15, "%.2fx",
            name(*best) + format(" %.1f us", median(*best, "rtt_ns") / 1e3));
  }

  void second_producer() {
    const auto with = [&](std::uint32_t producers) {
      return largest(cells([&](const Cell& cell) {
                       return cell.scenario == Scenario::throughput && is_ours(cell) &&
                              cell.who->traits().name == "slipring.mpsc" && cell.shape.size == 16 &&
                              cell.shape.producers == producers;
                     }),
                     "mps");
    };
    const std::string what = "a second producer joins: total over one";
    const Index one = with(1), two = with(2);
    if (!one || !two) return open("M10", what, ">= 0.90x", "not measured");
    const Versus both =
        versus(results_.by_round(*two, "mps", class_), results_.by_round(*one, "mps", class_));
    at_least("M10", what, both.ratio, 0.9, "%.2fx",
             format("%.1f M/s, one %.1f M/s; both producers share a CPU", median(*two, "mps"),
                    median(*one, "mps")));
  }

  void idle() {
    const std::string what = "1000 idle producers beside a busy one";
    for (const std::size_t i : cells([](const Cell& cell) {
           return cell.scenario == Scenario::idle && cell.idle == 1000;
         })) {
      return at_most("M11", what, results_.summary(i, "x_alone", class_), 1.1, "%.3fx",
                     "a burst of 32, read until empty");
    }
    open("M11", what, "<= 1.1x", "not measured");
  }

  void pacing() {
    for (const double rate : {1e4, 1e5}) {
      for (const bool tail : {false, true}) {
        const char* const label = tail ? "p99.9" : "p50";
        const char* const figure = tail ? "p999_ns" : "p50_ns";
        const std::string what = format("pacing at %.0fk/s: %s over unpaced", rate / 1e3, label);
        const auto named = [&](const char* who) {
          return largest(cells([&](const Cell& cell) {
                           return cell.scenario == Scenario::open_loop && cell.rate == rate &&
                                  !cell.flow.naps && is_ours(cell) &&
                                  cell.who->traits().name == who;
                         }),
                         figure);
        };
        const Index paced = named("slipring"), unpaced = named("slipring.unpaced");
        if (!paced || !unpaced) {
          open("M12", what, "<= 1.05x", "there is no contender without pacing");
          continue;
        }
        if (!(median(*paced, figure) > 0) || !(median(*unpaced, figure) > 0)) {
          open("M12", what, "<= 1.05x", "too few messages in a round to say");
          continue;
        }
        const Versus both = versus(results_.by_round(*paced, figure, class_),
                                   results_.by_round(*unpaced, figure, class_));
        at_most(
            "M12", what, both.ratio, 1.05, "%.2fx",
            format("%.0f ns, unpaced %.0f ns", median(*paced, figure), median(*unpaced, figure)));
      }
    }
  }

  const Results& results_;
  std::string class_;
  std::vector<Target> targets_;
};

}  // namespace

const char* to_string(Target::Verdict verdict) noexcept {
  switch (verdict) {
    case Target::Verdict::met: return "met";
    case Target::Verdict::missed: return "missed";
    case Target::Verdict::open: return "not judged";
  }
  return "";
}

std::vector<Target> judge(const Results& results) { return Judge(results).all(); }

std::string lines_of(const std::vector<Target>& targets, const Results& results) {
  std::string text =
      format("%-4s %-44s %-26s %-10s %s\n", "", "target", "median [quartiles]", "wanted", "");
  std::size_t counts[3] = {};
  for (const Target& target : targets) {
    ++counts[static_cast<std::size_t>(target.verdict)];
    text += format("%-4s %-44s %-26s %-10s %s", target.id.c_str(), target.name.c_str(),
                   target.figure.c_str(), target.wanted.c_str(), to_string(target.verdict));
    text += ": " + target.detail + "\n";
  }
  text += format("%zu met, %zu missed, %zu not judged; judged on rounds of class %s\n", counts[0],
                 counts[1], counts[2], results.main_class().c_str());
  return text;
}

}  // namespace slipring::bench

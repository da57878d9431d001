// SPDX-License-Identifier: Apache-2.0
#include "plan.h"

#include <algorithm>
#include <map>

namespace slipring::bench {
namespace {

constexpr std::size_t kKiB = 1024, kMiB = kKiB * kKiB;

/// Writes cells, and knows who is wanted.
class Planner {
 public:
  Planner(Plan& plan, Field& field, const Options& options, const Environment& where)
      : plan_(plan), field_(field), options_(options), where_(where) {}

  [[nodiscard]] Cell cell(Scenario scenario, const Contender* who, std::size_t size) const {
    Cell made;
    made.scenario = scenario;
    made.who = who;
    made.shape.size = size;
    made.shape.ring_bytes = options_.ring_bytes;
    made.shape.lock_memory = where_.may_lock;
    return made;
  }
  void add(Cell cell) {
    if (cell.who != nullptr && !can_run(*cell.who)) return;
    plan_.cells.push_back(std::move(cell));
  }
  /// Asked when somebody is wanted, and not before: it may start a daemon. Whoever cannot is told
  /// of once, and left out.
  bool can_run(const Contender& who) {
    const auto [known, is_new] = able_.emplace(&who, true);
    if (!is_new) return known->second;
    std::string why = who.unable();
    if (why.empty() && plan_.terms.cpus.is_one() && !who.traits().parks) {
      why = "it polls, and with one CPU nobody else could run meanwhile";
    }
    if (!why.empty()) field_.left_out.push_back({who.traits().name, why});
    return known->second = why.empty();
  }
  /// With a pause between failing looks, and without: the better one counts.
  void add_both(Cell cell) {
    const bool polled = cell.who->traits().retries;
    add(cell);
    if (!polled || cell.who->traits().family == "slipring") return;
    cell.flow.pause = true;
    add(std::move(cell));
  }

  void throughput(const Contender& who, std::size_t size, std::uint32_t group = 1,
                  std::uint32_t producers = 1, std::size_t ring = 0) {
    const Traits& traits = who.traits();
    if (!who.can_do(size) || producers > traits.max_producers) return;
    if (group > 1 && !traits.groups) return;
    Cell made = cell(Scenario::throughput, &who, size);
    if (ring != 0) made.shape.ring_bytes = ring;
    if (traits.has_ring && size * 4 > made.shape.ring_bytes) return;
    made.flow.group = group;
    made.shape.producers = producers;
    add_both(std::move(made));
  }
  void round_trip(const Contender& who, std::size_t size, std::uint32_t depth = 1) {
    if (!who.can_do(size) || !who.traits().round_trips) return;
    Cell made = cell(Scenario::round_trip, &who, size);
    made.flow.depth = depth;
    add(std::move(made));
  }
  void wake(const Contender& who, bool one_cpu = false, double gap_ns = kWakeGapNs) {
    if (!who.traits().parks || !who.traits().round_trips || !who.can_do(64)) return;
    Cell made = cell(Scenario::wake, &who, 64);
    made.one_cpu = one_cpu;
    made.flow.gap_ns = gap_ns;
    made.flow.naps = one_cpu || plan_.terms.cpus.is_one();
    add(std::move(made));
  }
  void open_loop(const Contender& who, std::size_t size, double rate, bool naps = false) {
    if (!who.can_do(size)) return;
    Cell made = cell(Scenario::open_loop, &who, size);
    made.rate = rate;
    made.flow.naps = naps;
    add(std::move(made));
  }
  void hand_over(std::size_t size) {
    if (plan_.terms.cpus.is_one()) return;
    add(cell(Scenario::hand_over, nullptr, size));
  }
  void idle(std::uint32_t producers) {
    Cell made = cell(Scenario::idle, nullptr, 16);
    made.idle = producers;
    add(std::move(made));
  }

  template <typename Do>
  void each(const Do& ask) const {
    for (const auto& who : field_.contenders) ask(*who);
  }
  template <typename Do>
  void named(std::initializer_list<const char*> names, const Do& ask) const {
    for (const char* name : names) {
      if (const Contender* who = field_.find(name)) ask(*who);
    }
  }

 private:
  Plan& plan_;
  Field& field_;
  const Options& options_;
  const Environment& where_;
  std::map<const Contender*, bool> able_;
};

/// The rivals that may be the best at one producer and small messages.
constexpr auto kFast = {"boost.spsc_queue", "moodycamel.spsc", "atomic_queue.spsc", "dpdk.ring"};

void plan_quick(Planner& p) {
  for (const std::size_t size : {8u, 56u}) {
    p.named({"slipring", "slipring.claim", "slipring.spin"},
            [&](const Contender& who) { p.round_trip(who, size); });
  }
  for (const std::size_t size : {8u, 64u, 256u}) {
    p.named({"slipring", "slipring.claim", "slipring.typed", "slipring.throughput"},
            [&](const Contender& who) { p.throughput(who, size); });
    p.named(kFast, [&](const Contender& who) { p.throughput(who, size); });
  }
  p.named({"slipring", "slipring.claim", "slipring.typed", "boost.spsc_queue", "dpdk.ring",
           "moodycamel.mpmc"},
          [&](const Contender& who) { p.throughput(who, 8, 32); });
  for (const std::size_t size : {1 * kKiB, 4 * kKiB, 64 * kKiB}) {
    p.named({"slipring.claim"}, [&](const Contender& who) { p.throughput(who, size); });
  }
  p.named({"slipring.block"}, [&](const Contender& who) { p.throughput(who, kMiB); });
  p.named({"slipring.stream"}, [&](const Contender& who) { p.throughput(who, 64 * kMiB); });
  p.hand_over(64);
  p.hand_over(64 * kKiB);
  p.hand_over(kMiB);
  p.named({"slipring.park"}, [&](const Contender& who) { p.wake(who); });
  for (const double rate : {1e4, 1e5}) {
    p.named({"slipring", "slipring.unpaced"},
            [&](const Contender& who) { p.open_loop(who, 64, rate); });
  }
  p.named({"slipring.mpsc"}, [&](const Contender& who) {
    for (const std::uint32_t producers : {1u, 2u}) p.throughput(who, 16, 1, producers);
  });
  p.idle(1000);
}

void plan_full(Planner& p, std::size_t beyond_cache) {
  for (const std::size_t size : {8u, 16u, 56u, 64u, 256u}) {
    p.each([&](const Contender& who) { p.round_trip(who, size); });
  }
  for (const std::uint32_t depth : {2u, 8u, 64u}) {
    p.named({"slipring", "slipring.claim", "boost.spsc_queue", "zeromq"},
            [&](const Contender& who) { p.round_trip(who, 64, depth); });
  }
  for (const std::size_t size : {std::size_t{8}, std::size_t{16}, std::size_t{56}, std::size_t{64},
                                 std::size_t{256}, kKiB, 4 * kKiB, 64 * kKiB, kMiB}) {
    p.each([&](const Contender& who) { p.throughput(who, size); });
  }
  p.named({"slipring.stream", "pipe", "unix.stream"},
          [&](const Contender& who) { p.throughput(who, 64 * kMiB); });
  for (const std::size_t size : {std::size_t{8}, std::size_t{64}, std::size_t{256}, kKiB}) {
    p.each([&](const Contender& who) { p.throughput(who, size, 32); });
  }
  for (const std::size_t ring : {64 * kKiB, kMiB, 4 * kMiB, beyond_cache}) {
    for (const std::size_t size : {std::size_t{8}, std::size_t{64}, kKiB}) {
      p.named({"slipring", "slipring.claim", "boost.spsc_queue", "dpdk.ring"},
              [&](const Contender& who) { p.throughput(who, size, 1, 1, ring); });
    }
  }
  for (const std::size_t size : {std::size_t{64}, 4 * kKiB, 64 * kKiB, kMiB}) {
    p.hand_over(size);
  }
  p.each([&](const Contender& who) { p.wake(who); });
  p.each([&](const Contender& who) { p.wake(who, true); });
  p.named({"slipring", "slipring.park", "pipe", "unix.stream"},
          [&](const Contender& who) { p.wake(who, false, 300'000); });
  for (const double rate : {1e4, 1e5, 1e6, -0.5, -0.8, -0.9}) {
    p.named({"slipring", "slipring.unpaced", "slipring.spin", "slipring.park", "boost.spsc_queue",
             "dpdk.ring", "pipe", "unix.stream", "zeromq"},
            [&](const Contender& who) { p.open_loop(who, 64, rate); });
  }
  p.named({"slipring", "slipring.spin", "slipring.park", "pipe", "boost.spsc_queue"},
          [&](const Contender& who) { p.open_loop(who, 64, 1e3, true); });
  for (const std::uint32_t producers : {1u, 2u, 4u}) {
    p.each([&](const Contender& who) {
      if (who.traits().max_producers > 1) p.throughput(who, 16, 1, producers);
    });
  }
  p.idle(63);
  p.idle(1000);
}

void plan_own(Planner& p, const Options& options, const std::vector<const Contender*>& rivals) {
  const auto everybody = [&](const auto& ask) {
    p.named({"slipring", "slipring.claim", "slipring.park", "slipring.block", "slipring.stream"},
            ask);
    for (const Contender* rival : rivals) ask(*rival);
  };
  for (const std::size_t size : options.sizes) {
    for (const double rate : options.rates) {
      everybody([&](const Contender& who) { p.open_loop(who, size, rate); });
    }
    if (!options.rates.empty()) continue;
    everybody([&](const Contender& who) { p.round_trip(who, size); });
    everybody([&](const Contender& who) { p.throughput(who, size); });
  }
}

tl::expected<std::vector<const Contender*>, Refused> pick_rivals(const Options& options,
                                                                 const Field& field) {
  std::vector<const Contender*> picked;
  for (const std::string& wanted : options.versus) {
    if (wanted == "none") continue;
    bool known = false;
    for (const auto& who : field.contenders) {
      const Traits& traits = who->traits();
      const bool is_meant = traits.family == wanted || traits.name == wanted || wanted == "all";
      known = known || is_meant;
      if (is_meant && traits.family != "slipring" &&
          std::find(picked.begin(), picked.end(), who.get()) == picked.end()) {
        picked.push_back(who.get());
      }
    }
    // One that is not built in is told of with its reason; by default, with nothing.
    for (const auto& out : field.left_out) {
      known = known || out.name.find(wanted) != std::string::npos;
    }
    if (known) continue;
    std::string names;
    for (const auto& who : field.contenders) {
      const std::string& family = who->traits().family;
      if (family != "slipring" && names.find(family) == std::string::npos) {
        names += (names.empty() ? "" : ", ") + family;
      }
    }
    return tl::unexpected(Refused{"unknown rival '" + wanted + "' for --vs (not_found)",
                                  "known are " + names + ", all and none",
                                  "slipring bench --list shows who can be measured here"});
  }
  return picked;
}

tl::expected<Cpus, Refused> pick_cpus(const Options& options) {
  const std::vector<int> usable = usable_cpus();
  const auto may_use = [&](int cpu) {
    return std::find(usable.begin(), usable.end(), cpu) != usable.end();
  };
  if (options.cpus) {
    for (const int cpu : {options.cpus->first, options.cpus->second}) {
      if (may_use(cpu)) continue;
      std::string list;
      for (const int one : usable) list += (list.empty() ? "" : ",") + std::to_string(one);
      return tl::unexpected(
          Refused{"no CPU " + std::to_string(cpu) + " (not_found)",
                  "this process may use " + list + " (nproc, taskset -p $$ and the cpuset decide)",
                  "slipring bench --cpus " + std::to_string(usable.front()) + "," +
                      std::to_string(usable.back())});
    }
    return *options.cpus;
  }
  if (usable.empty()) return Cpus{0, 0};
  return Cpus{usable[0], usable.size() > 1 ? usable[1] : usable[0]};
}

}  // namespace

double Plan::expected_seconds() const {
  double one = 3.5 * calibration;
  for (const Cell& cell : cells) {
    one += terms.seconds * (cell.scenario == Scenario::open_loop ? 2.4 : 1.15) + 0.015;
  }
  return one * rounds;
}

tl::expected<Plan, Refused> make_plan(const Options& options, Field& field,
                                      const Environment& where) {
  Plan plan;
  const auto cpus = pick_cpus(options);
  if (!cpus) return tl::unexpected(cpus.error());
  plan.terms.cpus = *cpus;
  const auto rivals = pick_rivals(options, field);
  if (!rivals) return tl::unexpected(rivals.error());
  Planner planner(plan, field, options, where);
  const std::size_t beyond_cache = [&] {
    std::size_t bytes = 32 * kMiB;
    while (bytes < 2 * where.last_level_bytes && bytes < 512 * kMiB) bytes *= 2;
    return bytes;
  }();
  if (options.list) planner.each([&](const Contender& who) { (void)planner.can_run(who); });
  switch (options.kind) {
    case Options::Kind::quick:
      plan.name = "quick";
      plan.rounds = 11;
      plan.terms.seconds = 0.09;
      plan.terms.laps = 50;
      plan.calibration = 0.08;
      plan.limit_s = 160;
      plan_quick(planner);
      break;
    case Options::Kind::full:
      plan.name = "full";
      plan.rounds = 21;
      plan.terms.seconds = 0.1;
      plan.calibration = 1;
      plan_full(planner, beyond_cache);
      break;
    case Options::Kind::own:
      plan.name = "own";
      plan.rounds = 5;
      plan_own(planner, options, *rivals);
      break;
  }
  if (options.rounds > 0) plan.rounds = options.rounds;
  if (options.seconds > 0) plan.terms.seconds = options.seconds;
  // Whoever asks for a brief look does not want a long calibration.
  plan.calibration = std::min(plan.calibration, 10 * plan.terms.seconds);
  if (plan.cells.empty()) {
    return tl::unexpected(Refused{"nothing to measure (not_supported)",
                                  "nobody that can run here takes messages of these sizes",
                                  "slipring bench --size 64 --vs pipe,unix"});
  }
  return plan;
}

}  // namespace slipring::bench

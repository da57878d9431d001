// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <chrono>
#include <iostream>
#include <unordered_set>

#include "scenario.h"
#include "slipring/base/deadline.h"
#include "support/child.h"
#include "support/watchdog.h"

// SIGKILL at every machine instruction of every operation of a ring (docs/crash-testing.md).
namespace slipring::test {
namespace {

constexpr std::uint64_t kFurther = 1000;
constexpr std::int64_t kStallNs = 10'000'000;


/// Tries for a second: another recoverer may hold the place for a moment.
template <typename Attach>
auto insist(Attach&& attach) {
  const Deadline give_up = Deadline::in(std::chrono::seconds(1));
  for (;;) {
    auto made = attach();
    if (made || give_up.passed()) return made;
  }
}

/// Recovery, 1,000 more messages, and everything counted. How long it took from the proof of the
/// death until the ring carried a message again, in ns.
std::int64_t judge_what_is_left(const World& world, Living living, std::uint64_t of_living,
                                Tally& tally, bool two_at_once) {
  Judge judge(world, tally, of_living);
  const auto expect_sound = [&](bool settled) {
    const auto report = channel::check(world.segment());
    if (!report) return tally.complain(tally.violations, report.error().op);
    for (const channel::Finding& f : report->findings) {
      if (f.severity == channel::Severity::violation || settled) {
        tally.complain(tally.violations, f.rule + (" " + f.where) + ": " + f.what);
      }
    }
    if (!settled) return;
    const std::uint64_t sent =
        judge.reached(Stream::living) + judge.reached(Stream::victim) + kFurther;
    if (report->committed != world.committed_before() + sent || report->records != 0 ||
        report->released != report->committed) {
      tally.complain(tally.violations, "I8: " + std::to_string(sent) + " were sent, " +
                                           std::to_string(report->committed -
                                                          world.committed_before()) +
                                           " counted");
    }
  };
  expect_sound(false);

  const std::int64_t from = monotonic_ns();
  std::optional<Child> other;
  if (two_at_once) {
    other.emplace([&] {
      const auto receiver = world.receiver();
      const auto sender = world.sender();
      return 0;
    });
  }
  if (!living.receiver) {
    if (auto made = insist([&] { return world.receiver(); })) living.receiver.emplace(std::move(*made));
  }
  std::optional<ShmSender> successor;
  const bool one_lane = world.options().form == RingForm::lane;
  if (one_lane && living.sender) {
    successor.emplace(std::move(*living.sender));
    living.sender.reset();
  } else if (auto made = insist([&] { return world.sender(); })) {
    successor.emplace(std::move(*made));
  }
  if (!living.receiver || !successor) {
    tally.complain(tally.stalls, "nobody can take over");
    return 0;
  }

  std::uint64_t further = 0;
  const auto take = [&](Deadline deadline) {
    auto message = living.receiver->peek(deadline);
    if (!message) return false;
    if (message->type() >> 14 != 2) {
      judge.see(message->bytes(), message->type(), message->redelivered());
      return true;
    }
    if (message->type() != (0x8000 | further) || message->redelivered() ||
        !has_pattern(message->bytes(), further)) {
      tally.complain(tally.torn, "further message " + std::to_string(further));
    }
    ++further;
    return true;
  };
  const auto put = [&](std::uint64_t n) {
    std::byte bytes[40];
    fill_pattern(bytes, n);
    const Deadline give_up = Deadline::in(std::chrono::seconds(2));
    while (!give_up.passed()) {
      const auto sent = successor->try_send(bytes, static_cast<std::uint16_t>(0x8000 | n));
      if (sent) return true;
      if (sent.error().code != Errc::full || !take(Deadline::in(std::chrono::seconds(2)))) break;
    }
    return false;
  };
  bool usable = put(0);
  while (usable && further == 0) usable = take(Deadline::in(std::chrono::seconds(2)));
  const std::int64_t took = monotonic_ns() - from;
  for (std::uint64_t n = 1; usable && n < kFurther; ++n) {
    usable = put(n);
    if (n % 8 == 0) {
      while (take(Deadline::now())) {
      }
    }
  }
  while (usable && take(Deadline::now())) {
  }
  if (!usable || further != kFurther) {
    tally.complain(tally.stalls, "it carries no messages any more");
    return took;
  }
  judge.expect_complete();
  // Among the empty looks are those that give the places of the dead free.
  for (int i = 0; i < 130; ++i) (void)living.receiver->try_peek();
  if (other && !other->wait().exited_with(0)) {
    tally.complain(tally.violations, "the other recoverer failed");
  }
  living.sender.reset();
  successor.reset();
  living.receiver.reset();
  expect_sound(true);
  return took;
}

int run_victim(const World& world, const Scenario& s) {
  Context context(world);
  if (s.set_up != nullptr && !s.set_up(context)) return 3;
  stop_for_tracer();
  s.operation(context);
  ::_exit(0);
}

[[nodiscard]] std::uint64_t address_of(const Scenario& s) {
  return reinterpret_cast<std::uint64_t>(s.operation);
}

/// One victim, killed at step `k` of its path.
void kill_at(const World& world, const Scenario& s, const Path& path, std::size_t k, Tally& tally) {
  tally.at = s.name + " step " + std::to_string(k);
  // A machine that runs something else for 10 ms is no stall: a real one comes again.
  for (int attempt = 0;; ++attempt) {
    world.begin_again();
    Living living(world, s);
    Tracee victim([&] { return run_victim(world, s); });
    if (!go_to_step(victim, path, k)) {
      ++tally.diverged;
      if (victim.has_ended() && !victim.exited_with(0)) {
        tally.complain(tally.violations, "the victim could not begin");
      }
      if (victim.has_ended()) return;
    }
    victim.kill();
    if (attempt == 0) ++tally.kill_points;
    const std::int64_t took =
        judge_what_is_left(world, std::move(living), s.of_living, tally, k % 16 == 7);
    if (took <= kStallNs) return;
    if (attempt == 2) {
      return tally.complain(tally.stalls, std::to_string(took / 1'000'000) + " ms until usable");
    }
  }
}

[[nodiscard]] Path trace_once(const World& world, const Scenario& s, std::size_t max_steps) {
  world.begin_again();
  Living living(world, s);
  Tracee victim([&] { return run_victim(world, s); });
  return trace(victim, address_of(s), world.watched(), max_steps);
}

void kill_everywhere(const Scenario& s, Tally& tally) {
  const World world(s.options, s.start);
  const Path path = trace_once(world, s, 200'000);
  ASSERT_TRUE(path.is_whole) << s.name << ": " << path.steps() << " steps and no end";
  tally.instructions += path.steps();
  std::set<std::vector<std::byte>> distinct;
  for (const Image& image : path.images) distinct.insert(image.ring);
  tally.images += distinct.size();
  for (std::size_t k = 0; k < path.steps(); ++k) kill_at(world, s, path, k, tally);
}

TEST(KillTest, First) {
  Watchdog watchdog(300, "kill");
  Tally tally;
  for (const auto form : {RingForm::lane, RingForm::per_producer, RingForm::total}) {
    Scenario s;
    s.options.kind = segment::Backend::memfd;
    s.options.capacity = 4096;
    s.options.form = form;
    s.options.senders = 4;
    for (auto [name, set_up, op] :
         {std::tuple{"claim", &victim::attach, &victim::claim},
          std::tuple{"fill", &victim::claim_first, &victim::fill},
          std::tuple{"commit", &victim::fill_first, &victim::commit},
          std::tuple{"send", &victim::attach, &victim::send}}) {
      s.name = std::string(to_string(form)) + "/" + name;
      s.set_up = set_up;
      s.operation = op;
      Tally one;
      const std::int64_t from = monotonic_ns();
      kill_everywhere(s, one);
      std::cout << s.name << " points " << one.kill_points << " images " << one.images
                << " diverged " << one.diverged << " faults " << one.faults() << " us/point "
                << (monotonic_ns() - from) / 1000 / static_cast<std::int64_t>(one.kill_points + 1)
                << "\n";
      for (const auto& text : one.complaints) std::cout << "  " << text << "\n";
    }
  }
}

}  // namespace
}  // namespace slipring::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (const char* why = slipring::test::why_no_tracing(); why != nullptr) {
    std::cout << "skipped: " << why << "\n";
    return 77;
  }
  return RUN_ALL_TESTS();
}

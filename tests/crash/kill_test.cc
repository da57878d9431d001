// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "harness.h"
#include "support/watchdog.h"

// SIGKILL, and SIGSTOP, at every machine instruction of every operation of a ring
// (docs/crash-testing.md).
namespace slipring::test {
namespace {

/// `most` of the steps, evenly chosen; 0: all.
[[nodiscard]] std::vector<std::size_t> some_of(const std::vector<std::size_t>& steps,
                                               std::size_t most) {
  const std::size_t stride = most == 0 ? 1 : (steps.size() + most - 1) / most;
  std::vector<std::size_t> chosen;
  for (std::size_t i = crash_seed() % stride; i < steps.size(); i += stride) {
    chosen.push_back(steps[i]);
  }
  return chosen;
}

void print_faults_of(const char* test, const Tally& tally, std::int64_t from,
                     const std::string& more) {
  print_complaints(tally);
  print_line(test, "ring", tally, from, more);
  EXPECT_EQ(tally.faults(), 0u);
}

TEST(Ring, NothingIsLostOfTheKilledNorTakenOfTheStoppedAtAnyInstruction) {
  Watchdog watchdog(is_nightly() ? 9000 : 280, "kill");
  const std::int64_t from = monotonic_ns();
  Tally kills, pauses;
  for (const Scenario& s : ring_scenarios()) {
    if (!is_wanted(s.name) || (s.only_nightly && !is_nightly())) continue;
    const World world(s.options, s.start);
    const Path path = trace_once(world, s, 2'000'000);
    ASSERT_TRUE(path.is_whole) << s.name << ": no end within " << path.steps() << " steps";
    kills.instructions += path.steps();
    std::set<std::vector<std::byte>> distinct;
    for (const Image& image : path.images) distinct.insert(image.ring);
    kills.images += distinct.size();
    const Resources before = Resources::now();
    const std::int64_t began = monotonic_ns();
    const std::vector<std::size_t> steps = steps_of(path, is_nightly() ? 64 : 2);
    const std::uint64_t points = kills.kill_points;
    for (const std::size_t k : some_of(steps, is_nightly() ? 0 : 800)) {
      if (is_wanted(s.name, k)) kill_at(world, s, path, k, kills);
    }
    if (s.side != Side::both) {
      for (const std::size_t k : some_of(steps, is_nightly() ? 0 : 60)) {
        if (is_wanted(s.name, k)) pause_at(world, s, path, k, pauses);
      }
    }
    before.expect_no_more(kills);
    std::cout << s.name << ": " << path.steps() << " instructions, " << distinct.size()
              << " images, " << kills.kill_points - points << " points, "
              << (monotonic_ns() - began) / 1'000'000 << " ms" << std::endl;
  }
  pauses.images = kills.images;
  print_faults_of("T1", kills, from, " instructions=" + std::to_string(kills.instructions));
  print_faults_of("T3", pauses, from,
                  " foreign_bytes=" + std::to_string(pauses.foreign_bytes) +
                      " reclaims=" + std::to_string(pauses.reclaims));
}

/// Where recovery is killed: at each of its stores, and at every `stride`th of the instructions
/// that it meets for the first time.
[[nodiscard]] std::vector<std::size_t> steps_of_recovery(const Path& path, std::size_t stride) {
  std::vector<std::size_t> steps;
  std::size_t number = crash_seed();
  for (std::size_t k = 1; k < path.steps(); ++k) {
    const bool stored = path.image[k] != path.image[k - 1];
    if (stored || (path.visits[k] == 1 && ++number % stride == 0)) steps.push_back(k);
  }
  return steps;
}

/// A crash image, recovered by one who is killed at step `k` of it, then by others.
void kill_recoverer_at(const World& world, const Scenario& recovery, const Image& crash,
                       const Path& path, std::size_t k, Tally& tally) {
  tally.at = recovery.name + "@" + std::to_string(k);
  crash.put_back(world.watched());
  Tracee recoverer([&] { return run_victim(world, recovery); });
  if (!go_to_step(recoverer, path, k)) {
    // Another image may be recovered with fewer rounds of a loop.
    ++tally.diverged;
    if (recoverer.has_ended() && !recoverer.exited_with(0)) {
      tally.complain(tally.violations, "recovery failed");
    }
    if (recoverer.has_ended()) return;
  }
  recoverer.kill();
  ++tally.kill_points;
  Judge judge(world, tally, tally.of_living);
  (void)judge_what_is_left(world, {}, judge, tally, recovery_of(k));
}

TEST(RecoveryCrash, RecoveryIsRepeatedWhereverItIsKilled) {
  Watchdog watchdog(is_nightly() ? 9000 : 280, "recovery");
  const std::int64_t from = monotonic_ns();
  Tally tally;
  std::uint64_t number = crash_seed(), scenario = crash_seed();
  std::map<RingForm, Path> paths;  // of recovery: it does the same whatever it finds
  for (const Scenario& s : ring_scenarios()) {
    if (!is_wanted(s.name)) continue;
    if (!is_nightly() && (s.only_nightly || ++scenario % 5 != 0)) continue;
    const World world(s.options, s.start);
    Scenario recovery{s.name + "+recover", s.options, 0, Side::both, 0, nullptr, nullptr,
                      &victim::recover};
    Path& path = paths[s.options.form];
    if (path.steps() == 0) {
      recovery.prepare = &kill_both;
      path = trace_once(world, recovery, 2'000'000);
      recovery.prepare = nullptr;
    }
    const std::vector<std::size_t> steps = steps_of_recovery(path, is_nightly() ? 32 : 512);
    world.begin_again();
    // The living die, too, but not before the victim; all stay zombies, so that their numbers in
    // the images are nobody else's.
    Child others = sleeper_after([&] { static const Living living(world, s); });
    Tracee victim([&] { return run_victim(world, s); });
    const Path crash = trace(victim, address_of(s), world.watched(), 2'000'000);
    ASSERT_TRUE(path.is_whole && crash.is_whole) << s.name;
    victim.kill_to_zombie();
    others.kill_to_zombie();
    tally.of_living = s.side == Side::both ? 0 : s.of_living;
    std::set<std::vector<std::byte>> seen;
    const std::uint64_t before = tally.kill_points;
    const std::int64_t began = monotonic_ns();
    for (const Image& image : crash.images) {
      if (!seen.insert(image.ring).second) continue;
      if (!is_nightly() && number++ % 4 != 0) continue;
      ++tally.images;
      for (const std::size_t k : steps) kill_recoverer_at(world, recovery, image, path, k, tally);
    }
    std::cout << s.name << ": " << seen.size() << " images, " << tally.kill_points - before
              << " pairs, " << (monotonic_ns() - began) / 1'000'000 << " ms" << std::endl;
  }
  print_faults_of("T2", tally, from,
                  " pairs=" + std::to_string(tally.kill_points) +
                      " diverged=" + std::to_string(tally.diverged));
}

// ----------------------------------------------------------------------------- two at a time

/// Both are stepped: the first up to `i`, the second up to `j`, then the first to its end, then
/// the second. Then both die.
void interleave(const Scenario& first, const Path& first_path, std::size_t i,
                const Scenario& second, const Path& second_path, std::size_t j, const World& world,
                Tally& tally) {
  tally.at = first.name + "@" + std::to_string(i) + "+" + second.name + "@" + std::to_string(j);
  world.begin_again();
  Living living(world, first);
  Tracee one([&] { return run_victim(world, first); });
  Tracee two([&] { return run_victim(world, second); });
  const bool there = go_to_step(one, first_path, i);
  if (!there || !go_to_step(two, second_path, j)) ++tally.diverged;
  ++tally.kill_points;
  one.finish();
  two.finish();
  if (!one.exited_with(0) || !two.exited_with(0)) {
    tally.complain(tally.violations, "one of the two did not come to its end");
  }
  Judge judge(world, tally, world.log().done_of_second);
  (void)judge_what_is_left(world, std::move(living), judge, tally, Recovery::alone);
}

/// The second sender's message is the first one of the living.
bool attach_second(Context& c) {
  if (auto made = c.world.sender()) c.sender.emplace(std::move(*made));
  return c.sender.has_value();
}
[[gnu::noinline]] void send_second(Context& c) {
  if (send(*c.sender, Stream::living, 0)) c.log.done_of_second = 1;
}
[[gnu::noinline]] void abort_second(Context& c) {
  if (auto claim = c.sender->try_claim(30)) claim->abort();
}
bool attach_to_read(Context& c) { return victim::attach_receiving(c); }
[[gnu::noinline]] void take_one(Context& c) {
  if (auto message = c.receiver->try_peek()) {
    victim::note_peeked(c, message->type());
    victim::note_released(c, message->type());
  }
}

TEST(Interleaving, TwoProcessesStepByStepLoseAndTearNothing) {
  Watchdog watchdog(is_nightly() ? 6000 : 280, "interleaving");
  const std::int64_t from = monotonic_ns();
  Tally tally;
  std::uint64_t number = crash_seed();
  for (const auto form : {RingForm::lane, RingForm::per_producer, RingForm::total}) {
    const auto scenario = [&](const char* name, auto set_up, auto operation) {
      return Scenario{std::string(to_string(form)) + "/" + name,
                      ring_options(form),
                      0,
                      Side::both,
                      0,
                      nullptr,
                      set_up,
                      operation};
    };
    const Scenario firsts[] = {scenario("send", &victim::attach, &victim::send),
                               scenario("commit", &victim::fill_first, &victim::commit),
                               scenario("claim", &victim::attach, &victim::claim)};
    std::vector<Scenario> seconds{scenario("take_one", &attach_to_read, &take_one)};
    if (form != RingForm::lane) {
      seconds.push_back(scenario("send_second", &attach_second, &send_second));
      seconds.push_back(scenario("abort_second", &attach_second, &abort_second));
    }
    const World world(ring_options(form), 1024);
    for (const Scenario& first : firsts) {
      for (const Scenario& second : seconds) {
        const auto path_of = [&](const Scenario& s, const Scenario& beside) {
          world.begin_again();
          const Tracee other([&] { return run_victim(world, beside); });
          Tracee run([&] { return run_victim(world, s); });
          return trace(run, address_of(s), world.watched(), 100'000);
        };
        const Path a = path_of(first, second), b = path_of(second, first);
        ASSERT_TRUE(a.is_whole && b.is_whole);
        for (std::size_t i = 0; i < a.steps(); ++i) {
          for (std::size_t j = 0; j < b.steps(); ++j) {
            if (number++ % (is_nightly() ? 11 : 1999) != 0) continue;
            interleave(first, a, i, second, b, j, world, tally);
            interleave(second, b, j, first, a, i, world, tally);
          }
        }
      }
    }
  }
  print_faults_of("T4", tally, from, " schedules=" + std::to_string(tally.kill_points));
}

// ---------------------------------------------------------------- mistakes of others, as scenarios

// Agrona 159, 160: recovery was refused when the ring was exactly full.
TEST(History, AgronaUnblockWhenFull) {
  Watchdog watchdog(60, "full");
  for (const auto form : {RingForm::per_producer, RingForm::total}) {
    Tally tally;
    const World world(ring_options(form), 1024);
    world.begin_again();
    Scenario s{"full", ring_options(form), 0, Side::sender, 0, nullptr, nullptr, nullptr};
    Living living(world, s);
    Child victim = sleeper_after([&] {
      static Context context(world);
      if (!victim::fill_first(context)) std::abort();
    });
    std::uint64_t sent = 0;
    while (send(*living.sender, Stream::living, sent)) ++sent;
    EXPECT_GT(sent, 20u);
    EXPECT_TRUE(victim.kill().killed_by(SIGKILL));
    Judge judge(world, tally, sent);
    (void)judge_what_is_left(world, std::move(living), judge, tally, Recovery::alone);
    print_complaints(tally);
    EXPECT_EQ(tally.faults(), 0u) << to_string(form);
  }
}

// Ramen 398: two recoverers both advanced the position, and it went back.
TEST(History, RamenTwoRecoverers) {
  Watchdog watchdog(60, "two recoverers");
  for (const auto form : {RingForm::lane, RingForm::per_producer, RingForm::total}) {
    Tally tally;
    const World world(ring_options(form), 1024);
    for (int round = 0; round < 50; ++round) {
      tally.at = std::string(to_string(form)) + "@" + std::to_string(round);
      world.begin_again();
      kill_both(world);
      Judge judge(world, tally, 0);
      (void)judge_what_is_left(world, {}, judge, tally, Recovery::two_at_once);
    }
    print_complaints(tally);
    EXPECT_EQ(tally.faults(), 0u) << to_string(form);
  }
}

// ------------------------------------------------------------------- the harness is able to fail

struct Mutant {
  const char* name;
  Scenario scenario;
  std::uint64_t Tally::*caught_as;
};

TEST(Mutants, EachSeededMistakeIsCaughtAsWhatItIs) {
  Watchdog watchdog(120, "mutants");
  std::uint64_t caught = 0;
  const auto lane = ring_options(RingForm::lane), total = ring_options(RingForm::total);
  const Mutant mutants[] = {
      {"publishes before the payload",
       {"lane/M1", lane, 0, Side::sender, 0, nullptr, &victim::attach,
        &victim::publish_before_payload},
       &Tally::torn},
      {"publishes before the payload, in one order for all",
       {"total/M1", total, 0, Side::sender, 4, nullptr, &victim::attach,
        &victim::publish_before_payload},
       &Tally::torn},
      {"acknowledges before the commit",
       {"lane/M2", lane, 0, Side::sender, 0, nullptr, &victim::fill_first,
        &victim::acknowledge_before_commit},
       &Tally::lost},
      {"gives back what it has not seen",
       {"lane/M3", lane, 0, Side::receiver, 16, nullptr, &victim::peek_before_telling,
        &victim::release_unseen},
       &Tally::lost},
      {"frees a place and leaves its claim open",
       {"total/M4", total, 0, Side::both, 0, &kill_both, nullptr, &victim::free_the_place_only},
       &Tally::violations},
      {"counts what it did not send",
       {"lane/M5", lane, 0, Side::sender, 0, nullptr, &victim::fill_first, &victim::skip_a_number},
       &Tally::violations},
  };
  for (const Mutant& mutant : mutants) {
    Tally tally;
    const World world(mutant.scenario.options, mutant.scenario.start);
    const Path path = trace_once(world, mutant.scenario, 100'000);
    ASSERT_TRUE(path.is_whole) << mutant.name;
    const std::vector<std::size_t> steps = steps_of(path, 2);
    // Most of a mutant's steps are sound; it has done its worst towards the end.
    for (std::size_t k = 0; k < steps.size() && tally.*mutant.caught_as == 0; ++k) {
      if (steps.size() - k < 40 || k % 7 == 0)
        kill_at(world, mutant.scenario, path, steps[k], tally);
    }
    EXPECT_GT(tally.*mutant.caught_as, 0u) << mutant.name;
    caught += tally.*mutant.caught_as != 0 ? 1 : 0;
  }
  std::cout << caught << " of " << std::size(mutants) << " mutants caught" << std::endl;
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

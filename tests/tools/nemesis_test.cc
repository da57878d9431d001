// SPDX-License-Identifier: Apache-2.0
// `slipring stress` from inside: that its judge finds every mistake it is there for, and a minute
// of kills in which it finds none (T5).
#include "nemesis.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>

#include "nemesis_judge.h"
#include "support/names.h"
#include "support/reliability.h"
#include "support/watchdog.h"

namespace slipring::tools::nemesis {
namespace {

using test::TempDir;
using test::Watchdog;
using namespace std::chrono_literals;

/// Two senders that ended in order, and one receiver that got everything.
class JudgeTest : public testing::Test {
 protected:
  JudgeTest()
      : log_(*static_cast<Log*>(::mmap(nullptr, sizeof(Log), PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
    log_.senders.set(2);
    log_.receivers.set(1);
    for (SenderLog* sender : {&log_.sender[0], &log_.sender[1]}) {
      sender->committed.set(10);
      sender->from.set(9);
      sender->to.set(10);
      sender->ended.set(1);
    }
    log_.receiver[0].ended.set(1);
    add_run(0, 0, 10, 0, false);
    add_run(1, 0, 10, 0, false);
  }
  ~JudgeTest() override { ::munmap(&log_, sizeof(Log)); }

  void add_run(std::uint64_t sender, std::uint64_t first, std::uint64_t end, std::uint64_t receiver,
               bool redelivered) {
    nemesis::Run& run = log_.run[log_.runs.get()];
    run.sender.set(sender);
    run.first.set(first);
    run.end.set(end);
    run.receiver.set(receiver);
    run.redelivered.set(redelivered ? 1 : 0);
    log_.runs.add();
  }
  [[nodiscard]] Tally verdict() const {
    Tally tally;
    judge(log_, tally);
    return tally;
  }
  /// The rule of the first violation; empty when there is none.
  [[nodiscard]] std::string rule() const {
    const Tally tally = verdict();
    return tally.is_clean() ? "" : tally.violations.front().rule;
  }
  Log& log_;
};

TEST_F(JudgeTest, HasNothingToSayOfARunInWhichAllWentWell) {
  const Tally tally = verdict();
  EXPECT_TRUE(tally.is_clean());
  EXPECT_EQ(tally.messages, 20u);
  EXPECT_EQ(tally.acknowledged, 20u);
}

TEST_F(JudgeTest, FindsAnAcknowledgedMessageThatNeverCame) {
  log_.run[1].end.set(9);
  EXPECT_EQ(rule(), "I1");
  EXPECT_EQ(verdict().lost, 1u);
}

TEST_F(JudgeTest, FindsAHoleInTheMiddle) {
  log_.run[1].end.set(4);
  add_run(1, 6, 10, 0, false);
  EXPECT_EQ(rule(), "I1");
  EXPECT_EQ(verdict().lost, 2u);
}

TEST_F(JudgeTest, FindsAMessageThatCameTwiceWithoutTheMark) {
  log_.receivers.set(2);
  log_.receiver[1].ended.set(1);
  add_run(1, 7, 10, 1, false);
  EXPECT_EQ(rule(), "I2");
  EXPECT_EQ(verdict().twice, 3u);
}

TEST_F(JudgeTest, TakesAMarkedRepeatToASuccessorForWhatItIs) {
  log_.receivers.set(2);
  log_.receiver[1].ended.set(1);
  add_run(1, 7, 10, 1, true);
  EXPECT_EQ(rule(), "");
  EXPECT_EQ(verdict().redelivered, 3u);
}

TEST_F(JudgeTest, FindsAMarkedRepeatToTheSameReceiver) {
  add_run(1, 7, 10, 0, true);
  EXPECT_EQ(rule(), "I3");
}

TEST_F(JudgeTest, LeavesACommitInDoubtOpenEitherWay) {
  SenderLog& killed = log_.sender[1];
  killed.ended.set(0);
  killed.killed.set(1);
  killed.from.set(10);
  killed.to.set(13);
  EXPECT_EQ(rule(), "");
  EXPECT_EQ(verdict().in_doubt, 3u);
  log_.run[1].end.set(13);
  EXPECT_EQ(rule(), "");
}

TEST_F(JudgeTest, FindsABatchOfWhichAPartIsThere) {
  SenderLog& killed = log_.sender[1];
  killed.ended.set(0);
  killed.killed.set(1);
  killed.from.set(10);
  killed.to.set(13);
  log_.run[1].end.set(12);
  EXPECT_EQ(rule(), "I4");
}

TEST_F(JudgeTest, FindsAMessageThatWasNeverSent) {
  log_.run[1].end.set(11);
  EXPECT_EQ(rule(), "I4");
  log_.run[1].end.set(10);
  add_run(7, 0, 1, 0, false);
  EXPECT_EQ(rule(), "I2");
}

TEST_F(JudgeTest, FindsTheLivingToldOfAsDead) {
  log_.sender[0].pid.set(100);
  log_.sender[0].place.set(3);
  log_.sender[0].attached.set(1);
  log_.departed_of[0].pid.set(100);
  log_.departed_of[0].place.set(3);
  log_.departed.set(1);
  EXPECT_EQ(rule(), "I11");
  log_.sender[0].killed.set(1);
  EXPECT_EQ(rule(), "");
  log_.departed_of[0].place.set(4);
  EXPECT_EQ(rule(), "I11");
}

TEST_F(JudgeTest, FindsWhoeverFailedOrVanished) {
  using Change = std::function<void(Log&)>;
  for (const auto& [change, wanted] :
       {std::pair<Change, const char*>([](Log& log) { log.sender[1].ended.set(0); }, "I5"),
        {[](Log& log) { log.receiver[0].ended.set(0); }, "I5"},
        {[](Log& log) { log.sender[0].failed.set(1); }, "I5"},
        {[](Log& log) { log.receiver[0].failed.set(1); }, "I5"},
        {[](Log& log) { log.receiver[0].torn.set(1); }, "I2"},
        {[](Log& log) { log.receiver[0].strange.set(1); }, "I2"},
        {[](Log& log) { log.receiver[0].reordered.set(1); }, "I3"},
        {[](Log& log) { log.sender[0].false_dead.set(1); }, "I11"},
        {[](Log& log) { log.sender[0].forks_not_refused.set(1); }, "F5"}}) {
    const SenderLog first = log_.sender[0], second = log_.sender[1];
    const ReceiverLog receiver = log_.receiver[0];
    change(log_);
    EXPECT_EQ(rule(), wanted);
    log_.sender[0] = first;
    log_.sender[1] = second;
    log_.receiver[0] = receiver;
  }
}

Options options_of(std::chrono::milliseconds length, const TempDir& dir) {
  Options options;
  options.seed = 20260101;
  options.length = length;
  options.places.shm = (dir.path() / "shm").string();
  options.places.files = (dir.path() / "files").string();
  options.evidence_dir = dir.path().string();
  std::filesystem::create_directory(options.places.shm);
  return options;
}

Tally run_or_fail(const Options& options, std::string* evidence = nullptr) {
  const auto outcome = run(
      options, [] { return false; }, [](auto, const Tally&) {});
  EXPECT_TRUE(outcome.has_value()) << (outcome ? "" : outcome.error().op);
  if (!outcome) return {};
  if (evidence != nullptr) *evidence = outcome->evidence;
  return outcome->tally;
}

TEST(Nemesis, FindsEveryMistakeThatAWorkerIsMadeToMake) {
  const Watchdog watchdog(120, "seeded mistakes");
  std::uint64_t found = 0;
  for (const Defect defect :
       {Defect::lose, Defect::repeat, Defect::tear, Defect::swap, Defect::slander}) {
    const TempDir dir;
    Options options = options_of(400ms, dir);
    options.defect = defect;
    options.kills_per_s = 10;
    options.form = channel::RingForm::per_producer;
    std::string evidence;
    const Tally tally = run_or_fail(options, &evidence);
    ASSERT_FALSE(tally.is_clean()) << "defect " << static_cast<int>(defect);
    const std::filesystem::path kept(evidence);
    for (const char* file : {"report.txt", "schedule.txt", "segment"}) {
      EXPECT_GT(std::filesystem::file_size(kept / file), 0u) << file;
    }
    ++found;
  }
  test::Reliability("T5", "seeded").add("seeded", 5).add("found", found);
}

TEST(Nemesis, DrawsTheSameFaultsFromTheSameSeed) {
  const TempDir dir;
  Options options = options_of(5000ms, dir);
  options.kills_per_s = 50;
  options.pause = options.fork = options.unlink = true;
  const std::vector<Fault> schedule = draw_schedule(options);
  EXPECT_GT(schedule.size(), 200u);
  EXPECT_EQ(draw_schedule(options), schedule);
  EXPECT_EQ(parse_schedule(to_text(schedule)).value(), schedule);
  const auto kills = [](const std::vector<Fault>& faults) {
    return std::ranges::count(faults, Fault::What::kill, &Fault::what);
  };
  Options fewer = options;
  fewer.pause = fewer.fork = fewer.unlink = false;
  EXPECT_EQ(kills(draw_schedule(fewer)), kills(schedule));
  ++options.seed;
  EXPECT_NE(draw_schedule(options), schedule);
}

TEST(Nemesis, RefusesAScheduleThatIsNone) {
  EXPECT_TRUE(parse_schedule("10 kill 1\n5 pause 2 300\n7 fork 1\n9 unlink 0\n").has_value());
  for (const char* text : {"kill 1", "10 kil 1", "-1 kill 1", "10 kill", "10 kill 99", "10 pause 1",
                           "10 kill 1 2", "\n", "10 kill 1\nx"}) {
    const auto parsed = parse_schedule(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_EQ(parsed.error().code, Errc::invalid_argument);
  }
}

// SLIPRING_NEMESIS_SECONDS is how long; SLIPRING_TEST_SEED repeats one.
TEST(Nemesis, BreaksNoPromiseByKillingStoppingForkingAndUnlinking) {
  const Watchdog watchdog(1500, "nemesis");
  const TempDir dir;
  const char* seconds = std::getenv("SLIPRING_NEMESIS_SECONDS");
  const int length = seconds != nullptr ? std::atoi(seconds) : test::is_nightly() ? 600 : 60;
  Options options = options_of(std::chrono::seconds(length), dir);
  const char* seed = std::getenv("SLIPRING_TEST_SEED");
  options.seed = seed != nullptr ? std::strtoull(seed, nullptr, 0)
                                 : static_cast<std::uint64_t>(monotonic_ns());
  // What a broken promise leaves has to outlive the test.
  options.evidence_dir = std::filesystem::temp_directory_path().string();
  options.kills_per_s = 250;
  options.pause = options.fork = options.unlink = true;
  std::string evidence;
  const Tally tally = run_or_fail(options, &evidence);
  for (const Violation& violation : tally.violations) {
    ADD_FAILURE() << violation.rule << ": " << violation.what
                  << " (SLIPRING_TEST_SEED=" << options.seed << ", " << evidence << ")";
  }
  EXPECT_TRUE(std::filesystem::is_empty(options.places.shm));
  test::Reliability("T5", "nemesis")
      .add("seconds", static_cast<std::uint64_t>(length))
      .add("kills", tally.kills)
      .add("pauses", tally.pauses)
      .add("forks", tally.forks)
      .add("unlinks", tally.unlinks)
      .add("messages", tally.messages)
      .add("redelivered", tally.redelivered)
      .add("in_doubt", tally.in_doubt)
      .add("checks", tally.checks)
      .add("lost", tally.lost)
      .add("twice", tally.twice)
      .add("torn", tally.torn)
      .add("reordered", tally.reordered)
      .add("false_dead", tally.false_dead)
      .add("stalls", tally.stalls)
      .add("names_left", tally.left)
      .add("violations", tally.violations.size())
      .add("seed", options.seed);
}

}  // namespace
}  // namespace slipring::tools::nemesis

// SPDX-License-Identifier: Apache-2.0
// `slipring stress`: torture with a verdict. It makes rings of its own and leaves none.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "commands.h"
#include "nemesis.h"
#include "ring_flags.h"
#include "sizes.h"
#include "stop.h"

namespace slipring::tools {
namespace {

struct StressOptions {
  std::string seed, procs = "6", kill = "0", length = "10s", round = "2s", capacity = "64K";
  std::string ring, order, kind, schedule, evidence, save;
  bool pause = false, fork = false, unlink = false, verify = false;
};

template <typename T>
std::optional<T> number(std::string_view text) {
  T value{};
  const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (bad != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

tl::unexpected<Failure> bad(const std::string& option, const std::string& text, std::string why,
                            const std::string& fix) {
  return usage(fmt::format("bad value '{}' for {}", printable(text), option), std::move(why),
               "slipring stress " + fix);
}

// "30s", or as in --secs 30.
Try<std::chrono::milliseconds> length_of(const std::string& option, const std::string& text) {
  std::optional<std::chrono::nanoseconds> time = parse_duration(text);
  if (const auto seconds = number<std::uint32_t>(text)) time = std::chrono::seconds(*seconds);
  if (!time || *time < std::chrono::milliseconds(1) || *time > std::chrono::hours(240)) {
    return bad(option, text, "a time from 1ms to 240h is needed", option + " 30s");
  }
  return std::chrono::duration_cast<std::chrono::milliseconds>(*time);
}

Try<std::vector<nemesis::Fault>> load_schedule(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) {
    return failed_call("cannot read " + printable(path), "open", "",
                       "slipring stress --save-schedule FILE writes one");
  }
  auto schedule = nemesis::parse_schedule(text.str());
  if (schedule && !schedule->empty()) return std::move(*schedule);
  const int line = schedule ? 0 : schedule.error().sys;
  return bad(
      "--schedule", path,
      line == 0 ? "it has no fault in it" : fmt::format("line {} is no fault", line),
      "--save-schedule FILE writes one; a line is: microseconds kill|pause|fork|unlink SLOT");
}

Try<nemesis::Options> options_of(const StressOptions& opt) {
  nemesis::Options options;
  options.seed = std::random_device{}();
  if (!opt.seed.empty()) {
    const auto seed = number<std::uint64_t>(opt.seed);
    if (!seed) return bad("--seed", opt.seed, "a number is needed", "--seed 7");
    options.seed = *seed;
  }
  const auto procs = number<unsigned>(opt.procs);
  if (!procs || *procs < 2 || *procs > nemesis::kMostSlots) {
    return bad("--procs", opt.procs,
               fmt::format("from 2 to {}: one receives, the others send", nemesis::kMostSlots),
               "--procs 6");
  }
  options.procs = *procs;
  std::string_view kill = opt.kill;
  if (kill.ends_with("/s")) kill.remove_suffix(2);
  const auto kills = number<double>(kill);
  if (!kills || !(*kills >= 0) || *kills > 10'000) {
    return bad("--kill", opt.kill, "kills per second, at most 10000", "--kill 50");
  }
  options.kills_per_s = *kills;
  const auto length = length_of("--secs", opt.length);
  if (!length) return tl::unexpected(length.error());
  const auto round = length_of("--round", opt.round);
  if (!round) return tl::unexpected(round.error());
  options.length = *length;
  options.round = *round;
  options.pause = opt.pause;
  options.fork = opt.fork;
  options.unlink = opt.unlink;
  options.places = places();
  options.evidence_dir =
      opt.evidence.empty() ? std::filesystem::temp_directory_path().string() : opt.evidence;
  if (!std::filesystem::is_directory(options.evidence_dir)) {
    return bad("--evidence", options.evidence_dir, "it is no directory", "--evidence /tmp");
  }
  if (!opt.schedule.empty()) {
    auto schedule = load_schedule(opt.schedule);
    if (!schedule) return tl::unexpected(schedule.error());
    options.schedule = std::move(*schedule);
  }
  if (!opt.kind.empty()) {
    const auto kind = segment::parse_backend(opt.kind);
    if (!kind) {
      return bad("--kind", opt.kind, "known are posix, sysv, file and memfd", "--kind posix");
    }
    options.kind = *kind;
  }
  RingFlags flags;
  flags.ring = opt.ring;
  flags.order = opt.order;
  flags.capacity = opt.capacity;
  const auto shm = shm_options(flags, "slipring stress");
  if (!shm) return tl::unexpected(shm.error());
  options.capacity = shm->capacity;
  if (!opt.ring.empty()) options.form = shm->form;
  channel::ShmOptions most = *shm;
  most.form = channel::RingForm::per_producer;
  if (const auto fits = channel::segment_bytes(most); !fits) {
    Subject subject("stress", "make");
    subject.options = most;
    return failed(fits.error(), subject);
  }
  return options;
}

std::string command_of(const nemesis::Options& options, const StressOptions& opt) {
  std::string text =
      fmt::format("slipring stress --seed {} --procs {} --kill {} --secs {} --round {}",
                  options.seed, options.procs, opt.kill, opt.length, opt.round);
  for (const auto& [set, flag] :
       {std::pair(opt.pause, " --pause"), {opt.fork, " --fork"}, {opt.unlink, " --unlink"}}) {
    if (set) text += flag;
  }
  for (const auto& [value, flag] : {std::pair(opt.ring, " --ring "),
                                    {opt.order, " --order "},
                                    {opt.kind, " --kind "},
                                    {opt.schedule, " --schedule "}}) {
    if (!value.empty()) text += flag + printable(value);
  }
  return text;
}

std::string describe(std::uint64_t seed, const nemesis::Tally& tally) {
  return fmt::format(
      "stress: seed {}, {} rounds, {} kills, {} pauses, {} forks, {} names removed, {} messages; "
      "lost {}, twice {}, torn {}, out of order {}, false dead {}, left behind {}; redelivered {}, "
      "in doubt {}; {} checks; longest to a successor {}\n",
      seed, grouped(tally.rounds), grouped(tally.kills), grouped(tally.pauses),
      grouped(tally.forks), grouped(tally.unlinks), grouped(tally.messages), tally.lost,
      tally.twice, tally.torn, tally.reordered, tally.false_dead, tally.left,
      grouped(tally.redelivered), grouped(tally.in_doubt), grouped(tally.checks),
      human_duration(tally.longest_attach_ns));
}

std::string to_json(std::uint64_t seed, const nemesis::Outcome& outcome, ExitCode exit) {
  const nemesis::Tally& tally = outcome.tally;
  using Json = nlohmann::ordered_json;
  Json body = {{"schema", 1}, {"command", "stress"}, {"seed", seed}};
  for (const auto& [key, value] : {std::pair("rounds", tally.rounds),
                                   {"kills", tally.kills},
                                   {"pauses", tally.pauses},
                                   {"forks", tally.forks},
                                   {"names_removed", tally.unlinks},
                                   {"messages", tally.messages},
                                   {"redelivered", tally.redelivered},
                                   {"acknowledged", tally.acknowledged},
                                   {"in_doubt", tally.in_doubt},
                                   {"aborted", tally.aborted},
                                   {"told_dead", tally.told_dead},
                                   {"checks", tally.checks},
                                   {"lost", tally.lost},
                                   {"twice", tally.twice},
                                   {"torn", tally.torn},
                                   {"reordered", tally.reordered},
                                   {"false_dead", tally.false_dead},
                                   {"stalls", tally.stalls},
                                   {"left", tally.left}}) {
    body[key] = value;
  }
  body["longest_attach_ns"] = tally.longest_attach_ns;
  body["violations"] = Json::array();
  for (const nemesis::Violation& violation : tally.violations) {
    body["violations"].push_back({{"rule", violation.rule}, {"what", printable(violation.what)}});
  }
  body["evidence"] = outcome.evidence.empty() ? Json() : Json(printable(outcome.evidence));
  body["exit"] = to_int(exit);
  return Json{{"slipring", body}}.dump() + "\n";
}

Outcome run_stress(const StressOptions& opt) {
  auto options = options_of(opt);
  if (!options) return tl::unexpected(options.error());
  if (!opt.save.empty()) {
    const auto schedule =
        options->schedule.empty() ? nemesis::draw_schedule(*options) : options->schedule;
    std::ofstream file(opt.save);
    file << nemesis::to_text(schedule) << std::flush;
    if (!file) {
      return failed_call("cannot write " + printable(opt.save), "write", "",
                         "another file, or df, for the room there");
    }
  }
  catch_stop_signals();
  note("repeat it with: " + command_of(*options, opt));
  const auto outcome = nemesis::run(
      *options, [] { return stop_signal() != 0; },
      [&](std::chrono::milliseconds done, const nemesis::Tally& tally) {
        if (!voice().verbose) return;
        note(fmt::format("{} s: {} kills, {} messages", done.count() / 1000, grouped(tally.kills),
                         grouped(tally.messages)));
      });
  if (!outcome) {
    Subject subject("a ring of its own", "make");
    subject.command = "slipring stress";
    subject.options.places = options->places;
    return failed(outcome.error(), subject);
  }
  const ExitCode exit = outcome->tally.is_clean() ? ExitCode::ok : ExitCode::corrupt;
  const auto printed = print_out(voice().json ? to_json(options->seed, *outcome, exit)
                                              : describe(options->seed, outcome->tally));
  if (!printed) return printed;
  if (exit == ExitCode::ok) return stop_signal() != 0 ? Outcome(stopped()) : exit;
  std::string first =
      outcome->tally.violations.front().rule + ": " + outcome->tally.violations.front().what;
  return tl::unexpected(Failure{
      {Errc::corrupt,
       fmt::format("{} broken, first {} (corrupt)",
                   counted(outcome->tally.violations.size(), "promise"), first),
       "what the workers noted of their calls contradicts what slipring promises",
       outcome->evidence.empty() ? command_of(*options, opt)
                                 : fmt::format("send {} with a report; {}", outcome->evidence,
                                               command_of(*options, opt))},
      exit});
}

}  // namespace

void add_stress(CLI::App& app, Job& job) {
  auto opt = std::make_shared<StressOptions>();
  CLI::App* sub =
      app.add_subcommand("stress", "Kill, stop and fork processes that send; verify what arrives");
  const auto option = [sub](const char* name, std::string& value, const char* type,
                            const char* help) {
    sub->add_option(name, value, help)->type_name(type);
  };
  option("--seed", opt->seed, "N", "of what is done when, and to whom; default: a new one");
  option("--procs", opt->procs, "N", "one receives, the others send (default 6)");
  option("--kill", opt->kill, "RATE", "SIGKILLs per second (default 0)");
  sub->add_flag("--pause", opt->pause, "stop processes for up to 60 ms");
  sub->add_flag("--fork", opt->fork, "fork in the middle; the child tries what it may not");
  sub->add_flag("--unlink", opt->unlink, "take the ring's name away while it is used");
  option("--secs", opt->length, "TIME", "how long (default 10s)");
  option("--round", opt->round, "TIME", "how long each ring lives (default 2s)");
  sub->add_flag("--verify", opt->verify, "judge what the workers noted; always done");
  option("--schedule", opt->schedule, "FILE", "what is done, from a file instead of the seed");
  option("--save-schedule", opt->save, "FILE", "write what will be done");
  option("--evidence", opt->evidence, "DIR", "where what is left of a broken promise goes");
  option("--kind", opt->kind, "KIND", "posix, sysv, file or memfd; default: all in turns");
  option("--ring", opt->ring, "FORM", "spsc or mpsc; default: all in turns");
  option("--order", opt->order, "ORDER", "of mpsc: producer or total");
  option("--capacity", opt->capacity, "SIZE", "of each ring, or lane (default 64K)");
  sub->add_flag("-J,--json", voice().json, "the verdict as JSON");
  sub->footer(
      "Ends with 6 when a promise was found broken; then a directory has the log, the schedule "
      "and\n"
      "the segment.\n\nExample:\n  slipring stress --seed 7 --procs 6 --kill 50 --pause --secs 30");
  sub->callback([opt, &job] { job = [opt] { return run_stress(*opt); }; });
}

}  // namespace slipring::tools

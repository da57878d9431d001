// SPDX-License-Identifier: Apache-2.0
#include "nemesis_judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "slipring/base/error.h"

namespace slipring::tools::nemesis {
namespace {

struct Seen {
  std::uint64_t first, end, receiver;
  bool redelivered;
};

void judge_sender(std::uint64_t who, const SenderLog& log, std::vector<Seen>& runs, Tally& tally) {
  // In the order of receivers, and of each receiver in the order in which they came: as logged.
  std::uint64_t next = 0, receiver = 0, at = 0;
  for (const Seen& run : runs) {
    const bool is_successor = run.receiver != receiver;
    if (run.first > next) {
      tally.lost += run.first - next;
      tally.add("I1", fmt::format("sender {}: message {} came after {}, those between never did",
                                  who, run.first, next));
    }
    if (run.first < next && !run.redelivered) {
      tally.twice += std::min(next, run.end) - run.first;
      tally.add("I2", fmt::format("sender {}: messages {} to {} came again without the mark", who,
                                  run.first, std::min(next, run.end)));
    }
    // One receiver sees each once: what comes again to the same one is out of order.
    if (!is_successor && run.first < at) {
      ++tally.reordered;
      tally.add("I3", fmt::format("sender {}: message {} came behind {} to one receiver", who,
                                  run.first, at));
    }
    if (run.first < next && run.redelivered)
      tally.redelivered += std::min(next, run.end) - run.first;
    next = std::max(next, run.end);
    at = run.end;
    receiver = run.receiver;
  }
  const std::uint64_t committed = log.committed.get();
  const std::uint64_t from = log.from.get(), to = log.to.get();
  tally.messages += next;
  tally.acknowledged += committed;
  if (next < committed) {
    tally.lost += committed - next;
    tally.add("I1", fmt::format("sender {}: {} messages acknowledged, {} delivered", who, committed,
                                next));
  }
  if (to > committed) tally.in_doubt += to - committed;
  const bool is_whole = next <= committed || (from == committed && next == to);
  if (!is_whole) {
    tally.add("I4", fmt::format("sender {}: {} delivered; acknowledged {}, in doubt {} to {}", who,
                                next, committed, from, to));
  }
}

void judge_failures(const Log& log, Tally& tally) {
  const auto text = [](std::uint64_t failed) {
    return std::string(to_string(static_cast<Errc>(failed - 1)));
  };
  for (std::uint64_t i = 0; i < log.senders.get(); ++i) {
    const SenderLog& sender = log.sender[i];
    if (sender.failed.get() != 0) {
      tally.add("I5", fmt::format("sender {}: a call failed: {}", i, text(sender.failed.get())));
    }
    if (sender.ended.get() == 0 && sender.killed.get() == 0) {
      tally.add("I5", fmt::format("sender {}: neither killed nor ended in order", i));
    }
    if (sender.false_dead.get() != 0) {
      tally.false_dead += sender.false_dead.get();
      tally.add("I11", fmt::format("sender {}: took a living receiver for dead", i));
    }
    if (sender.forks_not_refused.get() != 0) {
      tally.add("F5", fmt::format("sender {}: a forked child could use its endpoint", i));
    }
    tally.aborted += sender.aborted.get();
    tally.forks += sender.forks.get();
    const auto attached = static_cast<std::int64_t>(sender.attached.get());
    const auto since = static_cast<std::int64_t>(sender.successor_of_ns.get());
    if (attached != 0 && since != 0) {
      tally.longest_attach_ns = std::max(tally.longest_attach_ns, attached - since);
    }
  }
  for (std::uint64_t i = 0; i < log.receivers.get(); ++i) {
    const ReceiverLog& receiver = log.receiver[i];
    if (receiver.failed.get() != 0) {
      tally.add("I5",
                fmt::format("receiver {}: a call failed: {}", i, text(receiver.failed.get())));
    }
    if (receiver.ended.get() == 0 && receiver.killed.get() == 0) {
      tally.add("I5", fmt::format("receiver {}: neither killed nor ended in order", i));
    }
    if (const std::uint64_t torn = receiver.torn.get() + receiver.strange.get(); torn != 0) {
      tally.torn += torn;
      tally.add("I2", fmt::format("receiver {}: {} messages that nobody sent so", i, torn));
    }
    if (const std::uint64_t wrong = receiver.reordered.get(); wrong != 0) {
      tally.reordered += wrong;
      tally.add("I3", fmt::format("receiver {}: {} messages behind later claims", i, wrong));
    }
  }
}

void judge_departed(const Log& log, Tally& tally) {
  std::set<std::pair<std::uint64_t, std::uint64_t>> killed;
  for (std::uint64_t i = 0; i < log.senders.get(); ++i) {
    if (log.sender[i].killed.get() == 0) continue;
    killed.emplace(log.sender[i].pid.get(), log.sender[i].place.get());
    // Killed before it could note which place it got.
    if (log.sender[i].attached.get() == 0) killed.emplace(log.sender[i].pid.get(), ~0ULL);
  }
  // A receiver takes the place of the dead for an instant, to free it; killed there, it is found in
  // it.
  for (std::uint64_t i = 0; i < log.receivers.get(); ++i) {
    if (log.receiver[i].killed.get() != 0) killed.emplace(log.receiver[i].pid.get(), ~0ULL);
  }
  const std::uint64_t count = std::min(log.departed.get(), kMostSenders);
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t pid = log.departed_of[i].pid.get(), place = log.departed_of[i].place.get();
    // pid 0: killed between taking its place and saying who it is.
    if (pid == 0 || killed.contains({pid, place}) || killed.contains({pid, ~0ULL})) continue;
    ++tally.false_dead;
    tally.add("I11", fmt::format("process {} at place {} was told of as dead, and was not killed",
                                 pid, place));
  }
  tally.told_dead += count;
}

}  // namespace

void Tally::add(const char* rule, std::string what) {
  constexpr std::size_t kMost = 100;
  if (violations.size() < kMost) violations.push_back({rule, std::move(what)});
}

void judge(const Log& log, Tally& tally) {
  const std::uint64_t senders = log.senders.get();
  std::vector<std::vector<Seen>> seen(senders);
  for (std::uint64_t i = 0; i < log.runs.get(); ++i) {
    const Run& run = log.run[i];
    const std::uint64_t who = run.sender.get();
    if (who >= senders) {
      ++tally.torn;
      tally.add("I2", fmt::format("a message of sender {}, which never was", who));
      continue;
    }
    seen[who].push_back(
        {run.first.get(), run.end.get(), run.receiver.get(), run.redelivered.get() != 0});
  }
  for (std::uint64_t who = 0; who < senders; ++who) {
    judge_sender(who, log.sender[who], seen[who], tally);
  }
  judge_failures(log, tally);
  judge_departed(log, tally);
}

}  // namespace slipring::tools::nemesis

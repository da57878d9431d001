// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string_view>
#include <thread>

#include "scenario.h"
#include "slipring/base/deadline.h"

// Kills, pauses and recovers, and judges what is left.
namespace slipring::test {

inline constexpr std::uint64_t kFurther = 1000;
inline constexpr std::int64_t kStallNs = 10'000'000;

[[nodiscard]] inline bool is_nightly() {
  const char* tier = std::getenv("SLIPRING_CRASH_TIER");
  return tier != nullptr && std::string_view(tier) == "nightly";
}
/// Where samples begin. One seed repeats a run.
[[nodiscard]] inline std::uint64_t crash_seed() {
  const char* set = std::getenv("SLIPRING_TEST_SEED");
  return set != nullptr ? std::strtoull(set, nullptr, 0) : 1;
}
/// SLIPRING_CRASH_AT=total/commit@17 runs that point alone; without @17 all of that operation.
[[nodiscard]] inline bool is_wanted(const std::string& scenario, std::size_t step) {
  const char* set = std::getenv("SLIPRING_CRASH_AT");
  if (set == nullptr) return true;
  const std::string_view at(set);
  const std::size_t mark = at.find('@');
  return at.substr(0, mark) == scenario &&
         (mark == at.npos || std::strtoull(set + mark + 1, nullptr, 10) == step);
}
[[nodiscard]] inline bool is_wanted(const std::string& scenario) {
  const char* set = std::getenv("SLIPRING_CRASH_AT");
  return set == nullptr ||
         std::string_view(set).substr(0, std::string_view(set).find('@')) == scenario;
}

/// The one line that a report is made of; `part` is what was killed in.
inline void print_line(const char* test, const char* part, const Tally& t, std::int64_t from_ns,
                       const std::string& more = {}) {
  std::cout << "RELIABILITY test=" << test << " case=" << part
            << " tier=" << (is_nightly() ? "nightly" : "push") << " kill_points=" << t.kill_points
            << " images=" << t.images << " lost=" << t.lost << " torn=" << t.torn
            << " duplicated=" << t.duplicated << " stalls=" << t.stalls
            << " leaked_bytes=" << t.leaked_bytes << " violations=" << t.violations << more
            << " seed=" << crash_seed() << " seconds=" << (monotonic_ns() - from_ns) / 1'000'000'000
            << std::endl;
}
inline void print_complaints(const Tally& t) {
  for (const std::string& text : t.complaints) {
    std::cout << "  " << text << "\n    again: SLIPRING_CRASH_AT=" << text.substr(0, text.find(':'))
              << "\n";
  }
}

/// Descriptors and shared mappings of this process.
struct Resources {
  std::uint64_t fds = 0, shared_bytes = 0;
  static Resources now() {
    Resources found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      if (!entry.path().empty()) ++found.fds;
    }
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      char* end = nullptr;
      const std::uint64_t from = std::strtoull(line.c_str(), &end, 16);
      const std::uint64_t to = std::strtoull(end + 1, &end, 16);
      if (end[4] == 's') found.shared_bytes += to - from;
    }
    return found;
  }
  void expect_no_more(Tally& tally) const {
    const Resources after = now();
    if (after.fds > fds) tally.complain(tally.violations, "descriptors are left open");
    if (after.shared_bytes > shared_bytes) {
      tally.complain(tally.leaked_bytes, "mappings are left", after.shared_bytes - shared_bytes);
    }
  }
};

/// Tries for a second: another recoverer may hold the place for a moment.
template <typename Attach>
auto insist(Attach&& attach) {
  const Deadline give_up = Deadline::in(std::chrono::seconds(1));
  for (;;) {
    auto made = attach();
    if (made || give_up.passed()) return made;
  }
}

/// Who recovers: somebody, two at once, or somebody who comes behind one that left again.
enum class Recovery : std::uint8_t { alone, two_at_once, one_after_another };
[[nodiscard]] inline Recovery recovery_of(std::size_t step) {
  if (step % 16 == 7) return Recovery::two_at_once;
  return step % 16 == 3 ? Recovery::one_after_another : Recovery::alone;
}

/// Recovery, 1,000 more messages, and everything counted. How long it took from the proof of the
/// death until the ring carried a message again, in ns.
inline std::int64_t judge_what_is_left(const World& world, Living living, Judge& judge,
                                       Tally& tally, Recovery how) {
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
      tally.complain(tally.violations,
                     "I8: " + std::to_string(sent) + " were sent, " +
                         std::to_string(report->committed - world.committed_before()) + " counted");
    }
  };
  expect_sound(false);

  const auto end_well = [&](Child& child) {
    if (!child.wait().exited_with(0)) {
      tally.complain(tally.violations, "the other recoverer failed");
    }
  };
  const std::int64_t from = monotonic_ns();
  std::optional<Child> other;
  if (how != Recovery::alone) {
    other.emplace([&] {
      { const auto both = std::pair(world.receiver(), world.sender()); }
      return 0;
    });
    if (how == Recovery::one_after_another) end_well(*other);
  }
  if (!living.receiver) {
    if (auto made = insist([&] { return world.receiver(); }))
      living.receiver.emplace(std::move(*made));
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
    // One that may not wait does not look a thousand times either.
    auto message =
        deadline.ns() == 0 ? living.receiver->try_peek() : living.receiver->peek(deadline);
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
  const auto take_all = [&] {
    while (take(Deadline::now())) {
    }
  };
  bool usable = put(0);
  while (usable && further == 0) usable = take(Deadline::in(std::chrono::seconds(2)));
  const std::int64_t took = monotonic_ns() - from;
  for (std::uint64_t n = 1; usable && n < kFurther; ++n) {
    usable = put(n);
    if (n % 8 == 0) take_all();
  }
  take_all();
  if (!usable || further != kFurther) {
    tally.complain(tally.stalls, "it carries no messages any more");
    return took;
  }
  judge.expect_complete();
  // Behind the other one, who has the lock while it attaches: among the empty looks are those that
  // give the places of the dead free.
  if (how == Recovery::two_at_once) end_well(*other);
  for (int i = 0; i < 130; ++i) (void)living.receiver->try_peek();
  living.sender.reset();
  successor.reset();
  living.receiver.reset();
  expect_sound(true);
  return took;
}

inline int run_victim(const World& world, const Scenario& s) {
  Context context(world);
  if (s.set_up != nullptr && !s.set_up(context)) return 3;
  stop_for_tracer();
  s.operation(context);
  ::_exit(0);
}

[[nodiscard]] inline std::uint64_t address_of(const Scenario& s) {
  return reinterpret_cast<std::uint64_t>(s.operation);
}

/// One victim, killed at step `k` of its path.
inline void kill_at(const World& world, const Scenario& s, const Path& path, std::size_t k,
                    Tally& tally) {
  tally.at = s.name + "@" + std::to_string(k);
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
    Judge judge(world, tally, s.of_living);
    const std::int64_t took =
        judge_what_is_left(world, std::move(living), judge, tally, recovery_of(k));
    if (took <= kStallNs) return;
    if (attempt == 5) {
      return tally.complain(tally.stalls, std::to_string(took / 1'000'000) + " ms until usable");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50) * (attempt + 1));
  }
}

[[nodiscard]] inline Path trace_once(const World& world, const Scenario& s, std::size_t max_steps) {
  world.begin_again();
  Living living(world, s);
  Tracee victim([&] { return run_victim(world, s); });
  return trace(victim, address_of(s), world.watched(), max_steps);
}

/// The steps to die at: all, but of a loop its first `rounds` and those in which memory changed.
[[nodiscard]] inline std::vector<std::size_t> steps_of(const Path& path, std::uint32_t rounds) {
  std::vector<std::size_t> steps;
  for (std::size_t k = 0; k < path.steps(); ++k) {
    const bool changes = (k != 0 && path.image[k] != path.image[k - 1]) ||
                         (k + 1 < path.steps() && path.image[k] != path.image[k + 1]);
    if (path.visits[k] <= rounds || changes || k + 1 == path.steps()) steps.push_back(k);
  }
  return steps;
}

// ---------------------------------------------------------------------------------------- pause

/// Bytes that nobody but a stopped victim may change, and what was in them.
class Guarded {
 public:
  Guarded(const World& world, pid_t victim)
      : body_(world.body()), pid_(static_cast<std::uint32_t>(victim)) {
    const bool total = body_.shape().form == RingForm::total;
    if (is_held(body_.consumer_role())) {
      for (std::uint32_t i = 0; i < body_.shape().senders; ++i) total ? void() : guard_unread(i);
      if (total) guard_total_unread();
    }
    for (std::uint32_t i = 0; i < body_.shape().senders; ++i) {
      if (!is_held(body_.sender_role(i))) continue;
      senders_.push_back(i);
      if (!total) {
        guard(body_.lane(i).producer);
      } else {
        guard_claims(i);
      }
    }
  }
  /// The kernel says that it lives, so nobody may take a thing of it.
  void expect_not_taken(Tally& tally) const {
    const auto in_use = [&](RoleRef role) {
      RoleWatch watch;
      if (watch.look(role) == RoleWatch::Peer::dead || take_role(role)) {
        tally.complain(tally.reclaims, "a stopped process lost its role");
      }
    };
    for (const std::uint32_t i : senders_) {
      in_use(body_.sender_role(i));
      if (body_.shape().form == RingForm::total && ring::reap(body_.area(), i)) {
        tally.complain(tally.reclaims, "a stopped process was reaped");
      }
    }
    if (is_held(body_.consumer_role())) in_use(body_.consumer_role());
  }
  void expect_unchanged(Tally& tally) const {
    for (const Part& part : parts_) {
      std::uint64_t changed = 0;
      for (std::size_t i = 0; i < part.bytes.size(); ++i)
        changed += part.bytes[i] != part.before[i];
      if (changed != 0)
        tally.complain(tally.foreign_bytes, "bytes of a stopped process changed", changed);
    }
  }

 private:
  struct Part {
    std::span<std::byte> bytes;
    std::vector<std::byte> before;
  };
  [[nodiscard]] bool is_held(RoleRef role) const {
    const RoleWord word = RoleWord::decode(NativeAccess::load_acquire(role.word));
    return word.state == RoleWord::State::held && word.pid == pid_;
  }
  void guard(std::span<std::byte> bytes) {
    parts_.push_back({bytes, {bytes.begin(), bytes.end()}});
  }
  /// [from, to) of a data area, which may go round.
  void guard_room(std::byte* data, std::uint64_t from, std::uint64_t to) {
    const std::uint64_t mask = body_.shape().capacity - 1;
    const std::uint64_t first = std::min(to - from, mask + 1 - (from & mask));
    guard({data + (from & mask), first});
    guard({data, to - from - first});
  }
  void guard_unread(std::uint32_t lane) {
    guard(body_.lane(lane).consumer);
    const std::uint64_t read = NativeAccess::load_acquire(body_.consumer_side(lane).read_pos);
    std::byte* data = body_.lane(lane).producer.data() + ring::kLaneAreaBytes;
    const auto walked = ring::walk_committed<NativeAccess>(
        data, {body_.shape().capacity, body_.shape().granule, body_.shape().max_payload}, read);
    if (walked) guard_room(data, read, walked->frontier);
  }
  void guard_total_unread() {
    const ring::TotalView ring = body_.total();
    auto* words = reinterpret_cast<std::byte*>(ring.control);
    guard({words + offsetof(ring::TotalControl, read_pos), 0x80});
    const std::uint64_t read = NativeAccess::load_acquire(ring.control->read_pos);
    const auto end = ring::walk_records<NativeAccess>(
        ring, read, [](std::uint64_t, std::uint64_t, const ring::Descriptor&) { return true; });
    if (end) guard_room(ring.data, read, *end);
  }
  void guard_claims(std::uint32_t owner) {
    const ring::TotalView ring = body_.total();
    guard({reinterpret_cast<std::byte*>(&ring.owners[owner]), sizeof(ring::TotalOwner)});
    (void)ring::walk_records<NativeAccess>(
        ring, NativeAccess::load_acquire(ring.control->read_pos),
        [&](std::uint64_t pos, std::uint64_t, const ring::Descriptor& record) {
          if (record.state == ring::RecordState::claimed && record.owner_id == owner + 1) {
            guard({reinterpret_cast<std::byte*>(&ring.descriptor(pos)), 8});
            guard_room(ring.data, pos, pos + record.granules * ring::kTotalGranule);
          }
          return true;
        });
  }

  channel::RingBody body_;
  std::uint32_t pid_;
  std::vector<std::uint32_t> senders_;
  std::vector<Part> parts_;
};

/// Three laps by the living, or until they can go no further. How many messages they sent in all.
inline std::uint64_t go_round(const World& world, Living& living, Judge& judge,
                              std::uint64_t of_living) {
  const auto take = [&] {
    if (!living.receiver) return false;
    auto message = living.receiver->try_peek();
    if (message) judge.see(message->bytes(), message->type(), message->redelivered());
    return message.has_value();
  };
  std::uint64_t bytes = 0;
  for (std::uint64_t n = of_living; living.sender && bytes < 3 * world.options().capacity; ++n) {
    while (!send(*living.sender, Stream::living, n)) {
      if (!take()) return n;
    }
    of_living = n + 1;
    bytes += size_of(n) + 8;
  }
  while (take()) {
  }
  for (int i = 0; i < 130; ++i) (void)take();
  return of_living;
}

/// One victim, stopped at step `k` while the others go round, then continued to its end.
inline void pause_at(const World& world, const Scenario& s, const Path& path, std::size_t k,
                     Tally& tally) {
  tally.at = s.name + "@" + std::to_string(k);
  world.begin_again();
  Living living(world, s);
  Tracee victim([&] { return run_victim(world, s); });
  if (!go_to_step(victim, path, k)) {
    ++tally.diverged;
    return;
  }
  victim.leave_stopped();
  ++tally.kill_points;
  Judge judge(world, tally, s.of_living);
  const Guarded guarded(world, victim.pid());
  const std::uint64_t of_living = go_round(world, living, judge, s.of_living);
  judge.expect_of_living(of_living);
  guarded.expect_not_taken(tally);
  guarded.expect_unchanged(tally);
  if (living.receiver && living.receiver->next_departed()) {
    tally.complain(tally.reclaims, "a stopped process was called dead");
  }
  victim.resume_to_end();
  if (!victim.exited_with(0)) tally.complain(tally.violations, "it did not go on to its end");
  if (world.log().done != world.log().began) {
    tally.complain(tally.lost, "its own message was refused");
  }
  (void)judge_what_is_left(world, std::move(living), judge, tally, Recovery::alone);
}

}  // namespace slipring::test

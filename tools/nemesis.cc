// SPDX-License-Identifier: Apache-2.0
#include "nemesis.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <sstream>

#include "nemesis_worker.h"
#include "slipring/base/deadline.h"
#include "slipring/channel/check.h"
#include "slipring/channel/inspect.h"
#include "slipring/channel/reap.h"
#include "slipring/channel/shm_link.h"
#include "slipring/manager/reaper.h"
#include "slipring/segment/name.h"

namespace slipring::tools::nemesis {
namespace {

using channel::RingForm;
using segment::Backend;
using What = Fault::What;
using namespace std::chrono_literals;
using std::chrono::microseconds;

constexpr std::array kForms = {RingForm::per_producer, RingForm::total, RingForm::lane};
constexpr std::array kKinds = {Backend::posix, Backend::memfd, Backend::sysv, Backend::file};
constexpr auto kStall = 20s;  // nobody stopped, and nothing moves
constexpr auto kCheckEvery = 20ms;
constexpr const char* kWhats[] = {"kill", "pause", "fork", "unlink"};

std::int64_t ns(std::chrono::nanoseconds time) { return time.count(); }

/// The log of a round: a private file that outlives whoever writes it.
class LogArea {
 public:
  LogArea()
      : memory_(::mmap(nullptr, sizeof(Log), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {}
  LogArea(const LogArea&) = delete;
  LogArea& operator=(const LogArea&) = delete;
  ~LogArea() {
    if (memory_ != MAP_FAILED) ::munmap(memory_, sizeof(Log));
  }
  [[nodiscard]] bool is_there() const { return memory_ != MAP_FAILED; }
  [[nodiscard]] Log& log() const { return *static_cast<Log*>(memory_); }

 private:
  void* memory_;
};

/// One ring, its workers, and what is done to them, until all is drained and judged.
class Round {
 public:
  Round(const Options& options, const Fault* first, const Fault* last, std::int64_t began_ns,
        std::uint64_t number, Tally& tally)
      : opt_(options),
        next_fault_(first),
        last_fault_(last),
        began_ns_(began_ns),
        number_(number),
        tally_(tally),
        form_(options.form.value_or(kForms[number % kForms.size()])),
        kind_(options.kind.value_or(kKinds[(number / kForms.size()) % kKinds.size()])),
        stage_{area_.log(), form_, options.seed + number * 1000003, options.defect,
               [this] { return open(); }} {}

  Result<void> run(std::int64_t until_ns, const std::function<bool()>& should_stop) {
    if (!area_.is_there()) return fail_errno("mmap");
    if (auto made = make_ring(); !made) return made;
    // Every other round somebody waits for deaths; in the others the workers find them.
    std::optional<manager::Reaper> reaper;
    if (number_ % 2 == 1) {
      auto started = manager::Reaper::start();
      auto mapped = started ? open() : Result<segment::Segment>(fail(Errc::system));
      if (!started || !mapped || !started->watch(std::move(*mapped))) {
        return fail(Errc::system, 0, "reaper");
      }
      reaper.emplace(std::move(*started));
    }
    const unsigned workers = form_ == RingForm::lane ? 2 : std::max(2U, opt_.procs);
    slots_.resize(workers);
    for (unsigned slot = 0; slot < workers; ++slot) {
      if (!spawn(slot, 0)) return fail_errno("fork");
    }
    moved_at_ns_ = monotonic_ns();
    while (monotonic_ns() < until_ns && !should_stop() && !has_failed()) turn();
    finish();
    reaper.reset();
    tally_.rounds += 1;
    judge(area_.log(), tally_);
    judge_counters();
    judge_leftovers();
    return {};
  }

  [[nodiscard]] const Fault* next_fault() const { return next_fault_; }

  /// What somebody needs who looks for the reason.
  [[nodiscard]] std::string save_evidence(const std::vector<Fault>& schedule) const {
    std::string dir = opt_.evidence_dir + fmt::format("/slipring-stress-{}-XXXXXX", opt_.seed);
    if (::mkdtemp(dir.data()) == nullptr) return {};
    const auto save = [&dir](const char* name, const void* bytes, std::size_t size) {
      if (std::FILE* file = std::fopen((dir + "/" + name).c_str(), "w")) {
        std::fwrite(bytes, 1, size, file);
        std::fclose(file);
      }
    };
    std::string report = fmt::format("seed {}\nround {}\nring {}\nkind {}\nprocs {}\ncapacity {}\n",
                                     opt_.seed, number_, channel::to_string(form_),
                                     segment::to_string(kind_), opt_.procs, opt_.capacity);
    for (const Violation& violation : tally_.violations) {
      report += fmt::format("violation {} {}\n", violation.rule, violation.what);
    }
    const Log& log = area_.log();
    for (std::uint64_t i = 0; i < log.senders.get(); ++i) {
      const SenderLog& sender = log.sender[i];
      report += fmt::format(
          "sender {} pid {} slot {} place {} acknowledged {} doubt {}..{} aborted {} killed {} "
          "ended {} failed {}\n",
          i, sender.pid.get(), sender.slot.get(), sender.place.get(), sender.committed.get(),
          sender.from.get(), sender.to.get(), sender.aborted.get(), sender.killed.get(),
          sender.ended.get(), sender.failed.get());
    }
    for (std::uint64_t i = 0; i < log.runs.get(); ++i) {
      const Run& run = log.run[i];
      report += fmt::format("run {} sender {} messages {}..{} receiver {} redelivered {}\n", i,
                            run.sender.get(), run.first.get(), run.end.get(), run.receiver.get(),
                            run.redelivered.get());
    }
    save("report.txt", report.data(), report.size());
    const std::string faults = to_text(schedule);
    save("schedule.txt", faults.data(), faults.size());
    if (ring_)
      save("segment", ring_->body().data() - segment::kHeaderBytes,
           segment::kHeaderBytes + ring_->body().size());
    return dir;
  }

 private:
  struct Worker {
    pid_t pid = -1;
    std::uint64_t log = 0;       // its number among senders, or among receivers
    std::int64_t resume_ns = 0;  // stopped until then
  };

  Log& log() { return area_.log(); }
  [[nodiscard]] bool has_failed() const { return !tally_.is_clean(); }

  Result<void> make_ring() {
    channel::ShmOptions options;
    options.kind = kind_;
    options.form = form_;
    options.capacity = opt_.capacity;
    options.senders = std::max(2 * opt_.procs, 8U);
    options.places = opt_.places;
    name_ = fmt::format("stress.{}.{}", ::getpid(), opt_.seed);
    auto made = kind_ == Backend::memfd ? channel::create_unnamed_ring(options)
                                        : channel::create_ring(name_, options);
    if (!made) return tl::unexpected(made.error());
    ring_.emplace(std::move(*made));
    return {};
  }

  // By name while it has one; else through our descriptor, opened anew: a lock belongs to an open
  // file, and a forked child shares its parent's.
  Result<segment::Segment> open() const {
    if (kind_ != Backend::memfd && !is_unlinked_) {
      return segment::Segment::open(segment::Name::parse(name_).value(),
                                    segment::OpenMode::read_write, {}, opt_.places);
    }
    const std::string path = fmt::format("/proc/self/fd/{}", ring_->fd());
    UniqueFd fd{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
    if (!fd) return fail_errno("open");
    return segment::Segment::from_fd(std::move(fd), segment::OpenMode::read_write);
  }

  bool spawn(unsigned slot, std::int64_t killed_ns) {
    Worker& worker = slots_[slot];
    const bool receives = slot == 0;
    Note& count = receives ? log().receivers : log().senders;
    worker.log = count.get();
    if (worker.log >= (receives ? kMostReceivers : kMostSenders)) return true;  // the round is full
    const pid_t parent = ::getpid();
    if (!receives) {
      log().sender[worker.log].slot.set(slot);
      log().sender[worker.log].successor_of_ns.set(static_cast<std::uint64_t>(killed_ns));
    }
    count.set(worker.log + 1);
    worker.pid = ::fork();
    if (worker.pid < 0) return false;
    if (worker.pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(125);
      for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::signal(number, SIG_IGN);
      const auto pid = static_cast<std::uint64_t>(::getpid());
      (receives ? log().receiver[worker.log].pid : log().sender[worker.log].pid).set(pid);
      ::_exit(receives ? receive_messages(stage_, worker.log) : send_messages(stage_, worker.log));
    }
    worker.resume_ns = 0;
    return true;
  }

  void turn() {
    const std::int64_t now_ns = monotonic_ns();
    resume(now_ns);
    while (next_fault_ != last_fault_ && began_ns_ + ns(next_fault_->at) <= now_ns) {
      inflict(*next_fault_++);
    }
    look_at_children();
    if (now_ns - checked_at_ns_ >= ns(kCheckEvery)) check_live(now_ns);
    std::int64_t wake_ns = now_ns + ns(5ms);
    if (next_fault_ != last_fault_) {
      wake_ns = std::min(wake_ns, began_ns_ + ns(next_fault_->at));
    }
    if (wake_ns > now_ns) ::usleep(static_cast<useconds_t>((wake_ns - now_ns) / 1000 + 1));
  }

  void resume(std::int64_t now_ns) {
    for (Worker& worker : slots_) {
      if (worker.resume_ns == 0 || worker.resume_ns > now_ns) continue;
      ::kill(worker.pid, SIGCONT);
      worker.resume_ns = 0;
      moved_at_ns_ = now_ns;
    }
  }

  void inflict(const Fault& fault) {
    const unsigned slot = fault.slot % static_cast<unsigned>(slots_.size());
    Worker& worker = slots_[slot];
    if (fault.what == What::unlink) return unlink();
    if (worker.pid < 0) return;
    switch (fault.what) {
      case What::kill: kill(slot); break;
      case What::pause:
        if (worker.resume_ns != 0) return;
        ::kill(worker.pid, SIGSTOP);
        worker.resume_ns = monotonic_ns() + ns(fault.length);
        ++tally_.pauses;
        break;
      case What::fork: log().fork_request[slot].set(slot == 0 ? 0 : 1); break;
      case What::unlink: break;
    }
  }

  void kill(unsigned slot) {
    Worker& worker = slots_[slot];
    (slot == 0 ? log().receiver[worker.log].killed : log().sender[worker.log].killed).set(1);
    const std::int64_t at_ns = monotonic_ns();
    ::kill(worker.pid, SIGKILL);
    retry_eintr([&] { return ::waitpid(worker.pid, nullptr, 0); });
    worker.pid = -1;
    ++tally_.kills;
    moved_at_ns_ = at_ns;
    if (!spawn(slot, at_ns)) tally_.add("I5", "no process to be had");
  }

  // Its users go on with the memory; who comes later finds it through our descriptor, and System V
  // memory, which is marked for its end now, takes nobody in.
  void unlink() {
    if (kind_ == Backend::memfd || kind_ == Backend::sysv || is_unlinked_) return;
    if (!ring_->unlink()) return;
    is_unlinked_ = true;
    ++tally_.unlinks;
  }

  // Nobody ends by himself while the round runs.
  void look_at_children() {
    for (unsigned slot = 0; slot < slots_.size(); ++slot) {
      Worker& worker = slots_[slot];
      int status = 0;
      if (worker.pid < 0 || ::waitpid(worker.pid, &status, WNOHANG) != worker.pid) continue;
      worker.pid = -1;
      tally_.add("I5", fmt::format("the worker in slot {} ended, status {:#x}", slot, status));
    }
  }

  void check_live(std::int64_t now_ns) {
    checked_at_ns_ = now_ns;
    check("while it ran");
    const std::uint64_t delivered = log().delivered.get();
    const bool is_held = slots_[0].resume_ns != 0;
    if (delivered != delivered_ || is_held) {
      delivered_ = delivered;
      moved_at_ns_ = now_ns;
    } else if (now_ns - moved_at_ns_ > ns(kStall)) {
      ++tally_.stalls;
      tally_.add("I5", "nothing was delivered for 20 s");
    }
  }

  void check(const char* when) {
    const auto report = channel::check(*ring_);
    ++tally_.checks;
    if (!report) return tally_.add("I5", std::string("check: ") + report.error().op);
    for (const channel::Finding& finding : report->findings) {
      if (finding.severity != channel::Severity::violation) continue;
      tally_.add(finding.rule, fmt::format("check {}: {}: {}", when, finding.where, finding.what));
    }
  }

  // Senders first; then the receiver reads what is left, whoever sent it.
  void finish() {
    for (Worker& worker : slots_) {
      if (worker.resume_ns != 0) ::kill(worker.pid, SIGCONT);
    }
    log().stop.set(1);
    for (unsigned slot = 1; slot < slots_.size(); ++slot) end(slot);
    log().stop.set(2);
    end(0);
  }

  void end(unsigned slot) {
    Worker& worker = slots_[slot];
    const Deadline patience = Deadline::in(30s);
    while (worker.pid > 0) {
      const pid_t ended = ::waitpid(worker.pid, nullptr, WNOHANG);
      if (ended == worker.pid || (ended < 0 && errno == ECHILD)) break;
      if (patience.passed()) {
        ++tally_.stalls;
        tally_.add("I5", fmt::format("the worker in slot {} does not end", slot));
        ::kill(worker.pid, SIGKILL);
        retry_eintr([&] { return ::waitpid(worker.pid, nullptr, 0); });
        break;
      }
      ::usleep(500);
    }
    worker.pid = -1;
  }

  // I8: what the segment counted is what was delivered, to the unit.
  void judge_counters() {
    check("at the end");
    const auto view = channel::inspect(*ring_, true);
    if (!view) return tally_.add("I5", std::string("inspect: ") + view.error().op);
    std::uint64_t delivered = 0;
    for (std::uint64_t i = 0; i < log().senders.get(); ++i) delivered += delivered_of(i);
    const std::uint64_t doubt = opt_.defect == Defect::repeat ? slots_.size() : 0;
    const bool fits = view->released >= delivered && view->released <= delivered + doubt;
    if (!fits) {
      tally_.add("I8",
                 fmt::format("{} released as counted, {} delivered", view->released, delivered));
    }
    // A producer killed behind its commit, in one order for all, leaves its own count behind.
    const bool is_exact = form_ != RingForm::total;
    if (view->committed > view->released || (is_exact && view->committed != view->released)) {
      tally_.add("I8", fmt::format("{} committed as counted, {} released", view->committed,
                                   view->released));
    }
  }
  [[nodiscard]] std::uint64_t delivered_of(std::uint64_t sender) {
    std::uint64_t most = 0;
    for (std::uint64_t i = 0; i < log().runs.get(); ++i) {
      const Run& run = log().run[i];
      if (run.sender.get() == sender) most = std::max(most, run.end.get());
    }
    return most;
  }

  // I7: the last one out has removed it, or it is proved to be nobody's.
  void judge_leftovers() {
    const auto remains = channel::look_at_remains(*ring_);
    if (!remains) return tally_.add("I5", std::string("remains: ") + remains.error().op);
    if (!remains->living.empty()) {
      tally_.add("I11", "somebody still has a place, after all ended");
    }
    if (remains->fate == channel::Fate::unread) tally_.add("I1", "something is unread at the end");
    const auto still = ring_->still_named();
    if (!still || !*still) return;
    const auto removed = channel::remove_orphan(*ring_);
    if (removed) return;
    ++tally_.left;
    tally_.add("I7", std::string("its name is left: ") + removed.error().op);
  }

  const Options& opt_;
  const Fault* next_fault_;
  const Fault* last_fault_;
  std::int64_t began_ns_;
  std::uint64_t number_;
  Tally& tally_;
  LogArea area_;
  RingForm form_;
  Backend kind_;
  Stage stage_;
  std::string name_;
  std::optional<segment::Segment> ring_;
  std::vector<Worker> slots_;
  bool is_unlinked_ = false;
  std::int64_t checked_at_ns_ = 0, moved_at_ns_ = 0;
  std::uint64_t delivered_ = 0;
};

}  // namespace

std::vector<Fault> draw_schedule(const Options& options) {
  std::vector<Fault> schedule;
  const auto end = std::chrono::duration_cast<microseconds>(options.length);
  const auto draw = [&](What what, double per_s) {
    if (per_s <= 0) return;
    // Each kind has a sequence of its own: leaving one out does not change the others.
    std::mt19937_64 rng(options.seed * 4 + static_cast<std::uint64_t>(what));
    for (microseconds at{};;) {
      const double share = (static_cast<double>(rng() >> 11) + 1) / 0x1p53;  // (0, 1]
      at += microseconds(static_cast<std::int64_t>(-std::log(share) / per_s * 1e6) + 1);
      if (at >= end) return;
      Fault fault{at, what, 0, {}};
      const bool receiver = rng() % 8 == 0;
      const unsigned senders = std::max(options.procs, 2U) - 1;
      fault.slot = receiver ? 0 : 1 + static_cast<unsigned>(rng() % senders);
      if (what == What::pause) fault.length = microseconds(500 + rng() % 60'000);
      schedule.push_back(fault);
    }
  };
  const double rate = options.kills_per_s > 0 ? options.kills_per_s : 20;
  draw(What::kill, options.kills_per_s);
  draw(What::pause, options.pause ? rate / 4 : 0);
  draw(What::fork, options.fork ? rate / 8 : 0);
  draw(What::unlink, options.unlink ? 0.5 : 0);
  std::ranges::stable_sort(schedule, {}, &Fault::at);
  return schedule;
}

std::string to_text(const std::vector<Fault>& schedule) {
  std::string text;
  for (const Fault& fault : schedule) {
    text +=
        fmt::format("{} {} {}", fault.at.count(), kWhats[static_cast<int>(fault.what)], fault.slot);
    if (fault.what == What::pause) text += fmt::format(" {}", fault.length.count());
    text += '\n';
  }
  return text;
}

Result<std::vector<Fault>> parse_schedule(const std::string& text) {
  std::vector<Fault> schedule;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::istringstream words(line);
    std::int64_t at = -1, length = 0;
    std::string what, rest;
    unsigned slot = 0;
    words >> at >> what >> slot;
    const auto* const found = std::ranges::find(kWhats, what);
    bool is_sound = !words.fail() && at >= 0 && found != std::end(kWhats) && slot < kMostSlots;
    if (is_sound && what == "pause") is_sound = static_cast<bool>(words >> length) && length >= 0;
    if (!is_sound || (words >> rest)) return fail(Errc::invalid_argument, number, "schedule");
    schedule.push_back(
        {microseconds(at), static_cast<What>(found - kWhats), slot, microseconds(length)});
  }
  std::ranges::stable_sort(schedule, {}, &Fault::at);
  return schedule;
}

Result<Outcome> run(const Options& options, const std::function<bool()>& should_stop,
                    const std::function<void(std::chrono::milliseconds, const Tally&)>& tell) {
  const std::vector<Fault> schedule =
      options.schedule.empty() ? draw_schedule(options) : options.schedule;
  const Fault* fault = schedule.data();
  const Fault* const last = fault + schedule.size();
  Outcome outcome;
  const std::int64_t began_ns = monotonic_ns();
  const std::int64_t end_ns = began_ns + ns(options.length);
  for (std::uint64_t number = 0; monotonic_ns() < end_ns && !should_stop(); ++number) {
    Round round(options, fault, last, began_ns, number, outcome.tally);
    const std::int64_t until_ns = std::min(end_ns, monotonic_ns() + ns(options.round));
    if (auto went = round.run(until_ns, should_stop); !went) return tl::unexpected(went.error());
    fault = round.next_fault();
    if (!outcome.tally.is_clean()) {
      outcome.evidence = round.save_evidence(schedule);
      break;
    }
    tell(std::chrono::milliseconds((monotonic_ns() - began_ns) / 1'000'000), outcome.tally);
  }
  return outcome;
}

}  // namespace slipring::tools::nemesis

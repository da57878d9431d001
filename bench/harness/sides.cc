// SPDX-License-Identifier: Apache-2.0
#include "harness/sides.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>

#include "harness/clock.h"
#include "slipring/base/unique_fd.h"

namespace slipring::bench {
namespace {

std::atomic<int> seen_signal = 0;

std::uint64_t involuntary_switches() noexcept {
  rusage used{};
  ::getrusage(RUSAGE_THREAD, &used);
  return static_cast<std::uint64_t>(used.ru_nivcsw);
}

bool run_side(const Side& side, SideReport& report, Board& board, std::uint32_t count) {
  report.pinned = pin_to(side.cpu);
  std::int64_t cpu_from = 0;
  std::uint64_t switches_from = 0;
  const auto begin = [&] {
    board.arrived.fetch_add(1, std::memory_order_acq_rel);
    // They may share a CPU: whoever waits lets the others come.
    while (board.arrived.load(std::memory_order_acquire) < count) ::sched_yield();
    cpu_from = thread_cpu_ns();
    switches_from = involuntary_switches();
  };
  const bool fine = side.body(report, board, begin);
  report.cpu_ns = thread_cpu_ns() - cpu_from;
  report.involuntary = involuntary_switches() - switches_from;
  report.done = fine;
  return fine;
}

struct Child {
  pid_t pid = -1;
  UniqueFd fd;
};

Try<Child> start(const std::function<bool()>& body) {
  const pid_t parent = ::getpid();
  std::fflush(nullptr);  // or the child would print it, too
  const pid_t pid = ::fork();
  if (pid == -1) return because(std::string("fork: ") + std::strerror(errno));
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);  // it died in between
    ::signal(SIGPIPE, SIG_IGN);
    for (const int number : {SIGINT, SIGTERM}) ::signal(number, SIG_DFL);
    if (!body()) ::_exit(1);
    ::exit(0);  // some rivals say goodbye to their daemon then
  }
  Child child{pid, UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)))};
  if (child.fd) return child;
  const std::string why = std::string("pidfd_open: ") + std::strerror(errno);
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  return because(why);
}

/// Waits until a child ends, or until `until_ns`. Its index, or -1. Nothing runs meanwhile: a
/// supervisor that looks every now and then would be the noise that it measures.
int wait_for_one(const std::vector<Child>& children, const std::vector<bool>& over,
                 std::int64_t until_ns) {
  std::vector<pollfd> fds;
  std::vector<int> whose;
  for (std::size_t i = 0; i < children.size(); ++i) {
    if (over[i]) continue;
    fds.push_back({children[i].fd.get(), POLLIN, 0});
    whose.push_back(static_cast<int>(i));
  }
  for (;;) {
    const std::int64_t left_ms = (until_ns - monotonic_ns()) / 1'000'000 + 1;
    if (left_ms <= 0) return -1;
    if (::poll(fds.data(), fds.size(), static_cast<int>(left_ms)) < 0 && errno != EINTR) return -1;
    for (std::size_t i = 0; i < fds.size(); ++i) {
      if (fds[i].revents != 0) return whose[i];
    }
  }
}

}  // namespace

bool SideReport::fail(const std::string& text) noexcept {
  std::snprintf(why, sizeof why, "%s", text.c_str());
  return false;
}

Run::Run() {
  void* const memory = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory != MAP_FAILED) board_ = ::new (memory) Board{};
}

Run::~Run() {
  if (board_ != nullptr) ::munmap(board_, sizeof(Board));
}

Try<const Board*> Run::go(Placement placement, const std::vector<Side>& sides, double limit_s) {
  if (board_ == nullptr) return because("no memory for the reports of a run");
  if (signal_seen() != 0) return because("interrupted");
  const auto count = static_cast<std::uint32_t>(sides.size());
  std::vector<Child> children;
  std::string why;
  if (placement == Placement::threads) {
    auto child = start([&] {
      std::vector<std::thread> threads;
      for (std::size_t i = 0; i < sides.size(); ++i) {
        threads.emplace_back([&, i] {
          if (run_side(sides[i], board_->sides[i], *board_, count)) return;
          ::_exit(1);  // the others may wait for it for ever
        });
      }
      for (auto& thread : threads) thread.join();
      return true;
    });
    if (child)
      children.push_back(std::move(*child));
    else
      why = child.error();
  } else {
    for (std::size_t i = 0; i < sides.size() && why.empty(); ++i) {
      auto child = start([&, i] { return run_side(sides[i], board_->sides[i], *board_, count); });
      if (child)
        children.push_back(std::move(*child));
      else
        why = child.error();
    }
  }

  std::vector<bool> over(children.size(), false);
  const std::int64_t until = monotonic_ns() + static_cast<std::int64_t>(limit_s * 1e9);
  for (std::size_t left = children.size(); left > 0; --left) {
    // After a failure nobody is waited for: they would wait for each other.
    const int ended = why.empty() ? wait_for_one(children, over, until) : -1;
    if (ended < 0) {
      if (why.empty()) why = "not done after " + std::to_string(static_cast<int>(limit_s)) + " s";
      break;
    }
    over[static_cast<std::size_t>(ended)] = true;
    int status = 0;
    ::waitpid(children[static_cast<std::size_t>(ended)].pid, &status, 0);
    if (WIFSIGNALED(status)) why = std::string("killed by ") + ::strsignal(WTERMSIG(status));
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) why = "a side failed";
  }
  for (std::size_t i = 0; i < children.size(); ++i) {
    if (over[i]) continue;
    ::kill(children[i].pid, SIGKILL);
    ::waitpid(children[i].pid, nullptr, 0);
  }
  // What a side says of itself is better than what it looks like from here.
  for (std::size_t i = 0; i < sides.size(); ++i) {
    if (board_->sides[i].why[0] != 0) why = board_->sides[i].why;
  }
  if (!why.empty()) return because(why);
  return board_;
}

void heed_signals() noexcept {
  for (const int number : {SIGINT, SIGTERM}) {
    ::signal(number, [](int which) { seen_signal = which; });
  }
}

int signal_seen() noexcept { return seen_signal; }

bool pin_to(int cpu) noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<unsigned>(cpu), &set);
  return ::sched_setaffinity(0, sizeof set, &set) == 0;
}

std::vector<int> usable_cpus() {
  std::vector<int> cpus;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<unsigned>(cpu), &set)) cpus.push_back(cpu);
  }
  return cpus;
}

double ns_per_tick() noexcept {
  static const double rate = [] {
    const std::int64_t from_ns = monotonic_ns();
    const std::uint64_t from = ticks();
    while (monotonic_ns() - from_ns < 20'000'000) {
    }
    return static_cast<double>(monotonic_ns() - from_ns) / static_cast<double>(ticks() - from);
  }();
  return rate;
}

}  // namespace slipring::bench

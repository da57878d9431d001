// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "slipring/base/result.h"

// One machine instruction at a time (docs/crash-testing.md). x86-64 only; no gtest here.
namespace slipring::test {

/// Where a victim that has made itself ready waits for its tracer.
[[gnu::always_inline]] inline void stop_for_tracer() {
#if defined(__x86_64__)
  asm volatile("int3" ::: "memory");
#endif
}

/// A traced child. It dies with its tracer.
/// Threads: the one that forked it.
class Tracee {
 public:
  /// Runs `body` in a child up to its stop_for_tracer(), or its end.
  template <typename Body>
  explicit Tracee(Body&& body) {
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0) std::abort();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(125);
      ::alarm(60);  // bounded also where nobody traces it any more
      if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(124);
      ::_exit(body());
    }
    wait();
    if (is_stopped() && WSTOPSIG(status_) != SIGTRAP) (void)go_on(PTRACE_CONT);
  }
  Tracee(const Tracee&) = delete;
  Tracee& operator=(const Tracee&) = delete;
  ~Tracee() {
    if (pid_ > 0 && !has_ended()) kill();
  }

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  [[nodiscard]] bool is_stopped() const noexcept { return WIFSTOPPED(status_); }
  [[nodiscard]] bool has_ended() const noexcept {
    return WIFEXITED(status_) || WIFSIGNALED(status_);
  }
  [[nodiscard]] int status() const noexcept { return status_; }
  [[nodiscard]] bool exited_with(int code) const noexcept {
    return WIFEXITED(status_) && WEXITSTATUS(status_) == code;
  }

  [[nodiscard]] std::uint64_t rip() const { return peek_user(offsetof(user_regs_struct, rip)); }
  [[nodiscard]] std::uint64_t rsp() const { return peek_user(offsetof(user_regs_struct, rsp)); }
  [[nodiscard]] std::uint64_t word_at(std::uint64_t address) const {
    return static_cast<std::uint64_t>(::ptrace(PTRACE_PEEKTEXT, pid_, address, nullptr));
  }

  /// Runs until the instruction at `address` is the next, `visit` times. False: it ended before.
  [[nodiscard]] bool run_to(std::uint64_t address, std::uint32_t visit = 1) {
    const std::uint64_t original = word_at(address);
    const std::uint64_t trap = (original & ~std::uint64_t{0xff}) | 0xcc;
    for (std::uint32_t i = 0; i < visit; ++i) {
      if (i != 0 && !step()) return false;
      ::ptrace(PTRACE_POKETEXT, pid_, address, trap);
      const bool is_there = go_on(PTRACE_CONT) && rip() == address + 1;
      if (has_ended()) return false;
      ::ptrace(PTRACE_POKETEXT, pid_, address, original);
      if (!is_there) return false;
      ::ptrace(PTRACE_POKEUSER, pid_, offsetof(user_regs_struct, rip), address);
    }
    return true;
  }
  /// Executes one instruction; a system call is one. False: it ended.
  [[nodiscard]] bool step() { return go_on(PTRACE_SINGLESTEP); }
  /// Runs to its end, at full speed.
  void finish() {
    while (!has_ended()) (void)go_on(PTRACE_CONT);
  }
  /// A real SIGKILL. Afterwards it is reaped: the kernel has proved the death.
  void kill() {
    ::kill(pid_, SIGKILL);
    while (!has_ended()) wait();
  }
  /// The same, but not reaped: its number stays its own until the end of the scope.
  void kill_to_zombie() {
    ::kill(pid_, SIGKILL);
    siginfo_t info{};
    retry_eintr([&] { return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT); });
  }
  /// Lets go of it, stopped as by any SIGSTOP.
  void leave_stopped() {
    ::ptrace(PTRACE_DETACH, pid_, nullptr, SIGSTOP);
    siginfo_t info{};
    retry_eintr([&] {
      return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WSTOPPED | WEXITED | WNOWAIT);
    });
  }
  /// SIGCONT, and waits for its end.
  void resume_to_end() {
    ::kill(pid_, SIGCONT);
    do {
      wait();
    } while (!has_ended());
  }

 private:
  [[nodiscard]] std::uint64_t peek_user(std::size_t offset) const {
    return static_cast<std::uint64_t>(::ptrace(PTRACE_PEEKUSER, pid_, offset, nullptr));
  }
  void wait() {
    if (retry_eintr([&] { return ::waitpid(pid_, &status_, 0); }) != pid_) std::abort();
  }
  // A signal of its own is passed on; it ends the tracee, or is none of ours.
  bool go_on(int request) {
    long signal = 0;
    for (;;) {
      ::ptrace(static_cast<__ptrace_request>(request), pid_, nullptr, signal);
      wait();
      if (has_ended()) return false;
      if (WSTOPSIG(status_) == SIGTRAP) return true;
      signal = WSTOPSIG(status_);
    }
  }

  pid_t pid_ = -1;
  int status_ = 0;
};

/// Why nothing can be traced here; null when it can.
[[nodiscard]] inline const char* why_no_tracing() {
#if !defined(__x86_64__)
  return "the tracer knows x86-64 only";
#else
  Tracee probe([] {
    stop_for_tracer();
    return 0;
  });
  if (probe.exited_with(124)) return "ptrace is refused here (seccomp, or yama's ptrace_scope)";
  return probe.step() ? nullptr : "single steps are refused here";
#endif
}

/// The memory that a crash leaves behind: the ring's, and what the victim says of itself.
struct Watched {
  std::span<std::byte> ring, log;
};
struct Image {
  std::vector<std::byte> ring, log;

  explicit Image(const Watched& now)
      : ring(now.ring.begin(), now.ring.end()), log(now.log.begin(), now.log.end()) {}
  void put_back(const Watched& to) const {
    std::memcpy(to.ring.data(), ring.data(), ring.size());
    std::memcpy(to.log.data(), log.data(), log.size());
  }
};

/// What one run of an operation did, instruction by instruction. Step k is the moment when k
/// instructions of it were executed.
struct Path {
  std::vector<std::uint64_t> rips;    ///< Of the next instruction, at each step.
  std::vector<std::uint32_t> visits;  ///< How often that address was met by then, from 1.
  std::vector<std::uint32_t> image;   ///< Which of `images` the memory was.
  /// Neighbours differ in `ring`; `log` is the last one said beside it.
  std::vector<Image> images;
  bool is_whole = false;  ///< It came to its end.

  [[nodiscard]] std::size_t steps() const noexcept { return rips.size(); }
};

/// Tracer and tracee take turns: on one CPU a step costs 3 us, on two ten times as much.
class OnOneCpu {
 public:
  explicit OnOneCpu(pid_t tracee) {
    ::sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<unsigned>(::sched_getcpu()), &one);
    ::sched_setaffinity(0, sizeof one, &one);
    ::sched_setaffinity(tracee, sizeof one, &one);
  }
  OnOneCpu(const OnOneCpu&) = delete;
  OnOneCpu& operator=(const OnOneCpu&) = delete;
  ~OnOneCpu() { ::sched_setaffinity(0, sizeof before_, &before_); }

 private:
  cpu_set_t before_;
};

/// Steps through `operation`, from its first instruction to its return, and looks at `watched`
/// behind each. A path longer than `max_steps` is cut there.
[[nodiscard]] inline Path trace(Tracee& tracee, std::uint64_t operation, const Watched& watched,
                                std::size_t max_steps) {
  Path path;
  if (!tracee.is_stopped() || !tracee.run_to(operation)) return path;
  const OnOneCpu together(tracee.pid());
  const std::uint64_t above = tracee.rsp();
  const std::uint64_t back = tracee.word_at(above);
  std::unordered_map<std::uint64_t, std::uint32_t> visits;
  do {
    const std::uint64_t rip = tracee.rip();
    const auto& ring = watched.ring;
    if (path.images.empty() ||
        std::memcmp(path.images.back().ring.data(), ring.data(), ring.size()) != 0) {
      path.images.emplace_back(watched);
    } else {
      path.images.back().log.assign(watched.log.begin(), watched.log.end());
    }
    path.rips.push_back(rip);
    path.visits.push_back(++visits[rip]);
    path.image.push_back(static_cast<std::uint32_t>(path.images.size() - 1));
    path.is_whole = rip == back && tracee.rsp() > above;
  } while (!path.is_whole && path.rips.size() < max_steps && tracee.step());
  return path;
}

/// Brings a fresh victim to step `k` of its path, by the cheapest way there is: a breakpoint at
/// that instruction, met as often as needed, or at the last one met for the first time, and single
/// steps from there. False: it ended on another way.
[[nodiscard]] inline bool go_to_step(Tracee& tracee, const Path& path, std::size_t k) {
  if (!tracee.is_stopped()) return false;
  std::size_t first = k;
  while (path.visits[first] != 1) --first;
  if (2 * std::size_t{path.visits[k]} < k - first) {
    return tracee.run_to(path.rips[k], path.visits[k]);
  }
  if (!tracee.run_to(path.rips[first])) return false;
  for (std::size_t at = first; at < k; ++at) {
    if (!tracee.step()) return false;
  }
  return true;
}

}  // namespace slipring::test

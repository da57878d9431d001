// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ostream>
#include <type_traits>
#include <utility>

#include "slipring/base/result.h"
#include "slipring/base/unique_fd.h"

namespace slipring::test {

/// How a child ended.
struct Ending {
  int status = 0;  // as wait() gives it
  [[nodiscard]] bool exited_with(int code) const {
    return WIFEXITED(status) && WEXITSTATUS(status) == code;
  }
  [[nodiscard]] bool killed_by(int signal) const {
    return WIFSIGNALED(status) && WTERMSIG(status) == signal;
  }
  friend bool operator==(const Ending&, const Ending&) = default;
  friend void PrintTo(const Ending& end, std::ostream* out) {
    if (WIFEXITED(end.status))
      *out << "exit " << WEXITSTATUS(end.status);
    else if (WIFSIGNALED(end.status))
      *out << "signal " << WTERMSIG(end.status);
    else
      *out << "status " << end.status;
  }
};

/// A forked child that runs `body` and exits with what it returns (int, or nothing: 0). It dies
/// with its parent, and the destructor kills and reaps it: no test leaves a process behind.
class Child {
 public:
  template <typename Body>
  explicit Child(Body&& body) {
    std::fflush(nullptr);  // else both would write what is buffered
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0) std::abort();
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(125);
    if constexpr (std::is_void_v<decltype(body())>) {
      body();
      ::_exit(0);
    } else {
      ::_exit(body());  // no destructors, no atexit: those are the parent's
    }
  }
  Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  Child& operator=(Child&&) = delete;
  ~Child() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      [[maybe_unused]] const Ending end = wait();
    }
  }

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  void signal(int number) const { ::kill(pid_, number); }

  /// Waits for the end and reaps: from now on the number may be somebody else's.
  Ending wait() {
    Ending end;
    retry_eintr([&] { return ::waitpid(pid_, &end.status, 0); });
    pid_ = -1;
    return end;
  }
  Ending kill() {
    signal(SIGKILL);
    return wait();
  }
  /// Dead, but not reaped: a zombie that keeps its number until wait().
  void kill_to_zombie() const {
    signal(SIGKILL);
    siginfo_t info{};
    retry_eintr([&] { return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT); });
  }
  /// Returns when the kernel has stopped it.
  void stop() const {
    signal(SIGSTOP);
    siginfo_t info{};
    retry_eintr(
        [&] { return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WSTOPPED | WNOWAIT); });
  }
  void resume() const { signal(SIGCONT); }

 private:
  pid_t pid_ = -1;
};

/// An event between processes that fork from the one that made it: a byte in a pipe. `raise` in
/// one, `wait` in the other; each wait takes one raise. Waits with a limit: false when it passes.
class ProcessEvent {
 public:
  ProcessEvent() {
    int ends[2];
    if (::pipe(ends) != 0) std::abort();
    read_ = UniqueFd(ends[0]);
    write_ = UniqueFd(ends[1]);
  }
  void raise() const {
    const char byte = 1;
    if (retry_eintr([&] { return ::write(write_.get(), &byte, 1); }) != 1) std::abort();
  }
  [[nodiscard]] bool wait(int limit_ms = 20'000) const {
    pollfd poll{read_.get(), POLLIN, 0};
    if (retry_eintr([&] { return ::poll(&poll, 1, limit_ms); }) != 1) return false;
    char byte = 0;
    return retry_eintr([&] { return ::read(read_.get(), &byte, 1); }) == 1;
  }

 private:
  UniqueFd read_;
  UniqueFd write_;
};

/// A child that says that it is ready and then sleeps until it is killed.
template <typename Body>
[[nodiscard]] Child sleeper_after(Body body) {
  ProcessEvent ready;
  Child child([&] {
    body();
    ready.raise();
    for (;;) ::pause();
  });
  if (!ready.wait()) std::abort();
  return child;
}
[[nodiscard]] inline Child sleeper() {
  return sleeper_after([] {});
}

}  // namespace slipring::test

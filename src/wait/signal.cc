// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <utility>

#include "kinds.h"

// A real-time signal to the sleeper's process, read through signalfd. The program blocks it in all
// its threads before anyone may ring; a thread that has not takes the ring away, and the bounded
// park makes it good.
namespace slipring::wait::detail {
namespace {

int number_or_default(int signal) noexcept { return signal == 0 ? SIGRTMIN + 3 : signal; }
bool is_real_time(int signal) noexcept { return signal >= SIGRTMIN && signal <= SIGRTMAX; }

// Signal numbers that a sleeper of this process holds: two would take each other's rings.
std::atomic<std::uint64_t> g_taken{0};

std::atomic<int> g_taker{0};  // the process that they are of: a forked child starts with none

std::uint64_t bit_of(int signal) noexcept { return std::uint64_t{1} << (signal - 1); }

bool take_number(int signal) noexcept {
  if (g_taker.exchange(this_process(), std::memory_order_relaxed) != this_process()) {
    g_taken.store(0, std::memory_order_relaxed);
  }
  return (g_taken.fetch_or(bit_of(signal), std::memory_order_relaxed) & bit_of(signal)) == 0;
}

void give_number(int signal) noexcept {
  g_taken.fetch_and(~bit_of(signal), std::memory_order_relaxed);
}

void do_nothing(int) {}

// The default action would end the process, for a thread that forgot to block, or a ringer that
// comes late. The handler therefore stays when the sleeper has left.
void survive(int signal) noexcept {
  struct sigaction now {};
  if (::sigaction(signal, nullptr, &now) != 0 || (now.sa_flags & SA_SIGINFO) != 0 ||
      now.sa_handler != SIG_DFL) {
    return;
  }
  struct sigaction empty {};
  empty.sa_handler = do_nothing;
  empty.sa_flags = SA_RESTART;
  ::sigaction(signal, &empty, nullptr);
}

class SignalSleep final : public SleepPrimitive {
 public:
  SignalSleep(BellStore& store, int signal, UniqueFd fd) noexcept
      : store_(store), signal_(signal), fd_(std::move(fd)) {}

  void drain() noexcept override { static_cast<void>(take()); }

  bool sleep(const SharedWord<std::uint32_t>& seq, std::uint32_t seen, Deadline until,
             std::uint64_t& spurious) noexcept override {
    for (;;) {
      if (moved(seq, seen)) return true;
      if (until.passed()) return false;
      poll_until(fd_.get(), until);
      if (take() && !moved(seq, seen)) ++spurious;
    }
  }

  int fd() const noexcept override { return fd_.get(); }

  // The signal stays blocked in the thread that attached: to unblock it is to receive what is
  // still under way.
  void detach() noexcept override {
    clear_store(store_);
    drain();
    give_number(signal_);
  }

 private:
  // Reads what is pending, within reason: whoever may signal us may do so without end.
  bool take() noexcept {
    signalfd_siginfo infos[16];
    bool any = false;
    for (int i = 0; i < 16; ++i) {
      const auto size = retry_eintr([&] { return ::read(fd_.get(), infos, sizeof infos); });
      any |= size > 0;
      if (size < static_cast<ssize_t>(sizeof infos)) break;
    }
    return any;
  }

  BellStore& store_;
  int signal_;
  UniqueFd fd_;
};

class SignalWake final : public WakePrimitive {
 public:
  SignalWake(BellStore& store, int signal, const ProcessToken& sleeper) noexcept
      : store_(store), signal_(signal), watch_(sleeper) {}

  bool wake(const SharedWord<std::uint32_t>&) noexcept override {
    const auto seen = read_store(store_);
    if (!seen || !*seen || (*seen)->kind != BellKind::signal) return false;
    // TRUST: the store only says whether the sleeper is there. Whom we signal, and with what, is
    // our caller's word; the kernel proves that the process is still the same one.
    const std::uint64_t expected = watch_.token().pid | static_cast<std::uint64_t>(signal_) << 32;
    if (watch_.token().pid == 0 || (*seen)->object != expected) return false;
    if (watch_.look() != Verdict::alive || watch_.fd() < 0) return false;
    return ::syscall(SYS_pidfd_send_signal, watch_.fd(), signal_, nullptr, 0) == 0;
  }
  void expect_sleeper(const ProcessToken& token) noexcept override { watch_ = PeerWatch(token); }

 private:
  BellStore& store_;
  int signal_;
  PeerWatch watch_;
};

}  // namespace

SleepResult make_signal_sleep(BellStore& store, std::uint16_t generation, int signal) noexcept {
  signal = number_or_default(signal);
  if (!is_real_time(signal)) return fail(Errc::invalid_argument, 0, "not a real-time signal");
  if (!take_number(signal)) {
    return fail(Errc::in_use, 0, "signal doorbell");
  }
  survive(signal);
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, signal);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  UniqueFd fd{::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC)};
  SleepResult made = fd ? make_one<SignalSleep, SleepPrimitive>(store, signal, std::move(fd))
                        : SleepResult(fail_errno("signalfd"));
  if (!made) {
    give_number(signal);
    return made;
  }
  publish_store(store, BellKind::signal, generation,
                static_cast<std::uint32_t>(this_process()) | static_cast<std::uint64_t>(signal)
                                                                 << 32);
  return made;
}

WakeResult make_signal_wake(BellStore& store, int signal, const ProcessToken& sleeper) noexcept {
  signal = number_or_default(signal);
  if (!is_real_time(signal)) return fail(Errc::invalid_argument, 0, "not a real-time signal");
  return make_one<SignalWake, WakePrimitive>(store, signal, sleeper);
}

}  // namespace slipring::wait::detail

// SPDX-License-Identifier: Apache-2.0
#include "stop.h"

#include <signal.h>
#include <time.h>

#include <atomic>

namespace slipring::tools {
namespace {

std::atomic<int> caught = 0;
static_assert(std::atomic<int>::is_always_lock_free, "stored by a signal handler");
void remember(int signal) { caught = signal; }

}  // namespace

void catch_stop_signals() noexcept {
  struct sigaction action {};
  action.sa_handler = &remember;
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // no SA_RESTART: blocked calls return
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before {};
    ::sigaction(signal, nullptr, &before);
    if (before.sa_handler != SIG_IGN) ::sigaction(signal, &action, nullptr);  // nohup stays
  }
}

int stop_signal() noexcept { return caught; }

tl::unexpected<Failure> stopped() {
  return tl::unexpected(Failure{{}, exit_code_of_signal(stop_signal())});
}

void nap(std::chrono::nanoseconds time) noexcept {
  const timespec pause{static_cast<time_t>(time.count() / 1'000'000'000),
                       static_cast<long>(time.count() % 1'000'000'000)};
  ::nanosleep(&pause, nullptr);
}

}  // namespace slipring::tools

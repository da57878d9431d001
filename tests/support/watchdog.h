// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <signal.h>
#include <unistd.h>

#include <cstring>

namespace slipring::test {

/// Ends the process with SIGABRT when the scope lasts longer than `seconds`: a hang becomes a
/// failure with a name. One at a time; give it to every test that waits for somebody.
/// Five times as long under a sanitizer.
class Watchdog {
 public:
  explicit Watchdog(unsigned seconds, const char* what = "a test") noexcept {
    what_ = what;
    struct sigaction action {};
    action.sa_handler = &bark;
    ::sigaction(SIGALRM, &action, &before_);
    ::alarm(seconds * kSlowdown);
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog() {
    ::alarm(0);
    ::sigaction(SIGALRM, &before_, nullptr);
  }

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  static constexpr unsigned kSlowdown = 5;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
  static constexpr unsigned kSlowdown = 5;
#else
  static constexpr unsigned kSlowdown = 1;
#endif
#else
  static constexpr unsigned kSlowdown = 1;
#endif

 private:
  static void bark(int) {
    constexpr char kText[] = "watchdog: hung: ";
    // Nothing can be done about a closed stderr; the abort still tells.
    [[maybe_unused]] auto n = ::write(STDERR_FILENO, kText, sizeof kText - 1);
    n = ::write(STDERR_FILENO, what_, std::strlen(what_));
    n = ::write(STDERR_FILENO, "\n", 1);
    ::signal(SIGABRT, SIG_DFL);
    ::raise(SIGABRT);
  }

  static inline const char* what_ = "";
  struct sigaction before_ {};
};

}  // namespace slipring::test

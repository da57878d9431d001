// SPDX-License-Identifier: Apache-2.0
#include "slipring/wait/wait_strategy.h"

#include <sched.h>

namespace slipring::wait {

std::optional<WaitStrategy> WaitStrategy::parse(std::string_view text) noexcept {
  if (text == "spin") return spin();
  if (text == "adaptive") return adaptive();
  if (text == "park") return park();
  return std::nullopt;
}

std::string_view to_string(WaitStrategy::Kind kind) noexcept {
  switch (kind) {
    case WaitStrategy::Kind::spin: return "spin";
    case WaitStrategy::Kind::adaptive: return "adaptive";
    case WaitStrategy::Kind::park: return "park";
  }
  return "bad";
}

namespace detail {

bool has_one_cpu(std::int64_t now_ns) noexcept {
  constexpr std::int64_t kAskEveryNs = 1'000'000'000;
  struct Answer {
    std::int64_t until_ns = 0;
    bool one = false;
  };
  // initial-exec: without it the library would need the loader's __tls_get_addr, a fifth library.
  [[gnu::tls_model("initial-exec")]] thread_local Answer answer;
  if (now_ns >= answer.until_ns) {
    cpu_set_t set;
    // A machine with more CPUs than the set holds is refused, and has more than one.
    answer.one = ::sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) == 1;
    answer.until_ns = now_ns + kAskEveryNs;
  }
  return answer.one;
}

void yield_cpu() noexcept { ::sched_yield(); }

}  // namespace detail
}  // namespace slipring::wait

// SPDX-License-Identifier: Apache-2.0
#include "slipring/base/deadline.h"

namespace slipring {

std::int64_t monotonic_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

int Deadline::to_poll_ms() const noexcept {
  if (is_never()) return -1;
  const std::int64_t left_ns = at_ns_ - monotonic_ns();
  if (left_ns <= 0) return 0;
  const std::int64_t left_ms = (left_ns + 999'999) / 1'000'000;
  return static_cast<int>(std::min<std::int64_t>(left_ms, std::numeric_limits<int>::max()));
}

}  // namespace slipring

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/mman.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>

// One fuzz input: a function of its bytes and nothing else.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace slipring::fuzz {

/// Pages of exact size between two pages that nobody may touch. Mapped once, cleared per input.
class GuardedArea {
 public:
  explicit GuardedArea(std::size_t size) {
    auto* all = static_cast<std::byte*>(
        ::mmap(nullptr, size + 2 * kGuard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (all == MAP_FAILED) std::abort();
    if (::mprotect(all + kGuard, size, PROT_READ | PROT_WRITE) != 0) std::abort();
    bytes_ = {all + kGuard, size};
  }
  GuardedArea(const GuardedArea&) = delete;
  GuardedArea& operator=(const GuardedArea&) = delete;
  ~GuardedArea() { ::munmap(bytes_.data() - kGuard, bytes_.size() + 2 * kGuard); }

  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }
  void clear() const noexcept { std::memset(bytes_.data(), 0, bytes_.size()); }

 private:
  static constexpr std::size_t kGuard = 4096;
  std::span<std::byte> bytes_;
};

/// Ends the run unless `truth`: what stands in `what` is broken.
inline void expect(bool truth, const char* what = "the target's expectation") noexcept {
  if (truth) return;
  std::fprintf(stderr, "broken: %s\n", what);
  __builtin_trap();
}

[[nodiscard]] inline bool lies_in(std::span<const std::byte> part,
                                  std::span<const std::byte> whole) noexcept {
  const auto first = reinterpret_cast<std::uintptr_t>(whole.data());
  const auto at = reinterpret_cast<std::uintptr_t>(part.data());
  return at >= first && at - first <= whole.size() && part.size() <= whole.size() - (at - first);
}

// The helpers below work on whole spans at a time: a loop over bytes would be what the fuzzer
// spends its time in, comparison by comparison.

/// Reads each byte, so that a sanitizer or a guard page speaks up.
inline void touch(std::span<const std::byte> bytes) noexcept {
  static std::array<std::byte, std::size_t{64} << 10> copy;
  expect(bytes.size() <= copy.size(), "touch: a span larger than any that is handed out here");
  if (!bytes.empty()) std::memcpy(copy.data(), bytes.data(), bytes.size());
  asm volatile("" : : "r"(copy.data()) : "memory");
}

/// Fills a payload with what only message `n` has.
inline void stamp(std::span<std::byte> payload, std::uint64_t n) noexcept {
  if (!payload.empty()) std::memset(payload.data(), static_cast<int>(n % 255 + 1), payload.size());
}
[[nodiscard]] inline bool has_stamp(std::span<const std::byte> payload, std::uint64_t n) noexcept {
  if (payload.empty()) return true;
  return payload[0] == static_cast<std::byte>(n % 255 + 1) &&
         std::memcmp(payload.data(), payload.data() + 1, payload.size() - 1) == 0;
}

}  // namespace slipring::fuzz

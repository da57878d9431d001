// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

// What messages hold, and how a receiver proves that it has each byte of each of them once, whole
// and in order: word k of message `base` is base + k * kStep, so every word of a message differs
// from that of the message that lay there before, and the sum of all has a closed form.
namespace slipring::bench {

inline constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15;
inline constexpr unsigned kStreamShift = 48;

/// The first word of message `number` of sender `stream`.
[[nodiscard]] constexpr std::uint64_t base_of(std::uint32_t stream, std::uint64_t number) noexcept {
  return std::uint64_t{stream} << kStreamShift | number;
}

/// From this size on bytes move in the widest stores and loads that the CPU has, out of line.
inline constexpr std::size_t kWideBytes = 512;
void fill_wide(std::byte* to, std::size_t size, std::uint64_t base) noexcept;
[[nodiscard]] std::uint64_t sum_wide(const std::byte* from, std::size_t size) noexcept;
/// "avx512", "avx2" or "base": what these two use here.
[[nodiscard]] const char* wide_name() noexcept;

namespace detail {
/// The bytes of a last word that a message does not fill.
[[nodiscard]] constexpr std::uint64_t tail_mask(std::size_t size) noexcept {
  return (std::uint64_t{1} << (size % 8 * 8)) - 1;
}
}  // namespace detail

/// Writes message `base`. `Size` is a number, or a type that holds one: then it is unrolled.
template <typename Size>
inline void fill(std::byte* to, Size size, std::uint64_t base) noexcept {
  if (size >= kWideBytes) return fill_wide(to, size, base);
  for (std::size_t k = 0; k < size / 8; ++k) {
    const std::uint64_t word = base + k * kStep;
    std::memcpy(to + k * 8, &word, 8);
  }
  if (size % 8 != 0) {
    const std::uint64_t word = base + size / 8 * kStep;
    std::memcpy(to + size / 8 * 8, &word, size % 8);
  }
}

/// The sum of all words; of a last one that is cut, of the bytes that are there.
template <typename Size>
[[nodiscard]] inline std::uint64_t sum_of(const std::byte* from, Size size) noexcept {
  if (size >= kWideBytes) return sum_wide(from, size);
  std::uint64_t sum = 0, word = 0;
  for (std::size_t k = 0; k < size / 8; ++k) {
    std::memcpy(&word, from + k * 8, 8);
    sum += word;
  }
  if (size % 8 != 0) {
    word = 0;
    std::memcpy(&word, from + size / 8 * 8, size % 8);
    sum += word;
  }
  return sum;
}

/// What sum_of() finds in a message that is whole.
[[nodiscard]] constexpr std::uint64_t expected_sum(std::size_t size, std::uint64_t base) noexcept {
  const std::uint64_t words = size / 8;
  std::uint64_t sum = words * base + kStep * (words * (words - 1) / 2);
  if (size % 8 != 0) sum += (base + words * kStep) & detail::tail_mask(size);
  return sum;
}

/// Looks at all messages of a run, in the order of each sender. It counts; the caller asks at the
/// end, so that the loop has no branch for what does not happen.
template <typename Size>
class Checker {
 public:
  static constexpr std::uint32_t kMaxStreams = 8;
  explicit Checker(Size size) noexcept : size_(size) {}

  void operator()(const std::byte* at, std::size_t size) noexcept {
    if (size != size_ || size < 8) [[unlikely]] {
      wrong_ = 1;
      ++seen_;
      return;
    }
    std::uint64_t base = 0;
    std::memcpy(&base, at, 8);
    const std::uint64_t stream = base >> kStreamShift;
    wrong_ |= stream / kMaxStreams;
    std::uint64_t& next = next_[stream % kMaxStreams];
    wrong_ |= (base ^ next) & ((std::uint64_t{1} << kStreamShift) - 1);
    ++next;
    wrong_ |= sum_of(at, size_) ^ expected_sum(size_, base);
    last_ = base;
    ++seen_;
  }
  /// A message that came in parts, out of memory that its sender filled once: its first word is
  /// `base`, the others are those of message 0. `sum` is that of all its words.
  void summed(std::size_t size, std::uint64_t base, std::uint64_t sum) noexcept {
    wrong_ |= (size ^ size_) | (base ^ next_[0]);
    ++next_[0];
    wrong_ |= sum ^ (expected_sum(size_, 0) + base);
    ++seen_;
  }
  /// The first word of the last message.
  [[nodiscard]] std::uint64_t last() const noexcept { return last_; }
  [[nodiscard]] std::uint64_t seen() const noexcept { return seen_; }
  [[nodiscard]] bool all_well() const noexcept { return wrong_ == 0; }

 private:
  Size size_;
  std::uint64_t next_[kMaxStreams] = {};
  std::uint64_t last_ = 0;
  std::uint64_t seen_ = 0;
  std::uint64_t wrong_ = 0;
};

}  // namespace slipring::bench

// SPDX-License-Identifier: Apache-2.0
#include "harness/pattern.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace slipring::bench {
namespace {

void fill_base(std::byte* to, std::size_t size, std::uint64_t base) noexcept {
  for (std::size_t k = 0; k < size / 8; ++k) {
    const std::uint64_t word = base + k * kStep;
    std::memcpy(to + k * 8, &word, 8);
  }
}

std::uint64_t sum_base(const std::byte* from, std::size_t size) noexcept {
  std::uint64_t sum = 0, word = 0;
  for (std::size_t k = 0; k < size / 8; ++k) {
    std::memcpy(&word, from + k * 8, 8);
    sum += word;
  }
  return sum;
}

#if defined(__x86_64__)
// Whole lines by wide stores, what is left of them by words: `size` need not be a multiple.
__attribute__((target("avx512f"))) void fill_avx512(std::byte* to, std::size_t size,
                                                    std::uint64_t base) noexcept {
  const auto step = [](std::uint64_t k) { return static_cast<long long>(k * kStep); };
  __m512i line = _mm512_add_epi64(
      _mm512_set1_epi64(static_cast<long long>(base)),
      _mm512_set_epi64(step(7), step(6), step(5), step(4), step(3), step(2), step(1), 0));
  const __m512i next = _mm512_set1_epi64(step(8));
  std::size_t at = 0;
  for (; at + 64 <= size; at += 64) {
    _mm512_storeu_si512(to + at, line);
    line = _mm512_add_epi64(line, next);
  }
  fill_base(to + at, size - at, base + at / 8 * kStep);
}

__attribute__((target("avx512f"))) std::uint64_t sum_avx512(const std::byte* from,
                                                            std::size_t size) noexcept {
  __m512i sum[4] = {};
  std::size_t at = 0;
  for (; at + 256 <= size; at += 256) {
    for (std::size_t i = 0; i < 4; ++i) {
      sum[i] = _mm512_add_epi64(sum[i], _mm512_loadu_si512(from + at + i * 64));
    }
  }
  alignas(64) std::uint64_t lanes[8];
  _mm512_store_si512(
      lanes, _mm512_add_epi64(_mm512_add_epi64(sum[0], sum[1]), _mm512_add_epi64(sum[2], sum[3])));
  std::uint64_t total = sum_base(from + at, size - at);
  for (const std::uint64_t lane : lanes) total += lane;
  return total;
}

__attribute__((target("avx2"))) void fill_avx2(std::byte* to, std::size_t size,
                                               std::uint64_t base) noexcept {
  const auto step = [](std::uint64_t k) { return static_cast<long long>(k * kStep); };
  __m256i half = _mm256_add_epi64(_mm256_set1_epi64x(static_cast<long long>(base)),
                                  _mm256_set_epi64x(step(3), step(2), step(1), 0));
  const __m256i next = _mm256_set1_epi64x(step(4));
  std::size_t at = 0;
  for (; at + 32 <= size; at += 32) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + at), half);
    half = _mm256_add_epi64(half, next);
  }
  fill_base(to + at, size - at, base + at / 8 * kStep);
}

__attribute__((target("avx2"))) std::uint64_t sum_avx2(const std::byte* from,
                                                       std::size_t size) noexcept {
  __m256i sum[4] = {};
  std::size_t at = 0;
  for (; at + 128 <= size; at += 128) {
    for (std::size_t i = 0; i < 4; ++i) {
      sum[i] = _mm256_add_epi64(
          sum[i], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + at + i * 32)));
    }
  }
  alignas(32) std::uint64_t lanes[4];
  _mm256_store_si256(
      reinterpret_cast<__m256i*>(lanes),
      _mm256_add_epi64(_mm256_add_epi64(sum[0], sum[1]), _mm256_add_epi64(sum[2], sum[3])));
  std::uint64_t total = sum_base(from + at, size - at);
  for (const std::uint64_t lane : lanes) total += lane;
  return total;
}
#endif

struct Wide {
  void (*fill)(std::byte*, std::size_t, std::uint64_t) noexcept;
  std::uint64_t (*sum)(const std::byte*, std::size_t) noexcept;
  const char* name;
};

Wide widest() noexcept {
#if defined(__x86_64__)
  __builtin_cpu_init();  // we run before main, and it may be later
  if (__builtin_cpu_supports("avx512f")) return {fill_avx512, sum_avx512, "avx512"};
  if (__builtin_cpu_supports("avx2")) return {fill_avx2, sum_avx2, "avx2"};
#endif
  return {fill_base, sum_base, "base"};
}

const Wide wide = widest();

}  // namespace

void fill_wide(std::byte* to, std::size_t size, std::uint64_t base) noexcept {
  const std::size_t whole = size / 8 * 8;
  wide.fill(to, whole, base);
  if (size != whole) {
    const std::uint64_t word = base + whole / 8 * kStep;
    std::memcpy(to + whole, &word, size - whole);
  }
}

std::uint64_t sum_wide(const std::byte* from, std::size_t size) noexcept {
  const std::size_t whole = size / 8 * 8;
  std::uint64_t word = 0;
  if (size != whole) std::memcpy(&word, from + whole, size - whole);
  return wide.sum(from, whole) + word;
}

const char* wide_name() noexcept { return wide.name; }

}  // namespace slipring::bench

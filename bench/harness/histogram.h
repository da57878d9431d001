// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

// Debian packages no histogram in C or C++ that lives in memory of two processes.
namespace slipring::bench {

/// Counts durations in buckets less than 1 % wide, from 0 to 2^42, whatever their unit. The
/// largest is kept as it was. Plain bytes: it may lie in shared memory, with one writer.
/// Source: log-linear buckets as in HdrHistogram (Tene 2013), 7 bits of mantissa.
class Histogram {
 public:
  void record(std::uint64_t value) noexcept {
    ++counts_[index_of(value)];
    ++count_;
    max_ = std::max(max_, value);
  }
  void merge(const Histogram& other) noexcept {
    for (std::size_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
    count_ += other.count_;
    max_ = std::max(max_, other.max_);
  }

  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] std::uint64_t max() const noexcept { return max_; }
  /// The smallest value that at least the share `q` of all recorded ones does not exceed, rounded
  /// up within its bucket; never more than the largest. 0 when there is none.
  [[nodiscard]] std::uint64_t at(double q) const noexcept {
    const double exact = q * static_cast<double>(count_);
    auto wanted = static_cast<std::uint64_t>(exact);
    if (static_cast<double>(wanted) < exact || wanted == 0) ++wanted;
    std::uint64_t below = 0;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      below += counts_[i];
      if (below >= wanted && below > 0) return std::min(last_of(i), max_);
    }
    return max_;
  }
  /// Can it say something about `q`? With fewer than ten values beyond it, that is luck.
  [[nodiscard]] bool resolves(double q) const noexcept {
    return static_cast<double>(count_) * (1 - q) >= 10;
  }

 private:
  static constexpr unsigned kMantissaBits = 7;
  static constexpr std::size_t kPerOctave = std::size_t{1} << kMantissaBits;
  static constexpr unsigned kOctaves = 42 - kMantissaBits;
  static constexpr std::size_t kBuckets = kPerOctave * (kOctaves + 1);

  static std::size_t index_of(std::uint64_t value) noexcept {
    if (value < kPerOctave) return static_cast<std::size_t>(value);
    const unsigned octave = static_cast<unsigned>(std::bit_width(value)) - kMantissaBits;
    if (octave > kOctaves) return kBuckets - 1;
    // The leading bit is the octave's: the seven behind it count within.
    return octave * kPerOctave + static_cast<std::size_t>(value >> (octave - 1)) - kPerOctave;
  }
  static std::uint64_t last_of(std::size_t index) noexcept {
    if (index < kPerOctave) return index;
    const std::size_t octave = index / kPerOctave;
    const std::uint64_t mantissa = kPerOctave + index % kPerOctave;
    return ((mantissa + 1) << (octave - 1)) - 1;
  }

  std::uint64_t counts_[kBuckets] = {};
  std::uint64_t count_ = 0;
  std::uint64_t max_ = 0;
};

}  // namespace slipring::bench

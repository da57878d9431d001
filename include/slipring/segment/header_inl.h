// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>

#include "slipring/segment/header.h"

namespace slipring::segment {
namespace detail {

// Words that mean something; the rest of the page is zero.
inline constexpr std::uint64_t kUsedWords = offsetof(SegmentHeader, rest) / 8;

inline SharedWord<std::uint64_t>& header_word(const SegmentHeader& shared,
                                              std::uint64_t index) noexcept {
  auto* area = const_cast<std::byte*>(reinterpret_cast<const std::byte*>(&shared));
  return word_at<std::uint64_t>(area, index * 8);
}

}  // namespace detail

template <typename Access>
HeaderWords load_header(const SegmentHeader& shared) noexcept {
  std::uint64_t loaded[kHeaderBytes / 8] = {};
  // SYNC segment.magic (acquire <- release in store_magic):
  //   when it reads as kMagic, the other words and the body are as their creator left them.
  loaded[0] = Access::load_acquire(shared.magic);
  for (std::uint64_t i = 1; i < detail::kUsedWords; ++i) {
    loaded[i] = Access::load_relaxed(detail::header_word(shared, i));
  }
  return std::bit_cast<HeaderWords>(loaded);
}

template <typename Access>
void store_header(SegmentHeader& shared, const HeaderWords& words) noexcept {
  std::uint64_t to_store[kHeaderBytes / 8];
  std::memcpy(to_store, &words, sizeof to_store);
  for (std::uint64_t i = 1; i < detail::kUsedWords; ++i) {
    Access::store_relaxed(detail::header_word(shared, i), to_store[i]);
  }
}

template <typename Access>
void store_magic(SegmentHeader& shared) noexcept {
  // SYNC segment.magic (release -> acquire in load_header):
  //   header and initialised body are visible before the word that says so.
  Access::store_release(shared.magic, kMagic);
}

}  // namespace slipring::segment

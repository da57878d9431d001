// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>
#include <type_traits>

#include "slipring/base/align.h"
#include "slipring/base/hash.h"

namespace slipring::channel {

/// What a lane says about its records, compared at attach. All zero: bytes, whatever they mean.
struct Schema {
  std::uint64_t fingerprint = 0;
  std::uint32_t size = 0;
  std::uint32_t align = 0;
  friend bool operator==(const Schema&, const Schema&) = default;
};

namespace detail {
/// The compiler's spelling of T, cut out of the enclosing signature.
template <typename T>
[[nodiscard]] consteval std::string_view type_name() {
  const std::string_view text = __PRETTY_FUNCTION__;
  const std::size_t from = text.find("T = ") + 4;
  const std::size_t to = text.find_first_of(";]", from);
  return text.substr(from, to - from);
}
}  // namespace detail

/// Specialise it to give a type a fingerprint of its own, as when the same record has different
/// names in two programs: `template <> inline constexpr std::uint64_t kTypeTag<Tick> = 0x91fe03aa;`
/// The default is the qualified name. It sees a renamed type and, with size and alignment, most
/// changed ones; two fields swapped it does not see.
template <typename T>
inline constexpr std::uint64_t kTypeTag = fnv1a(detail::type_name<T>());

/// T as a record type: trivially copyable and of standard layout, so that its bytes are its value.
/// Pointers inside would be addresses of another process: the author of T answers for that.
template <typename T>
[[nodiscard]] consteval Schema schema_of() {
  static_assert(std::is_trivially_copyable_v<T>, "a record crosses processes as bytes");
  static_assert(std::is_standard_layout_v<T>, "both sides must agree on the layout");
  static_assert(!std::is_pointer_v<T>, "an address means nothing in another process");
  static_assert(alignof(T) <= kCacheLine, "records are aligned to a cache line at most");
  std::uint64_t hash = kTypeTag<T>;
  hash = fnv1a(sizeof(T), hash);
  hash = fnv1a(alignof(T), hash);
  return {hash == 0 ? 1 : hash, sizeof(T), alignof(T)};
}

}  // namespace slipring::channel

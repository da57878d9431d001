// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "slipring/base/result.h"

namespace slipring::segment {

inline constexpr std::size_t kMaxNameBytes = 200;

/// A name that is safe as a file name and in a terminal: once parsed, nobody checks it again.
class Name {
 public:
  /// 1 to kMaxNameBytes bytes of [A-Za-z0-9._-], other than "." and "..". One leading '/' is
  /// dropped, so "/md.btc" (as shm_open wants it) and "md.btc" are the same name.
  /// Errors: invalid_argument  op says which rule: "name: empty", "name: too long",
  ///                           "name: slash", "name: character", "name: dots".
  [[nodiscard]] static Result<Name> parse(std::string_view text);

  [[nodiscard]] const std::string& str() const noexcept { return text_; }
  friend bool operator==(const Name&, const Name&) = default;

 private:
  explicit Name(std::string text) noexcept : text_(std::move(text)) {}
  std::string text_;
};

}  // namespace slipring::segment

// SPDX-License-Identifier: Apache-2.0
#include "slipring/segment/name.h"

#include <algorithm>

namespace slipring::segment {
namespace {

// Written out: isalnum() depends on the locale, and names must not.
bool is_allowed(char c) noexcept {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '-';
}

}  // namespace

Result<Name> Name::parse(std::string_view text) {
  if (text.starts_with('/')) text.remove_prefix(1);
  if (text.empty()) return fail(Errc::invalid_argument, 0, "name: empty");
  if (text.size() > kMaxNameBytes) return fail(Errc::invalid_argument, 0, "name: too long");
  if (text.find('/') != text.npos) return fail(Errc::invalid_argument, 0, "name: slash");
  if (!std::ranges::all_of(text, is_allowed)) {
    return fail(Errc::invalid_argument, 0, "name: character");
  }
  if (text == "." || text == "..") return fail(Errc::invalid_argument, 0, "name: dots");
  return Name(std::string(text));
}

}  // namespace slipring::segment

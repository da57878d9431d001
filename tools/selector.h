// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "report.h"
#include "slipring/segment/segment.h"

namespace slipring::tools {

/// How the user names a segment: ticks, /ticks, shm:ticks, 'md.*', sysv:0x5eed, sysv-id:98307, and
/// fd:4101/7 for the memfd that process 4101 has as descriptor 7.
struct Selector {
  enum class By : unsigned char { name, glob, sysv_key, sysv_id, descriptor };
  By by = By::name;
  std::string text;  ///< As typed.
  std::string name;  ///< Name or pattern, without the "shm:" and the slash.
  key_t key = 0;
  int sysv_id = -1;
  int pid = 0, fd = -1;
};

/// `globs`: whether a pattern is allowed here. Name rules are checked when it is opened.
[[nodiscard]] Try<Selector> parse_selector(const std::string& text, const Subject& subject,
                                           bool globs);
[[nodiscard]] bool matches(const Selector& selector, const segment::Listing& listing);
[[nodiscard]] Result<segment::Segment> open_selected(const Selector& selector,
                                                     segment::OpenMode mode);
/// The segment of a row. Errors: not_found, too, when the name leads to another one by now.
[[nodiscard]] Result<segment::Segment> open_listed(const segment::Listing& listing,
                                                   segment::OpenMode mode);
/// A name for people, which a selector understands.
[[nodiscard]] std::string label_of(const segment::Listing& listing);

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "harness/sides.h"
#include "slipring/segment/segment.h"

namespace slipring::bench {

/// Memory for a contender that brings none: zero, resident, shared, of the same kind as that of
/// slipring's own rings in these measurements.
class Arena {
 public:
  static Try<Arena> make(std::size_t bytes, bool lock);
  [[nodiscard]] std::byte* data() const noexcept { return segment_->body().data(); }
  [[nodiscard]] std::size_t size() const noexcept { return segment_->body().size(); }

 private:
  explicit Arena(segment::Segment segment)
      : segment_(std::make_shared<segment::Segment>(std::move(segment))) {}
  // Shared, not moved: forms are copied around, and their memory stays where it is.
  std::shared_ptr<segment::Segment> segment_;
};

/// Where the side that must be there first says that it is.
class Announcement {
 public:
  static Try<Announcement> make();
  void say() noexcept;
  /// False after 5 s.
  [[nodiscard]] bool wait() const noexcept;

 private:
  explicit Announcement(Arena arena) : arena_(std::move(arena)) {}
  Arena arena_;
};

[[nodiscard]] std::string text_of(const Error& error);

}  // namespace slipring::bench

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "report.h"
#include "slipring/base/unique_fd.h"

namespace slipring::tools {

/// What send reads: a file, or standard input.
class Input {
 public:
  /// `path` "-": standard input. Fails before anything was made.
  [[nodiscard]] static Try<Input> open(const std::string& path, bool stdin_was_closed);

  enum class State : unsigned char { ready, end, nothing_yet };
  /// Waits at most `limit` for something to read; a signal shortens it.
  [[nodiscard]] State wait(std::chrono::milliseconds limit) const noexcept;
  /// Fills `room` from a file; takes what is there from a pipe or a terminal. 0: the end, or a
  /// signal came first.
  [[nodiscard]] Try<std::size_t> read(std::span<std::byte> room);

  /// Known for regular files only.
  [[nodiscard]] std::optional<std::uint64_t> size() const noexcept { return size_; }
  /// What is left of it. Nothing once it gave more than its size: it grows, and has no end yet.
  [[nodiscard]] std::optional<std::uint64_t> left() const noexcept {
    if (!size_ || taken_ >= *size_) return std::nullopt;
    return *size_ - taken_;
  }

 private:
  Input(UniqueFd fd, std::string label) : fd_(std::move(fd)), label_(std::move(label)) {}
  UniqueFd fd_;
  std::string label_;
  bool is_regular_ = false;
  std::optional<std::uint64_t> size_;  // from where we started
  std::uint64_t taken_ = 0;
};

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
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
  /// Waits at most `limit` for something to read; a signal shortens it. Asks an input that does not
  /// say how much is there by reading a little ahead, so that `ready` means at least one byte.
  [[nodiscard]] State wait(std::chrono::milliseconds limit) noexcept;
  /// Fills `room` from a file; takes what is there from a pipe or a terminal. 0: the end, or a
  /// signal came first.
  [[nodiscard]] Try<std::size_t> read(std::span<std::byte> room);
  /// Bytes that are there, as wait() found them; nothing where the kernel does not tell.
  [[nodiscard]] std::optional<std::uint64_t> available() const noexcept { return available_; }

  /// Known for regular files only.
  [[nodiscard]] std::optional<std::uint64_t> size() const noexcept { return size_; }
  /// What is left of it. Nothing once it gave more than its size: it grows, and has no end yet.
  [[nodiscard]] std::optional<std::uint64_t> left() const noexcept {
    if (!size_ || taken_ >= *size_) return std::nullopt;
    return *size_ - taken_;
  }

 private:
  Input(UniqueFd fd, std::string label) : fd_(std::move(fd)), label_(std::move(label)) {}
  [[nodiscard]] State look_ahead() noexcept;
  [[nodiscard]] bool is_readable(std::chrono::milliseconds limit) const noexcept;

  UniqueFd fd_;
  std::string label_;
  bool is_regular_ = false;
  std::optional<std::uint64_t> size_;  // from where we started
  std::uint64_t taken_ = 0;
  std::optional<std::uint64_t> available_;
  // Read by wait(), not yet by read().
  std::array<std::byte, 4096> ahead_{};
  std::size_t ahead_begin_ = 0, ahead_end_ = 0;
  int ahead_errno_ = 0;  // for read() to report
};

}  // namespace slipring::tools

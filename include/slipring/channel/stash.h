// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

namespace slipring::channel {

/// Messages put by because the ring was full, oldest first, in private memory of a bounded size.
/// It dies with its process: what lies here was not sent.
/// Threads: one at a time.
class Stash {
 public:
  struct Entry {
    std::vector<std::byte> bytes;
    std::uint16_t type = 0;
  };

  /// False: it would then hold more than `limit` bytes, or there is no memory. Nothing changed.
  [[nodiscard]] bool push(std::span<const std::byte> message, std::uint16_t type,
                          std::size_t limit) noexcept;
  [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }
  [[nodiscard]] std::size_t count() const noexcept { return entries_.size(); }
  /// Payload, and what keeping each message costs.
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] const Entry& front() const noexcept { return entries_.front(); }
  void pop() noexcept {
    bytes_ -= entries_.front().bytes.size() + sizeof(Entry);
    entries_.pop_front();
  }
  /// Gives up all that is left. Returns how many messages that were.
  std::size_t clear() noexcept {
    const std::size_t count = entries_.size();
    entries_.clear();
    bytes_ = 0;
    return count;
  }

 private:
  std::deque<Entry> entries_;
  std::size_t bytes_ = 0;
};

}  // namespace slipring::channel

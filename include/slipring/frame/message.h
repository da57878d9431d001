// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "slipring/base/result.h"

namespace slipring::frame {

/// A large message that was put together from chunks, in memory of our own. Movable, not copyable.
///
/// Threads:  one at a time; handing over needs synchronisation of the caller's own.
/// Progress: reading is wait-free; it never allocates.
class Message {
 public:
  Message() noexcept = default;
  Message(Message&& other) noexcept;
  Message& operator=(Message&& other) noexcept;
  ~Message() { clear(); }

  [[nodiscard]] std::uint64_t source() const noexcept { return source_; }
  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
  [[nodiscard]] std::uint16_t type() const noexcept { return type_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

  /// The body in order, as writev and sendmsg take it (IOV_MAX at a time). Ours until the message
  /// goes. A part is no chunk: small chunks share one, and a chunk may lie in two.
  [[nodiscard]] std::span<const iovec> parts() const noexcept { return parts_; }
  /// True when the body is one span of memory: always in Mode::assembled, and when it is empty.
  [[nodiscard]] bool is_contiguous() const noexcept { return parts_.size() <= 1; }
  /// The whole body. Empty when it is not contiguous: look at parts().
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept;
  /// Copies the body to the front of `to`.
  /// Errors: too_large  `to` is shorter than size().
  [[nodiscard]] Result<void> copy_to(std::span<std::byte> to) const noexcept;

 private:
  friend class Assembler;

  /// Bytes of memory held: what a limit on bytes under assembly counts.
  [[nodiscard]] std::uint64_t capacity() const noexcept { return full_parts_ + tail_capacity_; }
  [[nodiscard]] std::size_t tail_slack() const noexcept {
    return tail_capacity_ - (parts_.empty() ? 0 : parts_.back().iov_len);
  }
  /// Makes the only part `capacity` bytes large, in place where the kernel can move pages.
  /// False: no memory, nothing changed.
  [[nodiscard]] bool resize_only_part(std::size_t capacity) noexcept;
  /// Opens a new last part. False: no memory, nothing changed.
  [[nodiscard]] bool add_part(std::size_t capacity) noexcept;
  /// Copies as much of `body` as the last part takes. Returns the copy.
  [[nodiscard]] std::span<const std::byte> append_to_tail(std::span<const std::byte> body) noexcept;
  void clear() noexcept;

  std::vector<iovec> parts_;
  std::size_t tail_capacity_ = 0;  // of the last part
  std::uint64_t full_parts_ = 0;   // bytes of the parts before it: no slack there
  std::uint64_t size_ = 0;
  std::uint64_t source_ = 0;
  std::uint64_t id_ = 0;
  std::uint16_t type_ = 0;
};

}  // namespace slipring::frame

// SPDX-License-Identifier: Apache-2.0
#include "slipring/frame/message.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <utility>

#include "slipring/base/shared_access.h"

namespace slipring::frame {

Message::Message(Message&& other) noexcept
    : parts_(std::exchange(other.parts_, {})),
      tail_capacity_(std::exchange(other.tail_capacity_, 0)),
      full_parts_(std::exchange(other.full_parts_, 0)),
      size_(std::exchange(other.size_, 0)),
      source_(other.source_),
      id_(other.id_),
      type_(other.type_) {}

Message& Message::operator=(Message&& other) noexcept {
  if (this != &other) {
    clear();
    parts_ = std::exchange(other.parts_, {});
    tail_capacity_ = std::exchange(other.tail_capacity_, 0);
    full_parts_ = std::exchange(other.full_parts_, 0);
    size_ = std::exchange(other.size_, 0);
    source_ = other.source_;
    id_ = other.id_;
    type_ = other.type_;
  }
  return *this;
}

void Message::clear() noexcept {
  for (const iovec& part : parts_) std::free(part.iov_base);
  parts_.clear();
  tail_capacity_ = 0;
  full_parts_ = 0;
  size_ = 0;
}

std::span<const std::byte> Message::bytes() const noexcept {
  if (parts_.size() != 1) return {};
  return {static_cast<const std::byte*>(parts_.front().iov_base), parts_.front().iov_len};
}

Result<void> Message::copy_to(std::span<std::byte> to) const noexcept {
  if (to.size() < size_) return fail(Errc::too_large, 0, "message: buffer too small");
  std::byte* at = to.data();
  for (const iovec& part : parts_) {
    at = std::copy_n(static_cast<const std::byte*>(part.iov_base), part.iov_len, at);
  }
  return {};
}

bool Message::resize_only_part(std::size_t capacity) noexcept {
  if (parts_.empty()) return add_part(capacity);
  // realloc, because it moves the pages of large memory instead of copying them.
  void* moved = std::realloc(parts_.front().iov_base, capacity);
  if (moved == nullptr) return false;
  parts_.front().iov_base = moved;
  tail_capacity_ = capacity;
  return true;
}

bool Message::add_part(std::size_t capacity) noexcept {
  try {
    if (parts_.size() == parts_.capacity())
      parts_.reserve(std::max<std::size_t>(1, 2 * parts_.size()));
  } catch (const std::exception&) {  // no memory, or more parts than a vector counts
    return false;
  }
  void* fresh = std::malloc(capacity);
  if (fresh == nullptr) return false;
  full_parts_ += tail_capacity_;
  parts_.push_back({fresh, 0});
  tail_capacity_ = capacity;
  return true;
}

std::span<const std::byte> Message::append_to_tail(std::span<const std::byte> body) noexcept {
  const std::size_t size = std::min(body.size(), tail_slack());
  if (size == 0) return {};
  iovec& tail = parts_.back();
  std::byte* to = static_cast<std::byte*>(tail.iov_base) + tail.iov_len;
  NativeAccess::copy_out(to, body.data(), size);
  tail.iov_len += size;
  size_ += size;
  return {to, size};
}

}  // namespace slipring::frame

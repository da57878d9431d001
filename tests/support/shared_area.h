// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <type_traits>

namespace slipring::test {

/// Zeroed pages that this process and its forks share; unmapped at the end of the scope.
class SharedArea {
 public:
  explicit SharedArea(std::size_t size)
      : size_(size),
        bytes_(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
    if (bytes_ == MAP_FAILED) std::abort();
  }
  SharedArea(const SharedArea&) = delete;
  SharedArea& operator=(const SharedArea&) = delete;
  ~SharedArea() { ::munmap(bytes_, size_); }

  [[nodiscard]] std::byte* data() const noexcept { return static_cast<std::byte*>(bytes_); }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  /// The object at the area's start: `area.as<Shared>()`, of a type that zero bytes make valid.
  template <typename T>
  [[nodiscard]] T& as() const noexcept {
    static_assert(std::is_trivial_v<T>);
    return *static_cast<T*>(bytes_);
  }

 private:
  std::size_t size_;
  void* bytes_;
};

}  // namespace slipring::test

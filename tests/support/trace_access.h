// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "slipring/base/shared_access.h"

namespace slipring::test {

/// What one access to shared memory did.
enum class AccessKind : std::uint8_t { load, store, add, cas, copy_in, copy_out, zero };

/// One access: which bytes, and how.
struct TracedAccess {
  AccessKind kind;
  const std::byte* address;
  std::size_t size;

  [[nodiscard]] bool writes() const {
    return kind != AccessKind::load && kind != AccessKind::copy_out;
  }
  [[nodiscard]] bool within(const std::byte* from, std::size_t bytes) const {
    return address >= from && address + size <= from + bytes;
  }
};

/// Real memory, with every access recorded, counted, and preceded by a callback: a test can look
/// at what an operation touches, or die before its n-th access.
/// Threads: one trace per process; for tests with one thread.
struct TraceAccess {
  /// Runs before each access with its index, counted from clear(). An empty one is skipped.
  inline static std::function<void(std::uint64_t index)> before_access;
  inline static std::vector<TracedAccess> trace;
  inline static std::uint64_t count = 0;
  inline static bool keeps_trace = true;

  static void clear() {
    trace.clear();
    count = 0;
  }
  /// Runs `operation` and returns its accesses.
  template <typename Operation>
  [[nodiscard]] static std::vector<TracedAccess> record(Operation&& operation) {
    clear();
    operation();
    return std::exchange(trace, {});
  }

  template <typename T>
  [[nodiscard]] static T load_relaxed(const SharedWord<T>& word) noexcept {
    note(AccessKind::load, word);
    return NativeAccess::load_relaxed(word);
  }
  template <typename T>
  [[nodiscard]] static T load_acquire(const SharedWord<T>& word) noexcept {
    note(AccessKind::load, word);
    return NativeAccess::load_acquire(word);
  }
  template <typename T>
  static void store_relaxed(SharedWord<T>& word, std::type_identity_t<T> value) noexcept {
    note(AccessKind::store, word);
    NativeAccess::store_relaxed(word, value);
  }
  template <typename T>
  static void store_release(SharedWord<T>& word, std::type_identity_t<T> value) noexcept {
    note(AccessKind::store, word);
    NativeAccess::store_release(word, value);
  }
  template <typename T>
  static T add_release(SharedWord<T>& word, std::type_identity_t<T> value) noexcept {
    note(AccessKind::add, word);
    return NativeAccess::add_release(word, value);
  }
  template <typename T>
  [[nodiscard]] static bool cas_acq_rel(SharedWord<T>& word, std::type_identity_t<T>& expected,
                                        std::type_identity_t<T> desired) noexcept {
    note(AccessKind::cas, word);
    return NativeAccess::cas_acq_rel(word, expected, desired);
  }
  static void copy_in(std::byte* shared, const void* from, std::size_t size) noexcept {
    note(AccessKind::copy_in, shared, size);
    NativeAccess::copy_in(shared, from, size);
  }
  static void copy_out(void* to, const std::byte* shared, std::size_t size) noexcept {
    note(AccessKind::copy_out, shared, size);
    NativeAccess::copy_out(to, shared, size);
  }
  static void zero(std::byte* shared, std::size_t size) noexcept {
    note(AccessKind::zero, shared, size);
    NativeAccess::zero(shared, size);
  }

 private:
  template <typename T>
  static void note(AccessKind kind, const SharedWord<T>& word) noexcept {
    note(kind, reinterpret_cast<const std::byte*>(word.policy_address()), sizeof(T));
  }
  static void note(AccessKind kind, const std::byte* address, std::size_t size) noexcept {
    if (before_access) before_access(count);
    ++count;
    if (keeps_trace) trace.push_back({kind, address, size});
  }
};

}  // namespace slipring::test

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace slipring {

/// A word of shared memory. It has no operations of its own: an Access policy reads and writes it,
/// so the same source runs on real memory, under a fuzzer that answers every load (OracleAccess),
/// under a tracer that counts or kills at the n-th access (TraceAccess), and in a model.
/// One size per word, for ever: mixed-size accesses have no meaning in the memory model.
template <typename T>
class SharedWord {
  static_assert(std::is_unsigned_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));

 public:
  using value_type = T;

  /// For Access policies and system calls that take the address of a futex word, nobody else.
  [[nodiscard]] T* policy_address() const noexcept { return const_cast<T*>(&bits_); }

 private:
  T bits_;
};
static_assert(std::is_trivial_v<SharedWord<std::uint64_t>>);
static_assert(sizeof(SharedWord<std::uint32_t>) == 4);

/// Access to the memory itself: every order is written out in the operation's name, every control
/// word is loaded once into a local, and the compiler cannot fetch it a second time.
/// Threads: any.  Progress: wait-free.
struct NativeAccess {
  template <typename T>
  [[nodiscard]] static T load_relaxed(const SharedWord<T>& word) noexcept {
    return launder(ref(word).load(std::memory_order_relaxed));
  }
  template <typename T>
  [[nodiscard]] static T load_acquire(const SharedWord<T>& word) noexcept {
    return launder(ref(word).load(std::memory_order_acquire));
  }
  template <typename T>
  static void store_relaxed(SharedWord<T>& word, std::type_identity_t<T> value) noexcept {
    ref(word).store(value, std::memory_order_relaxed);
  }
  template <typename T>
  static void store_release(SharedWord<T>& word, std::type_identity_t<T> value) noexcept {
    ref(word).store(value, std::memory_order_release);
  }
  template <typename T>
  static T add_release(SharedWord<T>& word, std::type_identity_t<T> value) noexcept {
    return ref(word).fetch_add(value, std::memory_order_release);
  }
  /// True when `expected` was there; otherwise `expected` becomes what was.
  template <typename T>
  [[nodiscard]] static bool cas_acq_rel(SharedWord<T>& word, std::type_identity_t<T>& expected,
                                        std::type_identity_t<T> desired) noexcept {
    return ref(word).compare_exchange_strong(expected, desired, std::memory_order_acq_rel,
                                             std::memory_order_acquire);
  }

  /// Payload moves as plain bytes. A peer that breaks the protocol can change them under us: the
  /// copy is then garbage, never a fault.
  /// An empty one may come without an address, which memcpy does not allow.
  static void copy_in(std::byte* shared, const void* from, std::size_t size) noexcept {
    if (size != 0) std::memcpy(shared, from, size);
  }
  static void copy_out(void* to, const std::byte* shared, std::size_t size) noexcept {
    if (size != 0) std::memcpy(to, shared, size);
    // What was copied is what gets checked: no second look at the shared bytes.
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  static void zero(std::byte* shared, std::size_t size) noexcept { std::memset(shared, 0, size); }

 private:
  template <typename T>
  static std::atomic_ref<T> ref(const SharedWord<T>& word) noexcept {
    static_assert(std::atomic_ref<T>::is_always_lock_free);
    return std::atomic_ref<T>(*word.policy_address());
  }
  template <typename T>
  static T launder(T value) noexcept {
    asm("" : "+r"(value));
    return value;
  }
};

/// The word at a byte offset of a mapped area. The caller has checked offset and alignment.
template <typename T>
[[nodiscard]] SharedWord<T>& word_at(std::byte* area, std::uint64_t offset) noexcept {
  return *reinterpret_cast<SharedWord<T>*>(area + offset);
}

}  // namespace slipring

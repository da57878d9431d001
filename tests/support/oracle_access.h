// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>

#include "slipring/base/shared_access.h"

namespace slipring::test {

/// What this role may do with an area. A store into a peer's area is a bug, whatever it says.
enum class Rights : std::uint8_t { read_only, read_write };

/// Shared memory that lies. Loads are answered by the bytes of a fuzz input, so two loads of one
/// word may disagree: every interleaving with a hostile peer is some input.
///   free    every load is invented;
///   sticky  memory answers, but now and then the input changes the word first.
/// It is the oracle of the test as well: each access must lie inside a registered area and be
/// allowed there, and the number of loads stays within what the caller sets; else it aborts.
/// Threads: one; state is global to the process and reset by feed().
struct OracleAccess {
  enum class Mode : std::uint8_t { free, sticky };

  /// Starts a run: forgets areas and counts.
  static void feed(std::span<const std::uint8_t> input, Mode mode) noexcept {
    state() = State{};
    state().input = input;
    state().mode = mode;
  }
  /// How the rest of the input answers. A target may attach in `sticky` mode to sound areas, and
  /// let everything afterwards be invented.
  static void switch_to(Mode mode) noexcept { state().mode = mode; }
  static void allow(std::span<std::byte> area, Rights rights) noexcept {
    State& s = state();
    if (s.area_count == s.areas.size()) broken("too many areas");
    s.areas[s.area_count++] = {area, rights};
  }
  [[nodiscard]] static std::uint64_t loads() noexcept { return state().loads; }
  /// From here on, more than `limit` loads are a hang.
  static void limit_loads(std::uint64_t limit) noexcept {
    state().load_limit = state().loads + limit;
  }
  /// Input for the target itself. 0 when there is no more.
  [[nodiscard]] static std::uint8_t next_byte() noexcept {
    State& s = state();
    if (s.used >= s.input.size()) return 0;
    return s.input[s.used++];
  }
  [[nodiscard]] static bool has_input() noexcept { return state().used < state().input.size(); }
  template <typename T>
  [[nodiscard]] static T next_word() noexcept {
    T value = 0;
    State& s = state();
    const std::size_t size = std::min(sizeof(T), s.input.size() - s.used);
    std::memcpy(&value, s.input.data() + s.used, size);
    s.used += size;
    return value;
  }

  template <typename T>
  [[nodiscard]] static T load_relaxed(const SharedWord<T>& word) noexcept {
    return load(word);
  }
  template <typename T>
  [[nodiscard]] static T load_acquire(const SharedWord<T>& word) noexcept {
    return load(word);
  }
  template <typename T>
  static void store_relaxed(SharedWord<T>& word, std::type_identity_t<T> value) noexcept {
    store(word, value);
  }
  template <typename T>
  static void store_release(SharedWord<T>& word, std::type_identity_t<T> value) noexcept {
    store(word, value);
  }
  template <typename T>
  static T add_release(SharedWord<T>& word, std::type_identity_t<T> value) noexcept {
    const T before = load(word);
    store(word, static_cast<T>(before + value));
    return before;
  }
  /// The outcome is invented, too.
  template <typename T>
  [[nodiscard]] static bool cas_acq_rel(SharedWord<T>& word, std::type_identity_t<T>& expected,
                                        std::type_identity_t<T> desired) noexcept {
    const T found = load(word);
    const bool wins = (next_byte() & 1) != 0;
    if (wins) {
      store(word, desired);
    } else {
      check(word.policy_address(), sizeof(T), alignof(T), true);
      expected = found;
    }
    return wins;
  }
  static void copy_in(std::byte* shared, const void* from, std::size_t size) noexcept {
    check(shared, size, 1, true);
    std::memcpy(shared, from, size);
  }
  static void copy_out(void* to, const std::byte* shared, std::size_t size) noexcept {
    check(shared, size, 1, false);
    std::memcpy(to, shared, size);
  }
  static void zero(std::byte* shared, std::size_t size) noexcept {
    check(shared, size, 1, true);
    std::memset(shared, 0, size);
  }

  /// Aborts unless [address, address + size) may be read, or written, by this role.
  static void check(const void* address, std::size_t size, std::size_t align,
                    bool writes) noexcept {
    const auto at = reinterpret_cast<std::uintptr_t>(address);
    if (at % align != 0) broken("access is not aligned");
    if (size == 0) return;
    const State& s = state();
    for (std::size_t i = 0; i < s.area_count; ++i) {
      const auto first = reinterpret_cast<std::uintptr_t>(s.areas[i].bytes.data());
      const std::size_t bytes = s.areas[i].bytes.size();
      if (at < first || at - first >= bytes) continue;
      if (size > bytes - (at - first)) broken("access runs out of its area");
      if (writes && s.areas[i].rights == Rights::read_only) broken("store into the peer's area");
      return;
    }
    broken("access outside every area");
  }
  [[noreturn]] static void broken(const char* what) noexcept {
    std::fprintf(stderr, "oracle: %s\n", what);
    std::abort();
  }

 private:
  struct Area {
    std::span<std::byte> bytes;
    Rights rights = Rights::read_only;
  };
  struct State {
    std::span<const std::uint8_t> input;
    std::size_t used = 0;
    Mode mode = Mode::free;
    std::array<Area, 4> areas;
    std::size_t area_count = 0;
    std::uint64_t loads = 0;
    std::uint64_t load_limit = ~std::uint64_t{0};
  };
  static State& state() noexcept {
    static State the_state;
    return the_state;
  }

  template <typename T>
  static T load(const SharedWord<T>& word) noexcept {
    State& s = state();
    check(word.policy_address(), sizeof(T), alignof(T), false);
    if (++s.loads > s.load_limit) broken("too many loads");
    if (s.mode == Mode::free) return next_word<T>();
    // One byte in eight makes the peer act between two of our loads.
    if (has_input() && (next_byte() & 7) == 7) {
      const T lie = next_word<T>();
      std::memcpy(word.policy_address(), &lie, sizeof(T));
    }
    T value;
    std::memcpy(&value, word.policy_address(), sizeof(T));
    return value;
  }
  template <typename T>
  static void store(SharedWord<T>& word, T value) noexcept {
    check(word.policy_address(), sizeof(T), alignof(T), true);
    std::memcpy(word.policy_address(), &value, sizeof(T));
  }
};

}  // namespace slipring::test

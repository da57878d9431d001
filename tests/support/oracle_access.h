// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <type_traits>

#include "slipring/base/shared_access.h"
#include "support/oracle_script.h"

namespace slipring::test {

/// What this role may do with an area. A store into a peer's area is a bug, whatever it says.
enum class Rights : std::uint8_t {
  read_only,
  read_write,
  by_swap,  ///< Several roles write it: changed by a compare-and-swap or an addition alone.
};

/// Shared memory that lies. Loads are answered by the bytes of a fuzz input, so two loads of one
/// word may disagree: every interleaving with a hostile peer is some input. How: OracleMode.
/// It is the oracle of the test as well: each access must lie inside a registered area and be
/// allowed there, and the number of loads stays within what the caller sets; else it aborts.
/// Threads: one; state is global to the process and reset by feed().
struct OracleAccess {
  using Mode = OracleMode;
  /// Rights that differ within an area: who writes what, by the offset of a byte.
  using RightsAt = Rights (*)(std::size_t offset);
  /// False when this role never tries that swap, whatever its outcome.
  using SwapRule = bool (*)(std::size_t offset, std::uint64_t from, std::uint64_t to);

  /// Starts a run: forgets areas and counts.
  static void feed(std::span<const std::uint8_t> input, Mode mode) noexcept {
    state() = State{};
    state().script = OracleScript(input, mode);
  }
  /// How the rest of the input answers. A target may attach in `sticky` mode to sound areas, and
  /// let everything afterwards be invented.
  static void switch_to(Mode mode) noexcept { state().script.switch_to(mode); }
  static void allow(std::span<std::byte> area, Rights rights) noexcept {
    allow(Area{area, rights, nullptr, nullptr});
  }
  static void allow(std::span<std::byte> area, RightsAt rights_at,
                    SwapRule swap_rule = nullptr) noexcept {
    allow(Area{area, Rights::read_only, rights_at, swap_rule});
  }
  [[nodiscard]] static std::uint64_t loads() noexcept { return state().loads; }
  /// Loads that saw something else than this role, or a sound peer, had left in memory, and swaps
  /// that ended otherwise than memory says.
  [[nodiscard]] static std::uint64_t lies() noexcept { return state().lies; }
  /// From here on, more than `limit` loads are a hang.
  static void limit_loads(std::uint64_t limit) noexcept {
    state().load_limit = state().loads + limit;
    state().limit_since_a_lie = 0;
  }
  /// For what is lock-free: a change by a peer may make it begin again. More than `limit` loads
  /// since the last one are a hang.
  static void limit_loads_since_a_lie(std::uint64_t limit) noexcept {
    limit_loads(limit);
    state().limit_since_a_lie = limit;
  }
  /// In sparse mode: the input is asked again after so many loads; after kNoLie, not before the
  /// next call of this.
  static void rest(std::uint8_t loads) noexcept { state().script.rest(loads); }

  /// Input for the target itself. 0 when there is no more.
  [[nodiscard]] static std::uint8_t next_byte() noexcept { return next_word<std::uint8_t>(); }
  [[nodiscard]] static bool has_input() noexcept { return state().script.has_input(); }
  template <typename T>
  [[nodiscard]] static T next_word() noexcept {
    return state().script.next<T>();
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
    check(word.policy_address(), sizeof(T), alignof(T), Use::swap);
    put(word, static_cast<T>(before + value));
    return before;
  }
  /// The outcome is invented, too, where the mode does not compare.
  template <typename T>
  [[nodiscard]] static bool cas_acq_rel(SharedWord<T>& word, std::type_identity_t<T>& expected,
                                        std::type_identity_t<T> desired) noexcept {
    const T found = load(word);
    const bool wins = state().script.wins(found == expected);
    if (wins != (found == expected)) note_lie();
    const Area& area = check(word.policy_address(), sizeof(T), alignof(T), Use::swap);
    const auto offset = static_cast<std::size_t>(address_of(word) - area.bytes.data());
    if (area.swap_rule != nullptr && !area.swap_rule(offset, expected, desired)) {
      broken("a swap that this role never tries");
    }
    if (wins) {
      put(word, desired);
    } else {
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
    if (reinterpret_cast<std::uintptr_t>(address) % align != 0) broken("access is not aligned");
    if (size != 0) (void)check(address, size, align, writes ? Use::store : Use::load);
  }
  [[noreturn]] static void broken(const char* what) noexcept {
    std::fprintf(stderr, "oracle: %s\n", what);
    std::abort();
  }

 private:
  enum class Use : std::uint8_t { load, store, swap };
  struct Area {
    std::span<std::byte> bytes;
    Rights rights = Rights::read_only;
    RightsAt rights_at = nullptr;  // instead of `rights`
    SwapRule swap_rule = nullptr;
  };
  struct State {
    OracleScript script;
    std::array<Area, 4> areas;
    std::size_t area_count = 0;
    std::uint64_t loads = 0;
    std::uint64_t lies = 0;
    std::uint64_t load_limit = ~std::uint64_t{0};
    std::uint64_t limit_since_a_lie = 0;  // 0: lies do not matter
  };
  static State& state() noexcept {
    static State the_state;
    return the_state;
  }
  static void allow(const Area& area) noexcept {
    State& s = state();
    if (s.area_count == s.areas.size()) broken("too many areas");
    s.areas[s.area_count++] = area;
  }

  static void check(const Area& area, std::size_t offset, Use use) noexcept {
    const Rights rights = area.rights_at != nullptr ? area.rights_at(offset) : area.rights;
    if (rights == Rights::read_write) return;
    if (rights == Rights::read_only) broken("store into the peer's area");
    if (use == Use::store) broken("plain store into a word that others swap");
  }
  static const Area& check(const void* address, std::size_t size, std::size_t align,
                           Use use) noexcept {
    const auto at = reinterpret_cast<std::uintptr_t>(address);
    if (at % align != 0) broken("access is not aligned");
    const State& s = state();
    for (std::size_t i = 0; i < s.area_count; ++i) {
      const Area& area = s.areas[i];
      const auto first = reinterpret_cast<std::uintptr_t>(area.bytes.data());
      if (at < first || at - first >= area.bytes.size()) continue;
      if (size > area.bytes.size() - (at - first)) broken("access runs out of its area");
      if (use != Use::load) {
        check(area, at - first, use);
        check(area, at - first + size - 1, use);
      }
      return area;
    }
    broken("access outside every area");
  }

  static void note_lie() noexcept {
    State& s = state();
    ++s.lies;
    if (s.limit_since_a_lie != 0) s.load_limit = s.loads + s.limit_since_a_lie;
  }
  template <typename T>
  static std::byte* address_of(const SharedWord<T>& word) noexcept {
    return reinterpret_cast<std::byte*>(word.policy_address());
  }
  template <typename T>
  static T load(const SharedWord<T>& word) noexcept {
    State& s = state();
    check(word.policy_address(), sizeof(T), alignof(T), Use::load);
    if (++s.loads > s.load_limit) broken("too many loads");
    T value;
    std::memcpy(&value, word.policy_address(), sizeof(T));
    if (s.script.answer(value)) {
      note_lie();
      // A peer that acted has left it there. What is merely invented is nowhere.
      if (s.script.mode() != Mode::free) std::memcpy(word.policy_address(), &value, sizeof(T));
    }
    return value;
  }
  template <typename T>
  static void store(SharedWord<T>& word, T value) noexcept {
    check(word.policy_address(), sizeof(T), alignof(T), Use::store);
    put(word, value);
  }
  template <typename T>
  static void put(SharedWord<T>& word, T value) noexcept {
    std::memcpy(word.policy_address(), &value, sizeof(T));
  }
};

}  // namespace slipring::test

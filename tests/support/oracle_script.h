// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace slipring::test {

/// How the bytes of a fuzz input become what loads see and what becomes of swaps.
enum class OracleMode : std::uint8_t {
  free,    ///< Every load is invented, and so is the outcome of every swap, as long as there is
           ///< input.
  sticky,  ///< Memory answers, but a byte before each load may change the word. Outcomes as in
           ///< free.
  sparse,  ///< As sticky in fewer bytes: the input says how many loads go by before the next
           ///< change, and what part of the word it touches. A swap compares, as real ones do.
  honest,  ///< Memory answers and swaps compare, without a byte of input: for setting up.
};

/// A fuzz input on its way through a run: the choices of the target, and the lies told between.
class OracleScript {
 public:
  static constexpr std::uint8_t kNoLie = 255;

  OracleScript() = default;
  OracleScript(std::span<const std::uint8_t> input, OracleMode mode) : input_(input), mode_(mode) {}

  void switch_to(OracleMode mode) noexcept { mode_ = mode; }
  [[nodiscard]] OracleMode mode() const noexcept { return mode_; }
  [[nodiscard]] bool has_input() const noexcept { return used_ < input_.size(); }
  void rest(std::uint8_t loads) noexcept { resting_ = loads == kNoLie ? ~std::uint64_t{0} : loads; }

  /// A choice of the target's own. 0 when there is no more.
  template <typename T>
  [[nodiscard]] T next() noexcept {
    const T value = take<T>();
    twin().add(value);
    return value;
  }
  /// What a load sees where memory has `value`. True when it is a lie.
  template <typename T>
  [[nodiscard]] bool answer(T& value) noexcept {
    const bool lied = lie(value);
    if (mode_ != OracleMode::honest) twin().add_load(value, lied);
    last_answer_ = value;
    return lied;
  }
  /// What becomes of a swap whose word is, or is not, what it expects.
  [[nodiscard]] bool wins(bool as_expected) noexcept {
    if (mode_ == OracleMode::honest) return as_expected;
    const bool compares = mode_ == OracleMode::sparse || !has_input();
    const bool won = compares ? as_expected : (take<std::uint8_t>() & 1) != 0;
    twin().add(static_cast<std::uint8_t>(won));
    return won;
  }

  /// From now on, for all scripts: writes down the input of a free or sticky run that does the same
  /// as the run under way, lie for lie. nullptr: no more.
  static void write_twin(std::vector<std::uint8_t>* to, OracleMode mode) noexcept {
    twin() = {to, mode};
  }

 private:
  struct Twin {
    std::vector<std::uint8_t>* to = nullptr;
    OracleMode mode = OracleMode::free;

    template <typename T>
    void add(T value) const {
      if (to == nullptr) return;
      for (std::size_t i = 0; i < sizeof(T); ++i) {
        to->push_back(static_cast<std::uint8_t>(value >> (8 * i)));
      }
    }
    template <typename T>
    void add_load(T answer, bool lied) const {
      if (mode == OracleMode::sticky) add(lied ? kLieHere : std::uint8_t{0});
      if (mode == OracleMode::free || lied) add(answer);
    }
  };
  static constexpr std::uint8_t kLieHere = 7;
  static Twin& twin() noexcept {
    static Twin the_twin;
    return the_twin;
  }

  template <typename T>
  [[nodiscard]] T take() noexcept {
    T value = 0;
    const std::size_t size = std::min(sizeof(T), input_.size() - used_);
    if (size != 0) std::memcpy(&value, input_.data() + used_, size);
    used_ += size;
    return value;
  }

  template <typename T>
  [[nodiscard]] bool lie(T& value) noexcept {
    switch (mode_) {
      case OracleMode::free: {
        const bool invented = has_input();
        value = take<T>();
        return invented;
      }
      case OracleMode::sticky:
        // One byte in eight makes the peer act between two of our loads.
        if (!has_input() || (take<std::uint8_t>() & 7) != kLieHere) return false;
        value = take<T>();
        return true;
      case OracleMode::sparse: return lie_if_sparse(value);
      case OracleMode::honest: return false;
    }
    return false;
  }
  /// Below 192: so many loads more go by. Else a lie: |11|more:1|how:2|byte of the word:3|; unless
  /// more are to come, it is the last one before rest() is called again.
  template <typename T>
  [[nodiscard]] bool lie_if_sparse(T& value) noexcept {
    if (resting_ != 0) {
      --resting_;
      return false;
    }
    if (!has_input()) return false;
    const auto choice = take<std::uint8_t>();
    if (choice < 0xc0) {
      resting_ = choice;
      return false;
    }
    if ((choice & 0x20) == 0) rest(kNoLie);
    const unsigned shift = 8 * (choice % sizeof(T));
    const auto detail = [&] { return static_cast<T>(T{take<std::uint8_t>()} << shift); };
    switch ((choice >> 3) & 3) {
      case 0: value = take<T>(); break;
      case 1: value = static_cast<T>(value ^ detail()); break;
      case 2: value = static_cast<T>(value + detail()); break;
      default: value = static_cast<T>(last_answer_);
    }
    return true;
  }

  std::span<const std::uint8_t> input_;
  std::size_t used_ = 0;
  OracleMode mode_ = OracleMode::free;
  std::uint64_t resting_ = 0;  // sparse: loads before the input is asked again
  std::uint64_t last_answer_ = 0;
};

}  // namespace slipring::test

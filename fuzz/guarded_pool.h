// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <new>
#include <optional>
#include <utility>

#include "guarded_area.h"
#include "holders.h"
#include "pool_rules.h"

namespace slipring::fuzz {

/// The small pool of pool_rules.h on a guarded area, and what its words say.
class GuardedPool {
 public:
  void format() const {
    area_.clear();
    expect(pool::format_pool(area_.bytes(), small_pool()).has_value(), "a small pool fits");
  }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return area_.bytes(); }

  [[nodiscard]] bool names_block(const pool::BlockRef& ref) const noexcept {
    return ref.pool_tag == static_cast<std::uint16_t>(pool_geometry().pool_id) &&
           ref.reserved == 0 && ref.size_class < pool::kClassCount &&
           ref.index < pool_geometry().classes[ref.size_class].count;
  }
  /// Of a block that there is.
  [[nodiscard]] BlockWord word(std::uint32_t size_class, std::uint32_t index) const noexcept {
    const std::uint64_t at = pool_geometry().classes[size_class].first_entry + index;
    const auto* table =
        reinterpret_cast<const pool::BlockEntry*>(bytes().data() + pool_geometry().entries_offset);
    return BlockWord::decode(NativeAccess::load_relaxed(table[at].word));
  }
  [[nodiscard]] BlockWord word(const pool::BlockRef& ref) const noexcept {
    return word(ref.size_class, ref.index);
  }
  [[nodiscard]] std::span<std::byte> block(const pool::BlockRef& ref) const noexcept {
    const std::uint64_t size = pool::block_bytes(ref.size_class);
    return bytes().subspan(pool_geometry().classes[ref.size_class].data_offset + ref.index * size,
                           size);
  }
  [[nodiscard]] pool::ParticipantEntry& participant(ParticipantId id) const noexcept {
    auto* people =
        reinterpret_cast<pool::ParticipantEntry*>(bytes().data() + pool::kPoolHeaderBytes);
    return people[static_cast<std::uint32_t>(id) - 1];
  }
  [[nodiscard]] RoleRef role(ParticipantId id) const noexcept {
    return {participant(id).role, participant(id).token};
  }
  /// Those that kill_holder() made so. It asks the words, not the kernel: that takes its time.
  [[nodiscard]] std::uint32_t dead_participants() const noexcept {
    const ProcessToken self = self_token();
    std::uint32_t dead = 0;
    for (std::uint16_t slot = 1; slot <= kParticipants; ++slot) {
      const RoleRef role = this->role(static_cast<ParticipantId>(slot));
      const auto word = RoleWord::decode(NativeAccess::load_relaxed(role.word));
      const auto token = load_token<NativeAccess>(role.token);
      dead += word.state == RoleWord::State::held && token && token->boot_low != self.boot_low;
    }
    return dead;
  }

  [[nodiscard]] bool is_held_by(ParticipantId id, const pool::BlockRef& ref) const noexcept {
    const BlockWord now = word(ref);
    return now.state == BlockState::held && now.holder == id && now.generation == ref.generation;
  }
  /// Claimed by `id`, or lent by it.
  [[nodiscard]] bool is_owned_by(ParticipantId id, const pool::BlockRef& ref) const noexcept {
    const BlockWord now = word(ref);
    const bool claimed = now.state == BlockState::claimed && now.holder == kNobody;
    return now.owner == id && now.generation == ref.generation &&
           (claimed || now.state == BlockState::lent);
  }
  [[nodiscard]] bool is_any_free(std::size_t size) const noexcept {
    for (std::uint32_t c = pool::class_for(size); c < pool::kClassCount; ++c) {
      for (std::uint32_t i = 0; i < pool_geometry().classes[c].count; ++i) {
        const BlockWord now = word(c, i);
        if (now.state == BlockState::free && now.is_sound(kParticipants)) return true;
      }
    }
    return false;
  }
  /// What hold() of `id` has to say to that reference, by the words of now; nothing: it succeeds.
  [[nodiscard]] std::optional<Errc> answer_to(ParticipantId id,
                                              const pool::BlockRef& ref) const noexcept {
    if (!names_block(ref)) return Errc::corrupt;
    const std::uint64_t size = pool::block_bytes(ref.size_class);
    if (ref.offset > size || ref.length > size - ref.offset) return Errc::corrupt;
    const BlockWord now = word(ref);
    if (now.generation != ref.generation || !now.is_sound(kParticipants)) return Errc::corrupt;
    if (now.state == BlockState::held) return Errc::in_use;
    if (now.state != BlockState::lent) return Errc::corrupt;
    if (now.holder != kNobody && now.holder != id) return Errc::permission;
    return std::nullopt;
  }

 private:
  GuardedArea area_{pool_geometry().total_bytes};
};

[[nodiscard]] inline bool is_same_block(const pool::BlockRef& a, const pool::BlockRef& b) noexcept {
  return a.size_class == b.size_class && a.index == b.index && a.generation == b.generation;
}

/// A value that may end as a process does: without a destructor.
template <typename T>
class Mortal {
 public:
  Mortal() = default;
  Mortal(const Mortal&) = delete;
  Mortal& operator=(const Mortal&) = delete;
  ~Mortal() { leave(); }
  void come(T&& value) {
    leave();
    here_ = new (storage_) T(std::move(value));
  }
  void leave() {
    if (here_ != nullptr) here_->~T();
    here_ = nullptr;
  }
  void die() noexcept { here_ = nullptr; }
  explicit operator bool() const noexcept { return here_ != nullptr; }
  T* operator->() const noexcept { return here_; }
  T& operator*() const noexcept { return *here_; }

 private:
  alignas(T) std::byte storage_[sizeof(T)];
  T* here_ = nullptr;
};

}  // namespace slipring::fuzz

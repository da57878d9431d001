// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "guarded_pool.h"
#include "support/oracle_access.h"

namespace slipring::fuzz {

/// The element that a byte of the input picks. The vector is not empty.
template <typename T>
std::size_t pick(const std::vector<T>& from) {
  return test::OracleAccess::next_byte() % from.size();
}
template <typename T>
T take_out(std::vector<T>& from, std::size_t at) {
  T one = from[at];
  from.erase(from.begin() + static_cast<std::ptrdiff_t>(at));
  return one;
}

[[nodiscard]] bool has_block(const auto& hands, const pool::BlockRef& ref) {
  return std::any_of(hands.begin(), hands.end(), [&](const auto& one) {
    return one.ref.size_class == ref.size_class && one.ref.index == ref.index;
  });
}

/// A participant that keeps to the protocol and hears no lies. `letters` are on their way between
/// all of them; details of what it does are bits of the input.
class SoundPeer {
 public:
  SoundPeer(const GuardedPool& memory, std::vector<pool::BlockRef>& letters, std::uint32_t cached)
      : memory_(&memory), letters_(&letters), cached_(cached) {}

  void come() {
    auto pool = pool::BlockPool<>::attach(memory_->bytes(), cached_);
    if (!pool) return;
    hide_holder(memory_->role(pool->id()));
    pool_.come(std::move(*pool));
  }
  /// Claims, and keeps it (2), or lends it to `somebody` (4), to itself (8), or to anybody.
  void send(unsigned detail, ParticipantId somebody) {
    if (!pool_) return come();
    const auto block = pool_->claim(test::OracleAccess::next_word<std::uint16_t>() % 4200);
    if (!block) return;
    stamp(block->bytes, block->ref.index);
    if ((detail & 2) != 0) {
      blocks_.push_back(*block);
      return;
    }
    const ParticipantId to = (detail & 4) != 0   ? somebody
                             : (detail & 8) != 0 ? pool_->id()
                                                 : kNobody;
    const auto ref = pool_->lend(*block, block->ref.length, 0, to);
    if (ref) letters_->push_back(*ref);
  }
  /// Gives back what it has (2), or opens a letter, which may stay on its way (4).
  void receive(unsigned detail) {
    if (!pool_) return come();
    if ((detail & 2) != 0) {
      if (!views_.empty()) (void)pool_->release(take_out(views_, pick(views_)));
      if (!blocks_.empty()) (void)pool_->reclaim(take_out(blocks_, 0).ref);
      return;
    }
    if (letters_->empty()) return;
    const std::size_t at = pick(*letters_);
    const auto view = pool_->hold((*letters_)[at]);
    if (!view) return;
    if ((detail & 4) == 0) (void)take_out(*letters_, at);
    views_.push_back(*view);
  }
  /// Leaves in order, or dies where it stands. Gone already, it comes again.
  void end(bool in_order) {
    if (!pool_) return come();
    if (in_order) {
      pool_.leave();
    } else {
      const ParticipantId id = pool_->id();
      pool_.die();
      kill_holder(memory_->role(id));
    }
    blocks_.clear();
    views_.clear();
  }
  [[nodiscard]] bool has_in_hand(const pool::BlockRef& ref) const {
    return has_block(blocks_, ref) || has_block(views_, ref);
  }

 private:
  const GuardedPool* memory_;
  std::vector<pool::BlockRef>* letters_;
  std::uint32_t cached_;
  Mortal<pool::BlockPool<>> pool_;
  std::vector<pool::Block> blocks_;
  std::vector<pool::BlockView> views_;
};

}  // namespace slipring::fuzz

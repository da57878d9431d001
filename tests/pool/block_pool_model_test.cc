// SPDX-License-Identifier: Apache-2.0
// Random operations of several participants against a model that is a map. RC_PARAMS="seed=..."
// replays what rapidcheck printed.
#include <rapidcheck.h>
#include <map>

#include "pool_fixture.h"

namespace slipring::pool {
namespace {

constexpr int kUsers = 4;

struct Known {
  BlockState state;
  int owner;   // -1: nobody
  int holder;  // -1: nobody
  Block block;
  BlockRef ref;
  std::byte mark;
};

/// The pool, its users, and what they should find.
class Model {
 public:
  Model() {
    for (auto& user : users_) user.emplace(memory_.join(*rc::gen::element(0u, 1u, 16u)));
  }

  void step() {
    const int user = *rc::gen::inRange(0, kUsers);
    switch (*rc::gen::inRange(0, 9)) {
      case 0:
      case 1: claim(user); break;
      case 2: lend(user); break;
      case 3:
      case 4: hold(user); break;
      case 5: release(user); break;
      case 6: reclaim(user); break;
      case 7: replay_old(user); break;
      default:
        if (*rc::gen::inRange(0, 4) == 0) leave(user);
    }
    check();
  }

  void end() {
    for (auto& user : users_) user->detach();
    const PoolAudit left = memory_.audit();
    RC_ASSERT(left.is_whole());
    RC_ASSERT(left.total.claimed == 0 && left.total.held == 0);
    RC_ASSERT(left.total.orphans == left.total.lent);
    auto last = memory_.join();
    last.free_orphans({});
    RC_ASSERT(memory_.audit().total.free == left.total.capacity);
    RC_ASSERT(claim_all(last).size() == left.total.capacity);
  }

 private:
  BlockPool<>& pool(int user) { return *users_[static_cast<std::size_t>(user)]; }
  static std::uint64_t key(const BlockRef& ref) {
    return std::uint64_t{ref.size_class} << 32 | ref.index;
  }
  /// A block in any state, by chance; nullptr when there is none.
  Known* any() {
    if (known_.empty()) return nullptr;
    auto it = known_.begin();
    std::advance(it, *rc::gen::inRange<std::size_t>(0, known_.size()));
    return &it->second;
  }

  void claim(int user) {
    const std::size_t size = *rc::gen::element<std::size_t>(0, 1, 256, 257, 1024, 1025, 8192, 9000);
    auto block = pool(user).claim(size);
    if (size > 8192) {
      RC_ASSERT(!block && block.error().code == Errc::too_large);
      return;
    }
    std::uint64_t room = 0;
    for (std::uint32_t c = class_for(size); c < kClassCount; ++c) {
      room += memory_.geometry().classes[c].count;
      for (const auto& [id, known] : known_) room -= (id >> 32) == c;
    }
    RC_ASSERT(block.has_value() == (room > 0));
    if (!block) return;
    RC_ASSERT(block->bytes.size() >= size);
    RC_ASSERT(known_.count(key(block->ref)) == 0u);  // never given out twice
    const std::byte mark{static_cast<unsigned char>(++marks_)};
    std::fill(block->bytes.begin(), block->bytes.end(), mark);
    known_.emplace(key(block->ref), Known{BlockState::claimed, user, -1, *block, block->ref, mark});
  }
  void lend(int user) {
    Known* known = any();
    if (known == nullptr) return;
    const std::size_t size = known->block.bytes.size();
    const std::size_t offset = *rc::gen::inRange<std::size_t>(0, size + 1);
    const auto ref = pool(user).lend(known->block, size - offset, offset);
    const bool allowed = known->state == BlockState::claimed && known->owner == user;
    RC_ASSERT(ref.has_value() == allowed);
    if (!ref) return;
    known->state = BlockState::lent;
    known->ref = *ref;
  }
  void hold(int user) {
    Known* known = any();
    if (known == nullptr) return;
    const auto view = pool(user).hold(known->ref);
    RC_ASSERT(view.has_value() == (known->state == BlockState::lent));
    if (!view) {
      RC_ASSERT(view.error().code ==
                (known->state == BlockState::held ? Errc::in_use : Errc::corrupt));
      return;
    }
    RC_ASSERT(view->bytes.size() == known->ref.length);
    for (const std::byte byte : view->bytes) RC_ASSERT(byte == known->mark);
    known->state = BlockState::held;
    known->holder = user;
  }
  void release(int user) {
    Known* known = any();
    if (known == nullptr) return;
    const auto released = pool(user).release({{}, known->ref});
    const bool allowed = known->state == BlockState::held && known->holder == user;
    RC_ASSERT(released.has_value() == allowed);
    if (released) forget(*known);
  }
  void reclaim(int user) {
    Known* known = any();
    if (known == nullptr) return;
    const auto reclaimed = pool(user).reclaim(known->ref);
    const bool allowed = known->state != BlockState::held && known->owner == user;
    RC_ASSERT(reclaimed.has_value() == allowed);
    if (reclaimed) forget(*known);
  }
  void forget(const Known& known) {
    old_.push_back(known.ref);
    known_.erase(key(known.ref));
  }
  void replay_old(int user) {
    if (old_.empty()) return;
    const BlockRef ref = *rc::gen::elementOf(old_);
    RC_ASSERT(!pool(user).hold(ref));
    RC_ASSERT(!pool(user).release({{}, ref}));
    RC_ASSERT(!pool(user).reclaim(ref));
    RC_ASSERT(!pool(user).lend({{}, ref}, 1));
  }
  void leave(int user) {
    pool(user).detach();
    users_[static_cast<std::size_t>(user)].emplace(memory_.join());
    for (auto it = known_.begin(); it != known_.end();) {
      Known& known = it->second;
      if (known.state == BlockState::claimed && known.owner == user) {
        old_.push_back(known.ref);
        it = known_.erase(it);
        continue;
      }
      if (known.holder == user) {
        known.holder = -1;
        known.state = BlockState::lent;
      }
      if (known.owner == user) known.owner = -1;
      ++it;
    }
  }
  void check() {
    const PoolAudit found = memory_.audit();
    RC_ASSERT(found.is_whole());
    std::map<BlockState, std::uint64_t> states;
    for (const auto& [id, known] : known_) ++states[known.state];
    RC_ASSERT(found.total.claimed == states[BlockState::claimed]);
    RC_ASSERT(found.total.lent == states[BlockState::lent]);
    RC_ASSERT(found.total.held == states[BlockState::held]);
    RC_ASSERT(found.total.free == found.total.capacity - known_.size());
  }

  TestPool memory_;
  std::array<std::optional<BlockPool<>>, kUsers> users_;
  std::map<std::uint64_t, Known> known_;
  std::vector<BlockRef> old_;
  unsigned marks_ = 0;
};

TEST(BlockPoolModel, BehavesAsAMapOfWhoHasWhat) {
  Watchdog watchdog(200, "pool model");
  EXPECT_TRUE(rc::check("a pool is a map of who has what", [] {
    Model model;
    const int steps = *rc::gen::inRange(1, 400);
    for (int i = 0; i < steps; ++i) model.step();
    model.end();
  }));
}

}  // namespace
}  // namespace slipring::pool

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "depth.h"
#include "guarded_pool.h"
#include "pool_peer.h"
#include "slipring/pool/free_list.h"
#include "support/oracle_access.h"

// Participants of a pool that lie in every word, in the outcome of every swap, and in the
// references that they send. Whoever claims, lends, holds, gives back, reaps and counts must stay
// inside the area, change words as B3 allows it (pool_rules.h), hand out whole blocks of the pool,
// and end in a bounded number of loads. Where no lie was heard during a call, its result is what
// the words say. Input: byte 0: mode:2, attach hears lies:1, cached blocks:5; byte 1: rest; then
// operations, each a byte of choice, one of rest, and details.
namespace slipring::fuzz {
namespace {

using pool::Block;
using pool::BlockRef;
using pool::BlockView;
using pool::kMaxTries;
using pool::kOddIds;
using pool::PoolAudit;
using pool::ReapPlan;
using test::OracleAccess;
using Pool = pool::BlockPool<OracleAccess>;
using As = PoolActing::As;

const Depth kClaimed{"block claimed"};
const Depth kFromCache{"block claimed from the cache"};
const Depth kScanned{"block found by a scan"};
const Depth kLarger{"block of a larger class"};
const Depth kDry{"no block free"};
const Depth kLent{"block lent"};
const Depth kHeld{"reference of a peer held"};
const Depth kReleased{"held block released"};
const Depth kReclaimed{"block reclaimed"};
const Depth kRefused{"reference refused as corrupt"};
const Depth kHeldAlready{"reference to a block that is held"};
const Depth kNotForUs{"reference lent to somebody else"};
const Depth kListReset{"broken list emptied"};
const Depth kReaped{"words of a dead participant resolved"};
const Depth kAlive{"living participant left alone"};
const Depth kInherited{"entry of a dead participant taken"};
const Depth kLeft{"left with blocks in hand"};
const Depth kOrphans{"orphan freed"};
const Depth kOdd{"odd word counted"};
const Depth kLied{"claimed although somebody lied"};

// c1 + c2 * blocks + c3 * participants (I10). Swaps count as loads, and no loop has more than
// kMaxTries of them.
constexpr std::uint64_t kLoadsToChange = 1 + kMaxTries;
constexpr std::uint64_t kLoadsToPop = 1 + 2 * kMaxTries + 1;
constexpr std::uint64_t kLoadsToTake = 2;
constexpr std::uint64_t kMostCached = 16;
constexpr std::uint64_t loads_to_claim() {
  // Of each class: the cache, ids of the list that are not free, the list emptied, a scan.
  return 3 * (kMostCached * kLoadsToTake + kOddIds * (kLoadsToPop + kLoadsToTake) + 2) +
         10 * kLoadsToTake;
}
constexpr std::uint64_t loads_to_resolve(std::uint64_t blocks) {
  return blocks * (kLoadsToChange + kLoadsToChange);
}
constexpr std::uint64_t kLoadsOfGeometry = 3 + pool::kClassCount + 4;
constexpr std::uint64_t kLoadsToTakeRole = 1 + kMaxLooks * std::uint64_t{20};
constexpr std::uint64_t kLoadsToAttach =
    kLoadsOfGeometry + 2 * kParticipants * (1 + kLoadsToTakeRole + 8 + loads_to_resolve(10));
constexpr std::uint64_t kLoadsToLeave = loads_to_resolve(10) + 3 * kMostCached * kLoadsToChange;
constexpr std::uint64_t kLoadsToReap = 1 + kLoadsToTakeRole + loads_to_resolve(10);
constexpr std::uint64_t kLoadsToAudit = kLoadsOfGeometry + 10 * 4 + kParticipants * 9;

class Run {
 public:
  Run(const GuardedPool& memory, OracleAccess::Mode mode, std::uint32_t cached)
      : memory_(memory), mode_(mode), cached_(cached) {
    pool_acting = {};
    for (SoundPeer& peer : peers_) peer.come();
  }
  ~Run() {
    OracleAccess::switch_to(OracleAccess::Mode::honest);  // the end is no part of the input
    leave();
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  void attach(bool hears_lies) {
    // On sound ground, or lied to from the start: then a free oracle has to guess the magic.
    OracleAccess::switch_to(hears_lies ? mode_ : OracleAccess::Mode::honest);
    const std::uint32_t dead = memory_.dead_participants();
    pool_acting = {As::joiner, kNobody, kNobody};
    OracleAccess::limit_loads(kLoadsToAttach);
    auto pool = Pool::attach(memory_.bytes(), cached_, plan());
    OracleAccess::switch_to(mode_);
    if (!pool) {
      expect(pool.error().code == Errc::bad_format || pool.error().code == Errc::full,
             "attach: an error that it does not name");
      return;
    }
    const bool is_ours = pool->geometry().total_bytes == pool_geometry().total_bytes &&
                         pool->geometry().blocks == pool_geometry().blocks &&
                         pool->geometry().participants == kParticipants &&
                         pool->geometry().pool_id == pool_geometry().pool_id;
    expect(pool->geometry().total_bytes <= memory_.bytes().size(),
           "attach: a pool beyond its area");
    pool_.come(std::move(*pool));
    if (!is_ours) return pool_.die();  // lies that agree with each other: another pool
    hide_holder(memory_.role(pool_->id()));
    pool_acting = {As::user, pool_->id(), kNobody};
    kInherited.reached_if(memory_.dead_participants() < dead);
  }
  [[nodiscard]] bool has_pool() const noexcept { return static_cast<bool>(pool_); }

  void step(std::uint8_t choice) {
    OracleAccess::rest(OracleAccess::next_byte());
    const auto detail = static_cast<std::uint8_t>(choice >> 4);
    lies_before_ = OracleAccess::lies();
    switch (choice & 15) {
      case 0: claim(OracleAccess::next_word<std::uint16_t>() % 4200); break;
      case 1: lend(detail); break;
      case 2: hold_letter(detail); break;
      case 3: hold(invented_reference()); break;
      case 4: release(); break;
      case 5: reclaim((detail & 1) != 0); break;
      case 6: peers_[detail & 1].send(detail, pool_->id()); break;
      case 7: peers_[detail & 1].receive(detail); break;
      case 8: peers_[detail & 1].end((detail & 2) != 0); break;
      case 9: reap(detail); break;
      case 10: reap_all(); break;
      case 11: free_orphans(); break;
      case 12: audit(); break;
      case 13: attach_again(detail); break;
      case 14: poke(detail); break;
      default: return_nonsense(detail);
    }
  }

 private:
  /// No lie was heard in this operation: it has to do what the words say.
  [[nodiscard]] bool heard_no_lie() const {
    return mode_ != OracleAccess::Mode::free && OracleAccess::lies() == lies_before_;
  }
  [[nodiscard]] bool is_sound() const {
    return mode_ != OracleAccess::Mode::free && !spoiled_ && OracleAccess::lies() == 0;
  }
  [[nodiscard]] ReapPlan plan() const {
    if (letters_.size() % 2 == 0) return {};
    return {false, letters_};
  }

  void claim(std::size_t size) {
    pool::ParticipantEntry& mine = memory_.participant(pool_->id());
    const std::uint64_t scans = NativeAccess::load_relaxed(mine.scans);
    const std::uint64_t resets = NativeAccess::load_relaxed(mine.list_resets);
    const std::uint64_t loads = OracleAccess::loads();
    OracleAccess::limit_loads(loads_to_claim());
    const auto block = pool_->claim(size);
    kListReset.reached_if(NativeAccess::load_relaxed(mine.list_resets) != resets);
    if (!block) {
      const Errc code = block.error().code;
      expect(code == Errc::full || code == Errc::too_large,
             "claim: an error that it does not name");
      expect((code == Errc::too_large) == (size > 4096), "claim: too large, or not");
      if (heard_no_lie() && code == Errc::full)
        expect(!memory_.is_any_free(size), "dry, and one is free");
      kDry.reached_if(code == Errc::full);
      return;
    }
    const BlockRef& ref = block->ref;
    expect(memory_.names_block(ref), "claimed: no block of this pool");
    expect(block->bytes.data() == memory_.block(ref).data() &&
               block->bytes.size() == memory_.block(ref).size() && block->bytes.size() >= size,
           "claimed: other bytes than those of the block");
    expect(ref.length == size && ref.offset == 0, "claimed: another size");
    expect(
        memory_.word(ref) == BlockWord{BlockState::claimed, pool_->id(), kNobody, ref.generation},
        "claimed: the word says otherwise");
    if (is_sound()) expect(!is_in_hand(ref), "claimed: somebody has that block");
    stamp(block->bytes, ref.index);
    blocks_.push_back(*block);
    kClaimed.reached();
    kFromCache.reached_if(OracleAccess::loads() - loads == kLoadsToTake);
    kScanned.reached_if(NativeAccess::load_relaxed(mine.scans) != scans);
    kLarger.reached_if(ref.size_class > pool::class_for(size));
    kLied.reached_if(!is_sound());
  }

  void lend(std::uint8_t detail) {
    if (blocks_.empty()) return;
    const std::size_t at = pick(blocks_);
    const Block block = blocks_[at];
    const auto length = OracleAccess::next_word<std::uint16_t>();
    const std::size_t offset = (detail & 1) != 0 ? OracleAccess::next_word<std::uint16_t>() : 0;
    constexpr std::array<std::uint16_t, 4> kTo{kParticipants + 1, 1, 2, 3};
    const auto to = (detail & 2) != 0 ? static_cast<ParticipantId>(kTo[detail >> 2]) : kNobody;
    const bool fits = offset <= block.bytes.size() && length <= block.bytes.size() - offset &&
                      static_cast<std::uint32_t>(to) <= kParticipants;
    const BlockWord claimed{BlockState::claimed, pool_->id(), kNobody, block.ref.generation};
    const bool is_ours = memory_.word(block.ref) == claimed;
    OracleAccess::limit_loads(kLoadsToChange);
    const auto ref = pool_->lend(block, length, offset, to);
    if (heard_no_lie()) expect(ref.has_value() == (is_ours && fits), "lend does not do as it says");
    if (!ref) {
      expect(ref.error().code == Errc::invalid_argument, "lend: an error that it does not name");
      return;
    }
    expect(fits, "lent: bytes outside of the block, or to nobody there is");
    expect(memory_.word(*ref) == BlockWord{BlockState::lent, pool_->id(), to, ref->generation},
           "lent: the word says otherwise");
    expect(ref->offset == offset && ref->length == length, "lent: other bytes");
    (void)take_out(blocks_, at);
    letters_.push_back(*ref);
    kLent.reached();
  }

  /// A letter as it was sent, or with one field bent.
  void hold_letter(std::uint8_t detail) {
    if (letters_.empty()) return;
    const std::size_t at = pick(letters_);
    BlockRef ref = letters_[at];
    switch (detail & 7) {
      case 1: ref.pool_tag = OracleAccess::next_word<std::uint16_t>(); break;
      case 2: ref.size_class = OracleAccess::next_byte(); break;
      case 3: ref.index = OracleAccess::next_word<std::uint32_t>(); break;
      case 4: ref.generation += OracleAccess::next_byte(); break;
      case 5: ref.offset = OracleAccess::next_word<std::uint32_t>(); break;
      case 6: ref.length = OracleAccess::next_word<std::uint32_t>(); break;
      case 7: ref.reserved = OracleAccess::next_byte(); break;
      default: break;
    }
    if (hold(ref) && (detail & 8) == 0) (void)take_out(letters_, at);
  }
  static BlockRef invented_reference() {
    BlockRef ref;
    ref.pool_tag = OracleAccess::next_word<std::uint16_t>();
    ref.size_class = OracleAccess::next_byte();
    ref.reserved = OracleAccess::next_byte();
    ref.index = OracleAccess::next_word<std::uint32_t>();
    ref.generation = OracleAccess::next_word<std::uint64_t>();
    ref.offset = OracleAccess::next_word<std::uint32_t>();
    ref.length = OracleAccess::next_word<std::uint32_t>();
    return ref;
  }
  bool hold(const BlockRef& ref) {
    const auto expected = memory_.answer_to(pool_->id(), ref);
    OracleAccess::limit_loads(kLoadsToChange);
    const auto view = pool_->hold(ref);
    if (!view) {
      const Errc code = view.error().code;
      expect(code == Errc::corrupt || code == Errc::in_use || code == Errc::permission,
             "hold: an error that it does not name");
      if (heard_no_lie()) expect(expected == code, "hold: refused for another reason");
      kRefused.reached_if(code == Errc::corrupt);
      kHeldAlready.reached_if(code == Errc::in_use);
      kNotForUs.reached_if(code == Errc::permission);
      return false;
    }
    expect(memory_.names_block(ref), "held: no block of this pool");
    expect(lies_in(view->bytes, memory_.block(ref)), "held: bytes outside of the block");
    expect(view->bytes.data() == memory_.block(ref).data() + ref.offset &&
               view->bytes.size() == ref.length && view->ref == ref,
           "held: other bytes than were meant");
    touch(view->bytes);
    if (heard_no_lie()) expect(!expected, "held what it has to refuse");
    const BlockWord now = memory_.word(ref);
    expect(now.state == BlockState::held && now.holder == pool_->id() &&
               now.generation == ref.generation,
           "held: the word says otherwise");
    views_.push_back(*view);
    kHeld.reached();
    return true;
  }

  void release() {
    if (views_.empty()) return;
    const BlockView view = take_out(views_, pick(views_));
    const auto call = [&] { return pool_->release(view); };
    give_back(view.ref, call, memory_.is_held_by(pool_->id(), view.ref));
    if (!given_back_) return;
    kReleased.reached();
    lies_before_ = OracleAccess::lies();
    give_back(view.ref, call, false);  // twice is once
  }
  void reclaim(bool a_letter) {
    if (a_letter ? letters_.empty() : blocks_.empty()) return;
    const BlockRef ref =
        a_letter ? take_out(letters_, pick(letters_)) : take_out(blocks_, pick(blocks_)).ref;
    give_back(
        ref, [&] { return pool_->reclaim(ref); }, memory_.is_owned_by(pool_->id(), ref));
    kReclaimed.reached_if(given_back_);
  }
  /// References to what is not ours, or not any more: our own mistakes.
  void return_nonsense(std::uint8_t detail) {
    BlockRef ref = invented_reference();
    if ((detail & 1) != 0) {
      ref.pool_tag = static_cast<std::uint16_t>(pool_geometry().pool_id);
      ref.size_class = static_cast<std::uint8_t>(ref.size_class % 5);
      ref.reserved = 0;
      ref.index %= 6;
      ref.generation %= 8;
    }
    const bool exists = memory_.names_block(ref);
    if ((detail & 2) != 0) {
      give_back(
          ref,
          [&] {
            return pool_->release({{}, ref});
          },
          exists && memory_.is_held_by(pool_->id(), ref));
    } else {
      give_back(
          ref, [&] { return pool_->reclaim(ref); },
          exists && memory_.is_owned_by(pool_->id(), ref));
    }
  }
  template <typename Call>
  void give_back(const BlockRef& ref, Call call, bool is_ours) {
    OracleAccess::limit_loads(3 * kLoadsToChange);
    const auto done = call();
    given_back_ = done.has_value();
    if (heard_no_lie()) expect(given_back_ == is_ours, "gave back what is not ours, or did not");
    if (!done) {
      expect(done.error().code == Errc::invalid_argument, "give back: an error without a name");
      return;
    }
    expect(memory_.names_block(ref), "gave back: no block of this pool");
    const auto is_it = [&](const auto& one) { return is_same_block(one.ref, ref); };
    std::erase_if(blocks_, is_it);
    std::erase_if(views_, is_it);
    std::erase_if(letters_, [&](const BlockRef& one) { return is_same_block(one, ref); });
  }

  void reap(std::uint32_t slot) {
    const auto id = static_cast<ParticipantId>(slot);
    pool_acting.as = As::reaper;
    pool_acting.gone = id;
    OracleAccess::limit_loads(kLoadsToReap);
    const auto changed = id == kNobody ? Result<std::uint64_t>(0) : pool_->reap(id, plan());
    pool_acting.as = As::user;
    if (!changed) {
      const Errc code = changed.error().code;
      expect(code == Errc::in_use || code == Errc::invalid_argument,
             "reap: an error that it does not name");
      const bool exists = slot <= kParticipants && id != pool_->id();
      expect((code == Errc::in_use) == exists, "reap: no such participant, or there is");
      kAlive.reached_if(code == Errc::in_use);
      return;
    }
    expect(*changed <= pool_geometry().blocks, "reaped more words than there are");
    kReaped.reached_if(*changed != 0);
    forget_what_changed();
  }
  void reap_all() {
    pool_acting.as = As::reaper;
    pool_acting.gone = kNobody;
    OracleAccess::limit_loads(kParticipants * kLoadsToReap);
    const std::uint64_t changed = pool_->reap_all(plan());
    pool_acting.as = As::user;
    expect(changed <= kParticipants * pool_geometry().blocks, "reaped more than there is");
    forget_what_changed();
  }
  void free_orphans() {
    pool_acting.as = As::orphan_keeper;
    OracleAccess::limit_loads(loads_to_resolve(pool_geometry().blocks));
    const std::uint64_t freed = pool_->free_orphans(letters_);
    pool_acting.as = As::user;
    expect(freed <= pool_geometry().blocks, "freed more than there is");
    kOrphans.reached_if(freed != 0);
  }

  void audit() {
    OracleAccess::limit_loads(kLoadsToAudit);
    const auto found = pool_->audit();
    if (!found) {
      expect(found.error().code == Errc::bad_format, "audit: an error that it does not name");
      expect(!is_sound(), "audit: a sound pool refused");
      return;
    }
    std::uint64_t sum = 0;
    for (const pool::ClassCounts& one : found->classes) {
      sum += one.free + one.claimed + one.lent + one.held + one.odd;
      expect(one.orphans <= one.lent, "more orphans than lent blocks");
    }
    expect(sum == found->total.capacity, "a block counted twice, or not at all");
    kOdd.reached_if(found->total.odd != 0);
    if (is_sound()) expect(found->is_whole(), "odd words, and nobody lied");
    if (!heard_no_lie()) return;
    const PoolAudit truth = *pool::audit<NativeAccess>(memory_.bytes());
    expect(truth.total.free == found->total.free && truth.total.lent == found->total.lent &&
               truth.total.held == found->total.held && truth.total.odd == found->total.odd,
           "counted something else than there is");
  }

  void attach_again(std::uint8_t detail) {
    kLeft.reached_if(!blocks_.empty() && !views_.empty() && (detail & 1) == 0);
    if ((detail & 1) != 0) {  // dies, and goes on as its own successor
      const ParticipantId id = pool_->id();
      pool_.die();
      kill_holder(memory_.role(id));
    } else {
      leave();
    }
    blocks_.clear();
    views_.clear();
    attach((detail & 2) != 0);
  }
  void leave() {
    if (!pool_) return;
    pool_acting.as = As::leaver;
    OracleAccess::limit_loads(kLoadsToLeave);
    pool_.leave();
  }

  /// Does somebody claim or hold that block, by our own books?
  [[nodiscard]] bool is_in_hand(const BlockRef& ref) const {
    return has_block(blocks_, ref) || has_block(views_, ref) ||
           std::any_of(peers_.begin(), peers_.end(),
                       [&](const SoundPeer& peer) { return peer.has_in_hand(ref); });
  }
  /// A reaper may have freed what a letter names.
  void forget_what_changed() {
    std::erase_if(letters_, [&](const BlockRef& ref) {
      return memory_.word(ref).generation != ref.generation;
    });
  }

  /// Any word that a peer may store, at any value, or at a small one: ids and links are small.
  void poke(std::uint8_t detail) {
    const std::size_t at = OracleAccess::next_byte();
    const std::array<std::size_t, 4> words{
        offsetof(pool::PoolHeader, lists) + at % pool::kClassCount * sizeof(pool::ListHead),
        pool_geometry().entries_offset + at % 20 * 8, pool::kPoolHeaderBytes + at * 8 % 1024,
        at * 8 % offsetof(pool::PoolHeader, lists)};
    const std::uint64_t value =
        (detail & 4) != 0 ? OracleAccess::next_byte() : OracleAccess::next_word<std::uint64_t>();
    NativeAccess::store_relaxed(word_at<std::uint64_t>(memory_.bytes().data(), words[detail & 3]),
                                value);
    spoiled_ = true;
  }

  const GuardedPool& memory_;
  OracleAccess::Mode mode_;
  std::uint32_t cached_;
  Mortal<Pool> pool_;
  std::vector<Block> blocks_;      // claimed by the one under test
  std::vector<BlockView> views_;   // held by it
  std::vector<BlockRef> letters_;  // on their way, in no order
  std::array<SoundPeer, 2> peers_{SoundPeer{memory_, letters_, cached_},
                                  SoundPeer{memory_, letters_, cached_}};
  std::uint64_t lies_before_ = 0;
  bool given_back_ = false;
  bool spoiled_ = false;
};

}  // namespace
}  // namespace slipring::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipring;
  using test::OracleAccess;
  if (size < 2) return 0;
  static const fuzz::GuardedPool memory;
  OracleAccess::feed({data, size}, OracleAccess::Mode::honest);
  const std::uint8_t setup = OracleAccess::next_byte();
  memory.format();
  OracleAccess::allow(memory.bytes(), fuzz::pool_rights_at, fuzz::is_pool_swap);
  fuzz::Run run(memory, static_cast<OracleAccess::Mode>(setup & 3), setup >> 3);
  OracleAccess::rest(OracleAccess::next_byte());
  run.attach((setup & 4) != 0);
  for (int i = 0; i < 400 && run.has_pool() && OracleAccess::has_input(); ++i) {
    run.step(OracleAccess::next_byte());
  }
  return 0;
}

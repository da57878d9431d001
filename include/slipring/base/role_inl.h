// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "slipring/base/role.h"

namespace slipring {

template <typename Access>
Result<TakenRole> take_role(RoleRef role, ProcessToken self) noexcept {
  // SYNC role.take (acquire <- release in leave_role):
  //   what the predecessor stored is visible to its successor.
  std::uint64_t bits = Access::load_acquire(role.word);
  for (int looks = 0; looks < kMaxLooks; ++looks) {
    const RoleWord now = RoleWord::decode(bits);
    if (now.state == RoleWord::State::retired) return fail(Errc::segment_lost, 0, "take role");
    if (now.state == RoleWord::State::held) {
      RoleWatch watch;
      if (watch.look<Access>(role) != RoleWatch::Peer::dead) {
        const std::uint64_t again = Access::load_acquire(role.word);
        if (again == bits) return fail(Errc::in_use, 0, "take role");
        bits = again;  // it changed hands while we looked
        continue;
      }
    }
    const RoleWord mine{RoleWord::State::held, self.pid, pid_scope(self),
                        (now.generation + 1) & 0xffffff};
    // The whole old word is compared, generation included: a proof about one holder never takes
    // the role from another.
    if (Access::cas_acq_rel(role.word, bits, mine.encode())) {
      self.generation = mine.generation;
      store_token<Access>(role.token, self);
      return TakenRole{mine.generation, now.state};
    }
  }
  return fail(Errc::in_use, 0, "take role: changes hands");
}

template <typename Access>
void leave_role(RoleRef role, std::uint32_t generation) noexcept {
  const ProcessToken self = self_token();
  const RoleWord word{RoleWord::State::left, self.pid, pid_scope(self), generation};
  // SYNC role.take (release -> acquire in take_role and RoleWatch::look):
  //   all that this holder committed and told is visible to whoever sees that it left.
  Access::store_release(role.word, word.encode());
}

template <typename Access>
Result<void> retire_role(RoleRef role) noexcept {
  const ProcessToken self = self_token();
  std::uint64_t bits = Access::load_acquire(role.word);
  for (int looks = 0; looks < kMaxLooks; ++looks) {
    const RoleWord now = RoleWord::decode(bits);
    if (now.state == RoleWord::State::retired) return {};
    if (now.state == RoleWord::State::held) {
      RoleWatch watch;
      if (watch.look<Access>(role) != RoleWatch::Peer::dead) return fail(Errc::in_use, 0, "retire");
    }
    const RoleWord mine{RoleWord::State::retired, self.pid, pid_scope(self), now.generation};
    if (Access::cas_acq_rel(role.word, bits, mine.encode())) return {};
  }
  return fail(Errc::in_use, 0, "retire: changes hands");
}

template <typename Access>
RoleWatch::Peer RoleWatch::look(RoleRef role) noexcept {
  // SYNC role.take (acquire <- release in leave_role): a peer that left has committed all it will.
  const std::uint64_t bits = Access::load_acquire(role.word);
  const RoleWord word = RoleWord::decode(bits);
  switch (word.state) {
    case RoleWord::State::vacant: return Peer::never_came;
    case RoleWord::State::left: return Peer::left;
    case RoleWord::State::retired: return Peer::retired;
    case RoleWord::State::held: break;
  }
  if (bits != watched_) {
    const auto token = load_token<Access>(role.token);
    const Verdict verdict = verdict_on(word, token);
    if (verdict == Verdict::dead) {
      // Still the same holder: the token we judged was its own, or its successor's not yet stored.
      return Access::load_acquire(role.word) == bits ? Peer::dead : Peer::alive;
    }
    // Kept only when the token is the holder's: otherwise look afresh next time.
    if (token && token->generation == word.generation && token->pid == word.pid) watched_ = bits;
    return Peer::alive;
  }
  return watch_.look() == Verdict::dead ? Peer::dead : Peer::alive;
}

}  // namespace slipring

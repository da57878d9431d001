// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "slipring/base/role.h"

// Verdicts about the holders of roles that are the same on every machine and ask no kernel: an
// input means the same everywhere, and a fuzzer need not wait for /proc.
namespace slipring::fuzz {

inline void store_changed_token(const RoleRef& role, void (*change)(ProcessToken&)) noexcept {
  ProcessToken token = self_token();
  token.generation = RoleWord::decode(NativeAccess::load_relaxed(role.word)).generation;
  change(token);
  store_token<NativeAccess>(role.token, token);
}

/// Its death is proved: the token is of another boot.
inline void kill_holder(const RoleRef& role) noexcept {
  store_changed_token(role, [](ProcessToken& token) { token.boot_low ^= 1; });
}
/// Nothing can be proved about it, so it counts as alive: the token is of another pid namespace.
inline void hide_holder(const RoleRef& role) noexcept {
  store_changed_token(role, [](ProcessToken& token) { token.pid_ns ^= 1; });
}

}  // namespace slipring::fuzz

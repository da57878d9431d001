// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "slipring/base/role.h"

namespace slipring::fuzz {

/// Makes the holder of a role one whose death is proved, by the same facts on every machine: its
/// token is of another boot.
inline void kill_holder(const RoleRef& role, std::uint32_t generation) noexcept {
  ProcessToken token = self_token();
  token.boot_low ^= 1;
  token.generation = generation;
  store_token<NativeAccess>(role.token, token);
}
inline void kill_holder(const RoleRef& role) noexcept {
  kill_holder(role, RoleWord::decode(NativeAccess::load_relaxed(role.word)).generation);
}

}  // namespace slipring::fuzz

// SPDX-License-Identifier: Apache-2.0
#include "slipring/base/role.h"

namespace slipring {

Verdict RoleWatch::verdict_on(const RoleWord& word, const Result<ProcessToken>& token) noexcept {
  if (token && token->pid == word.pid && token->generation == word.generation) {
    watch_ = PeerWatch(*token);
    return watch_.look();
  }
  // Killed or stopped between the claim and its token. The pid in the word has a meaning only in
  // its own namespace and boot.
  const ProcessToken self = self_token();
  if (word.scope != pid_scope(self)) return Verdict::unknown;
  return look_at_pid(word.pid);
}

}  // namespace slipring

// SPDX-License-Identifier: Apache-2.0
#include "direct_read.h"

#include <sys/prctl.h>
#include <sys/uio.h>

#include <cerrno>

#include "slipring/wait/fence.h"

namespace slipring::channel {

void allow_direct_reads(const RingBody& body) noexcept {
  const RoleWord word = RoleWord::decode(NativeAccess::load_relaxed(body.consumer_role().word));
  // EINVAL without Yama, where nobody needs leave.
  static_cast<void>(::prctl(PR_SET_PTRACER, static_cast<unsigned long>(word.pid), 0, 0, 0));
}

Result<void> read_directly(ShmLink& link, std::uint32_t sender, const ControlRecord& record,
                           std::span<std::byte> to) noexcept {
  const RoleRef role = link.body().sender_role(sender);
  const std::uint64_t holder = NativeAccess::load_acquire(role.word);
  const RoleWord word = RoleWord::decode(holder);
  if (word.state != RoleWord::State::held || word.pid != record.pid ||
      word.scope != pid_scope(self_token())) {
    return fail(Errc::permission, 0, "direct: holder");
  }
  if (link.look_at_sender(sender) != RoleWatch::Peer::alive) {
    return fail(Errc::peer_dead, 0, "direct: sender");
  }
  // Ours, or the sender's look at our role behind its own fence: one of the two is seen.
  wait::full_fence();
  if (NativeAccess::load_acquire(link.body().producer_side(sender).direct_withdrawn) >=
      record.number) {
    return fail(Errc::segment_lost, 0, "direct: withdrawn");
  }
  std::size_t done = 0;
  while (done < to.size()) {
    const iovec mine{to.data() + done, to.size() - done};
    const iovec theirs{reinterpret_cast<void*>(record.address + done), to.size() - done};
    const ssize_t n = ::process_vm_readv(static_cast<pid_t>(word.pid), &mine, 1, &theirs, 1, 0);
    if (n > 0) {
      done += static_cast<std::size_t>(n);
      continue;
    }
    if (n == 0 || errno == EFAULT) return fail(Errc::corrupt, errno, "process_vm_readv");
    if (errno == EINTR) continue;
    return fail(errno == ESRCH ? Errc::peer_dead : Errc::permission, errno, "process_vm_readv");
  }
  const bool same = NativeAccess::load_acquire(role.word) == holder;
  if (!same || link.look_at_sender(sender) != RoleWatch::Peer::alive) {
    return fail(Errc::peer_dead, 0, "direct: sender");
  }
  return {};
}

}  // namespace slipring::channel

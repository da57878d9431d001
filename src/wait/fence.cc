// SPDX-License-Identifier: Apache-2.0
#include "slipring/wait/fence.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "sanitizer.h"

namespace slipring::wait {
namespace {

long membarrier(int command) noexcept { return ::syscall(SYS_membarrier, command, 0, 0); }

// 0 not asked yet, 1 offered, 2 refused. A process that lost it to a filter goes from 1 to 2.
std::atomic<int> g_offer{0};

// The process that registered, and what came of it: a forked child asks again.
std::atomic<std::int64_t> g_registered_pid{0};

}  // namespace

std::string_view to_string(FenceMode mode) noexcept {
  switch (mode) {
    case FenceMode::symmetric: return "symmetric";
    case FenceMode::asymmetric: return "asymmetric";
    case FenceMode::none: return "none";
  }
  return "bad";
}

bool has_heavy_fence() noexcept {
  int offer = g_offer.load(std::memory_order_relaxed);
  if (offer == 0) {
    const long commands = membarrier(MEMBARRIER_CMD_QUERY);
    offer = commands > 0 && (commands & MEMBARRIER_CMD_GLOBAL_EXPEDITED) != 0 ? 1 : 2;
    g_offer.store(offer, std::memory_order_relaxed);
  }
  return offer == 1;
}

FenceMode register_ringer_process() noexcept {
  if (!has_heavy_fence()) return FenceMode::symmetric;
  const std::int64_t self = ::getpid();
  if (g_registered_pid.load(std::memory_order_relaxed) == self) return FenceMode::asymmetric;
  // Not remembered when refused: a ringer that attaches later may have better luck.
  if (membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) != 0) return FenceMode::symmetric;
  g_registered_pid.store(self, std::memory_order_relaxed);
  return FenceMode::asymmetric;
}

bool heavy_fence() noexcept {
  // In this order: a ringer whose own fence comes before this one has registered before the
  // membarrier below, and is reached by it.
  full_fence();
  if (!has_heavy_fence()) return false;
  if (membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED) == 0) return true;
  if (errno == ENOSYS || errno == EPERM || errno == EINVAL) {
    g_offer.store(2, std::memory_order_relaxed);
  }
  return false;
}

void full_fence() noexcept {
#if defined(SLIPRING_TSAN)
  // The sanitizer knows no fences, but understands read-modify-writes of one common word.
  static std::atomic<unsigned> common{0};
  common.fetch_add(1, std::memory_order_seq_cst);
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

}  // namespace slipring::wait

// SPDX-License-Identifier: Apache-2.0
#include "bus_guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

namespace slipring::tools {
namespace {

std::atomic<bool> hit = false;
static_assert(std::atomic<bool>::is_always_lock_free, "stored by a signal handler");
std::uintptr_t page_bytes = 4096;

// The access is repeated when we return, so the page must be there by then.
void put_zeros(int number, siginfo_t* info, void*) {
  void* const page = reinterpret_cast<void*>(  // NOLINT(performance-no-int-to-ptr)
      reinterpret_cast<std::uintptr_t>(info->si_addr) & ~(page_bytes - 1));
  const bool is_lost = info->si_code == BUS_ADRERR;
  if (is_lost && ::mmap(page, page_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page) {
    hit = true;
    return;
  }
  ::signal(number, SIG_DFL);  // something else, and it comes again
}

}  // namespace

BusGuard::BusGuard() noexcept {
  page_bytes = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  struct sigaction action {};
  action.sa_sigaction = &put_zeros;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
}

BusGuard::~BusGuard() { ::signal(SIGBUS, SIG_DFL); }

bool BusGuard::was_hit() noexcept { return hit.exchange(false); }

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
#include "harness/memory.h"

#include <sched.h>

#include <atomic>
#include <cstring>

#include "slipring/base/deadline.h"

namespace slipring::bench {

Try<Arena> Arena::make(std::size_t bytes, bool lock) {
  segment::Spec spec;
  spec.body_bytes = bytes;
  spec.lock = lock;
  auto drafted = segment::draft(segment::Backend::memfd, spec);
  if (!drafted) return because(text_of(drafted.error()));
  auto made = std::move(*drafted).publish();
  if (!made) return because(text_of(made.error()));
  return Arena(std::move(*made));
}

Try<Announcement> Announcement::make() {
  auto arena = Arena::make(4096, false);
  if (!arena) return because(arena.error());
  return Announcement(std::move(*arena));
}

void Announcement::say() noexcept {
  std::atomic_ref<std::uint32_t>(*reinterpret_cast<std::uint32_t*>(arena_.data()))
      .store(1, std::memory_order_release);
}

bool Announcement::wait() const noexcept {
  const std::atomic_ref<std::uint32_t> word(*reinterpret_cast<std::uint32_t*>(arena_.data()));
  const std::int64_t until = monotonic_ns() + 5'000'000'000;
  while (word.load(std::memory_order_acquire) == 0) {
    if (monotonic_ns() > until) return false;
    ::sched_yield();
  }
  return true;
}

std::string text_of(const Error& error) {
  std::string text(to_string(error.code));
  if (error.op != nullptr && error.op[0] != 0) text += std::string(", ") + error.op;
  if (error.sys != 0) text += std::string(": ") + std::strerror(error.sys);
  return text;
}

}  // namespace slipring::bench

// SPDX-License-Identifier: Apache-2.0
#include "slipring/channel/stash.h"

#include <new>

namespace slipring::channel {

bool Stash::push(std::span<const std::byte> message, std::uint16_t type,
                 std::size_t limit) noexcept {
  const std::size_t cost = message.size() + sizeof(Entry);
  if (cost > limit || bytes_ > limit - cost) return false;
  try {
    entries_.push_back({{message.begin(), message.end()}, type});
  } catch (const std::bad_alloc&) {
    return false;
  }
  bytes_ += cost;
  return true;
}

}  // namespace slipring::channel

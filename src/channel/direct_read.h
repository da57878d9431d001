// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "slipring/channel/shm_link.h"
#include "slipring/channel/tiers.h"

namespace slipring::channel {

/// Lets the process that receives read our memory where Yama asks for leave; elsewhere nothing.
void allow_direct_reads(const RingBody& body) noexcept;

/// Fills `to` with what `record` describes in its sender's memory. The sender keeps it unchanged
/// until it is answered.
/// Trust:  all of `record`. Only the memory of the process that holds the sender's role is read,
/// and
///         that it lives is proved before and after: a number that was reused is not believed.
/// Errors: permission     not the holder's pid, a foreign pid namespace, or the kernel refused,
///         peer_dead      it died meanwhile,
///         corrupt        the address leads nowhere,
///         segment_lost   it has withdrawn the message.
[[nodiscard]] Result<void> read_directly(ShmLink& link, std::uint32_t sender,
                                         const ControlRecord& record,
                                         std::span<std::byte> to) noexcept;

}  // namespace slipring::channel

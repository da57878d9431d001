// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "slipring/channel/ring_body.h"

namespace slipring::channel {

/// The way that a message takes. Tiers never change order: a reference or the first chunk stands
/// where the message would have stood.
enum class Tier : std::uint8_t {
  ring,    ///< Copied into a record.
  block,   ///< In a block of the pool, read in place; a record of 24 bytes names it.
  stream,  ///< Cut into chunks, each a record: larger than any block, or the pool is dry.
  direct,  ///< Left where it is; the receiver reads the sender's memory. On request only.
};

/// Where one tier ends and the next begins: docs/messages.md has the measurements behind them.
struct Tiers {
  std::uint64_t block_from = std::uint64_t{4} << 10;  ///< Bytes; below, a copy is cheaper.
  /// Body bytes of a chunk; at most an eighth of the capacity, less its header.
  std::uint32_t chunk_bytes = std::uint32_t{64} << 10;
  bool check_chunks = false;  ///< Each chunk carries a check of its body.
};

/// The tier of a message of `size` bytes, as long as no pool is dry. `largest_block` is 0 without
/// a pool. Pure.
[[nodiscard]] constexpr Tier tier_for(std::uint64_t size, const Tiers& tiers,
                                      std::uint64_t max_payload,
                                      std::uint64_t largest_block) noexcept {
  if (size >= tiers.block_from && size <= largest_block) return Tier::block;
  if (size <= max_payload) return Tier::ring;
  return size <= largest_block ? Tier::block : Tier::stream;
}

/// Body bytes of the largest chunk in a ring of this shape.
[[nodiscard]] std::uint32_t chunk_body_bytes(const Tiers& tiers, const RingShape& shape) noexcept;

/// What a record of kind control says. Little-endian; docs/messages.md, "Control records".
struct ControlRecord {
  enum class What : std::uint32_t {
    /// A sender's first message in chunks follows: whatever its predecessor in this place left
    /// open is over.
    begin = 1,
    /// The message lies in the sender's memory: `address`, `length`.
    direct = 2,
  };
  std::uint32_t what = 0;
  std::uint32_t pid = 0;  ///< direct: the sender, as its role word says, too.
  std::uint64_t address = 0;
  std::uint64_t length = 0;
  std::uint64_t number = 0;  ///< direct: counts up in this lane; the receiver answers with it.
};
static_assert(sizeof(ControlRecord) == 32);

}  // namespace slipring::channel

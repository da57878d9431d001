// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "slipring/channel/schema.h"
#include "slipring/ring/layout.h"
#include "slipring/segment/segment.h"
#include "slipring/wait/doorbell.h"
#include "slipring/wait/wait_strategy.h"

namespace slipring::channel {

/// What a lane is made as, and how this end of it behaves. What exists already keeps its geometry;
/// only type and tuning of the opener count then.
struct LaneOptions {
  segment::Backend kind = segment::Backend::posix;
  std::uint64_t capacity = ring::kDefaultCapacity;  ///< Bytes; a power of two, 4 KiB to 1 GiB.
  std::uint32_t granule = 8;                        ///< 8 packs records, 64 gives each a line.
  Schema schema;                                    ///< Of the record type; default: bytes.
  wait::BellKind bell = wait::BellKind::futex;      ///< For both directions.
  wait::WaitStrategy wait = wait::WaitStrategy::adaptive();

  mode_t mode = 0600;
  std::optional<gid_t> group;
  std::uint64_t huge_page_bytes = 0;
  int numa_node = -1;
  bool lock = false;  ///< mlock
  bool prefault = true;
  /// True: stays until it is removed. False: the last one out removes it, once all was read.
  bool keep = false;
  std::optional<key_t> sysv_key;
  segment::Places places = segment::Places::standard();
};

}  // namespace slipring::channel

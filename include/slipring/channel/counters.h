// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "slipring/base/shared_access.h"
#include "slipring/ring/layout.h"

namespace slipring::channel {

/// A counter that tools read and one process writes. The count itself is private: what was stored
/// is read back once, from the predecessor, when it is made.
class SharedCount {
 public:
  explicit SharedCount(SharedWord<std::uint64_t>& word) noexcept
      : word_(&word), mine_(NativeAccess::load_relaxed(word)) {}
  void add(std::uint64_t n = 1) noexcept { set(mine_ + n); }
  void set(std::uint64_t value) noexcept {
    if (value != mine_) NativeAccess::store_relaxed(*word_, mine_ = value);
  }
  [[nodiscard]] std::uint64_t value() const noexcept { return mine_; }

 private:
  SharedWord<std::uint64_t>* word_;
  std::uint64_t mine_;
};

/// ring::SenderCounts, as their one writer has them.
struct SenderTally {
  explicit SenderTally(ring::SenderCounts& c) noexcept
      : waits(c.waits),
        timeouts(c.timeouts),
        refused(c.refused),
        stashed(c.stashed),
        dropped(c.dropped),
        blocks(c.blocks),
        streams(c.streams),
        directs(c.directs) {}
  SharedCount waits, timeouts, refused, stashed, dropped, blocks, streams, directs;
};

/// ring::ReceiverCounts, as their one writer has them.
struct ReceiverTally {
  explicit ReceiverTally(ring::ReceiverCounts& c) noexcept
      : open_messages(c.open_messages),
        open_bytes(c.open_bytes),
        completed(c.completed),
        aborted(c.aborted),
        faults(c.faults),
        deaths(c.deaths),
        blocks(c.blocks),
        directs(c.directs) {}
  SharedCount open_messages, open_bytes, completed, aborted, faults, deaths, blocks, directs;
};

}  // namespace slipring::channel

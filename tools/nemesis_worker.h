// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "nemesis.h"
#include "slipring/segment/segment.h"

namespace slipring::tools::nemesis {

/// What a worker needs of its round.
struct Stage {
  Log& log;
  channel::RingForm form;
  std::uint64_t seed;
  Defect defect;
  /// A mapping of its own, each time it is asked.
  std::function<Result<segment::Segment>()> open;
};

/// Sends until told to stop. In the child of a fork; returns what it exits with.
int send_messages(const Stage& stage, std::uint64_t me);
/// Receives until told to stop and all is drained.
int receive_messages(const Stage& stage, std::uint64_t me);

}  // namespace slipring::tools::nemesis

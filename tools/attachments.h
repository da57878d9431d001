// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "slipring/channel/shm_link.h"
#include "slipring/manager/registry.h"

namespace slipring::tools {

/// Lists our end of a ring in the registry while the result lives. What fails is the listing alone,
/// and is said with -v.
[[nodiscard]] std::optional<manager::Enrolment> enroll(const channel::ShmLink& link,
                                                       channel::End end);

}  // namespace slipring::tools

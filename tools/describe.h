// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "rows.h"

namespace slipring::tools {

/// All that is known of one ring, as lines for people. The row has a view.
[[nodiscard]] std::string describe(const Row& row);

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace slipring::frame {

/// body_check() of a body that lies in two places.
[[nodiscard]] std::uint32_t body_check(std::span<const std::byte> front,
                                       std::span<const std::byte> back) noexcept;

}  // namespace slipring::frame

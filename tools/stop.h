// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

#include "report.h"

namespace slipring::tools {

/// Waits are cut in slices of this length, so that a signal is seen.
inline constexpr std::chrono::milliseconds kSlice{50};

/// SIGINT, SIGTERM and SIGHUP ask for an orderly end; the same signal again ends at once, which
/// the kernel then tells the peer. SIGPIPE becomes EPIPE.
void catch_stop_signals() noexcept;
/// The signal that asked us to stop; 0 for none.
[[nodiscard]] int stop_signal() noexcept;
/// An end without a text: the user knows why.
[[nodiscard]] tl::unexpected<Failure> stopped();
/// Sleeps, less when a signal comes.
void nap(std::chrono::nanoseconds time) noexcept;

}  // namespace slipring::tools

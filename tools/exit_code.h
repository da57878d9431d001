// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "slipring/base/error.h"

namespace slipring::tools {

/// How the command ends; scripts rely on it (docs/errors.md).
enum class ExitCode : int {
  ok = 0,
  usage = 1,      ///< The request itself is wrong, or not possible here.
  not_found = 2,  ///< A name or pattern matches nothing.
  permission = 3,
  state = 4,      ///< In use, or there already.
  timed_out = 5,  ///< Time ran out, or full with --try.
  corrupt = 6,    ///< Corrupt, foreign, of another version or type.
  peer_dead = 7,  ///< The other side ended before all was through.
  system = 9,     ///< No space, or the kernel refused.
  signal = 128,   ///< Plus the number of the signal that asked us to stop.
};

[[nodiscard]] constexpr int to_int(ExitCode code) noexcept { return static_cast<int>(code); }

[[nodiscard]] constexpr ExitCode exit_code_of(Errc code) noexcept {
  switch (code) {
    case Errc::full:
    case Errc::empty:
    case Errc::timed_out: return ExitCode::timed_out;
    case Errc::closed: return ExitCode::ok;
    case Errc::peer_dead: return ExitCode::peer_dead;
    case Errc::corrupt:
    case Errc::bad_format:
    case Errc::type_mismatch:
    case Errc::segment_lost: return ExitCode::corrupt;
    case Errc::cancelled: return ExitCode::peer_dead;
    case Errc::not_found: return ExitCode::not_found;
    case Errc::exists:
    case Errc::in_use: return ExitCode::state;
    case Errc::permission: return ExitCode::permission;
    case Errc::too_large:
    case Errc::invalid_argument:
    case Errc::not_supported: return ExitCode::usage;
    case Errc::no_space:
    case Errc::system: return ExitCode::system;
  }
  return ExitCode::system;
}

[[nodiscard]] constexpr ExitCode exit_code_of_signal(int signal) noexcept {
  return static_cast<ExitCode>(to_int(ExitCode::signal) + signal);
}

}  // namespace slipring::tools

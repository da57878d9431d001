// SPDX-License-Identifier: Apache-2.0
#include "slipring/base/error.h"

namespace slipring {

std::string_view to_string(Errc code) noexcept {
  switch (code) {
    case Errc::full: return "full";
    case Errc::empty: return "empty";
    case Errc::timed_out: return "timed_out";
    case Errc::closed: return "closed";
    case Errc::peer_dead: return "peer_dead";
    case Errc::cancelled: return "cancelled";
    case Errc::corrupt: return "corrupt";
    case Errc::bad_format: return "bad_format";
    case Errc::type_mismatch: return "type_mismatch";
    case Errc::segment_lost: return "segment_lost";
    case Errc::not_found: return "not_found";
    case Errc::exists: return "exists";
    case Errc::in_use: return "in_use";
    case Errc::permission: return "permission";
    case Errc::too_large: return "too_large";
    case Errc::invalid_argument: return "invalid_argument";
    case Errc::not_supported: return "not_supported";
    case Errc::no_space: return "no_space";
    case Errc::system: return "system";
  }
  return "unknown";
}

}  // namespace slipring

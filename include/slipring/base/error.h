// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace slipring {

/// What went wrong, in terms of what the caller can do next. The texts for people are made by
/// `slipring::explain`; exit codes and C values are tables over this list (docs/errors.md).
enum class Errc : std::uint8_t {
  full,           ///< No room now: wait, stash or give up.
  empty,          ///< Nothing to read now.
  timed_out,      ///< The deadline passed first. Nothing was sent or received.
  closed,         ///< The peer left in order, and everything it sent was read.
  peer_dead,      ///< The kernel proved the peer gone; everything it committed was read.
  cancelled,      ///< The peer gave the message up in the middle. What follows it goes on.
  corrupt,        ///< Shared memory holds what the protocol cannot produce. Sticky for the handle.
  bad_format,     ///< Not a slipring object, or of a version that this library does not speak.
  type_mismatch,  ///< The object carries records of another type.
  segment_lost,   ///< The memory behind the mapping is going away: open it by name again.
  not_found,      ///< Nothing has that name.
  exists,         ///< The name is taken.
  in_use,         ///< A living process holds what was asked for.
  permission,     ///< The kernel refused the access.
  too_large,      ///< Larger than the object can ever take: trying again cannot help.
  invalid_argument,  ///< The request itself is wrong: a name, a size, an option.
  not_supported,     ///< This backend, kernel or handle cannot do that.
  no_space,          ///< The room could not be reserved. Nothing was made.
  system,            ///< The kernel refused for another reason; see Error::sys.
};

/// One failure. 16 bytes, trivially copyable, never allocates: fit for a hot path.
struct Error {
  Errc code;
  int sys = 0;          ///< errno, captured at the call; 0 where no system call failed.
  const char* op = "";  ///< A static string: the operation that failed, as in "shm_open".

  friend bool operator==(const Error&, const Error&) = default;
};
static_assert(sizeof(Error) == 16);

/// The enumerator's own name, as in "no_space".
[[nodiscard]] std::string_view to_string(Errc code) noexcept;

}  // namespace slipring

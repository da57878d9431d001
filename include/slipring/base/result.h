// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <tl/expected.hpp>

#include "slipring/base/error.h"

namespace slipring {

/// A value, or the Error that stood in its way. Everything fallible returns one.
template <typename T>
using Result = tl::expected<T, Error>;

/// Returns an error: `return fail(Errc::full);`
[[nodiscard]] constexpr tl::unexpected<Error> fail(Errc code, int sys = 0,
                                                   const char* op = "") noexcept {
  return tl::unexpected<Error>(Error{code, sys, op});
}

/// The code that an errno means when no call site knows better.
[[nodiscard]] Errc errc_of(int sys) noexcept;

/// Returns the failure of the system call just made. Must directly follow that call.
[[nodiscard]] inline tl::unexpected<Error> fail_errno(const char* op) noexcept {
  const int sys = errno;
  return fail(errc_of(sys), sys, op);
}

/// Repeats a system call while a signal interrupts it: the one place that knows EINTR.
template <typename Call>
auto retry_eintr(Call&& call) noexcept(noexcept(call())) {
  decltype(call()) result;
  do {
    result = call();
  } while (result == -1 && errno == EINTR);
  return result;
}

}  // namespace slipring

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <tl/expected.hpp>

#include "exit_code.h"
#include "slipring/channel/explain.h"

namespace slipring::tools {

/// Why a subcommand ends without its job done: three lines and an exit code.
struct Failure {
  Explanation text;
  ExitCode exit = ExitCode::system;
};
template <typename T>
using Try = tl::expected<T, Failure>;
/// What a subcommand returns.
using Outcome = Try<ExitCode>;

/// An error of the library, explained.
[[nodiscard]] tl::unexpected<Failure> failed(const Error& error, const Subject& subject);
/// A request that is wrong in itself. `what` gets its code behind.
[[nodiscard]] tl::unexpected<Failure> usage(std::string what, std::string why, std::string fix);
/// A system call of the command's own; must directly follow it.
[[nodiscard]] tl::unexpected<Failure> failed_call(const std::string& what, const char* call,
                                                  std::string why, std::string fix);

/// How to speak to the user; set once, from the options that every subcommand takes.
struct Voice {
  bool json = false;   ///< Errors and summaries as JSON objects.
  bool quiet = false;  ///< Errors only.
  bool verbose = false;
  bool color_err = false;
  bool color_out = false;
};
[[nodiscard]] Voice& voice() noexcept;
enum class Color : unsigned char { automatic, always, never };
/// Colors on terminals that want them: not with NO_COLOR, nor with TERM=dumb.
void set_color(Color color) noexcept;

/// Columns of the terminal behind a descriptor; 0 when it is none, or does not say.
[[nodiscard]] int terminal_width(int fd) noexcept;

/// Prints a failure on stderr and returns its exit code.
ExitCode report(const Failure& failure);
/// One line on stderr, unless quiet.
void note(const std::string& line);

}  // namespace slipring::tools

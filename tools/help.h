// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/App.hpp>
#include <CLI/Formatter.hpp>
#include <string>

#include "report.h"

namespace slipring::tools {

/// Makes all options of `app`, and of its subcommands, refuse an empty value: mostly it is that of
/// a variable that is not set, and nobody means "the default" by it.
void refuse_empty_values(CLI::App& app);

/// Help as slipring shows it: usage, purpose, arguments, options by group, an example.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode mode) const override;
};

/// The subcommand of that name; null for none.
[[nodiscard]] const CLI::App* find_command(const CLI::App& app, const std::string& name);

/// A command line that CLI11 refused, in three lines.
[[nodiscard]] Failure explain_parse(const CLI::App& app, const CLI::ParseError& error, int argc,
                                    char** argv);

}  // namespace slipring::tools

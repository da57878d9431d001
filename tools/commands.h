// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/App.hpp>
#include <functional>

#include "report.h"

namespace slipring::tools {

/// Where a parsed subcommand leaves its body; main runs it.
using Job = std::function<Outcome()>;

void add_create(CLI::App& app, Job& job);
void add_send(CLI::App& app, Job& job);
void add_recv(CLI::App& app, Job& job);
void add_ls(CLI::App& app, Job& job);
void add_stat(CLI::App& app, Job& job);
void add_rm(CLI::App& app, Job& job);
void add_bench(CLI::App& app, Job& job);
void add_check(CLI::App& app, Job& job);
void add_gc(CLI::App& app, Job& job);
void add_stress(CLI::App& app, Job& job);

/// Which of the standard descriptors were closed when we started. They lead to /dev/null now, so
/// that no segment is opened in their place and written over.
struct Closed {
  bool in = false, out = false, err = false;
};
[[nodiscard]] const Closed& closed_at_start() noexcept;

/// Standard output, for tables and answers. A failed write is a failure of the command.
[[nodiscard]] Outcome print_out(const std::string& text);

}  // namespace slipring::tools

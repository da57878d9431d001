// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/App.hpp>
#include <chrono>
#include <optional>
#include <string>

#include "report.h"
#include "slipring/channel/shm_options.h"

namespace slipring::tools {

/// Options of every subcommand.
struct Globals {
  std::string root;  ///< Another /dev/shm.
};
[[nodiscard]] Globals& globals() noexcept;
/// Where names live, after --root and the environment.
[[nodiscard]] segment::Places places();

/// What create, send and recv take for a ring that they may make. As typed; empty: the default.
struct RingFlags {
  std::string kind, ring, order, senders, pool, capacity, granule, bell, mode, group, huge,
      sysv_key, wait;
  int numa = -1;
  bool lock = false;
  bool no_prefault = false;
};
/// `all`: those of create; otherwise the few that send and recv offer as well.
void add_ring_flags(CLI::App& app, RingFlags& flags, bool all);
/// Checks them; `command` is "slipring create", for the fix.
[[nodiscard]] Try<channel::ShmOptions> shm_options(const RingFlags& flags,
                                                   const std::string& command);

/// A size given to `option`. Nothing given: nothing.
[[nodiscard]] Try<std::optional<std::uint64_t>> size_flag(const std::string& text,
                                                          const std::string& option,
                                                          const std::string& command);
[[nodiscard]] Try<std::optional<std::chrono::nanoseconds>> duration_flag(
    const std::string& text, const std::string& option, const std::string& command);
/// How many, from 1. Nothing given: 0.
[[nodiscard]] Try<std::uint64_t> count_flag(const std::string& text, const std::string& option,
                                            const std::string& command);

}  // namespace slipring::tools

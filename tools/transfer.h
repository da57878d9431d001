// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "lane_flags.h"
#include "progress.h"
#include "report.h"
#include "slipring/base/deadline.h"
#include "slipring/base/role.h"
#include "slipring/channel/lane_link.h"

namespace slipring::tools {

/// How the summary of send and recv reads; docs/cli.md shows it.
struct Summary {
  std::string command;
  std::string name;
  segment::Backend kind = segment::Backend::posix;
  Tally tally;
  double seconds = 0;
  std::uint64_t parks = 0;
  std::optional<std::uint64_t> wakes;
  channel::LaneLink::Left left = channel::LaneLink::Left::kept;
  ExitCode exit = ExitCode::ok;
};
/// One line of JSON on stderr, if asked for.
void print_summary(const Summary& summary);

/// Follows the other end's claim word, to tell news from what happened before we came: a sender
/// that left yesterday is no end of today's stream.
class PeerHistory {
 public:
  /// Call right after attaching. `anything_left`: it left something that we have not read.
  PeerHistory(const SharedWord<std::uint64_t>& word, bool gone, bool news) noexcept
      : word_(&word), seen_(load()), old_news_(gone && !news) {}

  /// True while the end that the channel reports is one from before we came.
  [[nodiscard]] bool is_old_news() noexcept {
    if (old_news_ && load() != seen_) old_news_ = false;
    return old_news_;
  }
  /// True when somebody took the role since the last call of remember().
  [[nodiscard]] bool has_changed() const noexcept {
    return RoleWord::decode(load()).generation != RoleWord::decode(seen_).generation;
  }
  void remember() noexcept { seen_ = load(); }

 private:
  // Decides naps alone; whoever acts on it looks again through the channel, with acquire.
  [[nodiscard]] std::uint64_t load() const noexcept { return NativeAccess::load_relaxed(*word_); }
  const SharedWord<std::uint64_t>* word_;
  std::uint64_t seen_;
  bool old_news_;
};

/// Says when nobody can come any more: the name was removed while we wait for the other end.
class NameWatch {
 public:
  /// Asks the kernel once per second at most; true when the name no longer leads to `segment`.
  [[nodiscard]] bool is_gone(const segment::Segment& segment) noexcept {
    const std::int64_t now = monotonic_ns();
    if (now - asked_ns_ < 1'000'000'000) return false;
    asked_ns_ = now;
    const auto named = segment.still_named();
    return named && !*named;
  }

 private:
  std::int64_t asked_ns_ = monotonic_ns();
};

/// Notes when an existing lane is not as asked for.
void note_difference(const LaneFlags& asked, const channel::LaneOptions& options,
                     const channel::LaneLink& link, const std::string& name);

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "progress.h"
#include "report.h"
#include "ring_flags.h"
#include "slipring/base/deadline.h"
#include "slipring/base/role.h"
#include "slipring/channel/full_policy.h"
#include "slipring/channel/shm_link.h"

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
  std::optional<std::uint64_t> dropped;  ///< send: put by, and lost with us,
  std::optional<std::uint64_t> lost;     ///< recv: messages that never became whole,
  std::optional<std::uint64_t> died;     ///< and senders that died.
  channel::ShmLink::Left left = channel::ShmLink::Left::kept;
  ExitCode exit = ExitCode::ok;
};
/// One line of JSON on stderr, if asked for.
void print_summary(const Summary& summary);

/// Follows the claim words of the other end, of one peer or many, to tell news from what happened
/// before we came: a sender that left yesterday is no end of today's stream.
class PeerHistory {
 public:
  /// Call right after attaching. `news`: they left something that we have not read.
  PeerHistory(const channel::RingBody& body, channel::End peer, bool gone, bool news) noexcept
      : body_(body), peer_(peer), seen_(look()), old_news_(gone && !news) {}

  /// True while the end that the channel reports is one from before we came.
  [[nodiscard]] bool is_old_news() noexcept {
    if (old_news_ && look() != seen_) old_news_ = false;
    return old_news_;
  }
  /// True when somebody took a role since the last call of remember().
  [[nodiscard]] bool has_changed() const noexcept { return look().takes != seen_.takes; }
  void remember() noexcept { seen_ = look(); }

 private:
  struct Seen {
    std::uint64_t words = 0;  // all of them, folded
    std::uint64_t takes = 0;  // generations, added up
    friend bool operator==(const Seen&, const Seen&) = default;
  };
  // Decides naps alone; whoever acts on it looks again through the channel, with acquire.
  [[nodiscard]] Seen look() const noexcept;

  channel::RingBody body_;
  channel::End peer_;
  Seen seen_;
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

/// "wait", "wait:5ms", "refuse" or "stash:1M".
[[nodiscard]] Try<channel::OnFull> full_policy(const std::string& text, const std::string& command);

/// Says which of the options for a new ring do nothing, since an existing one is not as asked for.
void note_difference(const RingFlags& asked, const channel::ShmOptions& options,
                     const channel::ShmLink& link, const std::string& name);

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
// `slipring rm`: takes names away. Whoever is attached keeps the memory; nobody new finds it.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "commands.h"
#include "ring_flags.h"
#include "rows.h"
#include "slipring/channel/reap.h"
#include "slipring/channel/shm_link.h"
#include "slipring/manager/registry.h"

namespace slipring::tools {
namespace {

struct RmOptions {
  std::vector<std::string> selectors;
  bool force = false;
};

Subject subject_of(const std::string& name) {
  Subject subject(name, "remove");
  subject.options.places = places();
  return subject;
}

/// Who alive has a place in it: sends, receives, or has blocks of it.
struct Holders {
  std::string text;  ///< "feed(4102), feed(4103) and logger(4133)"
  std::size_t count = 0;

  explicit Holders(const std::vector<channel::HeldPlace>& living) {
    constexpr std::size_t kShown = 4;
    std::vector<std::string> shown;
    std::vector<std::uint32_t> pids;
    for (const channel::HeldPlace& place : living) {
      // A sender or receiver of large messages has a place in the pool, too.
      if (std::ranges::find(pids, place.pid) != pids.end()) continue;
      pids.push_back(place.pid);
      if (++count > kShown) continue;
      channel::EndView end;
      end.pid = place.pid;
      end.command = place.command;
      shown.push_back(holder_text(end));
    }
    if (count > kShown) shown.push_back(fmt::format("{} more", count - kShown));
    for (std::size_t i = 0; i < shown.size(); ++i) {
      const char* joint = i == 0 ? "" : i + 1 == shown.size() ? " and " : ", ";
      text += joint + shown[i];
    }
  }
};

tl::unexpected<Failure> in_use(const std::string& name, const Holders& who) {
  const bool one = who.count == 1;
  return tl::unexpected(Failure{
      {Errc::in_use, fmt::format("{} is in use by {}; nothing removed (in_use)", name, who.text),
       fmt::format("{} and would go on with memory that has no name",
                   one ? "it is attached and alive," : "they are attached and alive,"),
       fmt::format("stop {}, or: slipring rm -f {}   ({} the old memory, newcomers get a new one)",
                   one ? "it" : "them", name, one ? "it keeps" : "they keep")},
      ExitCode::state});
}

// Ours by its place or its first word, but not to be opened: the name is all that can be removed.
Outcome remove_rotten(const Row& row, const RmOptions& opt) {
  const std::string name = label_of(row.listing);
  const segment::Listing& listing = row.listing;
  if (row.error->code == Errc::not_found && listing.backend == segment::Backend::sysv) {
    const auto parsed = segment::Name::parse(listing.name);
    const auto removed = parsed ? segment::remove_stale(*parsed, places())
                                : Result<void>(tl::unexpected(parsed.error()));
    if (!removed && removed.error().code != Errc::not_found) {
      return failed(removed.error(), subject_of(name));
    }
    return ExitCode::ok;
  }
  if (!opt.force || listing.sysv_id || row.error->code == Errc::permission) {
    return failed(*row.error, subject_of(name));
  }
  if (::unlink(listing.where.c_str()) != 0 && errno != ENOENT) {
    return failed_call(fmt::format("cannot remove {}", printable(name)), "unlink", "",
                       "ls -l " + printable(listing.where));
  }
  return ExitCode::ok;
}

void say_removed(const Row& row, const Holders& who) {
  const std::string name = printable(label_of(row.listing));
  const bool unread = row.view && row.view->backlog_bytes > 0;
  if (unread) {
    note(fmt::format("{} removed, with {} that nobody had read", name,
                     human_bytes(row.view->backlog_bytes)));
  } else if (who.count != 0) {
    note(fmt::format("{} removed; {} {} on with the old memory", name, who.text,
                     who.count == 1 ? "goes" : "go"));
  } else if (voice().verbose) {
    note(fmt::format("{} removed", name));
  }
}

Outcome remove(Row row, const RmOptions& opt) {
  if (!row.view) return remove_rotten(row, opt);
  const std::string name = label_of(row.listing);
  auto segment = open_listed(row.listing, segment::OpenMode::read_write);
  if (!segment) return failed(segment.error(), subject_of(name));
  std::optional<Holders> who;
  {
    // Attaching takes the same lock: nobody comes in between our look and the removal.
    const auto lock = segment->lock(Deadline::in(std::chrono::seconds(1)));
    if (!lock) return failed(lock.error(), subject_of(name));
    const auto view = channel::inspect(*segment, true);
    if (view) row.view = *view;
    const auto remains = channel::look_at_remains(*segment);
    if (!remains) return failed(remains.error(), subject_of(name));
    who.emplace(remains->living);
    if (who->count != 0 && !opt.force) return in_use(printable(name), *who);
    // With the dead alone in it, what they slept on goes, too.
    const auto removed = who->count == 0 ? channel::remove_ring(*segment) : segment->unlink();
    if (!removed && removed.error().code != Errc::not_found) {
      return failed(removed.error(), subject_of(name));
    }
  }
  say_removed(row, *who);
  return ExitCode::ok;
}

Outcome remove_all(const Selector& selector, const RmOptions& opt) {
  auto rows = look_at_rings({selector}, std::chrono::nanoseconds(0));
  if (!rows) return tl::unexpected(rows.error());
  if (rows->empty()) {
    const auto segment = selector.by == Selector::By::glob
                             ? Result<segment::Segment>(fail(Errc::not_found, 0, "rm"))
                             : open_selected(selector, segment::OpenMode::read_only);
    if (segment) return failed(Error{Errc::not_found, 0, "rm"}, subject_of(selector.text));
    return failed(segment.error(), subject_of(selector.text));
  }
  Outcome last = ExitCode::ok;
  for (Row& row : *rows) {
    Outcome outcome = remove(std::move(row), opt);
    if (outcome) continue;
    if (!last) report(last.error());
    last = std::move(outcome);
  }
  return last;
}

Outcome run_rm(const RmOptions& opt) {
  std::vector<Selector> selectors;
  for (const std::string& text : opt.selectors) {
    Subject subject = subject_of(text);
    subject.command = "slipring rm";
    const auto selector = parse_selector(text, subject, true);
    if (!selector) return tl::unexpected(selector.error());
    if (selector->by == Selector::By::descriptor) {
      return usage(fmt::format("cannot remove {}: it has no name", printable(text)),
                   "a memfd goes with the last process that has it",
                   "slipring stat " + printable(text) + " shows who that is");
    }
    selectors.push_back(*selector);
  }
  // Each one is tried; the exit code is that of the first that failed.
  std::optional<ExitCode> first;
  for (const Selector& selector : selectors) {
    const Outcome outcome = remove_all(selector, opt);
    if (outcome) continue;
    const ExitCode code = report(outcome.error());
    if (!first) first = code;
  }
  // Who was killed left its entry in the registry, and perhaps all of it.
  static_cast<void>(manager::Registry(places()).reap());
  return first.value_or(ExitCode::ok);
}

}  // namespace

void add_rm(CLI::App& app, Job& job) {
  auto opt = std::make_shared<RmOptions>();
  CLI::App* sub = app.add_subcommand("rm", "Remove names; refuses what is in use");
  sub->add_option("selectors", opt->selectors, "names, 'md.*', sysv:0xKEY, sysv-id:N")
      ->required()
      ->type_name("SEL");
  sub->add_flag("-f,--force", opt->force, "although in use, corrupt, or of another version");
  sub->add_flag("-J,--json", voice().json, "errors as JSON");
  sub->footer("Example:\n  slipring rm 'test.*'");
  sub->callback([opt, &job] { job = [opt] { return run_rm(*opt); }; });
}

}  // namespace slipring::tools

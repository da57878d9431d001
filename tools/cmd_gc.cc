// SPDX-License-Identifier: Apache-2.0
// `slipring gc`: what the killed left behind. Shows it; --apply repairs and removes. Only what the
// kernel proves to be nobody's is touched, and what holds unread messages only when asked for.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "bus_guard.h"
#include "commands.h"
#include "ring_flags.h"
#include "rows.h"
#include "sizes.h"
#include "slipring/channel/reap.h"
#include "slipring/manager/registry.h"
#include "slipring/pool/segment_pool.h"
#include "targets.h"

namespace slipring::tools {
namespace {

using channel::Fate;
using channel::HeldPlace;

struct GcOptions {
  std::vector<std::string> selectors;
  std::string older_than;
  bool apply = false;
  bool unread = false;
};

/// One thing that the killed left, or that looks so and is to stay.
struct Item {
  enum class Action : unsigned char { keep, repair, remove };
  Action action = Action::keep;
  std::string name;
  std::string reason;
  std::uint64_t bytes = 0;
  std::string fate;
  std::vector<HeldPlace> dead;
  std::vector<HeldPlace> living;
  bool is_used = false;
  bool done = false;
  std::function<Result<void>()> act;
};
using Action = Item::Action;

const char* to_text(Action action) {
  static constexpr const char* kTexts[] = {"keep", "repair", "remove"};
  return kTexts[static_cast<int>(action)];
}

std::string holder(const HeldPlace& place) {
  return fmt::format("{}({})", place.command.empty() ? "pid" : printable(place.command), place.pid);
}

std::string holders(const std::vector<HeldPlace>& places) {
  constexpr std::size_t kShown = 4;
  std::vector<std::string> shown;
  for (const HeldPlace& place : places) {
    const std::string text = holder(place);
    if (std::ranges::find(shown, text) == shown.end()) shown.push_back(text);
  }
  const std::size_t more = shown.size() > kShown ? shown.size() - kShown : 0;
  shown.resize(shown.size() - more);
  if (more != 0) shown.push_back(fmt::format("{} more", more));
  std::string text;
  for (std::size_t i = 0; i < shown.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == shown.size() ? " and " : ", ") + shown[i];
  }
  return text;
}

Result<void> open_and(const segment::Listing& listing,
                      const std::function<Result<void>(segment::Segment&)>& act) {
  auto segment = open_listed(listing, segment::OpenMode::read_write);
  if (!segment) return tl::unexpected(segment.error());
  return act(*segment);
}

std::string reason_of(const channel::Remains& remains) {
  const std::string died =
      remains.dead.empty() ? "its users are gone" : holders(remains.dead) + " proved dead";
  switch (remains.fate) {
    case Fate::used:
      return remains.dead.empty()
                 ? holders(remains.living) + " attached"
                 : holders(remains.dead) + " proved dead beside " + holders(remains.living);
    case Fate::stays: return "made to stay until it is removed: slipring rm";
    case Fate::unread:
      return died + ", and what is in it is unread: recv gets it, --unread removes it";
    case Fate::awaited: return "nobody came yet, and its maker is not proved dead";
    case Fate::orphan: return died + ", nobody attached";
  }
  return "";
}

Item ring_item(const Target& target, const GcOptions& opt) {
  Item item;
  item.name = target.name;
  item.bytes = target.listing.object_bytes;
  static_cast<void>(BusGuard::was_hit());
  auto remains = target.segment ? channel::look_at_remains(*target.segment)
                                : Result<channel::Remains>(tl::unexpected(target.segment.error()));
  if (BusGuard::was_hit()) remains = fail(Errc::bad_format, 0, "header: truncated");
  if (!remains) {
    // Nothing in it can be believed, so nothing proves whose it is.
    item.fate = "unreadable";
    item.reason = fmt::format("cannot be judged ({}: {}): slipring rm -f removes it",
                              to_string(remains.error().code), remains.error().op);
    return item;
  }
  item.fate = to_string(remains->fate);
  item.reason = reason_of(*remains);
  item.dead = remains->dead;
  item.living = remains->living;
  item.is_used = remains->fate == Fate::used;
  const bool goes = remains->fate == Fate::orphan || (remains->fate == Fate::unread && opt.unread);
  if (goes) {
    item.action = Action::remove;
    item.act = [listing = target.listing, unread = opt.unread] {
      return open_and(listing, [unread](segment::Segment& segment) {
        return channel::remove_orphan(segment, unread);
      });
    };
  } else if (remains->has_work()) {
    item.action = Action::repair;
    if (remains->fate == Fate::stays) item.reason = holders(remains->dead) + " proved dead";
    item.act = [listing = target.listing] {
      return open_and(listing, [](segment::Segment& segment) -> Result<void> {
        const auto reaped = channel::reap_ring(segment);
        if (!reaped) return tl::unexpected(reaped.error());
        return {};
      });
    };
  }
  return item;
}

std::optional<Item> stale_item(const segment::Listing& listing) {
  const bool is_stale = !listing.info && listing.info.error().code == Errc::not_found &&
                        listing.backend == segment::Backend::sysv;
  if (!is_stale) return std::nullopt;
  Item item;
  item.action = Action::remove;
  item.name = label_of(listing);
  item.fate = "stale";
  item.reason = "its System V segment is gone; only the name is left";
  item.act = [name = listing.name]() -> Result<void> {
    const auto parsed = segment::Name::parse(name);
    if (!parsed) return tl::unexpected(parsed.error());
    return segment::remove_stale(*parsed, places());
  };
  return item;
}

std::optional<Item> pooled_item(const segment::Listing& listing) {
  if (!listing.info || listing.info->content != pool::kContentPooledSegment ||
      PeerWatch(listing.info->creator).look() != Verdict::dead) {
    return std::nullopt;
  }
  Item item;
  item.action = Action::remove;
  item.name = label_of(listing);
  item.bytes = listing.object_bytes;
  item.fate = "orphan";
  item.reason = fmt::format("a pool of {}({}), proved dead, made it",
                            printable(listing.info->creator.command), listing.info->creator.pid);
  item.act = [listing] {
    return open_and(listing, [](segment::Segment& segment) { return segment.unlink(); });
  };
  return item;
}

Item wreck_item(const segment::Wreck& wreck) {
  Item item;
  item.action = Action::remove;
  item.name = wreck.where;
  item.bytes = wreck.object_bytes;
  item.fate = "wreck";
  item.reason = wreck.maker.pid != 0 ? fmt::format("{}({}) was killed while it made it",
                                                   printable(wreck.maker.command), wreck.maker.pid)
                                     : std::string("killed while it was made: nobody has it open");
  item.act = [wreck] { return segment::remove_wreck(wreck); };
  return item;
}

std::optional<Item> registry_item() {
  const auto view = manager::Registry(places()).look();
  if (!view) return std::nullopt;
  const auto dead = std::ranges::count_if(view->rows, [](const manager::RegistryRow& row) {
    return row.holder == manager::Holder::dead;
  });
  if (dead == 0) return std::nullopt;
  Item item;
  item.action = Action::repair;
  item.name = "registry";
  item.fate = "used";
  item.reason = fmt::format("{} {} of the dead", dead, dead == 1 ? "entry" : "entries");
  item.act = []() -> Result<void> {
    const auto reaped = manager::Registry(places()).reap();
    if (!reaped) return tl::unexpected(reaped.error());
    return {};
  };
  return item;
}

bool is_young(const segment::Listing& listing, std::chrono::nanoseconds least) {
  if (least.count() == 0) return false;
  Row row;
  row.listing = listing;
  if (listing.info) row.info = *listing.info;
  const auto age = age_ns(row);
  return !age || *age < least.count();
}

Try<std::vector<Item>> look(const GcOptions& opt, std::chrono::nanoseconds least) {
  auto targets = find_targets(opt.selectors, "gc");
  if (!targets) return tl::unexpected(targets.error());
  std::vector<Item> items;
  for (const Target& target : *targets) {
    if (is_young(target.listing, least)) continue;
    auto stale = stale_item(target.listing);
    items.push_back(stale ? std::move(*stale) : ring_item(target, opt));
  }
  if (!opt.selectors.empty()) return items;
  if (const auto listed = segment::list_segments(places())) {
    for (const segment::Listing& listing : *listed) {
      if (is_young(listing, least)) continue;
      if (auto pooled = pooled_item(listing)) items.push_back(std::move(*pooled));
    }
  }
  for (const segment::Wreck& wreck : segment::list_wrecks(places())) {
    items.push_back(wreck_item(wreck));
  }
  if (auto entries = registry_item()) items.push_back(std::move(*entries));
  return items;
}

// The first that fails is what the command ends with; the others are tried all the same.
std::optional<Failure> apply(std::vector<Item>& items) {
  std::optional<Failure> first;
  for (Item& item : items) {
    if (!item.act) continue;
    const auto went = item.act();
    // Gone, or somebody came: what we saw is no more, and nothing is left to do.
    item.done = went.has_value();
    const bool is_over =
        !went && (went.error().code == Errc::not_found || went.error().code == Errc::in_use);
    if (is_over) {
      item.action = Action::keep;
      item.reason = "changed meanwhile: " + std::string(to_string(went.error().code));
    } else if (!went && !first) {
      Subject subject(item.name, "collect");
      subject.options.places = places();
      first = failed(went.error(), subject).value();
    }
  }
  return first;
}

std::string describe(const std::vector<Item>& items, bool applied) {
  std::string text;
  std::uint64_t removed = 0, bytes = 0, repaired = 0;
  for (const Item& item : items) {
    const char* verb = "KEEP";
    if (item.action == Action::keep && item.is_used && !voice().verbose) continue;
    if (item.action == Action::remove) {
      verb = applied ? (item.done ? "REMOVED" : "FAILED") : "WOULD REMOVE";
      ++removed;
      bytes += item.bytes;
    } else if (item.action == Action::repair) {
      verb = applied ? (item.done ? "REPAIRED" : "FAILED") : "WOULD REPAIR";
      ++repaired;
    }
    text += fmt::format("{:<{}} {:<16} {:>5}  {}\n", verb, applied ? 8 : 12, printable(item.name),
                        item.bytes != 0 ? human_bytes(item.bytes) : "-", item.reason);
  }
  if (removed + repaired == 0) return text + "nothing to collect\n";
  text += fmt::format("{}, {}; {} {}", counted(removed, "object"), human_bytes(bytes), repaired,
                      applied ? "repaired" : "to repair");
  return text + (applied ? "\n" : ". To do it: slipring gc --apply\n");
}

nlohmann::ordered_json places_json(const std::vector<HeldPlace>& places) {
  static constexpr const char* kParts[] = {"sender", "receiver", "participant"};
  auto json = nlohmann::ordered_json::array();
  for (const HeldPlace& place : places) {
    json.push_back({{"part", kParts[static_cast<int>(place.part)]},
                    {"index", place.index},
                    {"pid", place.pid},
                    {"command", printable(place.command)}});
  }
  return json;
}

std::string to_json(const std::vector<Item>& items, bool applied, ExitCode exit) {
  auto list = nlohmann::ordered_json::array();
  for (const Item& item : items) {
    list.push_back({{"name", printable(item.name)},
                    {"action", to_text(item.action)},
                    {"done", item.done},
                    {"fate", item.fate},
                    {"reason", item.reason},
                    {"bytes", item.bytes},
                    {"dead", places_json(item.dead)},
                    {"living", places_json(item.living)}});
  }
  const nlohmann::ordered_json body = {{"schema", 1},
                                       {"command", "gc"},
                                       {"applied", applied},
                                       {"items", std::move(list)},
                                       {"exit", to_int(exit)}};
  return nlohmann::ordered_json{{"slipring", body}}.dump() + "\n";
}

Outcome run_gc(const GcOptions& opt) {
  const auto least = duration_flag(opt.older_than, "--older-than", "slipring gc");
  if (!least) return tl::unexpected(least.error());
  const BusGuard guard;
  auto items = look(opt, least->value_or(std::chrono::nanoseconds(0)));
  if (!items) return tl::unexpected(items.error());
  std::optional<Failure> failure;
  if (opt.apply) failure = apply(*items);
  const bool found =
      std::ranges::any_of(*items, [](const Item& item) { return item.action != Action::keep; });
  ExitCode exit = found && !opt.apply ? ExitCode::state : ExitCode::ok;
  if (failure) exit = failure->exit;
  std::string text = voice().json ? to_json(*items, opt.apply, exit) : describe(*items, opt.apply);
  if (voice().quiet && !voice().json) text.clear();
  if (const auto printed = print_out(text); !printed) return printed;
  if (failure) return tl::unexpected(*failure);
  return exit;
}

}  // namespace

void add_gc(CLI::App& app, Job& job) {
  auto opt = std::make_shared<GcOptions>();
  CLI::App* sub = app.add_subcommand("gc", "Show what the killed left behind; --apply removes it");
  sub->add_option("selectors", opt->selectors, "names, 'md.*', sysv:0xKEY, sysv-id:N")
      ->type_name("SEL");
  sub->add_flag("--apply", opt->apply, "repair and remove instead of showing");
  sub->add_flag("--unread", opt->unread, "also orphans in which messages are unread");
  sub->add_option("--older-than", opt->older_than, "only what was made longer ago")
      ->type_name("TIME");
  sub->add_flag("-J,--json", voice().json, "as JSON");
  sub->footer("Ends with 4 when there is something to collect.\n\nExample:\n  slipring gc --apply");
  sub->callback([opt, &job] { job = [opt] { return run_gc(*opt); }; });
}

}  // namespace slipring::tools

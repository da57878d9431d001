// SPDX-License-Identifier: Apache-2.0
#include "targets.h"

#include <algorithm>
#include <string_view>

#include "ring_flags.h"

namespace slipring::tools {
namespace {

Subject subject_of(const std::string& text, const std::string& action) {
  Subject subject(text, action);
  subject.command = "slipring " + action;
  subject.options.places = places();
  return subject;
}

bool is_other_content(const segment::Listing& listing) {
  return listing.info && listing.info->content != segment::kContentLane &&
         listing.info->content != segment::kContentMpsc &&
         listing.info->content != segment::kContentTotal;
}

std::optional<Target> target_of(const segment::Listing& listing) {
  Target target{label_of(listing), listing, open_listed(listing, segment::OpenMode::read_only)};
  const bool vanished =
      listing.info && !target.segment && target.segment.error().code == Errc::not_found;
  if (vanished) return std::nullopt;
  return target;
}

Target target_of(const Selector& selector, segment::Segment segment) {
  Target target;
  target.name = selector.text;
  target.listing.where = segment.where();
  target.listing.backend = segment.backend();
  target.listing.info = segment.info();
  target.listing.object_bytes = segment.info().total_bytes;
  target.segment = std::move(segment);
  return target;
}

}  // namespace

Try<std::vector<Target>> find_targets(const std::vector<std::string>& selectors,
                                      const std::string& action) {
  std::vector<Selector> parsed;
  for (const std::string& text : selectors) {
    const auto selector = parse_selector(text, subject_of(text, action), true);
    if (!selector) return tl::unexpected(selector.error());
    parsed.push_back(*selector);
  }
  const auto listed = segment::list_segments(places());
  if (!listed) return failed(listed.error(), subject_of(places().shm, "list segments in"));

  std::vector<Target> targets;
  const auto add = [&targets](std::optional<Target> target) {
    if (!target) return;
    const auto same = [&](const Target& other) { return other.name == target->name; };
    if (std::ranges::none_of(targets, same)) targets.push_back(std::move(*target));
  };
  if (parsed.empty()) {
    for (const segment::Listing& listing : *listed) {
      if (!is_other_content(listing)) add(target_of(listing));
    }
  }
  for (const Selector& selector : parsed) {
    const std::size_t before = targets.size();
    bool is_listed = false;
    for (const segment::Listing& listing : *listed) {
      if (!matches(selector, listing)) continue;
      is_listed = true;
      if (selector.by != Selector::By::glob || !is_other_content(listing)) add(target_of(listing));
    }
    if (is_listed || targets.size() != before) continue;
    if (selector.by == Selector::By::glob) {
      return failed(Error{Errc::not_found, 0, "list"}, subject_of(selector.text, action));
    }
    // Not in any list: a descriptor, or nothing of ours, and then opening it tells what it is.
    auto segment = open_selected(selector, segment::OpenMode::read_only);
    if (!segment) return failed(segment.error(), subject_of(selector.text, action));
    add(target_of(selector, std::move(*segment)));
  }
  std::ranges::sort(targets, {}, &Target::name);
  return targets;
}

}  // namespace slipring::tools

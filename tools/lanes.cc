// SPDX-License-Identifier: Apache-2.0
#include "lanes.h"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <time.h>

#include <algorithm>

#include "lane_flags.h"
#include "slipring/base/deadline.h"
#include "stop.h"

namespace slipring::tools {
namespace {

struct Look {
  LaneRow row;
  std::optional<segment::Segment> mapping;
};

// Nothing: it vanished between the listing and now.
std::optional<Look> look_at(const segment::Listing& listing, bool exact) {
  Look look;
  look.row.listing = listing;
  if (!listing.info) {
    look.row.error = listing.info.error();
    return look;
  }
  look.row.info = *listing.info;
  auto segment = open_listed(listing, segment::OpenMode::read_only);
  if (!segment && segment.error().code == Errc::not_found) return std::nullopt;
  auto view = segment ? channel::inspect(*segment, exact)
                      : Result<channel::LaneView>(tl::unexpected(segment.error()));
  if (!view) {
    look.row.error = view.error();
    return look;
  }
  look.row.view = std::move(*view);
  look.mapping = std::move(*segment);
  return look;
}

double rate(std::uint64_t from, std::uint64_t to, double seconds) {
  return to >= from && seconds > 0 ? static_cast<double>(to - from) / seconds : 0;
}

void sample_again(Look& look, double seconds) {
  if (!look.mapping) return;
  const auto now = channel::inspect(*look.mapping);
  if (!now) {
    look.row.view.reset();
    look.row.error = now.error();
    return;
  }
  LaneRow& row = look.row;
  row.in_per_s = rate(row.view->committed, now->committed, seconds);
  row.in_bytes_per_s = rate(row.view->committed_bytes, now->committed_bytes, seconds);
  row.out_per_s = rate(row.view->released, now->released, seconds);
  if (!row.view->exact) row.view = *now;
}

nlohmann::ordered_json end_json(const channel::EndView& end) {
  using Peer = RoleWatch::Peer;
  static constexpr const char* kStates[] = {"never_came", "alive", "left", "dead", "retired"};
  nlohmann::ordered_json json = {{"state", kStates[static_cast<int>(end.state)]}};
  json["pid"] = end.pid != 0 ? nlohmann::ordered_json(end.pid) : nlohmann::ordered_json();
  json["command"] = printable(end.command);
  json["stopped"] = end.stopped;
  json["parked"] = end.state == Peer::alive && end.parked;
  json["parked_since_ns"] =
      end.parked ? nlohmann::ordered_json(end.parked_since_ns) : nlohmann::ordered_json();
  json["generation"] = end.generation;
  return json;
}

nlohmann::ordered_json count_or_null(const std::optional<double>& value) {
  if (!value) return nullptr;
  return static_cast<std::uint64_t>(*value + 0.5);
}

}  // namespace

std::string LaneRow::state() const {
  if (view) return view->state();
  if (!error) return "unknown";
  switch (error->code) {
    case Errc::permission: return "unreadable";
    case Errc::not_found: return "stale";
    case Errc::type_mismatch: return "other layout";
    case Errc::not_supported: return "newer";
    default: break;
  }
  if (std::string_view(error->op) == "header: version") return "other version";
  if (std::string_view(error->op) == "header: content") return "no lane";
  return "corrupt";
}

Try<std::vector<LaneRow>> look_at_lanes(const std::vector<Selector>& selectors,
                                        std::chrono::nanoseconds sample, bool exact) {
  const auto listed = segment::list_segments(places());
  if (!listed) {
    Subject subject(places().shm, "list segments in");
    subject.options.places = places();
    return failed(listed.error(), subject);
  }
  std::vector<Look> looks;
  for (const segment::Listing& listing : *listed) {
    const bool wanted =
        selectors.empty() || std::ranges::any_of(selectors, [&](const Selector& selector) {
          return matches(selector, listing);
        });
    if (!wanted) continue;
    if (auto look = look_at(listing, exact)) looks.push_back(std::move(*look));
  }
  if (sample.count() > 0 && !looks.empty()) {
    const std::int64_t from = monotonic_ns();
    nap(sample);
    const double seconds = static_cast<double>(monotonic_ns() - from) / 1e9;
    for (Look& look : looks) sample_again(look, seconds);
  }
  std::vector<LaneRow> rows;
  for (Look& look : looks) rows.push_back(std::move(look.row));
  std::ranges::sort(rows, {}, [](const LaneRow& row) { return label_of(row.listing); });
  return rows;
}

std::string holder_text(const channel::EndView& end) {
  const std::string command = end.command.empty() ? command_of(end.pid) : end.command;
  return fmt::format("{}({})", command.empty() ? "pid" : printable(command), end.pid);
}

std::string end_text(const channel::EndView& end) {
  using Peer = RoleWatch::Peer;
  if (end.state != Peer::alive && end.state != Peer::dead) return "-";
  std::string text = holder_text(end);
  if (end.state == Peer::dead) text += ":dead";
  if (end.stopped) text += ":stopped";
  return text;
}

std::optional<std::int64_t> age_ns(const LaneRow& row) {
  if (!row.info || row.info->created_ns <= 0) return std::nullopt;
  // The header's stamp is wall time, for people; so is this difference.
  const std::int64_t seconds = ::time(nullptr) - row.info->created_ns / 1'000'000'000;
  return std::max<std::int64_t>(seconds, 0) * 1'000'000'000;
}

std::string owner_text(const segment::Listing& listing) {
  const passwd* user = ::getpwuid(listing.owner);
  return user != nullptr ? user->pw_name : std::to_string(listing.owner);
}

nlohmann::ordered_json to_json(const LaneRow& row) {
  using Json = nlohmann::ordered_json;
  const auto& view = row.view;
  const auto& info = row.info;
  const auto or_null = [](bool known, auto&& value) { return known ? Json(value()) : Json(); };
  Json json = {{"name", printable(row.listing.name)},
               {"kind", to_string(row.listing.backend)},
               {"where", printable(row.listing.where)},
               {"state", row.state()}};
  json["capacity_bytes"] = or_null(view.has_value(), [&] { return view->geometry.capacity; });
  json["object_bytes"] = row.listing.object_bytes;
  json["backlog_bytes"] = or_null(view.has_value(), [&] { return view->backlog_bytes; });
  json["write_pos"] = or_null(view.has_value(), [&] { return view->write_pos; });
  json["read_pos"] = or_null(view.has_value(), [&] { return view->read_pos; });
  json["exact"] = view && view->exact;
  json["in_per_s"] = count_or_null(row.in_per_s);
  json["in_bytes_per_s"] = count_or_null(row.in_bytes_per_s);
  json["out_per_s"] = count_or_null(row.out_per_s);
  json["messages_in"] = or_null(view.has_value(), [&] { return view->committed; });
  json["bytes_in"] = or_null(view.has_value(), [&] { return view->committed_bytes; });
  json["messages_out"] = or_null(view.has_value(), [&] { return view->released; });
  json["redelivered"] = or_null(view.has_value(), [&] { return view->redelivered; });
  json["full"] = or_null(view.has_value(), [&] { return view->fulls; });
  json["aborted"] = or_null(view.has_value(), [&] { return view->aborts; });
  json["producer"] = or_null(view.has_value(), [&] { return end_json(view->producer); });
  json["consumer"] = or_null(view.has_value(), [&] { return end_json(view->consumer); });
  json["type_size"] = or_null(view.has_value(), [&] { return view->geometry.type_size; });
  json["type_fingerprint"] = or_null(
      view.has_value(), [&] { return fmt::format("{:016x}", view->geometry.type_fingerprint); });
  json["granule"] = or_null(view.has_value(), [&] { return view->geometry.granule; });
  json["bell"] = or_null(view.has_value(), [&] {
    return to_string(static_cast<wait::BellKind>(view->geometry.bell));
  });
  json["mode"] = fmt::format("{:04o}", row.listing.mode & 07777);
  json["owner"] = owner_text(row.listing);
  json["sysv_id"] = or_null(row.listing.sysv_id.has_value(), [&] { return *row.listing.sysv_id; });
  json["layout"] = or_null(info.has_value(), [&] { return info->format_version; });
  json["uuid"] = or_null(info.has_value(), [&] { return to_string(info->instance); });
  json["keep"] = or_null(info.has_value(), [&] { return info->keep; });
  json["created_ns"] = or_null(info.has_value(), [&] { return info->created_ns; });
  json["error"] = or_null(row.error.has_value(), [&] {
    return Json{{"code", to_string(row.error->code)}, {"op", row.error->op}};
  });
  return json;
}

std::string json_document(const std::string& command, const std::vector<LaneRow>& rows) {
  auto channels = nlohmann::ordered_json::array();
  for (const LaneRow& row : rows) channels.push_back(to_json(row));
  const nlohmann::ordered_json body = {{"schema", 1},
                                       {"command", command},
                                       {"time_ns", monotonic_ns()},
                                       {"channels", std::move(channels)}};
  return nlohmann::ordered_json{{"slipring", body}}.dump() + "\n";
}

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
#include "transfer.h"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

namespace slipring::tools {
namespace {

const char* text_of(channel::LaneLink::Left left) noexcept {
  switch (left) {
    case channel::LaneLink::Left::kept: return "kept";
    case channel::LaneLink::Left::removed: return "removed";
    case channel::LaneLink::Left::unread: return "unread";
  }
  return "kept";
}

}  // namespace

void print_summary(const Summary& summary) {
  if (!voice().json) return;
  nlohmann::ordered_json json = {{"schema", 1},
                                 {"command", summary.command},
                                 {"name", printable(summary.name)},
                                 {"kind", to_string(summary.kind)},
                                 {"bytes", summary.tally.bytes},
                                 {"records", summary.tally.records},
                                 {"seconds", summary.seconds},
                                 {"parks", summary.parks}};
  if (summary.wakes) json["wakes"] = *summary.wakes;
  json["left"] = text_of(summary.left);
  json["exit"] = to_int(summary.exit);
  fmt::print(stderr, "{}\n", nlohmann::ordered_json{{"slipring", json}}.dump());
}

void note_difference(const LaneFlags& asked, const channel::LaneOptions& options,
                     const channel::LaneLink& link, const std::string& name) {
  if (link.created()) return;
  if (!asked.capacity.empty() && options.capacity != link.geometry().capacity) {
    note(fmt::format("{} exists with capacity {}; --capacity {} is not used", printable(name),
                     human_bytes(link.geometry().capacity), human_bytes(options.capacity)));
  }
  if (!asked.kind.empty() && options.kind != link.segment().backend()) {
    note(fmt::format("{} exists as {}; --kind {} is not used", printable(name),
                     to_string(link.segment().backend()), to_string(options.kind)));
  }
}

}  // namespace slipring::tools

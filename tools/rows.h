// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "report.h"
#include "selector.h"
#include "slipring/channel/inspect.h"
#include "slipring/manager/registry.h"
#include "slipring/segment/segment.h"

namespace slipring::tools {

/// One segment as an outsider sees it: a row of ls, the whole of stat.
struct Row {
  segment::Listing listing;
  std::optional<channel::RingView> view;  ///< Nothing: see `error`.
  std::optional<Error> error;
  std::optional<double> in_per_s;  ///< Messages committed, between two looks.
  std::optional<double> in_bytes_per_s;
  std::optional<double> out_per_s;
  std::optional<segment::HeaderInfo> info;
  std::vector<manager::RegistryRow> attached;  ///< As the registry lists it.

  /// Of the lane, or what is wrong: "corrupt", "foreign", "stale", "unreadable".
  [[nodiscard]] std::string state() const;
};

/// Looks at what matches any of `selectors` (all, when there is none), twice when `sample` is not
/// zero. Maps read-only; a segment that vanishes meanwhile is silently left out.
[[nodiscard]] Try<std::vector<Row>> look_at_rings(const std::vector<Selector>& selectors,
                                                  std::chrono::nanoseconds sample,
                                                  bool exact = false);

/// "feed(4101) producer", as the registry has it.
[[nodiscard]] std::string attached_text(const manager::RegistryRow& row);
/// "lane of 256K", "64 lanes of 64K", "ring of 256K in total order for 64 senders"
[[nodiscard]] std::string ring_text(const channel::RingShape& shape);
/// The same with its kind and its blocks: "posix lane of 256K with 32 blocks of 64K".
[[nodiscard]] std::string ring_text(const channel::RingBody& body, segment::Backend kind);
/// The senders in few words: end_text() of the one that says most, and " +7" for other living ones.
[[nodiscard]] std::string senders_text(const channel::RingView& view);
/// "feed(4101)", "feed(4101):stopped", "feed(4101):dead", or "-".
[[nodiscard]] std::string end_text(const channel::EndView& end);
/// "feed(4101)"
[[nodiscard]] std::string holder_text(const channel::EndView& end);
/// Seconds since it was made; nothing when that is not known.
[[nodiscard]] std::optional<std::int64_t> age_ns(const Row& row);
[[nodiscard]] std::string owner_text(const segment::Listing& listing);
/// The same keys in ls and stat.
[[nodiscard]] nlohmann::ordered_json to_json(const Row& row);
/// {"slipring":{"schema":1,"command":..,"time_ns":..,"channels":[..]}} on one line.
[[nodiscard]] std::string json_document(const std::string& command, const std::vector<Row>& rows);

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
#include "rows.h"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "ring_flags.h"
#include "sizes.h"
#include "slipring/base/deadline.h"
#include "stop.h"

namespace slipring::tools {
namespace {

using Peer = RoleWatch::Peer;

struct Look {
  Row row;
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
                      : Result<channel::RingView>(tl::unexpected(segment.error()));
  if (!view) {
    look.row.error = view.error();
    return look;
  }
  look.row.view = std::move(*view);
  look.mapping = std::move(*segment);
  return look;
}

// A segment without a name, found through a process that has it open.
Look look_into(segment::Segment segment, int pid, int fd, bool exact) {
  Look look;
  segment::Listing& listing = look.row.listing;
  listing.name = fmt::format("fd:{}/{}", pid, fd);
  listing.backend = segment::Backend::memfd;
  listing.where = fmt::format("/proc/{}/fd/{}", pid, fd);
  listing.info = segment.info();
  listing.object_bytes = segment.info().total_bytes;
  struct stat st {};
  if (::stat(listing.where.c_str(), &st) == 0) listing.owner = st.st_uid;
  listing.mode = segment.info().mode;
  look.row.info = segment.info();
  auto view = channel::inspect(segment, exact);
  if (view) {
    look.row.view = std::move(*view);
    look.mapping = std::move(segment);
  } else {
    look.row.error = view.error();
  }
  return look;
}

// Who is attached to each, and the segments that only their users can show.
void add_attached(std::vector<Look>& looks, bool with_nameless, bool exact) {
  const auto registry = manager::Registry(places()).look();
  if (!registry) return;
  for (const manager::RegistryRow& attached : registry->rows) {
    const auto same = [&](const Look& look) {
      return look.row.info && look.row.info->instance == attached.what.instance;
    };
    auto found = std::ranges::find_if(looks, same);
    if (found == looks.end()) {
      const bool nameless = attached.what.backend == segment::Backend::memfd &&
                            attached.holder != manager::Holder::dead;
      if (!with_nameless || !nameless || !attached.what.descriptor) continue;
      auto segment = manager::open_attached(attached, segment::OpenMode::read_only, places());
      if (!segment) continue;
      looks.push_back(look_into(std::move(*segment), static_cast<int>(attached.pid),
                                static_cast<int>(*attached.what.descriptor), exact));
      found = std::prev(looks.end());
    }
    found->row.attached.push_back(attached);
  }
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
  Row& row = look.row;
  row.in_per_s = rate(row.view->committed, now->committed, seconds);
  row.in_bytes_per_s = rate(row.view->committed_bytes, now->committed_bytes, seconds);
  row.out_per_s = rate(row.view->released, now->released, seconds);
  if (!row.view->exact) row.view = *now;
}

nlohmann::ordered_json end_json(const channel::EndView& end) {
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

nlohmann::ordered_json sender_json(const channel::SenderView& sender) {
  nlohmann::ordered_json json = {{"index", sender.index}};
  json["end"] = end_json(sender.end);
  json["backlog_bytes"] = sender.backlog_bytes;
  json["messages"] = sender.committed;
  json["bytes"] = sender.committed_bytes;
  json["aborted"] = sender.aborts;
  json["full"] = {{"found", sender.fulls},       {"waits", sender.waits},
                  {"timeouts", sender.timeouts}, {"refused", sender.refused},
                  {"stashed", sender.stashed},   {"dropped", sender.dropped}};
  json["tiers"] = {
      {"blocks", sender.blocks}, {"streams", sender.streams}, {"direct", sender.directs}};
  return json;
}

nlohmann::ordered_json pool_json(const pool::PoolAudit& pool) {
  auto classes = nlohmann::ordered_json::array();
  for (const pool::ClassCounts& of : pool.classes) {
    if (of.capacity == 0) continue;
    classes.push_back({{"block_bytes", of.block_bytes},
                       {"capacity", of.capacity},
                       {"free", of.free},
                       {"claimed", of.claimed},
                       {"lent", of.lent},
                       {"held", of.held},
                       {"orphans", of.orphans}});
  }
  return {{"classes", std::move(classes)},
          {"participants", pool.participants},
          {"exhausted", pool.exhausted},
          {"refused_references", pool.refused_references},
          {"refused_returns", pool.refused_returns},
          {"whole", pool.is_whole()}};
}

nlohmann::ordered_json count_or_null(const std::optional<double>& value) {
  if (!value) return nullptr;
  return static_cast<std::uint64_t>(*value + 0.5);
}

}  // namespace

std::string Row::state() const {
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
  if (std::string_view(error->op) == "header: content") return "no ring";
  return "corrupt";
}

Try<std::vector<Row>> look_at_rings(const std::vector<Selector>& selectors,
                                    std::chrono::nanoseconds sample, bool exact) {
  const auto listed = segment::list_segments(places());
  if (!listed) {
    Subject subject(places().shm, "list segments in");
    subject.options.places = places();
    return failed(listed.error(), subject);
  }
  std::vector<Look> looks;
  for (const Selector& selector : selectors) {
    if (selector.by != Selector::By::descriptor) continue;
    auto segment = open_selected(selector, segment::OpenMode::read_only);
    if (segment) looks.push_back(look_into(std::move(*segment), selector.pid, selector.fd, exact));
  }
  for (const segment::Listing& listing : *listed) {
    // The registry is where we look things up, and no ring; who asks for it by name is told so.
    const bool by_name = std::ranges::any_of(selectors, [&](const Selector& selector) {
      return selector.by == Selector::By::name && matches(selector, listing);
    });
    if (!by_name && listing.info && listing.info->content == manager::kContentRegistry) continue;
    const bool wanted =
        selectors.empty() || std::ranges::any_of(selectors, [&](const Selector& selector) {
          return matches(selector, listing);
        });
    if (!wanted) continue;
    if (auto look = look_at(listing, exact)) looks.push_back(std::move(*look));
  }
  add_attached(looks, selectors.empty(), exact);
  if (sample.count() > 0 && !looks.empty()) {
    const std::int64_t from = monotonic_ns();
    nap(sample);
    const double seconds = static_cast<double>(monotonic_ns() - from) / 1e9;
    for (Look& look : looks) sample_again(look, seconds);
  }
  std::vector<Row> rows;
  for (Look& look : looks) rows.push_back(std::move(look.row));
  std::ranges::sort(rows, {}, [](const Row& row) { return label_of(row.listing); });
  return rows;
}

std::string attached_text(const manager::RegistryRow& row) {
  std::string text = fmt::format("{}({}) {}", row.command.empty() ? "pid" : printable(row.command),
                                 row.pid, to_string(row.what.part));
  if (row.what.form != manager::Form::lane && row.what.part == manager::Part::producer) {
    text += fmt::format(" #{}", row.what.index);
  }
  if (row.holder != manager::Holder::alive) text += fmt::format(":{}", to_string(row.holder));
  return text;
}

std::string ring_text(const channel::RingShape& shape) {
  const std::string capacity = human_bytes(shape.capacity);
  switch (shape.form) {
    case channel::RingForm::per_producer:
      return fmt::format("{} lanes of {}", shape.senders, capacity);
    case channel::RingForm::total:
      return fmt::format("ring of {} in total order for {} senders", capacity, shape.senders);
    case channel::RingForm::lane: break;
  }
  return "lane of " + capacity;
}

std::string ring_text(const channel::RingBody& body, segment::Backend kind) {
  std::string text = fmt::format("{} {}", to_string(kind), ring_text(body.shape()));
  const auto pool = body.pool().empty() ? Result<pool::PoolGeometry>(fail(Errc::not_found))
                                        : pool::load_geometry(body.pool());
  if (!pool) return text;
  const char* joint = " with ";
  for (std::uint32_t c = 0; c < pool::kClassCount; ++c) {
    const std::uint32_t count = pool->classes[c].count;
    if (count == 0) continue;
    text += fmt::format("{}{} of {}", std::exchange(joint, " and "), counted(count, "block"),
                        human_bytes(pool::block_bytes(c)));
  }
  return text;
}

std::string senders_text(const channel::RingView& view) {
  std::string text = end_text(view.sender());
  const std::size_t living = view.living_senders();
  const bool shown = view.sender().state == RoleWatch::Peer::alive;
  if (living > (shown ? 1u : 0u)) text += fmt::format(" +{}", living - (shown ? 1 : 0));
  return text;
}

std::string holder_text(const channel::EndView& end) {
  const std::string command = end.command.empty() ? command_of(end.pid) : end.command;
  return fmt::format("{}({})", command.empty() ? "pid" : printable(command), end.pid);
}

std::string end_text(const channel::EndView& end) {
  if (end.state != Peer::alive && end.state != Peer::dead) return "-";
  std::string text = holder_text(end);
  if (end.state == Peer::dead) text += ":dead";
  if (end.stopped) text += ":stopped";
  return text;
}

std::optional<std::int64_t> age_ns(const Row& row) {
  if (!row.info || row.info->created_ns <= 0) return std::nullopt;
  // The header's stamp is wall time, for people; so is this difference.
  const std::int64_t seconds = ::time(nullptr) - row.info->created_ns / 1'000'000'000;
  return std::max<std::int64_t>(seconds, 0) * 1'000'000'000;
}

std::string owner_text(const segment::Listing& listing) {
  const passwd* user = ::getpwuid(listing.owner);
  return user != nullptr ? user->pw_name : std::to_string(listing.owner);
}

nlohmann::ordered_json to_json(const Row& row) {
  using Json = nlohmann::ordered_json;
  const std::optional<channel::RingView>& view = row.view;
  const auto& info = row.info;
  const auto or_null = [](bool known, auto&& value) { return known ? Json(value()) : Json(); };
  Json json = {{"name", printable(row.listing.name)},
               {"kind", to_string(row.listing.backend)},
               {"where", printable(row.listing.where)},
               {"state", row.state()}};
  const auto of_view = [&](auto&& get) { return view ? Json(get(*view)) : Json(); };
  using View = channel::RingView;
  json["ring"] = of_view([](const View& v) { return channel::to_string(v.shape.form); });
  json["capacity_bytes"] = of_view([](const View& v) { return v.shape.capacity; });
  json["object_bytes"] = row.listing.object_bytes;
  json["backlog_bytes"] = of_view([](const View& v) { return v.backlog_bytes; });
  json["write_pos"] = of_view([](const View& v) { return v.write_pos; });
  json["read_pos"] = of_view([](const View& v) { return v.read_pos; });
  json["exact"] = view && view->exact;
  json["in_per_s"] = count_or_null(row.in_per_s);
  json["in_bytes_per_s"] = count_or_null(row.in_bytes_per_s);
  json["out_per_s"] = count_or_null(row.out_per_s);
  json["messages_in"] = of_view([](const View& v) { return v.committed; });
  json["bytes_in"] = of_view([](const View& v) { return v.committed_bytes; });
  json["messages_out"] = of_view([](const View& v) { return v.released; });
  json["redelivered"] = of_view([](const View& v) { return v.redelivered; });
  json["full"] = of_view([](const View& v) { return v.fulls; });
  json["aborted"] = of_view([](const View& v) { return v.aborts; });
  json["producer"] = of_view([](const View& v) { return end_json(v.sender()); });
  json["consumer"] = of_view([](const View& v) { return end_json(v.consumer); });
  json["places"] = of_view([](const View& v) { return v.shape.senders; });
  json["senders"] = of_view([](const View& v) {
    Json senders = Json::array();
    for (const channel::SenderView& sender : v.senders) senders.push_back(sender_json(sender));
    return senders;
  });
  json["large"] = of_view([](const View& v) {
    return Json{{"open", v.open_messages},
                {"open_bytes", v.open_bytes},
                {"completed", v.completed},
                {"aborted", v.aborted},
                {"refused", v.faults}};
  });
  json["deaths"] = of_view([](const View& v) { return v.deaths; });
  json["blocked_by"] = or_null(view && view->blocker, [&] {
    return Json{{"sender", view->blocker->sender}, {"position", view->blocker->position}};
  });
  json["pool"] = or_null(view && view->pool, [&] { return pool_json(*view->pool); });
  json["attached"] = Json::array();
  for (const manager::RegistryRow& attached : row.attached) {
    json["attached"].push_back({{"pid", attached.pid},
                                {"command", printable(attached.command)},
                                {"part", to_string(attached.what.part)},
                                {"index", attached.what.index},
                                {"holder", to_string(attached.holder)},
                                {"since_ns", attached.since_ns}});
  }
  json["type_size"] = of_view([](const View& v) { return v.shape.schema.size; });
  json["type_fingerprint"] =
      of_view([](const View& v) { return fmt::format("{:016x}", v.shape.schema.fingerprint); });
  json["granule"] = of_view([](const View& v) { return v.shape.granule; });
  json["bell"] = of_view([](const View& v) { return to_string(v.shape.bell); });
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

std::string json_document(const std::string& command, const std::vector<Row>& rows) {
  auto channels = nlohmann::ordered_json::array();
  for (const Row& row : rows) channels.push_back(to_json(row));
  const nlohmann::ordered_json body = {{"schema", 1},
                                       {"command", command},
                                       {"time_ns", monotonic_ns()},
                                       {"channels", std::move(channels)}};
  return nlohmann::ordered_json{{"slipring", body}}.dump() + "\n";
}

}  // namespace slipring::tools

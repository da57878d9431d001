// SPDX-License-Identifier: Apache-2.0
#include "transfer.h"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "rows.h"
#include "sizes.h"
#include "slipring/base/hash.h"

namespace slipring::tools {
namespace {

const char* text_of(channel::ShmLink::Left left) noexcept {
  switch (left) {
    case channel::ShmLink::Left::kept: return "kept";
    case channel::ShmLink::Left::removed: return "removed";
    case channel::ShmLink::Left::unread: return "unread";
  }
  return "kept";
}

// Whether the ring's pool is the one that was asked for.
bool has_blocks(const channel::RingBody& body, const channel::ShmOptions& options) {
  if (!options.pool || body.pool().empty()) return !options.pool;
  const auto pool = pool::load_geometry(body.pool());
  if (!pool) return false;
  for (std::uint32_t c = 0; c < pool::kClassCount; ++c) {
    if (pool->classes[c].count != options.pool->counts[c]) return false;
  }
  return true;
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
  if (summary.dropped) json["dropped"] = *summary.dropped;
  if (summary.lost) json["lost"] = *summary.lost;
  if (summary.died) json["died"] = *summary.died;
  json["left"] = text_of(summary.left);
  json["exit"] = to_int(summary.exit);
  fmt::print(stderr, "{}\n", nlohmann::ordered_json{{"slipring", json}}.dump());
}

PeerHistory::Seen PeerHistory::look() const noexcept {
  Seen seen;
  const auto add = [&seen](const RoleRef& role) {
    const std::uint64_t word = NativeAccess::load_relaxed(role.word);
    seen.words = fnv1a(word, seen.words);
    seen.takes += RoleWord::decode(word).generation;
  };
  if (peer_ == channel::End::consumer) {
    add(body_.consumer_role());
  } else {
    for (std::uint32_t i = 0; i < body_.shape().senders; ++i) add(body_.sender_role(i));
  }
  return seen;
}

Try<channel::OnFull> full_policy(const std::string& text, const std::string& command) {
  const std::size_t colon = text.find(':');
  const std::string kind = text.substr(0, colon);
  const std::string value = colon == text.npos ? std::string() : text.substr(colon + 1);
  if (kind == "wait" && colon == text.npos) return channel::OnFull::wait();
  if (kind == "refuse" && colon == text.npos) return channel::OnFull::refuse();
  if (kind == "wait") {
    if (const auto time = parse_duration(value)) return channel::OnFull::wait_for(*time);
  }
  if (kind == "stash") {
    if (const auto size = parse_size(value); size && *size != 0) {
      return channel::OnFull::stash(static_cast<std::size_t>(*size));
    }
  }
  return usage(fmt::format("bad policy '{}' for --full", printable(text)),
               "known are wait, wait:TIME (as 5ms), refuse and stash:SIZE (as 1M)",
               command + " NAME --full wait:5ms");
}

void note_difference(const RingFlags& asked, const channel::ShmOptions& options,
                     const channel::ShmLink& link, const std::string& name) {
  if (link.created()) return;
  const channel::RingShape& shape = link.shape();
  std::string unused;
  const auto add = [&unused](bool differs, const char* option, const std::string& value) {
    if (differs && !value.empty()) unused += fmt::format(" {} {}", option, printable(value));
  };
  const auto is_lane = [](channel::RingForm form) { return form == channel::RingForm::lane; };
  // --ring says one or many; which many, --order says.
  add(is_lane(options.form) != is_lane(shape.form), "--ring", asked.ring);
  add(options.form != shape.form, "--order", asked.order);
  add(options.senders != shape.senders, "--senders", asked.senders);
  add(options.capacity != shape.capacity, "--capacity", asked.capacity);
  add(!has_blocks(link.body(), options), "--pool", asked.pool);
  add(options.kind != link.segment().backend(), "--kind", asked.kind);
  if (unused.empty()) return;
  note(fmt::format("{} exists as {}; not used:{}", printable(name),
                   ring_text(link.body(), link.segment().backend()), unused));
}

}  // namespace slipring::tools

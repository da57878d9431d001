// SPDX-License-Identifier: Apache-2.0
#include "transfer.h"

#include "rows.h"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

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
               "known are wait, wait:TIME, refuse and stash:SIZE",
               command + " NAME --full stash:1M");
}

void note_difference(const RingFlags& asked, const channel::ShmOptions& options,
                     const channel::ShmLink& link, const std::string& name) {
  if (link.created()) return;
  if (!asked.ring.empty() && options.form != link.shape().form) {
    note(fmt::format("{} exists as {}; --ring {} is not used", printable(name),
                     ring_text(link.shape()), asked.ring));
  }
  if (!asked.capacity.empty() && options.capacity != link.shape().capacity) {
    note(fmt::format("{} exists with capacity {}; --capacity {} is not used", printable(name),
                     human_bytes(link.shape().capacity), human_bytes(options.capacity)));
  }
  if (!asked.kind.empty() && options.kind != link.segment().backend()) {
    note(fmt::format("{} exists as {}; --kind {} is not used", printable(name),
                     to_string(link.segment().backend()), to_string(options.kind)));
  }
}

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
// What an entry says: from an Attachment to words, and back without believing a bit of them.
#include <algorithm>
#include <cstring>

#include "slipring/manager/registry_inl.h"
#include "slipring/segment/name.h"

namespace slipring::manager {
namespace {

using segment::Backend;

constexpr std::uint8_t kKnown = kKnowsSysvId | kKnowsDescriptor;

bool is_form(std::uint8_t value) noexcept {
  return value <= static_cast<std::uint8_t>(Form::segments);
}
bool is_part(std::uint8_t value) noexcept {
  return value >= static_cast<std::uint8_t>(Part::owner) &&
         value <= static_cast<std::uint8_t>(Part::participant);
}
bool is_backend(std::uint8_t value) noexcept {
  return value <= static_cast<std::uint8_t>(Backend::file);  // 0: none
}

// Safe in a terminal and in a table, whatever that is set to.
bool is_printable(std::string_view text) noexcept {
  return std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
}

// The bytes that `words` hold, or nothing: too many, or other than zeros behind them.
template <std::size_t kWords>
std::optional<std::string> text_of(const std::uint64_t (&words)[kWords], std::uint32_t bytes) {
  char text[sizeof words];
  std::memcpy(text, words, sizeof words);
  if (bytes > sizeof text) return std::nullopt;
  const auto is_zero = [](char c) { return c == '\0'; };
  if (!std::all_of(text + bytes, text + sizeof text, is_zero)) return std::nullopt;
  return std::string(text, bytes);
}

}  // namespace

std::string_view to_string(Form form) noexcept {
  switch (form) {
    case Form::other: return "other";
    case Form::lane: return "lane";
    case Form::lanes: return "lanes";
    case Form::total: return "total";
    case Form::blocks: return "blocks";
    case Form::segments: return "segments";
  }
  return "unknown";
}

std::string_view to_string(Part part) noexcept {
  switch (part) {
    case Part::owner: return "owner";
    case Part::producer: return "producer";
    case Part::consumer: return "consumer";
    case Part::inspector: return "inspector";
    case Part::participant: return "participant";
  }
  return "unknown";
}

std::string_view to_string(Holder holder) noexcept {
  switch (holder) {
    case Holder::alive: return "alive";
    case Holder::stopped: return "stopped";
    case Holder::dead: return "dead";
  }
  return "unknown";
}

Attachment Attachment::of(const segment::Segment& segment, Form form, Part part,
                          std::uint32_t index) {
  Attachment what;
  what.form = form;
  what.part = part;
  what.index = index;
  what.backend = segment.backend();
  what.instance = segment.info().instance;
  if (const auto id = segment.sysv_id()) what.sysv_id = static_cast<std::uint32_t>(*id);
  if (segment.backend() == Backend::memfd && segment.fd() >= 0) {
    what.descriptor = static_cast<std::uint32_t>(segment.fd());
  }
  what.name = segment.info().name;
  std::string where = segment.where();
  if (where.size() <= kMaxWhereBytes && is_printable(where)) what.where = std::move(where);
  return what;
}

namespace detail {

Result<DescriptionWords> encode_description(const Attachment& what, std::int64_t since_ns) {
  const auto form = static_cast<std::uint8_t>(what.form);
  const auto part = static_cast<std::uint8_t>(what.part);
  const auto backend = what.backend ? static_cast<std::uint8_t>(*what.backend) : std::uint8_t{0};
  if (!is_form(form)) return fail(Errc::invalid_argument, 0, "attachment: form");
  if (!is_part(part)) return fail(Errc::invalid_argument, 0, "attachment: part");
  if (!is_backend(backend) || (what.backend && backend == 0)) {
    return fail(Errc::invalid_argument, 0, "attachment: backend");
  }
  std::string name;
  if (!what.name.empty()) {
    const auto parsed = segment::Name::parse(what.name);
    if (!parsed) return tl::unexpected(parsed.error());
    name = parsed->str();
  }
  if (what.where.size() > kMaxWhereBytes) {
    return fail(Errc::invalid_argument, 0, "where: too long");
  }
  if (!is_printable(what.where)) return fail(Errc::invalid_argument, 0, "where: character");

  DescriptionWords words{};
  const unsigned known = (what.sysv_id ? kKnowsSysvId : 0u) |  //
                         (what.descriptor ? kKnowsDescriptor : 0u);
  words.what = backend | std::uint64_t{form} << 8 | std::uint64_t{part} << 16 |
               std::uint64_t{known} << 24 | std::uint64_t{what.index} << 32;
  words.instance_high = what.instance.high;
  words.instance_low = what.instance.low;
  words.handles = what.sysv_id.value_or(0) | std::uint64_t{what.descriptor.value_or(0)} << 32;
  words.since_ns = static_cast<std::uint64_t>(since_ns);
  words.lengths = name.size() | std::uint64_t{what.where.size()} << 32;
  static_assert(sizeof words.name == segment::kMaxNameBytes);
  std::memcpy(words.name, name.data(), name.size());
  std::memcpy(words.where, what.where.data(), what.where.size());
  return words;
}

Result<void> decode_description(const DescriptionWords& words, RegistryRow& row) {
  // TRUST E3: whoever writes here can compute a checksum, too.
  const auto odd = [] { return fail(Errc::corrupt, 0, "registry: description"); };
  const auto backend = static_cast<std::uint8_t>(words.what);
  const auto form = static_cast<std::uint8_t>(words.what >> 8);
  const auto part = static_cast<std::uint8_t>(words.what >> 16);
  const auto known = static_cast<std::uint8_t>(words.what >> 24);
  if (!is_backend(backend) || !is_form(form) || !is_part(part) || (known & ~kKnown) != 0) {
    return odd();
  }
  auto name = text_of(words.name, static_cast<std::uint32_t>(words.lengths));
  auto where = text_of(words.where, static_cast<std::uint32_t>(words.lengths >> 32));
  if (!name || !where || !is_printable(*where)) return odd();
  if (!name->empty()) {
    const auto parsed = segment::Name::parse(*name);
    if (!parsed || parsed->str() != *name) return odd();  // a leading '/' is never stored
  }
  Attachment& what = row.what;
  what.form = static_cast<Form>(form);
  what.part = static_cast<Part>(part);
  what.index = static_cast<std::uint32_t>(words.what >> 32);
  if (backend != 0) what.backend = static_cast<Backend>(backend);
  what.instance = {words.instance_high, words.instance_low};
  if ((known & kKnowsSysvId) != 0) what.sysv_id = static_cast<std::uint32_t>(words.handles);
  if ((known & kKnowsDescriptor) != 0) {
    what.descriptor = static_cast<std::uint32_t>(words.handles >> 32);
  }
  what.name = std::move(*name);
  what.where = std::move(*where);
  row.since_ns = static_cast<std::int64_t>(words.since_ns);
  return {};
}

std::uint64_t description_checksum(std::uint64_t role_bits,
                                   const DescriptionWords& words) noexcept {
  std::uint64_t hash = fnv1a(role_bits, kRegistryFingerprint);
  for (const std::uint64_t word :
       std::bit_cast<std::array<std::uint64_t, kDescriptionWords>>(words)) {
    hash = fnv1a(word, hash);
  }
  return hash;
}

const LivingHolders::Known* LivingHolders::find(const ProcessToken& token) const noexcept {
  const std::size_t count = std::min(added_, known_.size());
  const auto same = [&token](const Known& known) {
    const ProcessToken& t = known.token;
    return t.pid == token.pid && t.start_ticks == token.start_ticks && t.pid_ns == token.pid_ns &&
           t.time_ns == token.time_ns && t.boot_low == token.boot_low &&
           t.boot_high == token.boot_high && t.pidfd_ino == token.pidfd_ino;
  };
  const auto found = std::find_if(known_.begin(), known_.begin() + count, same);
  return found == known_.begin() + count ? nullptr : &*found;
}

const LivingHolders::Known& LivingHolders::add(const ProcessToken& token) noexcept {
  Known& known = known_[added_++ % known_.size()];
  // In another namespace the number may be of anybody.
  known = {token, token.pid_ns == self_token().pid_ns && is_stopped(token.pid)};
  return known;
}

}  // namespace detail
}  // namespace slipring::manager

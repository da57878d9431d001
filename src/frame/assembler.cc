// SPDX-License-Identifier: Apache-2.0
#include "slipring/frame/assembler.h"

#include <algorithm>
#include <new>
#include <utility>

#include "check.h"
#include "slipring/base/shared_access.h"

namespace slipring::frame {
namespace {

constexpr std::uint64_t kWindow = 64;      // ids that a source's past is remembered of
constexpr std::size_t kLeastBytes = 4096;  // of an allocation: small chunks share one
constexpr std::size_t kWorthTrimming = 4096;

struct FaultText {
  std::string_view name;
  Errc code;
  const char* op;
};
constexpr FaultText kFaultTexts[kFaults] = {
    {"gap", Errc::corrupt, "message: gap"},
    {"repeat", Errc::corrupt, "message: repeated chunk"},
    {"out_of_order", Errc::corrupt, "message: chunk out of order"},
    {"overlap", Errc::corrupt, "message: overlapping chunk"},
    {"oversized", Errc::too_large, "message: over the limit"},
    {"too_many_open", Errc::no_space, "message: too many open"},
    {"over_budget", Errc::no_space, "message: too many bytes under assembly"},
    {"no_memory", Errc::no_space, "message: no memory"},
    {"bad_check", Errc::corrupt, "message: body check"},
    {"bad_header", Errc::bad_format, "message: chunk header"},
};
static_assert(static_cast<std::size_t>(Fault::bad_header) + 1 == kFaults);

const FaultText& text_of(Fault fault) noexcept {
  return kFaultTexts[static_cast<std::size_t>(fault)];
}

/// Where a chunk stands against the one that is due; nothing: it is the one.
std::optional<Fault> misplaced(const ChunkHeader& h, std::uint32_t due_index,
                               std::uint64_t due_offset) noexcept {
  if (h.index == due_index && h.offset == due_offset) return std::nullopt;
  if (h.offset < due_offset) {
    return h.index < due_index && h.end() <= due_offset ? Fault::repeat : Fault::overlap;
  }
  if (h.index >= due_index && h.offset > due_offset) return Fault::gap;
  return Fault::out_of_order;
}

}  // namespace

std::string_view to_string(Fault fault) noexcept { return text_of(fault).name; }
Errc errc_of(Fault fault) noexcept { return text_of(fault).code; }

// --- the ids of a source -------------------------------------------------------------------------

Assembler::Ids::Past Assembler::Ids::look(std::uint64_t id) const noexcept {
  if (id > highest) return Past::never;
  const std::uint64_t age = highest - id;
  if (age >= kWindow) return Past::forgotten;
  if ((begun >> age & 1) == 0) return Past::never;
  return (dropped >> age & 1) != 0 ? Past::dropped : Past::whole;
}

// An id that nothing vouches for may not push the window past the source's true ids.
bool Assembler::Ids::is_near(std::uint64_t id) const noexcept {
  return id <= highest || id - highest <= kWindow;
}

void Assembler::Ids::begin(std::uint64_t id) noexcept {
  if (id > highest) {
    const std::uint64_t shift = id - highest;
    begun = shift < kWindow ? begun << shift : 0;
    dropped = shift < kWindow ? dropped << shift : 0;
    highest = id;
  }
  if (highest - id < kWindow) begun |= std::uint64_t{1} << (highest - id);
}

void Assembler::Ids::mark_dropped(std::uint64_t id) noexcept {
  begin(id);
  if (highest - id < kWindow) dropped |= std::uint64_t{1} << (highest - id);
}

void Assembler::Ids::mark_whole(std::uint64_t id) noexcept {
  if (highest - id < kWindow) dropped &= ~(std::uint64_t{1} << (highest - id));
}

// --- chunks --------------------------------------------------------------------------------------

tl::unexpected<Error> Assembler::fault(Fault fault) noexcept {
  last_fault_ = fault;
  ++counters_.faults[static_cast<std::size_t>(fault)];
  return fail(text_of(fault).code, 0, text_of(fault).op);
}

Assembler::Source* Assembler::source_of(std::uint64_t source, Fault& why) noexcept {
  if (const auto found = sources_.find(source); found != sources_.end()) return &found->second;
  why = Fault::too_many_open;
  if (sources_.size() >= limits_.max_sources) return nullptr;
  why = Fault::no_memory;
  try {
    return &sources_[source];
  } catch (const std::exception&) {
    return nullptr;
  }
}

std::size_t Assembler::Source::find(std::uint64_t id) const noexcept {
  const auto is_it = [id](const auto& one) { return one->of.id == id; };
  return static_cast<std::size_t>(std::find_if(open.begin(), open.end(), is_it) - open.begin());
}

Result<Step> Assembler::take(std::uint64_t source, std::span<const std::byte> record) noexcept {
  ++counters_.chunks;
  Fault why{};
  Source* const from = source_of(source, why);
  const auto chunk = decode_chunk(record);
  if (!chunk) return take_bad_header(from, source, record);
  if (from == nullptr) return fault(why);
  const std::size_t at = from->find(chunk->header.id);
  if (at < from->open.size()) return take_next(*from, at, *chunk);
  return take_unopened(*from, source, *chunk);
}

// What such a header says is no evidence; but a message of this source that it names has lost a
// chunk for sure, or will have lost it when it begins.
Result<Step> Assembler::take_bad_header(Source* from, std::uint64_t source,
                                        std::span<const std::byte> record) noexcept {
  std::uint64_t id = 0;
  if (record.size() >= kChunkIdAt + sizeof(id)) {
    NativeAccess::copy_out(&id, record.data() + kChunkIdAt, sizeof(id));
  }
  if (from == nullptr || id == 0) return fault(Fault::bad_header);
  if (const std::size_t at = from->find(id); at < from->open.size()) {
    close(*from, at, true);
  } else if (from->ids.look(id) == Ids::Past::dropped) {
    return swallow(source, id);
  } else if (from->ids.is_near(id)) {
    from->ids.mark_dropped(id);
  }
  return fault(Fault::bad_header);
}

Result<Step> Assembler::take_unopened(Source& from, std::uint64_t source,
                                      const Chunk& chunk) noexcept {
  const ChunkHeader& h = chunk.header;
  const bool is_first = h.has(chunk_flag::first);
  switch (from.ids.look(h.id)) {
    case Ids::Past::dropped: return swallow(source, h.id);
    case Ids::Past::whole: from.ids.mark_dropped(h.id); return fault(Fault::repeat);
    case Ids::Past::forgotten:
      if (!is_first) return swallow(source, h.id);
      return fault(Fault::repeat);
    case Ids::Past::never: break;
  }
  if (is_first) return take_first(from, source, chunk);
  // We may have joined in the middle of it: then this id is as good as any to start from.
  if (from.ids.highest == 0 || from.ids.is_near(h.id)) from.ids.mark_dropped(h.id);
  return fault(Fault::gap);
}

Result<Step> Assembler::take_first(Source& from, std::uint64_t source,
                                   const Chunk& chunk) noexcept {
  const ChunkHeader& h = chunk.header;
  from.ids.mark_dropped(h.id);  // until it is open or whole
  if (h.has(chunk_flag::abort)) {
    ++counters_.taken;
    ++counters_.aborted;
    return Step{Step::What::aborted, {source, h.id, 0, h.total, h.type}, 0, {}, {}};
  }
  if (mode_ != Mode::parts && h.total != kOpenEnded && h.total > limits_.max_message) {
    return fault(Fault::oversized);
  }
  const bool stays = !h.has(chunk_flag::last);
  if (stays && (from.open.size() >= limits_.max_open_per_source || open_ >= limits_.max_open)) {
    return fault(Fault::too_many_open);
  }
  try {
    auto open = std::make_unique<Open>();
    open->of = {source, h.id, 0, h.total, h.type};
    open->has_check = h.has(chunk_flag::has_check);
    open->kept.source_ = source;
    open->kept.id_ = h.id;
    open->kept.type_ = h.type;
    from.open.push_back(std::move(open));
  } catch (const std::exception&) {
    return fault(Fault::no_memory);
  }
  ++open_;
  return accept(from, from.open.size() - 1, chunk);
}

Result<Step> Assembler::take_next(Source& from, std::size_t at, const Chunk& chunk) noexcept {
  const ChunkHeader& h = chunk.header;
  const Open& open = *from.open[at];
  const bool aborts = h.has(chunk_flag::abort);
  std::optional<Fault> wrong = misplaced(h, open.next_index, open.of.so_far);
  if (h.total != open.of.total || h.type != open.of.type ||
      (!aborts && h.has(chunk_flag::has_check) != open.has_check)) {
    wrong = Fault::bad_header;
  }
  if (wrong) {
    close(from, at, true);
    return fault(*wrong);
  }
  if (!aborts) return accept(from, at, chunk);
  Step step{Step::What::aborted, open.of, open.of.so_far, {}, {}};
  close(from, at, true);
  ++counters_.taken;
  ++counters_.aborted;
  return step;
}

// The chunk is the one that is due.
Result<Step> Assembler::accept(Source& from, std::size_t at, const Chunk& chunk) noexcept {
  const ChunkHeader& h = chunk.header;
  Open& open = *from.open[at];
  if (const auto wrong = keep(from, open, chunk)) {
    close(from, at, true);
    return fault(*wrong);
  }
  open.of.so_far = h.end();
  ++open.next_index;
  Step step{Step::What::part, open.of, h.offset, {}, {}};
  if (mode_ == Mode::parts) step.body = chunk.body;
  ++counters_.taken;
  if (h.has(chunk_flag::last)) {
    step.what = Step::What::complete;
    step.message = finish(from, open);
    close(from, at, false);
    ++counters_.completed;
    counters_.completed_bytes += step.of.so_far;
  }
  if (progress_ != nullptr) progress_(progress_context_, step.of);
  return step;
}

std::optional<Fault> Assembler::keep(Source& from, Open& open, const Chunk& chunk) noexcept {
  const ChunkHeader& h = chunk.header;
  const bool checked = h.has(chunk_flag::has_check);
  if (mode_ == Mode::parts) {
    if (checked && body_check(chunk.body) != h.check) return Fault::bad_check;
    return std::nullopt;
  }
  if (h.end() > limits_.max_message) return Fault::oversized;

  auto front = std::span<const std::byte>{};
  if (mode_ == Mode::pieces) front = open.kept.append_to_tail(chunk.body);
  const auto rest = chunk.body.subspan(front.size());
  if (!rest.empty()) {
    if (const auto wrong = make_room(from, open, rest.size())) return wrong;
  }
  const auto back = open.kept.append_to_tail(rest);
  // TRUST: of our copy, which its sender can no longer change.
  if (checked && body_check(front, back) != h.check) return Fault::bad_check;
  return std::nullopt;
}

/// Room for `bytes` behind what is kept, and for more where that is likely to come: at most as
/// much again, at most what the message can still bring, at most what the budgets leave.
std::optional<Fault> Assembler::make_room(Source& from, Open& open, std::size_t bytes) noexcept {
  Message& kept = open.kept;
  const bool one_part = mode_ == Mode::assembled;
  if (one_part && kept.tail_slack() >= bytes) return std::nullopt;

  const std::uint64_t had = kept.capacity();
  const std::uint64_t base = one_part ? 0 : had;  // bytes that stay where they are
  const std::uint64_t need = (one_part ? kept.size() : 0) + bytes;
  std::uint64_t want = std::max<std::uint64_t>(one_part ? 2 * had : bytes, kLeastBytes);
  want = std::min(want, std::min(limits_.max_message, open.of.total) - base);
  want = std::max(want, need);
  const std::uint64_t free_bytes =
      std::min(limits_.max_bytes - held_bytes_, limits_.max_bytes_per_source - from.held_bytes);
  if (base + want - had > free_bytes) want = need;
  if (base + want - had > free_bytes) return Fault::over_budget;

  const auto get = [&](std::uint64_t size) {
    const auto room = static_cast<std::size_t>(size);
    return one_part ? kept.resize_only_part(room) : kept.add_part(room);
  };
  if (!get(want) && (want == need || !get(need))) return Fault::no_memory;
  held_bytes_ += kept.capacity() - had;
  from.held_bytes += kept.capacity() - had;
  return std::nullopt;
}

Message Assembler::finish(Source& from, Open& open) noexcept {
  Message& kept = open.kept;
  held_bytes_ -= kept.capacity();
  from.held_bytes -= kept.capacity();
  if (mode_ == Mode::assembled && kept.tail_slack() >= kWorthTrimming) {
    // Fails when the machine has no memory at all: the slack then stays, and does no harm.
    (void)kept.resize_only_part(static_cast<std::size_t>(kept.size()));
  }
  return std::move(kept);
}

Result<Step> Assembler::swallow(std::uint64_t source, std::uint64_t id) noexcept {
  ++counters_.swallowed;
  return Step{Step::What::swallowed, {source, id, 0, kOpenEnded, 0}, 0, {}, {}};
}

void Assembler::close(Source& from, std::size_t at, bool is_dropped) noexcept {
  Open& open = *from.open[at];
  held_bytes_ -= open.kept.capacity();
  from.held_bytes -= open.kept.capacity();
  if (is_dropped) {
    from.ids.mark_dropped(open.of.id);
  } else {
    from.ids.mark_whole(open.of.id);
  }
  std::swap(from.open[at], from.open.back());
  from.open.pop_back();
  --open_;
}

// --- the receiver's own acts ---------------------------------------------------------------------

Result<void> Assembler::refuse(std::uint64_t source, std::uint64_t id) noexcept {
  const auto found = sources_.find(source);
  const std::size_t at = found == sources_.end() ? 0 : found->second.find(id);
  if (found == sources_.end() || at == found->second.open.size()) {
    return fail(Errc::not_found, 0, "message: not open");
  }
  close(found->second, at, true);
  ++counters_.refused;
  return {};
}

std::size_t Assembler::drop(std::uint64_t source) noexcept {
  const auto found = sources_.find(source);
  if (found == sources_.end()) return 0;
  const std::size_t dropped = found->second.open.size();
  while (!found->second.open.empty()) close(found->second, found->second.open.size() - 1, true);
  sources_.erase(found);
  counters_.orphaned += dropped;
  return dropped;
}

std::size_t Assembler::list_open(std::span<OpenMessage> out) const noexcept {
  std::size_t written = 0;
  for (const auto& [number, source] : sources_) {
    for (const auto& open : source.open) {
      if (written < out.size()) out[written++] = open->of;
    }
  }
  return open_;
}

}  // namespace slipring::frame

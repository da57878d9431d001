// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <utility>

#include "slipring/base/deadline.h"
#include "slipring/ring/record_extent.h"
#include "slipring/ring/total.h"

namespace slipring::ring {

// ----------------------------------------------------------------------------------- producer

template <typename Access>
Result<TotalProducer<Access>> TotalProducer<Access>::attach(std::span<std::byte> area,
                                                            OwnerSlot slot) noexcept {
  const auto geometry = load_total_geometry<Access>(area);
  if (!geometry) return tl::unexpected(geometry.error());
  if (slot.index >= geometry->owners) return fail(Errc::invalid_argument, 0, "total: owner");
  TotalProducer producer;
  producer.geometry_ = *geometry;
  producer.view_ = TotalView(area, *geometry);
  producer.slot_ = slot;
  producer.hint_every_ = geometry->capacity / 16;
  TotalOwner& mine = producer.view_.owners[slot.index];
  producer.mine_ = &mine;
  // SYNC role.take (acquire <- release in leave_role): the counters of our predecessor.
  const RoleWord role = RoleWord::decode(Access::load_acquire(mine.role));
  if (role.state != RoleWord::State::held || role.generation != slot.generation) {
    return fail(Errc::in_use, 0, "total: not the owner");
  }
  if (const auto ok = producer.refresh_read_pos(); !ok) return tl::unexpected(ok.error());
  producer.messages_ = Access::load_relaxed(mine.messages);
  producer.bytes_ = Access::load_relaxed(mine.bytes);
  producer.aborts_ = Access::load_relaxed(mine.aborts);
  producer.fulls_ = Access::load_relaxed(mine.fulls);
  return producer;
}

template <typename Access>
tl::unexpected<Error> TotalProducer<Access>::poison(const char* why) noexcept {
  poisoned_ = true;
  return fail(Errc::corrupt, 0, why);
}

template <typename Access>
Result<void> TotalProducer<Access>::refresh_read_pos() noexcept {
  // SYNC total.reclaim (acquire <- release in TotalConsumer::tell_read):
  //   the consumer is done with all bytes below read_pos, and so is whoever wrote them before; our
  //   stores come after.
  const std::uint64_t read = Access::load_acquire(view_.control->read_pos);
  // TRUST: it only grows. How far it may lead depends on the others, whom we follow.
  if (!is_total_position(read) || read < seen_read_) return poison("total: read_pos");
  seen_read_ = read;
  return {};
}

/// A boundary to hop from: our own last one, read_pos, or the hint when it leads further.
template <typename Access>
auto TotalProducer<Access>::start() noexcept -> Result<Place> {
  seen_hint_ = Access::load_relaxed(view_.control->claim_hint);
  // TRUST: any value. Outside the lap that may be in use it is not looked at, inside it counts
  // only when its descriptor proves that a record starts there.
  const auto leads = [&] {
    return seen_hint_ > known_boundary() && is_aligned(seen_hint_, kTotalGranule);
  };
  if (leads() && seen_hint_ - seen_read_ >= view_.capacity) {
    if (const auto ok = refresh_read_pos(); !ok) return tl::unexpected(ok.error());
  }
  if (leads() && seen_hint_ - seen_read_ < view_.capacity) return Place{seen_hint_, 0, false};
  return Place{known_boundary(), 0, true};
}

/// Moves `at` to the end of the last record and takes down the old descriptor there.
/// Ends: each hop moves on, never more than a lap beyond read_pos, which then must have moved.
template <typename Access>
Result<void> TotalProducer<Access>::hop_to_frontier(Place& at) noexcept {
  for (;;) {
    // SYNC total.claim (acquire <- release in claim_granules):
    //   whoever sees a claim sees the read_pos that made room for it. So "ahead of any read_pos
    //   that we can see" is a contradiction, not a race.
    const std::uint64_t bits = Access::load_acquire(view_.descriptor(at.pos));
    const Descriptor desc = Descriptor::decode(bits);
    const std::int64_t ahead = lap_ahead(desc.lap, view_.lap(at.pos));
    if (ahead == 0 && desc.state != RecordState::none) {
      const auto end = view_.end_of(at.pos, desc);
      if (!end) return poison("total: descriptor");
      at = {*end, 0, true};
      if (at.pos - seen_read_ <= view_.capacity) continue;
      if (const auto ok = refresh_read_pos(); !ok) return ok;
      if (at.pos >= seen_read_ && at.pos - seen_read_ > view_.capacity) {
        return poison("total: records of more than a lap");
      }
    } else if (!at.proved) {  // no record starts where the hint says
      at = {known_boundary(), 0, true};
      continue;
    } else if (ahead < 0) {  // T2
      at.seen = bits;
      return {};
    } else {
      if (const auto ok = refresh_read_pos(); !ok) return ok;
      if (seen_read_ <= at.pos) return poison("total: descriptor ahead of its lap");
    }
    if (at.pos >= seen_read_) continue;
    const auto again = start();  // overtaken
    if (!again) return tl::unexpected(again.error());
    at = *again;
  }
}

/// The frontier, if `granules` fit there, padding included.
/// Errors: full, corrupt.
template <typename Access>
auto TotalProducer<Access>::find_room(std::uint64_t granules) noexcept -> Result<Place> {
  auto at = start();
  while (at) {
    if (const auto ok = hop_to_frontier(*at); !ok) return tl::unexpected(ok.error());
    const std::uint64_t to_end = view_.granules_to_lap_end(at->pos);
    const std::uint64_t need = granules <= to_end ? granules : to_end + granules;
    if (at->pos + need * kTotalGranule - seen_read_ <= view_.capacity) return at;
    if (const auto ok = refresh_read_pos(); !ok) return tl::unexpected(ok.error());
    if (at->pos < seen_read_) {  // others claimed and were consumed while we looked
      at = start();
      continue;
    }
    if (at->pos + need * kTotalGranule - seen_read_ <= view_.capacity) return at;
    return fail(Errc::full, 0, "total: claim");
  }
  return at;
}

/// The position of our new record. Padding, where it needs some, is a record of its own.
template <typename Access>
Result<std::uint64_t> TotalProducer<Access>::claim_granules(std::uint64_t granules) noexcept {
  for (;;) {
    auto at = find_room(granules);
    if (!at) return tl::unexpected(at.error());
    const std::uint64_t to_end = view_.granules_to_lap_end(at->pos);
    const bool pads = granules > to_end;
    const std::uint64_t length = pads ? to_end : granules;
    const Descriptor desc{view_.lap(at->pos), slot_.index + 1, static_cast<std::uint32_t>(length),
                          pads ? RecordState::dead : RecordState::claimed};
    // SYNC total.claim (release -> acquire in hop_to_frontier, walk_records): the linearisation
    //   point. With it go the read_pos that we saw and the role that we hold. From here to the
    //   commit the word names us and our length (D2); killed before it, nothing happened.
    // SUBTLE: success proves that at->pos still is the frontier: the next claim anywhere changes
    // this very word, and words never return (T3). A claimer stopped for an hour fails here.
    std::uint64_t found = at->seen;
    if (!Access::cas_acq_rel(view_.descriptor(at->pos), found, desc.encode())) {
      // A strong swap fails against another word only; so the loop ends when the others rest.
      if (found == at->seen) return poison("total: swap refused");
      continue;
    }
    my_pos_ = at->pos + length * kTotalGranule;
    if (pads) continue;
    // Late, lost or overwritten by a slower one: hopping heals it.
    if (at->pos - seen_hint_ >= hint_every_) [[unlikely]]
      Access::store_relaxed(view_.control->claim_hint, at->pos);
    return at->pos;
  }
}

template <typename Access>
Result<Claim> TotalProducer<Access>::try_claim(std::size_t size, bool own_line) noexcept {
  if (poisoned_) [[unlikely]]
    return fail(Errc::corrupt, 0, "total: poisoned");
  if (size > max_payload()) [[unlikely]]
    return fail(Errc::too_large, 0, "total: claim");
  if (open_.is_open) [[unlikely]]
    return fail(Errc::in_use, 0, "total: a claim is open");
  own_line = own_line || size >= kOwnLineBytes;
  const std::uint64_t granules = granules_for(size, own_line);
  const auto pos = claim_granules(granules);
  if (!pos) [[unlikely]] {
    if (pos.error().code == Errc::full) Access::store_relaxed(mine_->fulls, ++fulls_);
    return tl::unexpected(pos.error());
  }
  open_ = {*pos, payload_pos(*pos, own_line), size, granules, own_line, true};
  return Claim{{view_.data + view_.offset(open_.payload), size}};
}

template <typename Access>
void TotalProducer<Access>::resolve(RecordState state) noexcept {
  open_.is_open = false;
  const Descriptor desc{view_.lap(open_.pos), slot_.index + 1,
                        static_cast<std::uint32_t>(open_.granules), state};
  // SYNC total.publish (release -> acquire in TotalConsumer::look, TotalConsumer::has_record):
  //   header and payload are visible before the word says so. A plain store is enough: while we
  //   live nobody else changes a word that we claimed (T4). Killed before it: a reaper makes the
  //   record dead. Killed behind it: the message is there.
  Access::store_release(view_.descriptor(open_.pos), desc.encode());
}

template <typename Access>
void TotalProducer<Access>::commit(std::size_t used, std::uint16_t type, RecordKind kind) noexcept {
  if (!open_.is_open) [[unlikely]]
    return;
  used = std::min<std::size_t>(used, open_.size);
  const std::uint8_t flags = open_.own_line ? RecordHeader::kOwnLine : std::uint8_t{0};
  // The room stays as claimed, others start behind it; the header has the exact length.
  Access::store_relaxed(view_.header(open_.pos),
                        RecordHeader{static_cast<std::uint32_t>(used), type, kind, flags}.encode());
  resolve(RecordState::committed);
  Access::store_relaxed(mine_->messages, ++messages_);
  Access::store_relaxed(mine_->bytes, bytes_ += used);
}

template <typename Access>
void TotalProducer<Access>::abort() noexcept {
  if (!open_.is_open) return;
  resolve(RecordState::dead);
  Access::store_relaxed(mine_->aborts, ++aborts_);
}

template <typename Access>
Result<void> TotalProducer<Access>::try_send(std::span<const std::byte> message,
                                             std::uint16_t type) noexcept {
  const auto claim = try_claim(message.size());
  if (!claim) return tl::unexpected(claim.error());
  Access::copy_in(claim->payload.data(), message.data(), message.size());
  commit(message.size(), type);
  return {};
}

template <typename Access>
bool TotalProducer<Access>::has_room(std::size_t size, bool own_line) noexcept {
  // What is not a matter of room, the claim will say.
  if (poisoned_ || open_.is_open || size > max_payload()) return true;
  const auto at = find_room(granules_for(size, own_line || size >= kOwnLineBytes));
  return at || at.error().code != Errc::full;
}

template <typename Access>
std::uint64_t TotalProducer<Access>::approx_backlog() noexcept {
  if (poisoned_ || !refresh_read_pos()) return 0;
  return my_pos_ > seen_read_ ? my_pos_ - seen_read_ : 0;
}

template <typename Access>
void TotalProducer<Access>::set_space_wanted() noexcept {
  Access::store_relaxed(view_.control->space_wanted, 1);
}

// ----------------------------------------------------------------------------------- consumer

template <typename Access>
Result<TotalConsumer<Access>> TotalConsumer<Access>::attach(std::span<std::byte> area,
                                                            Predecessor before,
                                                            TotalTuning tuning) noexcept {
  const auto geometry = load_total_geometry<Access>(area);
  if (!geometry) return tl::unexpected(geometry.error());
  TotalConsumer consumer;
  consumer.geometry_ = *geometry;
  consumer.view_ = TotalView(area, *geometry);
  // Padding and record need half a lap: told later, an empty ring could be full.
  consumer.tell_every_ = geometry->capacity >> std::clamp(tuning.tell_read_shift, 2u, 63u);
  if (const auto ok = consumer.recover(before); !ok) return tl::unexpected(ok.error());
  return consumer;
}

template <typename Access>
Result<void> TotalConsumer<Access>::recover(Predecessor before) noexcept {
  const TotalControl& told = *view_.control;
  const std::uint64_t read = Access::load_relaxed(told.read_pos);
  if (!is_total_position(read)) return fail(Errc::corrupt, 0, "total: read_pos");
  my_read_ = peeked_to_ = told_read_ = redeliver_to_ = read;
  renewed_lap_ = view_.lap(read);
  const bool before_counts = Access::load_relaxed(told.before_pos) == read;  // R7
  messages_ = told_messages_ =
      Access::load_relaxed(before_counts ? told.before_messages : told.messages);
  redelivered_ = told_redelivered_ =
      Access::load_relaxed(before_counts ? told.before_redelivered : told.redelivered);
  // R8: a predecessor that left in order may itself have come behind one that died.
  const std::uint64_t repeats_to = Access::load_relaxed(told.repeats_to);
  const bool all = before == Predecessor::dead;
  if (!all && repeats_to <= read) return {};
  std::uint64_t repeats = 0;
  const auto end = walk_records<Access>(
      view_, read, [&](std::uint64_t pos, std::uint64_t, const Descriptor& desc) {
        if (!all && pos >= repeats_to) return false;
        if (desc.state == RecordState::committed) ++repeats;
        return desc.state != RecordState::claimed;  // nobody has seen that one, nor any behind it
      });
  if (!end) return tl::unexpected(end.error());
  redeliver_to_ = *end;
  redeliver_last_ = messages_ + repeats;
  if (all) Access::store_relaxed(view_.control->repeats_to, redeliver_to_);
  return {};
}

template <typename Access>
tl::unexpected<Error> TotalConsumer<Access>::poison(const char* why) noexcept {
  poisoned_ = true;
  return fail(Errc::corrupt, 0, why);
}

template <typename Access>
Result<Record> TotalConsumer<Access>::read_record(std::uint64_t pos, const Descriptor& desc,
                                                  std::uint64_t number) noexcept {
  // Stored before the descriptor that we acquired, so it is there.
  const auto header = RecordHeader::decode(Access::load_relaxed(view_.header(pos)));
  const auto extent =
      extent_of(header, pos, {view_.capacity, kTotalGranule, geometry_.max_payload()});
  const std::uint64_t end = pos + desc.granules * kTotalGranule;
  // A commit shorter than its claim leaves room behind the record, never a record behind its room.
  if (!extent || header.kind == RecordKind::padding || extent->end > end) [[unlikely]]
    return poison("total: record header");
  Record record;
  record.payload = {view_.data + view_.offset(extent->payload), header.size};
  record.end = end;
  record.number = number;
  record.source = desc.owner_id - 1;
  record.type = header.type;
  record.kind = header.kind;
  record.redelivered = end - my_read_ <= redeliver_to_ - my_read_ && redeliver_to_ > my_read_;
  return record;
}

template <typename Access>
Result<Record> TotalConsumer<Access>::look(std::uint64_t& pos, std::uint64_t number) noexcept {
  if (poisoned_) [[unlikely]]
    return fail(Errc::corrupt, 0, "total: poisoned");
  is_blocked_ = false;
  // T1: all that can be outstanding is one lap. Descriptors that lead further are a lie.
  while (pos - my_read_ <= view_.capacity) {
    // SYNC total.publish (acquire <- release in TotalProducer::resolve): a committed word says that
    //   header and payload are complete.
    // SYNC total.reap (acquire <- release in resolve_claims): a dead one, that nobody fills it.
    const std::uint64_t bits = Access::load_acquire(view_.descriptor(pos));
    const Descriptor desc = Descriptor::decode(bits);
    const std::int64_t ahead = lap_ahead(desc.lap, view_.lap(pos));
    if (ahead < 0) return fail(Errc::empty, 0, "total: peek");  // T2
    const auto end = view_.end_of(pos, desc);
    if (ahead > 0 || desc.state == RecordState::none || !end) [[unlikely]]
      return poison("total: descriptor");
    if (desc.state == RecordState::claimed) {
      if (blocked_.position != pos) blocked_ = {0, pos, 0};
      blocked_.owner = desc.owner_id - 1;
      is_blocked_ = true;
      return fail(Errc::empty, 0, "total: blocked");
    }
    if (desc.state == RecordState::committed) return read_record(pos, desc, number);
    pos = *end;
  }
  return poison("total: records of more than a lap");
}

template <typename Access>
Result<Record> TotalConsumer<Access>::try_peek() noexcept {
  std::uint64_t pos = my_read_;
  auto record = look(pos, messages_ + 1);
  if (!record && record.error().code == Errc::corrupt) return record;
  my_read_ = pos;  // dead records in front of everything are done with
  peeked_to_ = std::max(peeked_to_, record ? record->end : pos);
  return record;
}

template <typename Access>
Result<std::size_t> TotalConsumer<Access>::peek_many(std::span<Record> out) noexcept {
  if (out.empty()) return 0;
  const auto first = try_peek();
  if (!first) return tl::unexpected(first.error());
  out[0] = *first;
  std::uint64_t pos = first->end;
  std::size_t found = 1;
  while (found < out.size()) {
    const auto record = look(pos, messages_ + 1 + found);
    if (!record) break;
    out[found++] = *record;
    pos = record->end;
  }
  is_blocked_ = false;
  peeked_to_ = std::max(peeked_to_, out[found - 1].end);
  return found;
}

template <typename Access>
bool TotalConsumer<Access>::has_record() const noexcept {
  if (poisoned_) return true;
  // SYNC total.publish (acquire <- release in TotalProducer::resolve): decides not to park. A dead
  //   record counts, too: its room has to be given back.
  const auto desc = Descriptor::decode(Access::load_acquire(view_.descriptor(my_read_)));
  return lap_ahead(desc.lap, view_.lap(my_read_)) >= 0 && desc.state != RecordState::claimed;
}

template <typename Access>
std::optional<BlockedBy> TotalConsumer<Access>::blocked_by() noexcept {
  if (!is_blocked_) return std::nullopt;
  // The clock is read for whoever waits long enough to ask, not while records flow.
  if (blocked_.since_ns == 0) blocked_.since_ns = monotonic_ns();
  return blocked_;
}

template <typename Access>
bool TotalConsumer<Access>::release(const Record& record) noexcept {
  // Released before, or not ours: nothing to give back.
  if (record.end - my_read_ > peeked_to_ - my_read_ || record.end == my_read_) [[unlikely]]
    return false;
  if (messages_ < redeliver_last_) [[unlikely]]
    redelivered_ += std::min(record.number, redeliver_last_) - messages_;
  my_read_ = record.end;
  messages_ = record.number;
  if (my_read_ - told_read_ >= tell_every_) return tell_read();
  return false;
}

template <typename Access>
bool TotalConsumer<Access>::tell_read() noexcept {
  if (my_read_ == told_read_) return false;
  TotalControl& mine = *view_.control;
  Access::store_relaxed(mine.before_messages, told_messages_);  // R7, as in the lane
  Access::store_relaxed(mine.before_redelivered, told_redelivered_);
  Access::store_release(mine.before_pos, told_read_);
  Access::store_release(mine.messages, messages_);
  Access::store_release(mine.redelivered, redelivered_);
  // SYNC total.reclaim (release -> acquire in TotalProducer::refresh_read_pos, walk_records,
  //   resolve_claims): our last read of the bytes below comes before anyone's first write over
  //   them, and the word of each record below is resolved.
  Access::store_release(mine.read_pos, my_read_);
  told_read_ = my_read_;
  told_messages_ = messages_;
  told_redelivered_ = redelivered_;
  renew_one();
  return true;
}

/// T6: inner granules of long records keep their old words for many laps. One in each lap is looked
/// at, so none gets older than kRenewAge plus as many laps as there are granules.
template <typename Access>
void TotalConsumer<Access>::renew_one() noexcept {
  const std::uint64_t lap = view_.lap(my_read_);
  if (lap == renewed_lap_) [[likely]]
    return;
  renewed_lap_ = lap;
  auto& word = view_.descriptor(lap * kTotalGranule);  // in turn; the successor goes on with it
  std::uint64_t bits = Access::load_relaxed(word);
  if (lap_ahead(lap, Descriptor::decode(bits).lap) <= kRenewAge) return;
  // Younger than what any producer looks at here, older than what it may claim: a claim that loses
  // against this swap looks again and finds the frontier where it was.
  const Descriptor young{lap - 1, 0, 0, RecordState::none};
  static_cast<void>(Access::cas_acq_rel(word, bits, young.encode()));
}

template <typename Access>
bool TotalConsumer<Access>::space_wanted_seen() noexcept {
  TotalControl& control = *view_.control;
  if (Access::load_relaxed(control.space_wanted) == 0) [[likely]]
    return false;
  // Cleared first: who sets it from now on either finds the told room, or is rung next time.
  Access::store_relaxed(control.space_wanted, 0);
  // SYNC gate.open (release -> acquire in GateSleeper::park_unless): the room that was told is seen
  //   by whoever is woken.
  Access::add_release(control.space_seq, 1);
  return true;
}

template <typename Access>
std::uint64_t TotalConsumer<Access>::approx_backlog() const noexcept {
  const std::uint64_t hint = Access::load_relaxed(view_.control->claim_hint);
  return hint - my_read_ <= view_.capacity ? hint - my_read_ : 0;
}

}  // namespace slipring::ring

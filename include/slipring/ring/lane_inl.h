// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cassert>
#include <utility>

#include "slipring/ring/lane.h"
#include "slipring/ring/record_extent.h"

namespace slipring::ring {

template <typename Access>
Result<LaneGeometry> load_geometry(std::span<std::byte> area) noexcept {
  if (area.size() < kLaneAreaBytes) return fail(Errc::bad_format, 0, "lane: area too small");
  const auto& side = *reinterpret_cast<const LaneProducerSide*>(area.data());
  // SYNC lane.join (acquire <- release in format_producer_area):
  //   geometry and the zeroed data area are visible before the magic is.
  if (Access::load_acquire(side.magic) != kLaneProducerMagic) {
    return fail(Errc::bad_format, 0, "lane: producer magic");
  }
  const std::uint64_t geometry = Access::load_relaxed(side.geometry);
  const std::uint64_t data_offset = Access::load_relaxed(side.data_offset);
  const std::uint64_t limits = Access::load_relaxed(side.limits);
  const std::uint64_t shape = Access::load_relaxed(side.type_shape);
  const std::uint64_t lg_capacity = (geometry >> 32) & 0xff;
  const std::uint64_t lg_granule = (geometry >> 40) & 0xff;
  if (static_cast<std::uint32_t>(geometry) != kLaneVersion) {
    return fail(Errc::bad_format, 0, "lane: version");
  }
  // TRUST: shifted only after the range is known.
  if (lg_capacity > 30 || lg_granule > 6) return fail(Errc::bad_format, 0, "lane: geometry");
  LaneGeometry g;
  g.capacity = std::uint64_t{1} << lg_capacity;
  g.granule = std::uint32_t{1} << lg_granule;
  g.bell = static_cast<std::uint8_t>(geometry >> 48);
  g.lane_id = Access::load_relaxed(side.lane_id);
  g.type_fingerprint = Access::load_relaxed(side.type_fingerprint);
  g.type_size = static_cast<std::uint32_t>(shape);
  g.type_align = static_cast<std::uint32_t>(shape >> 32);
  if (!check_geometry(g) || data_offset != kLaneAreaBytes || limits != g.max_payload() ||
      area.size() < producer_area_bytes(g.capacity)) {
    return fail(Errc::bad_format, 0, "lane: geometry");
  }
  return g;
}

namespace detail {

/// Checks both areas against each other; the part of attaching that both roles share.
template <typename Access>
Result<LaneGeometry> load_both_areas(LaneAreas areas) noexcept {
  if (areas.consumer.size() < kLaneAreaBytes) {
    return fail(Errc::bad_format, 0, "lane: area too small");
  }
  auto geometry = load_geometry<Access>(areas.producer);
  if (!geometry) return geometry;
  const auto& side = *reinterpret_cast<const LaneConsumerSide*>(areas.consumer.data());
  // SYNC lane.join (acquire <- release in format_consumer_area): as for the producer's area.
  if (Access::load_acquire(side.magic) != kLaneConsumerMagic) {
    return fail(Errc::bad_format, 0, "lane: consumer magic");
  }
  if (Access::load_relaxed(side.version) != kLaneVersion) {
    return fail(Errc::bad_format, 0, "lane: version");
  }
  if (Access::load_relaxed(side.lane_id) != geometry->lane_id) {
    return fail(Errc::bad_format, 0, "lane: areas of two lanes");
  }
  return geometry;
}

}  // namespace detail

// ---------------------------------------------------------------------------------- producer

template <typename Access>
Result<LaneProducer<Access>> LaneProducer<Access>::attach(LaneAreas areas, Predecessor before,
                                                          LaneTuning tuning) noexcept {
  const auto geometry = detail::load_both_areas<Access>(areas);
  if (!geometry) return tl::unexpected(geometry.error());
  LaneProducer lane;
  lane.geometry_ = *geometry;
  lane.data_ = areas.producer.data() + kLaneAreaBytes;
  lane.capacity_ = geometry->capacity;
  lane.mask_ = geometry->capacity - 1;
  lane.max_payload_ = geometry->max_payload();
  lane.granule_ = geometry->granule;
  // A successor walks from the told write_pos, so the words from there on must stay: what is
  // untold (1/8), a group (1/2) and what is cleared ahead (1/4) fit in one lap together.
  lane.tell_every_ = geometry->capacity >> std::clamp(tuning.tell_write_shift, 3u, 63u);
  lane.zero_ahead_ = std::min<std::uint64_t>(tuning.zero_ahead_bytes, geometry->capacity / 4);
  lane.mine_ = reinterpret_cast<LaneProducerSide*>(areas.producer.data());
  lane.peer_ = reinterpret_cast<const LaneConsumerSide*>(areas.consumer.data());
  if (const auto ok = lane.recover(before); !ok) return tl::unexpected(ok.error());
  return lane;
}

template <typename Access>
Result<void> LaneProducer<Access>::recover(Predecessor before) noexcept {
  const std::uint64_t told = Access::load_relaxed(mine_->write_pos);
  // SYNC lane.reclaim (acquire <- release in LaneConsumer::tell_read): see try_claim.
  const std::uint64_t read = Access::load_acquire(peer_->read_pos);
  if (!is_aligned(told, granule_) || told > kMaxPosition) {
    return fail(Errc::corrupt, 0, "lane: write_pos");
  }
  // write_pos is told lazily and read_pos may have passed it; the words between are still there,
  // since only we would write over them. So the walk starts at write_pos and counts exactly.
  const auto walked =
      walk_committed<Access>(data_, LaneShape{capacity_, granule_, max_payload_}, told);
  if (!walked) return tl::unexpected(walked.error());
  if (read > walked->frontier || walked->frontier - read > capacity_) {  // TRUST R1
    return fail(Errc::corrupt, 0, "lane: read_pos");
  }
  my_write_ = walked->frontier;
  seen_read_ = read;
  told_write_ = told;
  // R7: a predecessor killed in tell_write() leaves counters of a position that it never told.
  const bool before_counts = Access::load_relaxed(mine_->before_pos) == told;
  told_messages_ = Access::load_relaxed(before_counts ? mine_->before_messages : mine_->messages);
  told_bytes_ = Access::load_relaxed(before_counts ? mine_->before_bytes : mine_->bytes);
  untold_ = walked->messages * kOneMessage + walked->bytes;
  aborts_ = Access::load_relaxed(mine_->aborts);
  fulls_ = Access::load_relaxed(mine_->fulls);
  // A predecessor may have left half a payload or a withheld group behind the frontier; only a
  // lane that nobody wrote to yet is known to be zero.
  clean_to_ = before == Predecessor::none && my_write_ == 0 ? capacity_ : my_write_ + kWordBytes;
  return {};
}

template <typename Access>
auto LaneProducer<Access>::place(std::size_t size, bool own_line) const noexcept -> Place {
  std::uint64_t pos = my_write_;
  std::uint64_t payload = payload_pos(pos, own_line);
  std::uint64_t end = align_up(payload + size, granule_);
  const std::uint64_t to_lap_end = capacity_ - (pos & mask_);
  if (end - pos > to_lap_end) {  // R4
    pos += to_lap_end;
    payload = payload_pos(pos, own_line);
    end = align_up(payload + size, granule_);
  }
  return {pos, payload, end};
}

template <typename Access>
Result<void> LaneProducer<Access>::refresh_read_pos() noexcept {
  if (poisoned_) return fail(Errc::corrupt, 0, "lane: read_pos");
  // SYNC lane.reclaim (acquire <- release in LaneConsumer::tell_read):
  //   the consumer is done with all bytes below read_pos; our stores come after its reads.
  const std::uint64_t read = Access::load_acquire(peer_->read_pos);
  // TRUST R1 R2: a read_pos that fell back, or passed the frontier, shows as an advance larger
  // than what was outstanding. Of an open group nothing can have been read yet.
  const std::uint64_t frontier = group_.is_open ? group_.first_pos : my_write_;
  if (read - seen_read_ > frontier - seen_read_) {
    poisoned_ = true;
    seen_read_ = frontier - capacity_;  // no claim finds room again, so all of them end here
    claim_to_ = 0;
    return fail(Errc::corrupt, 0, "lane: read_pos");
  }
  seen_read_ = read;
  return {};
}

template <typename Access>
inline std::byte* LaneProducer<Access>::claim_plain(std::size_t size, bool own_line) noexcept {
  own_line = own_line || size >= kOwnLineBytes;
  const std::uint64_t payload = payload_pos(my_write_, own_line);
  const std::uint64_t end = align_up(payload + size, granule_);
  if (size > max_payload_ || end > claim_to_ || open_.is_open()) [[unlikely]]
    return nullptr;
  open_.set(payload, size, own_line);
  return data_ + (payload & mask_);
}

template <typename Access>
inline Result<Claim> LaneProducer<Access>::try_claim(std::size_t size, bool own_line) noexcept {
  std::byte* const payload = claim_plain(size, own_line);
  if (payload == nullptr) [[unlikely]]
    return claim_slowly(size, own_line || size >= kOwnLineBytes);
  return Claim{{payload, size}};
}

// What the fast path has no room for: a new lap, a look at read_pos, a group, and every refusal.
template <typename Access>
Result<Claim> LaneProducer<Access>::claim_slowly(std::size_t size, bool own_line) noexcept {
  if (size > max_payload_) return fail(Errc::too_large, 0, "lane: claim");
  if (open_.is_open()) return fail(Errc::in_use, 0, "lane: a claim is open");
  const Place at = place(size, own_line);
  // R3: the zero word behind the record needs room, too.
  if (at.end + kWordBytes - seen_read_ > capacity_) {
    if (const auto ok = refresh_read_pos(); !ok) return tl::unexpected(ok.error());
    if (at.end + kWordBytes - seen_read_ > capacity_) {
      ++fulls_;
      return fail(Errc::full, 0, "lane: claim");
    }
  }
  std::uint64_t plain_to = std::min((my_write_ | mask_) + 1, seen_read_ + capacity_ - kWordBytes);
  // The first record of a group always fits: with padding it may need a little more than half.
  if (group_.is_open) {
    const std::uint64_t half = group_.first_pos + capacity_ / 2;
    if (group_.first_header != 0 && at.end > half) return fail(Errc::full, 0, "lane: group");
    plain_to = std::min(plain_to, half);
  }
  claim_to_ = plain_to;
  open_.padding = at.pos - my_write_;
  open_.set(at.payload, size, own_line);
  return Claim{{data_ + (at.payload & mask_), size}};
}

template <typename Access>
inline void LaneProducer<Access>::commit(std::size_t used, std::uint16_t type,
                                         RecordKind kind) noexcept {
  // Our own mistake, never a peer's: such a record would poison the lane for its consumer.
  assert(kind != RecordKind::none && kind != RecordKind::padding);
  if (!open_.is_open()) [[unlikely]]
    return;
  used = std::min<std::size_t>(used, open_.size());
  const std::uint64_t end = align_up(open_.payload + used, granule_);
  if (used < open_.size()) clean_to_ = std::min(clean_to_, end);  // the rest may be dirty
  const std::uint8_t flags = open_.own_line() ? RecordHeader::kOwnLine : std::uint8_t{0};
  open_.bits = 0;
  publish(my_write_ + open_.padding, end, {static_cast<std::uint32_t>(used), type, kind, flags});
}

template <typename Access>
inline void LaneProducer<Access>::publish(std::uint64_t pos, std::uint64_t end,
                                          const RecordHeader& record) noexcept {
  make_clean(end);  // R3
  std::uint64_t first = record.encode();
  if (pos != my_write_) [[unlikely]] {
    // Padding and record appear together: of what is published at once, the first word is last.
    Access::store_relaxed(header(pos), first);
    const auto gap = static_cast<std::uint32_t>(pos - my_write_);
    first = RecordHeader{gap, 0, RecordKind::padding, 0}.encode();
    open_.padding = 0;
  }
  const std::uint64_t at = my_write_;
  my_write_ = end;
  untold_ += kOneMessage + record.size;
  if (group_.is_open) {
    if (group_.first_header == 0) {
      group_.first_header = first;  // withheld
    } else {
      Access::store_relaxed(header(at), first);
    }
    return;
  }
  // SYNC lane.publish (release -> acquire in LaneConsumer::look, walk_committed):
  //   payload, inner headers and the zero behind the record are visible before this word is
  //   non-zero. Killed before it: nothing happened. Killed behind it: the message is there.
  Access::store_release(header(at), first);
  if (end - told_write_ >= tell_every_) [[unlikely]]
    tell_write();
  // Off the critical path: the lines that small records go to next become ours, and clean, before
  // the next one needs them. A large record is better off taking its lines as it is written.
  if (record.size <= kSmallBytes && clean_to_ - end < zero_ahead_ / 2) clean_ahead();
}

template <typename Access>
void LaneProducer<Access>::clean_ahead() noexcept {
  const std::uint64_t to = std::min(my_write_ + zero_ahead_, seen_read_ + capacity_);
  if (to <= clean_to_) return;
  zero_range(clean_to_, to);
  clean_to_ = to;
}

template <typename Access>
void LaneProducer<Access>::abort() noexcept {
  if (!open_.is_open()) return;
  open_ = {};
  ++aborts_;
  // The caller may have written into the span: behind the next header word nothing is known.
  clean_to_ = std::min(clean_to_, my_write_ + kWordBytes);
}

template <typename Access>
Result<void> LaneProducer<Access>::begin_group() noexcept {
  if (open_.is_open() || group_.is_open) return fail(Errc::in_use, 0, "lane: begin_group");
  group_ = {my_write_, 0, untold_, true};
  claim_to_ = 0;  // the next claim finds the group's own limit
  return {};
}

template <typename Access>
void LaneProducer<Access>::end_group() noexcept {
  if (!group_.is_open) return;
  if (open_.is_open()) abort();
  group_.is_open = false;
  if (group_.first_header == 0) return;
  // SYNC lane.publish (release -> acquire in LaneConsumer::look, walk_committed):
  //   the later headers of the group were stored before this one, so all of it appears at once.
  Access::store_release(header(group_.first_pos), group_.first_header);
  if (my_write_ - told_write_ >= tell_every_) tell_write();
}

template <typename Access>
void LaneProducer<Access>::abort_group() noexcept {
  if (!group_.is_open) return;
  if (open_.is_open()) abort();
  group_.is_open = false;
  aborts_ += (untold_ - group_.untold) / kOneMessage;
  untold_ = group_.untold;
  my_write_ = group_.first_pos;
  claim_to_ = 0;  // it may lie a lap ahead of where we are again
  clean_to_ = std::min(clean_to_, my_write_ + kWordBytes);
}

template <typename Access>
inline bool LaneProducer<Access>::send_plain(std::span<const std::byte> message,
                                             std::uint16_t type) noexcept {
  const bool own_line = message.size() >= kOwnLineBytes;
  const std::uint64_t payload = payload_pos(my_write_, own_line);
  const std::uint64_t end = align_up(payload + message.size(), granule_);
  // As claim_plain and commit, without a claim to remember in between.
  if (message.size() > max_payload_ || end > claim_to_ || open_.is_open()) [[unlikely]]
    return false;
  Access::copy_in(data_ + (payload & mask_), message.data(), message.size());
  const std::uint8_t flags = own_line ? RecordHeader::kOwnLine : std::uint8_t{0};
  publish(my_write_, end,
          {static_cast<std::uint32_t>(message.size()), type, RecordKind::data, flags});
  return true;
}

template <typename Access>
Result<void> LaneProducer<Access>::try_send(std::span<const std::byte> message,
                                            std::uint16_t type) noexcept {
  if (send_plain(message, type)) [[likely]]
    return {};
  const auto claim = try_claim(message.size());
  if (!claim) return tl::unexpected(claim.error());
  Access::copy_in(claim->payload.data(), message.data(), message.size());
  commit(message.size(), type);
  return {};
}

template <typename Access>
bool LaneProducer<Access>::has_room(std::size_t size, bool own_line) noexcept {
  if (size > max_payload_ || open_.is_open()) return true;  // the claim will say why not
  const Place at = place(size, own_line || size >= kOwnLineBytes);
  if (at.end + kWordBytes - seen_read_ <= capacity_) return true;
  if (!refresh_read_pos()) return true;  // the claim will say so
  return at.end + kWordBytes - seen_read_ <= capacity_;
}

template <typename Access>
std::uint64_t LaneProducer<Access>::want_pos(std::size_t size) const noexcept {
  const Place at = place(size, size >= kOwnLineBytes);
  const std::uint64_t outstanding = my_write_ - seen_read_;
  const std::uint64_t needed = at.end + kWordBytes - seen_read_ > capacity_
                                   ? at.end + kWordBytes - seen_read_ - capacity_
                                   : 0;
  return seen_read_ + std::min(outstanding, std::max(needed, capacity_ / 4));
}

template <typename Access>
void LaneProducer<Access>::tell_write() noexcept {
  if (group_.is_open) return;  // what is withheld does not exist yet
  // R7: what belongs to the old position is put aside before it is overwritten; release, so that
  // the stores keep this order for whoever finds us killed between two of them.
  Access::store_relaxed(mine_->before_messages, told_messages_);
  Access::store_relaxed(mine_->before_bytes, told_bytes_);
  Access::store_release(mine_->before_pos, told_write_);
  told_messages_ = messages();
  told_bytes_ = bytes();
  untold_ = 0;
  Access::store_release(mine_->messages, told_messages_);
  Access::store_release(mine_->bytes, told_bytes_);
  Access::store_relaxed(mine_->aborts, aborts_);
  Access::store_relaxed(mine_->fulls, fulls_);
  // SYNC lane.tell_write (release -> acquire in LaneConsumer::approx_backlog and inspect):
  //   whoever sees this position finds the commit words below it in place.
  Access::store_release(mine_->write_pos, my_write_);
  told_write_ = my_write_;
}

template <typename Access>
inline void LaneProducer<Access>::make_clean(std::uint64_t end) noexcept {
  if (clean_to_ >= end + kWordBytes) [[likely]]
    return;
  Access::store_relaxed(header(end), 0);
  clean_to_ = end + kWordBytes;
}

// Never from a line's start: that would erase a record. Never beyond what read_pos gave us.
template <typename Access>
void LaneProducer<Access>::zero_range(std::uint64_t from, std::uint64_t to) noexcept {
  const std::uint64_t first = std::min(to - from, capacity_ - (from & mask_));
  Access::zero(data_ + (from & mask_), first);
  Access::zero(data_, to - from - first);
}

// ---------------------------------------------------------------------------------- consumer

template <typename Access>
Result<LaneConsumer<Access>> LaneConsumer<Access>::attach(LaneAreas areas, Predecessor before,
                                                          LaneTuning tuning) noexcept {
  const auto geometry = detail::load_both_areas<Access>(areas);
  if (!geometry) return tl::unexpected(geometry.error());
  LaneConsumer lane;
  lane.geometry_ = *geometry;
  lane.window_.data = areas.producer.data() + kLaneAreaBytes;
  lane.window_.mask = geometry->capacity - 1;
  lane.window_.max_payload = geometry->max_payload();
  lane.window_.granule = geometry->granule;
  // Padding, record and next header need half a lap: told later, an empty lane could be full.
  lane.tell_every_ = geometry->capacity >> std::clamp(tuning.tell_read_shift, 2u, 63u);
  lane.mine_ = reinterpret_cast<LaneConsumerSide*>(areas.consumer.data());
  lane.peer_ = reinterpret_cast<const LaneProducerSide*>(areas.producer.data());
  if (const auto ok = lane.recover(before); !ok) return tl::unexpected(ok.error());
  return lane;
}

template <typename Access>
Result<void> LaneConsumer<Access>::recover(Predecessor before) noexcept {
  const std::uint64_t read = Access::load_relaxed(mine_->read_pos);
  if (!is_aligned(read, window_.granule) || read > kMaxPosition) {
    return fail(Errc::corrupt, 0, "lane: read_pos");
  }
  my_read_ = peeked_to_ = told_read_ = window_.redeliver_to = read;
  const bool before_counts = Access::load_relaxed(mine_->before_pos) == read;  // R7
  messages_ = told_messages_ =
      Access::load_relaxed(before_counts ? mine_->before_messages : mine_->messages);
  redelivered_ = told_redelivered_ =
      Access::load_relaxed(before_counts ? mine_->before_redelivered : mine_->redelivered);
  // R8: a predecessor that left in order may itself have come behind one that died.
  const std::uint64_t repeats_to = Access::load_relaxed(mine_->repeats_to);
  if (before != Predecessor::dead && repeats_to <= read) return {};
  std::uint64_t below = 0;
  const auto walked = walk_committed<Access>(
      window_.data, window_.shape(), read,
      [&](const RecordHeader&, const RecordExtent& record) { below += record.end <= repeats_to; });
  if (!walked) return tl::unexpected(walked.error());
  const bool all = before == Predecessor::dead;
  window_.redeliver_to = all ? walked->frontier : std::min(repeats_to, walked->frontier);
  redeliver_last_ = messages_ + (all ? walked->messages : below);
  if (all) Access::store_relaxed(mine_->repeats_to, window_.redeliver_to);
  return {};
}

template <typename Access>
tl::unexpected<Error> LaneConsumer<Access>::poison(const char* why) noexcept {
  poisoned_ = true;
  return fail(Errc::corrupt, 0, why);
}

namespace detail {

/// Fills `out` when `bits`, found at `pos`, are what nearly all headers are: of data, with no flag,
/// within its lap. False otherwise: nothing there, or for LaneConsumer::look_closely.
/// A header like the one before it leads to where that one led, by private numbers alone: then the
/// CPU need not wait for this header to arrive before it asks for the next (docs/lane.md).
/// Trust: the bits are the peer's; what passes here would also pass extent_of().
[[nodiscard]] inline bool fill_plain(std::uint64_t bits, std::uint64_t pos, std::uint64_t number,
                                     LaneWindow& window, Record& out) noexcept {
  const std::uint64_t lap_end = (pos | window.mask) + 1;
  if (bits != window.last_bits) [[unlikely]] {
    constexpr auto kPlain = static_cast<std::uint64_t>(RecordKind::data);  // and no flag
    const std::uint64_t size = static_cast<std::uint32_t>(bits);
    if (bits >> 48 != kPlain || size > window.max_payload) return false;
    window.last_bits = bits;
    window.last_size = size;
    window.last_stride = align_up(kWordBytes + size, window.granule);
  }
  const std::uint64_t end = pos + window.last_stride;
  if (end > lap_end) [[unlikely]]
    return false;
  out.payload = {window.data + ((pos + kWordBytes) & window.mask), window.last_size};
  out.end = end;
  out.number = number;
  out.source = 0;
  out.type = static_cast<std::uint16_t>(bits >> 32);
  out.kind = RecordKind::data;
  out.redelivered = end <= window.redeliver_to;
  return true;
}

}  // namespace detail

template <typename Access>
inline bool LaneConsumer<Access>::take_plain(std::uint64_t bits, Record& out) noexcept {
  if (!detail::fill_plain(bits, my_read_, messages_ + 1, window_, out) || poisoned_) [[unlikely]]
    return false;
  peeked_to_ = std::max(peeked_to_, out.end);
  return true;
}

template <typename Access>
inline bool LaneConsumer<Access>::peek_plain(Record& out) noexcept {
  // SYNC lane.publish (acquire <- release in LaneProducer::publish, end_group):
  //   a non-zero word says that its record and the zero word behind it are complete.
  return take_plain(Access::load_acquire(header(my_read_)), out);
}

template <typename Access>
Result<Record> LaneConsumer<Access>::look_closely(std::uint64_t bits, std::uint64_t pos,
                                                  std::uint64_t number) noexcept {
  const LaneShape shape = window_.shape();
  if (bits == 0) return fail(Errc::empty, 0, "lane: peek");
  RecordHeader header_now = RecordHeader::decode(bits);
  auto extent = extent_of(header_now, pos, shape);
  if (extent && header_now.kind == RecordKind::padding) {
    pos = extent->end;
    // SYNC lane.publish (acquire <- release in LaneProducer::publish): stored before the padding
    // word that we acquired, so it is there.
    bits = Access::load_acquire(header(pos));
    header_now = RecordHeader::decode(bits);
    if (header_now.kind == RecordKind::padding) return poison("lane: two paddings in a row");
    extent = extent_of(header_now, pos, shape);
  }
  if (!extent) return poison("lane: record header");
  Record record;
  record.payload = {window_.data + (extent->payload & window_.mask), header_now.size};
  record.end = extent->end;
  record.number = number;
  record.type = header_now.type;
  record.kind = header_now.kind;
  record.redelivered = record.end <= window_.redeliver_to;
  return record;
}

template <typename Access>
inline Result<Record> LaneConsumer<Access>::try_peek() noexcept {
  if (poisoned_) [[unlikely]]
    return fail(Errc::corrupt, 0, "lane: poisoned");
  // SYNC lane.publish (acquire <- release in LaneProducer::publish, end_group): as in peek_plain.
  const std::uint64_t bits = Access::load_acquire(header(my_read_));
  Record plain;
  if (take_plain(bits, plain)) [[likely]]
    return plain;
  auto record = look_closely(bits, my_read_, messages_ + 1);
  if (record) peeked_to_ = std::max(peeked_to_, record->end);
  return record;
}

template <typename Access>
inline Result<std::size_t> LaneConsumer<Access>::peek_many(std::span<Record> out) noexcept {
  if (poisoned_) [[unlikely]]
    return fail(Errc::corrupt, 0, "lane: poisoned");
  LaneWindow window = window_;  // a copy: stores to `out` cannot change it
  const std::uint64_t first = my_read_;
  std::uint64_t pos = first, number = messages_ + 1;
  std::size_t found = 0;
  for (; found < out.size(); ++found, ++number) {
    Record& record = out[found];
    // SYNC lane.publish (acquire <- release in LaneProducer::publish, end_group): as in peek_plain.
    const std::uint64_t bits =
        Access::load_acquire(word_at<std::uint64_t>(window.data, pos & window.mask));
    if (!detail::fill_plain(bits, pos, number, window, record)) [[unlikely]] {
      const auto other = look_closely(bits, pos, number);
      if (!other) {
        if (found == 0) return tl::unexpected(other.error());
        break;
      }
      record = *other;
    }
    // R1: all that can be outstanding is one lap. A header that leads further is a lie.
    if (record.end - first > window.mask + 1) [[unlikely]] {
      if (found == 0) return poison("lane: run longer than a lap");
      break;
    }
    pos = record.end;
  }
  window_ = window;
  peeked_to_ = std::max(peeked_to_, pos);
  return found;
}

template <typename Access>
inline bool LaneConsumer<Access>::has_record() const noexcept {
  // SYNC lane.publish (acquire <- release in LaneProducer::publish): decides not to park.
  return poisoned_ || Access::load_acquire(header(my_read_)) != 0;
}

template <typename Access>
inline bool LaneConsumer<Access>::release(const Record& record) noexcept {
  // Released before, or not ours: nothing to give back.
  if (record.end - my_read_ > peeked_to_ - my_read_) [[unlikely]]
    return false;
  if (messages_ < redeliver_last_) [[unlikely]]
    redelivered_ += std::min(record.number, redeliver_last_) - messages_;
  my_read_ = record.end;
  messages_ = record.number;
  if (my_read_ - told_read_ >= tell_every_) [[unlikely]]
    return tell_read();
  return false;
}

template <typename Access>
bool LaneConsumer<Access>::tell_read() noexcept {
  if (my_read_ == told_read_) return false;
  Access::store_relaxed(mine_->before_messages, told_messages_);  // R7, as in tell_write()
  Access::store_relaxed(mine_->before_redelivered, told_redelivered_);
  Access::store_release(mine_->before_pos, told_read_);
  Access::store_release(mine_->messages, messages_);
  Access::store_release(mine_->redelivered, redelivered_);
  // SYNC lane.reclaim (release -> acquire in LaneProducer::refresh_read_pos):
  //   our last read of the bytes below comes before the producer's first write over them.
  Access::store_release(mine_->read_pos, my_read_);
  told_read_ = my_read_;
  told_messages_ = messages_;
  told_redelivered_ = redelivered_;
  return true;
}

template <typename Access>
std::uint64_t LaneConsumer<Access>::wanted_pos() const noexcept {
  return Access::load_relaxed(peer_->want_pos);
}

template <typename Access>
std::uint64_t LaneConsumer<Access>::approx_backlog() const noexcept {
  // SYNC lane.tell_write (acquire <- release in LaneProducer::tell_write): told lazily, hence low.
  const std::uint64_t write = Access::load_acquire(peer_->write_pos);
  return write - my_read_ <= window_.mask + 1 ? write - my_read_ : 0;
}

}  // namespace slipring::ring

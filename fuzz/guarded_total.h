// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "guarded_area.h"
#include "holders.h"
#include "slipring/ring/total.h"

namespace slipring::fuzz {

inline constexpr std::uint64_t kTotalCapacity = ring::kMinCapacity;
inline constexpr std::uint64_t kGranules = kTotalCapacity / ring::kTotalGranule;
inline constexpr std::uint32_t kOwners = 3;

/// A ring of total order of 4 KiB on a guarded area. It may have run for any time already.
class GuardedTotal {
 public:
  /// Where the ring stands: at its start, within a lap, where old descriptors get renewed, before
  /// laps wrap, and at the end of all positions.
  struct Start {
    std::uint64_t pos = 0;
    std::uint64_t age = 1;  // of its descriptors, in laps
  };
  static constexpr std::array<Start, 8> kStarts{{
      {0, 1},
      {5 * kTotalCapacity + 40 * ring::kTotalGranule, 1},
      {kTotalCapacity << 17, 70'000},
      {((std::uint64_t{1} << 35) - 1) * kTotalCapacity, 1},
      {((std::uint64_t{1} << 36) - 2) * kTotalCapacity, 1},
      {ring::kMaxPosition - 2 * kTotalCapacity, 1},
      {(kTotalCapacity << 17) + 47 * ring::kTotalGranule, 70'000},
      {60 * ring::kTotalGranule, 1},
  }};

  void format(const Start& start) const noexcept {
    area_.clear();
    ring::format_total_area(area_.bytes(), geometry());
    const ring::TotalView view = this->view();
    NativeAccess::store_relaxed(view.control->read_pos, start.pos);
    for (std::uint64_t i = 0; start.pos != 0 && i < kGranules; ++i) {
      const std::uint64_t pos = start.pos + i * ring::kTotalGranule;
      const ring::Descriptor old{view.lap(pos) - start.age, 0, 0, ring::RecordState::none};
      NativeAccess::store_relaxed(view.descriptor(pos), old.encode());
    }
  }
  static ring::TotalGeometry geometry() noexcept {
    ring::TotalGeometry geometry;
    geometry.capacity = kTotalCapacity;
    geometry.owners = kOwners;
    geometry.ring_id = 0x707a1;
    return geometry;
  }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return area_.bytes(); }
  [[nodiscard]] ring::TotalView view() const noexcept { return {area_.bytes(), geometry()}; }
  [[nodiscard]] std::span<std::byte> data() const noexcept {
    return area_.bytes().last(kTotalCapacity);
  }
  [[nodiscard]] std::uint64_t told_read() const noexcept {
    return NativeAccess::load_relaxed(view().control->read_pos);
  }
  [[nodiscard]] ring::Descriptor descriptor(std::uint64_t pos) const noexcept {
    return ring::Descriptor::decode(NativeAccess::load_relaxed(view().descriptor(pos)));
  }

 private:
  GuardedArea area_{geometry().area_bytes()};
};

/// What became of each claim, in the order of claims. Says what a consumer has to see, as long as
/// nobody lies.
class ClaimBook {
 public:
  struct Entry {
    std::uint64_t pos = 0, end = 0;
    std::uint32_t owner = 0;
    ring::RecordState state = ring::RecordState::claimed;
    std::size_t size = 0;
    bool of_the_dead = false;
  };
  explicit ClaimBook(std::uint64_t start) : start_(start) {}

  [[nodiscard]] std::uint64_t frontier() const noexcept {
    return entries_.empty() ? start_ : entries_.back().end;
  }
  [[nodiscard]] static std::uint64_t room_for(std::size_t size, bool own_line) noexcept {
    own_line = own_line || size >= ring::kOwnLineBytes;
    return align_up(ring::payload_pos(0, own_line) + size, ring::kTotalGranule);
  }
  /// Where a claim of so many bytes ends, padding in front of it included.
  [[nodiscard]] std::uint64_t end_of(std::uint64_t room) const noexcept {
    const std::uint64_t to_lap_end = kTotalCapacity - frontier() % kTotalCapacity;
    return frontier() + room + (room > to_lap_end ? to_lap_end : 0);
  }
  /// Returns its number.
  std::size_t claim(std::uint64_t pos, std::uint64_t room, std::uint32_t owner, std::size_t size) {
    if (pos != frontier()) {
      entries_.push_back({frontier(), pos, owner, ring::RecordState::dead, 0, false});
    }
    entries_.push_back({pos, pos + room, owner, ring::RecordState::claimed, size, false});
    return entries_.size() - 1;
  }
  /// The open claim of `owner`, or nothing.
  [[nodiscard]] Entry* open_claim(std::uint32_t owner) noexcept {
    for (Entry& entry : entries_) {
      if (entry.owner == owner && entry.state == ring::RecordState::claimed) return &entry;
    }
    return nullptr;
  }
  /// Its owner committed so many bytes of it, or gave it up.
  void resolve(std::uint32_t owner, ring::RecordState state, std::size_t used = 0) noexcept {
    Entry* entry = open_claim(owner);
    if (entry == nullptr) return;
    entry->state = state;
    entry->size = used < entry->size ? used : entry->size;
  }
  /// A reaper resolved it. False when there was none.
  bool resolve_dead(std::uint32_t owner) noexcept {
    Entry* entry = open_claim(owner);
    if (entry == nullptr) return false;
    entry->state = ring::RecordState::dead;
    entry->of_the_dead = true;
    return true;
  }
  /// The first entry that is not dead and ends behind `pos`; its number, or that behind the last.
  [[nodiscard]] std::size_t next(std::uint64_t pos) const noexcept {
    std::size_t n = 0;
    while (n < entries_.size() &&
           (entries_[n].end <= pos || entries_[n].state == ring::RecordState::dead)) {
      ++n;
    }
    return n;
  }
  [[nodiscard]] const Entry* last() const noexcept {
    return entries_.empty() ? nullptr : &entries_.back();
  }
  /// What claim() will return for a claim of that room at the frontier.
  [[nodiscard]] std::size_t next_number(std::uint64_t room) const noexcept {
    return entries_.size() + (end_of(room) - room != frontier() ? 1 : 0);
  }
  [[nodiscard]] const Entry* at(std::size_t n) const noexcept {
    return n < entries_.size() ? &entries_[n] : nullptr;
  }
  /// Is that the record of entry `n`, whole?
  [[nodiscard]] bool is_record(std::size_t n, const ring::Record& record) const noexcept {
    const Entry* entry = at(n);
    return entry != nullptr && entry->state == ring::RecordState::committed &&
           record.end == entry->end && record.payload.size() == entry->size &&
           record.type == static_cast<std::uint16_t>(n) && has_stamp(record.payload, n);
  }

 private:
  std::uint64_t start_;
  std::vector<Entry> entries_;
};

/// A producer that keeps to the protocol and hears no lies; it writes into the book what it does.
class SoundProducer {
 public:
  SoundProducer(const GuardedTotal& ring, ClaimBook& book) : ring_(&ring), book_(&book) {}

  /// False when no entry was free.
  bool take() {
    const auto slot = ring::take_owner<NativeAccess>(ring_->bytes());
    if (!slot) return false;
    book_->resolve_dead(slot->index);  // of a dead predecessor, which was reaped first
    const auto end = ring::TotalProducer<>::attach(ring_->bytes(), *slot);
    if (!end) return false;
    end_ = *end;
    hide_holder(ring_->view().owner_role(slot->index));
    return true;
  }
  bool claim(std::size_t size, bool own_line = false) {
    if (!end_) return false;
    const auto claim = end_->try_claim(size, own_line);
    if (!claim) return false;
    number_ = book_->claim(end_->claim_pos(), ClaimBook::room_for(size, own_line), owner(), size);
    stamp(claim->payload, number_);
    return true;
  }
  void commit(std::size_t used) {
    if (!end_ || !end_->has_open_claim()) return;
    end_->commit(used, static_cast<std::uint16_t>(number_));
    book_->resolve(owner(), ring::RecordState::committed, used);
  }
  void abort() {
    if (!end_ || !end_->has_open_claim()) return;
    end_->abort();
    book_->resolve(owner(), ring::RecordState::dead);
  }
  bool send(std::size_t size) {
    const bool claimed = claim(size);
    if (claimed) commit(size);
    return claimed;
  }
  /// Dies where it stands. What it claimed stays claimed until somebody reaps it.
  void die() {
    if (!end_) return;
    kill_holder(ring_->view().owner_role(end_->slot().index));
    end_.reset();
  }
  void want_space() {
    if (end_) end_->set_space_wanted();
  }
  [[nodiscard]] bool is_in() const noexcept { return end_.has_value(); }
  [[nodiscard]] std::uint32_t owner() const noexcept { return end_->slot().index; }

 private:
  const GuardedTotal* ring_;
  ClaimBook* book_;
  std::optional<ring::TotalProducer<>> end_;
  std::size_t number_ = 0;  // of its open claim
};

}  // namespace slipring::fuzz

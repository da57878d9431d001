// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <optional>
#include <vector>

#include "depth.h"
#include "guarded_total.h"
#include "support/oracle_access.h"

// Producers of a ring of total order that lie in every load. The consumer must stay inside the
// area, store what it tells and nothing else, swap only descriptors that nobody looks at any more,
// end in a bounded number of loads, and stay corrupt once it said so. As long as nobody lied, it
// delivers what was claimed, in that order.
// Input: byte 0: mode:2, attach hears lies:1, predecessor:2, start:3; byte 1: tuning; byte 2: rest;
// then operations, each a byte of choice, one of rest, and details.
namespace slipring::fuzz {
namespace {

using ring::kTotalGranule;
using ring::Predecessor;
using ring::Record;
using ring::RecordState;
using test::OracleAccess;
using test::Rights;
using Consumer = ring::TotalConsumer<OracleAccess>;

const Depth kDelivered{"record delivered"};
const Depth kPadding{"record behind padding delivered"};
const Depth kRun{"several records in one look"};
const Depth kSkipped{"aborted record skipped"};
const Depth kReaped{"record of a dead owner skipped"};
const Depth kBlocked{"blocked by an open claim"};
const Depth kRedelivered{"record flagged as redelivered"};
const Depth kRenewed{"old descriptor renewed"};
const Depth kWrapped{"record delivered where laps wrap"};
const Depth kTold{"read_pos told"};
const Depth kRang{"producers wait for room"};
const Depth kCorrupt{"turned corrupt"};
const Depth kLied{"delivered although somebody lied"};

// c1 + c2 * granules + c3 * records (I10).
constexpr std::uint64_t kLoadsToAttach = 7 + 4 + 2 * kGranules;
constexpr std::uint64_t loads_to_peek(std::uint64_t records) { return kGranules + 1 + records; }
constexpr std::uint64_t kLoadsToLook = 1;
constexpr std::uint64_t kLoadsToTell = 2;  // the descriptor that is renewed: looked at, swapped
constexpr std::uint64_t kLoadsToRing = 2;

Consumer* now = nullptr;  // whose swap it is

Rights rights_at(std::size_t offset) {
  using Control = ring::TotalControl;
  const ring::TotalGeometry geometry = GuardedTotal::geometry();
  const auto is_in = [&](std::size_t from, std::size_t to) {
    return offset >= from && offset < to;
  };
  constexpr std::size_t kToldEnd = offsetof(Control, repeats_to) + 8;
  if (is_in(offsetof(Control, read_pos), kToldEnd)) return Rights::read_write;
  if (is_in(offsetof(Control, space_wanted), offsetof(Control, space_wanted) + 4)) {
    return Rights::read_write;
  }
  if (is_in(offsetof(Control, space_seq), offsetof(Control, space_seq) + 4)) return Rights::by_swap;
  if (is_in(geometry.desc_offset(), geometry.data_offset())) return Rights::by_swap;
  return Rights::read_only;
}

/// T6: only a word older than kRenewAge, and only to one that is the consumer's.
bool is_renewal(std::size_t /*offset*/, std::uint64_t from, std::uint64_t to) {
  const std::uint64_t read_pos = now->read_pos();
  const std::uint64_t lap = (read_pos / kTotalCapacity + 1) & ring::kLapMask;
  const bool old = ring::lap_ahead(lap, ring::Descriptor::decode(from).lap) > ring::kRenewAge;
  kRenewed.reached();
  return old && to == ring::Descriptor{lap - 1, 0, 0, RecordState::none}.encode();
}

class Run {
 public:
  Run(const GuardedTotal& ring, OracleAccess::Mode mode, const GuardedTotal::Start& start)
      : ring_(ring), mode_(mode), book_(start.pos) {
    for (std::uint32_t i = 0; i < kOwners; ++i) {
      producers_.emplace_back(ring, book_);
      expect(producers_.back().take(), "no owner entry in a fresh ring");
    }
    spoiled_ = start.pos > ring::kMaxPosition / 2;  // positions may end under us
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  void attach(Predecessor before, std::uint32_t tell_shift, bool hears_lies) {
    ring::TotalTuning tuning;
    tuning.tell_read_shift = tell_shift;
    // On sound ground, or lied to from the start: then a free oracle has to guess the magic.
    OracleAccess::switch_to(hears_lies ? mode_ : OracleAccess::Mode::honest);
    OracleAccess::limit_loads(kLoadsToAttach);
    auto consumer = Consumer::attach(ring_.bytes(), before, tuning);
    OracleAccess::switch_to(mode_);
    consumer_.reset();
    if (!consumer) {
      const Errc code = consumer.error().code;
      expect(code == Errc::bad_format || code == Errc::corrupt, "attach: an error without a name");
      expect(!is_sound(), "attach: a sound ring refused");
      return;
    }
    if (consumer->geometry().owners != kOwners) return;  // lies that agree: another ring
    consumer_ = *consumer;
    now = &*consumer_;
    corrupt_ = false;
    looked_ahead_ = false;
    may_repeat_ = may_repeat_ || before == Predecessor::dead;  // R8
  }

  void step(std::uint8_t choice) {
    OracleAccess::rest(OracleAccess::next_byte());
    const auto detail = static_cast<std::uint8_t>(choice >> 4);
    switch (choice & 15) {
      case 0:
      case 1: peek(detail); break;
      case 2: peek_many(1 + detail % kMostRecords); break;
      case 3: look(); break;
      case 4: tell(); break;
      case 5: ring_producers(); break;
      case 6: backlog(); break;
      case 7: (void)producer(detail).send(next_size()); break;
      case 8: (void)producer(detail).claim(next_size(), (detail & 8) != 0); break;
      case 9: producer(detail).commit(OracleAccess::next_word<std::uint16_t>()); break;
      case 10: producer(detail).abort(); break;
      case 11: send_all(producer(detail), next_size()); break;
      case 12: end_of(producer(detail), (detail & 8) != 0); break;
      case 13: producer(detail).want_space(); break;
      case 14: reattach(detail); break;
      default: poke(detail);
    }
  }
  [[nodiscard]] bool has_consumer() const noexcept { return consumer_.has_value(); }

 private:
  static constexpr std::size_t kMostRecords = 8;

  /// Nobody lied yet: what was claimed has to arrive.
  [[nodiscard]] bool is_sound() const noexcept {
    return mode_ != OracleAccess::Mode::free && !spoiled_ && OracleAccess::lies() == 0;
  }
  [[nodiscard]] SoundProducer& producer(std::uint8_t detail) {
    return producers_[(detail & 7) % producers_.size()];
  }
  static std::size_t next_size() {
    return OracleAccess::next_word<std::uint16_t>() % (kTotalCapacity / 4 - kTotalGranule + 9);
  }
  static void send_all(SoundProducer& producer, std::size_t size) {
    while (producer.send(size)) {
    }
  }

  void note_error(Errc code) {
    expect(code == Errc::empty || code == Errc::corrupt, "peek: an error that it does not name");
    expect(!corrupt_ || code == Errc::corrupt, "corrupt once, and empty later");
    expect(code != Errc::corrupt || !is_sound(), "corrupt, and nobody lied");
    kCorrupt.reached_if(!corrupt_ && code == Errc::corrupt);
    corrupt_ = corrupt_ || code == Errc::corrupt;
  }

  void peek(std::uint8_t detail) {
    const std::uint64_t before = consumer_->read_pos();
    const auto said = ring_.what_is_next(before);
    const std::uint64_t lies = OracleAccess::lies();
    OracleAccess::limit_loads(loads_to_peek(1));
    const auto record = consumer_->try_peek();
    const bool heard_no_lie =
        mode_ != OracleAccess::Mode::free && lies == OracleAccess::lies() && !corrupt_;
    // A run that ended at a corrupt record has seen what is not next yet.
    const bool may_know_better = looked_ahead_ && !record && record.error().code == Errc::corrupt;
    if (heard_no_lie && !may_know_better) {
      expect(record ? said == record->end : said == tl::unexpected(record.error().code),
             "peek does not do as the words say");
    }
    const std::size_t expected = book_.next(before);
    expect(consumer_->read_pos() >= before, "read_pos went back");
    expect(consumer_->read_pos() - before <= kTotalCapacity + kTotalCapacity / 4,
           "skipped more than a lap");
    if (!record) {
      note_error(record.error().code);
      check_blocked(expected);
      return;
    }
    check(*record, consumer_->messages() + 1);
    if (is_sound())
      expect(book_.is_record(expected, *record), "a record that was not claimed next");
    note_skipped(before, expected);
    if ((detail & 1) == 0) release(*record);
  }

  void check_blocked(std::size_t expected) {
    OracleAccess::limit_loads(0);
    const auto blocked = consumer_->blocked_by();
    const ClaimBook::Entry* entry = book_.at(expected);
    if (is_sound()) {
      expect(blocked.has_value() == (entry != nullptr), "empty, and the next record is committed");
      expect(entry == nullptr || entry->state == RecordState::claimed,
             "empty, and it is committed");
      if (blocked) expect(entry->owner == blocked->owner, "blocked by another than it says");
      if (blocked) expect(entry->pos == blocked->position, "blocked where it is not");
    }
    if (!blocked) return;
    expect(!corrupt_, "corrupt and blocked");
    expect(blocked->owner < kOwners, "blocked by an owner that there is not");
    expect(blocked->position == consumer_->read_pos(), "blocked elsewhere");
    expect(blocked->since_ns > 0, "blocked since no time");
    kBlocked.reached();
  }

  void peek_many(std::size_t wanted) {
    std::array<Record, kMostRecords> records;
    looked_ahead_ = true;
    const std::uint64_t before = consumer_->read_pos();
    OracleAccess::limit_loads(loads_to_peek(wanted + 1));
    const auto found = consumer_->peek_many({records.data(), wanted});
    std::size_t expected = book_.next(before);
    if (!found) {
      note_error(found.error().code);
      check_blocked(expected);
      return;
    }
    expect(*found >= 1 && *found <= wanted, "no record, or more than there is room for");
    for (std::size_t i = 0; i < *found; ++i) {
      check(records[i], consumer_->messages() + 1 + i);
      expect(i == 0 || records[i].end > records[i - 1].end, "records out of order");
      if (is_sound()) expect(book_.is_record(expected, records[i]), "a record out of turn");
      expected = book_.next(records[i].end);
    }
    kRun.reached_if(*found > 1);
    release(records[*found / 2]);
  }

  void check(const Record& record, std::uint64_t number) {
    expect(!corrupt_, "a record after corrupt");
    expect(lies_in(record.payload, ring_.data()), "a payload outside the ring");
    expect(ends_before(record.payload, record.end, ring_.data()), "a payload beyond its record");
    touch(record.payload);
    expect(record.payload.size() <= kTotalCapacity / 4 - kTotalGranule, "a payload too large");
    expect(record.end > consumer_->read_pos(), "a record that ends before it starts");
    expect(record.end - consumer_->read_pos() <= kTotalCapacity + kTotalCapacity / 4,
           "a record beyond the lap");
    expect(record.number == number, "a record out of turn");
    expect(record.source < kOwners, "a record of an owner that there is not");
    expect(record.kind != ring::RecordKind::none && record.kind != ring::RecordKind::padding,
           "a record that is no message");
    expect(may_repeat_ || !is_sound() || !record.redelivered, "redelivered, and nobody died");
    kDelivered.reached();
    kRedelivered.reached_if(record.redelivered);
    kWrapped.reached_if(((record.end / kTotalCapacity + 1) & ring::kLapMask) < 4 &&
                        record.end > 8 * kTotalCapacity);
    kLied.reached_if(!is_sound());
  }

  void note_skipped(std::uint64_t before, std::size_t expected) {
    if (!is_sound()) return;
    for (std::size_t n = 0; n < expected; ++n) {
      const ClaimBook::Entry& entry = *book_.at(n);
      if (entry.end <= before || entry.state != RecordState::dead) continue;
      const bool pads = entry.end % kTotalCapacity == 0 && entry.size == 0;
      kPadding.reached_if(pads);
      kSkipped.reached_if(!pads && !entry.of_the_dead);
      kReaped.reached_if(entry.of_the_dead);
    }
  }

  void release(const Record& record) {
    OracleAccess::limit_loads(kLoadsToTell);
    kTold.reached_if(consumer_->release(record));
    expect(consumer_->read_pos() == record.end, "released, and not behind the record");
    expect(consumer_->messages() == record.number, "released, and another count");
    OracleAccess::limit_loads(0);
    expect(!consumer_->release(record), "a second release told something");
    expect(consumer_->read_pos() == record.end, "a second release moved on");
  }

  void look() {
    OracleAccess::limit_loads(kLoadsToLook);
    const bool found = consumer_->has_record();
    expect(found || !corrupt_, "parks although the ring is corrupt");
    if (!is_sound()) return;
    // Dead records count: their room has to be given back.
    const ClaimBook::Entry* entry = book_.at(book_.next(consumer_->read_pos()));
    const bool at_hand = entry != nullptr && entry->pos == consumer_->read_pos();
    if (at_hand) expect(found == (entry->state == RecordState::committed), "has_record is wrong");
    if (consumer_->read_pos() == book_.frontier()) expect(!found, "has_record is wrong at the end");
  }

  void tell() {
    OracleAccess::limit_loads(kLoadsToTell);
    if (!consumer_->tell_read()) return;
    expect(ring_.told_read() == consumer_->read_pos(), "told another position than its own");
    kTold.reached();
  }
  void ring_producers() {
    OracleAccess::limit_loads(kLoadsToRing);
    kRang.reached_if(consumer_->space_wanted_seen());
  }
  void backlog() {
    OracleAccess::limit_loads(1);
    expect(consumer_->approx_backlog() <= kTotalCapacity, "a backlog of more than a lap");
  }

  void end_of(SoundProducer& producer, bool reaps) {
    if (!producer.is_in()) {
      (void)producer.take();
      return;
    }
    const std::uint32_t owner = producer.owner();
    producer.die();
    if (!reaps) return;
    const auto reaped = ring::reap<NativeAccess>(ring_.bytes(), owner);
    const bool had_a_claim = book_.resolve_dead(owner);
    if (is_sound()) {
      expect(reaped && *reaped == static_cast<std::size_t>(had_a_claim), "reaped something else");
    }
  }

  void reattach(std::uint8_t detail) {
    if ((detail & 4) != 0) tell();
    attach(static_cast<Predecessor>((detail & 3) % 3), detail, (detail & 8) != 0);
  }

  /// Any word that a peer may store: of the control page, a descriptor, or a record's header.
  void poke(std::uint8_t detail) {
    const std::size_t word = OracleAccess::next_byte() * std::size_t{8};
    const ring::TotalGeometry geometry = GuardedTotal::geometry();
    const std::array<std::size_t, 4> at{word % sizeof(ring::TotalControl),
                                        geometry.owners_offset() + word % 768,
                                        geometry.desc_offset() + word % (8 * kGranules),
                                        geometry.data_offset() + word * 8 % kTotalCapacity};
    NativeAccess::store_relaxed(word_at<std::uint64_t>(ring_.bytes().data(), at[detail & 3]),
                                OracleAccess::next_word<std::uint64_t>());
    spoiled_ = true;
  }

  const GuardedTotal& ring_;
  OracleAccess::Mode mode_;
  ClaimBook book_;
  std::vector<SoundProducer> producers_;
  std::optional<Consumer> consumer_;
  bool corrupt_ = false;
  bool looked_ahead_ = false;
  bool may_repeat_ = false;
  bool spoiled_ = false;
};

}  // namespace
}  // namespace slipring::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipring;
  using test::OracleAccess;
  static const fuzz::GuardedTotal ring;
  if (size < 3) return 0;
  OracleAccess::feed({data, size}, OracleAccess::Mode::honest);
  const std::uint8_t setup = OracleAccess::next_byte();
  const std::uint8_t tuning = OracleAccess::next_byte();
  const auto& start = fuzz::GuardedTotal::kStarts[setup >> 5];
  ring.format(start);
  OracleAccess::allow(ring.bytes(), fuzz::rights_at, fuzz::is_renewal);
  fuzz::Run run(ring, static_cast<OracleAccess::Mode>(setup & 3), start);
  OracleAccess::rest(OracleAccess::next_byte());
  run.attach(static_cast<ring::Predecessor>((setup >> 3 & 3) % 3), tuning & 7, (setup & 4) != 0);
  for (int i = 0; i < 400 && run.has_consumer() && OracleAccess::has_input(); ++i) {
    run.step(OracleAccess::next_byte());
  }
  return 0;
}

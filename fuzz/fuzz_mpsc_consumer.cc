// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "depth.h"
#include "guarded_area.h"
#include "slipring/ring/mpsc.h"
#include "support/oracle_access.h"

// Producers of many lanes, some of which lie in every load. The consumer must stay inside the area,
// store what consumers of lanes store and nothing else, end in a bounded number of loads, and
// report each spoiled lane once. As long as nobody lied, it delivers what was sent.
// Input: byte 0: mode:2, attach hears lies:1, predecessor:2, crowd:1, granule:2; byte 1: tuning;
// byte 2: lanes held at attach; byte 3: rest; then operations, each a byte of choice, one of rest,
// and details.
namespace slipring::fuzz {
namespace {

using ring::kLaneAreaBytes;
using ring::Predecessor;
using ring::Record;
using test::OracleAccess;
using test::Rights;
using Consumer = ring::MpscConsumer<OracleAccess>;

const Depth kDelivered{"record delivered"};
const Depth kRun{"several records in one look"};
const Depth kSecondLap{"record of a later lap delivered"};
const Depth kPadding{"record behind padding delivered"};
const Depth kRedelivered{"record flagged as redelivered"};
const Depth kJoined{"lane found by its epoch"};
const Depth kTakenOver{"lane taken over by a successor"};
const Depth kRefused{"lane refused when it joined"};
const Depth kPoisoned{"lane that turned corrupt"};
const Depth kGoesOn{"delivered beside a corrupt lane"};
const Depth kNextVisit{"visit over: another lane's turn"};
const Depth kQuiet{"record in a quiet lane, not yet seen"};
const Depth kTold{"read_pos told"};
const Depth kLied{"delivered although somebody lied"};

constexpr std::uint64_t kCapacity = ring::kMinCapacity;
constexpr std::uint64_t kStride = 2 * kLaneAreaBytes + kCapacity;
constexpr std::uint32_t kFew = 4;
constexpr std::uint32_t kCrowd = Consumer::kAllBusy + 2;  // quiet lanes exist

// c1 + c2 * lanes (I10). A lane that joins: its role, ten words of geometry and five of state; and
// where its words say that somebody died (R8), or may lie, every header that it can hold.
constexpr std::uint64_t kLoadsToJoin = 1 + 10 + 5;
constexpr std::uint64_t loads_to_walk(std::uint64_t lanes) {
  return lanes * kCapacity / ring::kWordBytes;
}
constexpr std::uint64_t loads_to_attach(std::uint64_t lanes) {
  return 11 + 1 + lanes * kLoadsToJoin;
}
// Of a lane the poll as a quiet one, the poll as a busy one, and two words of a peek that finds
// padding and nothing behind it.
constexpr std::uint64_t loads_to_peek(std::uint64_t lanes, std::uint64_t records) {
  return 2 + 1 + lanes * (kLoadsToJoin + 4) + 2 * records;
}
// As a quiet one among all, then as a busy one, or in the next slice of the quiet.
constexpr std::uint64_t loads_to_look(std::uint64_t lanes) {
  return 1 + lanes * (kLoadsToJoin + 2);
}

/// The consumer stores what it told of each lane, and nothing else.
Rights rights_at(std::size_t offset) {
  if (offset < kLaneAreaBytes) return Rights::read_only;  // its block is the channel's to write
  const std::size_t in_lane = (offset - kLaneAreaBytes) % kStride;
  constexpr std::size_t kFirst = offsetof(ring::LaneConsumerSide, read_pos);
  constexpr std::size_t kEnd = offsetof(ring::LaneConsumerSide, repeats_to) + 8;
  const bool told = in_lane >= kFirst && in_lane < kEnd;
  return told ? Rights::read_write : Rights::read_only;
}

/// A producer that keeps to the protocol, and what it sent.
class Sender {
 public:
  Sender(ring::LaneAreas areas, RoleRef role) : areas_(areas), role_(role) {}

  /// Holds the lane; when its words allow it, produces into it.
  void join() {
    const Predecessor before = generation_ == 0 ? Predecessor::none : before_;
    kTakenOver.reached_if(before != Predecessor::none);
    store_role(RoleWord::State::held, ++generation_);
    const auto end = ring::LaneProducer<>::attach(areas_, before);
    if (end) end_ = *end;
  }
  void leave() {
    if (!end_) return;
    end_->tell_write();
    end_.reset();
    before_ = Predecessor::left;
    store_role(RoleWord::State::left, generation_);
  }
  /// Dies with a claim open. Its role goes on to name it.
  void die() {
    if (!end_) return;
    if (const auto claim = end_->try_claim(100)) stamp(claim->payload, 77);
    end_.reset();
    before_ = Predecessor::dead;
  }
  bool send(std::size_t size) {
    if (!end_) return false;
    const auto claim = end_->try_claim(size);
    if (!claim) return false;
    stamp(claim->payload, sizes_.size());
    end_->commit(size, static_cast<std::uint16_t>(sizes_.size()));
    sizes_.push_back(size);
    return true;
  }
  void send_all(std::size_t size) {
    while (send(size)) {
    }
  }
  void send_group(int count, std::size_t size) {
    if (!end_ || !end_->begin_group()) return;
    while (count-- > 0 && send(size)) {
    }
    end_->end_group();
  }

  [[nodiscard]] bool is_in() const noexcept { return end_.has_value(); }
  [[nodiscard]] std::uint64_t sent() const noexcept { return sizes_.size(); }
  [[nodiscard]] bool was_sent(const ring::Record& record) const {
    if (record.number == 0 || record.number > sizes_.size()) return false;
    const std::uint64_t n = record.number - 1;
    return record.payload.size() == sizes_[n] && record.type == static_cast<std::uint16_t>(n) &&
           has_stamp(record.payload, n);
  }

 private:
  void store_role(RoleWord::State state, std::uint32_t generation) {
    NativeAccess::store_release(role_.word, RoleWord{state, 1, 1, generation}.encode());
  }
  ring::LaneAreas areas_;
  RoleRef role_;
  std::optional<ring::LaneProducer<>> end_;
  Predecessor before_ = Predecessor::none;
  std::uint32_t generation_ = 0;
  std::vector<std::size_t> sizes_;
};

class Run {
 public:
  Run(std::span<std::byte> area, const ring::MpscGeometry& geometry, OracleAccess::Mode mode)
      : area_(area), lanes_(geometry.lanes), parts_(area, geometry), mode_(mode) {
    for (std::uint32_t i = 0; i < lanes_; ++i) {
      senders_.emplace_back(parts_.areas(i), parts_.producer_role(i));
    }
  }

  void join(std::uint32_t lane) {
    Sender& sender = senders_[lane % lanes_];
    if (!sender.is_in()) sender.join();
  }
  /// False when there is no consumer afterwards: a segment of the wrong shape.
  bool attach(Predecessor before, std::uint8_t tell_shift, bool hears_lies) {
    ring::LaneTuning tuning;
    tuning.tell_read_shift = tell_shift;
    // On sound ground, or lied to from the start: then a free oracle has to guess two magics.
    OracleAccess::switch_to(hears_lies ? mode_ : OracleAccess::Mode::honest);
    may_repeat_ =
        may_repeat_ || before == Predecessor::dead;  // R8: the marks outlast who comes next
    OracleAccess::limit_loads(loads_to_attach(lanes_) + loads_to_walk());
    const std::uint64_t lies = OracleAccess::lies();
    auto consumer = Consumer::attach(area_, before, tuning);
    OracleAccess::switch_to(mode_);
    if (!consumer) {
      expect(consumer.error().code == Errc::bad_format, "attach: an error that it does not name");
      expect(!is_sound(), "attach: a sound ring refused");
      consumer_.reset();
      return false;
    }
    consumer_.emplace(std::move(*consumer));
    const ring::MpscGeometry& seen = consumer_->geometry();
    expect(seen.total_bytes() <= area_.size(), "attach: a ring beyond its area");
    if (seen.lanes != lanes_ || seen.lane.capacity != kCapacity) {
      consumer_.reset();  // lies that agree with each other: a ring, but not the one we know
      return false;
    }
    reported_ = 0;
    visit_bytes_ = 0;
    kept_.reset();
    const bool lied_to = mode_ == OracleAccess::Mode::free || lies != OracleAccess::lies();
    if (!hears_lies || !lied_to) {
      expect(consumer_->attached_lanes() + consumer_->poisoned_lanes() == lanes_ever_held(),
             "attach: a lane that was held is neither attached nor refused");
    }
    return true;
  }

  void step(std::uint8_t choice) {
    OracleAccess::rest(OracleAccess::next_byte());
    const auto detail = static_cast<std::uint8_t>(choice >> 4);
    const bool found_before = std::exchange(must_find_, false);
    const std::uint32_t attached = consumer_->attached_lanes();
    switch (choice & 15) {
      case 0:
      case 1: peek(detail, found_before); break;
      case 2: peek_many(1 + detail % kMostRecords, found_before); break;
      case 3: look(); break;
      case 4: tell(); break;
      case 5:
        join(OracleAccess::next_byte());
        if ((detail & 1) == 0) ring::announce_join<NativeAccess>(parts_);
        break;
      case 6: next_sender().leave(); break;
      case 7: next_sender().die(); break;
      case 8:
      case 9: (void)next_sender().send(next_size()); break;
      case 10: next_sender().send_all(next_size()); break;
      case 11: next_sender().send_group(detail, next_size()); break;
      case 12:
        NativeAccess::store_release(parts_.consumer().epoch,
                                    OracleAccess::next_word<std::uint64_t>());
        spoiled_ = true;
        break;
      case 13: poke(detail); break;
      case 14: reattach(detail); break;
      default: release_nonsense(detail);
    }
    if (!consumer_) return;
    kJoined.reached_if(consumer_->attached_lanes() > attached && (choice & 15) < 4);
    expect(consumer_->attached_lanes() <= lanes_, "more lanes than there are");
    expect(consumer_->poisoned_lanes() <= lanes_, "more spoiled lanes than there are");
    expect(reported_ <= consumer_->poisoned_lanes(), "a spoiled lane reported twice");
  }

  [[nodiscard]] bool has_consumer() const noexcept { return consumer_.has_value(); }

 private:
  static constexpr std::size_t kMostRecords = 8;

  /// Nobody lied yet: what was sent has to arrive.
  [[nodiscard]] bool is_sound() const noexcept {
    return mode_ != OracleAccess::Mode::free && !spoiled_ && OracleAccess::lies() == 0;
  }
  [[nodiscard]] std::uint64_t loads_to_walk() const noexcept {
    const bool honest = mode_ == OracleAccess::Mode::honest && !spoiled_;
    return honest && !may_repeat_ ? 0 : fuzz::loads_to_walk(lanes_);
  }
  [[nodiscard]] Sender& next_sender() { return senders_[OracleAccess::next_byte() % lanes_]; }
  static std::size_t next_size() {
    return OracleAccess::next_word<std::uint16_t>() % (kCapacity / 4 + 9);
  }
  [[nodiscard]] std::uint32_t lanes_ever_held() const {
    std::uint32_t held = 0;
    for (std::uint32_t i = 0; i < lanes_; ++i) {
      const auto bits = NativeAccess::load_relaxed(parts_.producer(i).role);
      held += RoleWord::decode(bits).state != RoleWord::State::vacant;
    }
    return held;
  }
  [[nodiscard]] bool has_more(std::uint32_t lane) const {
    const auto* end = consumer_->lane(lane);
    return end != nullptr && end->messages() < senders_[lane].sent();
  }
  [[nodiscard]] bool others_have_more(std::uint32_t than) const {
    for (std::uint32_t i = 0; i < lanes_; ++i) {
      if (i != than && has_more(i)) return true;
    }
    return false;
  }

  void peek(std::uint8_t detail, bool must_find) {
    OracleAccess::limit_loads(loads_to_peek(lanes_, 1) + loads_to_walk());
    const std::uint32_t poisoned = consumer_->poisoned_lanes();
    const auto found = consumer_->try_peek();
    if (!found) return note_error(found.error().code, poisoned, must_find);
    check(*found, 0);
    if ((detail & 1) != 0) {
      kept_ = *found;
    } else {
      release(*found);
    }
  }

  void peek_many(std::size_t wanted, bool must_find) {
    std::array<Record, kMostRecords> records;
    OracleAccess::limit_loads(loads_to_peek(lanes_, wanted) + loads_to_walk());
    const std::uint32_t poisoned = consumer_->poisoned_lanes();
    const auto found = consumer_->peek_many({records.data(), wanted});
    if (!found) return note_error(found.error().code, poisoned, must_find);
    expect(*found >= 1 && *found <= wanted, "no record, or more than there is room for");
    for (std::size_t i = 0; i < *found; ++i) {
      expect(records[i].source == records[0].source, "records of two lanes");
      expect(i == 0 || records[i].end > records[i - 1].end, "records out of order");
      check(records[i], i);
    }
    kRun.reached_if(*found > 1);
    release(records[*found / 2]);
  }

  void note_error(Errc code, std::uint32_t poisoned_before, bool must_find) {
    expect(code == Errc::empty || code == Errc::corrupt, "peek: an error that it does not name");
    if (code == Errc::corrupt) {
      ++reported_;
      expect(!is_sound(), "peek: corrupt, and nobody lied");
      kPoisoned.reached_if(consumer_->poisoned_lanes() > poisoned_before);
      return;
    }
    expect(reported_ == consumer_->poisoned_lanes(), "a spoiled lane was not reported");
    if (!is_sound()) return;
    const bool overlooked = others_have_more(lanes_);
    expect(!overlooked || lanes_ > Consumer::kAllBusy, "empty, and a lane has more");
    expect(!must_find, "empty right after has_record said otherwise");
    kQuiet.reached_if(overlooked);
  }

  /// The `nth` of a run of them.
  void check(const Record& found, std::uint64_t nth) {
    expect(found.source < lanes_, "a record of a lane that does not exist");
    const auto* lane = consumer_->lane(found.source);
    expect(lane != nullptr, "a record of a lane that is not attached");
    expect(lane->geometry().granule == consumer_->geometry().lane.granule,
           "a lane of another shape");
    const auto data = parts_.areas(found.source).producer.subspan(kLaneAreaBytes);
    const Record& record = found;
    expect(lies_in(record.payload, data), "a payload outside its lane");
    expect(ends_before(record.payload, record.end, data), "a payload beyond its record");
    touch(record.payload);
    expect(record.payload.size() <= kCapacity / 4, "a payload larger than a lane takes");
    expect(record.end > lane->read_pos(), "a record that ends before it starts");
    expect(record.end - lane->read_pos() <= 2 * kCapacity, "a record beyond the lap");
    expect(record.number == lane->messages() + 1 + nth, "a record out of turn");
    const bool is_message =
        record.kind != ring::RecordKind::none && record.kind != ring::RecordKind::padding;
    expect(is_message, "a record that is no message");
    expect(may_repeat_ || !is_sound() || !record.redelivered, "redelivered, and nobody died");
    if (is_sound()) {
      expect(senders_[found.source].was_sent(record), "a record that was not sent");
      expect(nth > 0 || !kept_ || (kept_->source == found.source && kept_->number == record.number),
             "another record before the first was released");
    }
    kDelivered.reached();
    kSecondLap.reached_if(record.end > kCapacity);
    kPadding.reached_if((lane->read_pos() ^ record.end) >= kCapacity &&
                        record.end % kCapacity != 0);
    kRedelivered.reached_if(record.redelivered);
    kGoesOn.reached_if(consumer_->poisoned_lanes() != 0);
    kLied.reached_if(!is_sound());
  }

  void release(const Record& found) {
    kept_.reset();
    OracleAccess::limit_loads(0);
    const auto* lane = consumer_->lane(found.source);
    const std::uint64_t given_back = found.end - lane->read_pos();
    kTold.reached_if(consumer_->release(found));
    expect(lane->read_pos() == found.end, "released, and not behind the record");
    (void)consumer_->release(found);
    expect(lane->read_pos() == found.end, "a second release moved on");
    if (!is_sound()) return;
    // Deficit round robin: nobody waits for more than one visit elsewhere.
    if (found.source != visited_ || !others_have_more(found.source)) {
      kNextVisit.reached_if(found.source != visited_ && visit_bytes_ >= Consumer::kVisitBytes);
      visit_bytes_ = 0;
    }
    visited_ = found.source;
    visit_bytes_ += given_back;
    expect(visit_bytes_ <= Consumer::kVisitBytes + kCapacity || lanes_ > Consumer::kAllBusy,
           "a visit without an end");
  }

  void look() {
    OracleAccess::limit_loads(loads_to_look(lanes_) + loads_to_walk());
    const bool found = consumer_->has_record();
    must_find_ = found && is_sound();
    expect(found || reported_ == consumer_->poisoned_lanes(), "parks on an unreported lane");
    if (is_sound()) expect(found == others_have_more(lanes_), "has_record is wrong");
    kRefused.reached_if(found && reported_ < consumer_->poisoned_lanes());
  }

  void tell() {
    OracleAccess::limit_loads(lanes_);
    expect(consumer_->approx_backlog() <= lanes_ * kCapacity, "a backlog of more than the laps");
    OracleAccess::limit_loads(0);
    consumer_->tell_read([&](std::uint32_t lane) {
      expect(lane < lanes_ && consumer_->lane(lane) != nullptr, "told of a lane that is not ours");
      const auto& side =
          *reinterpret_cast<const ring::LaneConsumerSide*>(parts_.areas(lane).consumer.data());
      expect(NativeAccess::load_relaxed(side.read_pos) == consumer_->lane(lane)->read_pos(),
             "told another position than its own");
      kTold.reached();
    });
  }

  /// Any word of the block, or of the control pages of a lane, at any value.
  void poke(std::uint8_t detail) {
    const std::size_t lane = OracleAccess::next_byte() % (lanes_ + 1);
    const std::size_t word = OracleAccess::next_byte() * std::size_t{8};
    const std::size_t page =
        lane == 0 ? 0 : kLaneAreaBytes * (1 + (detail & 1)) + (lane - 1) * kStride;
    NativeAccess::store_relaxed(word_at<std::uint64_t>(area_.data(), page + word),
                                OracleAccess::next_word<std::uint64_t>());
    spoiled_ = true;
  }

  void reattach(std::uint8_t detail) {
    if ((detail & 4) != 0) tell();
    const auto before = static_cast<Predecessor>((detail & 3) % 3);
    (void)attach(before, detail, (detail & 8) != 0);
  }

  /// A lane that there is not, and a record of long ago: our own mistakes, not the peers'.
  void release_nonsense(std::uint8_t detail) {
    OracleAccess::limit_loads(0);
    Record nonsense;
    nonsense.source = lanes_ + detail;
    expect(!consumer_->release(nonsense), "released a record of no lane");
    nonsense.source = detail % lanes_;
    const auto* lane = consumer_->lane(nonsense.source);
    if (lane == nullptr) return;
    const std::uint64_t before = lane->read_pos();
    nonsense.end = before - 8;
    expect(!consumer_->release(nonsense), "released what was released before");
    expect(lane->read_pos() == before, "went back");
  }

  std::span<std::byte> area_;
  std::uint32_t lanes_;
  ring::MpscParts parts_;
  std::vector<Sender> senders_;
  std::optional<Consumer> consumer_;
  OracleAccess::Mode mode_;
  std::optional<Record> kept_;  // peeked and not released
  std::uint32_t reported_ = 0;
  std::uint32_t visited_ = 0;
  std::uint64_t visit_bytes_ = 0;
  bool must_find_ = false;
  bool may_repeat_ = false;
  bool spoiled_ = false;
};

}  // namespace
}  // namespace slipring::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipring;
  using test::OracleAccess;
  static const fuzz::GuardedArea few(fuzz::kLaneAreaBytes + fuzz::kFew * fuzz::kStride);
  static const fuzz::GuardedArea crowd(fuzz::kLaneAreaBytes + fuzz::kCrowd * fuzz::kStride);
  if (size < 4) return 0;
  OracleAccess::feed({data, size}, OracleAccess::Mode::honest);
  const std::uint8_t setup = OracleAccess::next_byte();
  const std::uint8_t tuning = OracleAccess::next_byte();
  const std::uint8_t held = OracleAccess::next_byte();
  const auto mode = static_cast<OracleAccess::Mode>(setup & 3);
  constexpr std::array<std::uint32_t, 4> kGranules{8, 16, 64, 8};
  ring::MpscGeometry geometry;
  geometry.lanes = (setup & 0x20) != 0 ? fuzz::kCrowd : fuzz::kFew;
  geometry.lane.capacity = fuzz::kCapacity;
  geometry.lane.granule = kGranules[setup >> 6];
  geometry.lane.lane_id = 0x1a9e;
  const fuzz::GuardedArea& area = (setup & 0x20) != 0 ? crowd : few;
  area.clear();
  ring::format_mpsc_area(area.bytes(), geometry);
  OracleAccess::allow(area.bytes(), fuzz::rights_at);

  fuzz::Run run(area.bytes(), geometry, mode);
  for (std::uint32_t lane = 0; lane < held % (geometry.lanes + 1); ++lane) run.join(lane);
  const auto before = static_cast<ring::Predecessor>((setup >> 3 & 3) % 3);
  OracleAccess::rest(OracleAccess::next_byte());
  if (!run.attach(before, tuning & 7, (setup & 4) != 0)) return 0;
  for (int i = 0; i < 400 && run.has_consumer() && OracleAccess::has_input(); ++i) {
    run.step(OracleAccess::next_byte());
  }
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <optional>
#include <vector>

#include "depth.h"
#include "guarded_total.h"
#include "support/oracle_access.h"
#include "total_rules.h"

// A ring of total order whose other producers and consumer lie in every load, and in the outcome of
// every swap. The producer must claim inside the ring, store into what it claimed and its own
// entry alone, swap what the protocol swaps, and stay corrupt once it said so; so must who takes
// an entry, leaves it, and reaps the dead. As long as nobody lied, a claim succeeds exactly when
// there is room, and the consumer gets what was committed.
// Input: byte 0: mode:2, attach hears lies:1, unused:2, start:3; byte 1: rest; then operations,
// each a byte of choice, one of rest, and details.
namespace slipring::fuzz {
namespace {

using ring::Descriptor;
using ring::kTotalGranule;
using ring::RecordState;
using test::OracleAccess;
using As = TotalActing::As;
using Producer = ring::TotalProducer<OracleAccess>;

const Depth kCommitted{"record committed"};
const Depth kShort{"committed shorter than claimed"};
const Depth kAborted{"claim aborted"};
const Depth kPadding{"claim behind padding"};
const Depth kFull{"no room"};
const Depth kHopped{"claim behind another producer's"};
const Depth kOld{"claim over a descriptor of long ago"};
const Depth kReaped{"claim of a dead owner resolved"};
const Depth kAlive{"living owner left alone"};
const Depth kLeftOpen{"entry left with an open claim"};
const Depth kTakenOver{"entry of the dead taken"};
const Depth kCorrupt{"turned corrupt"};
const Depth kLied{"committed although somebody lied"};

// c1 + c2 * granules, since the last change by another (I10): claims are lock-free. Each pass loads
// the hint, read_pos and the chain; a read_pos of long ago costs a second pass, padding two more.
constexpr std::uint64_t kLoadsPerPass = kGranules + 6;
constexpr std::uint64_t kLoadsToFindRoom = 2 * kLoadsPerPass;
constexpr std::uint64_t kLoadsToClaim = 2 * (kLoadsToFindRoom + 1);
constexpr std::uint64_t kLoadsToAttach = 7 + 1 + 1 + 5;
// A look at a holder: its role, sixteen words of a token, the role twice more.
constexpr std::uint64_t kLoadsToLook = 19;
// Each granule: descriptor, read_pos, the role once more, a swap.
constexpr std::uint64_t kLoadsToResolve = 1 + 4 * kGranules;
constexpr std::uint64_t kLoadsToReap = 7 + 1 + kMaxLooks * kLoadsToLook + kLoadsToResolve;
constexpr std::uint64_t kLoadsToTakeRole = 1 + kMaxLooks * (kLoadsToLook + 1);

class Run {
 public:
  Run(const GuardedTotal& ring, OracleAccess::Mode mode, const GuardedTotal::Start& start)
      : ring_(ring), mode_(mode), book_(start.pos), other_(ring, book_) {
    total_acting = {};
    total_acting.ring = &ring;
    spoiled_ = start.pos > ring::kMaxPosition / 2;  // positions may end under us
    const auto slot = ring::take_owner<NativeAccess>(ring.bytes());
    expect(slot.has_value() && other_.take(), "no owner entry in a fresh ring");
    total_acting.slot = *slot;
    auto consumer = ring::TotalConsumer<>::attach(ring.bytes(), ring::Predecessor::none);
    expect(consumer.has_value(), "no consumer in a fresh ring");
    consumer_ = *consumer;
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  void attach(bool hears_lies) {
    // On sound ground, or lied to from the start: then a free oracle has to guess the magic.
    OracleAccess::switch_to(hears_lies ? mode_ : OracleAccess::Mode::honest);
    OracleAccess::limit_loads(kLoadsToAttach);
    auto producer = Producer::attach(ring_.bytes(), total_acting.slot);
    OracleAccess::switch_to(mode_);
    producer_.reset();
    total_acting.has_claim = false;
    if (!producer) {
      const Errc code = producer.error().code;
      expect(code == Errc::bad_format || code == Errc::corrupt || code == Errc::in_use ||
                 code == Errc::invalid_argument,
             "attach: an error that it does not name");
      expect(!is_sound(), "attach: a sound ring refused");
      return;
    }
    if (producer->geometry().owners != kOwners) return;  // lies that agree: another ring
    producer_ = *producer;
    hide_holder(ring_.view().owner_role(total_acting.slot.index));
    corrupt_ = false;
    last_end_ = 0;
  }

  void step(std::uint8_t choice) {
    OracleAccess::rest(OracleAccess::next_byte());
    const auto detail = static_cast<std::uint8_t>(choice >> 4);
    switch (choice & 15) {
      case 0:
      case 1: claim(next_size(), (detail & 8) != 0, detail & 3); break;
      case 2: commit(OracleAccess::next_word<std::uint16_t>()); break;
      case 3: abort(); break;
      case 4: send(next_size()); break;
      case 5: has_room(next_size(), (detail & 8) != 0); break;
      case 6: want_space(); break;
      case 7: reap(detail); break;
      case 8: leave_and_take((detail & 8) != 0); break;
      case 9: (void)other_.send(next_size()); break;
      case 10: (void)other_.claim(next_size(), (detail & 8) != 0); break;
      case 11: (detail & 1) != 0 ? other_.abort() : other_.commit(next_size()); break;
      case 12: end_or_take(); break;
      case 13: consume(detail); break;
      case 14: die_and_take(); break;
      default: poke(detail);
    }
  }
  [[nodiscard]] bool has_producer() const noexcept { return producer_.has_value(); }

 private:
  /// Nobody lied yet: there is room exactly where the book has some.
  [[nodiscard]] bool is_sound() const noexcept {
    return mode_ != OracleAccess::Mode::free && !spoiled_ && OracleAccess::lies() == 0;
  }
  static std::size_t next_size() {
    return OracleAccess::next_word<std::uint16_t>() % (kTotalCapacity / 4 - kTotalGranule + 9);
  }
  [[nodiscard]] bool fits(std::size_t size, bool own_line) const {
    const std::uint64_t end = book_.end_of(ClaimBook::room_for(size, own_line));
    return end - ring_.told_read() <= kTotalCapacity;
  }

  void note_error(Errc code, std::size_t size, bool own_line) {
    expect(code == Errc::full || code == Errc::too_large || code == Errc::in_use ||
               code == Errc::corrupt,
           "claim: an error that it does not name");
    const bool too_large = size > producer_->max_payload();
    expect(code != Errc::too_large || too_large, "claim: too large, and it is not");
    expect(!too_large || code == Errc::too_large || code == Errc::corrupt, "claim: too large");
    expect(!corrupt_ || code == Errc::corrupt, "corrupt once, and another error later");
    expect(code != Errc::in_use || producer_->has_open_claim(), "in use without a claim");
    kFull.reached_if(code == Errc::full);
    kCorrupt.reached_if(!corrupt_ && code == Errc::corrupt);
    corrupt_ = corrupt_ || code == Errc::corrupt;
    if (!is_sound()) return;
    expect(code != Errc::corrupt, "corrupt, and nobody lied");
    expect(code != Errc::full || !fits(size, own_line), "full, and there is room");
  }

  void note_claim(std::size_t size, bool own_line, bool fitted) {
    expect(!corrupt_, "a claim after corrupt");
    const std::uint64_t pos = producer_->claim_pos();
    const std::uint64_t room = ClaimBook::room_for(size, own_line);
    expect(is_aligned(pos, kTotalGranule) && pos >= last_end_, "a claim in front of the last one");
    expect(pos % kTotalCapacity + room <= kTotalCapacity, "a claim over the end of a lap");
    last_end_ = pos + room;
    if (!is_sound()) return;
    expect(fitted, "a claim without room");
    expect(pos + room == book_.end_of(room), "a claim that is not at the frontier");
    kPadding.reached_if(pos != book_.frontier());
    const ClaimBook::Entry* last = book_.last();
    kHopped.reached_if(last != nullptr && last->owner != total_acting.slot.index);
  }

  void claim(std::size_t size, bool own_line, unsigned then) {
    total_acting.as = As::producer;
    const bool fitted = fits(size, own_line);
    const bool was_open = producer_->has_open_claim();
    const std::uint64_t old = ring_.view().lap(book_.frontier());
    const Descriptor there = ring_.descriptor(book_.frontier());
    OracleAccess::limit_loads_since_a_lie(kLoadsToClaim);
    const auto claim = producer_->try_claim(size, own_line);
    if (!claim) {
      note_error(claim.error().code, size, own_line);
      return;
    }
    expect(!was_open, "two claims at a time");
    note_claim(size, own_line, fitted);
    const std::uint64_t pos = producer_->claim_pos();
    const std::uint64_t room = ClaimBook::room_for(size, own_line);
    expect(claim->payload.size() == size, "a claim of another size");
    const auto in_ring = ring_.data().subspan(pos % kTotalCapacity + 8, room - 8);
    expect(size == 0 || lies_in(claim->payload, in_ring), "a payload outside of its record");
    const Descriptor ours{ring_.view().lap(pos), total_acting.slot.index + 1,
                          static_cast<std::uint32_t>(room / kTotalGranule), RecordState::claimed};
    expect(ring_.descriptor(pos) == ours, "claimed, and the descriptor says otherwise");
    kOld.reached_if(is_sound() && ring::lap_ahead(old, there.lap) > ring::kRenewAge);
    total_acting.has_claim = true;
    total_acting.claim_pos = pos;
    total_acting.claim_end = pos + room;
    number_ = book_.claim(pos, room, total_acting.slot.index, size);
    const bool own = own_line || size >= ring::kOwnLineBytes;
    if (size != 0) OracleAccess::check(claim->payload.data(), size, own ? kCacheLine : 8, true);
    stamp(claim->payload, number_);
    if (then == 1) commit(size);
    if (then == 2) abort();
  }

  void commit(std::size_t used) {
    total_acting.as = As::producer;
    OracleAccess::limit_loads(0);
    const bool open = producer_->has_open_claim();
    const std::uint64_t messages = producer_->messages();
    producer_->commit(used, static_cast<std::uint16_t>(number_));
    expect(producer_->messages() == messages + (open ? 1 : 0), "a commit counts one message");
    expect(!producer_->has_open_claim(), "committed, and still open");
    if (!open) return;
    expect(ring_.descriptor(total_acting.claim_pos).state == RecordState::committed,
           "not committed");
    const ClaimBook::Entry* entry = book_.at(number_);
    kShort.reached_if(used < entry->size);
    book_.resolve(total_acting.slot.index, RecordState::committed, used);
    total_acting.has_claim = false;
    kCommitted.reached();
    kLied.reached_if(!is_sound());
  }

  void abort() {
    total_acting.as = As::producer;
    OracleAccess::limit_loads(0);
    const bool open = producer_->has_open_claim();
    producer_->abort();
    expect(!producer_->has_open_claim(), "aborted, and still open");
    if (!open) return;
    expect(ring_.descriptor(total_acting.claim_pos).state == RecordState::dead, "not dead");
    book_.resolve(total_acting.slot.index, RecordState::dead);
    total_acting.has_claim = false;
    kAborted.reached();
  }

  void send(std::size_t size) {
    if (producer_->has_open_claim()) return;
    total_acting.as = As::sender;
    const bool fitted = fits(size, false);
    OracleAccess::limit_loads_since_a_lie(kLoadsToClaim);
    const std::size_t number = book_.next_number(ClaimBook::room_for(size, false));
    std::array<std::byte, kTotalCapacity / 4 + 64> message;
    stamp({message.data(), size}, number);
    const auto sent =
        producer_->try_send({message.data(), size}, static_cast<std::uint16_t>(number));
    if (!sent) {
      note_error(sent.error().code, size, false);
      return;
    }
    note_claim(size, false, fitted);
    (void)book_.claim(producer_->claim_pos(), ClaimBook::room_for(size, false),
                      total_acting.slot.index, size);
    book_.resolve(total_acting.slot.index, RecordState::committed, size);
    kCommitted.reached();
  }

  void has_room(std::size_t size, bool own_line) {
    total_acting.as = As::producer;
    OracleAccess::limit_loads_since_a_lie(kLoadsToFindRoom);
    const bool found = producer_->has_room(size, own_line);
    expect(found || !corrupt_, "parks although the ring is corrupt");
    if (!is_sound() || producer_->has_open_claim() || size > producer_->max_payload()) return;
    expect(found == fits(size, own_line), "has_room is wrong");
  }
  void want_space() {
    total_acting.as = As::producer;
    OracleAccess::limit_loads(0);
    producer_->set_space_wanted();
  }

  void reap(std::uint32_t owner) {
    total_acting.as = As::reaper;
    total_acting.owner = owner;
    const bool is_ours = owner == total_acting.slot.index;
    const bool is_other = other_.is_in() && owner == other_.owner();
    OracleAccess::limit_loads(kLoadsToReap);
    const auto reaped = owner < kOwners
                            ? ring::reap<OracleAccess>(ring_.bytes(), owner, watches_[owner])
                            : ring::reap<OracleAccess>(ring_.bytes(), owner);
    if (!reaped) {
      const Errc code = reaped.error().code;
      expect(code == Errc::in_use || code == Errc::invalid_argument || code == Errc::corrupt ||
                 code == Errc::bad_format,
             "reap: an error that it does not name");
      kAlive.reached_if(code == Errc::in_use);
      if (is_sound()) expect((code == Errc::in_use) == (is_ours || is_other), "alive, or not");
      return;
    }
    expect(*reaped <= kGranules, "more claims than there are granules");
    const bool had_a_claim = book_.resolve_dead(owner);
    if (is_sound())
      expect(*reaped == static_cast<std::size_t>(had_a_claim), "reaped something else");
    kReaped.reached_if(*reaped != 0);
  }

  /// Gives the entry back, as in order, and takes one again.
  void leave_and_take(bool gives_claim_up) {
    if (gives_claim_up) abort();
    total_acting.as = As::leaver;
    total_acting.owner = total_acting.slot.index;
    const bool open = producer_->has_open_claim();
    OracleAccess::limit_loads(7 + 1 + kLoadsToResolve);
    const auto left = ring::leave_owner<OracleAccess>(ring_.bytes(), total_acting.slot);
    if (left) {
      book_.resolve(total_acting.slot.index, RecordState::dead);
      kLeftOpen.reached_if(open);
    } else {
      const Errc code = left.error().code;
      expect(code == Errc::corrupt || code == Errc::bad_format || code == Errc::invalid_argument,
             "leave: an error that it does not name");
      expect(!is_sound(), "leave: a sound ring refused");
    }
    take();
  }
  /// Dies with whatever it has, and goes on as its own successor.
  void die_and_take() {
    kill_holder(ring_.view().owner_role(total_acting.slot.index));
    take();
  }
  void take() {
    total_acting.as = As::taker;
    std::array<bool, kOwners> was_held;
    for (std::uint32_t i = 0; i < kOwners; ++i) was_held[i] = is_held(i);
    // Of as many entries as lies can put into the owner table's page, free ones and held ones.
    constexpr std::uint64_t kEntries = 4096 / sizeof(ring::TotalOwner);
    OracleAccess::limit_loads(7 + 2 * kEntries *
                                      (1 + kLoadsToReap + kLoadsToTakeRole + 1 + kLoadsToResolve));
    const auto slot = ring::take_owner<OracleAccess>(ring_.bytes());
    producer_.reset();
    if (!slot) {
      const Errc code = slot.error().code;
      expect(code == Errc::in_use || code == Errc::segment_lost || code == Errc::bad_format ||
                 code == Errc::corrupt,
             "take: an error that it does not name");
      expect(!is_sound(), "take: no entry, and one is free");
      return;
    }
    kTakenOver.reached_if(slot->index < kOwners && was_held[slot->index]);
    total_acting.slot = *slot;
    total_acting.as = As::producer;
    book_.resolve_dead(slot->index);
    attach(false);
  }
  [[nodiscard]] bool is_held(std::uint32_t owner) const {
    const auto role = NativeAccess::load_relaxed(ring_.view().owners[owner].role);
    return RoleWord::decode(role).state == RoleWord::State::held;
  }

  void end_or_take() {
    if (!other_.is_in()) return (void)other_.take();
    other_.die();
    watches_ = {};  // they keep what they knew of a holder; in truth a death changes no token
  }

  /// A consumer that hears no lies sees what the book says.
  void consume(std::uint8_t count) {
    while (count-- > 0) {
      const std::size_t expected = book_.next(consumer_->read_pos());
      const auto record = consumer_->try_peek();
      if (!record) {
        const ClaimBook::Entry* entry = book_.at(expected);
        if (is_sound()) {
          expect(entry == nullptr || entry->state == RecordState::claimed, "not delivered");
        }
        break;
      }
      if (is_sound()) expect(book_.is_record(expected, *record), "delivered something else");
      consumer_->release(*record);
    }
    consumer_->tell_read();
    if (ring_.told_read() > ring::kMaxPosition) spoiled_ = true;
  }

  /// Any word that a peer may store: of the control page, the owner table, or a descriptor.
  void poke(std::uint8_t detail) {
    const std::size_t word = OracleAccess::next_byte() * std::size_t{8};
    const ring::TotalGeometry geometry = GuardedTotal::geometry();
    const std::array<std::size_t, 4> at{
        word % sizeof(ring::TotalControl), geometry.owners_offset() + word % 768,
        geometry.desc_offset() + word % (8 * kGranules), word % sizeof(ring::TotalControl)};
    NativeAccess::store_relaxed(word_at<std::uint64_t>(ring_.bytes().data(), at[detail & 3]),
                                OracleAccess::next_word<std::uint64_t>());
    spoiled_ = true;
  }

  const GuardedTotal& ring_;
  OracleAccess::Mode mode_;
  ClaimBook book_;
  SoundProducer other_;
  std::optional<ring::TotalConsumer<>> consumer_;
  std::optional<Producer> producer_;
  std::array<RoleWatch, kOwners> watches_;
  std::size_t number_ = 0;  // of the open claim
  std::uint64_t last_end_ = 0;
  bool corrupt_ = false;
  bool spoiled_ = false;
};

}  // namespace
}  // namespace slipring::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipring;
  using test::OracleAccess;
  static const fuzz::GuardedTotal ring;
  if (size < 2) return 0;
  OracleAccess::feed({data, size}, OracleAccess::Mode::honest);
  const std::uint8_t setup = OracleAccess::next_byte();
  const auto& start = fuzz::GuardedTotal::kStarts[setup >> 5];
  ring.format(start);
  OracleAccess::allow(ring.bytes(), fuzz::total_rights_at, fuzz::is_total_swap);
  fuzz::Run run(ring, static_cast<OracleAccess::Mode>(setup & 3), start);
  OracleAccess::rest(OracleAccess::next_byte());
  run.attach((setup & 4) != 0);
  for (int i = 0; i < 400 && run.has_producer() && OracleAccess::has_input(); ++i) {
    run.step(OracleAccess::next_byte());
  }
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "slipring/channel/check.h"

#include <algorithm>
#include <utility>

#include "slipring/base/role.h"
#include "slipring/channel/ring_body.h"
#include "slipring/pool/block_pool.h"
#include "slipring/ring/record_extent.h"
#include "slipring/ring/total_walk.h"

namespace slipring::channel {
namespace {

using Native = NativeAccess;
using Peer = RoleWatch::Peer;

/// What is wrong with a part, or nothing. The last look at words that keep still decides.
struct Fault {
  const char* rule = nullptr;
  const char* what = "";
};
constexpr Fault kSound{};

/// A told position and the counters that belong to it, whenever the teller was killed (R7).
struct Told {
  std::uint64_t pos = 0, before_pos = 0, messages = 0, before_messages = 0;

  [[nodiscard]] std::uint64_t count() const noexcept {
    return before_pos == pos ? before_messages : messages;
  }
  friend bool operator==(const Told&, const Told&) = default;
};

Told load_told(const ring::LaneProducerSide& side) {
  Told told;
  // SYNC lane.tell_write (acquire <- release in LaneProducer::tell_write): the words below are set.
  told.pos = Native::load_acquire(side.write_pos);
  told.before_messages = Native::load_acquire(side.before_messages);
  told.before_pos = Native::load_acquire(side.before_pos);
  told.messages = Native::load_acquire(side.messages);
  return told;
}
Told load_told(const ring::LaneConsumerSide& side) {
  Told told;
  // SYNC lane.reclaim (acquire <- release in LaneConsumer::tell_read): only to be no older than it.
  told.pos = Native::load_acquire(side.read_pos);
  told.before_messages = Native::load_acquire(side.before_messages);
  told.before_pos = Native::load_acquire(side.before_pos);
  told.messages = Native::load_acquire(side.messages);
  return told;
}
Told load_told(const ring::TotalControl& control) {
  Told told;
  // SYNC total.reclaim (acquire <- release in TotalConsumer::tell_read): descriptors behind it.
  told.pos = Native::load_acquire(control.read_pos);
  told.before_messages = Native::load_acquire(control.before_messages);
  told.before_pos = Native::load_acquire(control.before_pos);
  told.messages = Native::load_acquire(control.messages);
  return told;
}

class Checker {
 public:
  explicit Checker(const RingBody& body) : body_(body), shape_(body.shape()) {}

  CheckReport run() && {
    check_role(body_.consumer_role(), "consumer",
               "its successor begins where it told to have read");
    if (shape_.form == RingForm::total) {
      check_total();
      report_.lanes = 1;
    } else {
      for (std::uint32_t i = 0; i < shape_.senders; ++i) check_lane(i);
    }
    if (!body_.pool().empty()) check_pool();
    return std::move(report_);
  }

 private:
  void add(Severity severity, const char* rule, std::string where, std::string what) {
    ++(severity == Severity::violation ? report_.violations : report_.pendings);
    if (report_.findings.size() < CheckReport::kMaxFindings) {
      report_.findings.push_back({severity, rule, std::move(where), std::move(what)});
    }
  }

  /// True when somebody holds the role, alive or dead.
  bool check_role(RoleRef role, const std::string& where, const char* healed_by) {
    RoleWatch watch;
    const Peer peer = watch.look(role);
    if (peer != Peer::dead) return peer == Peer::alive;
    // SYNC role.take (acquire <- release in leave_role): only to name it.
    const RoleWord word = RoleWord::decode(Native::load_acquire(role.word));
    add(Severity::pending, "I5", where,
        "its holder, process " + std::to_string(word.pid) + ", is dead: " + healed_by);
    return true;
  }

  /// Calls `judge` until what it says about words that kept still is said twice.
  template <typename Load, typename Judge>
  void look(const std::string& where, Load&& load, Judge&& judge) {
    for (int looks = 0; looks < kMaxCheckLooks; ++looks) {
      const auto before = load();
      const Fault fault = judge(before);
      if (fault.rule == nullptr) return;
      if (load() == before) return add(Severity::violation, fault.rule, where, fault.what);
    }
    ++report_.unsettled;
  }

  // -------------------------------------------------------------------------------------- lanes

  struct LaneTold {
    Told write, read;
    friend bool operator==(const LaneTold&, const LaneTold&) = default;
  };

  void check_lane(std::uint32_t index) {
    const RoleRef role = body_.sender_role(index);
    // SYNC role.take (acquire <- release in leave_role): only whether anybody ever came.
    const RoleWord word = RoleWord::decode(Native::load_acquire(role.word));
    if (word.state == RoleWord::State::vacant && shape_.form == RingForm::per_producer) return;
    const std::string where = "lane " + std::to_string(index);
    check_role(role, where, "what it committed is read first, then its place is free");
    ++report_.lanes;
    const ring::LaneAreas areas = body_.lane(index);
    const auto geometry = ring::detail::load_both_areas<Native>(areas);
    if (!geometry || geometry->capacity != shape_.capacity || geometry->granule != shape_.granule) {
      return add(Severity::violation, "format", where, "its areas are not those of one lane");
    }
    std::uint64_t unread = 0;
    LaneTold told;
    look(
        where,
        [&] {
          return LaneTold{load_told(body_.producer_side(index)),
                          load_told(body_.consumer_side(index))};
        },
        [&](const LaneTold& now) {
          told = now;
          return judge_lane(now, areas.producer.data() + ring::kLaneAreaBytes, unread);
        });
    report_.records += unread;
    report_.released += told.read.count();
    report_.committed += told.read.count() + unread;
  }

  // One walk from the lower of the two told positions: while they keep still, nobody writes over
  // what lies behind them, so what it finds is no accident of timing.
  [[nodiscard]] Fault judge_lane(const LaneTold& told, std::byte* data, std::uint64_t& unread) {
    const std::uint64_t write = told.write.pos, read = told.read.pos;
    unread = 0;
    if (!is_aligned(write, shape_.granule) || write > ring::kMaxPosition) {
      return {"R2", "write_pos is not a position"};
    }
    if (!is_aligned(read, shape_.granule) || read > ring::kMaxPosition) {
      return {"R2", "read_pos is not a position"};
    }
    const std::uint64_t low = std::min(write, read), high = std::max(write, read);
    if (high - low > shape_.capacity) return {"R1", "its told positions are over a lap apart"};
    std::uint64_t between = 0, beyond = 0, references = 0;
    bool is_boundary = low == high;
    const auto walked = ring::walk_committed<Native>(
        data, ring::LaneShape{shape_.capacity, shape_.granule, shape_.max_payload}, low,
        [&](const ring::RecordHeader& header, const ring::RecordExtent& record) {
          ++(record.end <= high ? between : beyond);
          if (record.end > read) references += header.kind == ring::RecordKind::block;
          is_boundary |= record.end == high;
        });
    if (!walked) return {"R4", "a record header that no producer stores"};
    if (walked->frontier < high) {
      return write < read ? Fault{"R1", "more was released than was committed"}
                          : Fault{"I1", "records that were told as committed are not there"};
    }
    if (!is_boundary) return {"R4", "no record ends at a told position"};
    if (walked->frontier - read > shape_.capacity) return {"R1", "more than a lap is unread"};
    unread = write < read ? beyond : between + beyond;
    references_ += references;
    // I8: at the lower position so many, at the higher so many more.
    const std::uint64_t at_low = (write < read ? told.write : told.read).count();
    const std::uint64_t at_high = (write < read ? told.read : told.write).count();
    if (at_low + between != at_high) return {"I8", "committed is not released plus unread"};
    return kSound;
  }

  // ------------------------------------------------------------------------------- total order

  void check_total() {
    const ring::TotalView ring = body_.total();
    for (std::uint32_t i = 0; i < ring.owner_count; ++i) {
      check_role(ring.owner_role(i), "owner " + std::to_string(i),
                 "what it claimed and did not commit is skipped");
    }
    std::uint64_t unread = 0;
    Told told;
    look(
        "ring", [&] { return load_told(*ring.control); },
        [&](const Told& now) {
          told = now;
          return judge_total(ring, now, unread);
        });
    report_.records += unread;
    report_.released += told.count();
    report_.committed += told.count() + unread;
  }

  [[nodiscard]] Fault judge_total(const ring::TotalView& ring, const Told& told,
                                  std::uint64_t& unread) {
    unread = 0;
    if (!ring::is_total_position(told.pos)) return {"T1", "read_pos is not a position"};
    // Before the walk: what is counted by then was committed by then.
    std::uint64_t counted = 0;
    for (std::uint32_t i = 0; i < ring.owner_count; ++i) {
      counted += Native::load_acquire(ring.owners[i].messages);
    }
    Fault fault = kSound;
    std::uint64_t references = 0;
    const auto end = ring::walk_records<Native>(
        ring, told.pos, [&](std::uint64_t pos, std::uint64_t bits, const ring::Descriptor& record) {
          switch (record.state) {
            case ring::RecordState::committed:
              ++unread;
              if (!has_sound_header(ring, pos, record, references)) {
                fault = {"I2", "a committed record's header does not fit its room"};
              }
              break;
            case ring::RecordState::claimed:
              if (is_abandoned(ring, pos, bits, record.owner_id - 1)) {
                fault = {"I5", "an open claim of an owner whose place is free: nobody ends it"};
              }
              break;
            default: break;
          }
          return fault.rule == nullptr;
        });
    if (!end) return {"T2", "a descriptor that no producer stores"};
    if (fault.rule != nullptr) return fault;
    if (*end - told.pos > ring.capacity) return {"T1", "more than a lap is unread"};
    // A producer killed behind its commit leaves its count one behind, never ahead.
    if (counted > told.count() + unread) return {"I8", "more was counted than was committed"};
    references_ += references;
    return kSound;
  }

  [[nodiscard]] bool has_sound_header(const ring::TotalView& ring, std::uint64_t pos,
                                      const ring::Descriptor& record,
                                      std::uint64_t& references) const {
    const auto header = ring::RecordHeader::decode(Native::load_relaxed(ring.header(pos)));
    const auto extent =
        ring::extent_of(header, pos, {shape_.capacity, ring::kTotalGranule, shape_.max_payload});
    references += header.kind == ring::RecordKind::block;
    return extent && header.kind != ring::RecordKind::padding &&
           extent->end <= pos + record.granules * ring::kTotalGranule;
  }

  /// Its owner resolves a claim before it leaves, so the role is looked at behind the claim, and
  /// the claim once more behind the role.
  [[nodiscard]] static bool is_abandoned(const ring::TotalView& ring, std::uint64_t pos,
                                         std::uint64_t bits, std::uint32_t owner) {
    // SYNC role.take (acquire <- release in leave_role): who left resolved its claims before.
    const RoleWord word = RoleWord::decode(Native::load_acquire(ring.owners[owner].role));
    if (word.state == RoleWord::State::held) return false;
    // SYNC total.claim (acquire <- release in TotalProducer::claim_granules): still that claim?
    return Native::load_acquire(ring.descriptor(pos)) == bits;
  }

  // --------------------------------------------------------------------------------------- pool

  void check_pool() {
    const auto geometry = pool::load_geometry<Native>(body_.pool());
    if (!geometry) {
      return add(Severity::violation, "format", "pool", "its header contradicts itself");
    }
    auto* people =
        reinterpret_cast<pool::ParticipantEntry*>(body_.pool().data() + pool::kPoolHeaderBytes);
    for (std::uint32_t i = 0; i < geometry->participants; ++i) {
      check_role({people[i].role, people[i].token}, "participant " + std::to_string(i + 1),
                 "its blocks come back when it is reaped");
    }
    const auto found = pool::audit<Native>(body_.pool());
    if (!found) return add(Severity::violation, "format", "pool", "it cannot be counted");
    report_.blocks = found->total.capacity;
    if (found->total.odd != 0) {
      add(Severity::violation, "B2", "pool",
          std::to_string(found->total.odd) + " blocks are in a state that no operation leaves");
    } else if (!found->is_whole()) {
      add(Severity::violation, "I7", "pool", "free, claimed, lent and held are not all blocks");
    }
    // Lent by one that left, and on its way to a receiver, is no orphan: a record refers to it.
    if (found->total.orphans > references_) {
      add(Severity::pending, "I7", "pool",
          std::to_string(found->total.orphans - references_) +
              " blocks are lent, nobody's, and in no record: the receiver clears them");
    }
  }

  const RingBody& body_;
  const RingShape& shape_;
  CheckReport report_;
  std::uint64_t references_ = 0;  // to blocks, in unread records
};

}  // namespace

Result<CheckReport> check(const segment::Segment& segment) {
  const auto body = RingBody::of(segment);
  if (!body) return tl::unexpected(body.error());
  return Checker(*body).run();
}

}  // namespace slipring::channel

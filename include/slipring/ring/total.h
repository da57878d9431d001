// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "slipring/ring/lane.h"
#include "slipring/ring/total_owner.h"

// One ring for many producers and one consumer, in one order for all of them: the order of claims.
// Shared tier only. docs/total.md has the pictures, the proof and what a kill leaves where.
namespace slipring::ring {

/// How often read_pos is told; private. A value outside its range counts as the nearest inside.
struct TotalTuning {
  std::uint32_t tell_read_shift = 3;  ///< Every capacity >> shift bytes; 2 to 63.
};

/// One of the producers. Cursors and geometry are private copies, so several may live in one
/// process. Killed at any instruction it leaves each record whole or absent, and at most one that
/// reap() has to resolve (docs/total.md, "Killed where").
///
/// Threads:  one at a time; one TotalProducer per OwnerSlot.
/// Progress: try_claim is lock-free: it goes back only when another producer claimed or the
///           consumer moved on. All else is wait-free. No system call.
/// Trust:    descriptors, read_pos and claim_hint are everybody's. Each is loaded into a local and
///           checked; what no producer or consumer stores is Errc::corrupt, sticky, never a fault.
/// Source:   Vyukov's bounded queue: a turn number in each cell tells stale from current. Here
///           cells chain into records, and the word names owner, length and fate, too.
template <typename Access = NativeAccess>
class TotalProducer {
 public:
  /// Errors: bad_format  not such a ring; invalid_argument  no such owner;
  ///         in_use      the entry is not held with this generation;
  ///         corrupt     read_pos is not one.
  /// Orders: total.join, total.reclaim.
  [[nodiscard]] static Result<TotalProducer> attach(std::span<std::byte> area,
                                                    OwnerSlot slot) noexcept;

  /// Claims `size` payload bytes, behind all claims before it and before all after it: records are
  /// delivered in this order. One claim at a time, and a short one: nobody's record is delivered
  /// before it is committed or aborted. `own_line` asks for 64-byte alignment.
  /// Errors: full       no room now: wait, stash or give up,
  ///         too_large  size > max_payload(): trying again cannot help,
  ///         in_use     a claim is open,
  ///         corrupt    the ring holds what the protocol cannot produce (sticky).
  /// Orders: total.claim, total.reclaim.
  [[nodiscard]] Result<Claim> try_claim(std::size_t size, bool own_line = false) noexcept;

  /// Publishes the first `used` bytes of the open claim (a larger number counts as all).
  /// Orders: total.publish.
  void commit(std::size_t used, std::uint16_t type = 0,
              RecordKind kind = RecordKind::data) noexcept;

  /// Gives the open claim up: its room becomes a record to skip. Ring the consumer as for a commit.
  /// Orders: total.publish.
  void abort() noexcept;

  /// Copies `message` in: try_claim and commit.
  [[nodiscard]] Result<void> try_send(std::span<const std::byte> message,
                                      std::uint16_t type = 0) noexcept;

  /// Looks anew. True when a claim of `size` bytes would find room, or fail for another reason.
  /// Orders: total.claim, total.reclaim.
  [[nodiscard]] bool has_room(std::size_t size, bool own_line = false) noexcept;

  /// Says that we are about to sleep on space_seq:
  ///   s = space_seq; set_space_wanted(); heavy fence; has_room() or sleep while space_seq == s.
  void set_space_wanted() noexcept;

  [[nodiscard]] std::uint64_t messages() const noexcept { return messages_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  /// From the end of our last claim back to what the consumer told; 0 when it is further.
  [[nodiscard]] std::uint64_t approx_backlog() noexcept;
  [[nodiscard]] std::uint64_t max_payload() const noexcept { return geometry_.max_payload(); }
  [[nodiscard]] const TotalGeometry& geometry() const noexcept { return geometry_; }
  [[nodiscard]] OwnerSlot slot() const noexcept { return slot_; }
  [[nodiscard]] bool has_open_claim() const noexcept { return open_.is_open; }
  /// Where the open, else the last claimed record starts; for tools and tests.
  [[nodiscard]] std::uint64_t claim_pos() const noexcept { return open_.pos; }

 private:
  struct OpenClaim {
    std::uint64_t pos = 0, payload = 0, size = 0;
    std::uint64_t granules = 0;
    bool own_line = false, is_open = false;
  };
  /// A boundary between records (T1), and the bits of its descriptor when we looked.
  struct Place {
    std::uint64_t pos = 0, seen = 0;
    bool proved = true;  // false: the hint says so, its descriptor has to
  };

  TotalProducer() noexcept = default;
  [[nodiscard]] tl::unexpected<Error> poison(const char* why) noexcept;
  [[nodiscard]] Result<void> refresh_read_pos() noexcept;
  [[nodiscard]] Result<Place> start() noexcept;
  [[nodiscard]] Result<void> hop_to_frontier(Place& at) noexcept;
  [[nodiscard]] Result<Place> find_room(std::uint64_t granules) noexcept;
  [[nodiscard]] Result<std::uint64_t> claim_granules(std::uint64_t granules) noexcept;
  [[nodiscard]] std::uint64_t known_boundary() const noexcept {
    return my_pos_ > seen_read_ ? my_pos_ : seen_read_;
  }
  void resolve(RecordState state) noexcept;
  [[nodiscard]] static std::uint64_t granules_for(std::size_t size, bool own_line) noexcept {
    return align_up(payload_pos(0, own_line) + size, kTotalGranule) / kTotalGranule;
  }

  TotalView view_;
  std::uint64_t my_pos_ = 0;     // end of our last claim: a boundary, perhaps an old one
  std::uint64_t seen_read_ = 0;  // stale: read_pos only grows
  std::uint64_t seen_hint_ = 0;
  std::uint64_t hint_every_ = 0;
  std::uint64_t messages_ = 0, bytes_ = 0, aborts_ = 0, fulls_ = 0;
  OpenClaim open_;
  OwnerSlot slot_;
  bool poisoned_ = false;
  TotalOwner* mine_ = nullptr;
  TotalGeometry geometry_;
};

/// Whom the consumer waits for.
struct BlockedBy {
  std::uint32_t owner = 0;     ///< Index in the owner table; its role says who that is.
  std::uint64_t position = 0;  ///< Of the record that it claimed and did not commit.
  std::int64_t since_ns = 0;   ///< CLOCK_MONOTONIC, when blocked_by() first told of it.
};

/// The consumer.
///
/// Threads:  one at a time; handing over needs synchronisation of the caller's own.
/// Progress: every operation is wait-free and makes no system call. A stopped producer with an open
///           claim holds up delivery: that is the price of one order for all.
/// Trust:    descriptors and record headers are the producers' words. One that the protocol cannot
///           produce is Errc::corrupt, sticky; a payload is only as true as its sender.
template <typename Access = NativeAccess>
class TotalConsumer {
 public:
  /// Attaches at the told read_pos. After a death, records up to the frontier of now carry
  /// `redelivered`: the predecessor may have used them without telling.
  /// Errors: bad_format  not such a ring; corrupt  it holds what the protocol cannot produce.
  /// Orders: total.join, total.claim.
  [[nodiscard]] static Result<TotalConsumer> attach(std::span<std::byte> area, Predecessor before,
                                                    TotalTuning tuning = {}) noexcept;

  /// The oldest record not yet released, in place; the same again until it is released.
  /// Errors: empty    nothing more is committed: see blocked_by(),
  ///         corrupt  a producer broke the format (sticky).
  /// Orders: total.publish, total.reap.
  [[nodiscard]] Result<Record> try_peek() noexcept;

  /// The oldest unreleased records, as many as are committed and fit `out`; at least one.
  /// Errors: as try_peek; of a corrupt run the records before it are returned first.
  /// Orders: total.publish, total.reap.
  [[nodiscard]] Result<std::size_t> peek_many(std::span<Record> out) noexcept;

  /// True when try_peek would not say `empty`, or would find something to skip: do not park.
  /// Orders: total.publish.
  [[nodiscard]] bool has_record() const noexcept;

  /// Whose open claim made the last peek say `empty`. Only the proof of its death lets anyone
  /// resolve it: reap().
  [[nodiscard]] std::optional<BlockedBy> blocked_by() noexcept;

  /// Gives back `record` and all older ones. Releasing twice changes nothing. True when read_pos
  /// was told: see space_wanted_seen().
  /// Orders: total.reclaim.
  bool release(const Record& record) noexcept;

  /// Tells read_pos now. Runs by itself every capacity >> tell_read_shift bytes; call it when the
  /// ring ran empty, before parking and before leaving. True when it was behind.
  /// Orders: total.reclaim.
  bool tell_read() noexcept;

  /// To be called behind a light fence when read_pos was told. True when producers wait for room:
  /// the mark is then cleared and space_seq raised, and the caller wakes all who sleep on it.
  [[nodiscard]] bool space_wanted_seen() noexcept;

  [[nodiscard]] std::uint64_t read_pos() const noexcept { return my_read_; }
  [[nodiscard]] std::uint64_t messages() const noexcept { return messages_; }
  [[nodiscard]] std::uint64_t approx_backlog() const noexcept;
  [[nodiscard]] const TotalGeometry& geometry() const noexcept { return geometry_; }

 private:
  TotalConsumer() noexcept = default;
  [[nodiscard]] Result<void> recover(Predecessor before) noexcept;
  /// The record at or behind `pos`; `pos` moves over dead ones.
  [[nodiscard]] Result<Record> look(std::uint64_t& pos, std::uint64_t number) noexcept;
  [[nodiscard]] Result<Record> read_record(std::uint64_t pos, const Descriptor& desc,
                                           std::uint64_t number) noexcept;
  [[nodiscard]] tl::unexpected<Error> poison(const char* why) noexcept;
  void renew_one() noexcept;

  TotalView view_;
  std::uint64_t my_read_ = 0;
  std::uint64_t peeked_to_ = 0;  // end of the furthest record handed out
  std::uint64_t told_read_ = 0;
  std::uint64_t tell_every_ = 0;
  std::uint64_t renewed_lap_ = 0;
  std::uint64_t messages_ = 0, redelivered_ = 0;
  std::uint64_t told_messages_ = 0, told_redelivered_ = 0;  // what belongs to told_read_
  std::uint64_t redeliver_to_ = 0;    // position behind the last record that may be a repeat,
  std::uint64_t redeliver_last_ = 0;  // and its number
  BlockedBy blocked_;
  bool is_blocked_ = false;
  bool poisoned_ = false;
  TotalGeometry geometry_;
};

}  // namespace slipring::ring

#include "slipring/ring/total_inl.h"

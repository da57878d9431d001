// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "slipring/base/result.h"
#include "slipring/ring/layout.h"
#include "slipring/ring/record_extent.h"

namespace slipring::ring {

/// Bytes of a producer area: its control page and the data.
[[nodiscard]] constexpr std::uint64_t producer_area_bytes(std::uint64_t capacity) noexcept {
  return kLaneAreaBytes + capacity;
}

/// Errors: invalid_argument  capacity not a power of two in [kMinCapacity, kMaxCapacity], or
///                           granule not 8, 16 or 64,
///         too_large         a type larger than max_payload().
[[nodiscard]] Result<void> check_geometry(const LaneGeometry& geometry) noexcept;

/// Formats an area of zero bytes, magic last. For its creator, before anybody else sees it.
/// Orders: lane.join.
void format_producer_area(std::span<std::byte> area, const LaneGeometry& geometry) noexcept;
void format_consumer_area(std::span<std::byte> area, std::uint64_t lane_id) noexcept;

/// Reads what a producer area says of itself, each word once, and checks it against its size.
/// Trust:  all of it; only what is returned may be used.
/// Errors: bad_format  not a lane, another version, or numbers that contradict each other.
/// Orders: lane.join.
template <typename Access>
[[nodiscard]] Result<LaneGeometry> load_geometry(std::span<std::byte> producer_area) noexcept;

/// Both areas of a lane as one side sees them; the peer's may be mapped read-only.
struct LaneAreas {
  std::span<std::byte> producer;  ///< 128-byte aligned, producer_area_bytes(capacity) or more.
  std::span<std::byte> consumer;  ///< 128-byte aligned, kLaneAreaBytes or more.
};

/// How the predecessor in this role ended; decides what recovery may assume.
enum class Predecessor : std::uint8_t {
  none,  ///< The data area has never been written: all zero.
  left,  ///< Detached in order.
  dead,  ///< Proved dead by the kernel, at any instruction.
};

/// How often positions are told, and how far words are cleared ahead; private to each side.
/// A value outside its range counts as the nearest one inside.
struct LaneTuning {
  std::uint32_t tell_read_shift = 3;   ///< read_pos every capacity >> shift bytes; 2 to 63.
  std::uint32_t tell_write_shift = 4;  ///< write_pos every capacity >> shift bytes; 3 to 63.
  /// Cleared beyond the next header word behind a small record, once it is published; at most
  /// capacity / 4. docs/decisions/0012-clean-ahead-of-small-records.md.
  std::uint32_t zero_ahead_bytes = 256;
};

/// Room for one record, ours until commit() or abort().
struct Claim {
  std::span<std::byte> payload;  ///< Contiguous, 8-byte aligned; 64 from kOwnLineBytes on.
};

/// One committed record, in place. Valid until it is released.
struct Record {
  std::span<const std::byte> payload;
  std::uint64_t end = 0;     ///< Position behind it: what release() needs.
  std::uint64_t number = 0;  ///< Messages of this lane up to and including this one.
  std::uint32_t source = 0;  ///< Of many producers: the lane, or the entry in the owner table.
  std::uint16_t type = 0;    ///< The sender's own tag.
  RecordKind kind = RecordKind::data;
  bool redelivered = false;  ///< May have been seen by a consumer that died before releasing it.
};

/// The producer's end of a lane. Cursors and geometry are private copies, so both ends may live in
/// one process (tests) or two, in one segment or two (sealed).
/// Killed at any instruction it leaves each record whole or absent (docs/lane.md, "Killed where").
///
/// Threads:  one at a time; handing over needs synchronisation of the caller's own.
/// Progress: every operation is wait-free and makes no system call.
/// Trust:    read_pos is the consumer's word; a bad one is Errc::corrupt, sticky, never a fault.
/// Source:   Lamport 1983; commit word beside the payload as in Aeron's ring buffers. We add group
///           commit, recovery by walking, and a zero word one record ahead (docs/lane.md).
template <typename Access = NativeAccess>
class LaneProducer {
 public:
  /// Attaches and recovers: walks from write_pos over what the predecessor committed. Reads only,
  /// so it may be killed and repeated.
  /// Errors: bad_format  the areas are not a lane; corrupt  they hold what no producer leaves.
  /// Orders: lane.join, lane.publish, lane.reclaim.
  [[nodiscard]] static Result<LaneProducer> attach(LaneAreas areas, Predecessor before,
                                                   LaneTuning tuning = {}) noexcept;

  /// Claims `size` payload bytes. One claim at a time. `own_line` asks for 64-byte alignment.
  /// Errors: full       no room now: wait, stash or give up,
  ///         too_large  size > max_payload(): trying again cannot help,
  ///         in_use     a claim is open,
  ///         corrupt    the consumer broke R1 or R2.
  /// Orders: lane.reclaim.
  [[nodiscard]] Result<Claim> try_claim(std::size_t size, bool own_line = false) noexcept;

  /// The fast half of try_claim: the payload's place, or null when there is more to it; try_claim
  /// then says what. For the layer above, as LaneConsumer::peek_plain.
  [[nodiscard]] std::byte* claim_plain(std::size_t size, bool own_line) noexcept;

  /// Publishes the first `used` bytes of the open claim (never more than claimed; a larger number
  /// counts as all). Inside a group, publication waits for end_group().
  /// Orders: lane.publish.
  void commit(std::size_t used, std::uint16_t type = 0,
              RecordKind kind = RecordKind::data) noexcept;

  /// Gives the open claim up. It leaves no trace but a count.
  void abort() noexcept;

  /// Starts a group: records up to end_group() become visible together or, when we are killed, not
  /// at all. At most half the capacity, padding included; a claim beyond that is `full`, and
  /// waiting inside a group would wait for ever. End it then: repeated at the same position it
  /// would not fit either. Records of a quarter of the capacity together always fit.
  /// Errors: in_use  a claim or a group is open.
  [[nodiscard]] Result<void> begin_group() noexcept;
  /// Publishes the group with one store. An open claim is aborted. Without records: nothing.
  /// Orders: lane.publish.
  void end_group() noexcept;
  /// Takes every record of the group back.
  void abort_group() noexcept;

  /// Copies `message` in: try_claim and commit.
  [[nodiscard]] Result<void> try_send(std::span<const std::byte> message,
                                      std::uint16_t type = 0) noexcept;

  /// The fast half of try_send: false, and nothing done, when there is more to it.
  /// Orders: lane.publish.
  [[nodiscard, gnu::always_inline]] bool send_plain(std::span<const std::byte> message,
                                                    std::uint16_t type) noexcept;

  /// Loads read_pos anew. True when a claim of `size` bytes would succeed, or fail for another
  /// reason than room.
  /// Orders: lane.reclaim.
  [[nodiscard]] bool has_room(std::size_t size, bool own_line = false) noexcept;

  /// read_pos from which on a claim of `size` fits, with some distance, so that a parked producer
  /// wakes up to a burst and not to one record.
  [[nodiscard]] std::uint64_t want_pos(std::size_t size) const noexcept;

  /// Stores write_pos and counters where recovery and tools look. Runs by itself every
  /// capacity >> tell_write_shift bytes; call it before parking and before leaving.
  [[gnu::noinline]] void tell_write() noexcept;

  [[nodiscard]] std::uint64_t write_pos() const noexcept { return my_write_; }
  [[nodiscard]] std::uint64_t read_pos_seen() const noexcept { return seen_read_; }
  [[nodiscard]] std::uint64_t messages() const noexcept {
    return told_messages_ + untold_ / kOneMessage;
  }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return told_bytes_ + untold_ % kOneMessage; }
  [[nodiscard]] std::uint64_t max_payload() const noexcept { return max_payload_; }
  [[nodiscard]] const LaneGeometry& geometry() const noexcept { return geometry_; }
  [[nodiscard]] bool has_open_claim() const noexcept { return open_.is_open(); }
  [[nodiscard]] bool has_open_group() const noexcept { return group_.is_open; }

 private:
  struct Place {  // where a record of a size would lie
    std::uint64_t pos, payload, end;
  };
  // A store waits for the line of the one before it, and few of them fit the queue: each private
  // word stored per message keeps the stores of another message out. So what can share a word does.
  struct OpenClaim {
    std::uint64_t payload = 0;
    std::uint64_t bits = 0;     // size << 2 | own line << 1 | open; 0: none
    std::uint64_t padding = 0;  // in front of it, at the end of a lap; stored only where there is
    void set(std::uint64_t at, std::uint64_t size, bool own) noexcept {
      payload = at;
      bits = size << 2 | std::uint64_t{own} << 1 | 1;
    }
    [[nodiscard]] bool is_open() const noexcept { return bits != 0; }
    [[nodiscard]] bool own_line() const noexcept { return (bits & 2) != 0; }
    [[nodiscard]] std::uint64_t size() const noexcept { return bits >> 2; }
  };
  struct OpenGroup {
    std::uint64_t first_pos = 0, first_header = 0, untold = 0;
    bool is_open = false;
  };
  /// Of untold_: at most 2^30 bytes and 2^27 messages fit a lap.
  static constexpr std::uint64_t kOneMessage = std::uint64_t{1} << 36;

  LaneProducer() noexcept = default;
  [[nodiscard]] Result<void> recover(Predecessor before) noexcept;
  [[nodiscard]] Place place(std::size_t size, bool own_line) const noexcept;
  [[nodiscard, gnu::noinline]] Result<Claim> claim_slowly(std::size_t size, bool own_line) noexcept;
  void publish(std::uint64_t pos, std::uint64_t end, const RecordHeader& record) noexcept;
  [[nodiscard]] Result<void> refresh_read_pos() noexcept;
  void make_clean(std::uint64_t end) noexcept;
  [[gnu::noinline]] void clean_ahead() noexcept;
  void zero_range(std::uint64_t from, std::uint64_t to) noexcept;
  [[nodiscard]] SharedWord<std::uint64_t>& header(std::uint64_t pos) const noexcept {
    return word_at<std::uint64_t>(data_, pos & mask_);
  }

  std::byte* data_ = nullptr;
  std::uint64_t mask_ = 0;
  std::uint64_t capacity_ = 0;
  std::uint64_t max_payload_ = 0;
  std::uint64_t granule_ = 8;
  std::uint64_t my_write_ = 0;  // the frontier, or the end of an open group
  /// A record that ends here or before needs neither padding nor a look at read_pos, and no group
  /// forbids it. Always within the lap of my_write_; 0 when nothing is known.
  std::uint64_t claim_to_ = 0;
  std::uint64_t seen_read_ = 0;  // stale: read_pos only grows
  std::uint64_t clean_to_ = 0;   // outside the open claim, [my_write_ + 8, clean_to_) is zero
  std::uint64_t told_write_ = 0;
  std::uint64_t tell_every_ = 0;
  std::uint64_t zero_ahead_ = 0;
  std::uint64_t untold_ = 0;  // messages * kOneMessage + payload bytes, behind told_write_
  std::uint64_t aborts_ = 0, fulls_ = 0;
  std::uint64_t told_messages_ = 0, told_bytes_ = 0;  // what belongs to told_write_
  OpenClaim open_;
  OpenGroup group_;
  bool poisoned_ = false;
  LaneProducerSide* mine_ = nullptr;
  const LaneConsumerSide* peer_ = nullptr;
  LaneGeometry geometry_;
};

/// What a consumer needs to know to read a record: private, and small enough to stay in registers.
struct LaneWindow {
  std::byte* data = nullptr;
  std::uint64_t mask = 0;  // capacity - 1
  std::uint64_t granule = 8;
  std::uint64_t max_payload = 0;
  std::uint64_t redeliver_to = 0;  // what ends here or before may be a repeat
  std::uint64_t last_bits = 0;     // the last plain header, its payload bytes,
  std::uint64_t last_size = 0;
  // and how far it was to the next: until there was one farther than any lap, yet no sum wraps.
  std::uint64_t last_stride = kMaxPosition / 2;
  [[nodiscard]] LaneShape shape() const noexcept { return {mask + 1, granule, max_payload}; }
};

/// The consumer's end of a lane.
///
/// Threads:  one at a time; handing over needs synchronisation of the caller's own.
/// Progress: every operation is wait-free and makes no system call.
/// Trust:    headers and payload are the producer's bytes. A header that the protocol cannot
///           produce is Errc::corrupt, sticky; a payload is only as true as its sender.
template <typename Access = NativeAccess>
class LaneConsumer {
 public:
  /// Attaches at the told read_pos. After a death, records up to the frontier of now carry
  /// `redelivered`: the predecessor may have used them without telling.
  /// Errors: bad_format, corrupt  as for the producer.
  /// Orders: lane.join, lane.publish.
  [[nodiscard]] static Result<LaneConsumer> attach(LaneAreas areas, Predecessor before,
                                                   LaneTuning tuning = {}) noexcept;

  /// The oldest record not yet released, in place; the same again until it is released.
  /// Errors: empty    nothing is committed,
  ///         corrupt  the producer broke the format (sticky).
  /// Orders: lane.publish.
  [[nodiscard]] Result<Record> try_peek() noexcept;

  /// The fast half of try_peek: true, with `out` filled, when the oldest record is plain data;
  /// false when there is none, or try_peek has to say what there is. For the layer above, whose own
  /// result then is the only one on the hot path: one that is handed on costs more than the record.
  /// Orders: lane.publish.
  [[nodiscard]] bool peek_plain(Record& out) noexcept;

  /// The oldest unreleased records, as many as are committed and fit `out`; at least one.
  /// Errors: as try_peek; of a corrupt run the records before it are returned first.
  /// Orders: lane.publish.
  [[nodiscard]] Result<std::size_t> peek_many(std::span<Record> out) noexcept;

  /// True when try_peek would not say `empty`.
  /// Orders: lane.publish.
  [[nodiscard]] bool has_record() const noexcept;

  /// Header word of the next record: for whoever polls many lanes. Valid until the next release.
  [[nodiscard]] const SharedWord<std::uint64_t>& next_header() const noexcept {
    return header(my_read_);
  }

  /// Gives back `record` and all older ones. Releasing twice changes nothing. True when read_pos
  /// was told, so that a producer waiting for room may be rung.
  /// Orders: lane.reclaim.
  bool release(const Record& record) noexcept;

  /// Tells read_pos now. Runs by itself every capacity >> tell_read_shift bytes; call it when the
  /// lane ran empty, before parking and before leaving. True when it was behind.
  /// Orders: lane.reclaim.
  bool tell_read() noexcept;

  /// read_pos that the producer asked to be rung at.
  [[nodiscard]] std::uint64_t wanted_pos() const noexcept;

  [[nodiscard]] std::uint64_t read_pos() const noexcept { return my_read_; }
  [[nodiscard]] std::uint64_t messages() const noexcept { return messages_; }
  [[nodiscard]] std::uint64_t approx_backlog() const noexcept;
  /// A header broke the format: nothing more comes of this lane.
  [[nodiscard]] bool is_poisoned() const noexcept { return poisoned_; }
  [[nodiscard]] const LaneGeometry& geometry() const noexcept { return geometry_; }

 private:
  LaneConsumer() noexcept = default;
  [[nodiscard]] Result<void> recover(Predecessor before) noexcept;
  [[nodiscard]] bool take_plain(std::uint64_t bits, Record& out) noexcept;
  [[nodiscard, gnu::noinline]] Result<Record> look_closely(std::uint64_t bits, std::uint64_t pos,
                                                           std::uint64_t number) noexcept;
  [[nodiscard]] tl::unexpected<Error> poison(const char* why) noexcept;
  [[nodiscard]] SharedWord<std::uint64_t>& header(std::uint64_t pos) const noexcept {
    return word_at<std::uint64_t>(window_.data, pos & window_.mask);
  }

  LaneWindow window_;
  std::uint64_t my_read_ = 0;
  std::uint64_t peeked_to_ = 0;  // end of the furthest record handed out
  std::uint64_t told_read_ = 0;
  std::uint64_t tell_every_ = 0;
  std::uint64_t messages_ = 0, redelivered_ = 0;
  std::uint64_t told_messages_ = 0, told_redelivered_ = 0;  // what belongs to told_read_
  std::uint64_t redeliver_last_ = 0;  // number of the last record that may be a repeat
  bool poisoned_ = false;
  LaneConsumerSide* mine_ = nullptr;
  const LaneProducerSide* peer_ = nullptr;
  LaneGeometry geometry_;
};

}  // namespace slipring::ring

#include "slipring/ring/lane_inl.h"

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "slipring/base/result.h"
#include "slipring/segment/segment.h"

namespace slipring::pool {

/// Number of a pooled segment in segment::HeaderInfo::content.
inline constexpr std::uint64_t kContentPooledSegment = 0x11;
inline constexpr std::size_t kMaxSegmentIdName = 40;

/// What travels through a lane instead of a segment: where it is, and which instance is meant.
struct SegmentId {
  std::uint8_t backend = 0;     ///< enum segment::Backend
  std::uint8_t name_bytes = 0;  ///< 0: no name; a memfd's descriptor comes another way.
  std::uint16_t reserved = 0;
  std::uint32_t sysv_id = 0;  ///< Of a sysv segment without a name.
  std::uint64_t instance_high = 0;
  std::uint64_t instance_low = 0;
  char name[kMaxSegmentIdName] = {};
  friend bool operator==(const SegmentId&, const SegmentId&) = default;
};
static_assert(sizeof(SegmentId) == 64 && std::is_trivially_copyable_v<SegmentId>);

/// Errors: not_supported  its name is longer than kMaxSegmentIdName.
[[nodiscard]] Result<SegmentId> id_of(const segment::Segment& segment);

/// What a pool has done; what grows while traffic is steady costs system calls.
struct SegmentPoolCounters {
  std::uint64_t made = 0;       ///< Segments created.
  std::uint64_t unlinked = 0;   ///< And removed.
  std::uint64_t reused = 0;     ///< Takes served by a segment that was there.
  std::uint64_t opened = 0;     ///< Ids that had to be opened and mapped.
  std::uint64_t found = 0;      ///< Ids served by a mapping that was kept.
  std::uint64_t dropped = 0;    ///< Mappings dropped for room.
  std::uint64_t refused = 0;    ///< Ids and returns that could not be.
  std::uint64_t exhausted = 0;  ///< Takes refused because nothing may be made.
};

/// Whole segments, made in advance and used again: for messages beyond the largest block, for a
/// segment per pair, and where memory is to be given back. Both ends keep their mappings, so that
/// while traffic is steady nothing is created, removed or mapped.
///
/// The maker: prepare(), then take() - fill - send id_of() - wait for the receiver's answer -
/// give_back(). The receiver: open() the id, read, answer.
/// A segment's bytes are what its last user left.
///
/// Threads: one at a time. A child of fork() makes its own; the parent's it only forgets.
/// Trust:   ids come from a peer: see open().
class SegmentPool {
 public:
  struct Options {
    segment::Backend backend = segment::Backend::posix;
    std::string prefix = "pool";  ///< Names are <prefix>.<instance of the pool>.<number>.
    segment::Places places = segment::Places::standard();
    std::uint64_t max_idle_bytes = std::uint64_t{1} << 30;  ///< Beyond, what comes back is removed.
    std::size_t max_mappings = 64;  ///< Of other pools' segments, kept for the next open().
    /// How open() maps: a reader needs no right to write.
    segment::OpenMode open_mode = segment::OpenMode::read_only;
    bool may_make = true;  ///< False: take() never creates.
  };
  /// Errors: invalid_argument  the prefix is no name, or too long for an id.
  [[nodiscard]] static Result<SegmentPool> make(Options options);
  SegmentPool(SegmentPool&&) noexcept = default;
  SegmentPool& operator=(SegmentPool&&) = delete;
  /// Removes the names of all segments that are its own, also of those not given back. Killed, it
  /// leaves them to remove_leftovers(); memfds have no names.
  ~SegmentPool();

  /// The body bytes of a segment for `bytes`: a power of two of pages.
  [[nodiscard]] static std::uint64_t size_class(std::uint64_t bytes) noexcept;

  /// Makes `count` more segments for messages of up to `bytes`.
  /// Errors: those of segment::draft and publish; what was made before stays.
  [[nodiscard]] Result<void> prepare(std::size_t count, std::uint64_t bytes);

  /// The segment given back last of this size class; else one twice as large; else a new one.
  /// Errors: full  nothing is idle, and may_make is false; those of draft and publish.
  [[nodiscard]] Result<segment::Segment> take(std::uint64_t bytes);

  /// Back into the pool, for the next take(). On an error it stays the caller's.
  /// Errors: invalid_argument  not taken from this pool; counted.
  [[nodiscard]] Result<void> give_back(segment::Segment&& segment);

  /// The segment that a peer meant, mapped once and kept; the one unused for longest goes first.
  /// Whoever still has the pointer keeps the mapping.
  /// Trust:  all of `id`. It can lead to segments of this user's names alone, and only to a
  ///         pooled one of the instance it says.
  /// Errors: corrupt    no such backend, no name, or another segment has the name by now; counted,
  ///         not_found  the name is gone; those of Segment::open,
  ///         not_supported  a memfd whose descriptor was not handed to adopt().
  [[nodiscard]] Result<std::shared_ptr<const segment::Segment>> open(const SegmentId& id);

  /// Keeps a mapping that came by descriptor, under its instance, for open().
  std::shared_ptr<const segment::Segment> adopt(segment::Segment segment);

  [[nodiscard]] const SegmentPoolCounters& counters() const noexcept { return counters_; }
  [[nodiscard]] std::uint64_t idle_bytes() const noexcept { return idle_bytes_; }

 private:
  using Instance = std::pair<std::uint64_t, std::uint64_t>;
  struct Mapping {
    Instance instance;
    std::shared_ptr<const segment::Segment> segment;
  };

  explicit SegmentPool(Options options) noexcept;
  [[nodiscard]] Result<segment::Segment> make_one(std::uint64_t bytes);
  void remove(segment::Segment& segment);
  [[nodiscard]] Result<segment::Segment> open_named(const SegmentId& id);
  [[nodiscard]] tl::unexpected<Error> refuse(Errc code, const char* why) noexcept;

  Options options_;
  std::string stem_;  // of the names; empty once moved from
  pid_t pid_ = 0;
  std::uint64_t numbered_ = 0;
  std::uint64_t idle_bytes_ = 0;
  std::map<std::uint64_t, std::vector<segment::Segment>> idle_;  // by size; the last came back last
  std::map<Instance, SegmentId> taken_;
  std::list<Mapping> mappings_;  // the last used first
  std::map<Instance, std::list<Mapping>::iterator> by_instance_;
  SegmentPoolCounters counters_;
};

/// Removes the names of pooled segments whose maker is proved dead. Whoever has one mapped keeps
/// it. Returns how many.
/// Errors: those of segment::list_segments.
[[nodiscard]] Result<std::size_t> remove_leftovers(
    const std::string& prefix, const segment::Places& places = segment::Places::standard());

}  // namespace slipring::pool

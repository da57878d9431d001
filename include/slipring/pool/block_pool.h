// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "slipring/base/role.h"
#include "slipring/pool/layout.h"

namespace slipring::pool {

/// What travels in a ring record: names a block, or part of one, of a generation.
struct BlockRef {
  std::uint16_t pool_tag = 0;  ///< Low bits of the pool's id: refuses references of another pool.
  std::uint8_t size_class = 0;
  std::uint8_t reserved = 0;
  std::uint32_t index = 0;  ///< In its class.
  std::uint64_t generation = 0;
  std::uint32_t offset = 0;  ///< First byte meant, from the start of the block.
  std::uint32_t length = 0;
  friend bool operator==(const BlockRef&, const BlockRef&) = default;
};
static_assert(sizeof(BlockRef) == 24 && std::is_trivially_copyable_v<BlockRef>);

/// A claimed block, ours to fill until lend() or reclaim().
struct Block {
  std::span<std::byte> bytes;  ///< The whole block; 64-byte aligned, 4 KiB from that class on.
  BlockRef ref;                ///< `length` is the size asked for.
};

/// A held block, ours to read until release().
struct BlockView {
  std::span<const std::byte> bytes;
  BlockRef ref;
};

/// What becomes of blocks that a participant leaves behind. A block lent by the dead, or held by
/// it, stays lent only as long as some lane still has a reference to it.
struct ReapPlan {
  /// True: every such block is taken to be referenced (nothing is lost; a sender killed between
  /// lend() and its commit leaves an orphan for free_orphans()).
  bool keep_all = true;
  /// Otherwise: the references committed and not released in the lanes that it wrote or read.
  std::span<const BlockRef> referenced;
};

/// How many blocks of a class are in which state.
struct ClassCounts {
  std::uint64_t block_bytes = 0;
  std::uint64_t capacity = 0;
  std::uint64_t free = 0, claimed = 0, lent = 0, held = 0;
  std::uint64_t orphans = 0;  ///< Of the lent: those whose owner has left.
  std::uint64_t odd = 0;      ///< Words that no operation leaves. Never given out again.
};

/// What a look at the whole table finds. The sums are over all participants, past and present.
struct PoolAudit {
  std::array<ClassCounts, kClassCount> classes;
  ClassCounts total;
  std::uint32_t participants = 0;  ///< Roles that are held, by the living or the dead.
  std::uint64_t claims = 0, returns = 0, refused_references = 0, refused_returns = 0, exhausted = 0,
                scans = 0, list_resets = 0, reaped = 0;
  /// I7: free + claimed + lent + held = capacity, each id in one state.
  [[nodiscard]] bool is_whole() const noexcept {
    return total.odd == 0 && total.free + total.claimed + total.lent + total.held == total.capacity;
  }
};

/// Formats an area of zero bytes, magic last. For its creator, before anybody else sees it.
/// Errors: invalid_argument  see lay_out, or the area is not 4 KiB aligned,
///         too_large         the area has fewer bytes than lay_out(spec).total_bytes.
/// Orders: pool.join.
[[nodiscard]] Result<void> format_pool(std::span<std::byte> area, const PoolSpec& spec) noexcept;

/// Reads what a pool says of itself, each word once, and checks it against its size.
/// Errors: bad_format  not a pool, another version, or numbers that contradict each other.
/// Orders: pool.join.
template <typename Access = NativeAccess>
[[nodiscard]] Result<PoolGeometry> load_geometry(std::span<std::byte> area) noexcept;

/// Counts the states of all blocks; stores nothing, so a read-only mapping will do. On a live pool
/// every block is counted once, at some instant of the call.
/// Errors: bad_format  as load_geometry.
/// Orders: pool.join, pool.claim.
template <typename Access = NativeAccess>
[[nodiscard]] Result<PoolAudit> audit(std::span<std::byte> area) noexcept;

/// One participant's handle on a pool of blocks of several sizes. The ownership table, a word per
/// block, is the truth; free lists and private caches only say where to look first. Killed at any
/// instruction, a participant leaves each block in one state, named as its own or nobody's;
/// reap() brings back what is its own.
/// Block and BlockView are plain values: what is neither returned nor lent ends with detach().
///
/// Threads:  one at a time; a second thread attaches for itself. A child of fork() attaches anew.
/// Progress: lock-free, no system call, at most one look at each entry of a class (attach, reap:
///           of all, and the proofs of death). One locked instruction per change of state, and one
///           more when the id comes from or goes to the shared list.
/// Trust:    every word may hold anything: ids are checked against private geometry, unsound words
///           are passed over. References come from peers; a bad one is an error, and counted.
/// Source:   Treiber 1986 for the list; descriptors that name their owner as in D1, D2. Boost's
///           list was measured and left: docs/decisions/0010-an-own-free-list.md.
template <typename Access = NativeAccess>
class BlockPool {
 public:
  /// `cached_blocks`: freed ids that this participant keeps to itself, per class; at most 16.
  /// Takes an entry that is free; if there is none, one whose holder is proved dead, and reaps it
  /// with `plan` first. Killed in between, it is such an entry again.
  /// Errors: bad_format  as load_geometry; full  living processes hold all entries.
  /// Orders: pool.join, role.take.
  [[nodiscard]] static Result<BlockPool> attach(std::span<std::byte> area,
                                                std::uint32_t cached_blocks = 16,
                                                const ReapPlan& plan = {}) noexcept;
  BlockPool(BlockPool&& other) noexcept { swap(other); }
  BlockPool& operator=(BlockPool&& other) noexcept {
    BlockPool(std::move(other)).swap(*this);
    return *this;
  }
  ~BlockPool() { detach(); }

  /// Leaves in order: what we claimed is freed, what we hold is lent again, what we lent stays
  /// lent, owned by nobody; cached ids go back to the lists. In a child of fork(): nothing.
  void detach() noexcept;

  /// A block of the smallest class that fits, of a larger one when that is dry. The last one given
  /// back comes first: it is still in a cache. Its bytes are what the last user left.
  /// Errors: full       no block is free now,
  ///         too_large  larger than any class: trying again cannot help.
  /// Orders: pool.release, pool.reap, pool.list, pool.claim.
  [[nodiscard]] Result<Block> claim(std::size_t size) noexcept;

  /// Ends the filling; the reference may be committed to a lane. `to`: only this participant may
  /// hold it.
  /// Errors: invalid_argument  not claimed by us (any more), or bytes outside the block; counted.
  /// Orders: pool.lend.
  [[nodiscard]] Result<BlockRef> lend(const Block& block, std::size_t length,
                                      std::size_t offset = 0,
                                      ParticipantId to = ParticipantId::nobody) noexcept;

  /// Starts the reading.
  /// Trust:  all of `ref`.
  /// Errors: corrupt     names no bytes of this pool, is of an older generation, or not lent,
  ///         in_use      somebody holds it (if that process is dead: until it is reaped),
  ///         permission  lent to somebody else. Each is counted.
  /// Orders: pool.lend.
  [[nodiscard]] Result<BlockView> hold(const BlockRef& ref) noexcept;

  /// Ends the reading and frees the block.
  /// Errors: invalid_argument  not held by us (any more); counted, and nothing happened.
  /// Orders: pool.release.
  [[nodiscard]] Result<void> release(const BlockView& view) noexcept;

  /// Frees a block that we claimed, or lent and did not commit or that nobody will read.
  /// Errors: invalid_argument  not ours, or held already; counted, and nothing happened.
  /// Orders: pool.release.
  [[nodiscard]] Result<void> reclaim(const BlockRef& ref) noexcept;

  /// Takes back what names a dead participant, and gives its entry free. One reaper at a time has
  /// the entry's role; killed anywhere, the next one repeats the same steps (I12). Returns the
  /// number of words changed; 0 as well when nobody has the entry.
  /// Errors: in_use            it is alive, cannot be proved dead, or is just being reaped,
  ///         invalid_argument  no such entry, or our own.
  /// Orders: role.take, pool.reap, pool.claim.
  [[nodiscard]] Result<std::uint64_t> reap(ParticipantId dead, const ReapPlan& plan = {}) noexcept;
  /// reap() for every entry whose holder is proved dead.
  std::uint64_t reap_all(const ReapPlan& plan = {}) noexcept;
  /// Frees what is lent, owned by nobody and not in `referenced`. For whoever knows all lanes.
  std::uint64_t free_orphans(std::span<const BlockRef> referenced) noexcept;
  /// The blocks that are lent and owned by nobody, as of now. With the next call it is the same for
  /// whoever does not keep all others from reaping and committing meanwhile: nobody commits a
  /// reference to a block any more that has lost its owner, so references are looked for behind it.
  [[nodiscard]] std::vector<BlockRef> orphans() const;
  /// Frees those of `orphans` that still are, and are not in `referenced`.
  /// Orders: pool.reap.
  std::uint64_t free_orphans(std::span<const BlockRef> orphans,
                             std::span<const BlockRef> referenced) noexcept;

  [[nodiscard]] ParticipantId id() const noexcept { return me_; }
  [[nodiscard]] const PoolGeometry& geometry() const noexcept { return geometry_; }
  [[nodiscard]] Result<PoolAudit> audit() const noexcept { return pool::audit<Access>(area_); }

 private:
  static constexpr std::uint32_t kMaxCached = 16;
  struct Cache {
    std::array<std::uint32_t, kMaxCached> ids;  // the last one was freed last
    std::uint32_t count = 0;
    std::uint32_t credit = 0;  // claims not yet answered by a cached return
  };
  struct Counters {
    std::uint64_t claims, returns, refused_references, refused_returns, exhausted, scans,
        list_resets, reaped;
  };
  struct Taken {
    std::uint32_t index;
    std::uint64_t generation;
  };

  BlockPool() noexcept = default;
  void swap(BlockPool& other) noexcept;
  [[nodiscard]] bool try_join(std::uint32_t slot, bool from_the_dead,
                              const ReapPlan& plan) noexcept;
  void load_counters() noexcept;
  void count(std::uint64_t& mine, SharedWord<std::uint64_t>& shared, std::uint64_t n = 1) noexcept {
    Access::store_relaxed(shared, mine += n);
  }
  [[nodiscard]] tl::unexpected<Error> refuse_reference(Errc code, const char* why) noexcept;
  [[nodiscard]] tl::unexpected<Error> refuse_return(const char* why) noexcept;

  [[nodiscard]] std::optional<Taken> take_any(std::uint32_t size_class) noexcept;
  [[nodiscard]] std::optional<Taken> scan(std::uint32_t size_class) noexcept;
  [[nodiscard]] std::optional<Taken> take(std::uint32_t size_class, std::uint32_t index) noexcept;
  void give(std::uint32_t size_class, std::uint32_t index) noexcept;
  [[nodiscard]] std::optional<std::uint32_t> pop(std::uint32_t size_class) noexcept;
  void push(std::uint32_t size_class, std::uint32_t index) noexcept;
  void reset_list(std::uint32_t size_class, std::uint64_t seen) noexcept;

  [[nodiscard]] std::uint64_t resolve(ParticipantId gone, const ReapPlan& plan) noexcept;
  [[nodiscard]] bool names_block(const BlockRef& ref) const noexcept;
  /// An odd word is nobody's orphan: it is not repaired by guess.
  [[nodiscard]] bool is_orphan(const BlockWord& word) const noexcept {
    return word.state == BlockState::lent && word.owner == ParticipantId::nobody &&
           word.is_sound(geometry_.participants);
  }
  [[nodiscard]] bool change(const BlockRef& ref, BlockWord from, BlockWord to) noexcept;

  [[nodiscard]] PoolHeader& header() const noexcept {
    return *reinterpret_cast<PoolHeader*>(area_.data());
  }
  [[nodiscard]] BlockEntry& entry(std::uint32_t size_class, std::uint32_t index) const noexcept {
    const std::uint64_t at = geometry_.classes[size_class].first_entry + index;
    return reinterpret_cast<BlockEntry*>(area_.data() + geometry_.entries_offset)[at];
  }
  [[nodiscard]] ParticipantEntry& participant(std::uint32_t slot) const noexcept {
    return reinterpret_cast<ParticipantEntry*>(area_.data() + kPoolHeaderBytes)[slot - 1];
  }
  [[nodiscard]] ParticipantEntry& mine() const noexcept {
    return participant(static_cast<std::uint32_t>(me_));
  }
  [[nodiscard]] std::span<std::byte> bytes_of(const BlockRef& ref) const noexcept {
    return area_.subspan(
        geometry_.classes[ref.size_class].data_offset + ref.index * block_bytes(ref.size_class),
        block_bytes(ref.size_class));
  }

  std::span<std::byte> area_;  // empty: detached
  PoolGeometry geometry_;
  ParticipantId me_ = ParticipantId::nobody;
  std::uint32_t role_generation_ = 0;
  pid_t pid_ = 0;
  std::uint32_t cached_blocks_ = 0;
  std::array<Cache, kClassCount> caches_{};
  std::array<std::uint32_t, kClassCount> scan_from_{};
  Counters counters_{};
};

/// The word that `word` becomes when `gone` is taken out of it; the same word when it does not name
/// `gone` or stays as it is. `referenced`: some lane still has a reference to the block.
[[nodiscard]] BlockWord without(BlockWord word, ParticipantId gone, bool referenced) noexcept;

/// Is the block in the plan's list, or does the plan keep all?
[[nodiscard]] bool is_referenced(const ReapPlan& plan, std::uint32_t size_class,
                                 std::uint32_t index, std::uint64_t generation) noexcept;

}  // namespace slipring::pool

#include "slipring/pool/block_pool_inl.h"

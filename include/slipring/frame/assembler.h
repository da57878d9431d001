// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "slipring/base/result.h"
#include "slipring/frame/chunk.h"
#include "slipring/frame/message.h"

namespace slipring::frame {

/// What becomes of the bodies.
enum class Mode : std::uint8_t {
  parts,      ///< Each is handed on in place, in order; nothing is kept. Constant memory.
  assembled,  ///< Copied behind one another into one span of memory.
  pieces,     ///< Copied once into pieces that stay where they are: an iovec view.
};

/// What a receiver is ready to hold. A message beyond a limit is refused, the others go on.
struct Limits {
  std::uint32_t max_sources = 4096;
  std::uint32_t max_open_per_source = 8;  ///< Begun and not ended; one of a single chunk never is.
  std::uint32_t max_open = 1024;          ///< Of all sources together.
  std::uint64_t max_message = std::uint64_t{16} << 20;  ///< Bytes; Mode::parts has no such limit.
  std::uint64_t max_bytes_per_source = std::uint64_t{64} << 20;  ///< Of memory under assembly.
  std::uint64_t max_bytes = std::uint64_t{256} << 20;            ///< Of all sources together.
};

/// Why a message was dropped, or a chunk refused. docs/messages.md, "What is refused".
enum class Fault : std::uint8_t {
  gap,            ///< Something before this chunk is missing.
  repeat,         ///< The chunk, or a message of this id, was here before.
  out_of_order,   ///< Index and offset disagree about the chunk's place.
  overlap,        ///< The body covers bytes that came before.
  oversized,      ///< The message is larger than max_message.
  too_many_open,  ///< max_open, max_open_per_source or max_sources.
  over_budget,    ///< max_bytes or max_bytes_per_source.
  no_memory,      ///< The machine had none.
  bad_check,      ///< The body is not what its sender sent.
  bad_header,     ///< Fields contradict each other, or the chunks before.
};
inline constexpr std::size_t kFaults = 10;

/// "gap", "repeat", ...
[[nodiscard]] std::string_view to_string(Fault fault) noexcept;
/// The code that a fault is returned as: corrupt (gap, repeat, out_of_order, overlap, bad_check),
/// too_large (oversized), no_space (the limits and no_memory), bad_format (bad_header).
[[nodiscard]] Errc errc_of(Fault fault) noexcept;

/// Since the assembler was made. chunks = taken + swallowed + all faults.
struct Counters {
  std::uint64_t chunks = 0;           ///< Handed to take(), good and bad.
  std::uint64_t taken = 0;            ///< Of these, accepted: parts, ends and aborts.
  std::uint64_t swallowed = 0;        ///< Of these, of a message that was dropped before.
  std::uint64_t completed = 0;        ///< Messages.
  std::uint64_t completed_bytes = 0;  ///< Their bodies.
  std::uint64_t aborted = 0;          ///< Messages given up by their sender.
  std::uint64_t refused = 0;          ///< Messages given up by refuse().
  std::uint64_t orphaned = 0;         ///< Messages given up by drop().
  std::uint64_t faults[kFaults] = {};

  [[nodiscard]] std::uint64_t of(Fault fault) const noexcept {
    return faults[static_cast<std::size_t>(fault)];
  }
};

/// A message that has begun: what progress is reported of, and what tools list.
struct OpenMessage {
  std::uint64_t source = 0;
  std::uint64_t id = 0;
  std::uint64_t so_far = 0;  ///< Bytes; only grows.
  std::uint64_t total = kOpenEnded;
  std::uint16_t type = 0;
};

/// What take() made of a chunk.
struct Step {
  enum class What : std::uint8_t {
    part,       ///< One more body; the message goes on.
    complete,   ///< The message is whole with this body.
    aborted,    ///< Its sender gave it up; what was kept of it is freed.
    swallowed,  ///< Of a message that was dropped before; nothing happened.
  };
  What what = What::swallowed;
  OpenMessage of;                   ///< As it stands after this chunk.
  std::uint64_t offset = 0;         ///< Of `body` in the message.
  std::span<const std::byte> body;  ///< In place, in the record. Mode::parts only.
  Message message;                  ///< With `complete`, in the other modes.
};

/// Puts messages together from the chunks of many sources, in bounded memory.
///
/// A message is dropped at the first chunk that breaks a rule: that is one typed error, and one
/// count under its Fault. Its later chunks are swallowed, and counted as such. Other messages go
/// on. It is whole only when every byte up to its total came, once and in order. Memory is taken
/// as bodies arrive, never because a header announces them.
///
/// Threads:  one at a time.
/// Progress: no system call but those of the allocator; a step costs its body's copy and a look at
///           max_open_per_source messages at most.
/// Trust:    records are their sender's bytes; `source` is the caller's own word. A body in place
///           (Mode::parts) may change after its check when its sender is hostile.
/// Source:   ids are remembered as by the sliding window of RFC 4303, section 3.4.3: constant
///           memory, no id is accepted twice.
class Assembler {
 public:
  explicit Assembler(Mode mode, const Limits& limits = {}) noexcept
      : mode_(mode), limits_(limits) {}
  Assembler(const Assembler&) = delete;
  Assembler& operator=(const Assembler&) = delete;

  /// Takes the next record of `source`, which is exactly one chunk. The record is free again when
  /// this returns; in Mode::parts when the caller is done with Step::body.
  /// Errors: errc_of(Fault), with the fault in last_fault(); the message is gone.
  [[nodiscard]] Result<Step> take(std::uint64_t source, std::span<const std::byte> record) noexcept;

  /// We want no more of an open message: what was kept is freed, later chunks are swallowed.
  /// Errors: not_found  no such message is open.
  [[nodiscard]] Result<void> refuse(std::uint64_t source, std::uint64_t id) noexcept;

  /// `source` is dead or left: its open messages are freed, its ids forgotten. Returns how many
  /// messages were dropped.
  std::size_t drop(std::uint64_t source) noexcept;

  /// Called after each chunk that brought a message on, its end included.
  using ProgressFn = void (*)(void* context, const OpenMessage& message) noexcept;
  void on_progress(ProgressFn call, void* context) noexcept {
    progress_ = call;
    progress_context_ = context;
  }

  /// Writes open messages to `out`, as many as fit. Returns how many there are.
  std::size_t list_open(std::span<OpenMessage> out) const noexcept;

  [[nodiscard]] Mode mode() const noexcept { return mode_; }
  [[nodiscard]] const Limits& limits() const noexcept { return limits_; }
  [[nodiscard]] std::size_t open_messages() const noexcept { return open_; }
  [[nodiscard]] std::size_t sources() const noexcept { return sources_.size(); }
  /// Memory that open messages hold, slack included. 0 when none is open.
  [[nodiscard]] std::uint64_t bytes_under_assembly() const noexcept { return held_bytes_; }
  [[nodiscard]] const Counters& counters() const noexcept { return counters_; }
  /// The fault of the last take() that failed.
  [[nodiscard]] std::optional<Fault> last_fault() const noexcept { return last_fault_; }

 private:
  struct Open {
    OpenMessage of;
    std::uint32_t next_index = 0;
    bool has_check = false;
    Message kept;
  };
  /// The ids of a source: the highest, and of the 64 up to it which were begun and which dropped.
  struct Ids {
    enum class Past : std::uint8_t { never, whole, dropped, forgotten };
    [[nodiscard]] Past look(std::uint64_t id) const noexcept;
    [[nodiscard]] bool is_near(std::uint64_t id) const noexcept;
    void begin(std::uint64_t id) noexcept;
    void mark_dropped(std::uint64_t id) noexcept;
    void mark_whole(std::uint64_t id) noexcept;

    std::uint64_t highest = 0, begun = 0, dropped = 0;
  };
  struct Source {
    [[nodiscard]] std::size_t find(std::uint64_t id) const noexcept;  // open.size(): not open

    Ids ids;
    std::uint64_t held_bytes = 0;
    std::vector<std::unique_ptr<Open>> open;
  };

  [[nodiscard]] tl::unexpected<Error> fault(Fault fault) noexcept;
  [[nodiscard]] Source* source_of(std::uint64_t source, Fault& why) noexcept;
  [[nodiscard]] Result<Step> take_bad_header(Source* from, std::uint64_t source,
                                             std::span<const std::byte> record) noexcept;
  [[nodiscard]] Result<Step> take_unopened(Source& from, std::uint64_t source,
                                           const Chunk& chunk) noexcept;
  [[nodiscard]] Result<Step> take_first(Source& from, std::uint64_t source,
                                        const Chunk& chunk) noexcept;
  [[nodiscard]] Result<Step> take_next(Source& from, std::size_t at, const Chunk& chunk) noexcept;
  [[nodiscard]] Result<Step> accept(Source& from, std::size_t at, const Chunk& chunk) noexcept;
  [[nodiscard]] std::optional<Fault> keep(Source& from, Open& open, const Chunk& chunk) noexcept;
  [[nodiscard]] std::optional<Fault> make_room(Source& from, Open& open,
                                               std::size_t bytes) noexcept;
  [[nodiscard]] Message finish(Source& from, Open& open) noexcept;
  [[nodiscard]] Result<Step> swallow(std::uint64_t source, std::uint64_t id) noexcept;
  void close(Source& from, std::size_t at, bool is_dropped) noexcept;

  Mode mode_;
  Limits limits_;
  std::unordered_map<std::uint64_t, Source> sources_;
  std::size_t open_ = 0;
  std::uint64_t held_bytes_ = 0;
  Counters counters_;
  std::optional<Fault> last_fault_;
  ProgressFn progress_ = nullptr;
  void* progress_context_ = nullptr;
};

}  // namespace slipring::frame

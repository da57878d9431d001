// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "slipring/base/result.h"
#include "slipring/frame/chunk.h"

namespace slipring::frame {

/// How a message is cut.
struct SplitOptions {
  std::uint64_t id = 0;              ///< Not 0; no other message of this source has it.
  std::uint64_t total = kOpenEnded;  ///< Bytes of the message, or kOpenEnded.
  std::uint32_t max_body = 0;        ///< Bytes of the largest body; at least 1.
  std::uint16_t type = 0;            ///< The user's own tag.
  bool check = false;                ///< Each chunk carries its body's check.
};

/// How far a message got.
struct Progress {
  std::uint64_t handed_over = 0;  ///< Bytes in finished chunks.
  std::uint64_t total = kOpenEnded;
};

/// Cuts one message into chunks, in place: the caller claims room in a ring, begin() tells where
/// the body goes, the caller produces it there (fills, copies, reads from a descriptor), end()
/// writes the header in front of it and tells how many bytes to commit. Nothing is copied here.
///
///   while (!splitter.done()) {
///     claim splitter.room() bytes or less;  body = splitter.begin(claim.payload);
///     n = produce into *body;               commit *splitter.end(n);
///   }
///
/// Or next(), which does the three steps with a function that fills. Several messages may be
/// interleaved: each has its own splitter.
///
/// Threads:  one at a time.
/// Progress: wait-free; no system call, no memory.
class Splitter {
 public:
  /// Errors: invalid_argument  id 0 or max_body 0,
  ///         too_large         more chunks than an index can count: use larger ones.
  [[nodiscard]] static Result<Splitter> make(const SplitOptions& options) noexcept;

  /// Nothing is left to send: the last chunk was handed over, or the message was given up.
  [[nodiscard]] bool done() const noexcept { return state_ != State::going; }
  [[nodiscard]] bool aborted() const noexcept { return state_ == State::aborted; }
  [[nodiscard]] Progress progress() const noexcept { return {offset_, options_.total}; }
  [[nodiscard]] const SplitOptions& options() const noexcept { return options_; }

  /// Bytes of the largest chunk that can come next, its header included. 0 when done.
  [[nodiscard]] std::size_t room() const noexcept;

  /// Where the next body goes inside `payload`, which may be larger or smaller than room(). Empty
  /// only when the message ends with no more bytes. Begun again before end(): the earlier one is
  /// forgotten, and so is a claim that was given up.
  /// Errors: closed            done(),
  ///         too_large         the index is used up: abort,
  ///         invalid_argument  no room for the header and one byte of what is left.
  [[nodiscard]] Result<std::span<std::byte>> begin(std::span<std::byte> payload) noexcept;

  /// Writes the header in front of the first `used` bytes of the body. Fewer than begin() gave are
  /// fine. The message goes on until its total is reached; an open-ended one ends with `last`.
  /// Returns the bytes to commit, header included.
  /// Errors: invalid_argument  nothing begun; more than was given; 0 bytes while more must come;
  ///                           `last` before the total.
  [[nodiscard]] Result<std::size_t> end(std::size_t used, bool last = false) noexcept;

  /// One chunk: begin(), then `Result<size_t> fill(span<byte> body)` until the body is full or it
  /// returns 0, then end(). 0 is the end of the input: an open-ended message is finished by it.
  /// A failure of `fill` is passed on and nothing is handed over.
  /// Errors: as begin(), as `fill`, and
  ///         closed  the input ended before the total: abort.
  template <typename Fill>
  [[nodiscard]] Result<std::size_t> next(std::span<std::byte> payload, Fill&& fill) noexcept(
      noexcept(fill(std::span<std::byte>{})));

  /// One chunk out of memory: what is left of `message` after progress().handed_over.
  /// Errors: as begin(), and closed when `message` is shorter than the total.
  [[nodiscard]] Result<std::size_t> next_of(std::span<const std::byte> message,
                                            std::span<std::byte> payload) noexcept;

  /// Ends an open-ended message with an empty chunk. Returns the bytes to commit.
  /// Errors: closed            done(),
  ///         invalid_argument  `payload` is too small, or a known total is not reached.
  [[nodiscard]] Result<std::size_t> finish(std::span<std::byte> payload) noexcept;

  /// Gives the message up: the receiver drops what it has. Returns the bytes to commit; 0 when
  /// nothing was handed over yet, so that nobody has to be told.
  /// Errors: closed            done(),
  ///         invalid_argument  `payload` is too small; the message is not given up.
  [[nodiscard]] Result<std::size_t> abort(std::span<std::byte> payload) noexcept;

 private:
  enum class State : std::uint8_t { going, complete, aborted };

  explicit Splitter(const SplitOptions& options) noexcept : options_(options) {}
  [[nodiscard]] std::uint64_t left() const noexcept {
    return options_.total == kOpenEnded ? kOpenEnded - 1 - offset_ : options_.total - offset_;
  }
  [[nodiscard]] ChunkHeader header(std::uint16_t flags) const noexcept;

  SplitOptions options_;
  std::uint64_t offset_ = 0;
  std::uint64_t index_ = 0;  // 64 bits: shows when the header's 32 are used up
  State state_ = State::going;
  bool begun_ = false;
  std::span<std::byte> open_;  // header and body of the chunk that was begun
};

template <typename Fill>
Result<std::size_t> Splitter::next(std::span<std::byte> payload,
                                   Fill&& fill) noexcept(noexcept(fill(std::span<std::byte>{}))) {
  const auto body = begin(payload);
  if (!body) return tl::unexpected<Error>(body.error());
  std::size_t used = 0;
  bool ended = false;
  while (used < body->size() && !ended) {
    const Result<std::size_t> got = fill(body->subspan(used));
    if (!got) {
      begun_ = false;
      return tl::unexpected<Error>(got.error());
    }
    ended = *got == 0;
    used += *got;
  }
  if (ended && options_.total != kOpenEnded) {
    begun_ = false;
    return fail(Errc::closed, 0, "message: input shorter than its total");
  }
  return end(used, ended);
}

}  // namespace slipring::frame

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>

#include <cstdlib>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "slipring/channel/check.h"
#include "slipring/channel/shm.h"
#include "support/shared_area.h"
#include "support/test_lane.h"  // fill_pattern, has_pattern
#include "tracer.h"

// A ring in which somebody is killed, and the judge who looks at what is left.
namespace slipring::test {

using channel::RingForm;
using channel::ShmOptions;
using channel::ShmReceiver;
using channel::ShmSender;

/// Two streams of messages: those of the living, sent before, and the victim's.
enum class Stream : std::uint16_t { living = 0, victim = 1 };
inline constexpr std::uint16_t kLastBit = 0x8000;

/// What whoever is about to die says outside the ring. Survives SIGKILL.
struct Log {
  std::uint64_t began;           ///< Messages of the victim: sends that were begun,
  std::uint64_t done;            ///< and those whose commit returned.
  std::uint64_t peeked[2];       ///< Of each stream: shown to a receiver that may be dead by now,
  std::uint64_t released[2];     ///< and given back, or about to be.
  std::uint64_t done_of_second;  ///< Two senders at a time: of the other one.
};

/// Counts of a test, as its RELIABILITY line shows them.
struct Tally {
  std::uint64_t kill_points = 0, images = 0, instructions = 0, diverged = 0;
  std::uint64_t lost = 0, torn = 0, duplicated = 0, stalls = 0, leaked_bytes = 0, violations = 0;
  std::uint64_t foreign_bytes = 0, reclaims = 0;  ///< Of one that was stopped, by the others.
  std::vector<std::string> complaints;            ///< The first few, with how to repeat them.
  std::string at;                                 ///< "total/commit@17"
  std::uint64_t of_living = 0;  ///< What the dead of this scenario had sent before.

  [[nodiscard]] std::uint64_t faults() const noexcept {
    return lost + torn + duplicated + stalls + leaked_bytes + violations + foreign_bytes + reclaims;
  }
  void complain(std::uint64_t& count, const std::string& what, std::uint64_t by = 1) {
    count += by;
    if (complaints.size() < 20) complaints.push_back(at + ": " + what);
  }
};

[[nodiscard]] inline std::size_t size_of(std::uint64_t n) { return n * 37 % 150; }
[[nodiscard]] inline std::uint16_t type_of(Stream stream, std::uint64_t n) {
  return static_cast<std::uint16_t>(static_cast<std::uint64_t>(stream) << 14 | (n & 0x3fff));
}

/// A ring in a segment that this process and its forks map, with the image that each run begins
/// with: nobody attached, and gone round, so that no byte of it is known to be zero.
class World {
 public:
  /// A ring in which nobody ever was.
  static constexpr std::uint64_t kFresh = ~std::uint64_t{0};
  /// `start`: offset in the lap at which every lane stands, a multiple of 64; or kFresh.
  World(const ShmOptions& options, std::uint64_t start)
      : options_(options), segment_(make(options)), log_(4096), prepared_(watched()) {
    if (start != kFresh) used_up_to(start);
    prepared_ = Image(watched());
    if (const auto report = channel::check(segment_)) before_ = report->committed;
  }
  /// Messages that its segment counted when it was prepared.
  [[nodiscard]] std::uint64_t committed_before() const { return before_; }

  [[nodiscard]] const ShmOptions& options() const { return options_; }
  [[nodiscard]] const segment::Segment& segment() const { return segment_; }
  [[nodiscard]] Log& log() const { return log_.as<Log>(); }
  [[nodiscard]] Watched watched() const { return {segment_.body(), {log_.data(), sizeof(Log)}}; }
  void begin_again() const { prepared_.put_back(watched()); }

  /// The same memory through a descriptor and a mapping of its own, as another process has it.
  [[nodiscard]] segment::Segment again() const {
    const std::string self = "/proc/self/fd/" + std::to_string(segment_.fd());
    auto opened = segment::Segment::from_fd(UniqueFd(::open(self.c_str(), O_RDWR | O_CLOEXEC)),
                                            segment::OpenMode::read_write);
    if (!opened) std::abort();
    return std::move(*opened);
  }
  [[nodiscard]] Result<ShmSender> sender() const { return ShmSender::attach(again(), options_); }
  [[nodiscard]] Result<ShmReceiver> receiver() const {
    return ShmReceiver::attach(again(), options_);
  }
  [[nodiscard]] channel::RingBody body() const { return *channel::RingBody::of(segment_); }

 private:
  static segment::Segment make(const ShmOptions& options) {
    auto made = channel::create_unnamed_ring(options);
    if (!made) std::abort();
    return std::move(*made);
  }
  void used_up_to(std::uint64_t start) const {
    auto to = receiver();
    std::vector<ShmSender> from;  // every place was somebody's
    const std::uint32_t places = options_.form == RingForm::per_producer ? options_.senders : 1;
    while (to && from.size() < places) {
      auto made = sender();
      if (!made) break;
      from.push_back(std::move(*made));
    }
    if (from.size() != places) std::abort();
    std::byte filler[56];
    std::memset(filler, 0x5a, sizeof filler);
    // Records of 64 bytes, header included, until each frontier stands at `start`.
    for (std::uint64_t i = 0; i < (options_.capacity + start) / 64; ++i) {
      for (ShmSender& one : from) {
        if (!one.try_send(filler) || !to->try_peek()) std::abort();
      }
    }
  }

  ShmOptions options_;
  segment::Segment segment_;
  SharedArea log_;
  Image prepared_;
  std::uint64_t before_ = 0;
};

/// Sends message `n` of a stream; false when there is no room.
template <typename Sender>
[[nodiscard]] bool send(Sender& sender, Stream stream, std::uint64_t n) {
  std::byte message[160];
  const std::span<std::byte> payload{message, size_of(n)};
  fill_pattern(payload, n + static_cast<std::uint64_t>(stream) * 7919);
  return sender.try_send(payload, type_of(stream, n)).has_value();
}

/// Reads what is left after a death, message by message.
class Judge {
 public:
  Judge(const World& world, Tally& tally, std::uint64_t of_living)
      : tally_(tally), log_(world.log()), of_living_(of_living) {
    for (int s = 0; s < 2; ++s) next_[s] = kUnknown;
  }

  /// Takes one message into account. False: it was torn, or of nobody.
  void see(std::span<const std::byte> bytes, std::uint16_t type, bool redelivered) {
    const int s = type >> 14;
    if (s > 1) return tally_.complain(tally_.torn, "a message of nobody");
    const std::uint64_t n = type & 0x3fff;
    if (bytes.size() != size_of(n) ||
        !has_pattern(bytes, n + static_cast<std::uint64_t>(s) * 7919)) {
      tally_.complain(tally_.torn, "message " + name(s, n) + " is torn");
    }
    if (next_[s] == kUnknown) {
      // Between what may have been given back and what was never shown nothing may be missing.
      if (n > log_.released[s]) {
        tally_.complain(tally_.lost, "before " + name(s, n) + " nobody saw " +
                                         std::to_string(n - log_.released[s]) + " messages");
      }
    } else if (n != next_[s]) {
      tally_.complain(n < next_[s] ? tally_.duplicated : tally_.lost,
                      name(s, n) + " came instead of " + name(s, next_[s]));
    }
    next_[s] = n + 1;
    if (n < log_.peeked[s] && !redelivered) {
      tally_.complain(tally_.duplicated, name(s, n) + " is repeated without a flag");
    }
    if (n >= log_.peeked[s] && n >= sent_before_takeover(s) && redelivered) {
      tally_.complain(tally_.violations, name(s, n) + " is flagged and nobody saw it before");
    }
  }
  /// How far a stream came, when the receiver has nothing more of it.
  [[nodiscard]] std::uint64_t reached(Stream stream) const {
    const int s = static_cast<int>(stream);
    return next_[s] == kUnknown ? log_.released[s] : next_[s];
  }
  /// The living sent more of theirs.
  void expect_of_living(std::uint64_t sent) { of_living_ = sent; }
  /// Once everything was read: is all there that must be?
  void expect_complete() {
    if (reached(Stream::living) != of_living_) {
      tally_.complain(tally_.lost, std::to_string(reached(Stream::living)) + " of " +
                                       std::to_string(of_living_) + " messages of the living");
    }
    const std::uint64_t n = reached(Stream::victim);
    if (n < log_.done)
      tally_.complain(tally_.lost, "a message whose commit returned", log_.done - n);
    // A batch likewise: all of it or nothing.
    if (n > log_.began || (n != log_.done && n != log_.began)) {
      tally_.complain(tally_.torn, "half of what was begun: " + std::to_string(n) + " of " +
                                       std::to_string(log_.began));
    }
  }

 private:
  static constexpr std::uint64_t kUnknown = ~std::uint64_t{0};
  [[nodiscard]] std::uint64_t sent_before_takeover(int s) const {
    return s == 0 ? of_living_ : log_.began;
  }
  static std::string name(int stream, std::uint64_t n) {
    return (stream == 0 ? "living " : "victim ") + std::to_string(n);
  }

  Tally& tally_;
  Log& log_;
  std::uint64_t of_living_;
  std::uint64_t next_[2];
};

}  // namespace slipring::test

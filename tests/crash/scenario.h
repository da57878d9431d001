// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "world.h"

// What is killed: each operation of an end, as a small function of its own, with what its victim
// does before it.
namespace slipring::test {

/// What a victim holds, in its private memory.
struct Context {
  explicit Context(const World& w) : world(w), log(w.log()) {}
  const World& world;
  Log& log;
  std::optional<ShmSender> sender;
  std::optional<ShmReceiver> receiver;
  std::optional<channel::ShmClaim> claim;
  std::optional<channel::ShmMessage> message;
  std::byte bytes[256] = {};

  /// What message `n` of the victim is made of.
  [[nodiscard]] std::span<const std::byte> payload(std::uint64_t n) {
    const std::span<std::byte> all{bytes, size_of(n)};
    fill_pattern(all, n + 7919);
    return all;
  }
};

/// One operation of one victim.
struct Scenario {
  std::string name;
  ShmOptions options;
  std::uint64_t start = 0;       ///< Offset in the lap where the world begins.
  bool receives = false;         ///< The victim is the receiver, else a sender.
  std::uint64_t of_living = 0;   ///< Messages that the living sent before.
  void (*prepare)(const World&) = nullptr;      ///< Once the living are attached, by the parent.
  bool (*set_up)(Context&) = nullptr;           ///< By the victim, at full speed.
  void (*operation)(Context&) = nullptr;        ///< Stepped through.
};

/// The living beside a victim.
struct Living {
  std::optional<ShmSender> sender;
  std::optional<ShmReceiver> receiver;

  Living(const World& world, const Scenario& s) {
    const bool many = s.options.form != RingForm::lane;
    if (s.receives || (many && s.of_living != 0)) {
      if (auto made = world.sender()) sender.emplace(std::move(*made));
      if (!sender) std::abort();
      for (std::uint64_t n = 0; n < s.of_living; ++n) {
        if (!send(*sender, Stream::living, n)) std::abort();
      }
    }
    if (!s.receives) {
      if (auto made = world.receiver()) receiver.emplace(std::move(*made));
      if (!receiver) std::abort();
    }
    if (s.prepare != nullptr) s.prepare(world);
  }
};

// ------------------------------------------------------------------------ operations of a sender

namespace victim {

inline constexpr std::uint64_t kBefore = 3;  ///< Messages that it sent before.

[[nodiscard]] inline bool attach(Context& c) {
  if (auto made = c.world.sender()) c.sender.emplace(std::move(*made));
  if (!c.sender) return false;
  for (std::uint64_t n = 0; n < kBefore; ++n) {
    ++c.log.began;
    if (!c.sender->try_send(c.payload(n), type_of(Stream::victim, n))) return false;
    ++c.log.done;
  }
  static_cast<void>(c.payload(kBefore));
  return true;
}
[[nodiscard]] inline bool claim_first(Context& c) {
  if (!attach(c)) return false;
  if (auto claim = c.sender->try_claim(size_of(kBefore))) c.claim.emplace(std::move(*claim));
  return c.claim.has_value();
}
[[nodiscard]] inline bool fill_first(Context& c) {
  if (!claim_first(c)) return false;
  std::memcpy(c.claim->payload().data(), c.bytes, size_of(kBefore));
  c.log.began = kBefore + 1;
  return true;
}

[[gnu::noinline]] inline void claim(Context& c) {
  if (auto claim = c.sender->try_claim(size_of(kBefore))) c.claim.emplace(std::move(*claim));
}
/// Longer than the room in front of the lap's end: padding and record.
[[gnu::noinline]] inline void claim_large(Context& c) {
  if (auto claim = c.sender->try_claim(900)) c.claim.emplace(std::move(*claim));
}
[[gnu::noinline]] inline void fill(Context& c) {
  std::memcpy(c.claim->payload().data(), c.bytes, size_of(kBefore));
}
[[gnu::noinline]] inline void commit(Context& c) {
  c.claim->commit(size_of(kBefore), type_of(Stream::victim, kBefore));
  c.log.done = kBefore + 1;
}
[[gnu::noinline]] inline void abort(Context& c) { c.claim->abort(); }
[[gnu::noinline]] inline void send(Context& c) {
  c.log.began = kBefore + 1;
  if (c.sender->try_send({c.bytes, size_of(kBefore)}, type_of(Stream::victim, kBefore))) {
    c.log.done = kBefore + 1;
  }
}
/// Three messages that appear together.
[[gnu::noinline]] inline void group(Context& c) {
  auto group = c.sender->group();
  if (!group) return;
  c.log.began = kBefore + 3;
  for (std::uint64_t n = kBefore; n < kBefore + 3; ++n) {
    if (!group->try_send(c.payload(n), type_of(Stream::victim, n))) return;
  }
  group->commit();
  c.log.done = kBefore + 3;
}
[[gnu::noinline]] inline void attach_sender(Context& c) {
  if (auto made = c.world.sender()) c.sender.emplace(std::move(*made));
}
[[gnu::noinline]] inline void close_sender(Context& c) { c.sender->close(); }

// ---------------------------------------------------------------------- operations of a receiver

inline constexpr std::uint64_t kTaken = 5;  ///< Messages that it took before, none of them told.

[[nodiscard]] inline bool attach_receiving(Context& c) {
  if (auto made = c.world.receiver()) c.receiver.emplace(std::move(*made));
  return c.receiver.has_value();
}
inline void note_peeked(Context& c, std::uint16_t type) {
  c.log.peeked[type >> 14] = (type & 0x3fff) + std::uint64_t{1};
}
inline void note_released(Context& c, std::uint16_t type) {
  c.log.released[type >> 14] = (type & 0x3fff) + std::uint64_t{1};
}
[[nodiscard]] inline bool take_some(Context& c) {
  if (!attach_receiving(c)) return false;
  for (std::uint64_t i = 0; i < kTaken; ++i) {
    auto message = c.receiver->try_peek();
    if (!message) return false;
    note_peeked(c, message->type());
    note_released(c, message->type());
  }
  return true;
}
[[nodiscard]] inline bool peek_first(Context& c) {
  if (!take_some(c)) return false;
  auto message = c.receiver->try_peek();
  if (!message) return false;
  c.message.emplace(std::move(*message));
  note_peeked(c, c.message->type());
  return true;
}
/// An eighth of the ring is read and not told, so that the next release tells.
[[nodiscard]] inline bool peek_before_telling(Context& c) {
  if (!attach_receiving(c)) return false;
  std::uint64_t untold = 0;
  for (;;) {
    auto message = c.receiver->try_peek();
    if (!message) return false;
    note_peeked(c, message->type());
    untold += align_up(message->bytes().size() + 8, 64);
    if (untold >= 512) {
      c.message.emplace(std::move(*message));
      return true;
    }
    note_released(c, message->type());
  }
}

[[gnu::noinline]] inline void peek(Context& c) {
  auto message = c.receiver->try_peek();
  if (!message) return;
  note_peeked(c, message->type());
  c.message.emplace(std::move(*message));
}
[[gnu::noinline]] inline void read(Context& c) {
  std::memcpy(c.bytes, c.message->bytes().data(), std::min<std::size_t>(c.message->bytes().size(), 256));
}
[[gnu::noinline]] inline void release(Context& c) {
  note_released(c, c.message->type());
  c.message->release();
}
[[gnu::noinline]] inline void attach_receiver(Context& c) { (void)attach_receiving(c); }
[[gnu::noinline]] inline void close_receiver(Context& c) { c.receiver->close(); }
/// Reads all there is, and gives the places of the dead free.
[[gnu::noinline]] inline void drain(Context& c) {
  for (int empty = 0; empty < 70;) {
    auto message = c.receiver->try_peek();
    if (!message) {
      ++empty;
      continue;
    }
    note_peeked(c, message->type());
    note_released(c, message->type());
  }
}
/// What recovery is: both ends attach, what is there is read, the dead's places become free.
[[gnu::noinline]] inline void recover(Context& c) {
  attach_receiver(c);
  attach_sender(c);
  if (c.receiver) drain(c);
}

}  // namespace victim

}  // namespace slipring::test

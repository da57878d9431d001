// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "support/child.h"
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

/// What the victim is. `both`: it recovers after everybody died.
enum class Side : std::uint8_t { sender, receiver, both };

/// One operation of one victim.
struct Scenario {
  std::string name;
  ShmOptions options;
  std::uint64_t start = 0;  ///< Offset in the lap where the world begins.
  Side side = Side::sender;
  std::uint64_t of_living = 0;              ///< Messages that the living sent before.
  void (*prepare)(const World&) = nullptr;  ///< Once the living are attached, by the parent.
  bool (*set_up)(Context&) = nullptr;       ///< By the victim, at full speed.
  void (*operation)(Context&) = nullptr;    ///< Stepped through.
  bool only_nightly = false;
};

/// The living beside a victim.
struct Living {
  std::optional<ShmSender> sender;
  std::optional<ShmReceiver> receiver;

  Living() = default;
  Living(const World& world, const Scenario& s) {
    const bool many = s.options.form != RingForm::lane;
    if (s.side == Side::receiver || (s.side == Side::sender && many)) {
      if (auto made = world.sender()) sender.emplace(std::move(*made));
      if (!sender) std::abort();
      for (std::uint64_t n = 0; n < s.of_living; ++n) {
        if (!send(*sender, Stream::living, n)) std::abort();
      }
    }
    if (s.side == Side::sender) {
      if (auto made = world.receiver()) receiver.emplace(std::move(*made));
      if (!receiver) std::abort();
    }
    if (s.prepare != nullptr) s.prepare(world);
  }
};

// ------------------------------------------------------------------------ operations of a sender

/// A receiver that sleeps, as far as a sender can see.
inline void pretend_receiver_parks(const World& world) {
  NativeAccess::store_release(world.body().data_bell(0).ticket,
                              wait::Ticket::make(7, false, false).bits);
}
/// Senders that sleep for room.
inline void pretend_senders_park(const World& world) {
  const channel::RingBody body = world.body();
  if (body.shape().form == RingForm::total) {
    return NativeAccess::store_release(body.total().control->space_wanted, 1);
  }
  for (std::uint32_t i = 0; i < body.shape().senders; ++i) {
    NativeAccess::store_release(body.producer_side(i).want_pos, 0);
    NativeAccess::store_release(body.producer_side(i).space_ticket,
                                wait::Ticket::make(7, false, false).bits);
  }
}
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

[[nodiscard]] inline bool fill_for_a_sleeper(Context& c) {
  if (!fill_first(c)) return false;
  pretend_receiver_parks(c.world);
  return true;
}
[[nodiscard]] inline bool fill_large_first(Context& c) {
  if (!attach(c)) return false;
  if (auto claim = c.sender->try_claim(900)) c.claim.emplace(std::move(*claim));
  if (!c.claim) return false;
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
[[gnu::noinline]] inline void abort(Context& c) {
  c.claim->abort();
  c.log.began = c.log.done;
}
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
/// Until there is no room, then for a millisecond more.
[[nodiscard]] inline bool fill_up(Context& c) {
  if (!attach(c)) return false;
  for (std::uint64_t n = kBefore;; ++n) {
    ++c.log.began;
    if (!c.sender->try_send(c.payload(n), type_of(Stream::victim, n))) break;
    ++c.log.done;
  }
  c.log.began = c.log.done;
  return true;
}
[[gnu::noinline]] inline void wait_for_room(Context& c) {
  (void)c.sender->claim(200, Deadline::in(std::chrono::milliseconds(1)));
}
[[gnu::noinline]] inline void attach_sender(Context& c) {
  if (auto made = c.world.sender()) c.sender.emplace(std::move(*made));
}
[[gnu::noinline]] inline void close_sender(Context& c) {
  c.sender->close();
  c.log.began = c.log.done;
}

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
    untold += align_up(message->bytes().size() + 8, c.receiver->link().shape().granule);
    if (untold >= c.world.options().capacity / 8) {
      c.message.emplace(std::move(*message));
      return true;
    }
    note_released(c, message->type());
  }
}

[[nodiscard]] inline bool peek_before_telling_sleepers(Context& c) {
  if (!peek_before_telling(c)) return false;
  pretend_senders_park(c.world);
  return true;
}

[[gnu::noinline]] inline void peek(Context& c) {
  auto message = c.receiver->try_peek();
  if (!message) return;
  note_peeked(c, message->type());
  c.message.emplace(std::move(*message));
}
[[gnu::noinline]] inline void read(Context& c) {
  std::memcpy(c.bytes, c.message->bytes().data(),
              std::min<std::size_t>(c.message->bytes().size(), 256));
}
[[gnu::noinline]] inline void release(Context& c) {
  note_released(c, c.message->type());
  c.message->release();
}
[[gnu::noinline]] inline void attach_receiver(Context& c) { (void)attach_receiving(c); }
[[gnu::noinline]] inline void close_receiver(Context& c) { c.receiver->close(); }
[[gnu::noinline]] inline void wait_for_message(Context& c) {
  auto message = c.receiver->peek(Deadline::in(std::chrono::milliseconds(1)));
  if (message) message->keep();
}
[[nodiscard]] inline bool take_all(Context& c) {
  if (!attach_receiving(c)) return false;
  while (auto message = c.receiver->try_peek()) {
    note_peeked(c, message->type());
    note_released(c, message->type());
  }
  return true;
}
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

// ---------------------------------------------------------------- what must not pass for correct

/// Publishes first, fills then.
[[gnu::noinline]] inline void publish_before_payload(Context& c) {
  auto claim = c.sender->try_claim(size_of(kBefore));
  if (!claim) return;
  const std::span<std::byte> payload = claim->payload();
  c.log.began = kBefore + 1;
  claim->commit(size_of(kBefore), type_of(Stream::victim, kBefore));
  std::memcpy(payload.data(), c.bytes, size_of(kBefore));
  c.log.done = kBefore + 1;
}
/// Says that it is committed, commits then.
[[gnu::noinline]] inline void acknowledge_before_commit(Context& c) {
  c.log.done = kBefore + 1;
  c.claim->commit(size_of(kBefore), type_of(Stream::victim, kBefore));
}
/// Gives messages back that it has not looked at: told, they are gone with it.
[[gnu::noinline]] inline void release_unseen(Context& c) {
  c.message->release();
  note_released(c, c.message->type());
}
/// Frees the place of a dead sender and leaves its claim open.
[[gnu::noinline]] inline void free_the_place_only(Context& c) {
  for (std::uint32_t i = 0; i < c.world.options().senders; ++i) {
    const RoleRef role = c.world.body().sender_role(i);
    RoleWatch watch;
    if (watch.look(role) != RoleWatch::Peer::dead) continue;
    if (const auto taken = take_role(role)) leave_role(role, taken->generation);
  }
}
/// Counts a message as committed that it gave up.
[[gnu::noinline]] inline void skip_a_number(Context& c) {
  c.claim->abort();
  auto& side = c.world.body().producer_side(c.sender->link().sender());
  for (auto* word : {&side.messages, &side.before_messages}) {
    NativeAccess::store_release(*word, NativeAccess::load_relaxed(*word) + 9);
  }
}

}  // namespace victim

// --------------------------------------------------------------------------- what there is to kill

/// A sender that dies with a claim open, and a receiver that dies with messages taken.
inline void kill_both(const World& world) {
  const auto die = [&](bool (*set_up)(Context&)) {
    Child child([&] {
      Context context(world);
      ::_exit(set_up(context) ? 0 : 3);
      return 0;
    });
    if (!child.wait().exited_with(0)) std::abort();
  };
  die([](Context& c) { return victim::fill_first(c); });
  die([](Context& c) {
    if (!victim::attach_receiving(c)) return false;
    for (int i = 0; i < 2; ++i) {
      auto message = c.receiver->try_peek();
      if (!message) return false;
      victim::note_peeked(c, message->type());
      if (i == 1) message->keep();
    }
    return true;
  });
}

[[nodiscard]] inline ShmOptions ring_options(RingForm form) {
  ShmOptions options;
  options.kind = segment::Backend::memfd;
  options.capacity = ring::kMinCapacity;
  options.form = form;
  options.senders = 4;
  return options;
}

/// Every operation of every form of a ring.
[[nodiscard]] inline std::vector<Scenario> ring_scenarios() {
  std::vector<Scenario> all;
  for (const auto form : {RingForm::lane, RingForm::per_producer, RingForm::total}) {
    const auto add = [&](const char* name, Side side, auto set_up, auto operation,
                         std::uint64_t of_living, std::uint64_t start = 0,
                         void (*prepare)(const World&) = nullptr) {
      Scenario s{std::string(to_string(form)) + "/" + name,
                 ring_options(form),
                 start,
                 side,
                 form == RingForm::lane && side == Side::sender ? 0 : of_living,
                 prepare,
                 set_up,
                 operation};
      all.push_back(s);
    };
    using namespace victim;
    bool (*const nothing)(Context&) = nullptr;
    constexpr auto kS = Side::sender, kR = Side::receiver, kB = Side::both;
    add("claim", kS, &attach, &claim, 4);
    add("claim_padded", kS, &attach, &claim_large, 4, 3584);
    add("fill", kS, &claim_first, &fill, 4);
    add("commit", kS, &fill_first, &commit, 4);
    add("commit_padded", kS, &fill_large_first, &commit, 4, 3584);
    add("commit_wake", kS, &fill_for_a_sleeper, &commit, 4);
    add("abort", kS, &fill_first, &abort, 4);
    add("send", kS, &attach, &victim::send, 4, 1024);
    add("send_fresh", kS, &attach, &victim::send, 4, World::kFresh);
    if (form != RingForm::total) add("group", kS, &attach, &group, 4, 3840);
    add("park_for_room", kS, &fill_up, &wait_for_room, 4);
    add("attach_sender", kS, nothing, &attach_sender, 4);
    add("attach_sender_fresh", kS, nothing, &attach_sender, 4, World::kFresh);
    add("detach_sender", kS, &attach, &close_sender, 4);
    add("detach_sender_claimed", kS, &fill_first, &close_sender, 4);
    add("peek", kR, &take_some, &peek, 12);
    add("read", kR, &peek_first, &read, 12);
    add("release", kR, &peek_first, &release, 12);
    add("release_told", kR, &peek_before_telling, &release, 16);
    add("release_wake", kR, &peek_before_telling_sleepers, &release, 16);
    add("park_for_message", kR, &take_all, &wait_for_message, 6);
    add("attach_receiver", kR, nothing, &attach_receiver, 12);
    add("attach_receiver_fresh", kR, nothing, &attach_receiver, 12, World::kFresh);
    add("detach_receiver", kR, &take_some, &close_receiver, 12);
    add("recover", kB, nothing, &recover, 0, 0, &kill_both);
  }
  for (Scenario& s : all) {
    const bool parks = s.name.find("/park") != std::string::npos;
    if (parks) s.options.wait = wait::WaitStrategy::park();
    // 100,000 instructions to step through, most of them in loops over lanes.
    const bool is_long = parks || s.name == "mpsc/recover";
    s.only_nightly = is_long && s.options.form != RingForm::lane;
  }
  return all;
}

}  // namespace slipring::test

// SPDX-License-Identifier: Apache-2.0
// Messages of any size: tiers, policies, limits, and what a death in the middle leaves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "slipring/base/hash.h"
#include "slipring/channel/inspect.h"
#include "slipring/channel/message_receiver.h"
#include "slipring/channel/message_sender.h"
#include "slipring/channel/stash.h"
#include "slipring/channel/typed.h"
#include "slipring/pool/segment_pool.h"
#include "support/child.h"
#include "support/matchers.h"
#include "support/names.h"
#include "support/watchdog.h"

namespace slipring::channel {
namespace {

using test::Child;
using test::FailsWith;
using test::ProcessEvent;
using test::Succeeds;
using namespace std::chrono_literals;

std::vector<std::byte> pattern(std::size_t size, std::uint64_t seed) {
  std::vector<std::byte> bytes(size);
  std::uint64_t state = fnv1a(seed, kFnvBasis);
  for (std::size_t i = 0; i < size; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    bytes[i] = static_cast<std::byte>(state >> 56);
  }
  return bytes;
}

std::vector<std::byte> bytes_of(const Incoming& message) {
  std::vector<std::byte> all;
  for (const iovec& part : message.parts()) {
    const auto* from = static_cast<const std::byte*>(part.iov_base);
    all.insert(all.end(), from, from + part.iov_len);
  }
  return all;
}

struct Setting {
  RingForm form;
  bool pool;
  frame::Mode mode;
};

class Messages : public testing::TestWithParam<Setting> {
 protected:
  static constexpr std::uint64_t kCapacity = 16 << 10;

  [[nodiscard]] ShmOptions options() const {
    ShmOptions options;
    options.form = GetParam().form;
    options.capacity = kCapacity;
    options.senders = 4;
    if (GetParam().pool) {
      options.pool = pool::PoolSpec{}.with(1024, 8).with(16 << 10, 4);
    }
    return options;
  }
  [[nodiscard]] static MessageSender::Options sending(OnFull on_full = OnFull::wait()) {
    MessageSender::Options options;
    options.on_full = on_full;
    options.tiers.block_from = 600;
    options.tiers.check_chunks = true;
    return options;
  }
  [[nodiscard]] MessageReceiver::Options receiving() const {
    MessageReceiver::Options options;
    options.mode = GetParam().mode;
    return options;
  }
  [[nodiscard]] Result<MessageSender> open_sender(OnFull on_full = OnFull::wait()) const {
    return MessageSender::open_or_create(name_, options(), sending(on_full));
  }
  [[nodiscard]] Result<MessageReceiver> open_receiver() const {
    return MessageReceiver::open_or_create(name_, options(), receiving());
  }
  [[nodiscard]] RingView look() const {
    const auto seen =
        segment::Segment::open(*segment::Name::parse(name_), segment::OpenMode::read_only);
    EXPECT_THAT(seen, Succeeds());
    const auto view = inspect(*seen, true);
    EXPECT_THAT(view, Succeeds());
    return *view;
  }
  /// Nothing is under way: every block is free, no message is open.
  void expect_nothing_left() const {
    const RingView view = look();
    EXPECT_EQ(view.open_messages, 0u);
    EXPECT_EQ(view.open_bytes, 0u);
    if (view.pool) {
      EXPECT_TRUE(view.pool->is_whole());
      EXPECT_EQ(view.pool->total.free, view.pool->total.capacity);
    }
  }
  void expect_message(MessageReceiver& rx, std::size_t size, std::uint64_t seed) {
    auto message = rx.peek(Deadline::in(20s));
    ASSERT_THAT(message, Succeeds()) << size;
    EXPECT_EQ(message->size(), size);
    EXPECT_EQ(message->total(), size);
    EXPECT_TRUE(message->is_last());
    EXPECT_EQ(message->type(), static_cast<std::uint16_t>(seed));
    EXPECT_EQ(bytes_of(*message), pattern(size, seed));
  }
  [[nodiscard]] static Result<Sent> send(MessageSender& tx, std::size_t size, std::uint64_t seed,
                                         std::optional<OnFull> on_full = std::nullopt) {
    SendOptions how;
    how.type = static_cast<std::uint16_t>(seed);
    how.on_full = on_full;
    return tx.send(pattern(size, seed), how);
  }

  test::Watchdog watchdog_{90};
  std::string name_ = test::unique_name("msg");
};

TEST_P(Messages, CarriesEverySizeAtTheEdgesOfTheTiers) {
  const std::vector<std::size_t> sizes = {0,     1,     8,     56,     57,      511,      512,
                                          599,   600,   601,   1023,   1024,    1025,     2000,
                                          2048,  4032,  4033,  4095,   4096,    4097,     8192,
                                          16383, 16384, 16385, 40'000, 100'000, 1'000'000};
  Child sender([&] {
    auto tx = open_sender();
    if (!tx) return 1;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const auto sent = send(*tx, sizes[i], i);
      if (!sent || *sent != Sent::queued) return 2;
    }
    return 0;
  });
  auto rx = open_receiver();
  ASSERT_THAT(rx, Succeeds());
  for (std::size_t i = 0; i < sizes.size(); ++i) expect_message(*rx, sizes[i], i);
  EXPECT_THAT(rx->peek(Deadline::in(20s)), FailsWith(Errc::closed));
  EXPECT_TRUE(sender.wait().exited_with(0));
  expect_nothing_left();
}

TEST_P(Messages, AClaimIsFilledAndReadInPlace) {
  auto tx = open_sender();
  auto rx = open_receiver();
  ASSERT_THAT(tx, Succeeds());
  ASSERT_THAT(rx, Succeeds());
  for (const std::size_t size : {100u, 700u, 4000u, 12'000u}) {
    SCOPED_TRACE(size);
    const bool fits = size <= tx->ring().max_payload() || GetParam().pool;
    auto claim = tx->claim(size);
    if (!fits) {
      EXPECT_THAT(claim, FailsWith(Errc::too_large));
      continue;
    }
    ASSERT_THAT(claim, Succeeds());
    EXPECT_EQ(claim->tier(), GetParam().pool && size >= 600 ? Tier::block : Tier::ring);
    ASSERT_EQ(claim->payload().size(), size);
    const auto bytes = pattern(size, size);
    std::memcpy(claim->payload().data(), bytes.data(), size);
    EXPECT_THAT(claim->commit(size - 1, 3), Succeeds());
    EXPECT_THAT(claim->commit(size), FailsWith(Errc::invalid_argument)) << "once";
    auto message = rx->peek(Deadline::in(20s));
    ASSERT_THAT(message, Succeeds());
    EXPECT_EQ(message->size(), size - 1);
    const std::span<std::byte> mapped = rx->ring().link().segment().body();
    EXPECT_GE(message->bytes().data(), mapped.data()) << "copied";
    EXPECT_LT(message->bytes().data(), mapped.data() + mapped.size()) << "copied";
    EXPECT_EQ(std::memcmp(message->bytes().data(), bytes.data(), size - 1), 0);
  }
  {
    auto dropped = tx->claim(700);
    ASSERT_THAT(dropped, Succeeds());
  }
  EXPECT_THAT(rx->try_peek(), FailsWith(Errc::timed_out));
  expect_nothing_left();
}

TEST_P(Messages, WhatIsKeptComesAgain) {
  auto tx = open_sender();
  auto rx = open_receiver();
  ASSERT_THAT(tx, Succeeds());
  ASSERT_THAT(rx, Succeeds());
  for (const std::size_t size : {100u, 900u, 9'000u}) {
    ASSERT_THAT(send(*tx, size, size), Succeeds());
    {
      auto message = rx->peek(Deadline::in(20s));
      ASSERT_THAT(message, Succeeds());
      message->keep();
    }
    expect_message(*rx, size, size);
  }
  expect_nothing_left();
}

TEST_P(Messages, StreamsOfOneSenderInterleaveAndOneCanBeGivenUp) {
  auto tx = open_sender();
  auto rx = open_receiver();
  ASSERT_THAT(tx, Succeeds());
  ASSERT_THAT(rx, Succeeds());
  constexpr std::size_t kSize = 30'000;
  std::vector<std::vector<std::byte>> bodies;
  std::vector<MessageStream> streams;
  for (std::uint64_t i = 0; i < 4; ++i) {
    bodies.push_back(pattern(kSize, i));
    auto stream = tx->stream(i == 2 ? frame::kOpenEnded : kSize, static_cast<std::uint16_t>(i));
    ASSERT_THAT(stream, Succeeds());
    streams.push_back(std::move(*stream));
  }
  std::vector<std::uint64_t> whole;
  std::vector<std::size_t> at(4);
  const auto drain = [&] {
    for (;;) {
      auto message = rx->peek(Deadline::now());
      if (!message) break;
      EXPECT_EQ(bytes_of(*message), bodies[message->type()]);
      whole.push_back(message->type());
    }
  };
  for (int turn = 0; whole.size() < 3; ++turn) {
    ASSERT_LT(turn, 1000);
    const auto i = static_cast<std::size_t>(turn) % 4;
    if (i == 1 && at[1] > 5'000) {
      streams[1].abort();
      at[1] = 0;
    }
    if (streams[i].done()) {
      drain();
      continue;
    }
    const auto body = streams[i].next(Deadline::in(20s));
    ASSERT_THAT(body, Succeeds());
    EXPECT_THAT(streams[i].next(Deadline::now()), FailsWith(Errc::in_use));
    const std::size_t size = std::min(body->size(), kSize - at[i]);
    std::memcpy(body->data(), bodies[i].data() + at[i], size);
    at[i] += size;
    ASSERT_THAT(streams[i].commit(size, at[i] == kSize), Succeeds());
    EXPECT_EQ(streams[i].progress().handed_over, at[i]);
    drain();
  }
  std::ranges::sort(whole);
  EXPECT_EQ(whole, (std::vector<std::uint64_t>{0, 2, 3}));
  EXPECT_EQ(rx->chunk_counters().aborted, 1u);
  expect_nothing_left();
  ASSERT_THAT(send(*tx, 10, 9), Succeeds());
  expect_message(*rx, 10, 9);
}

TEST_P(Messages, ASenderKilledInTheMiddleLeavesNothingBehind) {
  for (const bool in_block : {false, true}) {
    SCOPED_TRACE(in_block ? "filling a block" : "between two chunks");
    ProcessEvent ready;
    Child victim([&] {
      auto tx = open_sender();
      if (!tx || !send(*tx, 900, 1)) return;
      if (in_block) {
        auto claim = tx->claim(900);
        ready.raise();
        for (;;) ::pause();
      }
      auto stream = tx->stream(1 << 20);
      auto body = stream->next();
      if (!body || !stream->commit(body->size())) return;
      ready.raise();
      for (;;) ::pause();
    });
    auto rx = open_receiver();
    ASSERT_THAT(rx, Succeeds());
    ASSERT_TRUE(ready.wait());
    expect_message(*rx, 900, 1);
    if (!in_block) {
      EXPECT_THAT(rx->peek(Deadline::in(60ms)), FailsWith(Errc::timed_out));
      EXPECT_EQ(look().open_messages, 1u);
    }
    EXPECT_TRUE(victim.kill().killed_by(SIGKILL));
    EXPECT_THAT(rx->peek(Deadline::in(20s)), FailsWith(Errc::peer_dead));
    expect_nothing_left();
    // The next one in the same place: its ids and references are its own.
    auto tx = open_sender();
    ASSERT_THAT(tx, Succeeds());
    for (const std::size_t size : {10u, 900u, 50'000u}) {
      if (size > 20'000) break;  // one thread: a message beyond the ring would wait for itself
      ASSERT_THAT(send(*tx, size, size), Succeeds());
      expect_message(*rx, size, size);
    }
    tx->close();
    rx->close();
  }
}

TEST_P(Messages, ASuccessorOfADeadReceiverGetsBlocksAgainAndNoneIsLost) {
  auto tx = open_sender();
  ASSERT_THAT(tx, Succeeds());
  for (std::uint64_t i = 0; i < 4; ++i) ASSERT_THAT(send(*tx, 900, i), Succeeds());
  ProcessEvent holding;
  Child first([&] {
    auto rx = open_receiver();
    if (!rx || !rx->peek()) return;  // read and given back, and perhaps not told
    auto held = rx->peek();
    holding.raise();
    for (;;) ::pause();
  });
  ASSERT_TRUE(holding.wait());
  first.kill();
  auto rx = open_receiver();
  ASSERT_THAT(rx, Succeeds());
  std::vector<std::uint16_t> got;
  while (got.size() < 4) {
    auto message = rx->peek(Deadline::now());
    if (!message) break;
    EXPECT_TRUE(message->redelivered());
    EXPECT_EQ(bytes_of(*message), pattern(900, message->type()));
    got.push_back(message->type());
  }
  ASSERT_GE(got.size(), 3u) << "only what the dead gave back may be gone";
  EXPECT_EQ(got.back(), 3u);
  expect_nothing_left();
}

TEST_P(Messages, RefusesReferencesAndChunksThatNobodySent) {
  auto options = this->options();
  auto tx = ShmSender::open_or_create(name_, options);
  auto rx = open_receiver();
  ASSERT_THAT(tx, Succeeds());
  ASSERT_THAT(rx, Succeeds());
  const auto put = [&](std::span<const std::byte> bytes, ring::RecordKind kind) {
    auto claim = tx->claim(bytes.size());
    ASSERT_THAT(claim, Succeeds());
    std::memcpy(claim->payload().data(), bytes.data(), bytes.size());
    claim->commit(bytes.size(), 0, kind);
  };
  pool::BlockRef ref;
  ref.index = 3;
  std::uint64_t faults = 0;
  const auto expect_refused = [&](auto codes) {
    const auto message = rx->peek(Deadline::in(20s));
    EXPECT_FALSE(message.has_value());
    EXPECT_THAT(message.error().code, codes);
    EXPECT_EQ(look().faults, ++faults);
  };
  using testing::AnyOf;
  for (const int size_class : {0, 2, 6, 12, 13, 255}) {
    ref.size_class = static_cast<std::uint8_t>(size_class);
    put(std::as_bytes(std::span(&ref, 1)), ring::RecordKind::block);
    expect_refused(AnyOf(Errc::corrupt, Errc::bad_format));
  }
  put(std::as_bytes(std::span("short")), ring::RecordKind::block);
  expect_refused(Errc::bad_format);
  put(std::as_bytes(std::span("no chunk at all")), ring::RecordKind::chunk);
  expect_refused(Errc::bad_format);
  put(std::as_bytes(std::span("control")), ring::RecordKind::control);
  expect_refused(Errc::bad_format);
  ControlRecord control;
  control.what = 77;
  put(std::as_bytes(std::span(&control, 1)), ring::RecordKind::control);
  expect_refused(Errc::bad_format);
  // Somebody else's memory is not read on a sender's word.
  control = {static_cast<std::uint32_t>(ControlRecord::What::direct), 1, 0x1000, 64, 1};
  put(std::as_bytes(std::span(&control, 1)), ring::RecordKind::control);
  put(std::as_bytes(std::span("good", 4)), ring::RecordKind::data);
  if (GetParam().form == RingForm::total) expect_refused(Errc::bad_format);
  auto message = rx->peek(Deadline::in(20s));
  ASSERT_THAT(message, Succeeds());
  EXPECT_EQ(message->size(), 4u) << "what is good goes on";
  message->release();
  expect_nothing_left();
}

TEST_P(Messages, KeepsTheReceiversLimitsAndGoesOn) {
  auto limited = receiving();
  limited.limits.max_message = 20'000;
  Child sender([&] {
    auto tx = open_sender();
    if (!tx) return 1;
    return send(*tx, 50'000, 1) && send(*tx, 20'000, 2) ? 0 : 2;
  });
  auto rx = MessageReceiver::open_or_create(name_, options(), limited);
  ASSERT_THAT(rx, Succeeds());
  EXPECT_THAT(rx->peek(Deadline::in(20s)), FailsWith(Errc::too_large));
  expect_message(*rx, 20'000, 2);
  EXPECT_TRUE(sender.wait().exited_with(0));
}

TEST_P(Messages, TheSegmentIsAsLargeAsWasSaidBefore) {
  auto made = create_ring(name_, options());
  ASSERT_THAT(made, Succeeds());
  const auto told = segment_bytes(options());
  ASSERT_THAT(told, Succeeds());
  EXPECT_EQ(*told, made->info().total_bytes);
  ASSERT_THAT(remove_ring(*made), Succeeds());
}

// --------------------------------------------------------------------------- queue-full policies

TEST_P(Messages, WithoutRoomEachPolicyDoesWhatItSays) {
  auto rx = open_receiver();
  auto tx = open_sender();
  ASSERT_THAT(rx, Succeeds());
  ASSERT_THAT(tx, Succeeds());
  std::uint64_t sent = 0;
  while (send(*tx, 500, sent, OnFull::refuse())) ++sent;
  ASSERT_GT(sent, 10u);
  EXPECT_THAT(send(*tx, 500, 99, OnFull::refuse()), FailsWith(Errc::full));
  EXPECT_THAT(send(*tx, 500, 99, OnFull::wait_for(20ms)), FailsWith(Errc::timed_out));
  const auto of_sender = [&] { return look().senders.at(0); };
  EXPECT_EQ(of_sender().refused, 2u);
  EXPECT_EQ(of_sender().timeouts, 1u);
  EXPECT_GE(of_sender().waits, 1u);

  // Put by, in order, up to a bound; then refused.
  const OnFull stash = OnFull::stash(3 * (500 + sizeof(Stash::Entry)));
  std::uint64_t stashed = 0;
  for (;;) {
    const auto put = send(*tx, 500, sent + stashed, stash);
    if (!put) {
      EXPECT_THAT(put, FailsWith(Errc::full));
      break;
    }
    ASSERT_EQ(*put, Sent::stashed);
    ASSERT_LT(++stashed, 10u);
  }
  EXPECT_GE(stashed, 2u);
  EXPECT_EQ(tx->stashed(), stashed);
  EXPECT_EQ(of_sender().stashed, stashed);
  EXPECT_EQ(of_sender().refused, 3u);

  // Any later call sends what fits, oldest first; this one goes behind it.
  for (std::uint64_t i = 0; i < sent; ++i) expect_message(*rx, 500, i);
  ASSERT_THAT(send(*tx, 500, sent + stashed, stash), Succeeds());
  EXPECT_EQ(tx->stashed(), 0u);
  for (std::uint64_t i = 0; i <= stashed; ++i) expect_message(*rx, 500, sent + i);

  // What has no room at the end is dropped, and counted.
  while (send(*tx, 500, 7, OnFull::refuse())) {
  }
  ASSERT_THAT(send(*tx, 500, 8, stash), Succeeds());
  tx->close();
  EXPECT_EQ(of_sender().dropped, 1u);
  while (rx->peek(Deadline::now())) {
  }
}

// Tools wait a little at a time, to look at other things in between.
TEST_P(Messages, AWaitThatIsCutInSlicesCountsAsOne) {
  auto rx = open_receiver();
  auto tx = open_sender();
  ASSERT_THAT(rx, Succeeds());
  ASSERT_THAT(tx, Succeeds());
  const auto message = pattern(500, 1);
  while (tx->ring().try_send(message)) {
  }
  const auto waits = [&] { return look().senders.at(0).waits; };
  EXPECT_THAT(tx->ring().send(message, Deadline::now()), FailsWith(Errc::timed_out));
  EXPECT_EQ(waits(), 0u);  // it did not wait
  for (int slice = 0; slice < 3; ++slice) {
    EXPECT_THAT(tx->ring().send(message, Deadline::in(2ms)), FailsWith(Errc::timed_out));
    EXPECT_EQ(waits(), 1u);
  }
  while (rx->peek(Deadline::now())) {
  }
  while (tx->ring().try_send(message)) {
  }
  EXPECT_THAT(tx->ring().send(message, Deadline::in(2ms)), FailsWith(Errc::timed_out));
  EXPECT_EQ(waits(), 2u);
  while (rx->peek(Deadline::now())) {
  }
}

// It used to wait for somebody to come, for ever.
TEST_P(Messages, APolicyThatDoesNotWaitGivesUpAMessageThatNobodyReceives) {
  auto tx = open_sender();
  ASSERT_THAT(tx, Succeeds());
  EXPECT_THAT(send(*tx, 1 << 20, 1, OnFull::refuse()), FailsWith(Errc::full));
  EXPECT_EQ(look().senders.at(0).refused, 1u);
  auto rx = open_receiver();
  ASSERT_THAT(rx, Succeeds());
  EXPECT_THAT(rx->peek(Deadline::now()), FailsWith(Errc::timed_out));
  ASSERT_THAT(send(*tx, 500, 2), Succeeds());
  expect_message(*rx, 500, 2);
  expect_nothing_left();
}

TEST_P(Messages, TheDeadlineHoldsWhileTheChunksOfAMessageKeepComing) {
  auto rx = open_receiver();
  ASSERT_THAT(rx, Succeeds());
  ProcessEvent begun, enough;
  Child sender([&] {
    auto tx = open_sender();
    auto stream = tx->stream(frame::kOpenEnded);
    for (bool last = false; !last;) {
      auto body = stream->next(Deadline::in(20s));
      if (!body) return 2;
      std::memset(body->data(), 'c', 100);
      last = enough.wait(1);
      if (!stream->commit(100, last)) return 3;
      if (stream->progress().handed_over == 100) begun.raise();
    }
    return 0;
  });
  ASSERT_TRUE(begun.wait());
  EXPECT_THAT(rx->peek(Deadline::in(30ms)), FailsWith(Errc::timed_out));
  enough.raise();
  const auto message = rx->peek(Deadline::in(20s));
  ASSERT_THAT(message, Succeeds());
  EXPECT_GE(message->size(), 100u);
  EXPECT_TRUE(sender.wait().exited_with(0));
}

TEST_P(Messages, ADryPoolStreamsInsteadOfFailing) {
  if (!GetParam().pool) GTEST_SKIP() << "there is no pool";
  auto rx = open_receiver();
  auto tx = open_sender();
  ASSERT_THAT(rx, Succeeds());
  ASSERT_THAT(tx, Succeeds());
  auto pool = pool::BlockPool<>::attach(tx->ring().link().body().pool());
  ASSERT_THAT(pool, Succeeds());
  while (pool->claim(1)) {
  }
  ASSERT_THAT(send(*tx, 900, 1), Succeeds());    // still fits the ring
  ASSERT_THAT(send(*tx, 9'000, 2), Succeeds());  // goes in chunks
  expect_message(*rx, 900, 1);
  expect_message(*rx, 9'000, 2);
  EXPECT_THAT(tx->claim(9'000, Deadline::now()), FailsWith(Errc::full));
  EXPECT_EQ(look().senders.at(0).streams, 1u);
  EXPECT_EQ(look().senders.at(0).blocks, 0u);
  pool->detach();
  ASSERT_THAT(send(*tx, 9'000, 3), Succeeds());
  expect_message(*rx, 9'000, 3);
  EXPECT_EQ(look().senders.at(0).blocks, 1u);
  expect_nothing_left();
}

TEST_P(Messages, OnRequestTheReceiverReadsTheSendersMemory) {
  Child sender([&] {
    auto tx = open_sender();
    if (!tx) return 1;
    const auto bytes = pattern(300'000, 5);
    SendOptions how;
    how.type = 5;
    how.direct = true;
    for (int i = 0; i < 3; ++i) {
      if (!tx->send(bytes, how)) return 2;
    }
    return 0;
  });
  auto rx = open_receiver();
  ASSERT_THAT(rx, Succeeds());
  const bool may = GetParam().form != RingForm::total;
  for (int i = 0; i < 3; ++i) {
    auto message = rx->peek(Deadline::in(20s));
    ASSERT_THAT(message, Succeeds());
    EXPECT_EQ(message->tier(), may ? Tier::direct : Tier::stream);
    EXPECT_EQ(bytes_of(*message), pattern(300'000, 5));
  }
  EXPECT_TRUE(sender.wait().exited_with(0));
  EXPECT_EQ(look().senders.at(0).directs, may ? 3u : 0u);
}

using frame::Mode;
INSTANTIATE_TEST_SUITE_P(Forms, Messages,
                         testing::Values(Setting{RingForm::lane, false, Mode::assembled},
                                         Setting{RingForm::lane, true, Mode::pieces},
                                         Setting{RingForm::per_producer, false, Mode::pieces},
                                         Setting{RingForm::per_producer, true, Mode::assembled},
                                         Setting{RingForm::total, false, Mode::assembled},
                                         Setting{RingForm::total, true, Mode::pieces}),
                         [](const auto& setting) {
                           return std::string(to_string(setting.param.form)) +
                                  (setting.param.pool ? "_pool_" : "_") +
                                  (setting.param.mode == Mode::pieces ? "pieces" : "assembled");
                         });

// ------------------------------------------------------------------------------------ in parts

TEST(MessageParts, AStreamIsReadAsItComesAndItsEndOrDeathIsTold) {
  test::Watchdog watchdog(60);
  const std::string name = test::unique_name("parts");
  ShmOptions options;
  options.capacity = 16 << 10;
  MessageReceiver::Options in_parts;
  in_parts.mode = Mode::parts;
  auto rx = MessageReceiver::open_or_create(name, options, in_parts);
  ASSERT_THAT(rx, Succeeds());
  const auto bytes = pattern(100'000, 1);
  Child whole([&] {
    auto tx = MessageSender::open(name, options, {});
    return tx && tx->send(bytes) ? 0 : 1;
  });
  std::vector<std::byte> got;
  bool last = false;
  while (!last) {
    auto part = rx->peek(Deadline::in(20s));
    ASSERT_THAT(part, Succeeds());
    EXPECT_EQ(part->offset(), got.size());
    EXPECT_EQ(part->total(), bytes.size());
    const auto piece = bytes_of(*part);
    got.insert(got.end(), piece.begin(), piece.end());
    last = part->is_last();
  }
  EXPECT_EQ(got, bytes);
  EXPECT_TRUE(whole.wait().exited_with(0));
  EXPECT_THAT(rx->peek(Deadline::in(20s)), FailsWith(Errc::closed));

  for (const bool killed : {false, true}) {
    ProcessEvent begun;
    Child half([&] {
      auto tx = MessageSender::open(name, options, {});
      auto stream = tx->stream(1 << 20);
      auto body = stream->next();
      if (!body || !stream->commit(body->size())) return;
      begun.raise();
      if (killed) {
        for (;;) ::pause();
      }
    });
    ASSERT_TRUE(begun.wait());
    if (killed) half.kill();
    {
      auto part = rx->peek(Deadline::in(20s));
      ASSERT_THAT(part, Succeeds());
      EXPECT_FALSE(part->is_last());
    }
    EXPECT_THAT(rx->peek(Deadline::in(20s)), FailsWith(killed ? Errc::peer_dead : Errc::cancelled));
  }
}

// ------------------------------------------------------------------------------ whole segments

// Segments made in advance travel by id, through lanes like any value; none is made on the way.
TEST(SegmentIds, TravelThroughALaneAndComeBackForTheNextTurn) {
  test::Watchdog watchdog(60);
  const std::string there = test::unique_name("ids"), back = test::unique_name("ids");
  constexpr std::uint64_t kBytes = 1 << 20;
  constexpr std::uint64_t kTurns = 50;
  Child reader([&] {
    auto pool = pool::SegmentPool::make({});
    auto rx = Receiver<pool::SegmentId>::open_or_create(there);
    auto tx = Sender<pool::SegmentId>::open_or_create(back);
    if (!pool || !rx || !tx) return 1;
    for (std::uint64_t turn = 0; turn < kTurns; ++turn) {
      auto id = rx->peek();
      if (!id) return 2;
      const auto segment = pool->open(id->value());
      if (!segment) return 3;
      const auto expected = pattern(kBytes, turn);
      if (std::memcmp((*segment)->body().data(), expected.data(), kBytes) != 0) return 4;
      if (!tx->send(id->value())) return 5;
    }
    return pool->counters().opened <= 2 ? 0 : 6;
  });
  auto pool = pool::SegmentPool::make({});
  ASSERT_THAT(pool, Succeeds());
  ASSERT_THAT(pool->prepare(2, kBytes), Succeeds());
  auto tx = Sender<pool::SegmentId>::open_or_create(there);
  auto rx = Receiver<pool::SegmentId>::open_or_create(back);
  ASSERT_THAT(tx, Succeeds());
  ASSERT_THAT(rx, Succeeds());
  for (std::uint64_t turn = 0; turn < kTurns; ++turn) {
    auto segment = pool->take(kBytes);
    ASSERT_THAT(segment, Succeeds());
    const auto bytes = pattern(kBytes, turn);
    std::memcpy(segment->body().data(), bytes.data(), kBytes);
    const auto id = pool::id_of(*segment);
    ASSERT_THAT(id, Succeeds());
    ASSERT_THAT(tx->send(*id), Succeeds());
    auto answer = rx->peek(Deadline::in(20s));
    ASSERT_THAT(answer, Succeeds());
    EXPECT_EQ(answer->value(), *id);
    ASSERT_THAT(pool->give_back(std::move(*segment)), Succeeds());
  }
  EXPECT_EQ(pool->counters().made, 2u);
  EXPECT_TRUE(reader.wait().exited_with(0));
}

}  // namespace
}  // namespace slipring::channel

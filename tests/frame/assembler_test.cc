// SPDX-License-Identifier: Apache-2.0
#include "slipring/frame/assembler.h"

#include "frame_fixture.h"

namespace slipring::frame {
namespace {

using namespace test;
using Assembling = EachMode;
INSTANTIATE_TEST_SUITE_P(Modes, Assembling,
                         testing::Values(Mode::parts, Mode::assembled, Mode::pieces), mode_name);

TEST_P(Assembling, BringsEverySizeAroundItsChunksBackTogether) {
  Receiver receiver(GetParam());
  std::uint64_t id = 0;
  for (const bool check : {false, true}) {
    for (std::size_t size = 0; size <= 70; ++size) {
      SCOPED_TRACE(size);
      const Bytes message = body_of(size);
      receiver.take_all(chunks_of(message, {++id, size, 7, 3, check}));
      EXPECT_EQ(receiver.whole, message);
      receiver.take_all(chunks_of(message, {++id, kOpenEnded, 7, 3, check}));
      EXPECT_EQ(receiver.whole, message);
      receiver.expect_nothing_held();
    }
  }
  EXPECT_EQ(receiver.assembler.counters().completed, id);
}

TEST_P(Assembling, BringsLargeMessagesInUnevenChunksBackTogether) {
  Receiver receiver(GetParam());
  std::uint64_t id = 0;
  for (const std::uint32_t max_body : {100u, 4095u, 4096u, 4097u, 65536u, 1000000u}) {
    for (const bool open_ended : {false, true}) {
      const Bytes message = body_of(300001, id);
      receiver.take_all(
          chunks_of(message, {++id, open_ended ? kOpenEnded : message.size(), max_body, 0, true}));
      ASSERT_EQ(receiver.whole, message);
      receiver.expect_nothing_held();
    }
  }
}

TEST_P(Assembling, TellsTheMessagesNameAndHowFarItIs) {
  Receiver receiver(GetParam());
  const Records records = chunks_of(body_of(25), {42, 25, 10, 6});
  for (std::size_t i = 0; i < 3; ++i) {
    const auto step = receiver.take(records[i]);
    ASSERT_THAT(step, Succeeds());
    EXPECT_EQ(step->of.source, kSource);
    EXPECT_EQ(step->of.id, 42u);
    EXPECT_EQ(step->of.type, 6u);
    EXPECT_EQ(step->of.total, 25u);
    EXPECT_EQ(step->of.so_far, std::min<std::uint64_t>(25, 10 * (i + 1)));
    EXPECT_EQ(step->offset, 10 * i);
    OpenMessage open[2];
    EXPECT_EQ(receiver.assembler.list_open(open), i < 2 ? 1u : 0u);
    if (i < 2) {
      EXPECT_EQ(open[0].so_far, step->of.so_far);
    }
    if (i == 2 && GetParam() != Mode::parts) {
      EXPECT_EQ(step->message.source(), kSource);
      EXPECT_EQ(step->message.id(), 42u);
      EXPECT_EQ(step->message.type(), 6u);
      EXPECT_EQ(step->message.size(), 25u);
    }
  }
}

TEST_P(Assembling, KeepsInterleavedMessagesOfSeveralSourcesApart) {
  Receiver receiver(GetParam());
  constexpr std::size_t kSources = 5, kEach = 8, kSize = 1000;
  std::vector<Records> all;
  for (std::size_t s = 0; s < kSources; ++s) {
    for (std::size_t m = 0; m < kEach; ++m) {  // the same ids in each source
      all.push_back(chunks_of(body_of(kSize, s * kEach + m), {m + 1, kSize, 90}));
    }
  }
  for (std::size_t i = 0; i < all[0].size(); ++i) {
    for (std::size_t n = 0; n < all.size(); ++n) {
      ASSERT_THAT(receiver.take(all[n][i], n / kEach), Succeeds());
      if (i + 1 == all[0].size()) {
        ASSERT_EQ(receiver.whole, body_of(kSize, n)) << n;
      }
    }
    if (i == 0) {
      EXPECT_EQ(receiver.assembler.open_messages(), kSources * kEach);
    }
  }
  receiver.expect_nothing_held();
  EXPECT_EQ(receiver.assembler.counters().completed, kSources * kEach);
}

TEST_P(Assembling, ReportsProgressThatOnlyGrows) {
  Receiver receiver(GetParam());
  std::vector<std::uint64_t> seen;
  receiver.assembler.on_progress(
      [](void* context, const OpenMessage& message) noexcept {
        EXPECT_EQ(message.total, 100u);
        static_cast<std::vector<std::uint64_t>*>(context)->push_back(message.so_far);
      },
      &seen);
  receiver.take_all(chunks_of(body_of(100), {1, 100, 30}));
  EXPECT_EQ(seen, (std::vector<std::uint64_t>{30, 60, 90, 100}));
}

TEST_P(Assembling, DropsAMessageThatItsSenderAbortsAtEachChunk) {
  constexpr std::size_t kChunks = 6;
  Receiver receiver(GetParam());
  const Bytes message = body_of(600);
  std::uint64_t id = 0;
  for (const std::uint64_t total : {std::uint64_t{600}, kOpenEnded}) {
    for (std::uint32_t after = 0; after < kChunks; ++after) {
      SCOPED_TRACE(after);
      Records records = chunks_of(message, {++id, total, 100});
      Records other = chunks_of(message, {++id, total, 100});
      const Bytes rest = records[after];
      records.resize(after);
      receiver.take_all(records, kSource, false);
      ASSERT_THAT(receiver.take(other[0]), Succeeds());
      const auto step = receiver.take(abort_chunk(id - 1, after, 100u * after, total));
      ASSERT_THAT(step, Succeeds());
      EXPECT_EQ(step->what, Step::What::aborted);
      EXPECT_EQ(step->of.so_far, 100u * after);
      receiver.expect_swallowed(rest);
      other.erase(other.begin());
      receiver.take_all(other);
      receiver.expect_nothing_held();
    }
  }
  EXPECT_EQ(receiver.assembler.counters().aborted, 2 * kChunks);
  EXPECT_EQ(receiver.assembler.counters().completed, 2 * kChunks);
}

TEST_P(Assembling, SwallowsWhatIsLeftOfARefusedMessage) {
  Receiver receiver(GetParam());
  const Records records = chunks_of(body_of(50), {1, 50, 10});
  EXPECT_THAT(receiver.assembler.refuse(kSource, 1), FailsWith(Errc::not_found));
  ASSERT_THAT(receiver.take(records[0]), Succeeds());
  EXPECT_THAT(receiver.assembler.refuse(kSource, 2), FailsWith(Errc::not_found));
  EXPECT_THAT(receiver.assembler.refuse(kSource, 1), Succeeds());
  receiver.expect_nothing_held();
  for (std::size_t i = 1; i < records.size(); ++i) receiver.expect_swallowed(records[i]);
  receiver.expect_swallowed(abort_chunk(1, 5, 40, 50));
  EXPECT_THAT(receiver.assembler.refuse(kSource, 1), FailsWith(Errc::not_found));
  EXPECT_EQ(receiver.assembler.counters().refused, 1u);
  EXPECT_EQ(receiver.assembler.counters().swallowed, 5u);
}

TEST_P(Assembling, FreesWhatADeadSourceLeftAndLetsItsSuccessorBeginAnew) {
  Receiver receiver(GetParam());
  const Bytes message = body_of(50);
  for (std::uint64_t id = 1; id <= 3; ++id) {
    ASSERT_THAT(receiver.take(chunks_of(message, {id, 50, 10})[0], 1), Succeeds());
  }
  ASSERT_THAT(receiver.take(chunks_of(message, {1, 50, 10})[0], 2), Succeeds());
  EXPECT_EQ(receiver.assembler.drop(99), 0u);
  EXPECT_EQ(receiver.assembler.drop(1), 3u);
  EXPECT_EQ(receiver.assembler.open_messages(), 1u) << "the other source's";
  EXPECT_EQ(receiver.assembler.sources(), 1u);
  EXPECT_EQ(receiver.assembler.counters().orphaned, 3u);
  EXPECT_EQ(receiver.assembler.drop(2), 1u);
  receiver.expect_nothing_held();
  if (GetParam() != Mode::parts) {
    receiver.take_all(chunks_of(message, {1, 50, 10}), 1);
    EXPECT_EQ(receiver.whole, message);
  }
}

TEST(Parts, AreHandedOnInPlace) {
  Assembler assembler(Mode::parts);
  const Records records = chunks_of(body_of(30), {1, 30, 10});
  for (const Bytes& record : records) {
    const auto step = assembler.take(kSource, record);
    ASSERT_THAT(step, Succeeds());
    EXPECT_EQ(step->body.data(), record.data() + kChunkHeaderBytes);
    EXPECT_EQ(step->body.size(), 10u);
    EXPECT_EQ(step->message.size(), 0u);
    EXPECT_EQ(assembler.bytes_under_assembly(), 0u);
  }
}

TEST(Assembled, IsOneSpan) {
  Assembler assembler(Mode::assembled);
  const Bytes message = body_of(100000);
  for (const Bytes& record : chunks_of(message, {1, kOpenEnded, 999})) {
    auto step = assembler.take(kSource, record);
    ASSERT_THAT(step, Succeeds());
    if (step->what != Step::What::complete) continue;
    EXPECT_TRUE(step->message.is_contiguous());
    EXPECT_TRUE(std::ranges::equal(step->message.bytes(), message));
    Message moved = std::move(step->message);
    Message again;
    again = std::move(moved);
    EXPECT_TRUE(std::ranges::equal(again.bytes(), message)) << "it outlives its step";
    Bytes small(99999);
    EXPECT_THAT(again.copy_to(small), FailsWith(Errc::too_large));
    return;
  }
  FAIL() << "never complete";
}

// A body stays where it was first copied: no second copy when the message is whole.
TEST(Pieces, StayWhereTheyAre) {
  Assembler assembler(Mode::pieces);
  const Bytes message = body_of(100000);
  for (const Bytes& record : chunks_of(message, {1, 100000, 30000})) {
    auto step = assembler.take(kSource, record);
    ASSERT_THAT(step, Succeeds());
    if (step->what != Step::What::complete) continue;
    EXPECT_EQ(step->message.parts().size(), 4u);
    EXPECT_FALSE(step->message.is_contiguous());
    EXPECT_TRUE(step->message.bytes().empty());
    EXPECT_EQ(copy_of(step->message), message);
    return;
  }
  FAIL() << "never complete";
}

TEST(Pieces, ShareOneAllocationWhenChunksAreTiny) {
  Assembler assembler(Mode::pieces);
  const Bytes message = body_of(10000);
  for (const Bytes& record : chunks_of(message, {1, 10000, 1})) {
    auto step = assembler.take(kSource, record);
    ASSERT_THAT(step, Succeeds());
    ASSERT_LE(assembler.bytes_under_assembly(), 10000u);
    if (step->what == Step::What::complete) {
      EXPECT_EQ(step->message.parts().size(), 3u) << "of 4096 bytes";
      EXPECT_EQ(copy_of(step->message), message);
    }
  }
  EXPECT_EQ(assembler.counters().completed, 1u);
}

// Nothing an id can do brings the window down, however far it jumps.
TEST_P(Assembling, TakesIdsThatComeLateOrJump) {
  Receiver receiver(GetParam());
  const Bytes message = body_of(20);
  for (const std::uint64_t id : {5u, 3u, 4u, 1000u, 937u, 999u, 5000000u}) {
    receiver.take_all(chunks_of(message, {id, 20, 10}));
  }
  receiver.take_all(chunks_of(message, {UINT64_MAX, 20, 10}));
  receiver.take_all(chunks_of(message, {UINT64_MAX - 63, 20, 10}));
  EXPECT_EQ(receiver.assembler.counters().completed, 9u);
}

}  // namespace
}  // namespace slipring::frame

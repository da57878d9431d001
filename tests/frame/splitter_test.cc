// SPDX-License-Identifier: Apache-2.0
#include "slipring/frame/splitter.h"

#include "frame_fixture.h"

namespace slipring::frame {
namespace {

using namespace test;

TEST(Splitter, CutsEverySizeAroundItsChunks) {
  for (const bool check : {false, true}) {
    for (std::size_t size = 0; size <= 33; ++size) {
      SCOPED_TRACE(size);
      const Bytes message = body_of(size);
      const Records records = chunks_of(message, {9, size, 8, 5, check});
      EXPECT_EQ(records.size(), size == 0 ? 1 : (size + 7) / 8);
      Bytes joined;
      for (std::size_t i = 0; i < records.size(); ++i) {
        const auto chunk = decode_chunk(records[i]);
        ASSERT_THAT(chunk, Succeeds());
        const ChunkHeader& h = chunk->header;
        EXPECT_EQ(h.id, 9u);
        EXPECT_EQ(h.index, i);
        EXPECT_EQ(h.offset, joined.size());
        EXPECT_EQ(h.total, size);
        EXPECT_EQ(h.type, 5u);
        EXPECT_EQ(h.has(chunk_flag::first), i == 0);
        EXPECT_EQ(h.has(chunk_flag::last), i + 1 == records.size());
        EXPECT_EQ(h.check, check ? body_check(chunk->body) : 0);
        joined.insert(joined.end(), chunk->body.begin(), chunk->body.end());
      }
      EXPECT_EQ(joined, message);
    }
  }
}

TEST(Splitter, PutsTheBodyWhereTheCallerProducesIt) {
  Splitter splitter = splitter_of({1, 100, 64, 0, true});
  Bytes claim(200);
  ASSERT_EQ(splitter.room(), kChunkHeaderBytes + 64);
  const auto body = splitter.begin(claim);
  ASSERT_THAT(body, Succeeds());
  EXPECT_EQ(body->data(), claim.data() + kChunkHeaderBytes);
  EXPECT_EQ(body->size(), 64u);
  std::fill(body->begin(), body->end(), std::byte{3});
  EXPECT_EQ(splitter.end(50).value(), kChunkHeaderBytes + 50) << "less than was given";
  const auto chunk = decode_chunk(std::span(claim).first(kChunkHeaderBytes + 50));
  ASSERT_THAT(chunk, Succeeds());
  EXPECT_EQ(chunk->header.check, body_check(Bytes(50, std::byte{3})));
  EXPECT_EQ(splitter.progress().handed_over, 50u);
  EXPECT_EQ(splitter.room(), kChunkHeaderBytes + 50);
}

TEST(Splitter, MakesDoWithLessRoomThanItAskedFor) {
  const Bytes message = body_of(10);
  Splitter splitter = splitter_of({1, 10, 64});
  Bytes small(kChunkHeaderBytes + 3), joined;
  while (!splitter.done()) {
    const auto used = splitter.next_of(message, small);
    ASSERT_THAT(used, Succeeds());
    joined.insert(joined.end(), small.begin() + kChunkHeaderBytes,
                  small.begin() + static_cast<std::ptrdiff_t>(*used));
  }
  EXPECT_EQ(joined, message);
  Bytes none(kChunkHeaderBytes);
  Splitter other = splitter_of({1, 10, 64});
  EXPECT_THAT(other.begin(none), FailsWith(Errc::invalid_argument));
  Splitter empty = splitter_of({1, 0, 64});
  EXPECT_THAT(empty.next_of({}, none), Succeeds()) << "an empty message needs no more";
}

TEST(Splitter, ForgetsAChunkWhoseClaimWasGivenUp) {
  Splitter splitter = splitter_of({1, 10, 64});
  Bytes claim(100);
  ASSERT_THAT(splitter.begin(claim), Succeeds());
  ASSERT_THAT(splitter.begin(claim), Succeeds());
  ASSERT_THAT(splitter.end(10), Succeeds());
  EXPECT_EQ(decode(claim)->index, 0u);
  EXPECT_THAT(splitter.end(1), FailsWith(Errc::invalid_argument)) << "nothing was begun";
  EXPECT_THAT(splitter.begin(claim), FailsWith(Errc::closed));
}

TEST(Splitter, RefusesAnEndThatBreaksARule) {
  Bytes claim(100);
  Splitter splitter = splitter_of({1, 10, 8});
  ASSERT_THAT(splitter.begin(claim), Succeeds());
  EXPECT_THAT(splitter.end(9), FailsWith(Errc::invalid_argument)) << "more than was given";
  EXPECT_THAT(splitter.end(0), FailsWith(Errc::invalid_argument)) << "more must come";
  EXPECT_THAT(splitter.end(8, true), FailsWith(Errc::invalid_argument)) << "before the total";
  EXPECT_EQ(splitter.progress().handed_over, 0u);
  EXPECT_THAT(splitter.end(8), Succeeds()) << "it is still begun";
  EXPECT_THAT(splitter.finish(claim), FailsWith(Errc::invalid_argument)) << "before the total";
}

/// Gives `chunks` of input, then 0 bytes for ever.
struct Input {
  std::vector<std::size_t> reads;
  std::size_t at = 0;
  Result<std::size_t> operator()(std::span<std::byte> body) {
    if (at == reads.size()) return 0;
    const std::size_t n = std::min(body.size(), reads[at]);
    reads[at] -= n;
    if (reads[at] == 0) ++at;
    std::fill_n(body.begin(), n, std::byte{1});
    return n;
  }
};

TEST(Splitter, FillsAChunkByShortReadsAndEndsAnOpenMessageWithItsInput) {
  Bytes claim(1000);
  Splitter splitter = splitter_of({1, kOpenEnded, 100});
  Input input{{30, 30, 100, 5}};
  EXPECT_EQ(splitter.next(claim, input).value(), kChunkHeaderBytes + 100);
  EXPECT_EQ(splitter.next(claim, input).value(), kChunkHeaderBytes + 65);
  EXPECT_TRUE(decode(claim)->has(chunk_flag::last));
  EXPECT_TRUE(splitter.done());
  EXPECT_EQ(splitter.progress().handed_over, 165u);
}

TEST(Splitter, EndsAnOpenMessageWithAnEmptyChunkWhenTheInputEndsOnAnEdge) {
  Bytes claim(1000);
  for (const bool by_finish : {false, true}) {
    Splitter splitter = splitter_of({1, kOpenEnded, 100, 0, true});
    Input input{{100}};
    ASSERT_THAT(splitter.next(claim, input), Succeeds());
    EXPECT_FALSE(decode(claim)->has(chunk_flag::last));
    const auto end = by_finish ? splitter.finish(std::span(claim).first(kChunkHeaderBytes))
                               : splitter.next(claim, input);
    EXPECT_EQ(end.value(), kChunkHeaderBytes);
    EXPECT_EQ(decode(claim)->flags, chunk_flag::last | chunk_flag::has_check);
    EXPECT_EQ(decode(claim)->total, kOpenEnded);
    EXPECT_TRUE(splitter.done());
    EXPECT_THAT(splitter.finish(claim), FailsWith(Errc::closed));
  }
}

TEST(Splitter, HandsNothingOverWhenTheInputFailsOrEndsTooEarly) {
  Bytes claim(1000);
  Splitter splitter = splitter_of({1, 100, 60});
  EXPECT_THAT(splitter.next(claim,
                            [](std::span<std::byte>) -> Result<std::size_t> {
                              return fail(Errc::system, 5, "read");
                            }),
              FailsWith(Errc::system));
  EXPECT_THAT(splitter.end(1), FailsWith(Errc::invalid_argument));
  Input input{{70}};
  ASSERT_THAT(splitter.next(claim, input), Succeeds());
  EXPECT_THAT(splitter.next(claim, input), FailsWith(Errc::closed));
  EXPECT_THAT(splitter.next_of(body_of(99), claim), FailsWith(Errc::closed));
  EXPECT_EQ(splitter.progress().handed_over, 60u);
  EXPECT_EQ(splitter.abort(claim).value(), kChunkHeaderBytes);
}

TEST(Splitter, TellsOfAnAbortOnlyWhenSomethingWasHandedOver) {
  Bytes claim(1000);
  Splitter quiet = splitter_of({1, 100, 10});
  EXPECT_EQ(quiet.abort({}).value(), 0u);
  EXPECT_TRUE(quiet.done() && quiet.aborted());
  EXPECT_THAT(quiet.abort(claim), FailsWith(Errc::closed));

  for (std::uint32_t after = 1; after < 10; ++after) {
    Splitter splitter = splitter_of({1, 100, 10, 3, true});
    for (std::uint32_t i = 0; i < after; ++i) {
      ASSERT_THAT(splitter.next_of(body_of(100), claim), Succeeds());
    }
    EXPECT_THAT(splitter.abort({}), FailsWith(Errc::invalid_argument)) << "no room";
    EXPECT_FALSE(splitter.done());
    ASSERT_EQ(splitter.abort(claim).value(), kChunkHeaderBytes);
    const auto h = decode(claim);
    ASSERT_THAT(h, Succeeds());
    EXPECT_EQ(h->flags, chunk_flag::abort);
    EXPECT_EQ(h->index, after);
    EXPECT_EQ(h->offset, 10u * after);
    EXPECT_EQ(h->type, 3u);
    EXPECT_EQ(splitter.room(), 0u);
  }
}

TEST(Splitter, RefusesWhatItCannotNumber) {
  EXPECT_THAT(Splitter::make({0, 10, 10}), FailsWith(Errc::invalid_argument));
  EXPECT_THAT(Splitter::make({1, 10, 0}), FailsWith(Errc::invalid_argument));
  constexpr std::uint64_t kMost = UINT32_MAX;  // one index is left for an abort
  EXPECT_THAT(Splitter::make({1, kMost, 1}), Succeeds());
  EXPECT_THAT(Splitter::make({1, kMost + 1, 1}), FailsWith(Errc::too_large));
  EXPECT_THAT(Splitter::make({1, kOpenEnded - 1, UINT32_MAX}), FailsWith(Errc::too_large));
  EXPECT_THAT(Splitter::make({1, kOpenEnded, 1}), Succeeds());
}

}  // namespace
}  // namespace slipring::frame

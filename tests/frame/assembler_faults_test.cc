// SPDX-License-Identifier: Apache-2.0
#include "frame_fixture.h"
#include "slipring/frame/assembler.h"

// Bad chunks: each is one typed error and one count, its message is dropped, the others go on.
namespace slipring::frame {
namespace {

using namespace test;

constexpr std::size_t kSize = 50;

/// A message of five chunks, one byte-identical bystander of two, and what they meet.
class Faults : public EachMode {
 protected:
  Records chunks(std::uint64_t id = 1, bool check = false) {
    return chunks_of(body_of(kSize, id), {id, kSize, 10, 3, check});
  }
  /// `bad` of message 1 comes after `good` good chunks.
  void expect_drop(std::size_t good, const Bytes& bad, Fault fault) {
    Receiver receiver(GetParam());
    const Records mine = chunks(), other = chunks(2);
    receiver.take_all({mine.begin(), mine.begin() + static_cast<std::ptrdiff_t>(good)}, kSource,
                      false);
    ASSERT_THAT(receiver.take(other[0]), Succeeds());
    receiver.expect_fault(bad, fault);
    EXPECT_EQ(receiver.assembler.open_messages(), 1u) << "dropped";
    for (std::size_t i = good; i < mine.size(); ++i) receiver.expect_swallowed(mine[i]);
    receiver.expect_swallowed(bad);
    receiver.take_all({other.begin() + 1, other.end()});
    EXPECT_EQ(receiver.whole, body_of(kSize, 2));
    receiver.expect_nothing_held();
    EXPECT_EQ(receiver.assembler.counters().completed, 1u);
  }
  template <typename Change>
  Bytes edited(std::size_t chunk, Change&& change) {
    Bytes record = chunks()[chunk];
    edit(record, change);
    return record;
  }
};
INSTANTIATE_TEST_SUITE_P(Modes, Faults, testing::Values(Mode::parts, Mode::assembled, Mode::pieces),
                         mode_name);

TEST_P(Faults, AMissingChunkIsAGapWhereverItIs) {
  for (std::size_t missing = 0; missing + 1 < 5; ++missing) {
    SCOPED_TRACE(missing);
    expect_drop(missing, chunks()[missing + 1], Fault::gap);
  }
}

TEST_P(Faults, TwoSwappedChunksAreAGap) {
  for (std::size_t i = 0; i + 1 < 5; ++i) {
    SCOPED_TRACE(i);
    expect_drop(i, chunks()[i + 1], Fault::gap);
  }
}

TEST_P(Faults, ARepeatedChunkIsARepeat) {
  for (std::size_t good = 1; good < 5; ++good) {
    for (std::size_t again = 0; again < good; ++again) {
      SCOPED_TRACE(testing::Message() << again << " after " << good);
      expect_drop(good, chunks()[again], Fault::repeat);
    }
  }
}

TEST_P(Faults, AnOffsetThatSkipsBytesIsAGap) {
  expect_drop(2, edited(2, [](ChunkHeader& h) { h.offset = 21; }), Fault::gap);
}

TEST_P(Faults, AnOffsetInsideWhatCameIsAnOverlap) {
  expect_drop(2, edited(2, [](ChunkHeader& h) { h.offset = 19; }), Fault::overlap);
  expect_drop(2, edited(2, [](ChunkHeader& h) { h.index = 3, h.offset = 15; }), Fault::overlap);
  expect_drop(2, edited(2, [](ChunkHeader& h) { h.index = 1, h.offset = 11; }), Fault::overlap);
}

TEST_P(Faults, AnIndexThatContradictsItsOffsetIsOutOfOrder) {
  expect_drop(2, edited(2, [](ChunkHeader& h) { h.index = 3; }), Fault::out_of_order);
  expect_drop(2, edited(2, [](ChunkHeader& h) { h.index = 1; }), Fault::out_of_order);
  expect_drop(2, edited(2, [](ChunkHeader& h) { h.index = 1, h.offset = 30; }),
              Fault::out_of_order);
}

TEST_P(Faults, AChunkThatContradictsTheFirstIsABadHeader) {
  expect_drop(2, edited(2, [](ChunkHeader& h) { h.total = 51; }), Fault::bad_header);
  expect_drop(2, edited(2, [](ChunkHeader& h) { h.total = kOpenEnded; }), Fault::bad_header);
  expect_drop(2, edited(2, [](ChunkHeader& h) { h.type = 4; }), Fault::bad_header);
  expect_drop(2, chunks(1, true)[2], Fault::bad_header);
  expect_drop(2, abort_chunk(1, 2, 20, 51), Fault::bad_header);
}

TEST_P(Faults, AMisplacedAbortIsAFault) {
  Bytes early = abort_chunk(1, 3, 30, kSize);
  edit(early, [](ChunkHeader& h) { h.type = 3; });
  expect_drop(2, early, Fault::gap);
}

TEST_P(Faults, AChunkCutAnywhereCostsItsMessageAlone) {
  const Bytes record = chunks()[2];
  for (std::size_t size = 8; size < record.size(); ++size) {
    SCOPED_TRACE(size);
    expect_drop(2, {record.begin(), record.begin() + static_cast<std::ptrdiff_t>(size)},
                Fault::bad_header);
    if (HasFatalFailure()) return;
  }
  Bytes longer = record;
  longer.push_back({});
  expect_drop(2, longer, Fault::bad_header);
}

// Less than an id names nobody: the loss shows as a gap.
TEST_P(Faults, AChunkTooShortToNameItsMessageShowsAsAGapLater) {
  for (std::size_t size = 0; size < 8; ++size) {
    Receiver receiver(GetParam());
    const Records mine = chunks();
    ASSERT_THAT(receiver.take(mine[0]), Succeeds());
    receiver.expect_fault({mine[1].begin(), mine[1].begin() + static_cast<std::ptrdiff_t>(size)},
                          Fault::bad_header);
    EXPECT_EQ(receiver.assembler.open_messages(), 1u);
    receiver.expect_fault(mine[2], Fault::gap);
    receiver.expect_nothing_held();
  }
}

TEST_P(Faults, AFirstChunkWithABadHeaderCostsOneErrorOnly) {
  Receiver receiver(GetParam());
  receiver.take_all(chunks(1));
  Records mine = chunks(2);
  edit(mine[0], [](ChunkHeader& h) { h.flags |= 0x8000; });
  receiver.expect_fault(mine[0], Fault::bad_header);
  for (const Bytes& record : mine) receiver.expect_swallowed(record);
  receiver.take_all(chunks(3));
  // Also when it is the first that is heard of its source.
  Records theirs = chunks(1);
  theirs[0].pop_back();
  receiver.expect_fault(theirs[0], Fault::bad_header, 8);
  for (const Bytes& record : theirs) receiver.expect_swallowed(record, 8);
  receiver.take_all(chunks(2), 8);
}

// A flipped bit in an id may not make the ids to come look old.
TEST_P(Faults, AGarbledIdDoesNotCloseTheDoorForLaterMessages) {
  Receiver receiver(GetParam());
  receiver.take_all(chunks(1));
  Records mine = chunks(2);
  edit(mine[0], [](ChunkHeader& h) { h.id = std::uint64_t{1} << 60, h.flags |= 0x8000; });
  edit(mine[1], [](ChunkHeader& h) { h.id = std::uint64_t{1} << 60; });
  receiver.expect_fault(mine[0], Fault::bad_header);
  receiver.expect_fault(mine[1], Fault::gap);
  receiver.take_all(chunks(3));
}

TEST_P(Faults, AWrongCheckIsFoundInEachChunk) {
  for (std::size_t bad = 0; bad < 5; ++bad) {
    for (const std::size_t byte : {0u, 9u}) {
      SCOPED_TRACE(bad);
      Receiver receiver(GetParam());
      Records mine = chunks(1, true);
      mine[bad][kChunkHeaderBytes + byte] ^= std::byte{0x10};
      receiver.take_all({mine.begin(), mine.begin() + static_cast<std::ptrdiff_t>(bad)}, kSource,
                        false);
      receiver.expect_fault(mine[bad], Fault::bad_check);
      receiver.expect_nothing_held();
      for (std::size_t i = bad + 1; i < mine.size(); ++i) receiver.expect_swallowed(mine[i]);
    }
  }
}

// In Mode::pieces this chunk lies in two allocations.
TEST_P(Faults, AWrongCheckIsFoundAcrossAnEdge) {
  for (const std::size_t byte : {0u, 95u, 96u, 199u}) {
    Receiver receiver(GetParam());
    Records mine = chunks_of(body_of(8200), {1, 8200, 200, 0, true});
    Receiver sane(GetParam());
    sane.take_all(mine);
    mine[20][kChunkHeaderBytes + byte] ^= std::byte{1};  // bytes 4000 to 4200
    receiver.take_all({mine.begin(), mine.begin() + 20}, kSource, false);
    receiver.expect_fault(mine[20], Fault::bad_check);
  }
}

TEST_P(Faults, AnIdIsNotTakenTwice) {
  Receiver receiver(GetParam());
  receiver.take_all(chunks(1));
  receiver.expect_fault(chunks(1)[0], Fault::repeat);
  for (const Bytes& record : chunks(1)) receiver.expect_swallowed(record);
  // Nor when it is long past; the rest of such a message is nobody's news.
  for (std::uint64_t id = 2; id <= 70; ++id) receiver.take_all(chunks(id));
  receiver.expect_fault(chunks(2)[0], Fault::repeat);
  receiver.expect_swallowed(chunks(2)[1]);
  receiver.expect_fault(chunks(70)[4], Fault::repeat);
  receiver.expect_nothing_held();
  // Another source has ids of its own.
  receiver.take_all(chunks(1), 8);
}

// Of an id that is 64 behind nobody knows whether it was used.
TEST_P(Faults, AnIdBeyondTheWindowIsNotBegunAnyMore) {
  Receiver receiver(GetParam());
  receiver.take_all(chunks(1000));
  receiver.expect_fault(chunks(936)[0], Fault::repeat);
  receiver.expect_swallowed(chunks(936)[1]);
  receiver.take_all(chunks(937));
  receiver.take_all(chunks(1064));  // past it as far as the window reaches
  receiver.expect_fault(chunks(1000)[0], Fault::repeat);
  receiver.expect_fault(chunks(1064)[0], Fault::repeat);
}

TEST_P(Faults, AMessageJoinedInTheMiddleIsOneGap) {
  Receiver receiver(GetParam());
  const Records mine = chunks(1000000);
  receiver.expect_fault(mine[2], Fault::gap);
  receiver.expect_swallowed(mine[3]);
  receiver.expect_swallowed(mine[4]);
  receiver.take_all(chunks(1000001));
}

// A message that stays open while 64 others pass still ends, and its own past is then forgotten.
TEST_P(Faults, ALongMessageOutlivesTheMemoryOfIds) {
  Receiver receiver(GetParam());
  const Records slow = chunks(1), lost = chunks(2);
  ASSERT_THAT(receiver.take(slow[0]), Succeeds());
  ASSERT_THAT(receiver.take(lost[0]), Succeeds());
  for (std::uint64_t id = 3; id <= 100; ++id) receiver.take_all(chunks(id));
  receiver.take_all({slow.begin() + 1, slow.end()});
  EXPECT_EQ(receiver.whole, body_of(kSize, 1));
  receiver.expect_fault(lost[3], Fault::gap);
  receiver.expect_swallowed(lost[4]);
  receiver.expect_fault(slow[0], Fault::repeat);
}

TEST(FaultNames, AreThoseOfTheDocument) {
  EXPECT_EQ(to_string(Fault::gap), "gap");
  EXPECT_EQ(to_string(Fault::bad_header), "bad_header");
  EXPECT_EQ(errc_of(Fault::overlap), Errc::corrupt);
  EXPECT_EQ(errc_of(Fault::oversized), Errc::too_large);
  EXPECT_EQ(errc_of(Fault::too_many_open), Errc::no_space);
  EXPECT_EQ(errc_of(Fault::over_budget), Errc::no_space);
  EXPECT_EQ(errc_of(Fault::no_memory), Errc::no_space);
  EXPECT_EQ(errc_of(Fault::bad_check), Errc::corrupt);
}

}  // namespace
}  // namespace slipring::frame

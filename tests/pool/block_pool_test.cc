// SPDX-License-Identifier: Apache-2.0
#include "pool_fixture.h"

#include <set>

#include "slipring/base/align.h"

namespace slipring::pool {
namespace {

TEST(PoolFormat, LaysBlocksOutAlignedAndApartFromEachOther) {
  TestPool memory;
  auto pool = memory.join();
  std::set<std::pair<std::uintptr_t, std::uintptr_t>> taken;
  for (const Block& block : claim_all(pool)) {
    const auto first = reinterpret_cast<std::uintptr_t>(block.bytes.data());
    EXPECT_TRUE(is_aligned(first, block.bytes.size() >= 4096 ? 4096 : 64));
    EXPECT_EQ(block.bytes.size(), block_bytes(block.ref.size_class));
    EXPECT_GE(first, reinterpret_cast<std::uintptr_t>(memory.bytes().data()) +
                         memory.geometry().data_offset);
    EXPECT_LE(first + block.bytes.size(),
              reinterpret_cast<std::uintptr_t>(memory.bytes().data() + memory.bytes().size()));
    taken.emplace(first, first + block.bytes.size());
  }
  EXPECT_EQ(taken.size(), 16u);
  std::uintptr_t end = 0;
  for (const auto& [from, to] : taken) {
    EXPECT_GE(from, end) << "two blocks overlap";
    end = to;
  }
}

TEST(PoolFormat, HasAClassForEverySizeUpToTheLargest) {
  EXPECT_EQ(class_for(0), 0u);
  EXPECT_EQ(class_for(256), 0u);
  EXPECT_EQ(class_for(257), 1u);
  EXPECT_EQ(class_for(kMaxBlockBytes), kClassCount - 1);
  EXPECT_GE(class_for(kMaxBlockBytes + 1), kClassCount);
  for (std::uint32_t c = 0; c < kClassCount; ++c) EXPECT_EQ(class_for(block_bytes(c)), c);
}

TEST(PoolFormat, RefusesASpecThatCannotBe) {
  PoolSpec none;
  EXPECT_THAT(lay_out(none), FailsWith(Errc::invalid_argument));
  PoolSpec crowd = TestPool::small_spec();
  crowd.participants = kMaxParticipants + 1;
  EXPECT_THAT(lay_out(crowd), FailsWith(Errc::invalid_argument));
  crowd.participants = 0;
  EXPECT_THAT(lay_out(crowd), FailsWith(Errc::invalid_argument));
  PoolSpec many = TestPool::small_spec().with(256, kMaxBlocksPerClass + 1);
  EXPECT_THAT(lay_out(many), FailsWith(Errc::invalid_argument));
  test::SharedArea area(4096);
  EXPECT_THAT(format_pool({area.data(), area.size()}, TestPool::small_spec()),
              FailsWith(Errc::too_large));
}

TEST(PoolFormat, RefusesWhatIsNotAPoolOrContradictsItself) {
  TestPool memory;
  const auto spoil = [&](SharedWord<std::uint64_t>& word, std::uint64_t lie) {
    const std::uint64_t before = Native::load_relaxed(word);
    if (before == lie) return;
    Native::store_relaxed(word, lie);
    EXPECT_THAT(BlockPool<>::attach(memory.bytes()), FailsWith(Errc::bad_format));
    EXPECT_THAT(pool::audit<>(memory.bytes()), FailsWith(Errc::bad_format));
    Native::store_relaxed(word, before);
  };
  PoolHeader& header = memory.header();
  spoil(header.magic, 0);
  for (const std::uint64_t lie : {std::uint64_t{0}, ~std::uint64_t{0}, std::uint64_t{2}}) {
    spoil(header.shape, lie);
    spoil(header.total_bytes, lie);
    spoil(header.entries_offset, lie);
    spoil(header.data_offset, lie);
    spoil(header.checksum, lie);
    spoil(header.pool_id, lie);
    spoil(header.counts[0], lie);
    spoil(header.counts[kClassCount - 1], lie);
  }
  EXPECT_THAT(load_geometry<>(memory.bytes().first(4096)), FailsWith(Errc::bad_format));
  EXPECT_THAT(BlockPool<>::attach(memory.bytes()), Succeeds());
}

TEST(BlockPool, TakesABlockThroughClaimedLentHeldAndFree) {
  TestPool memory;
  auto sender = memory.join();
  auto receiver = memory.join();
  const auto block = sender.claim(100);
  ASSERT_THAT(block, Succeeds());
  const std::uint64_t generation = block->ref.generation;
  EXPECT_EQ(memory.word(block->ref),
            (BlockWord{BlockState::claimed, sender.id(), ParticipantId::nobody, generation}));
  std::memset(block->bytes.data(), 0x77, 100);
  const auto ref = sender.lend(*block, 60, 40);
  ASSERT_THAT(ref, Succeeds());
  EXPECT_EQ(memory.word(*ref),
            (BlockWord{BlockState::lent, sender.id(), ParticipantId::nobody, generation}));
  const auto view = receiver.hold(*ref);
  ASSERT_THAT(view, Succeeds());
  EXPECT_EQ(memory.word(*ref),
            (BlockWord{BlockState::held, sender.id(), receiver.id(), generation}));
  EXPECT_EQ(view->bytes.data(), block->bytes.data() + 40) << "read in place";
  EXPECT_EQ(view->bytes.size(), 60u);
  ASSERT_THAT(receiver.release(*view), Succeeds());
  EXPECT_EQ(memory.word(*ref), (BlockWord{BlockState::free, ParticipantId::nobody,
                                          ParticipantId::nobody, generation + 1}));
  memory.expect_all_free();
}

TEST(BlockPool, GivesTheSmallestClassThatFitsAndALargerOneWhenThatIsDry) {
  TestPool memory;
  auto pool = memory.join();
  EXPECT_EQ(pool.claim(300)->bytes.size(), 1024u) << "no class of 512 here";
  for (int i = 0; i < 3; ++i) EXPECT_EQ(pool.claim(1024)->bytes.size(), 1024u);
  EXPECT_EQ(pool.claim(1024)->bytes.size(), 8192u);
  EXPECT_EQ(pool.claim(0)->bytes.size(), 256u) << "smaller classes are not touched";
}

TEST(BlockPool, IsFullWhenDryAndFillsAgain) {
  TestPool memory;
  auto pool = memory.join();
  for (int round = 0; round < 5; ++round) {
    const auto blocks = claim_all(pool);
    EXPECT_EQ(blocks.size(), 16u) << round;
    EXPECT_THAT(pool.claim(1), FailsWith(Errc::full));
    EXPECT_TRUE(memory.audit().is_whole());
    EXPECT_EQ(memory.audit().total.claimed, 16u);
    for (const Block& block : blocks) ASSERT_THAT(pool.reclaim(block.ref), Succeeds());
  }
  EXPECT_EQ(memory.audit().exhausted, 10u);
  memory.expect_all_free();
}

TEST(BlockPool, SaysTooLargeWhenNoClassCouldEverFit) {
  TestPool memory;
  auto pool = memory.join();
  EXPECT_THAT(pool.claim(8193), FailsWith(Errc::too_large));
  EXPECT_THAT(pool.claim(std::size_t{1} << 40), FailsWith(Errc::too_large));
  EXPECT_THAT(pool.claim(8192), Succeeds());
}

TEST(BlockPool, GivesTheBlockReturnedLastFirst) {
  for (const std::uint32_t cached : {0u, 1u, 16u}) {
    SCOPED_TRACE(cached);
    TestPool memory;
    auto pool = memory.join(cached);
    std::vector<Block> blocks;
    for (int i = 0; i < 5; ++i) blocks.push_back(*pool.claim(10));
    for (const Block& block : blocks) ASSERT_THAT(pool.reclaim(block.ref), Succeeds());
    // With a cache of one: the first one returned lies in it, the others on the list.
    const auto first = pool.claim(10);
    EXPECT_EQ(first->ref.index, blocks[cached == 1 ? 0 : 4].ref.index);
  }
}

// Between processes as well: what the reader gave back is what the sender fills next.
TEST(BlockPool, GivesASenderWhatItsReaderReturnedLast) {
  TestPool memory;
  auto sender = memory.join();
  auto receiver = memory.join();
  std::optional<std::uint32_t> last;
  for (int i = 0; i < 100; ++i) {
    const BlockRef ref = lend_one(sender);
    if (last) {
      EXPECT_EQ(ref.index, *last);
    }
    last = ref.index;
    ASSERT_THAT(receiver.release(*receiver.hold(ref)), Succeeds());
  }
}

TEST(BlockPool, FindsBlocksInTheCacheOfAnotherParticipantRatherThanBeFull) {
  TestPool memory;
  auto first = memory.join(16);
  for (const Block& block : claim_all(first)) ASSERT_THAT(first.reclaim(block.ref), Succeeds());
  auto second = memory.join();
  EXPECT_EQ(claim_all(second).size(), 16u);
  EXPECT_THAT(first.claim(1), FailsWith(Errc::full)) << "cached ids are hints";
  EXPECT_TRUE(memory.audit().is_whole());
}

TEST(BlockPool, GivesCachedIdsBackToTheListWhenItDetaches) {
  TestPool memory;
  {
    auto pool = memory.join(16);
    for (const Block& block : claim_all(pool)) ASSERT_THAT(pool.reclaim(block.ref), Succeeds());
  }
  auto pool = memory.join();
  const std::uint64_t scans = memory.audit().scans;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(pool.claim(1)->bytes.size(), 256u);
  EXPECT_EQ(memory.audit().scans, scans) << "the list knew them all";
}

// lend() does not look whether its addressee is there: that one may leave between look and swap.
TEST(BlockPool, ABlockLentToOneWhoLeftIsLentAndNothingOdd) {
  TestPool memory;
  auto sender = memory.join();
  auto reader = memory.join();
  const ParticipantId id = reader.id();
  reader.detach();
  const BlockRef ref = lend_one(sender, 100, id);
  const PoolAudit found = memory.audit();
  EXPECT_TRUE(found.is_whole()) << found.total.odd << " odd";
  EXPECT_EQ(found.total.lent, 1u);
  auto stranger = memory.join();
  ASSERT_EQ(stranger.id(), id) << "a successor in that entry";
  EXPECT_THAT(sender.hold(ref), FailsWith(Errc::permission));
  EXPECT_THAT(stranger.hold(ref), Succeeds());
  stranger.detach();  // lends it again, to anybody
  EXPECT_THAT(sender.reclaim(ref), Succeeds());
  sender.detach();
  memory.expect_all_free();
}

TEST(BlockPool, CountsClaimsAndReturnsOverAllParticipants) {
  TestPool memory;
  for (int i = 0; i < 3; ++i) {
    auto pool = memory.join();
    ASSERT_THAT(pool.reclaim(pool.claim(1)->ref), Succeeds());
  }
  EXPECT_EQ(memory.audit().claims, 3u);
  EXPECT_EQ(memory.audit().returns, 3u);
  EXPECT_EQ(memory.audit().participants, 0u);
}

// ------------------------------------------------------------------------------------- refusals

class Refusals : public testing::Test {
 protected:
  /// The offender is counted, and not a word of the table has changed.
  template <typename Operation>
  void expect_refused(Operation operation, Errc code, bool reference) {
    std::vector<std::uint64_t> before = words();
    const PoolAudit counts = memory_.audit();
    EXPECT_THAT(operation(), FailsWith(code));
    EXPECT_EQ(words(), before);
    const PoolAudit now = memory_.audit();
    EXPECT_EQ(now.refused_references, counts.refused_references + (reference ? 1 : 0));
    EXPECT_EQ(now.refused_returns, counts.refused_returns + (reference ? 0 : 1));
  }
  void expect_bad_reference(const BlockRef& ref, Errc code = Errc::corrupt) {
    expect_refused([&] { return receiver_.hold(ref); }, code, true);
  }
  template <typename Operation>
  void expect_bad_return(Operation operation) {
    expect_refused(operation, Errc::invalid_argument, false);
  }
  [[nodiscard]] std::vector<std::uint64_t> words() const {
    std::vector<std::uint64_t> all;
    for (std::uint32_t c = 0; c < kClassCount; ++c) {
      for (std::uint32_t i = 0; i < memory_.geometry().classes[c].count; ++i) {
        all.push_back(Native::load_relaxed(memory_.entry(c, i).word));
      }
    }
    return all;
  }

  TestPool memory_;
  BlockPool<> sender_ = memory_.join();
  BlockPool<> receiver_ = memory_.join();
  BlockPool<> stranger_ = memory_.join();
};

TEST_F(Refusals, ReferencesThatNameNoBlock) {
  const BlockRef good = lend_one(sender_);
  for (const std::uint32_t index : {10u, 11u, 0x7fffffffu, 0xffffffffu}) {
    BlockRef bad = good;
    bad.index = index;
    expect_bad_reference(bad);
  }
  for (const int size_class : {1, 3, 12, 13, 255}) {
    BlockRef bad = good;
    bad.size_class = static_cast<std::uint8_t>(size_class);  // no such class here, or none at all
    expect_bad_reference(bad);
  }
  BlockRef other_class = good;
  other_class.size_class = 2;
  expect_bad_reference(other_class);
  BlockRef other_pool = good;
  ++other_pool.pool_tag;
  expect_bad_reference(other_pool);
  BlockRef unknown = good;
  unknown.reserved = 1;
  expect_bad_reference(unknown);
  expect_bad_reference(BlockRef{});
  EXPECT_THAT(receiver_.hold(good), Succeeds()) << "the good one is still good";
}

TEST_F(Refusals, ReferencesThatRunOutOfTheirBlock) {
  const BlockRef good = lend_one(sender_);
  const std::pair<std::uint32_t, std::uint32_t> extents[] = {
      {0, 257}, {257, 0}, {1, 256}, {256, 1}, {0xffffffff, 2}, {2, 0xffffffff}};
  for (const auto& [offset, length] : extents) {
    BlockRef bad = good;
    bad.offset = offset;
    bad.length = length;
    expect_bad_reference(bad);
  }
  BlockRef empty = good;
  empty.offset = 256;
  empty.length = 0;
  EXPECT_THAT(receiver_.hold(empty), Succeeds());
}

TEST_F(Refusals, ReferencesOfAnotherGeneration) {
  BlockRef old = lend_one(sender_);
  ASSERT_THAT(receiver_.release(*receiver_.hold(old)), Succeeds());
  expect_bad_reference(old);  // free
  const BlockRef now = lend_one(sender_);
  ASSERT_EQ(now.index, old.index);
  expect_bad_reference(old);  // lent again, to others
  BlockRef future = now;
  future.generation += 1;
  expect_bad_reference(future);
  future.generation = now.generation + (std::uint64_t{1} << 37);
  expect_bad_reference(future);
  EXPECT_THAT(receiver_.hold(now), Succeeds());
}

TEST_F(Refusals, ReferencesToBlocksThatAreNotLent) {
  const auto block = sender_.claim(100);
  expect_bad_reference(block->ref);
}

TEST_F(Refusals, ReferencesToBlocksThatSomebodyHolds) {
  const BlockRef ref = lend_one(sender_);
  ASSERT_THAT(stranger_.hold(ref), Succeeds());
  expect_bad_reference(ref, Errc::in_use);
}

TEST_F(Refusals, ReferencesThatWereReceivedTwice) {
  const BlockRef ref = lend_one(sender_);
  ASSERT_THAT(receiver_.hold(ref), Succeeds());
  expect_bad_reference(ref, Errc::in_use);
}

TEST_F(Refusals, ReferencesLentToSomebodyElse) {
  const BlockRef ref = lend_one(sender_, 100, stranger_.id());
  expect_bad_reference(ref, Errc::permission);
  EXPECT_THAT(stranger_.hold(ref), Succeeds());
}

TEST_F(Refusals, LendingWhatIsNotClaimedByUs) {
  const auto block = sender_.claim(100);
  expect_bad_return([&] { return stranger_.lend(*block, 100); });
  expect_bad_return([&] { return sender_.lend(*block, 257); });
  expect_bad_return([&] { return sender_.lend(*block, 1, 256); });
  expect_bad_return([&] { return sender_.lend(*block, 1, ~std::size_t{0}); });
  expect_bad_return([&] { return sender_.lend(*block, 1, 0, static_cast<ParticipantId>(9)); });
  ASSERT_THAT(sender_.lend(*block, 100), Succeeds());
  expect_bad_return([&] { return sender_.lend(*block, 100); });
  Block nowhere = *block;
  nowhere.ref.index = 10;
  expect_bad_return([&] { return sender_.lend(nowhere, 100); });
}

TEST_F(Refusals, ReleasingTwice) {
  const BlockRef ref = lend_one(sender_);
  const auto view = receiver_.hold(ref);
  ASSERT_THAT(receiver_.release(*view), Succeeds());
  expect_bad_return([&] { return receiver_.release(*view); });
  const BlockRef next = lend_one(sender_);
  ASSERT_EQ(next.index, ref.index);
  ASSERT_THAT(receiver_.hold(next), Succeeds());
  expect_bad_return([&] { return receiver_.release(*view); });
}

TEST_F(Refusals, ReleasingWhatAnotherHolds) {
  const BlockRef ref = lend_one(sender_);
  const auto view = receiver_.hold(ref);
  expect_bad_return([&] { return stranger_.release(*view); });
  expect_bad_return([&] { return sender_.release(*view); });
  expect_bad_return([&] { return receiver_.release({{}, BlockRef{}}); });
  EXPECT_THAT(receiver_.release(*view), Succeeds());
}

TEST_F(Refusals, ReclaimingWhatIsNotOurs) {
  const auto block = sender_.claim(100);
  expect_bad_return([&] { return stranger_.reclaim(block->ref); });
  const BlockRef ref = *sender_.lend(*block, 100);
  expect_bad_return([&] { return stranger_.reclaim(ref); });
  ASSERT_THAT(receiver_.hold(ref), Succeeds());
  expect_bad_return([&] { return sender_.reclaim(ref); });  // it is being read
}

TEST_F(Refusals, ReclaimingTwice) {
  const auto block = sender_.claim(100);
  ASSERT_THAT(sender_.reclaim(block->ref), Succeeds());
  expect_bad_return([&] { return sender_.reclaim(block->ref); });
  expect_bad_return([&] { return sender_.reclaim(BlockRef{}); });
}

TEST_F(Refusals, NothingOfAllThatLeaks) {
  const BlockRef committed = lend_one(sender_);
  const BlockRef withdrawn = lend_one(sender_);
  ASSERT_THAT(sender_.reclaim(withdrawn), Succeeds()) << "lent, but its lane was full";
  expect_bad_reference(withdrawn);
  ASSERT_THAT(receiver_.release(*receiver_.hold(committed)), Succeeds());
  memory_.expect_all_free();
}

TEST(BlockPoolHandle, IsOfNoUseOnceItDetachedOrMoved) {
  TestPool memory;
  auto pool = memory.join();
  const auto block = pool.claim(1);
  auto moved = std::move(pool);
  EXPECT_THAT(pool.claim(1), FailsWith(Errc::closed));  // NOLINT: what a moved-from handle says
  EXPECT_THAT(moved.lend(*block, 1), Succeeds());
  moved.detach();
  EXPECT_THAT(moved.claim(1), FailsWith(Errc::closed));
  EXPECT_THAT(moved.hold(block->ref), FailsWith(Errc::closed));
  EXPECT_THAT(moved.release({{}, block->ref}), FailsWith(Errc::closed));
  EXPECT_THAT(moved.reclaim(block->ref), FailsWith(Errc::closed));
  EXPECT_THAT(moved.lend(*block, 1), FailsWith(Errc::closed));
  EXPECT_THAT(moved.reap(ParticipantId{1}), FailsWith(Errc::closed));
  moved.detach();
}

TEST(BlockPoolHandle, IsRefusedWhenTheLivingHoldAllEntries) {
  TestPool memory;
  std::vector<BlockPool<>> all;
  for (int i = 0; i < 8; ++i) all.push_back(memory.join());
  EXPECT_THAT(BlockPool<>::attach(memory.bytes()), FailsWith(Errc::full));
  EXPECT_EQ(memory.audit().participants, 8u);
  all.pop_back();
  EXPECT_THAT(BlockPool<>::attach(memory.bytes()), Succeeds());
}

TEST(BlockPoolHandle, LeavesNothingButWhatItLent) {
  TestPool memory;
  auto sender = memory.join();
  auto receiver = memory.join();
  const BlockRef travelling = lend_one(sender);
  const BlockRef being_read = lend_one(sender);
  const auto view = receiver.hold(being_read);
  (void)sender.claim(1);  // forgotten
  sender.detach();
  PoolAudit found = memory.audit();
  EXPECT_TRUE(found.is_whole());
  EXPECT_EQ(found.total.claimed, 0u);
  EXPECT_EQ(found.total.orphans, 1u);
  EXPECT_THAT(receiver.release(*view), Succeeds()) << "its owner left meanwhile";
  EXPECT_THAT(receiver.release(*receiver.hold(travelling)), Succeeds());
  memory.expect_all_free();
}

TEST(BlockPoolHandle, LendsAgainWhatItHeldWhenItLeaves) {
  TestPool memory;
  auto sender = memory.join();
  auto first = memory.join();
  auto second = memory.join();
  const BlockRef ref = lend_one(sender);
  ASSERT_THAT(first.hold(ref), Succeeds());
  const BlockRef addressed = lend_one(sender, 1, first.id());
  first.detach();
  EXPECT_THAT(second.hold(ref), Succeeds());
  EXPECT_THAT(second.hold(addressed), Succeeds());
}

TEST(BlockPoolHandle, DoesNotLeaveInTheNameOfItsParent) {
  TestPool memory;
  auto pool = memory.join();
  const auto block = pool.claim(1);
  Child child([&] { pool.detach(); });
  EXPECT_TRUE(child.wait().exited_with(0));
  EXPECT_EQ(memory.word(block->ref).state, BlockState::claimed);
  EXPECT_THAT(pool.lend(*block, 1), Succeeds());
}

}  // namespace
}  // namespace slipring::pool

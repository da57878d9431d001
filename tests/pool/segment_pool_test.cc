// SPDX-License-Identifier: Apache-2.0
#include "slipring/pool/segment_pool.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstring>
#include <filesystem>
#include <optional>
#include <vector>

#include "slipring/ring/lane.h"
#include "support/child.h"
#include "support/matchers.h"
#include "support/names.h"
#include "support/shared_area.h"
#include "support/test_lane.h"
#include "support/watchdog.h"

namespace slipring::pool {
namespace {

using segment::Backend;
using segment::Segment;
using test::Child;
using test::FailsWith;
using test::Succeeds;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

/// Every name lies in directories of its own, so that none can be left behind unseen.
class SegmentPools : public testing::TestWithParam<Backend> {
 protected:
  SegmentPools() {
    places_.shm = (dir_.path() / "shm").string();
    places_.files = (dir_.path() / "files").string();
    std::filesystem::create_directory(places_.shm);
    std::filesystem::create_directory(places_.files);
    std::filesystem::permissions(places_.files, std::filesystem::perms::owner_all);
  }
  [[nodiscard]] SegmentPool::Options options() const {
    SegmentPool::Options o;
    o.backend = GetParam();
    o.prefix = "t";
    o.places = places_;
    return o;
  }
  [[nodiscard]] SegmentPool make() const { return *SegmentPool::make(options()); }
  /// Segments that can be opened by name here. A removed SysV segment is listed while somebody
  /// has it attached, but no name leads to it.
  [[nodiscard]] std::size_t names() const {
    const auto rows = segment::list_segments(places_);
    EXPECT_THAT(rows, Succeeds());
    std::size_t count = 0;
    for (const segment::Listing& row : *rows) {
      const auto name = segment::Name::parse(row.name);
      count += name && Segment::open(*name, segment::OpenMode::read_only, {}, places_);
    }
    return count;
  }
  test::TempDir dir_;
  segment::Places places_;
};

TEST_P(SegmentPools, RoundsSizesToPowersOfTwoOfPages) {
  EXPECT_EQ(SegmentPool::size_class(0), 4096u);
  EXPECT_EQ(SegmentPool::size_class(4096), 4096u);
  EXPECT_EQ(SegmentPool::size_class(4097), 8192u);
  EXPECT_EQ(SegmentPool::size_class(3 * kMiB), 4 * kMiB);
  auto pool = make();
  const auto segment = pool.take(5000);
  ASSERT_THAT(segment, Succeeds());
  EXPECT_EQ(segment->info().body_bytes, 8192u);
  EXPECT_THAT(pool.take(std::uint64_t{1} << 63), testing::Not(Succeeds()));
}

TEST_P(SegmentPools, GivesTheSegmentThatCameBackLastAndMakesNoneWhileOneIsIdle) {
  auto pool = make();
  ASSERT_THAT(pool.prepare(2, kMiB), Succeeds());
  EXPECT_EQ(pool.counters().made, 2u);
  EXPECT_EQ(pool.idle_bytes(), 2 * kMiB);
  for (int i = 0; i < 100; ++i) {
    auto first = pool.take(kMiB);
    auto second = pool.take(kMiB - 5);
    ASSERT_THAT(first, Succeeds());
    ASSERT_THAT(second, Succeeds());
    const auto last = first->info().instance;
    ASSERT_THAT(pool.give_back(std::move(*second)), Succeeds());
    ASSERT_THAT(pool.give_back(std::move(*first)), Succeeds());
    auto again = pool.take(kMiB);
    EXPECT_EQ(again->info().instance, last);
    ASSERT_THAT(pool.give_back(std::move(*again)), Succeeds());
  }
  EXPECT_EQ(pool.counters().made, 2u);
  EXPECT_EQ(pool.counters().reused, 300u);
  EXPECT_EQ(pool.idle_bytes(), 2 * kMiB);
}

TEST_P(SegmentPools, TakesOneTwiceAsLargeBeforeItMakesOneButNoneLarger) {
  auto pool = make();
  ASSERT_THAT(pool.prepare(1, 2 * kMiB), Succeeds());
  ASSERT_THAT(pool.prepare(1, 8 * kMiB), Succeeds());
  auto doubled = pool.take(kMiB);
  EXPECT_EQ(doubled->info().body_bytes, 2 * kMiB);
  auto fresh = pool.take(kMiB);
  EXPECT_EQ(fresh->info().body_bytes, kMiB);
  EXPECT_EQ(pool.counters().made, 3u);
}

TEST_P(SegmentPools, IsFullWhenNothingIsIdleAndNothingMayBeMade) {
  auto o = options();
  o.may_make = false;
  auto pool = *SegmentPool::make(o);
  EXPECT_THAT(pool.take(1), FailsWith(Errc::full));
  ASSERT_THAT(pool.prepare(1, 1), Succeeds());
  auto segment = pool.take(1);
  EXPECT_THAT(segment, Succeeds());
  EXPECT_THAT(pool.take(1), FailsWith(Errc::full));
  EXPECT_EQ(pool.counters().exhausted, 2u);
  ASSERT_THAT(pool.give_back(std::move(*segment)), Succeeds());
  EXPECT_THAT(pool.take(1), Succeeds());
}

TEST_P(SegmentPools, KeepsNoMoreIdleBytesThanItMay) {
  auto o = options();
  o.max_idle_bytes = 2 * kMiB;
  auto pool = *SegmentPool::make(o);
  std::vector<Segment> segments;
  for (int i = 0; i < 4; ++i) segments.push_back(*pool.take(kMiB));
  for (auto& segment : segments) ASSERT_THAT(pool.give_back(std::move(segment)), Succeeds());
  segments.clear();
  EXPECT_EQ(pool.idle_bytes(), 2 * kMiB);
  if (GetParam() != Backend::memfd) {
    EXPECT_EQ(pool.counters().unlinked, 2u);
    EXPECT_EQ(names(), 2u);
  }
}

TEST_P(SegmentPools, RefusesToTakeBackWhatIsNotItsOwn) {
  auto pool = make();
  auto other = make();
  auto foreign = other.take(kMiB);
  EXPECT_THAT(pool.give_back(std::move(*foreign)), FailsWith(Errc::invalid_argument));
  EXPECT_EQ(pool.counters().refused, 1u);
  EXPECT_THAT(other.give_back(std::move(*foreign)), Succeeds()) << "it stayed the caller's";
}

TEST_P(SegmentPools, LeavesNoNameBehindEvenOfSegmentsThatAreStillOut) {
  std::optional<Segment> out;
  {
    auto pool = make();
    ASSERT_THAT(pool.prepare(3, 1), Succeeds());
    out = *pool.take(1);
    if (GetParam() != Backend::memfd) {
      EXPECT_EQ(names(), 3u);
    }
  }
  EXPECT_EQ(names(), 0u);
  out->body()[0] = std::byte{1};  // the memory stays with whoever has it
}

TEST_P(SegmentPools, RemovesTheNamesOfTheDeadAndOfNobodyElse) {
  if (GetParam() == Backend::memfd) GTEST_SKIP() << "a memfd has no name to leave";
  auto living = make();
  ASSERT_THAT(living.prepare(1, 1), Succeeds());
  Child maker = test::sleeper_after([&] {
    static auto pool = make();
    if (!pool.prepare(3, 1)) ::_exit(1);
  });
  EXPECT_EQ(remove_leftovers("t", places_), Result<std::size_t>(0u));
  EXPECT_TRUE(maker.kill().killed_by(SIGKILL));
  EXPECT_EQ(names(), 4u);
  EXPECT_EQ(remove_leftovers("other", places_), Result<std::size_t>(0u));
  EXPECT_EQ(remove_leftovers("t", places_), Result<std::size_t>(3u));
  EXPECT_EQ(names(), 1u);
  EXPECT_THAT(living.take(1), Succeeds());
}

TEST_P(SegmentPools, AForkedChildDoesNotRemoveItsParentsSegments) {
  auto pool = make();
  ASSERT_THAT(pool.prepare(2, 1), Succeeds());
  Child child([&] { const SegmentPool moved = std::move(pool); });
  EXPECT_TRUE(child.wait().exited_with(0));
  if (GetParam() != Backend::memfd) {
    EXPECT_EQ(names(), 2u);
  }
  EXPECT_THAT(pool.take(1), Succeeds());
}

TEST_P(SegmentPools, RefusesAPrefixThatIsNoNameOrTooLong) {
  auto o = options();
  for (const char* prefix : {"a/b", "..\n", "a-prefix-that-leaves-no-room-for-numbers"}) {
    o.prefix = prefix;
    EXPECT_THAT(SegmentPool::make(o), FailsWith(Errc::invalid_argument)) << prefix;
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, SegmentPools,
                         testing::Values(Backend::posix, Backend::file, Backend::sysv,
                                         Backend::memfd),
                         [](const auto& backend) { return std::string(to_string(backend.param)); });

// ----------------------------------------------------------------------------- ids and mappings

class SegmentIds : public SegmentPools {};

TEST_P(SegmentIds, OpenTheSameMemoryOnceAndFindItAgain) {
  auto sender = make();
  auto receiver = make();
  auto segment = sender.take(100'000);
  const auto id = id_of(*segment);
  ASSERT_THAT(id, Succeeds());
  segment->body()[99'999] = std::byte{0x42};
  const auto first = receiver.open(*id);
  ASSERT_THAT(first, Succeeds());
  EXPECT_EQ((*first)->body()[99'999], std::byte{0x42});
  EXPECT_EQ((*first)->mode(), segment::OpenMode::read_only);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(*receiver.open(*id), *first);
  EXPECT_EQ(receiver.counters().opened, 1u);
  EXPECT_EQ(receiver.counters().found, 10u);
  EXPECT_THAT(sender.give_back(std::move(*segment)), Succeeds());
}

TEST_P(SegmentIds, DropTheMappingUnusedForLongestAndOpenItAnew) {
  auto o = options();
  o.max_mappings = 2;
  auto sender = make();
  auto receiver = *SegmentPool::make(o);
  std::vector<Segment> segments;
  std::vector<SegmentId> ids;
  for (int i = 0; i < 3; ++i) {
    segments.push_back(*sender.take(1));
    segments.back().body()[0] = std::byte(i);
    ids.push_back(*id_of(segments.back()));
  }
  const auto kept = *receiver.open(ids[0]);
  (void)receiver.open(ids[1]);
  (void)receiver.open(ids[0]);
  (void)receiver.open(ids[2]);  // 1 goes
  EXPECT_EQ(receiver.counters().dropped, 1u);
  (void)receiver.open(ids[0]);
  EXPECT_EQ(receiver.counters().opened, 3u);
  EXPECT_EQ((*receiver.open(ids[1]))->body()[0], std::byte{1});
  EXPECT_EQ(receiver.counters().opened, 4u);
  EXPECT_EQ(kept->body()[0], std::byte{0}) << "whoever has the pointer has the memory";
}

TEST_P(SegmentIds, ThatAreNoneAreRefusedAndCounted) {
  auto sender = make();
  auto receiver = make();
  const auto segment = sender.take(1);
  const SegmentId good = *id_of(*segment);
  std::vector<SegmentId> bad(7, good);
  bad[0] = SegmentId{};
  bad[1].backend = 9;
  bad[2].name_bytes = 0;
  bad[3].name_bytes = 255;
  bad[4].name[0] = '/';
  bad[4].name[1] = '/';
  std::memcpy(bad[5].name, "..", 2);
  bad[5].name_bytes = 2;
  bad[6].instance_low ^= 1;  // the name is another segment's
  for (std::size_t i = 0; i < bad.size(); ++i) {
    if (i == 2 && GetParam() == Backend::sysv) continue;  // an id of the kernel's, see below
    EXPECT_THAT(receiver.open(bad[i]), FailsWith(Errc::corrupt)) << i;
    EXPECT_GT(receiver.counters().refused, 0u);
  }
  SegmentId gone = good;
  std::memset(gone.name, 'x', good.name_bytes);
  gone.instance_low ^= 1;
  EXPECT_THAT(receiver.open(gone), FailsWith(Errc::not_found));
  EXPECT_EQ(receiver.counters().opened, 0u);
  EXPECT_THAT(receiver.open(good), Succeeds());
}

// A peer may send the name of any segment of ours; only a pooled one is mapped.
TEST_P(SegmentIds, LeadToPooledSegmentsOnly) {
  segment::Spec spec;
  spec.body_bytes = 4096;
  spec.content = segment::kContentLane;
  spec.places = places_;
  auto other = segment::draft(GetParam(), spec)
                   .value()
                   .publish(*segment::Name::parse(test::unique_name("other")));
  auto o = options();
  ASSERT_THAT(other, Succeeds());
  auto receiver = *SegmentPool::make(o);
  EXPECT_THAT(receiver.open(*id_of(*other)), FailsWith(Errc::bad_format));
  EXPECT_THAT(other->unlink(), Succeeds());
}

INSTANTIATE_TEST_SUITE_P(Backends, SegmentIds,
                         testing::Values(Backend::posix, Backend::file, Backend::sysv),
                         [](const auto& backend) { return std::string(to_string(backend.param)); });

TEST(SegmentIdMemfd, IsFoundOnceItsDescriptorWasHandedOver) {
  SegmentPool::Options o;
  o.backend = Backend::memfd;
  auto sender = *SegmentPool::make(o);
  auto receiver = *SegmentPool::make(o);
  auto segment = sender.take(1);
  const SegmentId id = *id_of(*segment);
  EXPECT_THAT(receiver.open(id), FailsWith(Errc::not_supported));
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd here(pair[0]), there(pair[1]);
  ASSERT_THAT(segment::send_fd(here.get(), segment->fd()), Succeeds());
  auto fd = segment::receive_fd(there.get());
  ASSERT_THAT(fd, Succeeds());
  auto mapped = Segment::from_fd(std::move(*fd), segment::OpenMode::read_only);
  ASSERT_THAT(mapped, Succeeds());
  const auto adopted = receiver.adopt(std::move(*mapped));
  EXPECT_EQ(receiver.open(id), adopted);
  segment->body()[7] = std::byte{9};
  EXPECT_EQ(adopted->body()[7], std::byte{9});
}

// Ids travel through a lane to another process, which answers through a second one: the same two
// segments carry a thousand messages of a megabyte.
TEST(SegmentQueue, CarriesAThousandSegmentsThroughALaneWithTwoMappings) {
  test::Watchdog watchdog(120, "segment queue");
  constexpr int kMessages = 1000;
  test::TempDir dir;
  segment::Places places{(dir.path() / "shm").string(), (dir.path() / "files").string()};
  std::filesystem::create_directory(places.shm);
  std::filesystem::create_directory(places.files);
  std::filesystem::permissions(places.files, std::filesystem::perms::owner_all);
  SegmentPool::Options o;
  o.places = places;
  const test::TestLane there(test::Placing::shared), back(test::Placing::shared);
  const test::ProcessEvent filled, read;
  Child receiver([&] {
    auto pool = SegmentPool::make(o);
    auto in = there.consumer();
    auto out = back.producer();
    if (!pool || !in || !out) return 1;
    for (int i = 0; i < kMessages; ++i) {
      if (!filled.wait()) return 2;
      const auto record = in->try_peek();
      if (!record || record->payload.size() != sizeof(SegmentId)) return 3;
      SegmentId id;
      std::memcpy(&id, record->payload.data(), sizeof id);
      const auto segment = pool->open(id);
      if (!segment) return 4;
      const auto body = (*segment)->body();
      if (body[0] != std::byte(i) || body[kMiB - 1] != std::byte(i)) return 5;
      in->release(*record);
      if (!out->try_send(std::as_bytes(std::span(&id, 1)))) return 6;
      read.raise();
    }
    return pool->counters().opened == 2 && pool->counters().dropped == 0 ? 0 : 7;
  });
  auto pool = *SegmentPool::make(o);
  ASSERT_THAT(pool.prepare(2, kMiB), Succeeds());
  auto out = *there.producer();
  auto in = *back.consumer();
  std::vector<Segment> travelling;
  const auto send = [&](int i) {
    auto segment = pool.take(kMiB);
    ASSERT_THAT(segment, Succeeds());
    segment->body()[0] = segment->body()[kMiB - 1] = std::byte(i);
    const SegmentId id = *id_of(*segment);
    ASSERT_THAT(out.try_send(std::as_bytes(std::span(&id, 1))), Succeeds());
    travelling.push_back(std::move(*segment));
    filled.raise();
  };
  send(0);
  for (int i = 1; i <= kMessages && !HasFailure(); ++i) {
    if (i < kMessages) send(i);  // one is read while the next one is filled
    ASSERT_TRUE(read.wait());
    const auto record = in.try_peek();
    ASSERT_TRUE(record);
    EXPECT_EQ(record->payload.size(), sizeof(SegmentId));
    in.release(*record);
    ASSERT_THAT(pool.give_back(std::move(travelling.front())), Succeeds());
    travelling.erase(travelling.begin());
  }
  EXPECT_TRUE(receiver.wait().exited_with(0));
  EXPECT_EQ(pool.counters().made, 2u);
  EXPECT_EQ(pool.counters().unlinked, 0u);
}

}  // namespace
}  // namespace slipring::pool

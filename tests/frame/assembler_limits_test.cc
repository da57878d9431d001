// SPDX-License-Identifier: Apache-2.0
#include <sys/resource.h>

#include <fstream>

#include "frame_fixture.h"
#include "slipring/frame/assembler.h"
#include "support/child.h"
#include "support/watchdog.h"

// What a receiver is ready to hold, to the byte.
namespace slipring::frame {
namespace {

using namespace test;

class KeepingLimits : public EachMode {};
INSTANTIATE_TEST_SUITE_P(Modes, KeepingLimits, testing::Values(Mode::assembled, Mode::pieces),
                         mode_name);
class AllLimits : public EachMode {};
INSTANTIATE_TEST_SUITE_P(Modes, AllLimits,
                         testing::Values(Mode::parts, Mode::assembled, Mode::pieces), mode_name);

Records chunks(std::uint64_t id, std::size_t size, std::uint32_t max_body, bool open_ended) {
  return chunks_of(body_of(size, id), {id, open_ended ? kOpenEnded : size, max_body});
}

TEST_P(KeepingLimits, TakesAMessageOfExactlyTheLimitAndNoByteMore) {
  for (const std::size_t limit : {1u, 100u, 4095u, 4096u, 4097u, 10000u}) {
    for (const std::uint32_t max_body : {1u, 7u, 5000u, 100000u}) {
      SCOPED_TRACE(testing::Message() << limit << " in chunks of " << max_body);
      Limits limits;
      limits.max_message = limit;
      Receiver receiver(GetParam(), limits);
      std::uint64_t id = 0;
      for (const bool open_ended : {false, true}) {
        receiver.take_all(chunks(++id, limit - 1, max_body, open_ended));
        receiver.take_all(chunks(++id, limit, max_body, open_ended));
        EXPECT_EQ(receiver.whole, body_of(limit, id));
      }
      const Records known = chunks(++id, limit + 1, max_body, false);
      receiver.expect_fault(known[0], Fault::oversized);
      if (known.size() > 1) receiver.expect_swallowed(known[1]);

      Records open = chunks(++id, limit + 1, max_body, true);
      std::size_t i = 0;
      for (; decode(open[i])->end() <= limit; ++i) ASSERT_THAT(receiver.take(open[i]), Succeeds());
      receiver.expect_fault(open[i], Fault::oversized);
      receiver.expect_nothing_held();
    }
  }
}

TEST_P(KeepingLimits, TakesNoMemoryBecauseAHeaderAnnouncesIt) {
  Limits limits;
  limits.max_message = limits.max_bytes = limits.max_bytes_per_source = UINT64_MAX - 1;
  Receiver receiver(GetParam(), limits);
  ChunkHeader h;
  h.id = 1;
  h.total = UINT64_MAX - 1;
  h.body_bytes = 10;
  h.flags = chunk_flag::first;
  ASSERT_THAT(receiver.take(raw_chunk(h, body_of(10))), Succeeds());
  EXPECT_LE(receiver.assembler.bytes_under_assembly(), 4096u);
}

// Growing takes at most as much again as is needed.
TEST_P(KeepingLimits, HoldsAtMostTwiceWhatCame) {
  Limits limits;
  limits.max_message = limits.max_bytes = limits.max_bytes_per_source = std::uint64_t{1} << 30;
  Receiver receiver(GetParam(), limits);
  std::uint64_t so_far = 0;
  for (const Bytes& record : chunks(1, 2000000, 10001, true)) {
    so_far += record.size() - kChunkHeaderBytes;
    ASSERT_THAT(receiver.take(record), Succeeds());
    ASSERT_LE(receiver.assembler.bytes_under_assembly(), std::max<std::uint64_t>(4096, 2 * so_far));
  }
  receiver.expect_nothing_held();
}

TEST_P(KeepingLimits, SpendsItsBudgetToTheLastByteAndGetsItBack) {
  for (const bool per_source : {false, true}) {
    for (const std::size_t budget : {100u, 4096u, 9999u}) {
      for (const bool open_ended : {false, true}) {
        SCOPED_TRACE(budget);
        Limits limits;
        (per_source ? limits.max_bytes_per_source : limits.max_bytes) = budget;
        Receiver receiver(GetParam(), limits);
        Records most = chunks(1, budget, 10, open_ended);
        const Bytes last = most.back();
        most.pop_back();
        receiver.take_all(most, kSource, false);
        EXPECT_LE(receiver.assembler.bytes_under_assembly(), budget);

        const Records other = chunks(2, 11 * 4096, 4096, open_ended);
        receiver.expect_fault(other[0], Fault::over_budget);
        receiver.expect_swallowed(other[1]);
        if (per_source) {  // somebody else's budget is his own
          ASSERT_THAT(receiver.take(chunks(1, 100, 50, open_ended)[0], 8), Succeeds());
          EXPECT_EQ(receiver.assembler.drop(8), 1u);
        }
        const auto step = receiver.take(last);
        ASSERT_THAT(step, Succeeds());
        EXPECT_EQ(receiver.whole, body_of(budget, 1));
        receiver.expect_nothing_held();
        receiver.take_all(chunks(3, budget, 10, open_ended));

        Records over = chunks(4, budget + 1, 10, true);
        std::size_t i = 0;
        while (decode(over[i])->end() <= budget) {
          ASSERT_THAT(receiver.take(over[i++]), Succeeds());
        }
        receiver.expect_fault(over[i], Fault::over_budget);
        receiver.expect_nothing_held();
      }
    }
  }
}

TEST_P(AllLimits, RefusesTheNewestMessageBeyondTheOpenOnes) {
  for (const bool per_source : {false, true}) {
    Limits limits;
    (per_source ? limits.max_open_per_source : limits.max_open) = 3;
    Receiver receiver(GetParam(), limits);
    for (std::uint64_t id = 1; id <= 3; ++id) {
      ASSERT_THAT(receiver.take(chunks(id, 50, 10, false)[0]), Succeeds());
    }
    const Records fourth = chunks(4, 50, 10, false);
    receiver.expect_fault(fourth[0], Fault::too_many_open);
    for (std::size_t i = 1; i < fourth.size(); ++i) receiver.expect_swallowed(fourth[i]);
    receiver.take_all(chunks(5, 10, 10, false));  // of one chunk: it is never open
    EXPECT_EQ(receiver.take(chunks(1, 50, 10, false)[0], 8).has_value(), per_source);

    const Records second = chunks(2, 50, 10, false);
    receiver.take_all({second.begin() + 1, second.end()});
    EXPECT_EQ(receiver.whole, body_of(50, 2));
    receiver.take_all(chunks(6, 50, 10, false));
    receiver.assembler.drop(kSource);
    receiver.assembler.drop(8);
    receiver.expect_nothing_held();
  }
}

TEST_P(AllLimits, KnowsNoMoreSourcesThanItWasToldTo) {
  Limits limits;
  limits.max_sources = 2;
  Receiver receiver(GetParam(), limits);
  receiver.take_all(chunks(1, 50, 10, false), 1);
  receiver.take_all(chunks(1, 50, 10, false), 2);
  receiver.expect_fault(chunks(1, 50, 10, false)[0], Fault::too_many_open, 3);
  receiver.take_all(chunks(2, 50, 10, false), 1);
  receiver.assembler.drop(2);
  receiver.take_all(chunks(1, 50, 10, false), 3);
}

TEST(PartsLimits, HaveNoLargestMessage) {
  Limits limits;
  limits.max_message = 1;
  limits.max_bytes = limits.max_bytes_per_source = 0;
  Receiver receiver(Mode::parts, limits);
  receiver.take_all(chunks(1, 5000, 10, false));
  ChunkHeader h;
  h.id = 2;
  h.total = UINT64_MAX - 1;
  h.body_bytes = 10;
  h.flags = chunk_flag::first;
  EXPECT_THAT(receiver.take(raw_chunk(h, body_of(10))), Succeeds());
}

std::uint64_t address_space_bytes() {
  std::uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

TEST_P(KeepingLimits, ReportsAMachineWithoutMemoryAndGoesOn) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer needs address space of its own";
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  GTEST_SKIP() << "a sanitizer needs address space of its own";
#endif
#endif
  slipring::test::Watchdog watchdog(30);
  slipring::test::Child child([] {
    Limits limits;
    limits.max_message = limits.max_bytes = limits.max_bytes_per_source = std::uint64_t{1} << 40;
    Receiver receiver(GetParam(), limits);
    const Records other = chunks(1, 5000, 2500, false);
    if (!receiver.take(other[0])) return 1;
    const rlimit room{address_space_bytes() + (16u << 20), RLIM_INFINITY};
    if (::setrlimit(RLIMIT_AS, &room) != 0) return 2;

    Bytes record = raw_chunk({}, Bytes(1u << 20));
    for (std::uint32_t i = 0; i < 100; ++i) {
      ChunkHeader h;  // written in place: the test has no memory either
      h.id = 2;
      h.index = i;
      h.offset = std::uint64_t{i} << 20;
      h.body_bytes = 1u << 20;
      h.flags = i == 0 ? chunk_flag::first : std::uint16_t{0};
      if (!encode(h, record)) return 7;
      const auto step = receiver.assembler.take(kSource, record);
      if (step) continue;
      if (step.error().code != Errc::no_space) return 3;
      if (receiver.assembler.last_fault() != Fault::no_memory) return 4;
      const auto end = receiver.take(other[1]);
      return end && receiver.whole.size() == 5000 ? 0 : 5;
    }
    return 6;
  });
  EXPECT_TRUE(child.wait().exited_with(0));
}

}  // namespace
}  // namespace slipring::frame

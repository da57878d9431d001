// SPDX-License-Identifier: Apache-2.0
#include "slipring/wait/primitive.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ipc.h>
#include <sys/sem.h>

#include <cstring>
#include <random>

#include "support/child.h"
#include "support/matchers.h"
#include "support/watchdog.h"
#include "wait/test_bell.h"

namespace slipring::test {
namespace {

using namespace wait;

constexpr std::uint64_t kTag = 0;  // offsets in the store: docs/doorbell.md#store
constexpr std::uint64_t kObject = 8;

SharedWord<std::uint64_t>& store_word(const TestBell& bell, std::uint64_t offset) {
  return word_at<std::uint64_t>(bell.words().store.bytes, offset);
}

class EveryKind : public testing::TestWithParam<BellKind> {};
std::string name_of(const testing::TestParamInfo<BellKind>& kind) {
  return std::string(to_string(kind.param));
}
INSTANTIATE_TEST_SUITE_P(Kinds, EveryKind,
                         testing::Values(BellKind::futex, BellKind::posix_sem, BellKind::sysv_sem,
                                         BellKind::condvar, BellKind::eventfd, BellKind::signal),
                         name_of);

TEST_P(EveryKind, HasANameThatParses) {
  EXPECT_EQ(parse_bell_kind(to_string(GetParam())), GetParam());
  EXPECT_EQ(parse_bell_kind("bell"), std::nullopt);
}

TEST_P(EveryKind, RefusesAStoreThatIsNone) {
  TestBell bell(GetParam());
  NativeAccess::store_relaxed(store_word(bell, kTag), 0x1234567890abcdef);
  EXPECT_THAT(Sleeper<>::attach(GetParam(), bell.ref(), bell.sleeper_options()),
              FailsWith(Errc::bad_format));
  EXPECT_THAT(Ringer<>::attach(GetParam(), bell.ref(), bell.ringer_options(self_token())),
              FailsWith(Errc::bad_format));
}

TEST_P(EveryKind, RefusesTheStoreOfAnotherKind) {
  const BellKind other =
      GetParam() == BellKind::posix_sem ? BellKind::sysv_sem : BellKind::posix_sem;
  TestBell theirs(other);
  const auto sleeper = theirs.sleeper();
  TestBell mine(GetParam());
  EXPECT_THAT(Ringer<>::attach(GetParam(), theirs.ref(), mine.ringer_options(self_token())),
              FailsWith(Errc::bad_format));
}

// The peer overwrites all of the store, in use. A wake may fail; nobody hangs or crashes. Where
// libc believes what lies in its objects, only our own words are overwritten
// (docs/doorbell.md#caveats).
TEST_P(EveryKind, AStoreOverwrittenWithNoiseCostsWakesAndNothingElse) {
  const Watchdog watchdog(60, "hostile store");
  const std::uint64_t end = trusts_peer(GetParam()) ? 64 : sizeof(BellStore);
  std::mt19937_64 random(7);
  for (int round = 0; round < 20; ++round) {
    TestBell bell(GetParam());
    auto sleeper = bell.sleeper();
    auto ringer = bell.ringer();
    const std::uint64_t tag = NativeAccess::load_relaxed(store_word(bell, kTag));
    const std::uint64_t object = NativeAccess::load_relaxed(store_word(bell, kObject));
    for (std::uint64_t at = 0; at < end; at += 8) {
      NativeAccess::store_relaxed(store_word(bell, at), random());
    }
    if (round % 2 == 1) NativeAccess::store_relaxed(store_word(bell, kTag), tag);
    for (int i = 0; i < 10; ++i) ringer.ring();
    EXPECT_EQ(sleeper.park_unless([] { return false; }, Deadline::in(2ms)), WakeReason::timed_out);
    EXPECT_EQ(ringer.counters().rings, 10u);
    NativeAccess::store_relaxed(store_word(bell, kObject), object);
  }
}

TEST(Primitive, KindsThatNeedRoomSayThatTheyGotNone) {
  TestBell bell(BellKind::futex);
  BellRef bare{bell.words().ticket, bell.words().seq, bell.words().ringer_fence};
  for (const BellKind kind :
       {BellKind::posix_sem, BellKind::sysv_sem, BellKind::condvar, BellKind::signal}) {
    EXPECT_THAT(Sleeper<>::attach(kind, bare), FailsWith(Errc::invalid_argument));
    EXPECT_THAT(Ringer<>::attach(kind, bare), FailsWith(Errc::invalid_argument));
  }
  EXPECT_THAT(Sleeper<>::attach(BellKind::futex, bare), Succeeds());
  EXPECT_THAT(Ringer<>::attach(BellKind::futex, bare), Succeeds());
  EXPECT_THAT(Sleeper<>::attach(static_cast<BellKind>(99), bell.ref()),
              FailsWith(Errc::invalid_argument));
}

TEST(Eventfd, RefusesADescriptorThatIsNone) {
  TestBell bell(BellKind::eventfd);
  const auto attach = [&](int fd) {
    RingerOptions options;
    options.eventfd = UniqueFd(fd);
    return Ringer<>::attach(BellKind::eventfd, bell.ref(), std::move(options));
  };
  EXPECT_THAT(attach(-1), FailsWith(Errc::invalid_argument));
  EXPECT_THAT(attach(::open("/dev/zero", O_RDWR | O_CLOEXEC)), FailsWith(Errc::invalid_argument));
}

int set_of(const TestBell& bell) {
  return static_cast<int>(NativeAccess::load_relaxed(store_word(bell, kObject)));
}
bool exists(int id) { return ::semctl(id, 0, GETVAL) >= 0; }

TEST(SysvSem, RemovesItsSetWhenTheSleeperLeaves) {
  TestBell bell(BellKind::sysv_sem);
  int id = -1;
  {
    const auto sleeper = bell.sleeper();
    id = set_of(bell);
    EXPECT_TRUE(exists(id));
  }
  EXPECT_FALSE(exists(id));
}

TEST(SysvSem, TheSuccessorOrTheReaperRemovesTheSetOfAKilledSleeper) {
  for (const bool reaper : {false, true}) {
    TestBell bell(BellKind::sysv_sem);
    Child child([&] {
      const auto sleeper = bell.sleeper();
      ::raise(SIGKILL);
    });
    ASSERT_TRUE(child.wait().killed_by(SIGKILL));
    const int id = set_of(bell);
    ASSERT_TRUE(exists(id));
    if (reaper) {
      EXPECT_THAT(remove_leftovers(bell.words().store), Succeeds());
    } else {
      const auto successor = bell.sleeper();
    }
    EXPECT_FALSE(exists(id));
  }
}

// TRUST: an id in shared memory may name anybody's semaphore.
TEST(SysvSem, NeitherPostsToNorRemovesASetThatIsNotTheSleepers) {
  const int stranger = ::semget(IPC_PRIVATE, 2, 0600);
  ASSERT_GE(stranger, 0);
  TestBell bell(BellKind::sysv_sem);
  {
    auto sleeper = bell.sleeper();
    auto ringer = bell.ringer();
    NativeAccess::store_relaxed(store_word(bell, kObject), static_cast<std::uint64_t>(stranger));
    ringer.ring();
    EXPECT_EQ(ringer.counters().failed, 1u);
    EXPECT_EQ(::semctl(stranger, 0, GETVAL), 0);
    EXPECT_THAT(remove_leftovers(bell.words().store), Succeeds());
    EXPECT_TRUE(exists(stranger));
  }
  ::semctl(stranger, 0, IPC_RMID);
}

TEST(SysvSem, PollsWhenItsSetWasRemoved) {
  const Watchdog watchdog(20, "removed set");
  TestBell bell(BellKind::sysv_sem);
  auto sleeper = bell.sleeper(kForever);
  auto ringer = bell.ringer();
  ::semctl(set_of(bell), 0, IPC_RMID);
  const auto ring = [&] {
    ringer.ring_if_parked();
    return false;
  };
  EXPECT_EQ(sleeper.park_unless(ring, Deadline::never()), WakeReason::rung);
  EXPECT_EQ(ringer.counters().failed, 1u);
  EXPECT_EQ(sleeper.park_unless([] { return false; }, Deadline::in(5ms)), WakeReason::timed_out);
}

TEST(Signal, TwoSleepersOfAProcessCannotShareANumber) {
  TestBell bell(BellKind::signal);
  TestBell other(BellKind::signal);
  const auto sleeper = bell.sleeper();
  EXPECT_THAT(Sleeper<>::attach(BellKind::signal, other.ref(), other.sleeper_options()),
              FailsWith(Errc::in_use));
}

TEST(Signal, RefusesNumbersThatDoNotQueue) {
  TestBell bell(BellKind::signal);
  SleeperOptions options;
  options.signal = SIGTERM;
  EXPECT_THAT(Sleeper<>::attach(BellKind::signal, bell.ref(), std::move(options)),
              FailsWith(Errc::invalid_argument));
}

// TRUST: the pid in the store is the sleeper's word. A ringer that was not told whom to expect, or
// was told somebody else, signals nobody.
TEST(Signal, SignalsNobodyButTheProcessItExpects) {
  TestBell bell(BellKind::signal);
  const Child stranger = sleeper();
  const auto mine = bell.sleeper();
  auto ringer = bell.ringer(ProcessToken{});
  ringer.ring();
  EXPECT_EQ(ringer.counters().failed, 1u);
  const auto mask = NativeAccess::load_relaxed(store_word(bell, kObject)) & 0xffffffff00000000;
  NativeAccess::store_relaxed(store_word(bell, kObject),
                              mask | static_cast<std::uint64_t>(stranger.pid()));
  ringer.expect_sleeper(self_token());
  ringer.ring();
  EXPECT_EQ(ringer.counters().failed, 2u);
  EXPECT_EQ(::kill(stranger.pid(), 0), 0);
}

// A thread that forgot to block it takes the ring away; the process must not die of it.
TEST(Signal, ALateOrStraySignalDoesNotEndTheProcess) {
  Child child([] {
    TestBell bell(BellKind::signal);
    { const auto sleeper = bell.sleeper(); }
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, bell_signal());
    ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
    ::raise(bell_signal());
    return 0;
  });
  EXPECT_TRUE(child.wait().exited_with(0));
}

TEST(PosixSem, AFullSemaphoreCountsAsPosted) {
  const Watchdog watchdog(20, "full semaphore");
  TestBell bell(BellKind::posix_sem);
  auto sleeper = bell.sleeper();
  auto ringer = bell.ringer();
  // The count is the low half of glibc's word on 64 bit; whichever slot is in use, fill it.
  for (std::uint64_t slot = 64; slot <= 320; slot += 128) {
    NativeAccess::store_relaxed(store_word(bell, slot), 0x7fffffff);
  }
  ringer.ring();
  EXPECT_EQ(ringer.counters().failed, 0u);
  EXPECT_EQ(sleeper.park_unless([] { return false; }, Deadline::in(5ms)), WakeReason::timed_out);
  EXPECT_GT(sleeper.counters().spurious, 0u);
}

}  // namespace
}  // namespace slipring::test

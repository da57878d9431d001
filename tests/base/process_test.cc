// SPDX-License-Identifier: Apache-2.0
#include "slipring/base/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <string>
#include <thread>

#include "support/child.h"
#include "support/matchers.h"
#include "support/shared_area.h"
#include "support/watchdog.h"

namespace slipring {
namespace {

using test::Child;
using test::FailsWith;
using test::SharedArea;
using test::Watchdog;

/// A sleeping child, and the token that it stored of itself.
class KnownChild {
 public:
  KnownChild()
      : area_(sizeof(SharedToken)),
        child(test::sleeper_after([&] { store_token(area_.as<SharedToken>(), self_token()); })),
        token(load_token(area_.as<SharedToken>()).value()) {}

 private:
  SharedArea area_;

 public:
  Child child;
  ProcessToken token;
};

TEST(ProcessToken, NamesThisProcess) {
  const ProcessToken self = self_token();
  EXPECT_EQ(self.pid, static_cast<std::uint32_t>(::getpid()));
  EXPECT_NE(self.start_ticks, 0u);
  EXPECT_NE(self.pid_ns, 0u);
  EXPECT_NE(self.boot_low | self.boot_high, 0u);
  EXPECT_EQ(std::string(self.command), command_of(self.pid));
  EXPECT_FALSE(command_of(self.pid).empty());
}

TEST(ProcessToken, IsMadeAgainAfterAFork) {
  const ProcessToken mine = self_token();  // cached before the fork
  const KnownChild known;
  EXPECT_EQ(known.token.pid, static_cast<std::uint32_t>(known.child.pid()));
  EXPECT_NE(known.token.pid, mine.pid);
  EXPECT_EQ(known.token.boot_low, mine.boot_low);
  EXPECT_EQ(known.token.pid_ns, mine.pid_ns);
}

TEST(ProcessToken, ScopeTellsNamespacesAndBootsApart) {
  const ProcessToken self = self_token();
  ProcessToken other = self;
  other.pid_ns ^= 1;
  EXPECT_NE(pid_scope(other), pid_scope(self));
  other = self;
  other.boot_high ^= 1;
  EXPECT_NE(pid_scope(other), pid_scope(self));
  other = self;
  other.pid ^= 1;
  EXPECT_EQ(pid_scope(other), pid_scope(self));
}

TEST(SharedToken, GivesBackWhatWasStored) {
  ProcessToken token = self_token();
  token.tid = 77;
  token.thread_start = 78;
  token.generation = 79;
  SharedToken shared{};
  store_token(shared, token);
  const auto loaded = load_token(shared);
  ASSERT_THAT(loaded, test::Succeeds());
  const auto stored = detail::encode_token(token);
  const auto seen = detail::encode_token(*loaded);
  EXPECT_TRUE(std::equal(std::begin(seen.words), std::end(seen.words), stored.words));
  EXPECT_EQ(loaded->tid, 77u);
  EXPECT_EQ(loaded->thread_start, 78u);
  EXPECT_EQ(loaded->generation, 79u);
}

TEST(SharedToken, NeverStoredIsCorrupt) {
  const SharedToken zero{};
  EXPECT_THAT(load_token(zero), FailsWith(Errc::corrupt));
}

TEST(SharedToken, AFlippedBitInAnyWordIsCorrupt) {
  for (int word = 0; word < 16; ++word) {
    SharedToken shared{};
    store_token(shared, self_token());
    const auto bits = NativeAccess::load_relaxed(shared.words[word]);
    NativeAccess::store_relaxed(shared.words[word], bits ^ (std::uint64_t{1} << (word * 4)));
    EXPECT_THAT(load_token(shared), FailsWith(Errc::corrupt)) << word;
  }
}

// A writer killed after k of its 16 stores leaves the head of one token and the tail of another.
TEST(SharedToken, HalfOfOneAndHalfOfAnotherIsCorruptOrOneOfThem) {
  ProcessToken before = self_token();
  ProcessToken after = before;
  after.pid += 1;
  after.start_ticks += 1;
  after.generation += 1;
  const auto first = detail::encode_token(before);
  const auto second = detail::encode_token(after);
  for (int stored = 0; stored <= 16; ++stored) {
    detail::TokenWords raw = first;
    for (int i = 0; i < stored; ++i) raw.words[i] = second.words[i];
    const auto seen = detail::decode_token(raw);
    if (stored == 0 || stored == 16) {
      ASSERT_THAT(seen, test::Succeeds());
      EXPECT_EQ(seen->pid, stored == 0 ? before.pid : after.pid);
    } else {
      EXPECT_THAT(seen, FailsWith(Errc::corrupt)) << stored;
    }
  }
}

TEST(SharedToken, ACommandWithoutAnEndIsCutOff) {
  ProcessToken token = self_token();
  std::memset(token.command, 'x', sizeof token.command);
  const auto seen = detail::decode_token(detail::encode_token(token));
  ASSERT_THAT(seen, test::Succeeds());
  EXPECT_EQ(std::string(seen->command), std::string(15, 'x'));
}

TEST(PeerWatch, ARunningProcessIsAlive) {
  const Watchdog watchdog(20);
  EXPECT_EQ(PeerWatch(self_token()).look(), Verdict::alive);
  const KnownChild known;
  PeerWatch watch(known.token);
  EXPECT_EQ(watch.fd(), -1);
  EXPECT_EQ(watch.look(), Verdict::alive);
  EXPECT_EQ(watch.look(), Verdict::alive);
  EXPECT_GE(watch.fd(), 0);
}

TEST(PeerWatch, AStoppedProcessIsAlive) {
  const Watchdog watchdog(20);
  const KnownChild known;
  PeerWatch before(known.token);
  EXPECT_EQ(before.look(), Verdict::alive);
  known.child.stop();
  EXPECT_EQ(before.look(), Verdict::alive);
  EXPECT_EQ(PeerWatch(known.token).look(), Verdict::alive);
}

TEST(PeerWatch, AZombieIsDead) {
  const Watchdog watchdog(20);
  const KnownChild known;
  PeerWatch before(known.token);
  EXPECT_EQ(before.look(), Verdict::alive);
  known.child.kill_to_zombie();
  EXPECT_EQ(before.look(), Verdict::dead);
  EXPECT_EQ(PeerWatch(known.token).look(), Verdict::dead);
}

TEST(PeerWatch, AReapedProcessIsDead) {
  const Watchdog watchdog(20);
  KnownChild known;
  PeerWatch before(known.token);
  EXPECT_EQ(before.look(), Verdict::alive);
  EXPECT_TRUE(known.child.kill().killed_by(SIGKILL));
  EXPECT_EQ(before.look(), Verdict::dead);
  EXPECT_EQ(PeerWatch(known.token).look(), Verdict::dead);
}

TEST(PeerWatch, ItsDescriptorBecomesReadableOnDeath) {
  const Watchdog watchdog(20);
  KnownChild known;
  PeerWatch watch(known.token);
  ASSERT_EQ(watch.look(), Verdict::alive);
  pollfd poll{watch.fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&poll, 1, 0), 0);
  known.child.signal(SIGKILL);
  EXPECT_EQ(::poll(&poll, 1, -1), 1);
  EXPECT_EQ(watch.look(), Verdict::dead);
}

// The letter Z in /proc says only that the leader ended; the mapping is still in use.
TEST(PeerWatch, AProcessWhoseLeaderEndedBeforeItsThreadsIsAlive) {
  const Watchdog watchdog(20);
  SharedArea area(sizeof(SharedToken));
  test::ProcessEvent ready;
  Child child([&] {
    store_token(area.as<SharedToken>(), self_token());
    std::thread([&] {
      const std::string stat = "/proc/" + std::to_string(::getpid()) + "/stat";
      char text[512] = {};
      do {  // until the leader is shown as a zombie
        const UniqueFd fd{::open(stat.c_str(), O_RDONLY)};
        [[maybe_unused]] const auto n = ::read(fd.get(), text, sizeof text - 1);
      } while (std::strstr(text, ") Z ") == nullptr);
      ready.raise();
      for (;;) ::pause();
    }).detach();
    ::syscall(SYS_exit, 0);  // this thread alone; pthread_exit would unwind into gtest
  });
  ASSERT_TRUE(ready.wait());
  PeerWatch watch(load_token(area.as<SharedToken>()).value());
  EXPECT_EQ(watch.look(), Verdict::alive);
  child.kill();
  EXPECT_EQ(watch.look(), Verdict::dead);
}

TEST(PeerWatch, ANumberWithAnotherStartTimeIsDead) {
  ProcessToken token = self_token();
  token.pidfd_ino = 0;
  token.start_ticks += 1;
  EXPECT_EQ(PeerWatch(token).look(), Verdict::dead);
}

TEST(PeerWatch, ANumberWithAnotherPidfsInodeIsDead) {
  ProcessToken token = self_token();
  if (token.pidfd_ino == 0) GTEST_SKIP() << "this kernel has no pidfs (Linux 6.9)";
  token.pidfd_ino += 1;
  EXPECT_EQ(PeerWatch(token).look(), Verdict::dead);
}

// Start times of two time namespaces count from different zeros.
TEST(PeerWatch, AStartTimeOfAnotherTimeNamespaceProvesNothing) {
  ProcessToken token = self_token();
  token.time_ns ^= 1;
  token.start_ticks += 1;
  EXPECT_EQ(PeerWatch(token).look(), Verdict::alive);
}

TEST(PeerWatch, AProcessOfAnotherBootIsDead) {
  ProcessToken token = self_token();
  token.boot_low ^= 1;
  EXPECT_EQ(PeerWatch(token).look(), Verdict::dead);
}

// Where /proc is hidden nobody knows which boot this is.
TEST(PeerWatch, ABootThatIsNotKnownProvesNothing) {
  ProcessToken token = self_token();
  token.boot_low = token.boot_high = 0;
  EXPECT_EQ(PeerWatch(token).look(), Verdict::unknown);
}

TEST(PeerWatch, AProcessOfAnotherPidNamespaceIsUnknown) {
  ProcessToken token = self_token();
  token.pid_ns ^= 1;
  EXPECT_EQ(PeerWatch(token).look(), Verdict::unknown);
  token.pid_ns = 0;
  EXPECT_EQ(PeerWatch(token).look(), Verdict::unknown);
}

TEST(PeerWatch, PidZeroIsUnknown) {
  ProcessToken token = self_token();
  token.pid = 0;
  EXPECT_EQ(PeerWatch(token).look(), Verdict::unknown);
}

// Forks until a child gets the number that another just had.
TEST(PeerWatch, AReusedNumberDoesNotBringTheDeadBack) {
  const Watchdog watchdog(30);
  for (int attempt = 0; attempt < 50; ++attempt) {
    KnownChild first;
    const pid_t number = first.child.pid();
    first.child.kill();
    ::usleep(30'000);  // start times are counted in ticks of 10 ms
    const UniqueFd last{::open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC)};
    if (!last) GTEST_SKIP() << "ns_last_pid cannot be written: needs CAP_CHECKPOINT_RESTORE";
    const std::string before = std::to_string(number - 1);
    if (::write(last.get(), before.data(), before.size()) < 0) {
      GTEST_SKIP() << "ns_last_pid: " << std::strerror(errno);
    }
    const KnownChild second;
    if (second.child.pid() != number) continue;  // another process was faster
    EXPECT_EQ(PeerWatch(second.token).look(), Verdict::alive);
    EXPECT_EQ(PeerWatch(first.token).look(), Verdict::dead);
    ProcessToken without_inode = first.token;
    without_inode.pidfd_ino = 0;
    EXPECT_EQ(PeerWatch(without_inode).look(), Verdict::dead);
    return;
  }
  GTEST_SKIP() << "no child got the number of an earlier one";
}

// What a sandbox does: pidfd_open answers ENOSYS. Returns false where that cannot be arranged.
bool refuse_pidfd_open() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{4, code};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST(PeerWatch, WithoutPidfdsTheStateAndTheNumberDecide) {
  const Watchdog watchdog(20);
  constexpr int kNoSeccomp = 77;
  KnownChild alive;
  KnownChild stopped;
  KnownChild zombie;
  KnownChild reaped;
  stopped.child.stop();
  zombie.child.kill_to_zombie();
  reaped.child.kill();
  Child observer([&] {
    if (!refuse_pidfd_open()) return kNoSeccomp;
    if (PeerWatch(alive.token).look() != Verdict::alive) return 1;
    if (PeerWatch(stopped.token).look() != Verdict::alive) return 2;
    if (PeerWatch(zombie.token).look() != Verdict::dead) return 3;
    if (PeerWatch(reaped.token).look() != Verdict::dead) return 4;
    if (look_at_pid(alive.token.pid) != Verdict::alive) return 5;
    return 0;
  });
  const test::Ending end = observer.wait();
  if (end.exited_with(kNoSeccomp)) GTEST_SKIP() << "seccomp filters are refused here";
  EXPECT_EQ(end, test::Ending{0});
}

TEST(LookAtPid, TellsTheLivingFromTheDead) {
  const Watchdog watchdog(20);
  EXPECT_EQ(look_at_pid(0), Verdict::unknown);
  EXPECT_EQ(look_at_pid(static_cast<std::uint32_t>(::getpid())), Verdict::alive);
  Child child = test::sleeper();
  const auto pid = static_cast<std::uint32_t>(child.pid());
  child.stop();
  EXPECT_EQ(look_at_pid(pid), Verdict::alive);
  child.kill_to_zombie();
  EXPECT_EQ(look_at_pid(pid), Verdict::dead);
  child.wait();
  EXPECT_EQ(look_at_pid(pid), Verdict::dead);
}

}  // namespace
}  // namespace slipring

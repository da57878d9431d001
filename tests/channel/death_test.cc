// SPDX-License-Identifier: Apache-2.0
// Who is dead and who is not (T13), what a fork may not do (F5), wakes that get lost, doubled and
// interrupted (T14), and clocks that differ (T15).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "slipring/channel/check.h"
#include "slipring/channel/message_receiver.h"
#include "slipring/channel/message_sender.h"
#include "slipring/channel/reap.h"
#include "slipring/channel/shm.h"
#include "support/child.h"
#include "support/matchers.h"
#include "support/names.h"
#include "support/reliability.h"
#include "support/shared_area.h"
#include "support/watchdog.h"

namespace slipring::channel {
namespace {

using test::Child;
using test::FailsWith;
using test::SharedArea;
using test::Succeeds;
using test::Watchdog;
using namespace std::chrono_literals;

constexpr int kRefused = 77;  // what a child exits with where the machine does not allow it
constexpr std::array<std::byte, 32> kMessage{};

struct SharedRole {
  SharedWord<std::uint64_t> word;
  SharedToken token;
};

/// A role in shared memory, and children that hold it.
class Death : public testing::Test {
 protected:
  [[nodiscard]] RoleRef role() const {
    return {area_.as<SharedRole>().word, area_.as<SharedRole>().token};
  }
  [[nodiscard]] Child holder() const {
    return test::sleeper_after([this] {
      if (!take_role(role())) ::_exit(1);
    });
  }
  [[nodiscard]] ProcessToken token() const { return load_token(role().token).value(); }

  const SharedArea area_{sizeof(SharedRole)};
  const Watchdog watchdog_{300, "death"};
};

/// Runs `body` in a child of its own and skips the test where the machine refuses.
template <typename Body>
void in_child(Body&& body) {
  Child child(std::forward<Body>(body));
  const test::Ending end = child.wait();
  if (end.exited_with(kRefused)) GTEST_SKIP() << "needs root, or a kernel that allows it";
  EXPECT_TRUE(end.exited_with(0)) << testing::PrintToString(end);
}

/// New pid and mount namespaces with their own /proc; `body` runs as their first process.
template <typename Body>
int in_own_namespaces(Body&& body) {
  if (::unshare(CLONE_NEWPID | CLONE_NEWNS) != 0) return kRefused;
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return kRefused;
  const pid_t first = ::fork();  // no Child: in there its parent has no number
  if (first == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const bool is_mine = ::mount("proc", "/proc", "proc", 0, nullptr) == 0;
    ::_exit(is_mine ? body() : kRefused);
  }
  int status = 0;
  if (first < 0 || retry_eintr([&] { return ::waitpid(first, &status, 0); }) != first) return 1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

// ------------------------------------------------------------------------------------------- T13

TEST_F(Death, TenThousandStopsMakeNobodyDead) {
  constexpr int kStops = 10'000;
  const Child child = holder();
  RoleWatch watch;
  PeerWatch held(token());
  std::uint64_t false_dead = 0;
  for (int i = 0; i < kStops; ++i) {
    child.stop();
    false_dead += watch.look(role()) != RoleWatch::Peer::alive;
    false_dead += held.look() != Verdict::alive;
    false_dead += PeerWatch(token()).look() != Verdict::alive;
    child.resume();
    siginfo_t info{};
    retry_eintr([&] { return ::waitid(P_PID, static_cast<id_t>(child.pid()), &info, WCONTINUED); });
  }
  EXPECT_EQ(false_dead, 0u);
  EXPECT_THAT(take_role(role()), FailsWith(Errc::in_use));
  test::Reliability("T13", "stops").add("stops", kStops).add("false_dead", false_dead);
}

TEST_F(Death, WhoIsTracedIsAlive) {
  const Child child = holder();
  if (::ptrace(PTRACE_SEIZE, child.pid(), nullptr, nullptr) != 0) GTEST_SKIP() << "no ptrace here";
  ASSERT_EQ(::ptrace(PTRACE_INTERRUPT, child.pid(), nullptr, nullptr), 0);
  siginfo_t info{};
  retry_eintr(
      [&] { return ::waitid(P_PID, static_cast<id_t>(child.pid()), &info, WSTOPPED | WNOWAIT); });
  EXPECT_EQ(PeerWatch(token()).look(), Verdict::alive);
  EXPECT_THAT(take_role(role()), FailsWith(Errc::in_use));
}

TEST_F(Death, WhoIsFrozenIsAlive) {
  const std::filesystem::path group = "/sys/fs/cgroup/slipring-test-" + std::to_string(::getpid());
  std::error_code error;
  std::filesystem::create_directory(group, error);
  const auto write = [&group](const char* file, const std::string& text) {
    std::ofstream out(group / file);
    out << text << std::flush;
    return out.good();
  };
  Child child = holder();
  const bool is_frozen =
      !error && write("cgroup.procs", std::to_string(child.pid())) && write("cgroup.freeze", "1");
  if (is_frozen) {
    EXPECT_EQ(PeerWatch(token()).look(), Verdict::alive);
    EXPECT_THAT(take_role(role()), FailsWith(Errc::in_use));
    // A kill ends the frozen, too.
    child.kill();
    EXPECT_EQ(PeerWatch(token()).look(), Verdict::dead);
  }
  for (int tries = 0; tries < 100 && ::rmdir(group.c_str()) != 0 && errno == EBUSY; ++tries) {
    ::usleep(1000);
  }
  if (!is_frozen) GTEST_SKIP() << "no control group to freeze";
}

/// fork() that gives the child a number of our choice; -1 where that is not allowed.
pid_t fork_as(pid_t number) {
  clone_args args{};
  args.exit_signal = SIGCHLD;
  args.set_tid = reinterpret_cast<std::uintptr_t>(&number);
  args.set_tid_size = 1;
  return static_cast<pid_t>(::syscall(SYS_clone3, &args, sizeof args));
}

TEST_F(Death, AThousandReusedNumbersBringNobodyBackAndKillNobody) {
  struct Counts {
    std::uint64_t reuses, false_dead, false_alive, without_inode_alive;
    SharedToken first, second;
  };
  const SharedArea area(sizeof(Counts));
  auto& counts = area.as<Counts>();
  const auto reuse = [&] {
    constexpr pid_t kNumber = 300;
    const auto born = [&](SharedToken& token) {
      const test::ProcessEvent ready;
      const pid_t child = fork_as(kNumber);
      if (child == 0) {
        store_token(token, self_token());
        ready.raise();
        for (;;) ::pause();
      }
      if (child < 0 || !ready.wait()) ::_exit(kRefused);
    };
    const auto kill = [] {
      ::kill(kNumber, SIGKILL);
      retry_eintr([] { return ::waitpid(kNumber, nullptr, 0); });
    };
    for (int i = 0; i < 1000; ++i) {
      born(counts.first);
      const ProcessToken dead = load_token(counts.first).value();
      PeerWatch held(dead);
      counts.false_dead += held.look() != Verdict::alive;
      kill();
      born(counts.second);
      counts.false_dead += PeerWatch(load_token(counts.second).value()).look() != Verdict::alive;
      counts.false_alive += held.look() != Verdict::dead;
      if (dead.pidfd_ino != 0) counts.false_alive += PeerWatch(dead).look() != Verdict::dead;
      // Start times are counted in ticks of 10 ms: here an impostor may pass, until it ends.
      ProcessToken without = dead;
      without.pidfd_ino = 0;
      counts.without_inode_alive += PeerWatch(without).look() == Verdict::alive;
      kill();
      counts.false_alive += PeerWatch(without).look() != Verdict::dead;
      ++counts.reuses;
    }
    return 0;
  };
  in_child([&] { return in_own_namespaces(reuse); });
  if (IsSkipped()) return;
  EXPECT_EQ(counts.false_dead, 0u);
  EXPECT_EQ(counts.false_alive, 0u);
  test::Reliability("T13", "reuses")
      .add("reuses", counts.reuses)
      .add("false_dead", counts.false_dead)
      .add("false_alive", counts.false_alive)
      .add("alive_by_start_time_alone", counts.without_inode_alive);
}

TEST_F(Death, AThreadThatEndedIsDeadWhileItsProcessLives) {
  ProcessToken ended;
  std::thread([&] { ended = self_thread_token(); }).join();
  EXPECT_EQ(PeerWatch(ended).look(), Verdict::dead);
  const ProcessToken mine = self_thread_token();
  EXPECT_EQ(PeerWatch(mine).look(), Verdict::alive);
  EXPECT_NE(mine.thread_start, 0u);

  PeerWatch watch{ProcessToken{}};
  test::ProcessEvent go;
  test::ProcessEvent ready;
  std::thread thread([&] {
    watch = PeerWatch(self_thread_token());
    ready.raise();
    static_cast<void>(go.wait());
  });
  ASSERT_TRUE(ready.wait());
  EXPECT_EQ(watch.look(), Verdict::alive);
  EXPECT_EQ(watch.look(), Verdict::alive);
  go.raise();
  thread.join();
  while (watch.look() != Verdict::dead) ::usleep(100);  // join returns a little before the end
}

TEST_F(Death, ARoleOfAThreadIsFreeWhenTheThreadEnds) {
  std::thread([&] { EXPECT_THAT(take_role(role(), self_thread_token()), Succeeds()); }).join();
  RoleWatch watch;
  while (watch.look(role()) != RoleWatch::Peer::dead) ::usleep(100);
  const auto taken = take_role(role());
  ASSERT_THAT(taken, Succeeds());
  EXPECT_EQ(taken->before, RoleWord::State::held);
}

TEST_F(Death, ALeaderThatEndsLeavesItsOwnRolesAndNoneOfTheProcess) {
  const SharedArea thread_role(sizeof(SharedRole));
  auto& of_thread = thread_role.as<SharedRole>();
  test::ProcessEvent ready;
  Child child([&] {
    if (!take_role(role()) || !take_role({of_thread.word, of_thread.token}, self_thread_token())) {
      return 1;
    }
    std::thread([&] {
      ready.raise();
      for (;;) ::pause();
    }).detach();
    ::syscall(SYS_exit, 0);  // this thread alone
    return 0;
  });
  ASSERT_TRUE(ready.wait());
  RoleWatch watch;
  while (watch.look({of_thread.word, of_thread.token}) != RoleWatch::Peer::dead) ::usleep(100);
  EXPECT_THAT(take_role(role()), FailsWith(Errc::in_use));
  child.kill();
  EXPECT_THAT(take_role(role()), Succeeds());
}

TEST_F(Death, WhoExecsLivesUntilThatProgramEnds) {
  Child child([&] {
    if (!take_role(role())) return 1;
    ::execlp("sleep", "sleep", "1000", nullptr);
    return kRefused;
  });
  while (command_of(static_cast<std::uint32_t>(child.pid())) != "sleep") ::usleep(1000);
  EXPECT_EQ(PeerWatch(token()).look(), Verdict::alive);
  EXPECT_THAT(take_role(role()), FailsWith(Errc::in_use));
  child.kill();
  EXPECT_THAT(take_role(role()), Succeeds());
}

TEST_F(Death, FromAnotherPidNamespaceNobodyIsProvedDead) {
  Child child = holder();
  const ProcessToken outer = token();
  in_child([&] {
    return in_own_namespaces([&] {
      if (PeerWatch(outer).look() != Verdict::unknown) return 1;
      child.signal(SIGKILL);  // does not reach it: the number means nobody, or another, here
      return take_role(role()) ? 2 : 0;
    });
  });
  if (IsSkipped()) return;
  child.kill();
  in_child([&] {
    return in_own_namespaces([&] { return PeerWatch(outer).look() == Verdict::unknown ? 0 : 1; });
  });
  EXPECT_EQ(PeerWatch(outer).look(), Verdict::dead);
}

TEST_F(Death, AHiddenProcHidesTheLivingAndMakesNobodyDead) {
  Child child = holder();
  const ProcessToken theirs = token();
  const auto look_with = [&](const char* options, bool nobody) {
    return [=] {
      if (::unshare(CLONE_NEWNS) != 0) return kRefused;
      if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return kRefused;
      const int mounted = options != nullptr ? ::mount("proc", "/proc", "proc", 0, options)
                                             : ::mount("none", "/proc", "tmpfs", 0, nullptr);
      if (mounted != 0) return kRefused;
      if (nobody && (::setgid(65534) != 0 || ::setuid(65534) != 0)) return kRefused;
      Child looker([&] { return static_cast<int>(PeerWatch(theirs).look()); });
      return WEXITSTATUS(looker.wait().status) + 10;
    };
  };
  const auto verdict_of = [](auto&& body) {
    Child looker(body);
    return WEXITSTATUS(looker.wait().status);
  };
  const int hidden = verdict_of(look_with("hidepid=2", true));
  const int none = verdict_of(look_with(nullptr, false));
  if (hidden == kRefused || none == kRefused) GTEST_SKIP() << "cannot mount another /proc";
  EXPECT_EQ(hidden, 10 + static_cast<int>(Verdict::alive));
  EXPECT_EQ(none, 10 + static_cast<int>(Verdict::unknown));
  child.kill();
  EXPECT_EQ(verdict_of(look_with("hidepid=2", true)), 10 + static_cast<int>(Verdict::dead));
  EXPECT_EQ(verdict_of(look_with(nullptr, false)), 10 + static_cast<int>(Verdict::unknown));
}

// -------------------------------------------------------------------------------------------- F5

class Fork : public testing::TestWithParam<RingForm> {
 protected:
  [[nodiscard]] ShmOptions options() const {
    ShmOptions options;
    options.form = GetParam();
    options.capacity = 64 << 10;
    options.senders = 4;
    options.pool = pool::PoolSpec{}.with(16 << 10, 4);
    return options;
  }
  template <typename T>
  [[nodiscard]] static bool is_refused(const Result<T>& result) {
    return !result && result.error().code == Errc::invalid_argument;
  }
  const Watchdog watchdog_{120, "fork"};
  const std::string name_ = test::unique_name("fork");
};

TEST_P(Fork, AChildCanNeitherUseNorBreakItsParentsEndpoints) {
  auto rx = ShmReceiver::create(name_, options());
  ASSERT_THAT(rx, Succeeds());
  auto tx = ShmSender::open(name_, options());
  ASSERT_THAT(tx, Succeeds());
  ASSERT_THAT(tx->send(kMessage), Succeeds());
  ASSERT_THAT(tx->send(kMessage), Succeeds());
  std::array<ring::Record, 8> all;
  EXPECT_THAT(rx->peek_many(all), Succeeds());  // and the ring is empty behind them
  auto in_hand = rx->try_peek();
  ASSERT_THAT(in_hand, Succeeds());
  auto open = tx->try_claim(100);
  ASSERT_THAT(open, Succeeds());

  Child child([&] {
    open->commit();
    in_hand->release();
    std::array<ring::Record, 4> batch;
    const std::array<ShmReceiver*, 1> any{&*rx};
    int refused = 0;
    refused += is_refused(tx->try_claim(16)) + is_refused(tx->claim(16, Deadline::in(1s)));
    refused += is_refused(tx->try_send(kMessage)) + is_refused(tx->send(kMessage));
    refused += is_refused(tx->group()) + is_refused(tx->wait_for_room(16, false, Deadline::in(1s)));
    refused += is_refused(rx->try_peek()) + is_refused(rx->peek(Deadline::in(1s)));
    refused += is_refused(rx->peek_many(batch)) + is_refused(wait_any(any, Deadline::in(1s)));
    tx->flush();
    rx->release(batch[0]);
    const bool is_known = tx->is_of_the_parent() && rx->is_of_the_parent();
    tx->close();
    rx->close();
    // It attaches for itself, where there is a place.
    auto own = ShmSender::open(name_, options());
    const bool is_lane = GetParam() == RingForm::lane;
    const bool own_fits = is_lane ? !own : own && own->send(kMessage);
    return refused == 10 && is_known && own_fits ? 0 : 1;
  });
  EXPECT_TRUE(child.wait().exited_with(0));

  open->abort();
  in_hand->release();
  EXPECT_THAT(tx->send(kMessage), Succeeds());
  const std::uint64_t sent = GetParam() == RingForm::lane ? 2 : 3;
  for (std::uint64_t i = 0; i < sent; ++i)
    EXPECT_THAT(rx->peek(Deadline::in(20s)), Succeeds()) << i;
  EXPECT_THAT(rx->try_peek(), FailsWith(Errc::empty));
  const auto found = check(rx->link().segment());
  ASSERT_THAT(found, Succeeds());
  EXPECT_TRUE(found->is_sound());
}

TEST_P(Fork, AChildTakesNoBlockAndGivesNoneBack) {
  auto rx = MessageReceiver::open_or_create(name_, options(), {});
  ASSERT_THAT(rx, Succeeds());
  auto tx = MessageSender::open(name_, options(), {});
  ASSERT_THAT(tx, Succeeds());
  auto claim = tx->claim(10'000);
  ASSERT_THAT(claim, Succeeds());
  const auto claimed = [&] {
    return pool::audit(tx->ring().link().body().pool()).value().total.claimed;
  };
  EXPECT_EQ(claimed(), 1u);
  Child child([&] {
    const bool refused = is_refused(tx->claim(10'000)) && is_refused(claim->commit(10)) &&
                         !tx->send(std::array<std::byte, 12'000>{});
    return refused ? 0 : 1;
  });
  EXPECT_TRUE(child.wait().exited_with(0));
  EXPECT_EQ(claimed(), 1u);
  EXPECT_THAT(claim->commit(10'000), Succeeds());
  EXPECT_THAT(rx->peek(Deadline::in(20s)), Succeeds());  // unread, it would keep the name
}

TEST_P(Fork, WhoSpawnsAProgramKeepsItsEndpoints) {
  auto rx = ShmReceiver::create(name_, options());
  ASSERT_THAT(rx, Succeeds());
  auto tx = ShmSender::open(name_, options());
  ASSERT_THAT(tx, Succeeds());
  const char* const args[] = {"true", nullptr};
  pid_t pid = -1;
  ASSERT_EQ(::posix_spawnp(&pid, "true", nullptr, nullptr, const_cast<char* const*>(args), environ),
            0);
  int status = 1;
  retry_eintr([&] { return ::waitpid(pid, &status, 0); });
  EXPECT_EQ(status, 0);
  EXPECT_THAT(tx->send(kMessage), Succeeds());
  EXPECT_THAT(rx->peek(Deadline::in(20s)), Succeeds());
}

TEST_P(Fork, WhoDaemonisesAfterwardsIsRefusedAndItsPlaceIsThatOfTheDead) {
  const SharedArea area(sizeof(std::uint64_t));
  auto rx = ShmReceiver::create(name_, options());
  ASSERT_THAT(rx, Succeeds());
  test::ProcessEvent done;
  Child child([&] {
    auto tx = ShmSender::open(name_, options());
    if (!tx || !tx->send(kMessage)) return 1;
    if (::fork() != 0) ::_exit(0);  // as daemon() does
    ::setsid();
    area.as<std::uint64_t>() = is_refused(tx->try_send(kMessage)) ? 1 : 2;
    done.raise();
    ::_exit(0);
  });
  EXPECT_TRUE(child.wait().exited_with(0));
  ASSERT_TRUE(done.wait());
  EXPECT_EQ(area.as<std::uint64_t>(), 1u);
  EXPECT_THAT(rx->peek(Deadline::in(20s)), Succeeds());
  EXPECT_THAT(rx->peek(Deadline::in(20s)), FailsWith(Errc::peer_dead));
}

// F4: the process lives on, and so would an endpoint that is its own.
TEST_P(Fork, AnEndpointOfAThreadEndsWithTheThread) {
  ShmOptions of_thread = options();
  of_thread.of_thread = true;
  auto rx = ShmReceiver::create(name_, options());
  ASSERT_THAT(rx, Succeeds());
  std::optional<ShmSender> left;
  std::thread([&] {
    left.emplace(ShmSender::open(name_, of_thread).value());
    EXPECT_THAT(left->send(kMessage), Succeeds());
    EXPECT_EQ(rx->look_at_sender(), RoleWatch::Peer::alive);
  }).join();
  EXPECT_THAT(rx->peek(Deadline::in(20s)), Succeeds());
  EXPECT_THAT(rx->peek(Deadline::in(20s)), FailsWith(Errc::peer_dead));
  auto heir = ShmSender::open(name_, options());
  ASSERT_THAT(heir, Succeeds());
  left.reset();  // by another thread: the place is the heir's by now
  EXPECT_THAT(heir->send(kMessage), Succeeds());
  EXPECT_EQ(rx->look_at_sender(), RoleWatch::Peer::alive);
  EXPECT_THAT(rx->peek(Deadline::in(20s)), Succeeds());  // unread, it would keep the name
}

INSTANTIATE_TEST_SUITE_P(Forms, Fork,
                         testing::Values(RingForm::lane, RingForm::per_producer, RingForm::total),
                         [](const auto& form) { return std::string(to_string(form.param)); });

// ------------------------------------------------------------------------------------- T14 and T15

class Wakes : public testing::TestWithParam<RingForm> {
 protected:
  [[nodiscard]] ShmOptions options() const {
    ShmOptions options;
    options.form = GetParam();
    options.capacity = 4 << 10;  // so that senders sleep for room, too
    options.senders = 4;
    options.wait = wait::WaitStrategy::park();
    return options;
  }
  /// Sends `count` records, a nap between some, after `prepare`.
  template <typename Prepare>
  [[nodiscard]] Child sender(std::uint64_t count, Prepare prepare) const {
    return Child([=, this] {
      auto tx = ShmSender::open(name_, options());
      if (!tx) return 1;
      if (!prepare()) return kRefused;
      for (std::uint64_t i = 0; i < count; ++i) {
        if (i % 4 == 0) ::usleep(2000);  // so that the receiver sleeps
        if (!tx->send(std::as_bytes(std::span(&i, 1)), Deadline::in(60s))) return 2;
      }
      return 0;
    });
  }
  /// Receives that many, in order. Returns the longest gap between two of them.
  static std::int64_t receive(ShmReceiver& rx, std::uint64_t count) {
    std::int64_t longest_ns = 0, last_ns = monotonic_ns();
    for (std::uint64_t i = 0; i < count && !HasFailure(); ++i) {
      const auto message = rx.peek(Deadline::in(60s));
      EXPECT_TRUE(message.has_value()) << i;
      if (!message) break;
      std::uint64_t number = 0;
      std::memcpy(&number, message->bytes().data(), sizeof number);
      EXPECT_EQ(number, i);
      const std::int64_t now_ns = monotonic_ns();
      longest_ns = std::max(longest_ns, now_ns - last_ns);
      last_ns = now_ns;
    }
    return longest_ns;
  }
  void tell(const std::string& of, std::uint64_t count, std::int64_t longest_ns) const {
    test::Reliability("T14", of + "_" + std::string(to_string(GetParam())))
        .add("messages", count)
        .add("lost", HasFailure() ? 1 : 0)
        .add("longest_gap_us", static_cast<std::uint64_t>(longest_ns / 1000));
  }
  const Watchdog watchdog_{120, "wakes"};
  const std::string name_ = test::unique_name("wakes");
};

// Every FUTEX_WAKE of this process is answered with 0 and does nothing.
bool drop_all_wakes() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 0, 4),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[1])),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, static_cast<unsigned>(FUTEX_CMD_MASK)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FUTEX_WAKE, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(code), code};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST_P(Wakes, DroppedCostABoundedParkEachAndNoMessage) {
  constexpr std::uint64_t kCount = 24;
  auto rx = ShmReceiver::create(name_, options());
  ASSERT_THAT(rx, Succeeds());
  Child child = sender(kCount, drop_all_wakes);
  const std::int64_t longest_ns = receive(*rx, kCount);
  const test::Ending end = child.wait();
  if (end.exited_with(kRefused)) GTEST_SKIP() << "seccomp filters are refused here";
  EXPECT_TRUE(end.exited_with(0)) << testing::PrintToString(end);
  tell("dropped", kCount, longest_ns);
}

TEST_P(Wakes, DoubledAndForNothingLoseAndRepeatNothing) {
  constexpr std::uint64_t kCount = 400;
  auto rx = ShmReceiver::create(name_, options());
  ASSERT_THAT(rx, Succeeds());
  Child child = sender(kCount, [] { return true; });
  const RingBody body = rx->link().body();
  std::atomic<bool> stop = false;
  std::thread ringing([&] {
    while (!stop) {
      EXPECT_TRUE(wait::ring_for_the_dead(body.shape().bell, body.data_bell(0)));
      ::usleep(20);
    }
  });
  const std::int64_t longest_ns = receive(*rx, kCount);
  stop = true;
  ringing.join();
  EXPECT_TRUE(child.wait().exited_with(0));
  tell("doubled", kCount, longest_ns);
}

TEST_P(Wakes, InterruptedTenThousandTimesASecondLoseNothing) {
  constexpr std::uint64_t kCount = 400;
  auto rx = ShmReceiver::create(name_, options());
  ASSERT_THAT(rx, Succeeds());
  Child child = sender(kCount, [] { return true; });
  struct sigaction action {
  }, before{};
  action.sa_handler = [](int) {};  // no SA_RESTART
  ::sigaction(SIGVTALRM, &action, &before);
  timer_t timer{};
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGVTALRM;
  ASSERT_EQ(::timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
  const itimerspec often{{0, 100'000}, {0, 100'000}};
  ::timer_settime(timer, 0, &often, nullptr);
  const std::int64_t longest_ns = receive(*rx, kCount);
  ::timer_delete(timer);
  ::sigaction(SIGVTALRM, &before, nullptr);
  EXPECT_TRUE(child.wait().exited_with(0));
  tell("interrupted", kCount, longest_ns);
}

// Its CLOCK_MONOTONIC is a day ahead of ours, and so are its start times.
TEST_P(Wakes, APeerInAnotherTimeNamespaceIsHeardAndIsProvedDead) {
  auto rx = ShmReceiver::create(name_, options());
  ASSERT_THAT(rx, Succeeds());
  constexpr std::uint64_t kCount = 50;
  test::ProcessEvent sent;
  Child outer([&] {
    if (::unshare(CLONE_NEWTIME) != 0) return kRefused;
    std::ofstream offsets("/proc/self/timens_offsets");
    offsets << "monotonic 86400 0\nboottime 86400 0\n" << std::flush;
    if (!offsets.good()) return kRefused;
    offsets.close();
    Child inner = sender(kCount, [] { return true; });
    const test::Ending end = inner.wait();
    if (!end.exited_with(0)) return 1;
    Child killed =
        test::sleeper_after([&] { new ShmSender(ShmSender::open(name_, options()).value()); });
    sent.raise();
    killed.kill();
    return 0;
  });
  if (!sent.wait(2000)) {
    const test::Ending end = outer.wait();
    if (end.exited_with(kRefused)) GTEST_SKIP() << "no time namespaces here";
    FAIL() << testing::PrintToString(end);
  }
  receive(*rx, kCount);
  EXPECT_TRUE(outer.wait().exited_with(0));
  const auto end = rx->peek(Deadline::in(20s));
  EXPECT_THAT(end, FailsWith(Errc::peer_dead));
  test::Reliability("T15", "time_namespace_" + std::string(to_string(GetParam())))
      .add("offset_s", 86400)
      .add("messages", kCount)
      .add("lost", HasFailure() ? 1 : 0);
}

INSTANTIATE_TEST_SUITE_P(Forms, Wakes,
                         testing::Values(RingForm::lane, RingForm::per_producer, RingForm::total),
                         [](const auto& form) { return std::string(to_string(form.param)); });

}  // namespace
}  // namespace slipring::channel

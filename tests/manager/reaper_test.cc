// SPDX-License-Identifier: Apache-2.0
// The thread that waits for deaths, and how long a death takes to be over (T12).
#include "slipring/manager/reaper.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <array>
#include <fstream>
#include <random>
#include <string>
#include <thread>

#include "slipring/channel/check.h"
#include "slipring/channel/message_sender.h"
#include "slipring/channel/reap.h"
#include "slipring/channel/shm.h"
#include "support/child.h"
#include "support/matchers.h"
#include "support/names.h"
#include "support/reliability.h"
#include "support/watchdog.h"

namespace slipring::manager {
namespace {

using channel::RingForm;
using channel::ShmOptions;
using channel::ShmReceiver;
using channel::ShmSender;
using test::Child;
using test::FailsWith;
using test::Succeeds;
using test::Watchdog;
using namespace std::chrono_literals;

constexpr std::array<std::byte, 16> kMessage{};

ShmOptions options_of(RingForm form) {
  ShmOptions options;
  options.form = form;
  options.capacity = 64 << 10;
  options.senders = 8;
  options.wait = wait::WaitStrategy::park();
  return options;
}

class ReaperTest : public testing::Test {
 protected:
  /// A sender with a claim open, beside `bytes` of memory of its own.
  [[nodiscard]] Child claimer(std::size_t bytes = 0, bool small_pages = true) const {
    return test::sleeper_after([=, this] {
      if (bytes != 0) {
        void* memory =
            ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) std::abort();
        ::madvise(memory, bytes, small_pages ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
        for (std::size_t at = 0; at < bytes; at += 4096) static_cast<char*>(memory)[at] = 1;
      }
      auto* tx = new ShmSender(ShmSender::open(name_, options_of(RingForm::total)).value());
      auto* claim = new channel::ShmClaim(tx->try_claim(64).value());
      claim->payload()[0] = std::byte{1};
    });
  }
  const std::string name_ = test::unique_name("reaper");
};

TEST_F(ReaperTest, WakesTheReceiverBehindARecordThatTheDeadDidNotFinish) {
  const Watchdog watchdog(60, "reaper: receiver");
  auto rx = ShmReceiver::create(name_, options_of(RingForm::total));
  ASSERT_THAT(rx, Succeeds());
  auto tx = ShmSender::open(name_, options_of(RingForm::total));
  ASSERT_THAT(tx, Succeeds());
  auto reaper = Reaper::start();
  ASSERT_THAT(reaper, Succeeds());
  ASSERT_THAT(reaper->watch(name_), Succeeds());
  Child victim = claimer();
  ASSERT_THAT(tx->send(kMessage), Succeeds());
  EXPECT_THAT(rx->try_peek(), FailsWith(Errc::empty));
  std::thread killer([&victim] {
    ::usleep(20'000);
    victim.kill_to_zombie();
  });
  EXPECT_THAT(rx->peek(Deadline::in(20s)), Succeeds());
  killer.join();
  // Told of when there is nothing else to do.
  while (!rx->next_departed()) static_cast<void>(rx->peek(Deadline::in(1ms)));
  // The receiver's own look may have been faster to it; the thread finds the place free then.
  EXPECT_LE(reaper->counters().claims, 1u);
}

TEST_F(ReaperTest, WakesASenderThatWaitsForADeadReceiver) {
  const Watchdog watchdog(60, "reaper: sender");
  for (const RingForm form : {RingForm::lane, RingForm::per_producer, RingForm::total}) {
    auto tx = ShmSender::create(name_, options_of(form));
    ASSERT_THAT(tx, Succeeds());
    auto reaper = Reaper::start();
    ASSERT_THAT(reaper, Succeeds());
    ASSERT_THAT(reaper->watch(name_), Succeeds());
    Child receiver = test::sleeper_after(
        [&] { new ShmReceiver(ShmReceiver::open(name_, options_of(form)).value()); });
    while (tx->try_send(kMessage)) {
    }
    std::thread killer([&receiver] {
      ::usleep(20'000);
      receiver.kill_to_zombie();
    });
    EXPECT_THAT(tx->send(kMessage, Deadline::in(20s)), FailsWith(Errc::peer_dead));
    killer.join();
    while (reaper->counters().deaths == 0) ::usleep(1000);
    EXPECT_GE(reaper->counters().rung, 1u);
    // The dead one's unread records would keep the name; nobody wants them here.
    auto heir = ShmReceiver::open(name_, options_of(form));
    ASSERT_THAT(heir, Succeeds());
    while (auto message = heir->try_peek()) {
    }
    tx->close();
    heir->close();
  }
}

TEST_F(ReaperTest, BringsBackTheBlocksOfTheDead) {
  const Watchdog watchdog(60, "reaper: blocks");
  ShmOptions options = options_of(RingForm::per_producer);
  options.pool = pool::PoolSpec{}.with(16 << 10, 4);
  auto rx = ShmReceiver::create(name_, options);
  ASSERT_THAT(rx, Succeeds());
  auto reaper = Reaper::start();
  ASSERT_THAT(reaper, Succeeds());
  ASSERT_THAT(reaper->watch(name_), Succeeds());
  Child victim = test::sleeper_after([&] {
    auto* tx = new channel::MessageSender(channel::MessageSender::open(name_, options, {}).value());
    new channel::MessageClaim(tx->claim(10'000).value());
  });
  const auto blocks = [&] { return pool::audit(rx->link().body().pool()).value().total; };
  EXPECT_EQ(blocks().claimed, 1u);
  victim.stop();
  ::usleep(50'000);
  EXPECT_EQ(blocks().claimed, 1u) << "taken from a stopped process";
  victim.kill();
  while (blocks().claimed != 0) ::usleep(1000);
  EXPECT_EQ(blocks().free, 4u);
  EXPECT_EQ(channel::check(rx->link().segment()).value().violations, 0u);
}

TEST_F(ReaperTest, TakesNobodyStoppedForDead) {
  const Watchdog watchdog(60, "reaper: stops");
  auto rx = ShmReceiver::create(name_, options_of(RingForm::total));
  ASSERT_THAT(rx, Succeeds());
  auto reaper = Reaper::start(1ms);
  ASSERT_THAT(reaper, Succeeds());
  ASSERT_THAT(reaper->watch(name_), Succeeds());
  Child victim = claimer();
  while (reaper->counters().watched < 2) ::usleep(1000);
  for (int i = 0; i < 50; ++i) {
    victim.stop();
    ::usleep(2000);
    victim.resume();
  }
  EXPECT_EQ(reaper->counters().deaths, 0u);
  victim.kill();
  while (reaper->counters().deaths == 0) ::usleep(1000);
  EXPECT_GE(reaper->counters().recovered_ns, reaper->counters().reported_ns);
}

TEST_F(ReaperTest, FindsWhoCameAndWasKilledBetweenTwoLooks) {
  const Watchdog watchdog(60, "reaper: between looks");
  auto rx = ShmReceiver::create(name_, options_of(RingForm::total));
  ASSERT_THAT(rx, Succeeds());
  auto reaper = Reaper::start(200ms);
  ASSERT_THAT(reaper, Succeeds());
  ASSERT_THAT(reaper->watch(name_), Succeeds());
  while (reaper->counters().watched == 0) ::usleep(1000);
  claimer().kill();
  while (reaper->counters().claims == 0) ::usleep(1000);
}

TEST_F(ReaperTest, ForgetsARingThatIsGone) {
  const Watchdog watchdog(60, "reaper: forgets");
  auto reaper = Reaper::start(5ms);
  ASSERT_THAT(reaper, Succeeds());
  EXPECT_THAT(reaper->watch(name_), FailsWith(Errc::not_found));
  EXPECT_THAT(reaper->watch("a/b"), FailsWith(Errc::invalid_argument));
  EXPECT_THAT(Reaper::start(0ms), FailsWith(Errc::invalid_argument));
  auto rx = ShmReceiver::create(name_, options_of(RingForm::total));
  ASSERT_THAT(rx, Succeeds());
  ASSERT_THAT(reaper->watch(name_), Succeeds());
  EXPECT_EQ(reaper->rings(), 1u);
  rx->close();
  while (reaper->rings() != 0) ::usleep(1000);
}

TEST_F(ReaperTest, InAForkedChildDoesNothing) {
  const Watchdog watchdog(60, "reaper: fork");
  auto reaper = Reaper::start();
  ASSERT_THAT(reaper, Succeeds());
  Child child([&] {
    const bool is_refused = !reaper->watch(name_) && reaper->rings() == 0;
    Reaper moved(std::move(*reaper));  // and is destroyed
    return is_refused ? 0 : 1;
  });
  EXPECT_TRUE(child.wait().exited_with(0));
  EXPECT_EQ(reaper->rings(), 0u);
}

// ------------------------------------------------------------------------------------------- T12

struct Deaths {
  std::vector<std::int64_t> to_report, to_usable, after_report;
};

// The record behind the dead one's claim is what becomes usable. `patience` spreads the kill over a
// receiver's park, so that its own looks find it at any moment of one.
Deaths measure(const std::string& name, const std::function<Child()>& make_victim, int victims,
               bool is_watched, std::chrono::microseconds patience) {
  Deaths deaths;
  auto rx = ShmReceiver::create(name, options_of(RingForm::total));
  auto tx = ShmSender::open(name, options_of(RingForm::total));
  EXPECT_TRUE(rx && tx);
  std::optional<Reaper> reaper;
  if (is_watched) {
    reaper.emplace(std::move(Reaper::start().value()));
    EXPECT_TRUE(reaper->watch(name));
  }
  std::mt19937 rng(7);
  for (int i = 0; i < victims && !testing::Test::HasFailure(); ++i) {
    Child victim = make_victim();
    EXPECT_TRUE(tx->send(kMessage));
    EXPECT_THAT(rx->try_peek(), FailsWith(Errc::empty));
    while (reaper && reaper->counters().watched < 3) ::usleep(200);
    const UniqueFd pidfd{static_cast<int>(::syscall(SYS_pidfd_open, victim.pid(), 0))};
    std::int64_t killed_ns = 0, reported_ns = 0;
    const auto wait_us =
        3000 + static_cast<useconds_t>(
                   rng() % static_cast<unsigned>(std::max<std::int64_t>(patience.count(), 1)));
    std::thread killer([&] {
      ::usleep(wait_us);
      pollfd poll{pidfd.get(), POLLIN, 0};
      killed_ns = monotonic_ns();
      victim.signal(SIGKILL);
      retry_eintr([&] { return ::poll(&poll, 1, -1); });
      reported_ns = monotonic_ns();
    });
    const auto message = rx->peek(Deadline::in(30s));
    const std::int64_t usable_ns = monotonic_ns();
    EXPECT_TRUE(message.has_value());
    killer.join();
    deaths.to_report.push_back(reported_ns - killed_ns);
    deaths.to_usable.push_back(usable_ns - killed_ns);
    // Two CPUs, three who wake at once: our own look at the clock may be the last of them.
    deaths.after_report.push_back(std::max<std::int64_t>(usable_ns - reported_ns, 0));
    victim.wait();
    while (rx->next_departed()) {
    }
  }
  return deaths;
}

void tell(const std::string& of, const Deaths& deaths, std::uint64_t mib) {
  test::Reliability line("T12", of);
  const auto us = [](std::int64_t ns) { return static_cast<std::uint64_t>(ns / 1000); };
  line.add("victims", deaths.to_usable.size()).add("victim_mib", mib);
  line.add("kill_to_report_p50_us", us(test::quantile(deaths.to_report, 0.5)));
  line.add("kill_to_usable_p50_us", us(test::quantile(deaths.to_usable, 0.5)));
  line.add("kill_to_usable_max_us", us(test::quantile(deaths.to_usable, 1)));
  line.add("report_to_usable_p50_us", us(test::quantile(deaths.after_report, 0.5)));
  if (deaths.to_usable.size() < 1000) return;
  line.add("kill_to_usable_p999_us", us(test::quantile(deaths.to_usable, 0.999)));
  line.add("report_to_usable_p999_us", us(test::quantile(deaths.after_report, 0.999)));
}

std::uint64_t available_mib() {
  std::ifstream meminfo("/proc/meminfo");
  std::string key, line;
  std::uint64_t kib = 0;
  while (meminfo >> key >> kib && std::getline(meminfo, line)) {
    if (key == "MemAvailable:") return kib / 1024;
  }
  return 0;
}

TEST_F(ReaperTest, EveryDeathIsOverSoonAfterTheKernelReportsIt) {
  const Watchdog watchdog(1500, "death to usable");
  struct Size {
    std::uint64_t mib;
    bool small_pages;
    int push, nightly;
  };
  for (const Size size : {Size{1, true, 50, 1000},
                          {4, true, 50, 1000},
                          {16, true, 50, 1000},
                          {64, true, 20, 1000},
                          {256, true, 0, 100},
                          {1024, true, 0, 20},
                          {16, false, 50, 1000},
                          {64, false, 20, 1000},
                          {1024, false, 0, 20}}) {
    const int victims = test::is_nightly() ? size.nightly : size.push;
    if (victims == 0 || available_mib() < 2 * size.mib + 256) continue;
    const auto make = [&] { return claimer(size.mib << 20, size.small_pages); };
    const Deaths watched = measure(name_, make, victims, true, 1ms);
    EXPECT_EQ(watched.to_usable.size(), static_cast<std::size_t>(victims));
    tell((size.small_pages ? "watched_" : "huge_pages_") + std::to_string(size.mib) + "M", watched,
         size.mib);
  }
  const Deaths polled = measure(
      name_, [&] { return claimer(1 << 20); }, test::is_nightly() ? 1000 : 30, false, 50ms);
  tell("polled_1M", polled, 1);
}

}  // namespace
}  // namespace slipring::manager

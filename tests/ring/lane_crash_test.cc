// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <sys/wait.h>

#include <atomic>
#include <functional>

#include "lane_fixture.h"
#include "support/trace_access.h"

// SIGKILL before the k-th access to shared memory, k = 0, 1, ... until the victim outlives k.
namespace slipring::ring {
namespace {

using test::TraceAccess;
using Producer = LaneProducer<TraceAccess>;
using Consumer = LaneConsumer<TraceAccess>;

/// Runs `victim` in a child that kills itself before access `k`. True when it came to its end.
bool run_and_kill_at(std::uint64_t k, const std::function<void()>& victim) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::alarm(20);
    TraceAccess::clear();
    TraceAccess::keeps_trace = false;
    TraceAccess::before_access = [k](std::uint64_t index) {
      if (index == k) ::kill(::getpid(), SIGKILL);
    };
    victim();
    ::_exit(0);
  }
  int status = 0;
  EXPECT_EQ(retry_eintr([&] { return ::waitpid(pid, &status, 0); }), pid);
  const bool outlived = WIFEXITED(status);
  EXPECT_TRUE(outlived ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL) << status;
  return outlived;
}

struct CrashParam {
  std::uint32_t granule;
  std::uint32_t zero_ahead;
  std::uint64_t start;  // offset in the lap where the victim begins
};

std::size_t size_of(std::uint64_t n) { return n * 37 % 150; }

/// Position in its group, or `kSingle`.
constexpr std::uint16_t kSingle = 100;
constexpr std::uint16_t kGroupSize = 3;

void put(Producer& producer, std::size_t claimed, std::uint16_t type) {
  const std::uint64_t n = producer.messages();
  std::vector<std::byte> payload(size_of(n));
  fill_pattern(payload, n);
  const auto claim = producer.try_claim(std::max(claimed, payload.size()));
  if (!claim) return;
  const std::size_t half = payload.size() / 2;  // killed in the middle of the payload, too
  TraceAccess::copy_in(claim->payload.data(), payload.data(), half);
  TraceAccess::copy_in(claim->payload.data() + half, payload.data() + half, payload.size() - half);
  producer.commit(payload.size(), type);
}

class LaneCrash : public testing::TestWithParam<CrashParam> {
 protected:
  [[nodiscard]] static LaneTuning tuning() {
    LaneTuning t;
    t.zero_ahead_bytes = GetParam().zero_ahead;
    return t;
  }
  /// A lane whose second lap has begun: no byte of it is known to be zero.
  [[nodiscard]] static TestLane used_lane() {
    LaneGeometry g = TestLane::small_geometry();
    g.granule = GetParam().granule;
    TestLane lane(Placing::shared, g);
    auto producer = *lane.producer(Predecessor::none, tuning());
    auto consumer = *lane.consumer();
    while (producer.write_pos() < g.capacity + GetParam().start) {
      const auto claim = producer.try_claim(56);
      EXPECT_TRUE(claim);
      fill_pattern(claim->payload, 3);
      producer.commit(56);
      consumer.release(*consumer.try_peek());
    }
    consumer.tell_read();
    producer.tell_write();
    // Counted anew from here: message n is the n-th of the victim.
    auto& p = lane.producer_side();
    auto& c = lane.consumer_side();
    for (auto* word : {&p.messages, &p.bytes, &p.before_messages, &p.before_bytes, &c.messages,
                       &c.before_messages}) {
      Native::store_relaxed(*word, 0);
    }
    return lane;
  }
  static void produce(const TestLane& lane) {
    auto attached = lane.producer<TraceAccess>(Predecessor::dead, tuning());
    if (!attached) ::_exit(3);
    Producer& producer = *attached;
    put(producer, 0, kSingle);
    put(producer, 400, kSingle);  // commits less than it claimed
    if (const auto claim = producer.try_claim(700)) {
      fill_pattern(claim->payload, 9);
      producer.abort();
    }
    for (const bool keep : {false, true}) {
      if (!producer.begin_group()) ::_exit(4);
      for (std::uint16_t i = 0; i < kGroupSize; ++i) put(producer, 0, i);
      keep ? producer.end_group() : producer.abort_group();
    }
    put(producer, 600, kSingle);
    put(producer, 0, kSingle);
    producer.tell_write();
  }
  /// Reads all there is: each record whole, numbered without a gap, each group complete.
  static std::uint64_t expect_whole(LaneConsumer<>& consumer) {
    std::uint16_t in_group = 0;
    while (true) {
      const auto record = consumer.try_peek();
      if (!record) {
        EXPECT_TRUE(fails_with(record, Errc::empty));
        break;
      }
      const std::uint64_t n = record->number - 1;
      EXPECT_EQ(record->payload.size(), size_of(n)) << n;
      EXPECT_TRUE(has_pattern(record->payload, n)) << n;
      EXPECT_EQ(record->type < kGroupSize ? record->type : 0, in_group) << "half a group";
      in_group = record->type < kGroupSize ? static_cast<std::uint16_t>((in_group + 1) % kGroupSize)
                                           : std::uint16_t{0};
      consumer.release(*record);
    }
    EXPECT_EQ(in_group, 0) << "half a group";
    consumer.tell_read();
    return consumer.messages();
  }
};

TEST_P(LaneCrash, EachRecordIsWholeOrAbsentWhereverItsProducerDies) {
  bool outlived = false;
  std::uint64_t k = 0;
  for (; !outlived && !HasFailure(); ++k) {
    SCOPED_TRACE(k);
    TestLane lane = used_lane();
    outlived = run_and_kill_at(k, [&] { produce(lane); });
    run_and_kill_at(k * 5 % 23, [&] { produce(lane); });  // its successor dies, too

    auto successor = lane.producer(Predecessor::dead, tuning());
    ASSERT_TRUE(successor) << successor.error().op;
    auto consumer = lane.consumer(Predecessor::left);
    ASSERT_TRUE(consumer);
    EXPECT_EQ(expect_whole(*consumer), successor->messages());
    EXPECT_EQ(consumer->read_pos(), successor->write_pos());
    std::uint64_t bytes = 0;
    for (std::uint64_t n = 0; n < successor->messages(); ++n) bytes += size_of(n);
    EXPECT_EQ(successor->bytes(), bytes);

    for (int i = 0; i < 100 && !HasFailure(); ++i) {
      std::vector<std::byte> message(size_of(successor->messages()));
      fill_pattern(message, successor->messages());
      ASSERT_TRUE(successor->try_send(message, kSingle));
      ASSERT_EQ(expect_whole(*consumer), successor->messages());
    }
  }
  EXPECT_GT(k, 30u) << "the victim was to die at each of its accesses";
}

TEST_P(LaneCrash, NoRecordIsLostOrUnflaggedWhereverItsConsumerDies) {
  auto* released = static_cast<std::atomic<std::uint64_t>*>(
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(static_cast<void*>(released), MAP_FAILED);
  constexpr std::uint64_t kFirst = 30;
  bool outlived = false;
  std::uint64_t k = 0;
  for (; !outlived && !HasFailure(); ++k) {
    SCOPED_TRACE(k);
    *released = 0;
    TestLane lane = used_lane();
    auto producer = lane.producer(Predecessor::dead, tuning());
    ASSERT_TRUE(producer);
    const auto send = [&] {
      std::vector<std::byte> message(size_of(producer->messages()));
      fill_pattern(message, producer->messages());
      return producer->try_send(message, kSingle).has_value();
    };
    while (producer->messages() < kFirst) ASSERT_TRUE(send());

    outlived = run_and_kill_at(k, [&] {
      auto consumer = lane.consumer<TraceAccess>(Predecessor::dead);
      if (!consumer) ::_exit(3);
      std::vector<Record> records(4);
      for (int i = 0; i < 6; ++i) {
        const auto found = consumer->peek_many(records);
        if (!found) ::_exit(4);
        *released = records[*found - 1].number;
        consumer->release(records[*found - 1]);
      }
      consumer->tell_read();
    });

    auto consumer = lane.consumer(Predecessor::dead);
    ASSERT_TRUE(consumer) << consumer.error().op;
    EXPECT_LE(consumer->messages(), *released) << "a record that nobody saw is lost";
    ASSERT_TRUE(send());
    for (std::uint64_t n = consumer->messages(); n < kFirst; ++n) {
      const auto record = consumer->try_peek();
      ASSERT_TRUE(record);
      EXPECT_EQ(record->number, n + 1);
      EXPECT_TRUE(record->redelivered);
      EXPECT_TRUE(has_pattern(record->payload, n)) << "numbered wrongly";
      EXPECT_EQ(record->payload.size(), size_of(n));
      consumer->release(*record);
    }
    EXPECT_FALSE(consumer->try_peek()->redelivered);
    EXPECT_EQ(expect_whole(*consumer), kFirst + 1);
    for (int i = 0; i < 100; ++i) {
      ASSERT_TRUE(send());
      EXPECT_EQ(expect_whole(*consumer), producer->messages());
    }
  }
  EXPECT_GT(k, 30u);
  ::munmap(released, 4096);
}

std::string crash_param_name(const testing::TestParamInfo<CrashParam>& info) {
  return "granule" + std::to_string(info.param.granule) + "_ahead" +
         std::to_string(info.param.zero_ahead) + "_from" + std::to_string(info.param.start);
}
// The last starts make the victim pad: in its first message, in its group.
INSTANTIATE_TEST_SUITE_P(Starts, LaneCrash,
                         testing::Values(CrashParam{8, 0, 0}, CrashParam{8, 512, 0},
                                         CrashParam{64, 0, 0}, CrashParam{8, 0, 4096 - 64},
                                         CrashParam{16, 512, 4096 - 128},
                                         CrashParam{64, 1024, 4096 - 320},
                                         CrashParam{8, 0, 4096 - 448}),
                         crash_param_name);

}  // namespace
}  // namespace slipring::ring

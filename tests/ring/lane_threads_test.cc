// SPDX-License-Identifier: Apache-2.0
#include <sched.h>
#include <unistd.h>

#include <thread>

#include "lane_fixture.h"

// Both ends at once, in one process: a race detector sees the whole protocol.
namespace slipring::ring {

TEST_P(LaneTest, TwoThreadsExchangeEveryMessageInOrder) {
  ::alarm(60);
  constexpr std::uint64_t kMessages = 20000;
  const auto size_of = [](std::uint64_t n) { return n % 64 == 0 ? n % 1025 : n * 7 % 100; };
  std::thread sender([&] {
    for (std::uint64_t n = 0; n < kMessages;) {
      const bool group = n % 10 == 0 && n + 3 <= kMessages && producer_->begin_group();
      const std::uint64_t last = group ? n + 3 : n + 1;
      const std::uint64_t first = n;
      while (n < last && send(n, size_of(n))) ++n;
      // Without room for all of it, it ends here: to repeat the same group could fail for ever.
      if (group) producer_->end_group();
      if (n == first) ::sched_yield();
    }
  });
  std::vector<Record> records(16);
  std::uint64_t next = 0;
  bool sound = true;
  while (next < kMessages) {
    const auto found = consumer_->peek_many(records);
    if (!found) {
      ASSERT_TRUE(fails_with(found, Errc::empty));
      consumer_->tell_read();
      ::sched_yield();
      continue;
    }
    for (std::size_t i = 0; i < *found; ++i, ++next) {
      sound = sound && records[i].payload.size() == size_of(next) &&
              records[i].type == static_cast<std::uint16_t>(next) &&
              has_pattern(records[i].payload, next);
    }
    consumer_->release(records[*found - 1]);
  }
  sender.join();
  EXPECT_TRUE(sound);
  expect_empty();
  EXPECT_EQ(consumer_->messages(), kMessages);
  ::alarm(0);
}

}  // namespace slipring::ring

// SPDX-License-Identifier: Apache-2.0
#include <random>

#include "support/trace_access.h"
#include "total_fixture.h"

// What an operation touches, access by access.
namespace slipring::ring {
namespace {

using test::AccessKind;
using test::TraceAccess;
using test::TracedAccess;
using Trace = std::vector<TracedAccess>;

class TotalAccess : public testing::Test {
 protected:
  TotalAccess()
      : producer_(*ring_.producer<TraceAccess>()), consumer_(*ring_.consumer<TraceAccess>()) {
    other_.push_back(*ring_.producer());
  }
  [[nodiscard]] bool in_descriptors(const TracedAccess& a) const {
    return a.within(ring_.view().descriptors, ring_.geometry().granules() * 8);
  }
  [[nodiscard]] bool in_data(const TracedAccess& a) const {
    return a.within(ring_.view().data, ring_.geometry().capacity);
  }
  [[nodiscard]] bool in_my_entry(const TracedAccess& a) const {
    return a.within(reinterpret_cast<const std::byte*>(&ring_.owner(producer_.slot().index)),
                    sizeof(TotalOwner));
  }
  template <typename T>
  [[nodiscard]] static bool is(const TracedAccess& a, const SharedWord<T>& word) {
    return a.address == reinterpret_cast<const std::byte*>(&word);
  }

  TestTotal ring_;
  TotalProducer<TraceAccess> producer_;
  TotalConsumer<TraceAccess> consumer_;
  std::vector<TotalProducer<>> other_;
};

TEST_F(TotalAccess, AProducerWritesItsEntryTheDescriptorItClaimsAndTheHintAlone) {
  std::mt19937 random(7);
  const std::vector<std::byte> message(900, std::byte{0xee});
  for (int i = 0; i < 5000; ++i) {
    const std::size_t size = random() % (random() % 4 == 0 ? 900 : 64);
    const Trace trace = TraceAccess::record([&] {
      if (random() % 5 == 0) {
        if (producer_.try_claim(size)) producer_.abort();
      } else {
        (void)producer_.try_send({message.data(), size});
      }
    });
    int swaps = 0, stores_of_descriptors = 0;
    for (const auto& access : trace) {
      if (!access.writes()) {
        EXPECT_FALSE(in_data(access) || in_my_entry(access)) << "reads back what it wrote";
        continue;
      }
      swaps += access.kind == AccessKind::cas;
      stores_of_descriptors += in_descriptors(access) && access.kind == AccessKind::store;
      EXPECT_TRUE(in_descriptors(access) || in_data(access) || in_my_entry(access) ||
                  is(access, ring_.control().claim_hint));
    }
    EXPECT_LE(swaps, 2) << "one for the claim, one for its padding";
    EXPECT_LE(stores_of_descriptors, 1);
    if (random() % 2 == 0) (void)send(other_[0], 1, random() % 100);
    while (random() % 3 != 0) {
      const auto record = consumer_.try_peek();
      if (!record) break;
      consumer_.release(*record);
    }
    if (HasFailure()) return;
  }
  EXPECT_GT(consumer_.read_pos(), 50 * kMinCapacity);
}

// No zeroing, no marking: the lines of a record cross to the consumer and are not sent back dirty.
TEST_F(TotalAccess, AConsumerWritesNeitherDescriptorsNorData) {
  std::mt19937 random(9);
  std::vector<Record> records(8);
  for (int i = 0; i < 5000; ++i) {
    while (random() % 4 != 0 && send(other_[0], 1, random() % 300)) {
    }
    const Trace trace = TraceAccess::record([&] {
      const auto found = consumer_.peek_many({records.data(), 1 + random() % 8});
      if (found) consumer_.release(records[*found - 1]);
      (void)consumer_.has_record();
      if (random() % 4 == 0) consumer_.tell_read();
    });
    for (const auto& access : trace) {
      EXPECT_FALSE(access.writes() && (in_descriptors(access) || in_data(access)));
    }
    if (HasFailure()) return;
  }
}

// The price of a message to a producer that is alone.
TEST_F(TotalAccess, ASendIsTwoLoadsOneSwapAndFewStores) {
  const std::vector<std::byte> message(8, std::byte{0xee});
  ASSERT_THAT(producer_.try_send(message), Succeeds());
  const Trace trace = TraceAccess::record([&] { EXPECT_TRUE(producer_.try_send(message)); });
  ASSERT_EQ(trace.size(), 8u);
  EXPECT_TRUE(is(trace[0], ring_.control().claim_hint));
  EXPECT_TRUE(in_descriptors(trace[1]) && trace[1].kind == AccessKind::load);
  EXPECT_TRUE(in_descriptors(trace[2]) && trace[2].kind == AccessKind::cas);
  EXPECT_EQ(trace[3].kind, AccessKind::copy_in);
  EXPECT_TRUE(in_data(trace[4]) && trace[4].kind == AccessKind::store);
  EXPECT_TRUE(in_descriptors(trace[5]) && trace[5].kind == AccessKind::store);
  EXPECT_TRUE(in_my_entry(trace[6]) && in_my_entry(trace[7]));
}

TEST_F(TotalAccess, AReceiveLoadsTwoWordsAndStoresNothingUntilItTells) {
  const std::vector<std::byte> message(8, std::byte{0xee});
  ASSERT_THAT(producer_.try_send(message), Succeeds());
  const Trace trace =
      TraceAccess::record([&] { EXPECT_FALSE(consumer_.release(*consumer_.try_peek())); });
  ASSERT_EQ(trace.size(), 2u);
  EXPECT_TRUE(in_descriptors(trace[0]) && trace[0].kind == AccessKind::load);
  EXPECT_TRUE(in_data(trace[1]) && trace[1].kind == AccessKind::load);
}

}  // namespace
}  // namespace slipring::ring

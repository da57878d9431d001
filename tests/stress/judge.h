// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <span>

#include "slipring/base/hash.h"

// What many producers write and one consumer checks: nothing lost, torn, repeated or reordered.
namespace slipring::test {

/// What a record starts with; bytes that follow from `checksum` fill the rest.
struct Head {
  std::uint64_t producer, sequence;
  std::uint64_t before, inside;  // tickets taken before the claim and inside it
  std::uint64_t size, checksum;
};

[[nodiscard]] inline std::uint64_t checksum_of(const Head& head) {
  std::uint64_t sum = kFnvBasis;
  for (const std::uint64_t word :
       {head.producer, head.sequence, head.before, head.inside, head.size}) {
    sum = fnv1a(word, sum);
  }
  return sum;
}

[[nodiscard]] inline std::byte filler(const Head& head, std::size_t i) {
  return static_cast<std::byte>(head.checksum >> (i % 8 * 8) ^ i);
}

/// What a record starts with that is too small for a Head. Runs with those take fewer tickets than
/// 32 bits count.
struct SmallHead {
  std::uint64_t who;  // producer << 48 | sequence
  std::uint32_t checksum, inside;
};
static_assert(sizeof(SmallHead) == 16);

[[nodiscard]] inline std::uint32_t checksum_of(const SmallHead& head, std::size_t size) {
  return static_cast<std::uint32_t>(fnv1a(size, fnv1a(head.inside, fnv1a(head.who, kFnvBasis))));
}

/// Writes the record; `head.size`, at least 16, says how much of `payload` it takes.
inline void write_record(std::span<std::byte> payload, Head head) {
  if (head.size < sizeof head) {
    SmallHead small{head.producer << 48 | head.sequence, 0,
                    static_cast<std::uint32_t>(head.inside)};
    small.checksum = checksum_of(small, head.size);
    std::memset(payload.data(), static_cast<int>(small.checksum & 0xff), head.size);
    std::memcpy(payload.data(), &small, sizeof small);
    return;
  }
  head.checksum = checksum_of(head);
  std::memcpy(payload.data(), &head, sizeof head);
  for (std::size_t i = sizeof head; i < head.size; ++i) payload[i] = filler(head, i);
}

/// A seed for all of a run: of the environment, to repeat it, else a random one.
[[nodiscard]] inline std::uint64_t stress_seed() {
  static const std::uint64_t value = [] {
    const char* set = std::getenv("SLIPRING_TEST_SEED");
    return set != nullptr ? std::strtoull(set, nullptr, 0) : std::random_device{}();
  }();
  return value;
}

/// A word that several processes add to.
[[nodiscard]] inline std::atomic_ref<std::uint64_t> shared_word(std::uint64_t& word) {
  return std::atomic_ref(word);
}

/// The consumer's eye: what it saw of each producer, and in which order.
class Judge {
 public:
  /// `in_claim_order`: the ring promises one order for all.
  explicit Judge(bool in_claim_order) : in_claim_order_(in_claim_order) {}

  void see(std::span<const std::byte> payload) {
    Head head{};
    ASSERT_GE(payload.size(), sizeof(SmallHead));
    if (payload.size() < sizeof head) {
      SmallHead small;
      std::memcpy(&small, payload.data(), sizeof small);
      ASSERT_EQ(small.checksum, checksum_of(small, payload.size())) << "torn";
      for (std::size_t i = sizeof small; i < payload.size(); ++i) {
        ASSERT_EQ(payload[i], static_cast<std::byte>(small.checksum & 0xff)) << "torn";
      }
      head.producer = small.who >> 48;
      head.sequence = small.who & ((std::uint64_t{1} << 48) - 1);
      head.inside = small.inside;
    } else {
      std::memcpy(&head, payload.data(), sizeof head);
      ASSERT_EQ(head.checksum, checksum_of(head)) << "torn";
      ASSERT_EQ(head.size, payload.size());
      for (std::size_t i = sizeof head; i < head.size; ++i) {
        ASSERT_EQ(payload[i], filler(head, i)) << "torn";
      }
    }
    ASSERT_EQ(head.sequence, seen_[head.producer]) << "of producer " << head.producer;
    ++seen_[head.producer];
    ++total_;
    if (!in_claim_order_) return;
    // A claim that had ended before another began is delivered first. `inside` was taken when a
    // claim had ended, `before` ahead of its beginning: so nothing delivered earlier began later.
    ASSERT_GT(head.inside, latest_before_) << "delivered behind a claim that came after it";
    latest_before_ = std::max(latest_before_, head.before);  // 0 in small ones
  }
  [[nodiscard]] std::uint64_t total() const { return total_; }
  [[nodiscard]] std::uint64_t seen(std::uint64_t producer) const {
    const auto it = seen_.find(producer);
    return it == seen_.end() ? 0 : it->second;
  }

 private:
  bool in_claim_order_;
  std::map<std::uint64_t, std::uint64_t> seen_;
  std::uint64_t latest_before_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace slipring::test

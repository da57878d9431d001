// SPDX-License-Identifier: Apache-2.0
// What does a claim and its return cost with the pool's own list, with Boost's stack in its place,
// and with a private cache in front? The figures of docs/decisions/0010 come from here.
#include <algorithm>
#include <atomic>
#include <boost/lockfree/stack.hpp>
#include <chrono>
#include <cstdio>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "slipring/pool/block_pool.h"
#include "support/shared_area.h"

namespace {

using namespace slipring;
using BoostList =
    boost::lockfree::stack<std::uint16_t, boost::lockfree::capacity<65533>,
                           boost::lockfree::fixed_sized<true>>;  // 16-bit links, no pointers

constexpr std::uint32_t kBlocks = 256;
constexpr int kPairs = 500'000;
constexpr int kRounds = 15;

/// ns of a claim and a return, `threads` of them at once.
template <typename MakeTurn>
double measure(int threads, MakeTurn make_turn) {
  std::atomic<int> ready{0};
  std::atomic<bool> go{false};
  std::vector<std::thread> all;
  for (int t = 0; t < threads; ++t) {
    all.emplace_back([&] {
      auto turn = make_turn();
      ++ready;
      while (!go) {
      }
      for (int i = 0; i < kPairs; ++i) turn();
    });
  }
  while (ready != threads) {
  }
  const auto start = std::chrono::steady_clock::now();
  go = true;
  for (auto& thread : all) thread.join();
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
  return took.count() / kPairs;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main() {
  pool::PoolSpec spec;
  spec.with(256, kBlocks);
  const std::size_t bytes = pool::lay_out(spec)->total_bytes;
  const test::SharedArea memory(bytes), list_memory(sizeof(BoostList) + 4096);
  const std::span<std::byte> area{memory.data(), bytes};
  if (!pool::format_pool(area, spec)) return 1;
  auto* boost_list = new (list_memory.data()) BoostList;
  if (!boost_list->is_lock_free()) return 1;
  std::vector<std::atomic<std::uint64_t>> words(kBlocks);
  for (std::uint16_t i = 0; i < kBlocks; ++i) boost_list->push(i);

  const auto own = [&](std::uint32_t cached) {
    return [&area, cached] {
      auto handle = std::make_shared<pool::BlockPool<>>(*pool::BlockPool<>::attach(area, cached));
      return [handle] {
        const auto block = handle->claim(100);
        if (block) (void)handle->reclaim(block->ref);
      };
    };
  };
  // The pool's list and its words, without the checks, spans and counters around them.
  std::vector<std::atomic<std::uint64_t>> bare_words(kBlocks);
  std::vector<std::atomic<std::uint64_t>> links(kBlocks);
  std::atomic<std::uint64_t> head{0};
  const auto push = [&](std::uint32_t id) {
    std::uint64_t bits = head.load(std::memory_order_relaxed);
    do {
      links[id].store(pool::ListTop::decode(bits).index_plus_1, std::memory_order_relaxed);
    } while (!head.compare_exchange_strong(bits, pool::ListTop::decode(bits).then(id + 1).encode(),
                                           std::memory_order_acq_rel));
  };
  for (std::uint32_t i = 0; i < kBlocks; ++i) push(i);
  const auto bare = [&] {
    return [&] {
      std::uint64_t bits = head.load(std::memory_order_acquire);
      pool::ListTop top;
      do {
        top = pool::ListTop::decode(bits);
        if (top.index_plus_1 == 0) return;
      } while (!head.compare_exchange_strong(
          bits, top.then(static_cast<std::uint32_t>(links[top.index_plus_1 - 1])).encode(),
          std::memory_order_acq_rel));
      const std::uint32_t id = top.index_plus_1 - 1;
      std::uint64_t free = bare_words[id] & ~std::uint64_t{1};
      if (!bare_words[id].compare_exchange_strong(free, free | 1)) return;
      std::uint64_t claimed = free | 1;
      if (bare_words[id].compare_exchange_strong(claimed, free + 2)) push(id);
    };
  };
  // The same truth beside Boost's list: the word goes free -> claimed -> free by CAS.
  const auto boosted = [&] {
    return [&] {
      std::uint16_t id = 0;
      if (!boost_list->pop(id)) return;
      std::uint64_t free = words[id] & ~std::uint64_t{1};
      if (!words[id].compare_exchange_strong(free, free | 1)) return;
      std::uint64_t claimed = free | 1;
      if (words[id].compare_exchange_strong(claimed, free + 2)) boost_list->push(id);
    };
  };
  for (const int threads : {1, 2}) {
    std::vector<double> list, alone, boost, cached, ratio;
    for (int round = 0; round < kRounds; ++round) {
      list.push_back(measure(threads, own(0)));
      boost.push_back(measure(threads, boosted));
      alone.push_back(measure(threads, bare));
      cached.push_back(measure(threads, own(16)));
      ratio.push_back(boost.back() / alone.back());
    }
    std::sort(ratio.begin(), ratio.end());
    std::printf(
        "threads %d, ns a pair: own list alone %.0f, boost list alone %.0f (boost/own %.2f,"
        " quartiles %.2f %.2f); whole pool by list %.0f, by cache %.0f\n",
        threads, median(alone), median(boost), ratio[kRounds / 2], ratio[kRounds / 4],
        ratio[kRounds * 3 / 4], median(list), median(cached));
  }
  std::printf("bytes: own %zu for %u blocks, boost %zu for up to 65533\n",
              kBlocks * sizeof(std::uint64_t) + sizeof(pool::ListHead), kBlocks, sizeof(BoostList));
  return 0;
}

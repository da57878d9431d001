// SPDX-License-Identifier: Apache-2.0
// Takes, opens and gives back pooled segments, and blocks of a pool, between two marks that a
// tracer sees: nothing in between may ask the kernel for anything (segment_pool_steady_test.py).
#include <sys/mman.h>
#include <sys/prctl.h>

#include <cstdio>
#include <utility>

#include "slipring/pool/block_pool.h"
#include "slipring/pool/segment_pool.h"

using namespace slipring;

int main() {
  auto sender = pool::SegmentPool::make({});
  auto receiver = pool::SegmentPool::make({});
  if (!sender || !receiver || !sender->prepare(4, 1 << 20)) return 1;
  const pool::PoolSpec spec = pool::PoolSpec{}.with(4096, 64);
  const std::size_t bytes = pool::lay_out(spec)->total_bytes;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  const std::span<std::byte> area{static_cast<std::byte*>(memory), bytes};
  if (memory == MAP_FAILED || !pool::format_pool(area, spec)) return 1;
  auto from = pool::BlockPool<>::attach(area);
  auto to = pool::BlockPool<>::attach(area);
  if (!from || !to) return 1;
  const auto turn = [&] {
    auto first = sender->take(1 << 20);
    auto second = sender->take(1 << 19);
    if (!first || !second) return false;
    first->body()[5] = std::byte{1};
    const auto seen = receiver->open(*pool::id_of(*first));
    if (!seen || (*seen)->body()[5] != std::byte{1}) return false;
    if (!receiver->open(*pool::id_of(*second))) return false;
    if (!sender->give_back(std::move(*second)) || !sender->give_back(std::move(*first))) {
      return false;
    }
    const auto block = from->claim(100);
    if (!block) return false;
    const auto ref = from->lend(*block, 100);
    if (!ref) return false;
    const auto view = to->hold(*ref);
    return view && to->release(*view);
  };
  for (int i = 0; i < 10; ++i) {
    if (!turn()) return 2;  // both sides have their mappings
  }
  ::prctl(PR_SET_NAME, "hot");
  bool ok = true;
  for (int i = 0; i < 10'000; ++i) ok = ok && turn();
  ::prctl(PR_SET_NAME, "cold");
  std::printf("turns 10000 made %llu opened %llu\n",
              static_cast<unsigned long long>(sender->counters().made),
              static_cast<unsigned long long>(receiver->counters().opened));
  return ok ? 0 : 3;
}

// SPDX-License-Identifier: Apache-2.0
// Single operations by the clock (Google Benchmark): both ends in one thread, so nothing moves
// between cores. What the same operations take in instructions: tests/bench/instructions_test.py.
#include "operations.h"

#include <benchmark/benchmark.h>

namespace slipring::bench {
namespace {

template <typename Do>
void repeat(benchmark::State& state, Do&& one) {
  auto ops = Operations::make();
  if (!ops) return state.SkipWithError("no ring");
  for (auto _ : state) {
    if (!one(*ops)) return state.SkipWithError("an operation failed");
  }
}

template <std::size_t N>
void claim_commit_peek_release(benchmark::State& state) {
  repeat(state, [](Operations& ops) { return ops.claim_commit<N>() && ops.peek_release(); });
}
template <std::size_t N>
void send_peek_release(benchmark::State& state) {
  repeat(state, [](Operations& ops) { return ops.send<N>() && ops.peek_release(); });
}
void groups_of_32(benchmark::State& state) {
  repeat(state, [](Operations& ops) { return ops.send_group() && ops.peek_group(); });
}
void peek_nothing(benchmark::State& state) {
  repeat(state, [](Operations& ops) { return ops.peek_nothing(); });
}

BENCHMARK_TEMPLATE(claim_commit_peek_release, 8);
BENCHMARK_TEMPLATE(claim_commit_peek_release, 64);
BENCHMARK_TEMPLATE(claim_commit_peek_release, 256);
BENCHMARK_TEMPLATE(send_peek_release, 8);
BENCHMARK_TEMPLATE(send_peek_release, 64);
BENCHMARK_TEMPLATE(send_peek_release, 256);
BENCHMARK(groups_of_32);
BENCHMARK(peek_nothing);

}  // namespace
}  // namespace slipring::bench

BENCHMARK_MAIN();

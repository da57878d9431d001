// SPDX-License-Identifier: Apache-2.0
// Runs each operation a known number of times, for instructions_test.py to count them by name.
#include <cstdio>

#include "operations.h"

int main() {
  auto ops = slipring::bench::Operations::make();
  bool fine = ops.has_value();
  constexpr int kTimes = 4096;  // some laps of the ring, so that its end has its share
  for (int i = 0; fine && i < kTimes; ++i) {
    fine = ops->claim_commit<8>() && ops->peek_release() && ops->claim_commit<64>() &&
           ops->peek_release() && ops->claim_commit<256>() && ops->peek_release() &&
           ops->send<8>() && ops->peek_release() && ops->send<64>() && ops->peek_release() &&
           ops->send<256>() && ops->peek_release() && ops->send_group() && ops->peek_group();
  }
  std::printf("%d\n", fine ? kTimes : 0);
  return fine ? 0 : 1;
}

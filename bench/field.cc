// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "contender.h"

namespace slipring::bench {

bool Contender::can_do(std::size_t size) const noexcept {
  if (size < traits_.min_size || size > traits_.max_size) return false;
  return traits_.sizes.empty() ||
         std::find(traits_.sizes.begin(), traits_.sizes.end(), size) != traits_.sizes.end();
}

const Contender* Field::find(const std::string& name) const noexcept {
  for (const auto& contender : contenders) {
    if (contender->traits().name == name) return contender.get();
  }
  return nullptr;
}

Field whole_field() {
  Field field;
  add_lanes(field);
  add_messages(field);
  add_kernel(field);
  const auto missing = [&](const char* name, const char* package) {
    field.left_out.push_back({name, std::string("not built in: ") + package + " was not there"});
  };
#ifdef SLIPRING_BENCH_BOOST
  add_boost(field);
  add_boost_interprocess(field);
#else
  missing("boost.spsc_queue, boost.queue, boost.message_queue", "libboost-dev");
#endif
#ifdef SLIPRING_BENCH_READERWRITERQUEUE
  add_readerwriterqueue(field);
#else
  missing("moodycamel.spsc", "libreaderwriterqueue-dev");
#endif
#ifdef SLIPRING_BENCH_CONCURRENTQUEUE
  add_concurrentqueue(field);
#else
  missing("moodycamel.mpmc", "libconcurrentqueue-dev");
#endif
#ifdef SLIPRING_BENCH_ATOMIC_QUEUE
  add_atomic_queue(field);
#else
  missing("atomic_queue.spsc, atomic_queue.mpmc", "libatomic-queue-dev");
#endif
#ifdef SLIPRING_BENCH_DPDK
  add_dpdk(field);
#else
  missing("dpdk.ring", "libdpdk-dev");
#endif
#ifdef SLIPRING_BENCH_ZEROMQ
  add_zeromq(field);
#else
  missing("zeromq", "libzmq3-dev");
#endif
#ifdef SLIPRING_BENCH_NNG
  add_nng(field);
#else
  missing("nng", "libnng-dev");
#endif
#ifdef SLIPRING_BENCH_ICEORYX
  add_iceoryx(field);
#else
  missing("iceoryx", "libiceoryx-posh-dev");
#endif
  return field;
}

}  // namespace slipring::bench

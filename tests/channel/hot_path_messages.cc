// SPDX-License-Identifier: Apache-2.0
// A million 64-byte messages between two awake processes. Thread names mark the hot part, so that
// a tracer can count the system calls inside it: hot_path_test.py runs this under strace.
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "slipring/channel/shm.h"

namespace {

using namespace slipring::channel;

constexpr int kWarmUp = 10'000;
constexpr int kMessages = 1'000'000;

void mark(const char* name) { ::prctl(PR_SET_NAME, name); }

int send_all(slipring::segment::Segment segment, const ShmOptions& options) {
  auto tx = ShmSender::attach(std::move(segment), options);
  if (!tx) return 1;
  std::byte message[64] = {};
  for (int i = 0; i < kWarmUp + kMessages; ++i) {
    if (i == kWarmUp) mark("hot");
    if (!tx->send(message)) return 2;
  }
  mark("cold");
  return 0;
}

int receive_all(slipring::segment::Segment segment, const ShmOptions& options) {
  auto rx = ShmReceiver::attach(std::move(segment), options);
  if (!rx) return 1;
  for (int i = 0; i < kWarmUp + kMessages; ++i) {
    if (i == kWarmUp) mark("hot");
    auto message = rx->peek();
    if (!message || message->bytes().size() != 64) return 2;
  }
  mark("cold");
  return 0;
}

}  // namespace

int main() {
  ShmOptions options;
  options.kind = slipring::segment::Backend::memfd;
  options.wait = slipring::wait::WaitStrategy::spin();
  auto segment = create_unnamed_ring(options);
  if (!segment) return 1;
  const pid_t child = ::fork();
  if (child == 0) ::_exit(send_all(std::move(*segment), options));
  const int received = receive_all(std::move(*segment), options);
  int status = 0;
  ::waitpid(child, &status, 0);
  return received != 0 ? received : WIFEXITED(status) ? WEXITSTATUS(status) : 3;
}

// SPDX-License-Identifier: Apache-2.0
// What a stranger's first program does with an installed slipring; README shows its middle. The
// three consumer projects beside this file build it, each in its own way.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>

// README begin
#include <slipring/channel/typed.h>

namespace sr = slipring;
struct Tick {
  std::uint64_t ts;
  std::uint32_t sym, flags;
  double px, qty;
};

sr::Result<void> produce(const char* name) {
  auto tx = sr::Sender<Tick>::open_or_create(name, {.capacity = 1 << 20});
  if (!tx) return tl::unexpected(tx.error());
  auto claim = tx->claim();  // in place, no copy; dropped without commit(): nothing happened
  if (!claim) return tl::unexpected(claim.error());
  claim->value() = {1, 7, 0, 64001.25, 0.3};
  claim->commit();
  return tx->send({2, 7, 0, 64001.50, 0.1});  // copies in; waits while the ring is full
}

sr::Error consume(const char* name, double& sum) {
  auto rx = sr::Receiver<Tick>::open_or_create(name, {.capacity = 1 << 20});
  if (!rx) return rx.error();
  return rx->for_each([&](const Tick& tick) { sum += tick.px; });  // ends with Errc::closed
}
// README end

int main() {
  const std::string name = "adopted." + std::to_string(::getpid());
  const pid_t child = ::fork();
  if (child == 0) ::_exit(produce(name.c_str()) ? 0 : 1);
  double sum = 0;
  const sr::Error end = consume(name.c_str(), sum);
  int status = 0;
  ::waitpid(child, &status, 0);
  const bool works = status == 0 && end.code == sr::Errc::closed && sum == 64001.25 + 64001.50;
  std::printf("slipring adopted: %s\n", works ? "yes" : "no");
  return works ? 0 : 1;
}

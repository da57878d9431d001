// SPDX-License-Identifier: Apache-2.0
// Opens one lane as two types of record: for the text about the difference. Ends as the command
// would, with 6.
#include <cstdio>

#include "slipring/channel/explain.h"
#include "slipring/channel/typed.h"

namespace {
struct Tick {
  double price, quantity;
  long time, symbol;
};
struct WiderTick {
  double price, quantity;
  long time, symbol, venue;
};
}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 1;
  const auto sender = slipring::Sender<Tick>::create(argv[1]);
  if (!sender) return 2;
  const auto receiver = slipring::Receiver<WiderTick>::open(argv[1]);
  if (receiver) return 3;
  slipring::Subject subject(argv[1]);
  subject.options.schema = slipring::channel::schema_of<WiderTick>();
  const auto text = slipring::explain(receiver.error(), subject);
  std::fprintf(stderr, "slipring: %s\n", text.text().c_str());
  return text.code == slipring::Errc::type_mismatch ? 6 : 4;
}

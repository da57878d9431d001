// SPDX-License-Identifier: Apache-2.0
// What a user's hot loop compiles to. hot_path_test.py disassembles these two functions and
// whatever they call: no lock prefix, no xchg with memory, no fence, no call that is not cold.
#include <cstring>

#include "slipring/channel/shm.h"

using slipring::channel::ShmReceiver;
using slipring::channel::ShmSender;

extern "C" bool hot_send(ShmSender& tx, const std::byte* message) {
  return tx.try_send({message, 64}).has_value();
}

extern "C" bool hot_receive(ShmReceiver& rx, std::byte* out) {
  auto message = rx.try_peek();
  if (!message) return false;
  std::memcpy(out, message->bytes().data(), 64);
  return true;
}

int main() { return 0; }

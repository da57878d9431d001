// SPDX-License-Identifier: Apache-2.0
#include "harness/memory.h"

#include <cstring>

namespace slipring::bench {

Try<Arena> Arena::make(std::size_t bytes, bool lock) {
  segment::Spec spec;
  spec.body_bytes = bytes;
  spec.lock = lock;
  auto drafted = segment::draft(segment::Backend::memfd, spec);
  if (!drafted) return because(text_of(drafted.error()));
  auto made = std::move(*drafted).publish();
  if (!made) return because(text_of(made.error()));
  return Arena(std::move(*made));
}

std::string text_of(const Error& error) {
  std::string text(to_string(error.code));
  if (error.op != nullptr && error.op[0] != 0) text += std::string(", ") + error.op;
  if (error.sys != 0) text += std::string(": ") + std::strerror(error.sys);
  return text;
}

}  // namespace slipring::bench

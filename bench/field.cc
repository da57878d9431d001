// SPDX-License-Identifier: Apache-2.0
#include "contender.h"

#include <algorithm>

namespace slipring::bench {

bool Contender::can_do(std::size_t size) const noexcept {
  if (size > traits_.max_size) return false;
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
  return field;
}

}  // namespace slipring::bench

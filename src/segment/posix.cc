// SPDX-License-Identifier: Apache-2.0
// POSIX shared memory. shm_open(name) is open("/dev/shm" + name) with O_NOFOLLOW and O_CLOEXEC;
// it knows neither unnamed objects nor another directory, so the steps of file.cc are used, and
// what they make is what shm_open finds.
#include "object.h"

namespace slipring::segment::detail {

Result<void> draft_posix(Object& draft, const Spec& spec) {
  return draft_file(draft, posix_place(spec.places, {}), spec);
}

}  // namespace slipring::segment::detail

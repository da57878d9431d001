// SPDX-License-Identifier: Apache-2.0
#include "slipring/ring/total.h"

namespace slipring::ring {

Result<void> check_total_geometry(const TotalGeometry& g) noexcept {
  if (!is_power_of_two(g.capacity) || g.capacity < kMinCapacity || g.capacity > kMaxCapacity) {
    return fail(Errc::invalid_argument, 0, "total: capacity");
  }
  if (g.owners == 0 || g.owners > kMaxOwners) {
    return fail(Errc::invalid_argument, 0, "total: owners");
  }
  if (g.type_size > g.max_payload()) return fail(Errc::too_large, 0, "total: record type");
  return {};
}

void format_total_area(std::span<std::byte> area, const TotalGeometry& g) noexcept {
  auto& control = *reinterpret_cast<TotalControl*>(area.data());
  NativeAccess::store_relaxed(
      control.geometry,
      kTotalVersion | static_cast<std::uint64_t>(std::countr_zero(g.capacity)) << 32 |
          static_cast<std::uint64_t>(g.bell) << 40 | static_cast<std::uint64_t>(g.owners) << 48);
  NativeAccess::store_relaxed(control.data_offset, g.data_offset());
  NativeAccess::store_relaxed(control.ring_id, g.ring_id);
  NativeAccess::store_relaxed(control.limits, g.max_payload());
  NativeAccess::store_relaxed(control.type_fingerprint, g.type_fingerprint);
  NativeAccess::store_relaxed(control.type_shape,
                              g.type_size | static_cast<std::uint64_t>(g.type_align) << 32);
  // SYNC total.join (release -> acquire in load_total_geometry): whoever sees the magic sees the
  //   rest.
  NativeAccess::store_release(control.magic, kTotalMagic);
}

}  // namespace slipring::ring

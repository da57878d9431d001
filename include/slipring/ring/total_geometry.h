// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <optional>
#include <span>

#include "slipring/base/result.h"
#include "slipring/base/role.h"
#include "slipring/ring/total_layout.h"

namespace slipring::ring {

/// Errors: invalid_argument  capacity not a power of two in [kMinCapacity, kMaxCapacity], or
///                           owners not in [1, kMaxOwners],
///         too_large         a type larger than max_payload().
[[nodiscard]] Result<void> check_total_geometry(const TotalGeometry& geometry) noexcept;

/// Formats an area of zero bytes, magic last. For its creator, before anybody else sees it.
/// Orders: total.join.
void format_total_area(std::span<std::byte> area, const TotalGeometry& geometry) noexcept;

/// Reads what an area says of itself, each word once, and checks it against its size.
/// Trust:  all of it; only what is returned may be used.
/// Errors: bad_format  not such a ring, another version, or numbers that contradict each other.
/// Orders: total.join.
template <typename Access>
[[nodiscard]] Result<TotalGeometry> load_total_geometry(std::span<std::byte> area) noexcept;

/// A ring as private memory knows it: where things lie, and the arithmetic of positions.
/// Every address is made from checked geometry; a position may be anything.
struct TotalView {
  TotalControl* control = nullptr;
  TotalOwner* owners = nullptr;
  std::byte* descriptors = nullptr;
  std::byte* data = nullptr;
  std::uint64_t capacity = 0;
  std::uint32_t owner_count = 0;
  std::uint64_t max_granules = 0;

  TotalView() noexcept = default;
  /// `geometry` was checked against the size of `area`.
  TotalView(std::span<std::byte> area, const TotalGeometry& geometry) noexcept
      : control(reinterpret_cast<TotalControl*>(area.data())),
        owners(reinterpret_cast<TotalOwner*>(area.data() + geometry.owners_offset())),
        descriptors(area.data() + geometry.desc_offset()),
        data(area.data() + geometry.data_offset()),
        capacity(geometry.capacity),
        owner_count(geometry.owners),
        max_granules(geometry.max_record() / kTotalGranule) {}

  [[nodiscard]] std::uint64_t offset(std::uint64_t pos) const noexcept {
    return pos & (capacity - 1);
  }
  /// Laps begun until `pos`: 1 in the first, so that a zero descriptor is an old one.
  [[nodiscard]] std::uint64_t lap(std::uint64_t pos) const noexcept {
    return ((pos >> std::countr_zero(capacity)) + 1) & kLapMask;
  }
  [[nodiscard]] std::uint64_t granules_to_lap_end(std::uint64_t pos) const noexcept {
    return (capacity - offset(pos)) / kTotalGranule;
  }
  [[nodiscard]] SharedWord<std::uint64_t>& descriptor(std::uint64_t pos) const noexcept {
    return word_at<std::uint64_t>(descriptors, offset(pos) / kTotalGranule * kWordBytes);
  }
  [[nodiscard]] SharedWord<std::uint64_t>& header(std::uint64_t pos) const noexcept {
    return word_at<std::uint64_t>(data, offset(pos));
  }
  [[nodiscard]] RoleRef owner_role(std::uint32_t index) const noexcept {
    return {owners[index].role, owners[index].token};
  }
  /// Where the record at `pos` ends; nothing when no producer stores such a descriptor (T5).
  [[nodiscard]] std::optional<std::uint64_t> end_of(std::uint64_t pos,
                                                    const Descriptor& d) const noexcept {
    if (d.granules == 0 || d.granules > max_granules || d.granules > granules_to_lap_end(pos) ||
        d.owner_id == 0 || d.owner_id > owner_count) {
      return std::nullopt;
    }
    return pos + d.granules * kTotalGranule;
  }
};

template <typename Access>
Result<TotalGeometry> load_total_geometry(std::span<std::byte> area) noexcept {
  if (area.size() < kTotalControlBytes) return fail(Errc::bad_format, 0, "total: area too small");
  const auto& control = *reinterpret_cast<const TotalControl*>(area.data());
  // SYNC total.join (acquire <- release in format_total_area):
  //   geometry and the zeroed descriptors are visible before the magic is.
  if (Access::load_acquire(control.magic) != kTotalMagic) {
    return fail(Errc::bad_format, 0, "total: magic");
  }
  const std::uint64_t geometry = Access::load_relaxed(control.geometry);
  const std::uint64_t data_offset = Access::load_relaxed(control.data_offset);
  const std::uint64_t limits = Access::load_relaxed(control.limits);
  const std::uint64_t shape = Access::load_relaxed(control.type_shape);
  const std::uint64_t lg_capacity = (geometry >> 32) & 0xff;
  if (static_cast<std::uint32_t>(geometry) != kTotalVersion) {
    return fail(Errc::bad_format, 0, "total: version");
  }
  // TRUST: shifted only after the range is known.
  if (lg_capacity > 30) return fail(Errc::bad_format, 0, "total: geometry");
  TotalGeometry g;
  g.capacity = std::uint64_t{1} << lg_capacity;
  g.bell = static_cast<std::uint8_t>(geometry >> 40);
  g.owners = static_cast<std::uint16_t>(geometry >> 48);
  g.ring_id = Access::load_relaxed(control.ring_id);
  g.type_fingerprint = Access::load_relaxed(control.type_fingerprint);
  g.type_size = static_cast<std::uint32_t>(shape);
  g.type_align = static_cast<std::uint32_t>(shape >> 32);
  if (!check_total_geometry(g) || data_offset != g.data_offset() || limits != g.max_payload() ||
      area.size() < g.area_bytes()) {
    return fail(Errc::bad_format, 0, "total: geometry");
  }
  return g;
}

}  // namespace slipring::ring

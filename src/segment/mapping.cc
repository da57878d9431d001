// SPDX-License-Identifier: Apache-2.0
#include "mapping.h"

#include <boost/interprocess/mapped_region.hpp>

namespace slipring::segment::detail {
namespace bip = boost::interprocess;
namespace {

// What mapped_region asks of a thing to map. It copies the handle and never closes it.
struct Mappable {
  bip::mapping_handle_t handle;
  [[nodiscard]] bip::mapping_handle_t get_mapping_handle() const noexcept { return handle; }
};

bip::mode_t to_boost(OpenMode mode) noexcept {
  return mode == OpenMode::read_only ? bip::read_only : bip::read_write;
}

}  // namespace

struct Mapping::Region {
  bip::mapped_region region;
};

Mapping::Mapping() noexcept = default;
Mapping::Mapping(Mapping&&) noexcept = default;
Mapping& Mapping::operator=(Mapping&&) noexcept = default;
Mapping::~Mapping() = default;
Mapping::Mapping(std::unique_ptr<Region> region) noexcept : region_(std::move(region)) {}

Result<Mapping> Mapping::of_fd(int fd, std::uint64_t bytes, OpenMode mode) {
  try {
    const Mappable object{{fd, false}};
    return Mapping(std::make_unique<Region>(
        Region{bip::mapped_region(object, to_boost(mode), 0, static_cast<std::size_t>(bytes))}));
  } catch (const bip::interprocess_exception& e) {
    return fail(errc_of(e.get_native_error()), e.get_native_error(), "mmap");
  }
}

Result<Mapping> Mapping::of_sysv(int shmid, OpenMode mode) {
  try {
    const Mappable object{{shmid, true}};
    return Mapping(
        std::make_unique<Region>(Region{bip::mapped_region(object, to_boost(mode), 0, 0)}));
  } catch (const bip::interprocess_exception& e) {
    const int sys = e.get_native_error();
    // The segment was removed since the caller looked.
    if (sys == EIDRM || sys == EINVAL) return fail(Errc::not_found, sys, "shmat");
    return fail(errc_of(sys), sys, "shmat");
  }
}

std::byte* Mapping::data() const noexcept {
  return region_ ? static_cast<std::byte*>(region_->region.get_address()) : nullptr;
}

std::uint64_t Mapping::size() const noexcept { return region_ ? region_->region.get_size() : 0; }

}  // namespace slipring::segment::detail

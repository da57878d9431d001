// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "slipring/base/result.h"
#include "slipring/segment/header.h"

namespace slipring::segment::detail {

/// Owns one mapping; Boost.Interprocess does the work and stays inside mapping.cc.
class Mapping {
 public:
  Mapping() noexcept;
  Mapping(Mapping&&) noexcept;
  Mapping& operator=(Mapping&&) noexcept;
  ~Mapping();

  /// Errors: no_space (address space), permission (seals, a descriptor of the other mode), system.
  [[nodiscard]] static Result<Mapping> of_fd(int fd, std::uint64_t bytes, OpenMode mode);
  /// The whole of a SysV segment.
  [[nodiscard]] static Result<Mapping> of_sysv(int shmid, OpenMode mode);

  [[nodiscard]] std::byte* data() const noexcept;
  [[nodiscard]] std::uint64_t size() const noexcept;
  /// The caller knows that at least kHeaderBytes are mapped.
  [[nodiscard]] SegmentHeader& header() const noexcept {
    return *reinterpret_cast<SegmentHeader*>(data());
  }

 private:
  struct Region;
  explicit Mapping(std::unique_ptr<Region> region) noexcept;
  std::unique_ptr<Region> region_;
};

}  // namespace slipring::segment::detail

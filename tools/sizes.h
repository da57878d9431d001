// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace slipring::tools {

/// "512", "64K", "4M", "1G" (binary; "64KiB" and "64k" too). Nothing when it is not a size.
[[nodiscard]] std::optional<std::uint64_t> parse_size(std::string_view text);
/// "10us", "5ms", "2s", "1m", "1h", "500ns". "0" needs no unit; other bare numbers are refused.
[[nodiscard]] std::optional<std::chrono::nanoseconds> parse_duration(std::string_view text);

/// A count with one letter, decimal: 937, 9.8K, 1.2M.
[[nodiscard]] std::string human_count(double count);
/// A count in groups of three: "61 378 560".
[[nodiscard]] std::string grouped(std::uint64_t count);
/// "1 record", "16 384 records"
[[nodiscard]] std::string counted(std::uint64_t count, std::string_view thing);
/// Bytes per second: "812 B/s", "612 MB/s", "1.5 GB/s" (decimal, as networks and disks count).
[[nodiscard]] std::string human_rate(double bytes_per_second);
/// "310us", "4.2ms", "12s", "2m", "3h07m", "3d".
[[nodiscard]] std::string human_duration(std::int64_t nanoseconds);
/// The same in whole seconds, at least one: for ages.
[[nodiscard]] std::string human_age(std::int64_t nanoseconds);

}  // namespace slipring::tools

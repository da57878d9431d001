// SPDX-License-Identifier: Apache-2.0
#include "sizes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

namespace slipring::tools {
namespace {

struct Number {
  double value;
  std::string_view unit;
};

std::optional<Number> split(std::string_view text) {
  double value = 0;
  const auto [end, bad] =
      std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (bad != std::errc{} || !(value >= 0)) return std::nullopt;
  return Number{value, text.substr(static_cast<std::size_t>(end - text.data()))};
}

// One digit behind the point below ten, none above.
std::string short_number(double value) {
  return value < 9.95 && value > 0 ? fmt::format("{:.1f}", value) : fmt::format("{:.0f}", value);
}

}  // namespace

std::optional<std::uint64_t> parse_size(std::string_view text) {
  const auto number = split(text);
  if (!number) return std::nullopt;
  std::string_view unit = number->unit;
  if (unit.ends_with("iB")) unit.remove_suffix(2);
  static constexpr std::string_view kUnits = "KMGT";
  double factor = 1;
  if (!unit.empty()) {
    const char letter = unit[0] >= 'a' ? static_cast<char>(unit[0] - 'a' + 'A') : unit[0];
    const std::size_t power = kUnits.find(letter);
    if (unit.size() != 1 || power == kUnits.npos) return std::nullopt;
    factor = static_cast<double>(std::uint64_t{1} << (10 * (power + 1)));
  } else if (number->unit.size() == 2) {
    return std::nullopt;  // "4iB"
  }
  const double bytes = number->value * factor;
  if (bytes > 9e18 || bytes != static_cast<double>(static_cast<std::uint64_t>(bytes))) {
    return std::nullopt;
  }
  return static_cast<std::uint64_t>(bytes);
}

std::optional<std::chrono::nanoseconds> parse_duration(std::string_view text) {
  const auto number = split(text);
  if (!number) return std::nullopt;
  struct Unit {
    std::string_view name;
    double ns;
  };
  static constexpr std::array kUnits = {Unit{"ns", 1},     Unit{"us", 1e3}, Unit{"ms", 1e6},
                                        Unit{"s", 1e9},    Unit{"m", 60e9}, Unit{"h", 3600e9},
                                        Unit{"d", 86400e9}};
  if (number->value == 0 && number->unit.empty()) return std::chrono::nanoseconds(0);
  for (const Unit& unit : kUnits) {
    if (number->unit != unit.name) continue;
    const double ns = number->value * unit.ns;
    if (ns > 9e18) return std::nullopt;
    return std::chrono::nanoseconds(static_cast<std::int64_t>(ns));
  }
  return std::nullopt;
}

std::string human_count(double count) {
  static constexpr std::array kUnits = {"", "K", "M", "G", "T"};
  std::size_t unit = 0;
  while (count >= 999.5 && unit + 1 < kUnits.size()) {
    count /= 1000;
    ++unit;
  }
  if (unit == 0) return fmt::format("{:.0f}", count);
  return short_number(count) + kUnits[unit];
}

std::string grouped(std::uint64_t count) {
  const std::string digits = std::to_string(count);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i != 0 && (digits.size() - i) % 3 == 0) text += ' ';
    text += digits[i];
  }
  return text;
}

std::string counted(std::uint64_t count, std::string_view thing) {
  return fmt::format("{} {}{}", grouped(count), thing, count == 1 ? "" : "s");
}

std::string human_rate(double bytes_per_second) {
  static constexpr std::array kUnits = {"B/s", "kB/s", "MB/s", "GB/s", "TB/s"};
  std::size_t unit = 0;
  while (bytes_per_second >= 999.5 && unit + 1 < kUnits.size()) {
    bytes_per_second /= 1000;
    ++unit;
  }
  return short_number(bytes_per_second) + " " + kUnits[unit];
}

std::string human_duration(std::int64_t nanoseconds) {
  if (nanoseconds < 0) return "-";
  const auto ns = static_cast<double>(nanoseconds);
  if (ns < 1e3) return fmt::format("{:.0f}ns", ns);
  if (ns < 1e6) return short_number(ns / 1e3) + "us";
  if (ns < 1e9) return short_number(ns / 1e6) + "ms";
  if (ns < 60e9) return short_number(ns / 1e9) + "s";
  const std::int64_t seconds = nanoseconds / 1'000'000'000;
  if (seconds < 3600) return fmt::format("{}m", seconds / 60);
  if (seconds < 86400) return fmt::format("{}h{:02}m", seconds / 3600, seconds / 60 % 60);
  return fmt::format("{}d", seconds / 86400);
}

std::string human_age(std::int64_t nanoseconds) {
  const std::int64_t seconds = std::max<std::int64_t>(nanoseconds / 1'000'000'000, 1);
  return seconds < 60 ? fmt::format("{}s", seconds) : human_duration(seconds * 1'000'000'000);
}

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cctype>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

// The tables of docs/format.md as data.
namespace slipring::test {

/// One field of a table.
struct FormatRow {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::string name;
  std::string value;  ///< A number, a "string" or `-` for zero bytes.

  /// The bytes that the value stands for, `size` of them.
  [[nodiscard]] std::vector<unsigned char> bytes() const {
    std::vector<unsigned char> out(static_cast<std::size_t>(size), 0);
    if (value == "-") return out;
    if (value.front() == '"') {
      for (std::size_t i = 0; i + 2 < value.size() && i < out.size(); ++i) {
        out[i] = static_cast<unsigned char>(value[i + 1]);
      }
      return out;
    }
    const std::uint64_t number = std::stoull(value, nullptr, 0);
    std::memcpy(out.data(), &number, std::min(out.size(), sizeof(number)));
    return out;
  }
};

/// The rows of the first table under the heading `heading`. Empty when there is none.
[[nodiscard]] inline std::vector<FormatRow> read_format_table(const std::string& path,
                                                              const std::string& heading) {
  std::ifstream in(path);
  std::vector<FormatRow> rows;
  std::string line;
  bool found = false;
  while (std::getline(in, line)) {
    if (line.starts_with("#")) {
      if (found) break;
      found = line.substr(std::min(line.size(), line.find_first_not_of("# "))) == heading;
      continue;
    }
    if (!found || !line.starts_with("| 0x")) continue;
    std::vector<std::string> cells;
    std::stringstream stream(line.substr(1));
    for (std::string cell; std::getline(stream, cell, '|');) {
      const auto first = cell.find_first_not_of(' ');
      const auto last = cell.find_last_not_of(' ');
      cells.push_back(first == std::string::npos ? "" : cell.substr(first, last - first + 1));
    }
    if (cells.size() < 4) continue;
    rows.push_back(
        {std::stoull(cells[0], nullptr, 0), std::stoull(cells[1], nullptr, 0), cells[2], cells[3]});
  }
  return rows;
}

}  // namespace slipring::test

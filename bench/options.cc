// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "plan.h"

namespace slipring::bench {
namespace {

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::size_t from = 0;
  while (from <= text.size()) {
    const std::size_t comma = std::min(text.find(',', from), text.size());
    parts.push_back(text.substr(from, comma - from));
    from = comma + 1;
  }
  return parts;
}

/// "10k", "1M", "250000"
std::optional<double> parse_rate(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  double unit = 1;
  if (*end == 'k' || *end == 'K') unit = 1e3;
  if (*end == 'M') unit = 1e6;
  if (unit != 1) ++end;
  const bool fine = end != text.c_str() && *end == 0 && value * unit >= 1 && value * unit <= 1e9;
  return fine ? std::optional(value * unit) : std::nullopt;
}

std::optional<int> parse_int(const std::string& text) {
  int value = 0;
  const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (bad != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

tl::unexpected<Refused> refused(std::string what, std::string why, std::string fix) {
  return tl::unexpected(Refused{std::move(what), std::move(why), std::move(fix)});
}

/// Puts a value where it belongs. False: it is none.
bool take(const std::string& name, const std::string& value, Options& opt) {
  if (name == "--size") {
    opt.sizes.clear();
    for (const auto& part : split(value)) {
      const auto size = parse_bytes(part);
      if (!size || *size < 8 || *size > std::size_t{64} << 20) return false;
      opt.sizes.push_back(*size);
    }
    return true;
  }
  if (name == "--rate") {
    for (const auto& part : split(value)) {
      const auto rate = parse_rate(part);
      if (!rate) return false;
      opt.rates.push_back(*rate);
    }
    return true;
  }
  if (name == "--cpus") {
    const auto parts = split(value);
    const auto first = parse_int(parts.front()), second = parse_int(parts.back());
    if (parts.size() > 2 || !first || !second || *first < 0 || *second < 0) return false;
    opt.cpus = Cpus{*first, *second};
    return true;
  }
  if (name == "--rounds") {
    opt.rounds = parse_int(value).value_or(0);
    return opt.rounds >= 1 && opt.rounds <= 10'000;
  }
  if (name == "--seconds") {
    char* end = nullptr;
    opt.seconds = std::strtod(value.c_str(), &end);
    return *end == 0 && opt.seconds >= 0.001 && opt.seconds <= 600;
  }
  if (name == "--ring") {
    const auto bytes = parse_bytes(value);
    opt.ring_bytes = bytes.value_or(0);
    return bytes && *bytes >= 4096 && *bytes <= std::size_t{1} << 30 &&
           (*bytes & (*bytes - 1)) == 0;
  }
  if (name == "--vs") opt.versus = split(value);
  if (name == "--json") opt.json_file = value;
  if (name == "--commit") opt.commit = value;
  return !value.empty();
}

struct Known {
  const char* name;
  const char* wanted;
};
constexpr Known kKnown[] = {
    {"--size", "sizes from 8 bytes to 64M, as 8,64,4K"},
    {"--rate", "messages per second, as 10k,1M"},
    {"--cpus", "one or two numbers of CPUs, as 0,1"},
    {"--rounds", "a number of rounds, from 1"},
    {"--seconds", "how long each measurement takes, from 0.001 to 600"},
    {"--ring", "a power of two from 4K to 1G"},
    {"--vs", "names of rivals, as pipe,unix; all; none"},
    {"--json", "a file, or - for standard output"},
    {"--commit", "what the run is of"},
};

}  // namespace

const char* const kUsage =
    "usage: slipring-bench [--quick | --full] [--vs LIST] [--size LIST] [--rate LIST]\n"
    "                      [--cpus A,B] [--rounds N] [--seconds S] [--ring BYTES]\n"
    "                      [--json FILE] [--lines] [--list] [--commit TEXT]\n"
    "\n"
    "  --quick      every target of the project, judged, in less than 3 minutes\n"
    "  --full       everything, for docs/performance.md\n"
    "  --vs LIST    rivals: families or names from --list, all or none (pipe,unix,boost)\n"
    "  --size LIST  of a message, in bytes (64)\n"
    "  --rate LIST  messages per second on a schedule, instead of as fast as it goes\n"
    "  --cpus A,B   where sender and receiver run (the first two)\n"
    "  --rounds N   how often everything is repeated (5)\n"
    "  --seconds S  of each measurement (0.1)\n"
    "  --ring BYTES storage of each ring (256K)\n"
    "  --json FILE  everything that was found; - is standard output\n"
    "  --lines      a line for each measurement, as they come\n"
    "  --list       who can be measured here, and who cannot, and why\n";

std::optional<std::size_t> parse_bytes(const std::string& text) {
  std::size_t value = 0;
  const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (bad != std::errc{}) return std::nullopt;
  const std::string unit(end, text.data() + text.size());
  const unsigned shift = unit == "K" || unit == "k" ? 10 : unit == "M" ? 20 : unit == "G" ? 30 : 0;
  if ((shift == 0 && !unit.empty()) || value > std::size_t{1} << 40) return std::nullopt;
  return value << shift;
}

tl::expected<Options, Refused> parse_options(int argc, char** argv) {
  Options opt;
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i];
    if (name == "--quick" || name == "--full") {
      opt.kind = name == "--quick" ? Options::Kind::quick : Options::Kind::full;
      continue;
    }
    if (name == "--lines" || name == "--list" || name == "--help" || name == "-h") {
      (name == "--lines" ? opt.lines : name == "--list" ? opt.list : opt.help) = true;
      continue;
    }
    std::optional<std::string> value;
    if (const auto equals = name.find('='); equals != std::string::npos) {
      value = name.substr(equals + 1);
      name.resize(equals);
    } else if (i + 1 < argc) {
      value = argv[i + 1];
    }
    const Known* known = nullptr;
    for (const Known& one : kKnown) {
      if (name == one.name) known = &one;
    }
    if (known == nullptr) {
      return refused("unknown argument '" + name + "' (invalid_argument)",
                     "the benchmark has no such option", "slipring bench --help lists them");
    }
    if (!value || !take(name, *value, opt)) {
      return refused("bad value '" + value.value_or("") + "' for " + name + " (invalid_argument)",
                     std::string("wanted are ") + known->wanted,
                     "slipring bench --help shows them");
    }
    if (std::strchr(argv[i], '=') == nullptr) ++i;
  }
  return opt;
}

}  // namespace slipring::bench

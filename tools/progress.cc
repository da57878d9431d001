// SPDX-License-Identifier: Apache-2.0
#include "progress.h"

#include <fmt/format.h>
#include <langinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "report.h"
#include "sizes.h"
#include "slipring/base/deadline.h"

namespace slipring::tools {
namespace {

constexpr std::int64_t kDrawEveryNs = 100'000'000;

}  // namespace

std::string describe(const Tally& tally, double seconds) {
  const double rate = seconds > 0 ? static_cast<double>(tally.bytes) / seconds : 0;
  return fmt::format("{} bytes, {}, {:.2f} s, {}", grouped(tally.bytes),
                     counted(tally.records, "record"), seconds, human_rate(rate));
}

Progress::Progress(bool wanted, std::string name, std::optional<std::uint64_t> size)
    : wanted_(wanted && !voice().quiet && !voice().json),
      live_(wanted_ && ::isatty(STDERR_FILENO) == 1),
      utf8_(std::strcmp(::nl_langinfo(CODESET), "UTF-8") == 0),
      name_(std::move(name)),
      size_(size),
      begun_ns_(monotonic_ns()),
      drawn_ns_(begun_ns_) {}

double Progress::seconds() const noexcept {
  const std::int64_t end = moved_ns_ != 0 ? moved_ns_ : monotonic_ns();
  return static_cast<double>(end - begun_ns_) / 1e9;
}

void Progress::starts() noexcept {
  if (!std::exchange(has_started_, true)) begun_ns_ = monotonic_ns();
}

void Progress::moved() noexcept { moved_ns_ = monotonic_ns(); }

void Progress::clear() noexcept {
  if (std::exchange(drawn_, false)) fmt::print(stderr, "\r\x1b[K");
}

void Progress::tick(const Tally& tally, const std::function<std::uint64_t()>& backlog) {
  if (!live_) return;
  const std::int64_t now = monotonic_ns();
  if (now - drawn_ns_ < kDrawEveryNs) return;
  const double seconds = static_cast<double>(now - drawn_ns_) / 1e9;
  // Smoothed over about half a second, so that the figures can be read.
  const double weight = drawn_tally_.bytes == 0 ? 1 : std::min(1.0, seconds / 0.5);
  const auto bytes = static_cast<double>(tally.bytes - drawn_tally_.bytes) / seconds;
  const auto records = static_cast<double>(tally.records - drawn_tally_.records) / seconds;
  bytes_per_s_ += (bytes - bytes_per_s_) * weight;
  records_per_s_ += (records - records_per_s_) * weight;
  draw(tally, backlog(), now);
}

std::string Progress::bar(double share, int width) const {
  const double filled = std::clamp(share, 0.0, 1.0) * width;
  const int whole = static_cast<int>(filled);
  std::string cells;
  if (!utf8_) {
    cells = std::string(static_cast<std::size_t>(whole), '#') +
            std::string(static_cast<std::size_t>(width - whole), '.');
    return "[" + cells + "]";
  }
  static constexpr const char* kEighths[] = {" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  for (int i = 0; i < whole; ++i) cells += "█";
  if (whole < width) {
    cells += kEighths[static_cast<int>((filled - whole) * 8)];
    cells += std::string(static_cast<std::size_t>(width - whole - 1), ' ');
  }
  return voice().color_err ? "\x1b[36m" + cells + "\x1b[0m▏" : cells + "▏";
}

void Progress::draw(const Tally& tally, std::uint64_t backlog, std::int64_t now) {
  drawn_ = true;
  drawn_ns_ = now;
  drawn_tally_ = tally;
  std::string figures = fmt::format("{:>8}  {:>5} rec/s  backlog {:>4}", human_rate(bytes_per_s_),
                                    human_count(records_per_s_), human_bytes(backlog));
  const bool has_share = size_ && *size_ > 0;
  const double size = has_share ? static_cast<double>(*size_) : 1;
  const double share = static_cast<double>(tally.bytes) / size;
  if (has_share) {
    const double left = size - static_cast<double>(tally.bytes);
    figures = fmt::format("{:3.0f} %  {}", std::min(100.0, share * 100), figures);
    if (bytes_per_s_ > 0 && left > 0) {
      figures += fmt::format("  ETA {:.0f}s", left / bytes_per_s_ + 0.5);
    }
  } else {
    figures = fmt::format("{:>5}  {}", human_bytes(tally.bytes), figures);
  }
  // One line and no more: a carriage return does not take back a second one.
  const int width = terminal_width(STDERR_FILENO);
  const int room = (width != 0 ? width : 80) - 1 - static_cast<int>(figures.size()) - 2;
  const std::string name = name_.substr(0, static_cast<std::size_t>(std::max(room, 0)));
  const int for_bar = room - static_cast<int>(name.size()) - 3;
  std::string line = name + "  ";
  if (has_share && for_bar >= 8) line += bar(share, std::min(for_bar, 40)) + " ";
  fmt::print(stderr, "\r{}{}\x1b[K", line, figures);
  std::fflush(stderr);
}

void Progress::finish(const Tally& tally) {
  if (!wanted_) return;
  clear();
  fmt::print(stderr, "{}: {}\n", name_, describe(tally, seconds()));
  wanted_ = live_ = false;
}

}  // namespace slipring::tools

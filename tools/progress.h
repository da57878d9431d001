// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace slipring::tools {

/// What has gone through so far.
struct Tally {
  std::uint64_t bytes = 0;
  std::uint64_t records = 0;
};

/// A live line on the terminal, at most ten times a second:
///   ticks  ████████▍       48 %  612 MB/s  9.8K rec/s  backlog 192K  1.2G of 2.5G  ETA 2s
/// The bar needs a known size. Without a terminal only finish() prints, one line.
class Progress {
 public:
  Progress(bool wanted, std::string name, std::optional<std::uint64_t> size);

  /// Cheap when it is not time yet: one read of the clock. `backlog` is asked when drawn.
  void tick(const Tally& tally, const std::function<std::uint64_t()>& backlog);
  /// Replaces the live line by a last one: bytes, records, time, rate.
  void finish(const Tally& tally);
  /// So many bytes will go through, by now and as far as anybody knows.
  void expect(std::optional<std::uint64_t> size) noexcept { size_ = size; }
  /// Takes the live line away, until the next tick draws it: somebody else has something to say.
  void clear() noexcept;
  [[nodiscard]] bool is_live() const noexcept { return live_; }
  /// Time counts from the first call of starts() to the last of moved(); without them, from the
  /// beginning to now. So a rate knows nothing of the wait for a peer, before or behind.
  void starts() noexcept;
  void moved() noexcept;
  [[nodiscard]] double seconds() const noexcept;

 private:
  void draw(const Tally& tally, std::uint64_t backlog, std::int64_t now);
  [[nodiscard]] std::string bar(double share, int width) const;

  bool wanted_;
  bool live_;
  bool utf8_;
  bool drawn_ = false;
  std::string name_;
  std::optional<std::uint64_t> size_;
  std::int64_t begun_ns_;
  std::int64_t moved_ns_ = 0;
  bool has_started_ = false;
  std::int64_t drawn_ns_;
  Tally drawn_tally_;
  double bytes_per_s_ = 0;
  double records_per_s_ = 0;
};

/// "61 378 560 bytes, 937 records, 0.04 s, 1.5 GB/s"
[[nodiscard]] std::string describe(const Tally& tally, double seconds);

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
// A book of cache lines, kept by an Access policy: for each line, which side holds a copy and who
// wrote it last, as in MESI. One thread plays both sides; what each transfer would cost is not
// said, only that it must be. Payload is filled and read in place, line by line.
#include "scenarios/lines.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "slipring/ring/lane.h"
#include "slipring/ring/total.h"

namespace slipring::bench {
namespace {

constexpr std::size_t kLine = 64;
enum Side : std::uint8_t { kProducer = 1, kConsumer = 2 };

/// Who holds what, of one area.
struct Book {
  const std::byte* from = nullptr;
  std::vector<std::uint8_t> holders;  // for each line: bits of Side
  Side side = kProducer;
  std::uint64_t upgrades = 0, reads = 0;

  void touch(const std::byte* at, std::size_t size, bool writes) noexcept {
    if (size == 0) return;
    const auto offset = static_cast<std::size_t>(at - from);
    for (std::size_t line = offset / kLine; line <= (offset + size - 1) / kLine; ++line) {
      std::uint8_t& held = holders[line];
      if (writes && held != side) {
        ++upgrades;
        held = side;
      } else if ((held & side) == 0) {
        ++reads;
        held = static_cast<std::uint8_t>(held | side);
      }
    }
  }
};
Book book;  // a policy has no state of its own; one thread

/// Real memory, and every access entered in the book.
struct BookAccess {
  template <typename T>
  [[nodiscard]] static T load_relaxed(const SharedWord<T>& word) noexcept {
    note(word, false);
    return NativeAccess::load_relaxed(word);
  }
  template <typename T>
  [[nodiscard]] static T load_acquire(const SharedWord<T>& word) noexcept {
    note(word, false);
    return NativeAccess::load_acquire(word);
  }
  template <typename T>
  static void store_relaxed(SharedWord<T>& word, std::type_identity_t<T> value) noexcept {
    note(word, true);
    NativeAccess::store_relaxed(word, value);
  }
  template <typename T>
  static void store_release(SharedWord<T>& word, std::type_identity_t<T> value) noexcept {
    note(word, true);
    NativeAccess::store_release(word, value);
  }
  template <typename T>
  static T add_release(SharedWord<T>& word, std::type_identity_t<T> value) noexcept {
    note(word, true);
    return NativeAccess::add_release(word, value);
  }
  template <typename T>
  [[nodiscard]] static bool cas_acq_rel(SharedWord<T>& word, std::type_identity_t<T>& expected,
                                        std::type_identity_t<T> desired) noexcept {
    note(word, true);
    return NativeAccess::cas_acq_rel(word, expected, desired);
  }
  static void copy_in(std::byte* shared, const void* from, std::size_t size) noexcept {
    book.touch(shared, size, true);
    NativeAccess::copy_in(shared, from, size);
  }
  static void copy_out(void* to, const std::byte* shared, std::size_t size) noexcept {
    book.touch(shared, size, false);
    NativeAccess::copy_out(to, shared, size);
  }
  static void zero(std::byte* shared, std::size_t size) noexcept {
    book.touch(shared, size, true);
    NativeAccess::zero(shared, size);
  }

 private:
  template <typename T>
  static void note(const SharedWord<T>& word, bool writes) noexcept {
    // The address is taken from the word itself: no policy is needed to know where it lies.
    book.touch(reinterpret_cast<const std::byte*>(&word), sizeof(T), writes);
  }
};

struct alignas(4096) Page {
  std::byte bytes[4096];
};

/// Memory of our own, and a book that starts with nobody holding anything.
std::span<std::byte> open_book(std::vector<Page>& pages, std::size_t bytes) {
  pages.assign(bytes / sizeof(Page) + 2, Page{});
  auto* const at = pages.front().bytes;
  book = Book{};
  book.from = at;
  book.holders.assign(pages.size() * sizeof(Page) / kLine, 0);
  return {at, bytes};
}

/// Sends and takes `count` messages, `visit` at a time, until the receiver finds nothing.
template <typename Producer, typename Consumer>
bool pass(Producer& producer, Consumer& consumer, std::size_t size, int visit, int count) {
  for (int done = 0; done < count; done += visit) {
    book.side = kProducer;
    for (int i = 0; i < visit; ++i) {
      auto claim = producer.try_claim(size);
      if (!claim) return false;
      book.touch(claim->payload.data(), size, true);
      producer.commit(size);
    }
    book.side = kConsumer;
    for (int i = 0; i < visit; ++i) {
      const auto record = consumer.try_peek();
      if (!record) return false;
      book.touch(record->payload.data(), size, false);
      (void)consumer.release(*record);
    }
    if (consumer.try_peek()) return false;
  }
  return true;
}

template <typename Producer, typename Consumer>
void count(const char* form, Producer& producer, Consumer& consumer, std::uint64_t capacity,
           std::size_t size, int visit, std::vector<LineCount>& out) {
  // Whole laps: what happens at the end of one has its share.
  const int lap = static_cast<int>(capacity / (size + 8)) / visit * visit;
  if (!pass(producer, consumer, size, visit, 2 * lap)) return;
  book.upgrades = book.reads = 0;
  if (!pass(producer, consumer, size, visit, 8 * lap)) return;
  const double messages = 8.0 * lap;
  out.push_back({form, size, visit, static_cast<double>(book.upgrades) / messages,
                 static_cast<double>(book.reads) / messages});
}

constexpr std::uint64_t kCapacity = std::uint64_t{64} << 10;

void count_lane(const char* form, std::uint32_t granule, std::size_t size, int visit,
                std::vector<LineCount>& out) {
  ring::LaneGeometry geometry;
  geometry.capacity = kCapacity;
  geometry.granule = granule;
  std::vector<Page> pages;
  const auto all = open_book(pages, ring::kLaneAreaBytes + ring::producer_area_bytes(kCapacity));
  const ring::LaneAreas areas{all.subspan(ring::kLaneAreaBytes), all.first(ring::kLaneAreaBytes)};
  ring::format_producer_area(areas.producer, geometry);
  ring::format_consumer_area(areas.consumer, geometry.lane_id);
  auto producer = ring::LaneProducer<BookAccess>::attach(areas, ring::Predecessor::none);
  auto consumer = ring::LaneConsumer<BookAccess>::attach(areas, ring::Predecessor::none);
  if (producer && consumer) count(form, *producer, *consumer, kCapacity, size, visit, out);
}

}  // namespace

std::vector<LineCount> count_lines() {
  std::vector<LineCount> out;
  for (const int visit : {1, 64}) {
    for (const std::size_t size : {8u, 16u, 56u, 64u, 256u, 1024u, 4096u}) {
      const bool fits = static_cast<std::uint64_t>(visit) * (size + 128) < kCapacity / 2;
      const int messages = fits ? visit : 4;
      count_lane("lane", 8, size, messages, out);
      count_lane("lane.lines", 64, size, messages, out);
    }
  }
  return out;
}

}  // namespace slipring::bench

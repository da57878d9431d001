// SPDX-License-Identifier: Apache-2.0
// Boost.Lockfree: spsc_queue by single and bulk calls, and queue for many producers. Both work
// between processes here, although their pointers are plain: the sides are forked, so the memory
// has one address in all of them.
#include <boost/lockfree/queue.hpp>
#include <boost/lockfree/spsc_queue.hpp>
#include <boost/version.hpp>
#include <new>

#include "harness/memory.h"
#include "loops.h"

namespace slipring::bench {
namespace {

namespace lockfree = boost::lockfree;

constexpr std::size_t kUsualRing = std::size_t{256} << 10;

/// The capacity is known to the compiler, as the library's authors advise.
template <std::size_t N, std::size_t RingBytes>
class SpscForm {
  using T = Element<N>;
  // One element more is stored than fits: full and empty differ by it.
  using Queue = lockfree::spsc_queue<T, lockfree::capacity<RingBytes / N - 1>>;

 public:
  static constexpr std::size_t kSize = N;

  struct Sender {
    Queue& queue;
    template <typename Size, typename Wait>
    bool put(Size size, std::uint64_t base, const Wait& wait) {
      T element;
      fill(element.bytes, size, base);
      while (!queue.push(element)) wait();
      return true;
    }
    template <typename Size, typename Wait>
    bool put_many(Size size, std::uint64_t base, std::uint64_t count, const Wait& wait) {
      for (std::uint64_t i = 0; i < count; ++i) fill(stage[i].bytes, size, base + i);
      for (std::size_t sent = 0; sent < count;) {
        const std::size_t now = queue.push(stage + sent, count - sent);
        if (now == 0) wait();
        sent += now;
      }
      return true;
    }
    T stage[64];
  };
  struct Receiver {
    Queue& queue;
    template <typename See, typename Wait>
    bool take(See& see, const Wait& wait) {
      while (!queue.consume_one([&](const T& element) { see(element.bytes, N); })) wait();
      return true;
    }
    template <typename See, typename Wait>
    std::size_t take_many(See& see, std::size_t max, const Wait& wait) {
      for (;;) {
        const std::size_t found = queue.pop(stage, std::min<std::size_t>(max, kMostTaken));
        for (std::size_t i = 0; i < found; ++i) see(stage[i].bytes, N);
        if (found > 0) return found;
        wait();
      }
    }
    static constexpr std::size_t kMostTaken = 64;
    T stage[kMostTaken];
  };

  static Try<SpscForm> make(const Shape& shape) {
    auto arena = Arena::make(sizeof(Queue) + 4096, shape.lock_memory);
    if (!arena) return because(arena.error());
    auto* const queue = ::new (arena->data()) Queue;
    return SpscForm(std::move(*arena), queue);
  }
  Try<Sender> sender(std::uint32_t) { return Sender{*queue_, {}}; }
  Try<Receiver> receiver() { return Receiver{*queue_, {}}; }

 private:
  SpscForm(Arena arena, Queue* queue) : arena_(std::move(arena)), queue_(queue) {}
  Arena arena_;  // the queue is not destroyed: it owns nothing else
  Queue* queue_;
};

template <std::size_t N>
using UsualSpsc = SpscForm<N, kUsualRing>;

/// The other rings, for a few sizes: each is a type of its own.
template <std::size_t... Rings>
Try<std::unique_ptr<Session>> session_of_ring(const Shape& shape, std::index_sequence<Rings...>) {
  Try<std::unique_ptr<Session>> made = because("not built for a ring of this size");
  const auto of = [&]<std::size_t Ring>() {
    switch (shape.size) {
      case 8: made = session_of<SpscForm<8, Ring>>(shape); break;
      case 64: made = session_of<SpscForm<64, Ring>>(shape); break;
      case 1024: made = session_of<SpscForm<1024, Ring>>(shape); break;
      default: made = because("not built for messages of this size in such a ring");
    }
  };
  ((shape.ring_bytes == Rings ? of.template operator()<Rings>() : void()), ...);
  return made;
}
using OtherRings = std::index_sequence<std::size_t{64} << 10, std::size_t{1} << 20,
                                       std::size_t{4} << 20, std::size_t{64} << 20>;

/// For many producers. Its nodes are indices into a fixed pool: no allocation, at most 65 534.
template <std::size_t N>
class QueueForm {
  using T = Element<N>;
  // A node is the element, a tagged index, and what rounds them up to a line.
  static constexpr std::size_t kNode = (sizeof(T) + 8 + 63) / 64 * 64;
  using Queue = lockfree::queue<T, lockfree::capacity<std::min<std::size_t>(
                                       60'000, std::max<std::size_t>(16, kUsualRing / kNode))>>;

 public:
  static constexpr std::size_t kSize = N;

  struct Sender {
    Queue& queue;
    template <typename Size, typename Wait>
    bool put(Size size, std::uint64_t base, const Wait& wait) {
      T element;
      fill(element.bytes, size, base);
      while (!queue.bounded_push(element)) wait();
      return true;
    }
  };
  struct Receiver {
    Queue& queue;
    template <typename See, typename Wait>
    bool take(See& see, const Wait& wait) {
      while (!queue.consume_one([&](const T& element) { see(element.bytes, N); })) wait();
      return true;
    }
  };

  static Try<QueueForm> make(const Shape& shape) {
    auto arena = Arena::make(sizeof(Queue) + 4096, shape.lock_memory);
    if (!arena) return because(arena.error());
    auto* const queue = ::new (arena->data()) Queue;
    return QueueForm(std::move(*arena), queue);
  }
  Try<Sender> sender(std::uint32_t) { return Sender{*queue_}; }
  Try<Receiver> receiver() { return Receiver{*queue_}; }

 private:
  QueueForm(Arena arena, Queue* queue) : arena_(std::move(arena)), queue_(queue) {}
  Arena arena_;
  Queue* queue_;
};

}  // namespace

void add_boost(Field& field) {
  Traits spsc;
  spsc.name = "boost.spsc_queue";
  spsc.family = "boost";
  spsc.what = "Boost.Lockfree spsc_queue " BOOST_LIB_VERSION;
  spsc.sizes = sizes_of(ElementSizes{});
  spsc.groups = true;
  spsc.retries = true;
  field.add(spsc, [](const Shape& shape) {
    return shape.ring_bytes == kUsualRing ? session_of_size<UsualSpsc>(shape, ElementSizes{})
                                          : session_of_ring(shape, OtherRings{});
  });
  Traits many = spsc;
  many.name = "boost.queue";
  many.what = "Boost.Lockfree queue " BOOST_LIB_VERSION;
  using Sizes = std::index_sequence<8, 16, 64, 256>;
  many.sizes = sizes_of(Sizes{});
  many.groups = false;
  many.max_producers = 4;
  many.has_ring = false;
  field.add(many, [](const Shape& shape) { return session_of_size<QueueForm>(shape, Sizes{}); });
}

}  // namespace slipring::bench

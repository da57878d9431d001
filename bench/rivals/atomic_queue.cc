// SPDX-License-Identifier: Apache-2.0
// AtomicQueue2 of Maxim Egorushkin: for one producer, and for many.
#include <atomic_queue/atomic_queue.h>

#include <new>

#include "harness/memory.h"
#include "loops.h"

namespace slipring::bench {
namespace {

constexpr std::size_t kUsualRing = std::size_t{256} << 10;

template <std::size_t N, bool kOneProducer>
class Form {
  using T = Element<N>;
  // A byte of state beside each element, in an array of its own.
  using Queue = ::atomic_queue::AtomicQueue2<T, static_cast<unsigned>(kUsualRing / N), true, true,
                                             false, kOneProducer>;

 public:
  static constexpr std::size_t kSize = N;

  struct Sender {
    Queue& queue;
    template <typename Size, typename Wait>
    bool put(Size size, std::uint64_t base, const Wait& wait) {
      T element;
      fill(element.bytes, size, base);
      while (!queue.try_push(element)) wait();
      return true;
    }
  };
  struct Receiver {
    Queue& queue;
    template <typename See, typename Wait>
    bool take(See& see, const Wait& wait) {
      T element;
      while (!queue.try_pop(element)) wait();
      see(element.bytes, N);
      return true;
    }
  };

  static Try<Form> make(const Shape& shape) {
    auto arena = Arena::make(sizeof(Queue) + 4096, shape.lock_memory);
    if (!arena) return because(arena.error());
    auto* const queue = ::new (arena->data()) Queue;
    return Form(std::move(*arena), queue);
  }
  Try<Sender> sender(std::uint32_t) { return Sender{*queue_}; }
  Try<Receiver> receiver() { return Receiver{*queue_}; }

 private:
  Form(Arena arena, Queue* queue) : arena_(std::move(arena)), queue_(queue) {}
  Arena arena_;
  Queue* queue_;
};
template <std::size_t N>
using One = Form<N, true>;
template <std::size_t N>
using Many = Form<N, false>;

}  // namespace

void add_atomic_queue(Field& field) {
  Traits one;
  one.name = "atomic_queue.spsc";
  one.family = "atomic_queue";
  one.what = "AtomicQueue2, one producer";
  one.sizes = sizes_of(ElementSizes{});
  one.retries = true;
  field.add(one, [](const Shape& shape) { return session_of_size<One>(shape, ElementSizes{}); });
  Traits many = one;
  many.name = "atomic_queue.mpmc";
  many.what = "AtomicQueue2, many producers";
  using Sizes = std::index_sequence<8, 16, 64, 256>;
  many.sizes = sizes_of(Sizes{});
  many.max_producers = 4;
  field.add(many, [](const Shape& shape) { return session_of_size<Many>(shape, Sizes{}); });
}

}  // namespace slipring::bench

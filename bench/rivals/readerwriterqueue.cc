// SPDX-License-Identifier: Apache-2.0
// moodycamel::ReaderWriterQueue. It allocates, so it stays in one process.
#include <readerwriterqueue/readerwriterqueue.h>

#include <memory>

#include "loops.h"

namespace slipring::bench {
namespace {

template <std::size_t N>
class SpscForm {
  using T = Element<N>;
  using Queue = moodycamel::ReaderWriterQueue<T>;

 public:
  static constexpr std::size_t kSize = N;

  struct Sender {
    Queue& queue;
    template <typename Size, typename Wait>
    bool put(Size size, std::uint64_t base, const Wait& wait) {
      T element;
      fill(element.bytes, size, base);
      while (!queue.try_enqueue(element)) wait();  // it does not grow: the ring is as large as ours
      return true;
    }
  };
  struct Receiver {
    Queue& queue;
    template <typename See, typename Wait>
    bool take(See& see, const Wait& wait) {
      for (;;) {
        if (const T* const first = queue.peek()) {
          see(first->bytes, N);
          queue.pop();
          return true;
        }
        wait();
      }
    }
  };

  static Try<SpscForm> make(const Shape& shape) {
    return SpscForm(std::make_shared<Queue>(shape.ring_bytes / sizeof(T)));
  }
  Try<Sender> sender(std::uint32_t) { return Sender{*queue_}; }
  Try<Receiver> receiver() { return Receiver{*queue_}; }

 private:
  explicit SpscForm(std::shared_ptr<Queue> queue) : queue_(std::move(queue)) {}
  std::shared_ptr<Queue> queue_;
};

}  // namespace

void add_readerwriterqueue(Field& field) {
  Traits traits;
  traits.name = "moodycamel.spsc";
  traits.family = "moodycamel";
  traits.what = "moodycamel ReaderWriterQueue";
  traits.placement = Placement::threads;
  traits.sizes = sizes_of(ElementSizes{});
  traits.retries = true;
  field.add(traits,
            [](const Shape& shape) { return session_of_size<SpscForm>(shape, ElementSizes{}); });
}

}  // namespace slipring::bench

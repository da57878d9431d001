// SPDX-License-Identifier: Apache-2.0
// moodycamel::ConcurrentQueue, by tokens, single and bulk. It allocates, so it stays in one
// process.
#include <concurrentqueue/concurrentqueue.h>

#include <memory>

#include "loops.h"

namespace slipring::bench {
namespace {

template <std::size_t N>
class ManyForm {
  using T = Element<N>;
  using Queue = moodycamel::ConcurrentQueue<T>;

 public:
  static constexpr std::size_t kSize = N;

  struct Sender {
    Queue& queue;
    moodycamel::ProducerToken token;
    T stage[64];
    template <typename Size, typename Wait>
    bool put(Size size, std::uint64_t base, const Wait& wait) {
      T element;
      fill(element.bytes, size, base);
      while (!queue.try_enqueue(token, element)) wait();
      return true;
    }
    template <typename Size, typename Wait>
    bool put_many(Size size, std::uint64_t base, std::uint64_t count, const Wait& wait) {
      for (std::uint64_t i = 0; i < count; ++i) fill(stage[i].bytes, size, base + i);
      while (!queue.try_enqueue_bulk(token, stage, count)) wait();
      return true;
    }
  };
  struct Receiver {
    Queue& queue;
    moodycamel::ConsumerToken token;
    T stage[64];
    template <typename See, typename Wait>
    bool take(See& see, const Wait& wait) {
      while (!queue.try_dequeue(token, stage[0])) wait();
      see(stage[0].bytes, N);
      return true;
    }
    template <typename See, typename Wait>
    std::size_t take_many(See& see, std::size_t max, const Wait& wait) {
      std::size_t found = 0;
      while ((found = queue.try_dequeue_bulk(token, stage, std::min<std::size_t>(max, 64))) == 0) {
        wait();
      }
      for (std::size_t i = 0; i < found; ++i) see(stage[i].bytes, N);
      return found;
    }
  };

  static Try<ManyForm> make(const Shape& shape) {
    return ManyForm(
        std::make_shared<Queue>(shape.ring_bytes / sizeof(T), std::size_t{shape.producers}, 0));
  }
  Try<Sender> sender(std::uint32_t) {
    return Sender{*queue_, moodycamel::ProducerToken(*queue_), {}};
  }
  Try<Receiver> receiver() { return Receiver{*queue_, moodycamel::ConsumerToken(*queue_), {}}; }

 private:
  explicit ManyForm(std::shared_ptr<Queue> queue) : queue_(std::move(queue)) {}
  std::shared_ptr<Queue> queue_;
};

}  // namespace

void add_concurrentqueue(Field& field) {
  Traits traits;
  traits.name = "moodycamel.mpmc";
  traits.family = "moodycamel";
  traits.what = "moodycamel ConcurrentQueue, by tokens";
  traits.placement = Placement::threads;
  using Sizes = std::index_sequence<8, 16, 64, 256, 1024>;
  traits.sizes = sizes_of(Sizes{});
  traits.max_producers = 4;
  traits.groups = true;
  traits.retries = true;
  field.add(traits, [](const Shape& shape) { return session_of_size<ManyForm>(shape, Sizes{}); });
}

}  // namespace slipring::bench

// SPDX-License-Identifier: Apache-2.0
// rte_ring of DPDK, over memory of ours: element calls, single and in bursts of 32; one producer,
// or many by compare-and-swap, by relaxed tail and by head-tail sync. Its functions are inline;
// only init comes from the library, and no environment layer is started.
#include <rte_ring.h>
#include <rte_ring_elem.h>
#include <rte_ring_peek_zc.h>

#include <bit>

#include "harness/memory.h"
#include "loops.h"

namespace slipring::bench {
namespace {

enum class Sync { one, many, relaxed_tail, head_tail };

constexpr unsigned flags_of(Sync sync) {
  switch (sync) {
    case Sync::one: return RING_F_SP_ENQ | RING_F_SC_DEQ;
    case Sync::many: return RING_F_SC_DEQ;
    case Sync::relaxed_tail: return RING_F_MP_RTS_ENQ | RING_F_SC_DEQ;
    case Sync::head_tail: return RING_F_MP_HTS_ENQ | RING_F_SC_DEQ;
  }
  return 0;
}

template <std::size_t N, Sync sync>
class Form {
  using T = Element<N>;
  static constexpr unsigned kBytes = sizeof(T);

  static unsigned enqueue(rte_ring* ring, const T* from, unsigned count) {
    switch (sync) {
      case Sync::one: return rte_ring_sp_enqueue_burst_elem(ring, from, kBytes, count, nullptr);
      case Sync::many: return rte_ring_mp_enqueue_burst_elem(ring, from, kBytes, count, nullptr);
      default: return rte_ring_enqueue_burst_elem(ring, from, kBytes, count, nullptr);
    }
  }

 public:
  static constexpr std::size_t kSize = N;

  struct Sender {
    rte_ring* ring;
    T stage[64];
    template <typename Size, typename Wait>
    bool put(Size size, std::uint64_t base, const Wait& wait) {
      T element;
      fill(element.bytes, size, base);
      while (enqueue(ring, &element, 1) == 0) wait();
      return true;
    }
    template <typename Size, typename Wait>
    bool put_many(Size size, std::uint64_t base, std::uint64_t count, const Wait& wait) {
      for (std::uint64_t i = 0; i < count; ++i) fill(stage[i].bytes, size, base + i);
      for (std::uint64_t sent = 0; sent < count;) {
        const unsigned now = enqueue(ring, stage + sent, static_cast<unsigned>(count - sent));
        if (now == 0) wait();
        sent += now;
      }
      return true;
    }
  };
  struct Receiver {
    rte_ring* ring;
    T stage[64];
    template <typename See, typename Wait>
    bool take(See& see, const Wait& wait) {
      while (rte_ring_sc_dequeue_elem(ring, stage, kBytes) != 0) wait();
      see(stage[0].bytes, N);
      return true;
    }
    template <typename See, typename Wait>
    std::size_t take_many(See& see, std::size_t max, const Wait& wait) {
      unsigned found = 0;
      while ((found = rte_ring_sc_dequeue_burst_elem(
                  ring, stage, kBytes, static_cast<unsigned>(std::min<std::size_t>(max, 64)),
                  nullptr)) == 0) {
        wait();
      }
      for (unsigned i = 0; i < found; ++i) see(stage[i].bytes, N);
      return found;
    }
  };

  static Try<Form> make(const Shape& shape) {
    const auto count = static_cast<unsigned>(std::bit_floor(shape.ring_bytes / sizeof(T)));
    const ssize_t bytes = rte_ring_get_memsize_elem(kBytes, count);
    if (bytes < 0) return because("rte_ring: no ring of this size");
    auto arena = Arena::make(static_cast<std::size_t>(bytes) + 4096, shape.lock_memory);
    if (!arena) return because(arena.error());
    auto* const ring = reinterpret_cast<rte_ring*>(arena->data());
    if (rte_ring_init(ring, "slipring", count, flags_of(sync)) != 0) {
      return because("rte_ring_init refused");
    }
    return Form(std::move(*arena), ring);
  }
  Try<Sender> sender(std::uint32_t) { return Sender{ring_, {}}; }
  Try<Receiver> receiver() { return Receiver{ring_, {}}; }
  [[nodiscard]] rte_ring* ring() const noexcept { return ring_; }

 private:
  Form(Arena arena, rte_ring* ring) : arena_(std::move(arena)), ring_(ring) {}
  Arena arena_;
  rte_ring* ring_;
};

/// Filled and read in place, by the calls for that.
template <std::size_t N>
class InPlace : public Form<N, Sync::one> {
  using T = Element<N>;
  static constexpr unsigned kBytes = sizeof(T);

 public:
  explicit InPlace(Form<N, Sync::one> form) : Form<N, Sync::one>(std::move(form)) {}
  static Try<InPlace> make(const Shape& shape) {
    auto form = Form<N, Sync::one>::make(shape);
    if (!form) return because(form.error());
    return InPlace(std::move(*form));
  }

  struct Sender {
    rte_ring* ring;
    template <typename Size, typename Wait>
    bool put(Size size, std::uint64_t base, const Wait& wait) {
      return put_many(size, base, 1, wait);
    }
    template <typename Size, typename Wait>
    bool put_many(Size size, std::uint64_t base, std::uint64_t count, const Wait& wait) {
      rte_ring_zc_data room;
      for (std::uint64_t sent = 0; sent < count;) {
        const unsigned now = rte_ring_enqueue_zc_burst_elem_start(
            ring, kBytes, static_cast<unsigned>(count - sent), &room, nullptr);
        for (unsigned i = 0; i < now; ++i) fill(at(room, i), size, base + sent + i);
        if (now == 0)
          wait();
        else
          rte_ring_enqueue_zc_elem_finish(ring, now);
        sent += now;
      }
      return true;
    }
  };
  struct Receiver {
    rte_ring* ring;
    template <typename See, typename Wait>
    bool take(See& see, const Wait& wait) {
      return take_many(see, 1, wait) == 1;
    }
    template <typename See, typename Wait>
    std::size_t take_many(See& see, std::size_t max, const Wait& wait) {
      rte_ring_zc_data there;
      unsigned found = 0;
      while ((found = rte_ring_dequeue_zc_burst_elem_start(ring, kBytes, static_cast<unsigned>(max),
                                                           &there, nullptr)) == 0) {
        wait();
      }
      for (unsigned i = 0; i < found; ++i) see(at(there, i), N);
      rte_ring_dequeue_zc_elem_finish(ring, found);
      return found;
    }
  };
  Try<Sender> sender(std::uint32_t) { return Sender{this->ring()}; }
  Try<Receiver> receiver() { return Receiver{this->ring()}; }

 private:
  /// The i-th of a burst that may go around the end.
  static std::byte* at(const rte_ring_zc_data& data, unsigned i) noexcept {
    return i < data.n1 ? static_cast<T*>(data.ptr1)[i].bytes
                       : static_cast<T*>(data.ptr2)[i - data.n1].bytes;
  }
};

template <std::size_t N>
using One = Form<N, Sync::one>;
template <std::size_t N>
using Many = Form<N, Sync::many>;
template <std::size_t N>
using RelaxedTail = Form<N, Sync::relaxed_tail>;
template <std::size_t N>
using HeadTail = Form<N, Sync::head_tail>;

}  // namespace

void add_dpdk(Field& field) {
  Traits one;
  one.name = "dpdk.ring";
  one.family = "dpdk";
  one.what = "DPDK rte_ring, SP/SC";
  one.sizes = sizes_of(ElementSizes{});
  one.groups = true;
  one.retries = true;
  field.add(one, [](const Shape& shape) { return session_of_size<One>(shape, ElementSizes{}); });
  Traits in_place = one;
  in_place.name = "dpdk.ring_zc";
  in_place.what = "DPDK rte_ring, SP/SC, in place";
  field.add(in_place,
            [](const Shape& shape) { return session_of_size<InPlace>(shape, ElementSizes{}); });
  using Sizes = std::index_sequence<8, 16, 64>;
  Traits many = one;
  many.sizes = sizes_of(Sizes{});
  many.max_producers = 4;
  many.name = "dpdk.ring_mp";
  many.what = "DPDK rte_ring, MP/SC";
  field.add(many, [](const Shape& shape) { return session_of_size<Many>(shape, Sizes{}); });
  many.groups = false;
  many.name = "dpdk.ring_rts";
  many.what = "DPDK rte_ring, relaxed tail sync";
  field.add(many, [](const Shape& shape) { return session_of_size<RelaxedTail>(shape, Sizes{}); });
  many.name = "dpdk.ring_hts";
  many.what = "DPDK rte_ring, head-tail sync";
  field.add(many, [](const Shape& shape) { return session_of_size<HeadTail>(shape, Sizes{}); });
}

}  // namespace slipring::bench

// SPDX-License-Identifier: Apache-2.0
// slipring's rings, in the forms of their API: bytes sent, claimed and filled in place, typed; one
// sender or many in either order; each way to wait.
#include <unistd.h>

#include <bit>
#include <chrono>
#include <utility>

#include "harness/memory.h"
#include "loops.h"
#include "slipring/channel/shm.h"
#include "slipring/channel/typed.h"

namespace slipring::bench {
namespace {

using namespace slipring::channel;

/// What of ShmOptions a contender decides.
struct Setup {
  RingForm form = RingForm::lane;
  wait::WaitStrategy wait = wait::WaitStrategy::adaptive();
  std::uint32_t granule = 8;
  Profile profile = Profile::balanced;
};

ShmOptions options_of(const Setup& setup, const Shape& shape) {
  ShmOptions options;
  options.kind = segment::Backend::memfd;
  options.form = setup.form;
  options.senders = shape.producers;
  options.capacity = shape.ring_bytes;
  if (setup.form == RingForm::per_producer) {
    // The storage of all lanes together is what the others have.
    options.capacity = std::bit_floor(std::max<std::uint64_t>(
        ring::kMinCapacity, shape.ring_bytes / std::max(1u, shape.producers)));
  }
  options.wait = setup.wait;
  options.granule = setup.granule;
  options.profile = setup.profile;
  options.lock = shape.lock_memory;
  return options;
}

/// A ring in memory without a name. Each end has a descriptor of its own, so that both may be in
/// one process.
class Made {
 public:
  static Try<Made> make(const ShmOptions& options) {
    auto segment = create_unnamed_ring(options);
    if (!segment) return because(text_of(segment.error()));
    return Made(options, std::move(*segment));
  }
  template <typename End>
  [[nodiscard]] Try<End> attach() const {
    auto mapped =
        segment::Segment::from_fd(UniqueFd(::dup(segment_->fd())), segment::OpenMode::read_write);
    if (!mapped) return because(text_of(mapped.error()));
    auto end = End::attach(std::move(*mapped), options_);
    if (!end) return because(text_of(end.error()));
    return std::move(*end);
  }

 private:
  Made(const ShmOptions& options, segment::Segment segment)
      : options_(options), segment_(std::make_shared<segment::Segment>(std::move(segment))) {}
  ShmOptions options_;
  std::shared_ptr<segment::Segment> segment_;
};

enum class How { send, claim };

template <How how>
class BytesSender {
 public:
  explicit BytesSender(ShmSender tx) : tx_(std::move(tx)) {}

  template <typename Size, typename Wait>
  bool put(Size size, std::uint64_t base, const Wait&) {
    if constexpr (how == How::claim) {
      auto claim = tx_.claim(size);
      if (!claim) [[unlikely]]
        return false;
      fill(claim->payload().data(), size, base);
      claim->commit(size);
      return true;
    } else {
      return staged(size, base,
                    [&](std::span<const std::byte> bytes) { return tx_.send(bytes).has_value(); });
    }
  }

  template <typename Size, typename Wait>
  bool put_many(Size size, std::uint64_t base, std::uint64_t count, const Wait&) {
    std::uint64_t i = 0;
    while (i < count) {
      auto group = tx_.group();
      if (!group) return put_rest(size, base + i, count - i);
      bool full = false;
      while (i < count && !full) {
        const auto sent = staged(size, base + i, [&](std::span<const std::byte> bytes) {
          return group->try_send(bytes);
        });
        if (sent)
          ++i;
        else if (sent.error().code == Errc::full)
          full = true;
        else
          return false;
      }
      group->commit();  // of a group that found no room, what it has
      if (full && !tx_.wait_for_room(size, false, Deadline::never())) return false;
    }
    return true;
  }

 private:
  template <typename Size>
  bool put_rest(Size size, std::uint64_t base, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
      if (!put(size, base + i, Backoff(false))) return false;
    }
    return true;
  }

  /// Filled where the compiler likes if it knows how large, as a caller with a type would do.
  template <typename Size, typename Send>
  auto staged(Size size, std::uint64_t base, const Send& send) {
    if constexpr (requires { Size::value; }) {
      alignas(64) std::byte bytes[Size::value];
      fill(bytes, size, base);
      return send(std::span<const std::byte>(bytes, size));
    } else {
      std::byte* const bytes = stage_.front().bytes;
      fill(bytes, size, base);
      return send(std::span<const std::byte>(bytes, size));
    }
  }

  struct alignas(64) Line {
    std::byte bytes[64];
  };
  ShmSender tx_;
  std::vector<Line> stage_{std::size_t{1} << 10};
};

class BytesReceiver {
 public:
  explicit BytesReceiver(ShmReceiver rx) : rx_(std::move(rx)) {}

  template <typename See, typename Wait>
  bool take(See& see, const Wait&) {
    auto message = rx_.peek();
    if (!message) [[unlikely]]
      return false;
    see(message->bytes().data(), message->bytes().size());
    return true;
  }
  template <typename See, typename Wait>
  std::size_t take_many(See& see, std::size_t max, const Wait&) {
    ring::Record records[64];
    const auto found = rx_.peek_many({records, std::min<std::size_t>(max, 64)});
    if (!found) [[unlikely]]
      return 0;
    for (std::size_t i = 0; i < *found; ++i) {
      see(records[i].payload.data(), records[i].payload.size());
    }
    rx_.release(records[*found - 1]);
    return *found;
  }

 private:
  ShmReceiver rx_;
};

template <How how>
class BytesForm {
 public:
  static Try<BytesForm> make(const Shape& shape, const Setup& setup) {
    auto made = Made::make(options_of(setup, shape));
    if (!made) return because(made.error());
    return BytesForm(std::move(*made));
  }
  Try<BytesSender<how>> sender(std::uint32_t) {
    auto tx = made_.attach<ShmSender>();
    if (!tx) return because(tx.error());
    return BytesSender<how>(std::move(*tx));
  }
  Try<BytesReceiver> receiver() {
    auto rx = made_.attach<ShmReceiver>();
    if (!rx) return because(rx.error());
    return BytesReceiver(std::move(*rx));
  }

 private:
  explicit BytesForm(Made made) : made_(std::move(made)) {}
  Made made_;
};

template <std::size_t N>
class TypedForm {
  using T = Element<N>;

 public:
  static constexpr std::size_t kSize = N;

  class Tx {
   public:
    explicit Tx(Sender<T> tx) : tx_(std::move(tx)) {}
    template <typename Size, typename Wait>
    bool put(Size size, std::uint64_t base, const Wait&) {
      T value;
      fill(value.bytes, size, base);
      return tx_.send(value).has_value();
    }
    template <typename Size, typename Wait>
    bool put_many(Size size, std::uint64_t base, std::uint64_t count, const Wait&) {
      T values[kMostTogether];
      for (std::uint64_t at = 0; at < count;) {
        const std::size_t n = std::min<std::uint64_t>(count - at, kMostTogether);
        for (std::size_t i = 0; i < n; ++i) fill(values[i].bytes, size, base + at + i);
        if (!tx_.send_run({values, n})) return false;
        at += n;
      }
      return true;
    }

   private:
    static constexpr std::size_t kMostTogether = 32;
    Sender<T> tx_;
  };
  class Rx {
   public:
    explicit Rx(Receiver<T> rx) : rx_(std::move(rx)) {}
    template <typename See, typename Wait>
    bool take(See& see, const Wait&) {
      auto message = rx_.peek();
      if (!message) [[unlikely]]
        return false;
      see(message->value().bytes, N);
      return true;
    }
    /// A run, however long: nobody here sends longer ones than are asked for.
    template <typename See, typename Wait>
    std::size_t take_many(See& see, std::size_t, const Wait&) {
      const auto run = rx_.peek_run();
      if (!run) [[unlikely]]
        return 0;
      for (const T& value : run->values()) see(value.bytes, N);
      return run->values().size();
    }

   private:
    Receiver<T> rx_;
  };

  static Try<TypedForm> make(const Shape& shape) {
    ShmOptions options = options_of({}, shape);
    options.schema = schema_of<T>();
    auto made = Made::make(options);
    if (!made) return because(made.error());
    return TypedForm(std::move(*made));
  }
  Try<Tx> sender(std::uint32_t) {
    auto tx = made_.attach<Sender<T>>();
    if (!tx) return because(tx.error());
    return Tx(std::move(*tx));
  }
  Try<Rx> receiver() {
    auto rx = made_.attach<Receiver<T>>();
    if (!rx) return because(rx.error());
    return Rx(std::move(*rx));
  }

 private:
  explicit TypedForm(Made made) : made_(std::move(made)) {}
  Made made_;
};

Traits traits(const char* name, const char* what) {
  Traits made;
  made.name = name;
  made.family = "slipring";
  made.what = what;
  made.max_size = std::size_t{64} << 10;
  made.groups = true;
  made.parks = true;  // an adaptive wait on one CPU parks at once
  return made;
}

template <How how>
void add(Field& field, const Traits& traits, const Setup& setup) {
  field.add(traits,
            [setup](const Shape& shape) { return session_of<BytesForm<how>>(shape, setup); });
}

}  // namespace

void add_lanes(Field& field) {
  using wait::WaitStrategy;
  add<How::send>(field, traits("slipring", "slipring, send of bytes"), {});
  add<How::claim>(field, traits("slipring.claim", "slipring, filled in place"), {});
  Traits typed = traits("slipring.typed", "slipring, Sender<T> and Receiver<T>");
  using TypedSizes = std::index_sequence<8, 64, 256>;
  typed.sizes = sizes_of(TypedSizes{});
  field.add(typed,
            [](const Shape& shape) { return session_of_size<TypedForm>(shape, TypedSizes{}); });
  Traits spin = traits("slipring.spin", "slipring, waits by spinning");
  spin.parks = false;
  add<How::claim>(field, spin, {.wait = WaitStrategy::spin()});
  add<How::claim>(field, traits("slipring.park", "slipring, parks at once"),
                  {.wait = WaitStrategy::park()});
  add<How::claim>(field, traits("slipring.lines", "slipring, a line for each record"),
                  {.granule = 64});
  add<How::send>(field, traits("slipring.unpaced", "slipring, profile latency: never stays away"),
                 {.profile = Profile::latency});
  add<How::send>(field, traits("slipring.throughput", "slipring, profile throughput"),
                 {.profile = Profile::throughput});
  Traits threads = traits("slipring.threads", "slipring, between threads");
  threads.placement = Placement::threads;
  add<How::claim>(field, threads, {});
  Traits many = traits("slipring.mpsc", "slipring, many senders, order of each");
  many.max_producers = 4;
  add<How::claim>(field, many, {.form = RingForm::per_producer});
  many = traits("slipring.total", "slipring, many senders, one order");
  many.max_producers = 4;
  many.groups = false;
  many.max_size = std::size_t{32} << 10;  // a quarter of the ring, less its header
  add<How::claim>(field, many, {.form = RingForm::total, .granule = 64});
}

}  // namespace slipring::bench

// SPDX-License-Identifier: Apache-2.0
// slipring's messages of any size: by reference to a block of a pool, and in chunks.
#include <unistd.h>

#include <memory>
#include <vector>

#include "harness/memory.h"
#include "loops.h"
#include "slipring/channel/message_receiver.h"
#include "slipring/channel/message_sender.h"

namespace slipring::bench {
namespace {

using namespace slipring::channel;

enum class By { block, stream };

/// Messages of `size` bytes, all by the same tier.
template <By by>
class Form {
 public:
  class Tx {
   public:
    // A stream is of bytes that are there already, filled once; a block is filled each time.
    Tx(MessageSender tx, std::size_t size)
        : tx_(std::move(tx)), mine_(by == By::stream ? size : 0) {
      if (by == By::stream) fill(mine_.data(), size, 0);
    }
    template <typename Size, typename Wait>
    bool put(Size size, std::uint64_t base, const Wait& wait) {
      if constexpr (by == By::block) {
        for (;;) {
          auto claim = tx_.claim(size);
          if (!claim && claim.error().code != Errc::full) return false;
          if (!claim || claim->tier() != Tier::block) {
            wait();  // every block is under way; room in the ring is not what is asked for
            continue;
          }
          fill(claim->payload().data(), size, base);
          return claim->commit(size).has_value();
        }
      } else {
        std::memcpy(mine_.data(), &base, 8);
        auto stream = tx_.stream(size);
        if (!stream) return false;
        std::size_t at = 0;
        while (!stream->done()) {
          const auto body = stream->next();
          if (!body) return false;
          std::memcpy(body->data(), mine_.data() + at, body->size());
          at += body->size();
          if (!stream->commit(body->size())) return false;
        }
        return true;
      }
    }

   private:
    MessageSender tx_;
    std::vector<std::byte> mine_;
  };

  class Rx {
   public:
    Rx(MessageReceiver rx, std::size_t size)
        : rx_(std::move(rx)), mine_(by == By::stream ? size : 0) {}

    /// Blocks are read in place; a stream's bytes are kept, in memory of its receiver.
    template <typename See, typename Wait>
    bool take(See& see, const Wait&) {
      std::uint64_t sum = 0;
      for (;;) {
        auto part = rx_.peek();
        if (!part) return false;
        const auto bytes = part->bytes();
        if constexpr (by == By::block) {
          see(bytes.data(), bytes.size());
          return true;
        } else {
          const std::size_t at = part->offset();
          if (at % 8 != 0 || at + bytes.size() > mine_.size()) return false;
          std::memcpy(mine_.data() + at, bytes.data(), bytes.size());
          sum += sum_of(bytes.data(), bytes.size());
          if (!part->is_last()) continue;
          std::uint64_t base = 0;
          std::memcpy(&base, mine_.data(), 8);
          see.summed(at + bytes.size(), base, sum);
          return true;
        }
      }
    }

   private:
    MessageReceiver rx_;
    std::vector<std::byte> mine_;
  };

  static Try<Form> make(const Shape& shape) {
    ShmOptions options;
    options.kind = segment::Backend::memfd;
    options.capacity = shape.ring_bytes;
    options.lock = shape.lock_memory;
    if (by == By::block) {
      // As many bytes of blocks as the others have of ring, but two of them at least.
      const std::size_t count = std::max<std::size_t>(2, shape.ring_bytes / shape.size);
      options.pool = pool::PoolSpec{}.with(shape.size, static_cast<std::uint32_t>(count) + 1);
    }
    auto segment = create_unnamed_ring(options);
    if (!segment) return because(text_of(segment.error()));
    return Form(options, std::move(*segment), shape.size);
  }
  Try<Tx> sender(std::uint32_t) {
    auto ring = attach<ShmSender>();
    if (!ring) return because(ring.error());
    MessageSender::Options options;
    options.tiers.block_from = by == By::block ? 1 : ~std::uint64_t{0};
    auto tx = MessageSender::over(std::move(*ring), options);
    if (!tx) return because(text_of(tx.error()));
    return Tx(std::move(*tx), size_);
  }
  Try<Rx> receiver() {
    auto ring = attach<ShmReceiver>();
    if (!ring) return because(ring.error());
    MessageReceiver::Options options;
    options.mode = frame::Mode::parts;
    auto rx = MessageReceiver::over(std::move(*ring), options);
    if (!rx) return because(text_of(rx.error()));
    return Rx(std::move(*rx), size_);
  }

 private:
  Form(const ShmOptions& options, segment::Segment segment, std::size_t size)
      : options_(options),
        segment_(std::make_shared<segment::Segment>(std::move(segment))),
        size_(size) {}
  template <typename End>
  Try<End> attach() const {
    auto mapped =
        segment::Segment::from_fd(UniqueFd(::dup(segment_->fd())), segment::OpenMode::read_write);
    if (!mapped) return because(text_of(mapped.error()));
    auto end = End::attach(std::move(*mapped), options_);
    if (!end) return because(text_of(end.error()));
    return std::move(*end);
  }

  ShmOptions options_;
  std::shared_ptr<segment::Segment> segment_;
  std::size_t size_;
};

}  // namespace

void add_messages(Field& field) {
  Traits block;
  block.name = "slipring.block";
  block.family = "slipring";
  block.what = "slipring, blocks by reference";
  block.min_size = std::size_t{1} << 10;
  block.max_size = pool::kMaxBlockBytes;
  block.has_ring = false;
  block.parks = true;
  block.round_trips = false;  // hand_over.cc asks that of blocks
  field.add(block, [](const Shape& shape) { return session_of<Form<By::block>>(shape); });
  Traits stream = block;
  stream.name = "slipring.stream";
  stream.what = "slipring, in chunks";
  stream.min_size = std::size_t{64} << 10;
  stream.max_size = std::size_t{64} << 20;
  field.add(stream, [](const Shape& shape) { return session_of<Form<By::stream>>(shape); });
}

}  // namespace slipring::bench

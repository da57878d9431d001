// SPDX-License-Identifier: Apache-2.0
// Boost.Interprocess message_queue: copies under a lock, in a segment of its own making.
#include <unistd.h>

#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/version.hpp>
#include <memory>

#include "loops.h"

namespace slipring::bench {
namespace {

namespace ipc = boost::interprocess;

class Form {
 public:
  struct Sender {
    ipc::message_queue& queue;
    std::vector<std::byte> stage;
    template <typename Size, typename Wait>
    bool put(Size size, std::uint64_t base, const Wait&) {
      fill(stage.data(), size, base);
      queue.send(stage.data(), size, 0);
      return true;
    }
  };
  struct Receiver {
    ipc::message_queue& queue;
    std::vector<std::byte> stage;
    template <typename See, typename Wait>
    bool take(See& see, const Wait&) {
      ipc::message_queue::size_type got = 0;
      unsigned priority = 0;
      queue.receive(stage.data(), stage.size(), got, priority);
      see(stage.data(), got);
      return true;
    }
  };

  static Try<Form> make(const Shape& shape) {
    static int counter = 0;
    const std::string name =
        "slipring-bench-" + std::to_string(::getpid()) + "-" + std::to_string(++counter);
    try {
      auto queue = std::make_shared<ipc::message_queue>(
          ipc::create_only, name.c_str(), std::max<std::size_t>(1, shape.ring_bytes / shape.size),
          shape.size);
      // The sides are forked and have it mapped: whatever ends us, no name is left.
      ipc::message_queue::remove(name.c_str());
      return Form(std::move(queue), shape.size);
    } catch (const ipc::interprocess_exception& refused) {
      return because(refused.what());
    }
  }
  Try<Sender> sender(std::uint32_t) { return Sender{*queue_, bytes()}; }
  Try<Receiver> receiver() { return Receiver{*queue_, bytes()}; }

 private:
  Form(std::shared_ptr<ipc::message_queue> queue, std::size_t size)
      : queue_(std::move(queue)), size_(size) {}
  [[nodiscard]] std::vector<std::byte> bytes() const { return std::vector<std::byte>(size_); }
  std::shared_ptr<ipc::message_queue> queue_;
  std::size_t size_;
};

}  // namespace

void add_boost_interprocess(Field& field) {
  Traits traits;
  traits.name = "boost.message_queue";
  traits.family = "boost";
  traits.what = "Boost.Interprocess message_queue " BOOST_LIB_VERSION;
  traits.max_size = std::size_t{64} << 10;
  traits.max_producers = 4;
  traits.parks = true;
  traits.has_ring = false;  // too slow for a hundred laps
  field.add(traits, [](const Shape& shape) { return session_of<Form>(shape); });
}

}  // namespace slipring::bench

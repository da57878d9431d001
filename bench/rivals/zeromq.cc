// SPDX-License-Identifier: Apache-2.0
// ZeroMQ, PAIR over ipc. Its threads do the work: their CPU time is not in ours.
#include <unistd.h>
#include <zmq.h>

#include <memory>
#include <vector>

#include "harness/memory.h"
#include "loops.h"

namespace slipring::bench {
namespace {

class Form {
 public:
  /// Context and socket, made in the side that uses them: neither survives a fork.
  struct End {
    void* context = ::zmq_ctx_new();
    void* socket = ::zmq_socket(context, ZMQ_PAIR);
    /// `most`: messages that wait on this side, as many as the storage of the others holds.
    explicit End(int most) {
      ::zmq_setsockopt(socket, ZMQ_SNDHWM, &most, sizeof most);
      ::zmq_setsockopt(socket, ZMQ_RCVHWM, &most, sizeof most);
    }
    End(const End&) = delete;
    End& operator=(const End&) = delete;
    ~End() {
      ::zmq_close(socket);
      ::zmq_ctx_term(context);  // what was sent leaves first
    }
  };
  struct Sender {
    std::unique_ptr<End> end;
    template <typename Size, typename Wait>
    bool put(Size size, std::uint64_t base, const Wait&) {
      zmq_msg_t message;
      if (::zmq_msg_init_size(&message, size) != 0) return false;
      fill(static_cast<std::byte*>(::zmq_msg_data(&message)), size, base);
      return ::zmq_msg_send(&message, end->socket, 0) >= 0;
    }
  };
  struct Receiver {
    std::unique_ptr<End> end;
    template <typename See, typename Wait>
    bool take(See& see, const Wait&) {
      zmq_msg_t message;
      ::zmq_msg_init(&message);
      if (::zmq_msg_recv(&message, end->socket, 0) < 0) return false;
      see(static_cast<const std::byte*>(::zmq_msg_data(&message)), ::zmq_msg_size(&message));
      ::zmq_msg_close(&message);
      return true;
    }
  };

  static Try<Form> make(const Shape& shape) {
    static int counter = 0;
    auto is_there = Announcement::make();
    if (!is_there) return because(is_there.error());
    // In the abstract namespace: nothing is left in a directory.
    return Form(
        "ipc://@slipring-bench-" + std::to_string(::getpid()) + "-" + std::to_string(++counter),
        std::move(*is_there),
        static_cast<int>(std::max<std::size_t>(8, shape.ring_bytes / shape.size)));
  }
  Try<Sender> sender(std::uint32_t) {
    if (!is_there_.wait()) return because("the other side did not come");
    auto end = std::make_unique<End>(most_);
    if (::zmq_connect(end->socket, address_.c_str()) != 0) return because(::zmq_strerror(errno));
    return Sender{std::move(end)};
  }
  Try<Receiver> receiver() {
    auto end = std::make_unique<End>(most_);
    if (::zmq_bind(end->socket, address_.c_str()) != 0) return because(::zmq_strerror(errno));
    is_there_.say();
    return Receiver{std::move(end)};
  }

 private:
  Form(std::string address, Announcement is_there, int most)
      : address_(std::move(address)), is_there_(std::move(is_there)), most_(most) {}
  std::string address_;
  Announcement is_there_;  // a connection that comes too early is tried again after 100 ms
  int most_;
};

}  // namespace

void add_zeromq(Field& field) {
  Traits traits;
  traits.name = "zeromq";
  traits.family = "zeromq";
  traits.what = "ZeroMQ, PAIR over ipc";
  traits.parks = true;
  traits.has_ring = false;
  field.add(traits, [](const Shape& shape) { return session_of<Form>(shape); });
}

}  // namespace slipring::bench

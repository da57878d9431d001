// SPDX-License-Identifier: Apache-2.0
// nng, pair0 over ipc.
#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <unistd.h>

#include <memory>

#include "harness/memory.h"
#include "loops.h"

namespace slipring::bench {
namespace {

class Form {
 public:
  /// Made in the side that uses it: its threads do not survive a fork.
  struct End {
    nng_socket socket = NNG_SOCKET_INITIALIZER;
    // Closing drops what is still under way: whoever sends stays until the other has all.
    std::function<void()> before_close;
    explicit End(std::function<void()> last) : before_close(std::move(last)) {}
    End(const End&) = delete;
    End& operator=(const End&) = delete;
    ~End() {
      before_close();
      ::nng_close(socket);
    }
  };
  struct Sender {
    std::unique_ptr<End> end;
    template <typename Size, typename Wait>
    bool put(Size size, std::uint64_t base, const Wait&) {
      nng_msg* message = nullptr;
      if (::nng_msg_alloc(&message, size) != 0) return false;
      fill(static_cast<std::byte*>(::nng_msg_body(message)), size, base);
      return ::nng_sendmsg(end->socket, message, 0) == 0;
    }
  };
  struct Receiver {
    std::unique_ptr<End> end;
    template <typename See, typename Wait>
    bool take(See& see, const Wait&) {
      nng_msg* message = nullptr;
      if (::nng_recvmsg(end->socket, &message, 0) != 0) return false;
      see(static_cast<const std::byte*>(::nng_msg_body(message)), ::nng_msg_len(message));
      ::nng_msg_free(message);
      return true;
    }
  };

  static Try<Form> make(const Shape&) {
    static int counter = 0;
    auto is_there = Announcement::make(), has_all = Announcement::make();
    if (!is_there || !has_all) return because("no memory for an announcement");
    return Form(
        "abstract://slipring-bench-" + std::to_string(::getpid()) + "-" + std::to_string(++counter),
        std::move(*is_there), std::move(*has_all));
  }
  Try<Sender> sender(std::uint32_t) {
    if (!is_there_.wait()) return because("the other side did not come");
    auto end = std::make_unique<End>([all = has_all_] { (void)all.wait(); });
    int failed = ::nng_pair0_open(&end->socket);
    if (failed == 0) failed = ::nng_dial(end->socket, address_.c_str(), nullptr, 0);
    if (failed != 0) return because(::nng_strerror(failed));
    return Sender{std::move(end)};
  }
  Try<Receiver> receiver() {
    auto end = std::make_unique<End>([all = has_all_]() mutable { all.say(); });
    int failed = ::nng_pair0_open(&end->socket);
    if (failed == 0) failed = ::nng_listen(end->socket, address_.c_str(), nullptr, 0);
    if (failed != 0) return because(::nng_strerror(failed));
    is_there_.say();
    return Receiver{std::move(end)};
  }

 private:
  Form(std::string address, Announcement is_there, Announcement has_all)
      : address_(std::move(address)),
        is_there_(std::move(is_there)),
        has_all_(std::move(has_all)) {}
  std::string address_;
  Announcement is_there_;  // a connection that comes too early is tried again after 100 ms
  Announcement has_all_;
};

}  // namespace

void add_nng(Field& field) {
  Traits traits;
  traits.name = "nng";
  traits.family = "nng";
  traits.what = "nng, pair0 over ipc";
  traits.parks = true;
  traits.has_ring = false;
  field.add(traits, [](const Shape& shape) { return session_of<Form>(shape); });
}

}  // namespace slipring::bench

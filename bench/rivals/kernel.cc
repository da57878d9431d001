// SPDX-License-Identifier: Apache-2.0
// What the kernel has: pipe, UNIX sockets, POSIX and System V message queues. All of them block,
// and so work on one CPU; their storage is the kernel's own, as large as it allows unasked.
#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <vector>

#include "loops.h"
#include "slipring/base/unique_fd.h"

namespace slipring::bench {
namespace {

std::string refused(const char* call) { return std::string(call) + ": " + std::strerror(errno); }

enum class Kind { pipe, stream, packets };

/// A pair of descriptors. Of a stream, a message is as many bytes as it has: both sides know.
class FdForm {
 public:
  struct Sender {
    int fd;
    std::vector<std::byte> stage;
    template <typename Size, typename Wait>
    bool put(Size size, std::uint64_t base, const Wait& wait) {
      return put_many(size, base, 1, wait);
    }
    template <typename Size, typename Wait>
    bool put_many(Size size, std::uint64_t base, std::uint64_t count, const Wait&) {
      const std::size_t bytes = size * count;
      if (stage.size() < bytes) stage.resize(bytes);
      for (std::uint64_t i = 0; i < count; ++i) fill(stage.data() + i * size, size, base + i);
      for (std::size_t sent = 0; sent < bytes;) {
        const ssize_t now = ::write(fd, stage.data() + sent, bytes - sent);
        if (now < 0 && errno == EINTR) continue;
        if (now <= 0) return false;
        sent += static_cast<std::size_t>(now);
      }
      return true;
    }
  };
  struct Receiver {
    int fd;
    std::size_t size;
    bool packets;
    std::vector<std::byte> stage;
    std::size_t from = 0, to = 0;
    template <typename See, typename Wait>
    bool take(See& see, const Wait& wait) {
      return take_many(see, 1, wait) == 1;
    }
    // One read for as many messages as are there: what is left of one is moved to the front.
    template <typename See, typename Wait>
    std::size_t take_many(See& see, std::size_t max, const Wait&) {
      const std::size_t wanted = packets ? size : size * max;
      if (stage.size() < wanted) stage.resize(wanted);
      while (to < size) {
        const ssize_t now = ::read(fd, stage.data() + to, wanted - to);
        if (now < 0 && errno == EINTR) continue;
        if (now <= 0) return 0;
        to += static_cast<std::size_t>(now);
      }
      std::size_t seen = 0;
      for (from = 0; to - from >= size; from += size, ++seen) see(stage.data() + from, size);
      std::memmove(stage.data(), stage.data() + from, to - from);
      to -= from;
      return seen;
    }
  };

  static Try<FdForm> make(const Shape& shape, Kind kind) {
    int fds[2];
    const bool made =
        kind == Kind::pipe
            ? ::pipe2(fds, O_CLOEXEC) == 0
            : ::socketpair(AF_UNIX,
                           (kind == Kind::stream ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC, 0,
                           fds) == 0;
    if (!made) return because(refused(kind == Kind::pipe ? "pipe" : "socketpair"));
    FdForm form(fds[0], fds[1], shape.size, kind);
    const int bytes = static_cast<int>(shape.ring_bytes);
    // As much storage as the others have; what is refused, they keep as it is.
    if (kind == Kind::pipe)
      (void)::fcntl(fds[1], F_SETPIPE_SZ, bytes);
    else
      (void)::setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    return form;
  }
  Try<Sender> sender(std::uint32_t) { return Sender{fds_->write.get(), {}}; }
  Try<Receiver> receiver() {
    return Receiver{fds_->read.get(), size_, kind_ == Kind::packets, {}, 0, 0};
  }

 private:
  struct Pair {
    UniqueFd read, write;
  };
  FdForm(int read, int write, std::size_t size, Kind kind)
      : fds_(std::make_shared<Pair>(Pair{UniqueFd(read), UniqueFd(write)})),
        size_(size),
        kind_(kind) {}
  std::shared_ptr<Pair> fds_;
  std::size_t size_;
  Kind kind_;
};

/// A POSIX message queue, without a name by the time that anybody uses it.
class PosixForm {
 public:
  struct Sender {
    mqd_t queue;
    std::vector<std::byte> stage;
    template <typename Size, typename Wait>
    bool put(Size size, std::uint64_t base, const Wait&) {
      fill(stage.data(), size, base);
      return ::mq_send(queue, reinterpret_cast<const char*>(stage.data()), size, 0) == 0;
    }
  };
  struct Receiver {
    mqd_t queue;
    std::vector<std::byte> stage;
    template <typename See, typename Wait>
    bool take(See& see, const Wait&) {
      const ssize_t got =
          ::mq_receive(queue, reinterpret_cast<char*>(stage.data()), stage.size(), nullptr);
      if (got < 0) return false;
      see(stage.data(), static_cast<std::size_t>(got));
      return true;
    }
  };

  static Try<PosixForm> make(const Shape& shape) {
    static int counter = 0;
    const std::string name =
        "/slipring-bench-" + std::to_string(::getpid()) + "-" + std::to_string(++counter);
    mq_attr attr{};
    attr.mq_maxmsg = 10;  // what the kernel allows everybody, unless it was told otherwise
    attr.mq_msgsize = static_cast<long>(shape.size);
    const mqd_t queue = ::mq_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &attr);
    if (queue == -1) return because(refused("mq_open"));
    ::mq_unlink(name.c_str());
    return PosixForm(queue, shape.size);
  }
  Try<Sender> sender(std::uint32_t) { return Sender{queue_->get(), bytes()}; }
  Try<Receiver> receiver() { return Receiver{queue_->get(), bytes()}; }

 private:
  PosixForm(mqd_t queue, std::size_t size)
      : queue_(std::make_shared<UniqueFd>(queue)), size_(size) {}  // on Linux it is a descriptor
  [[nodiscard]] std::vector<std::byte> bytes() const { return std::vector<std::byte>(size_); }
  std::shared_ptr<UniqueFd> queue_;
  std::size_t size_;
};

/// A System V message queue; gone with the last form that knows it.
class SysvForm {
 public:
  struct Sender {
    int id;
    std::vector<std::byte> stage;
    template <typename Size, typename Wait>
    bool put(Size size, std::uint64_t base, const Wait&) {
      const long type = 1;
      std::memcpy(stage.data(), &type, sizeof type);
      fill(stage.data() + sizeof type, size, base);
      return ::msgsnd(id, stage.data(), size, 0) == 0;
    }
  };
  struct Receiver {
    int id;
    std::vector<std::byte> stage;
    template <typename See, typename Wait>
    bool take(See& see, const Wait&) {
      const ssize_t got = ::msgrcv(id, stage.data(), stage.size() - sizeof(long), 0, 0);
      if (got < 0) return false;
      see(stage.data() + sizeof(long), static_cast<std::size_t>(got));
      return true;
    }
  };

  static Try<SysvForm> make(const Shape& shape) {
    const int id = ::msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    if (id == -1) return because(refused("msgget"));
    return SysvForm(id, shape.size);
  }
  Try<Sender> sender(std::uint32_t) { return Sender{id_->id, bytes()}; }
  Try<Receiver> receiver() { return Receiver{id_->id, bytes()}; }

 private:
  struct Owned {
    int id;
    pid_t owner;
    explicit Owned(int made) : id(made), owner(::getpid()) {}
    Owned(const Owned&) = delete;
    Owned& operator=(const Owned&) = delete;
    // A side that ends must not take it from the other.
    ~Owned() {
      if (::getpid() == owner) ::msgctl(id, IPC_RMID, nullptr);
    }
  };
  SysvForm(int id, std::size_t size) : id_(std::make_shared<Owned>(id)), size_(size) {}
  [[nodiscard]] std::vector<std::byte> bytes() const {
    return std::vector<std::byte>(sizeof(long) + size_);
  }
  std::shared_ptr<Owned> id_;
  std::size_t size_;
};

/// Message queues of the kernel, which may be missing or not be allowed.
class QueueContender final : public Contender {
 public:
  using Open = std::function<Try<std::unique_ptr<Session>>(const Shape&)>;
  QueueContender(Traits traits, Open open) : Contender(std::move(traits)), open_(std::move(open)) {}
  [[nodiscard]] std::string unable() const override {
    Shape shape;
    const auto made = open_(shape);
    return made ? "" : made.error();
  }
  [[nodiscard]] Try<std::unique_ptr<Session>> open(const Shape& shape) const override {
    return open_(shape);
  }

 private:
  Open open_;
};

std::size_t limit_of(const char* path, std::size_t otherwise) {
  std::ifstream file(path);
  std::size_t bytes = 0;
  return file >> bytes ? bytes : otherwise;
}

Traits traits(const char* name, const char* family, const char* what) {
  Traits made;
  made.name = name;
  made.family = family;
  made.what = what;
  made.parks = true;
  made.has_ring = false;
  return made;
}

void add_fd(Field& field, Traits traits, Kind kind) {
  traits.max_size = kind == Kind::packets ? std::size_t{64} << 10 : std::size_t{64} << 20;
  traits.groups = kind != Kind::packets;  // many messages by one write
  field.add(std::move(traits),
            [kind](const Shape& shape) { return session_of<FdForm>(shape, kind); });
}

}  // namespace

void add_kernel(Field& field) {
  add_fd(field, traits("pipe", "pipe", "pipe"), Kind::pipe);
  add_fd(field, traits("unix.stream", "unix", "UNIX stream socket"), Kind::stream);
  add_fd(field, traits("unix.seqpacket", "unix", "UNIX packet socket"), Kind::packets);

  Traits posix = traits("posix_mq", "posix_mq", "POSIX message queue");
  posix.max_size = limit_of("/proc/sys/fs/mqueue/msgsize_max", 8192);
  field.contenders.push_back(std::make_unique<QueueContender>(
      posix, [](const Shape& shape) { return session_of<PosixForm>(shape); }));
  Traits sysv = traits("sysv_mq", "sysv_mq", "System V message queue");
  sysv.max_size = limit_of("/proc/sys/kernel/msgmax", 8192);
  field.contenders.push_back(std::make_unique<QueueContender>(
      sysv, [](const Shape& shape) { return session_of<SysvForm>(shape); }));
}

}  // namespace slipring::bench

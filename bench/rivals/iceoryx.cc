// SPDX-License-Identifier: Apache-2.0
// Eclipse iceoryx: a sample is loaned, filled in place, published, and taken by polling. Its daemon
// is started when somebody first asks, and stopped with us; its CPU time is counted.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iceoryx_hoofs/log/logmanager.hpp>
#include <iceoryx_posh/popo/untyped_publisher.hpp>
#include <iceoryx_posh/popo/untyped_subscriber.hpp>
#include <iceoryx_posh/runtime/posh_runtime.hpp>
#include <memory>
#include <sstream>

#include "harness/clock.h"
#include "loops.h"
#include "slipring/base/unique_fd.h"

namespace slipring::bench {
namespace {

/// iox-roudi, as our child: it dies with us, whatever becomes of us.
class Daemon {
 public:
  Daemon() {
    said_ = UniqueFd(::memfd_create("iox-roudi", MFD_CLOEXEC));
    pid_ = ::fork();
    if (pid_ != 0) {
      why_ = pid_ < 0 ? "fork refused" : wait_until_ready();
      return;
    }
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    ::dup2(said_.get(), STDOUT_FILENO);
    ::dup2(said_.get(), STDERR_FILENO);
    ::execlp("iox-roudi", "iox-roudi", "--log-level", "warning", static_cast<char*>(nullptr));
    ::_exit(127);
  }
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;
  ~Daemon() {
    if (pid_ <= 0 || ::getpid() != owner_) return;
    ::kill(pid_, SIGTERM);
    // It removes its segments; one that hangs is ended.
    for (int i = 0; i < 300; ++i) {
      if (::waitpid(pid_, nullptr, WNOHANG) == pid_) return;
      ::usleep(10'000);
    }
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  [[nodiscard]] const std::string& why() const noexcept { return why_; }
  [[nodiscard]] std::int64_t cpu_ns() const {
    std::ifstream file("/proc/" + std::to_string(pid_) + "/stat");
    std::string text;
    std::getline(file, text);
    // Fields are counted from behind the name, which may hold anything.
    std::istringstream fields(text.substr(std::min(text.size(), text.rfind(')') + 1)));
    std::string skipped;
    for (int i = 0; i < 11; ++i) fields >> skipped;
    std::int64_t user = 0, system = 0;
    fields >> user >> system;
    return (user + system) * (1'000'000'000 / ::sysconf(_SC_CLK_TCK));
  }

 private:
  [[nodiscard]] std::string wait_until_ready() {
    for (int i = 0; i < 500; ++i) {
      char text[4096] = {};
      const ssize_t got = ::pread(said_.get(), text, sizeof text - 1, 0);
      if (got > 0 && std::strstr(text, "ready for clients") != nullptr) return "";
      if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
        pid_ = -1;
        return "its daemon iox-roudi cannot be started, or runs already: package iceoryx";
      }
      ::usleep(10'000);
    }
    return "its daemon iox-roudi was not ready after 5 s";
  }

  pid_t owner_ = ::getpid();
  pid_t pid_ = -1;
  UniqueFd said_;
  std::string why_;
};

Daemon& daemon() {
  static Daemon one;
  return one;
}

class Form {
 public:
  struct Sender {
    std::unique_ptr<iox::popo::UntypedPublisher> publisher;
    template <typename Size, typename Wait>
    bool put(Size size, std::uint64_t base, const Wait& wait) {
      for (;;) {
        bool sent = false;
        publisher->loan(static_cast<std::uint32_t>(size)).and_then([&](void* room) {
          fill(static_cast<std::byte*>(room), size, base);
          publisher->publish(room);  // waits while the subscriber's queue is full
          sent = true;
        });
        if (sent) return true;
        wait();  // every chunk is under way
      }
    }
  };
  struct Receiver {
    std::unique_ptr<iox::popo::UntypedSubscriber> subscriber;
    template <typename See, typename Wait>
    bool take(See& see, const Wait& wait) {
      for (;;) {
        bool seen = false;
        subscriber->take().and_then([&](const void* sample) {
          see(static_cast<const std::byte*>(sample),
              iox::mepoo::ChunkHeader::fromUserPayload(sample)->userPayloadSize());
          subscriber->release(sample);
          seen = true;
        });
        if (seen) return true;
        wait();
      }
    }
  };

  static Try<Form> make(const Shape& shape) {
    if (!daemon().why().empty()) return because(daemon().why());
    static int counter = 0;
    // As much as the others have under way; 256 is the most it takes.
    return Form(std::to_string(::getpid()) + "-" + std::to_string(++counter),
                std::clamp<std::size_t>(shape.ring_bytes / shape.size, 2, 256));
  }
  Try<Sender> sender(std::uint32_t) {
    join();
    iox::popo::PublisherOptions options;
    options.subscriberTooSlowPolicy = iox::popo::ConsumerTooSlowPolicy::WAIT_FOR_CONSUMER;
    auto publisher = std::make_unique<iox::popo::UntypedPublisher>(service(), options);
    const std::int64_t until = monotonic_ns() + 5'000'000'000;
    while (!publisher->hasSubscribers()) {
      if (monotonic_ns() > until) return because("no subscriber was found in 5 s");
      ::usleep(1000);
    }
    return Sender{std::move(publisher)};
  }
  Try<Receiver> receiver() {
    join();
    iox::popo::SubscriberOptions options;
    options.queueCapacity = most_;
    options.queueFullPolicy = iox::popo::QueueFullPolicy::BLOCK_PRODUCER;
    return Receiver{std::make_unique<iox::popo::UntypedSubscriber>(service(), options)};
  }

 private:
  Form(std::string id, std::size_t most) : id_(std::move(id)), most_(most) {}
  [[nodiscard]] iox::capro::ServiceDescription service() const {
    return {"slipring", "bench", iox::capro::IdString_t(iox::cxx::TruncateToCapacity, id_.c_str())};
  }
  /// Each side is a process of its own, which says so once.
  static void join() {
    static const bool joined = [] {
      // It would print among our figures.
      iox::log::LogManager::GetLogManager().SetDefaultLogLevel(
          iox::log::LogLevel::kOff, iox::log::LogLevelOutput::kHideLogLevel);
      const std::string name = "slipring-bench-" + std::to_string(::getpid());
      iox::runtime::PoshRuntime::initRuntime(
          iox::RuntimeName_t(iox::cxx::TruncateToCapacity, name.c_str()));
      return true;
    }();
    (void)joined;
  }

  std::string id_;
  std::size_t most_;
};

class Iceoryx final : public Contender {
 public:
  using Contender::Contender;
  [[nodiscard]] std::string unable() const override { return daemon().why(); }
  [[nodiscard]] Try<std::unique_ptr<Session>> open(const Shape& shape) const override {
    return session_of<Form>(shape);
  }
  [[nodiscard]] std::int64_t helper_cpu_ns() const override { return daemon().cpu_ns(); }
};

}  // namespace

void add_iceoryx(Field& field) {
  Traits traits;
  traits.name = "iceoryx";
  traits.family = "iceoryx";
  traits.what = "iceoryx 2.0.3, loan and take";
  traits.retries = true;
  traits.has_ring = false;
  field.contenders.push_back(std::make_unique<Iceoryx>(traits));
}

}  // namespace slipring::bench

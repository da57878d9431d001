// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>
#include <utility>

#include "kinds.h"

namespace slipring::wait {

Result<UniqueFd> make_eventfd() noexcept {
  UniqueFd fd{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  if (!fd) return fail_errno("eventfd");
  return fd;
}

namespace detail {
namespace {

// TRUST: the descriptor may come from a peer. Anything else than an eventfd could block a writer.
Result<void> check_eventfd(int fd) noexcept {
  if (fd < 0) return fail(Errc::invalid_argument, 0, "eventfd not given");
  char path[32];
  char name[32] = {};
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  const auto size = ::readlink(path, name, sizeof name - 1);
  // Without /proc nobody can tell; with it, only one name will do.
  if (size > 0 && std::string_view(name) != "anon_inode:[eventfd]") {
    return fail(Errc::invalid_argument, 0, "not an eventfd");
  }
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return fail_errno("fcntl");
  if ((flags & O_NONBLOCK) == 0 && ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    return fail_errno("fcntl");
  }
  return {};
}

class EventfdSleep final : public SleepPrimitive {
 public:
  EventfdSleep(BellStore* store, UniqueFd fd) noexcept : store_(store), fd_(std::move(fd)) {}

  // One read takes all that was written.
  void drain() noexcept override { static_cast<void>(take()); }

  bool sleep(const SharedWord<std::uint32_t>& seq, std::uint32_t seen, Deadline until,
             std::uint64_t& spurious) noexcept override {
    for (;;) {
      if (moved(seq, seen)) return true;
      if (until.passed()) return false;
      poll_until(fd_.get(), until);
      if (take() && !moved(seq, seen)) ++spurious;
    }
  }

  int fd() const noexcept override { return fd_.get(); }
  void detach() noexcept override {
    if (store_ != nullptr) clear_store(*store_);
  }

 private:
  bool take() noexcept {
    std::uint64_t count = 0;
    return retry_eintr([&] { return ::read(fd_.get(), &count, sizeof count); }) == sizeof count;
  }

  BellStore* store_;
  UniqueFd fd_;
};

class EventfdWake final : public WakePrimitive {
 public:
  explicit EventfdWake(UniqueFd fd) noexcept : fd_(std::move(fd)) {}
  bool wake(const SharedWord<std::uint32_t>&) noexcept override {
    const std::uint64_t one = 1;
    // EAGAIN: the counter is full, hence readable: as good as written.
    return retry_eintr([&] { return ::write(fd_.get(), &one, sizeof one); }) == sizeof one ||
           errno == EAGAIN;
  }

 private:
  UniqueFd fd_;
};

}  // namespace

SleepResult make_eventfd_sleep(BellStore* store, std::uint16_t generation, UniqueFd fd) noexcept {
  if (const auto good = check_eventfd(fd.get()); !good) return tl::unexpected(good.error());
  auto made = make_one<EventfdSleep, SleepPrimitive>(store, std::move(fd));
  if (made && store != nullptr) publish_store(*store, BellKind::eventfd, generation);
  return made;
}

WakeResult make_eventfd_wake(UniqueFd fd) noexcept {
  if (const auto good = check_eventfd(fd.get()); !good) return tl::unexpected(good.error());
  return make_one<EventfdWake, WakePrimitive>(std::move(fd));
}

}  // namespace detail
}  // namespace slipring::wait

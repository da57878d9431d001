// SPDX-License-Identifier: Apache-2.0
#include "slipring/manager/reaper.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <list>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "slipring/base/deadline.h"
#include "slipring/base/role.h"
#include "slipring/base/unique_fd.h"
#include "slipring/channel/reap.h"
#include "slipring/channel/ring_body.h"
#include "slipring/pool/block_pool.h"
#include "slipring/segment/name.h"

namespace slipring::manager {
namespace {

using Native = NativeAccess;
using Peer = RoleWatch::Peer;

/// A place in a ring, and who was last seen to have it.
struct Place {
  RoleRef role;
  RoleWatch watch;
  std::uint64_t settled = 0;  ///< The role word that needs no look: armed, or dead and dealt with.
  int armed = -1;             ///< The pidfd in the epoll set.
};

struct Ring {
  segment::Segment segment;
  std::vector<Place> places;
  bool is_used = true;
};

std::vector<Place> places_of(const channel::RingBody& body) {
  std::vector<Place> places;
  for (std::uint32_t i = 0; i < body.shape().senders; ++i) {
    places.push_back({body.sender_role(i), {}});
  }
  places.push_back({body.consumer_role(), {}});
  const auto geometry = body.pool().empty() ? Result<pool::PoolGeometry>(fail(Errc::not_found))
                                            : pool::load_geometry<Native>(body.pool());
  if (!geometry) return places;
  auto* people =
      reinterpret_cast<pool::ParticipantEntry*>(body.pool().data() + pool::kPoolHeaderBytes);
  for (std::uint32_t i = 0; i < geometry->participants; ++i) {
    places.push_back({{people[i].role, people[i].token}, {}});
  }
  return places;
}

}  // namespace

struct Reaper::State {
  pid_t pid = ::getpid();
  std::chrono::milliseconds look_every;
  UniqueFd epoll;
  UniqueFd wake;
  std::mutex mutex;       // of what follows
  std::list<Ring> rings;  // stable: the thread walks it, watch() appends
  ReaperCounters counters;
  bool stopping = false;
  std::thread thread;

  explicit State(std::chrono::milliseconds every) : look_every(every) {}

  void run();
  void scan(Ring& ring);
  void look(Ring& ring, Place& place);
  void recover(Ring& ring, std::int64_t reported_ns);
  void forget_the_removed();
};

// Holders that nobody watches yet: newcomers, and those whom the kernel gives no descriptor for.
void Reaper::State::scan(Ring& ring) {
  ring.is_used = false;
  for (Place& place : ring.places) {
    // SYNC role.take (acquire <- release in leave_role): only whether it changed hands.
    const std::uint64_t bits = Native::load_acquire(place.role.word);
    if (RoleWord::decode(bits).state != RoleWord::State::held) {
      if (place.armed >= 0) ::epoll_ctl(epoll.get(), EPOLL_CTL_DEL, place.armed, nullptr);
      place.armed = -1;
      continue;
    }
    if (bits != place.settled) look(ring, place);
    ring.is_used |= place.armed >= 0 || bits != place.settled;
  }
}

void Reaper::State::look(Ring& ring, Place& place) {
  if (place.armed >= 0) ::epoll_ctl(epoll.get(), EPOLL_CTL_DEL, place.armed, nullptr);
  place.armed = -1;
  // SYNC role.take (acquire <- release in leave_role): the word that the verdict is about.
  const std::uint64_t bits = Native::load_acquire(place.role.word);
  const Peer peer = place.watch.look(place.role);
  if (peer == Peer::dead) {
    recover(ring, monotonic_ns());
    place.settled = bits;
    return;
  }
  const int fd = place.watch.fd();
  if (peer != Peer::alive || fd < 0) return;  // again next time
  epoll_event event{EPOLLIN, {}};
  event.data.fd = fd;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) return;
  // SYNC role.take (acquire <- release in leave_role): still the one whom we watch?
  if (Native::load_acquire(place.role.word) != bits) return;
  place.armed = fd;
  place.settled = bits;
}

void Reaper::State::recover(Ring& ring, std::int64_t reported_ns) {
  const auto reaped = channel::reap_ring(ring.segment);
  counters.reported_ns = reported_ns;
  counters.recovered_ns = monotonic_ns();
  ++counters.deaths;
  if (!reaped) return;
  counters.claims += reaped->claims;
  counters.blocks += reaped->blocks;
  counters.rung += reaped->rung;
}

// Without its name a ring takes no newcomers: once its users are gone it is over. A memfd never had
// one, and may be handed to somebody yet.
void Reaper::State::forget_the_removed() {
  std::erase_if(rings, [](const Ring& ring) {
    if (ring.is_used || ring.segment.backend() == segment::Backend::memfd) return false;
    const auto still = ring.segment.still_named();
    return still && !*still;
  });
}

void Reaper::State::run() {
  std::array<epoll_event, 64> events;
  std::int64_t forget_at_ns = 0;
  for (;;) {
    const int found = ::epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()),
                                   static_cast<int>(look_every.count()));
    const std::int64_t now_ns = monotonic_ns();
    const std::lock_guard lock(mutex);
    if (stopping) return;
    for (int i = 0; i < found; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd == wake.get()) {
        std::uint64_t count = 0;
        static_cast<void>(::read(wake.get(), &count, sizeof count));
        continue;
      }
      // Level-triggered, and dead for good: out of the set at once.
      ::epoll_ctl(epoll.get(), EPOLL_CTL_DEL, fd, nullptr);
      for (Ring& ring : rings) {
        for (Place& place : ring.places) {
          if (place.armed != fd) continue;
          place.armed = -1;
          recover(ring, now_ns);
        }
      }
    }
    for (Ring& ring : rings) scan(ring);
    constexpr std::int64_t kForgetEveryNs = 1'000'000'000;
    if (now_ns >= forget_at_ns) {
      forget_the_removed();
      forget_at_ns = now_ns + kForgetEveryNs;
    }
    counters.watched = 0;
    for (const Ring& ring : rings) {
      for (const Place& place : ring.places) counters.watched += place.armed >= 0 ? 1 : 0;
    }
  }
}

Reaper::Reaper(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
Reaper::Reaper(Reaper&&) noexcept = default;
Reaper& Reaper::operator=(Reaper&& other) noexcept {
  if (this != &other) {
    stop();
    state_ = std::move(other.state_);
  }
  return *this;
}
Reaper::~Reaper() { stop(); }

Result<Reaper> Reaper::start(std::chrono::milliseconds look_every) {
  if (look_every.count() < 1) return fail(Errc::invalid_argument, 0, "reaper: period");
  auto state = std::make_unique<State>(look_every);
  state->epoll = UniqueFd{::epoll_create1(EPOLL_CLOEXEC)};
  if (!state->epoll) return fail_errno("epoll_create1");
  state->wake = UniqueFd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  if (!state->wake) return fail_errno("eventfd");
  epoll_event event{EPOLLIN, {}};
  event.data.fd = state->wake.get();
  if (::epoll_ctl(state->epoll.get(), EPOLL_CTL_ADD, state->wake.get(), &event) != 0) {
    return fail_errno("epoll_ctl");
  }
  // The program's signals are for its own threads.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  Result<void> started{};
  try {
    state->thread = std::thread([raw = state.get()] { raw->run(); });
  } catch (const std::system_error& error) {
    started = fail(Errc::system, error.code().value(), "thread");
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!started) return tl::unexpected(started.error());
  return Reaper(std::move(state));
}

void Reaper::stop() noexcept {
  if (!state_) return;
  if (state_->pid != ::getpid()) {
    // The thread, and perhaps the mutex it held, stayed with the parent: nothing here can be ended.
    static_cast<void>(state_.release());
    return;
  }
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  const std::uint64_t one = 1;
  static_cast<void>(::write(state_->wake.get(), &one, sizeof one));
  state_->thread.join();
  state_.reset();
}

Result<void> Reaper::watch(std::string_view name, const segment::Places& places) {
  const auto checked = segment::Name::parse(name);
  if (!checked) return tl::unexpected(checked.error());
  auto opened = segment::Segment::open(*checked, segment::OpenMode::read_write, {}, places);
  if (!opened) return tl::unexpected(opened.error());
  return watch(std::move(*opened));
}

Result<void> Reaper::watch(segment::Segment segment) {
  if (!state_ || state_->pid != ::getpid()) return fail(Errc::invalid_argument, 0, "reaper: fork");
  if (segment.mode() != segment::OpenMode::read_write) {
    return fail(Errc::permission, 0, "reap: read-only");
  }
  const auto body = channel::RingBody::of(segment);
  if (!body) return tl::unexpected(body.error());
  auto places = places_of(*body);
  const std::lock_guard lock(state_->mutex);
  state_->rings.push_back({std::move(segment), std::move(places), true});
  const std::uint64_t one = 1;
  static_cast<void>(::write(state_->wake.get(), &one, sizeof one));  // looks at once
  return {};
}

ReaperCounters Reaper::counters() const {
  if (!state_ || state_->pid != ::getpid()) return {};
  const std::lock_guard lock(state_->mutex);
  return state_->counters;
}

std::size_t Reaper::rings() const {
  if (!state_ || state_->pid != ::getpid()) return 0;
  const std::lock_guard lock(state_->mutex);
  return state_->rings.size();
}

}  // namespace slipring::manager

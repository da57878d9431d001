// SPDX-License-Identifier: Apache-2.0
#include "slipring/channel/shm_link.h"

#include <unistd.h>

#include <utility>

#include "slipring/segment/name.h"

namespace slipring::channel {
namespace {

using Peer = RoleWatch::Peer;

constexpr auto kLockWait = std::chrono::seconds(1);
constexpr auto kAppearWait = std::chrono::seconds(5);

Result<void> check_schema(const Schema& theirs, const Schema& mine) {
  // Bytes fit every ring: tools and filters read and write without knowing the type.
  if (mine.size == 0 && mine.fingerprint == 0) return {};
  if (theirs == mine) return {};
  return fail(Errc::type_mismatch, 0, theirs.size != mine.size ? "ring: type size" : "ring: type");
}

ring::Predecessor predecessor_of(RoleWord::State before) {
  switch (before) {
    case RoleWord::State::held: return ring::Predecessor::dead;
    case RoleWord::State::left: return ring::Predecessor::left;
    default: return ring::Predecessor::none;
  }
}

}  // namespace

Result<segment::Segment> create_ring(std::string_view name, const ShmOptions& options) {
  const auto checked = segment::Name::parse(name);
  if (!checked) return tl::unexpected(checked.error());
  auto draft = draft_ring(options);
  if (!draft) return tl::unexpected(draft.error());
  return std::move(*draft).publish(*checked);
}

Result<segment::Segment> create_unnamed_ring(const ShmOptions& options) {
  auto draft = draft_ring(options);
  if (!draft) return tl::unexpected(draft.error());
  return std::move(*draft).publish();
}

Result<void> remove_ring(segment::Segment& segment) {
  const auto body = RingBody::of(segment);
  const bool has_bells = body && body->shape().form == RingForm::lane &&
                         segment.mode() == segment::OpenMode::read_write;
  if (auto ok = segment.unlink(); !ok) return ok;
  if (!has_bells) return {};
  // Kernel objects that a killed sleeper could not take along. A rotten store names nothing that
  // could be trusted, and nothing of it is touched.
  static_cast<void>(wait::remove_leftovers(body->bells().data));
  static_cast<void>(wait::remove_leftovers(body->bells().space));
  return {};
}

Result<void> ShmLink::take_place(const ProcessToken& self) {
  TakenRole role;
  if (end_ == End::producer && shape().form == RingForm::total) {
    const auto slot = ring::take_owner(body_.area(), self);
    if (!slot) return tl::unexpected(slot.error());
    sender_ = slot->index;
    role.generation = slot->generation;
  } else if (end_ == End::producer && shape().form == RingForm::per_producer) {
    const auto joined = ring::join_lane(body_.mpsc(), self);
    if (!joined) return tl::unexpected(joined.error());
    sender_ = joined->lane;
    role = joined->role;
  } else {
    const auto taken = take_role(my_role(), self);
    if (!taken) return tl::unexpected(taken.error());
    role = *taken;
  }
  before_ = predecessor_of(role.before);
  generation_ = role.generation;
  owner_pid_ = static_cast<std::uint32_t>(::getpid());
  owner_tid_ = self.tid;
  attached_ = true;
  return {};
}

Result<ShmLink> ShmLink::take(segment::Segment segment, End end, const ShmOptions& options,
                              bool named) {
  const auto body = RingBody::of(segment);
  if (!body) return tl::unexpected(body.error());
  if (const auto ok = check_schema(body->shape().schema, options.schema); !ok) {
    return tl::unexpected(ok.error());
  }
  ShmLink link(std::move(segment), *body, end);
  const auto lock = link.segment_.lock(Deadline::in(kLockWait));
  if (!lock) return tl::unexpected(lock.error());
  if (named) {
    // Under the lock nobody removes it: what is still named now stays so until we hold a role.
    const auto still = link.segment_.still_named();
    if (!still) return tl::unexpected(still.error());
    if (!*still) return fail(Errc::segment_lost, 0, "attach: removed");
  }
  const ProcessToken self = options.of_thread ? self_thread_token() : self_token();
  if (const auto ok = link.take_place(self); !ok) return tl::unexpected(ok.error());
  link.named_ = named;
  return link;
}

Result<ShmLink> ShmLink::attach(std::string_view name, End end, Intent intent,
                                const ShmOptions& options) {
  const auto checked = segment::Name::parse(name);
  if (!checked) return tl::unexpected(checked.error());
  // Names come and go while others create and remove them; each turn sees one of the two.
  const Deadline give_up = Deadline::in(kAppearWait);
  for (;;) {
    if (intent != Intent::create) {
      auto segment =
          segment::Segment::open(*checked, segment::OpenMode::read_write, {}, options.places);
      if (segment) {
        auto link = take(std::move(*segment), end, options, true);
        if (link || link.error().code != Errc::segment_lost || give_up.passed()) return link;
        continue;
      }
      if (segment.error().code != Errc::not_found || intent == Intent::open) {
        return tl::unexpected(segment.error());
      }
    }
    auto made = create_ring(name, options);
    if (made) {
      auto link = take(std::move(*made), end, options, true);
      if (link) link->created_ = true;
      if (link || link.error().code != Errc::segment_lost || give_up.passed()) return link;
      continue;
    }
    if (made.error().code != Errc::exists || intent == Intent::create || give_up.passed()) {
      return tl::unexpected(made.error());
    }
  }
}

Result<ShmLink> ShmLink::attach(segment::Segment segment, End end, const ShmOptions& options) {
  return take(std::move(segment), end, options, false);
}

ShmLink::ShmLink(ShmLink&& other) noexcept
    : segment_(std::move(other.segment_)),
      body_(other.body_),
      end_(other.end_),
      sender_(other.sender_),
      before_(other.before_),
      generation_(other.generation_),
      owner_pid_(other.owner_pid_),
      owner_tid_(other.owner_tid_),
      attached_(std::exchange(other.attached_, false)),
      named_(other.named_),
      created_(other.created_),
      saw_death_(other.saw_death_),
      all_gone_(other.all_gone_),
      consumer_watch_(std::move(other.consumer_watch_)),
      sender_watches_(std::move(other.sender_watches_)) {}

ShmLink& ShmLink::operator=(ShmLink&& other) noexcept {
  if (this == &other) return *this;
  detach();
  segment_ = std::move(other.segment_);
  body_ = other.body_;
  end_ = other.end_;
  sender_ = other.sender_;
  before_ = other.before_;
  generation_ = other.generation_;
  owner_pid_ = other.owner_pid_;
  owner_tid_ = other.owner_tid_;
  attached_ = std::exchange(other.attached_, false);
  named_ = other.named_;
  created_ = other.created_;
  saw_death_ = other.saw_death_;
  all_gone_ = other.all_gone_;
  consumer_watch_ = std::move(other.consumer_watch_);
  sender_watches_ = std::move(other.sender_watches_);
  return *this;
}

bool ShmLink::is_mine() const noexcept {
  if (!attached_ || owner_pid_ != static_cast<std::uint32_t>(::getpid())) return false;
  return owner_tid_ == 0 || owner_tid_ == static_cast<std::uint32_t>(::gettid());
}

RoleWatch& ShmLink::watch_of(std::uint32_t sender) {
  if (sender_watches_.empty()) sender_watches_.resize(shape().senders);
  return sender_watches_[sender];
}

RoleWatch::Peer ShmLink::look_at_all_senders() {
  Peer sum = saw_death_ ? Peer::dead : Peer::never_came;
  for (std::uint32_t i = 0; i < shape().senders; ++i) {
    if (end_ == End::producer && i == sender_) continue;  // that is us, or was
    switch (watch_of(i).look(body_.sender_role(i))) {
      case Peer::alive: return Peer::alive;
      case Peer::dead: sum = Peer::dead; break;
      case Peer::retired:
      case Peer::left:
        if (sum == Peer::never_came) sum = Peer::left;
        break;
      case Peer::never_came: break;
    }
  }
  return sum;
}

RoleWatch::Peer ShmLink::look_at_peer() noexcept {
  if (end_ == End::producer) return consumer_watch_.look(body_.consumer_role());
  return look_at_all_senders();
}

std::vector<Departed> ShmLink::look_at_senders(
    const std::function<bool(std::uint32_t)>& is_drained) {
  std::vector<Departed> departed;
  std::optional<segment::SegmentLock> lock;
  bool is_busy = false;
  bool alive = false;
  for (std::uint32_t i = 0; i < shape().senders; ++i) {
    const RoleRef role = body_.sender_role(i);
    const RoleWatch::Peer peer = watch_of(i).look(role);
    alive |= peer == RoleWatch::Peer::alive;
    if (peer != RoleWatch::Peer::dead || !is_drained(i)) continue;
    // For an instant the place is ours. Under the lock, so that nobody who attaches finds it taken
    // by the living; who has the lock now is attaching, and may take it over himself.
    if (!lock && !is_busy) {
      auto locked = segment_.lock(Deadline::now());
      is_busy = !locked.has_value();
      if (locked) lock.emplace(std::move(*locked));
    }
    if (is_busy) continue;
    const auto token = load_token(role.token);
    const auto taken = take_role(role);
    if (!taken) continue;
    leave_role(role, taken->generation);
    departed.push_back({i, token ? *token : ProcessToken{}});
  }
  // A stream that ended with a death is over when somebody comes after its end.
  if (alive && all_gone_) saw_death_ = false;
  all_gone_ = !alive;
  saw_death_ |= !departed.empty();
  return departed;
}

bool ShmLink::is_anybody_else_alive() {
  if (end_ == End::producer && look_at_peer() == Peer::alive) return true;
  return look_at_all_senders() == Peer::alive;
}

ShmLink::Left ShmLink::detach(const std::function<void()>& after_leaving) noexcept {
  if (!is_mine()) return Left::kept;
  attached_ = false;
  auto lock = segment_.lock(Deadline::in(kLockWait));
  if (end_ == End::producer && shape().form == RingForm::total) {
    // An open claim is resolved with it. Refused, the ring is rotten: then the place stays ours,
    // and our death is what resolves it.
    static_cast<void>(ring::leave_owner(body_.area(), {sender_, generation_}));
  } else {
    leave_role(my_role(), generation_);
  }
  if (after_leaving) after_leaving();
  // Without the lock nothing is removed: a leftover is better than somebody's channel.
  if (!lock || !named_) return Left::kept;
  if (is_anybody_else_alive()) return Left::kept;
  if (body_.has_unread()) return Left::unread;
  if (segment_.info().keep) return Left::kept;
  return remove_ring(segment_) ? Left::removed : Left::kept;
}

}  // namespace slipring::channel

// SPDX-License-Identifier: Apache-2.0
#include "slipring/channel/reap.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <utility>

#include "slipring/base/deadline.h"
#include "slipring/base/role.h"
#include "slipring/channel/ring_body.h"
#include "slipring/channel/shm_link.h"
#include "slipring/pool/block_pool.h"
#include "slipring/ring/total_owner.h"
#include "slipring/ring/total_walk.h"
#include "slipring/wait/gate.h"

namespace slipring::channel {
namespace {

using Native = NativeAccess;
using Part = HeldPlace::Part;
using Peer = RoleWatch::Peer;

/// Calls `see(part, index, role)` for every place, the pool's included. A pool that contradicts
/// itself has none.
void each_place(const RingBody& body,
                const std::function<void(Part, std::uint32_t, RoleRef)>& see) {
  for (std::uint32_t i = 0; i < body.shape().senders; ++i) {
    see(Part::sender, i, body.sender_role(i));
  }
  see(Part::receiver, 0, body.consumer_role());
  if (body.pool().empty()) return;
  const auto geometry = pool::load_geometry<Native>(body.pool());
  if (!geometry) return;
  auto* people =
      reinterpret_cast<pool::ParticipantEntry*>(body.pool().data() + pool::kPoolHeaderBytes);
  for (std::uint32_t i = 0; i < geometry->participants; ++i) {
    see(Part::participant, i + 1, {people[i].role, people[i].token});
  }
}

HeldPlace describe(Part part, std::uint32_t index, RoleRef role) {
  // SYNC role.take (acquire <- release in leave_role): only to name the holder.
  const RoleWord word = RoleWord::decode(Native::load_acquire(role.word));
  HeldPlace place{part, index, word.pid, {}};
  const auto token = load_token(role.token);
  if (token && token->pid == word.pid) place.command = token->command;
  return place;
}

bool is_maker_dead(const segment::Segment& segment) {
  return PeerWatch(segment.info().creator).look() == Verdict::dead;
}

Fate fate_of(const segment::Segment& segment, const RingBody& body, bool is_used, bool was_used) {
  if (is_used) return Fate::used;
  if (segment.info().keep) return Fate::stays;
  if (body.has_unread()) return Fate::unread;
  if (!was_used && !is_maker_dead(segment)) return Fate::awaited;
  return Fate::orphan;
}

std::uint64_t open_claims_of(const std::vector<HeldPlace>& dead, const ring::TotalView& ring) {
  // SYNC total.reclaim (acquire <- release in TotalConsumer::tell_read): descriptors behind it.
  const std::uint64_t from = Native::load_acquire(ring.control->read_pos);
  if (!ring::is_total_position(from)) return 0;
  std::uint64_t count = 0;
  const auto end = ring::walk_records<Native>(
      ring, from, [&](std::uint64_t, std::uint64_t, const ring::Descriptor& record) {
        if (record.state != ring::RecordState::claimed) return true;
        count += std::ranges::any_of(dead, [&](const HeldPlace& place) {
          return place.part == Part::sender && place.index + 1 == record.owner_id;
        });
        return true;
      });
  return end ? count : 0;
}

/// Rings all whom the death of a sender, or of the receiver, lets wait in vain.
class Bells {
 public:
  explicit Bells(const RingBody& body) : body_(body) {}

  void ring_receiver(std::uint32_t for_sender) {
    count(wait::ring_for_the_dead<Native>(body_.shape().bell, body_.data_bell(for_sender)));
  }
  void ring_senders() {
    if (body_.shape().form == RingForm::total) {
      auto& seq = body_.total().control->space_seq;
      // SYNC gate.open (release -> acquire in GateSleeper::park_unless): as a receiver that leaves.
      Native::add_release(seq, 1);
      wait::open_gate(seq);
      ++rung_;
      return;
    }
    for (std::uint32_t i = 0; i < body_.shape().senders; ++i) {
      // SYNC role.take (acquire <- release in leave_role): only whether anybody is there.
      const RoleWord word = RoleWord::decode(Native::load_acquire(body_.sender_role(i).word));
      if (word.state != RoleWord::State::held) continue;
      count(wait::ring_for_the_dead<Native>(body_.shape().bell, body_.space_bell(i)));
    }
  }
  [[nodiscard]] std::uint32_t rung() const noexcept { return rung_; }

 private:
  void count(const Result<void>& rang) {
    if (rang) ++rung_;
  }
  const RingBody& body_;
  std::uint32_t rung_ = 0;
};

}  // namespace

std::string_view to_string(Fate fate) noexcept {
  switch (fate) {
    case Fate::used: return "used";
    case Fate::stays: return "stays";
    case Fate::unread: return "unread";
    case Fate::awaited: return "awaited";
    case Fate::orphan: return "orphan";
  }
  return "?";
}

bool Remains::has_work() const noexcept {
  return open_claims != 0 || std::ranges::any_of(dead, [](const HeldPlace& place) {
           return place.part == Part::participant;
         });
}

Result<Remains> look_at_remains(const segment::Segment& segment) {
  const auto body = RingBody::of(segment);
  if (!body) return tl::unexpected(body.error());
  Remains remains;
  bool was_used = false;
  each_place(*body, [&](Part part, std::uint32_t index, RoleRef role) {
    RoleWatch watch;
    switch (watch.look(role)) {
      case Peer::never_came: return;
      case Peer::alive: remains.living.push_back(describe(part, index, role)); break;
      case Peer::dead: remains.dead.push_back(describe(part, index, role)); break;
      case Peer::left:
      case Peer::retired: break;
    }
    was_used = true;
  });
  if (body->shape().form == RingForm::total && !remains.dead.empty()) {
    remains.open_claims = open_claims_of(remains.dead, body->total());
  }
  remains.fate = fate_of(segment, *body, !remains.living.empty(), was_used);
  return remains;
}

Result<Reaped> reap_ring(const segment::Segment& segment) {
  if (segment.mode() != segment::OpenMode::read_write) {
    return fail(Errc::permission, 0, "reap: read-only");
  }
  const auto body = RingBody::of(segment);
  if (!body) return tl::unexpected(body.error());
  Reaped reaped;
  Bells bells(*body);
  Result<void> went{};
  bool is_pool_hit = false;
  // All shared state is read after the proof, never before.
  each_place(*body, [&](Part part, std::uint32_t index, RoleRef role) {
    RoleWatch watch;
    if (watch.look(role) != Peer::dead) return;
    ++reaped.dead;
    switch (part) {
      case Part::sender:
        if (body->shape().form == RingForm::total) {
          const auto claims = ring::reap(body->area(), index);
          // Succeeded meanwhile by one that lives: then the successor has resolved them.
          if (claims)
            reaped.claims += *claims;
          else if (claims.error().code != Errc::in_use)
            went = tl::unexpected(claims.error());
        }
        bells.ring_receiver(index);
        break;
      case Part::receiver: bells.ring_senders(); break;
      case Part::participant: is_pool_hit = true; break;
    }
  });
  if (is_pool_hit) {
    // With all places taken by others there is none for us; those who claim reap, too.
    if (auto pool = pool::BlockPool<>::attach(body->pool())) reaped.blocks = pool->reap_all();
  }
  reaped.rung = bells.rung();
  if (!went) return tl::unexpected(went.error());
  return reaped;
}

Result<void> remove_orphan(segment::Segment& segment, bool although_unread) {
  const auto lock = segment.lock(Deadline::in(std::chrono::seconds(1)));
  if (!lock) return tl::unexpected(lock.error());
  const auto still = segment.still_named();
  if (!still) return tl::unexpected(still.error());
  if (!*still) return fail(Errc::not_found, 0, "unlink: another instance");
  const auto remains = look_at_remains(segment);
  if (!remains) return tl::unexpected(remains.error());
  const bool may_go =
      remains->fate == Fate::orphan || (although_unread && remains->fate == Fate::unread);
  if (!may_go) return fail(Errc::in_use, 0, "gc: in use");
  return remove_ring(segment);
}

}  // namespace slipring::channel

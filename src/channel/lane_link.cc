// SPDX-License-Identifier: Apache-2.0
#include "slipring/channel/lane_link.h"

#include <sys/random.h>
#include <unistd.h>

#include <utility>

#include "slipring/ring/record_extent.h"
#include "slipring/segment/name.h"

namespace slipring::channel {
namespace {

constexpr std::uint64_t kBellsAt = ring::kLaneAreaBytes;
constexpr std::uint64_t kProducerAt = kBellsAt + 4096;
constexpr auto kLockWait = std::chrono::seconds(1);
constexpr auto kAppearWait = std::chrono::seconds(5);

std::uint64_t random_id() noexcept {
  std::uint64_t id = 0;
  // 8 bytes are delivered whole and at once after boot; a zero id would only be less telling.
  static_cast<void>(::getrandom(&id, sizeof id, 0));
  return id;
}

segment::Expect expectation() { return {segment::kContentLane, kLaneBodyFingerprint}; }

Result<segment::Draft> draft_lane(const LaneOptions& options) {
  ring::LaneGeometry geometry;
  geometry.capacity = options.capacity;
  geometry.granule = options.granule;
  geometry.bell = static_cast<std::uint8_t>(options.bell);
  geometry.lane_id = random_id();
  geometry.type_fingerprint = options.schema.fingerprint;
  geometry.type_size = options.schema.size;
  geometry.type_align = options.schema.align;
  if (const auto ok = ring::check_geometry(geometry); !ok) return tl::unexpected(ok.error());
  // Their sleepers are reached by a descriptor or a pid that a name does not carry.
  if (wait::has_fd(options.bell)) return fail(Errc::not_supported, 0, "lane: doorbell");

  segment::Spec spec;
  spec.body_bytes = kProducerAt + ring::producer_area_bytes(options.capacity);
  spec.content = segment::kContentLane;
  spec.fingerprint = kLaneBodyFingerprint;
  spec.mode = options.mode;
  spec.group = options.group;
  spec.huge_page_bytes = options.huge_page_bytes;
  spec.numa_node = options.numa_node;
  spec.lock = options.lock;
  spec.prefault = options.prefault;
  spec.keep = options.keep;
  spec.sysv_key = options.sysv_key;
  spec.places = options.places;
  auto draft = segment::draft(options.kind, spec);
  if (!draft) return draft;
  const auto parts = LaneParts::of(draft->body());
  if (!parts) return tl::unexpected(parts.error());
  ring::format_producer_area(parts->areas.producer, geometry);
  ring::format_consumer_area(parts->areas.consumer, geometry.lane_id);
  return draft;
}

Result<void> check_schema(const ring::LaneGeometry& lane, const Schema& mine) {
  // Bytes fit every lane: tools and filters read and write without knowing the type.
  if (mine.size == 0 && mine.fingerprint == 0) return {};
  const Schema theirs{lane.type_fingerprint, lane.type_size, lane.type_align};
  if (theirs == mine) return {};
  return fail(Errc::type_mismatch, 0, theirs.size != mine.size ? "lane: type size" : "lane: type");
}

}  // namespace

Result<LaneParts> LaneParts::of(std::span<std::byte> body) noexcept {
  if (body.size() < kProducerAt + ring::producer_area_bytes(ring::kMinCapacity)) {
    return fail(Errc::bad_format, 0, "lane: body too small");
  }
  LaneParts parts;
  parts.areas.consumer = body.first(ring::kLaneAreaBytes);
  parts.areas.producer = body.subspan(kProducerAt);
  parts.bells = reinterpret_cast<BellPage*>(body.data() + kBellsAt);
  return parts;
}

wait::BellRef LaneParts::data_bell() const noexcept {
  return {consumer().data_ticket, producer().data_seq, producer().fence, &bells->data,
          &consumer().parked_since};
}

wait::BellRef LaneParts::space_bell() const noexcept {
  return {producer().space_ticket, consumer().space_seq, consumer().fence, &bells->space,
          &producer().parked_since};
}

Result<segment::Segment> create_lane(std::string_view name, const LaneOptions& options) {
  const auto checked = segment::Name::parse(name);
  if (!checked) return tl::unexpected(checked.error());
  auto draft = draft_lane(options);
  if (!draft) return tl::unexpected(draft.error());
  return std::move(*draft).publish(*checked);
}

Result<segment::Segment> create_unnamed_lane(const LaneOptions& options) {
  auto draft = draft_lane(options);
  if (!draft) return tl::unexpected(draft.error());
  return std::move(*draft).publish();
}

Result<void> remove_lane(segment::Segment& segment) {
  const auto parts = LaneParts::of(segment.body());
  const bool ours = parts && segment.mode() == segment::OpenMode::read_write;
  if (auto ok = segment.unlink(); !ok) return ok;
  if (!ours) return {};
  // Kernel objects that a killed sleeper could not take along. A rotten store names nothing that
  // could be trusted, and nothing of it is touched.
  static_cast<void>(wait::remove_leftovers(parts->bells->data));
  static_cast<void>(wait::remove_leftovers(parts->bells->space));
  return {};
}

Result<LaneLink> LaneLink::take(segment::Segment segment, End end, const LaneOptions& options,
                                bool named) {
  const auto parts = LaneParts::of(segment.body());
  if (!parts) return tl::unexpected(parts.error());
  const auto geometry = ring::load_geometry<NativeAccess>(parts->areas.producer);
  if (!geometry) return tl::unexpected(geometry.error());
  if (const auto ok = check_schema(*geometry, options.schema); !ok) {
    return tl::unexpected(ok.error());
  }
  LaneLink link(std::move(segment), *parts, *geometry, end);
  const auto lock = link.segment_.lock(Deadline::in(kLockWait));
  if (!lock) return tl::unexpected(lock.error());
  if (named) {
    // Under the lock nobody removes it: what is still named now stays so until we hold a role.
    const auto still = link.segment_.still_named();
    if (!still) return tl::unexpected(still.error());
    if (!*still) return fail(Errc::segment_lost, 0, "attach: removed");
  }
  const auto role = take_role(link.role_of(end));
  if (!role) return tl::unexpected(role.error());
  switch (role->before) {
    case RoleWord::State::held: link.before_ = ring::Predecessor::dead; break;
    case RoleWord::State::left: link.before_ = ring::Predecessor::left; break;
    default: link.before_ = ring::Predecessor::none; break;
  }
  link.generation_ = role->generation;
  link.owner_pid_ = static_cast<std::uint32_t>(::getpid());
  link.named_ = named;
  link.attached_ = true;
  return link;
}

Result<LaneLink> LaneLink::attach(std::string_view name, End end, Intent intent,
                                  const LaneOptions& options) {
  const auto checked = segment::Name::parse(name);
  if (!checked) return tl::unexpected(checked.error());
  // Names come and go while others create and remove them; each turn sees one of the two.
  const Deadline give_up = Deadline::in(kAppearWait);
  for (;;) {
    if (intent != Intent::create) {
      auto segment = segment::Segment::open(*checked, segment::OpenMode::read_write, expectation(),
                                            options.places);
      if (segment) {
        auto link = take(std::move(*segment), end, options, true);
        if (link || link.error().code != Errc::segment_lost || give_up.passed()) return link;
        continue;
      }
      if (segment.error().code != Errc::not_found || intent == Intent::open) {
        return tl::unexpected(segment.error());
      }
    }
    auto made = create_lane(name, options);
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

Result<LaneLink> LaneLink::attach(segment::Segment segment, End end, const LaneOptions& options) {
  if (segment.info().content != segment::kContentLane) {
    return fail(Errc::bad_format, 0, "header: content");
  }
  return take(std::move(segment), end, options, false);
}

LaneLink::LaneLink(LaneLink&& other) noexcept
    : segment_(std::move(other.segment_)),
      parts_(other.parts_),
      geometry_(other.geometry_),
      end_(other.end_),
      before_(other.before_),
      generation_(other.generation_),
      owner_pid_(other.owner_pid_),
      attached_(std::exchange(other.attached_, false)),
      named_(other.named_),
      created_(other.created_),
      peer_watch_(std::move(other.peer_watch_)) {}

LaneLink& LaneLink::operator=(LaneLink&& other) noexcept {
  if (this == &other) return *this;
  detach();
  segment_ = std::move(other.segment_);
  parts_ = other.parts_;
  geometry_ = other.geometry_;
  end_ = other.end_;
  before_ = other.before_;
  generation_ = other.generation_;
  owner_pid_ = other.owner_pid_;
  attached_ = std::exchange(other.attached_, false);
  named_ = other.named_;
  created_ = other.created_;
  peer_watch_ = std::move(other.peer_watch_);
  return *this;
}

bool LaneLink::is_mine() const noexcept {
  return attached_ && owner_pid_ == static_cast<std::uint32_t>(::getpid());
}

RoleWatch::Peer LaneLink::look_at_peer() noexcept {
  return peer_watch_.look(role_of(end_ == End::producer ? End::consumer : End::producer));
}

bool LaneLink::has_unread() const noexcept {
  // SYNC lane.reclaim (acquire <- release in LaneConsumer::tell_read): whoever read on told so.
  const std::uint64_t read = NativeAccess::load_acquire(parts_.consumer().read_pos);
  const ring::LaneShape shape{geometry_.capacity, geometry_.granule, geometry_.max_payload()};
  if (!is_aligned(read, geometry_.granule)) return true;
  const auto walked = ring::walk_committed<NativeAccess>(
      parts_.areas.producer.data() + ring::kLaneAreaBytes, shape, read);
  // A rotten lane is evidence, and not ours to remove.
  return !walked || walked->messages != 0;
}

LaneLink::Left LaneLink::detach(const std::function<void()>& after_leaving) noexcept {
  if (!is_mine()) return Left::kept;
  attached_ = false;
  auto lock = segment_.lock(Deadline::in(kLockWait));
  leave_role(role_of(end_), generation_);
  if (after_leaving) after_leaving();
  // Without the lock nothing is removed: a leftover is better than somebody's channel.
  if (!lock || !named_) return Left::kept;
  if (look_at_peer() == RoleWatch::Peer::alive) return Left::kept;
  if (has_unread()) return Left::unread;
  if (segment_.info().keep) return Left::kept;
  return remove_lane(segment_) ? Left::removed : Left::kept;
}

}  // namespace slipring::channel

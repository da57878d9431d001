// SPDX-License-Identifier: Apache-2.0
#include "slipring/channel/ring_body.h"

#include <sys/random.h>

#include <functional>

#include "slipring/pool/block_pool.h"
#include "slipring/ring/record_extent.h"
#include "slipring/ring/total_walk.h"

namespace slipring::channel {
namespace {

constexpr std::uint64_t kBellsAt = ring::kLaneAreaBytes;
constexpr std::uint64_t kProducerAt = kBellsAt + 4096;

constexpr std::uint64_t kLaneBodyFingerprint =
    fnv1a("body: consumer 1000 bells 1000 producer", ring::kLaneFingerprint);

std::uint64_t content_of(RingForm form) { return static_cast<std::uint64_t>(form); }
static_assert(static_cast<std::uint64_t>(RingForm::lane) == segment::kContentLane);
static_assert(static_cast<std::uint64_t>(RingForm::per_producer) == segment::kContentMpsc);
static_assert(static_cast<std::uint64_t>(RingForm::total) == segment::kContentTotal);

std::uint64_t fingerprint_of(RingForm form, bool has_pool) {
  std::uint64_t print = form == RingForm::lane           ? kLaneBodyFingerprint
                        : form == RingForm::per_producer ? ring::kMpscFingerprint
                                                         : ring::kTotalFingerprint;
  if (has_pool)
    print = fnv1a("behind it, from the next page: pool", print) ^ pool::kPoolFingerprint;
  return print;
}

std::uint64_t random_id() noexcept {
  std::uint64_t id = 0;
  // 8 bytes are delivered whole and at once after boot; a zero id would only be less telling.
  static_cast<void>(::getrandom(&id, sizeof id, 0));
  return id;
}

/// What a lane and a ring of total order are told alike.
template <typename Geometry>
Geometry common_geometry(const ShmOptions& options) {
  Geometry geometry;
  geometry.capacity = options.capacity;
  geometry.bell = static_cast<std::uint8_t>(options.bell);
  geometry.type_fingerprint = options.schema.fingerprint;
  geometry.type_size = options.schema.size;
  geometry.type_align = options.schema.align;
  return geometry;
}

ring::LaneGeometry lane_geometry(const ShmOptions& options) {
  auto geometry = common_geometry<ring::LaneGeometry>(options);
  geometry.granule = options.granule;
  geometry.lane_id = random_id();
  return geometry;
}

ring::MpscGeometry mpsc_geometry(const ShmOptions& options) {
  ring::MpscGeometry geometry;
  geometry.lanes = options.senders;
  geometry.lane = lane_geometry(options);
  return geometry;
}

ring::TotalGeometry total_geometry(const ShmOptions& options) {
  auto geometry = common_geometry<ring::TotalGeometry>(options);
  geometry.owners = options.senders;
  geometry.ring_id = random_id();
  return geometry;
}

/// How many bytes a ring takes, and how they are formatted.
struct Plan {
  std::uint64_t bytes = 0;
  std::function<void(std::span<std::byte>)> format;
};

Result<Plan> plan_of(const ShmOptions& options) {
  switch (options.form) {
    case RingForm::lane: {
      const ring::LaneGeometry geometry = lane_geometry(options);
      if (const auto ok = ring::check_geometry(geometry); !ok) return tl::unexpected(ok.error());
      return Plan{kProducerAt + ring::producer_area_bytes(geometry.capacity),
                  [geometry](std::span<std::byte> area) {
                    ring::format_producer_area(area.subspan(kProducerAt), geometry);
                    ring::format_consumer_area(area.first(ring::kLaneAreaBytes), geometry.lane_id);
                  }};
    }
    case RingForm::per_producer: {
      const ring::MpscGeometry geometry = mpsc_geometry(options);
      if (const auto ok = ring::check_geometry(geometry); !ok) return tl::unexpected(ok.error());
      return Plan{geometry.total_bytes(), [geometry](std::span<std::byte> area) {
                    ring::format_mpsc_area(area, geometry);
                  }};
    }
    case RingForm::total: {
      const ring::TotalGeometry geometry = total_geometry(options);
      if (const auto ok = ring::check_total_geometry(geometry); !ok) {
        return tl::unexpected(ok.error());
      }
      return Plan{geometry.area_bytes(), [geometry](std::span<std::byte> area) {
                    ring::format_total_area(area, geometry);
                  }};
    }
  }
  return fail(Errc::invalid_argument, 0, "ring: form");
}

/// The body of a ring's segment: the ring, and the pool behind it.
struct Layout {
  Plan ring;
  std::optional<pool::PoolSpec> pool;
  std::uint64_t pool_at = 0, pool_bytes = 0;

  [[nodiscard]] std::uint64_t body_bytes() const {
    return pool ? pool_at + pool_bytes : ring.bytes;
  }
};

Result<Layout> lay_out(const ShmOptions& options) {
  auto plan = plan_of(options);
  if (!plan) return tl::unexpected(plan.error());
  Layout layout{std::move(*plan), options.pool, 0, 0};
  if (!layout.pool) return layout;
  pool::PoolSpec& spec = *layout.pool;
  if (spec.pool_id == 0) spec.pool_id = random_id();
  // A place for whoever may send, for the receiver, and for successors of the dead among them.
  const std::uint32_t senders = options.form == RingForm::lane ? 1 : options.senders;
  spec.participants = std::max(spec.participants, std::min(senders + 8, pool::kMaxParticipants));
  const auto geometry = pool::lay_out(spec);
  if (!geometry) return tl::unexpected(geometry.error());
  layout.pool_at = align_up(layout.ring.bytes, 4096);
  layout.pool_bytes = geometry->total_bytes;
  return layout;
}

RingShape shape_of(RingForm form, const ring::LaneGeometry& lane, std::uint32_t senders) {
  return {form,
          lane.capacity,
          lane.max_payload(),
          lane.granule,
          senders,
          static_cast<wait::BellKind>(lane.bell),
          {lane.type_fingerprint, lane.type_size, lane.type_align},
          lane.lane_id};
}

}  // namespace

std::string_view to_string(Profile profile) noexcept {
  switch (profile) {
    case Profile::balanced: return "balanced";
    case Profile::latency: return "latency";
    case Profile::throughput: return "throughput";
  }
  return "?";
}

std::string_view to_string(RingForm form) noexcept {
  switch (form) {
    case RingForm::lane: return "lane";
    case RingForm::per_producer: return "mpsc";
    case RingForm::total: return "total";
  }
  return "?";
}

Result<std::uint64_t> segment_bytes(const ShmOptions& options) {
  const auto layout = lay_out(options);
  if (!layout) return tl::unexpected(layout.error());
  return segment::kHeaderBytes + layout->body_bytes();
}

Result<segment::Draft> draft_ring(const ShmOptions& options) {
  const auto layout = lay_out(options);
  if (!layout) return tl::unexpected(layout.error());
  // Sleepers of the others are reached by a descriptor or a pid that a name does not carry, or by
  // objects that only a lane has room for.
  if (options.form != RingForm::lane && options.bell != wait::BellKind::futex) {
    return fail(Errc::not_supported, 0, "ring: doorbell of many");
  }
  if (wait::has_fd(options.bell)) return fail(Errc::not_supported, 0, "ring: doorbell");
  segment::Spec spec;
  spec.body_bytes = layout->body_bytes();
  spec.content = content_of(options.form);
  spec.fingerprint = fingerprint_of(options.form, options.pool.has_value());
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
  layout->ring.format(draft->body().first(layout->ring.bytes));
  if (layout->pool) {
    const auto ok = pool::format_pool(draft->body().subspan(layout->pool_at, layout->pool_bytes),
                                      *layout->pool);
    if (!ok) return tl::unexpected(ok.error());
  }
  return draft;
}

Result<RingBody> RingBody::of(const segment::Segment& segment) noexcept {
  const segment::HeaderInfo& info = segment.info();
  if (info.content < content_of(RingForm::lane) || info.content > content_of(RingForm::total)) {
    return fail(Errc::bad_format, 0, "header: content");
  }
  const auto form = static_cast<RingForm>(info.content);
  const bool has_pool = info.fingerprint == fingerprint_of(form, true);
  if (!has_pool && info.fingerprint != fingerprint_of(form, false)) {
    return fail(Errc::type_mismatch, 0, "header: fingerprint");
  }

  RingBody body;
  std::uint64_t bytes = 0;
  const std::span<std::byte> all = segment.body();
  if (form == RingForm::lane) {
    if (all.size() < kProducerAt + ring::producer_area_bytes(ring::kMinCapacity)) {
      return fail(Errc::bad_format, 0, "lane: body too small");
    }
    const auto lane = ring::load_geometry<NativeAccess>(all.subspan(kProducerAt));
    if (!lane) return tl::unexpected(lane.error());
    body.shape_ = shape_of(form, *lane, 1);
    bytes = kProducerAt + ring::producer_area_bytes(lane->capacity);
  } else if (form == RingForm::per_producer) {
    const auto mpsc = ring::load_mpsc_geometry<NativeAccess>(all);
    if (!mpsc) return tl::unexpected(mpsc.error());
    body.mpsc_ = *mpsc;
    body.shape_ = shape_of(form, mpsc->lane, mpsc->lanes);
    bytes = mpsc->total_bytes();
  } else {
    const auto total = ring::load_total_geometry<NativeAccess>(all);
    if (!total) return tl::unexpected(total.error());
    body.total_ = *total;
    body.shape_ = {form,
                   total->capacity,
                   total->max_payload(),
                   static_cast<std::uint32_t>(ring::kTotalGranule),
                   total->owners,
                   static_cast<wait::BellKind>(total->bell),
                   {total->type_fingerprint, total->type_size, total->type_align},
                   total->ring_id};
    bytes = total->area_bytes();
  }
  body.area_ = all.first(bytes);
  if (has_pool) {
    const std::uint64_t at = align_up(bytes, 4096);
    if (at >= all.size()) return fail(Errc::bad_format, 0, "pool: beyond the body");
    const auto pool = pool::load_geometry<NativeAccess>(all.subspan(at));
    if (!pool) return tl::unexpected(pool.error());
    body.pool_ = all.subspan(at, pool->total_bytes);
  }
  return body;
}

ring::LaneAreas RingBody::lane(std::uint32_t sender) const noexcept {
  if (shape_.form == RingForm::per_producer) return mpsc().areas(sender);
  return {area_.subspan(kProducerAt), area_.first(ring::kLaneAreaBytes)};
}

BellPage& RingBody::bells() const noexcept {
  return *reinterpret_cast<BellPage*>(area_.data() + kBellsAt);
}

RoleRef RingBody::consumer_role() const noexcept {
  switch (shape_.form) {
    case RingForm::per_producer: return mpsc().consumer_role();
    case RingForm::total: return {total().control->role, total().control->token};
    default: return {consumer_side(0).role, consumer_side(0).token};
  }
}

RoleRef RingBody::sender_role(std::uint32_t sender) const noexcept {
  if (shape_.form == RingForm::total) return total().owner_role(sender);
  ring::LaneProducerSide& side = producer_side(sender);
  return {side.role, side.token};
}

wait::BellRef RingBody::data_bell(std::uint32_t sender) const noexcept {
  switch (shape_.form) {
    case RingForm::per_producer: {
      ring::MpscConsumerSide& block = mpsc().consumer();
      return {block.ticket, block.seq, producer_side(sender).fence, nullptr, &block.parked_since};
    }
    case RingForm::total: {
      ring::TotalControl& control = *total().control;
      return {control.ticket, control.seq, total().owners[sender].fence, nullptr,
              &control.parked_since};
    }
    default:
      return {consumer_side(0).data_ticket, producer_side(0).data_seq, producer_side(0).fence,
              &bells().data, &consumer_side(0).parked_since};
  }
}

wait::BellRef RingBody::space_bell(std::uint32_t sender) const noexcept {
  ring::LaneProducerSide& producer = producer_side(sender);
  ring::LaneConsumerSide& consumer = consumer_side(sender);
  return {producer.space_ticket, consumer.space_seq, consumer.fence,
          shape_.form == RingForm::lane ? &bells().space : nullptr, &producer.parked_since};
}

ring::SenderCounts& RingBody::sender_counts(std::uint32_t sender) const noexcept {
  return shape_.form == RingForm::total ? total().owners[sender].counts
                                        : producer_side(sender).counts;
}

ring::ReceiverCounts& RingBody::receiver_counts() const noexcept {
  switch (shape_.form) {
    case RingForm::per_producer: return mpsc().consumer().counts;
    case RingForm::total: return total().control->counts;
    default: return consumer_side(0).counts;
  }
}

bool RingBody::has_unread() const noexcept {
  if (shape_.form == RingForm::total) {
    // SYNC total.reclaim (acquire <- release in TotalConsumer::tell_read): whoever read on told so.
    const std::uint64_t read = NativeAccess::load_acquire(total().control->read_pos);
    if (!ring::is_total_position(read)) return true;
    bool found = false;
    const auto end = ring::walk_records<NativeAccess>(
        total(), read, [&](std::uint64_t, std::uint64_t, const ring::Descriptor& record) {
          found = record.state == ring::RecordState::committed;
          return !found;
        });
    return !end || found;
  }
  const ring::LaneShape lane_shape{shape_.capacity, shape_.granule, shape_.max_payload};
  for (std::uint32_t i = 0; i < shape_.senders; ++i) {
    // SYNC role.take (acquire <- release in leave_role): only whether anybody ever came.
    const RoleWord word = RoleWord::decode(NativeAccess::load_acquire(sender_role(i).word));
    if (word.state == RoleWord::State::vacant) continue;
    // SYNC lane.reclaim (acquire <- release in LaneConsumer::tell_read): whoever read on told so.
    const std::uint64_t read = NativeAccess::load_acquire(consumer_side(i).read_pos);
    if (!is_aligned(read, shape_.granule)) return true;
    const auto walked = ring::walk_committed<NativeAccess>(
        lane(i).producer.data() + ring::kLaneAreaBytes, lane_shape, read);
    if (!walked || walked->messages != 0) return true;
  }
  return false;
}

}  // namespace slipring::channel

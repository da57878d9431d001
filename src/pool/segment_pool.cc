// SPDX-License-Identifier: Apache-2.0
#include "slipring/pool/segment_pool.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <utility>

#include "slipring/base/deadline.h"
#include "slipring/base/process.h"

namespace slipring::pool {
namespace {

using segment::Backend;
using segment::Segment;

constexpr std::uint64_t kPage = 4096;

std::pair<std::uint64_t, std::uint64_t> instance_of(const Segment& segment) noexcept {
  return {segment.info().instance.high, segment.info().instance.low};
}

segment::Expect pooled() noexcept {
  segment::Expect expect;
  expect.content = kContentPooledSegment;
  return expect;
}

}  // namespace

Result<SegmentId> id_of(const Segment& segment) {
  const segment::HeaderInfo& info = segment.info();
  if (info.name.size() > kMaxSegmentIdName) return fail(Errc::not_supported, 0, "segment id: name");
  SegmentId id;
  id.backend = static_cast<std::uint8_t>(segment.backend());
  id.name_bytes = static_cast<std::uint8_t>(info.name.size());
  id.instance_high = info.instance.high;
  id.instance_low = info.instance.low;
  id.sysv_id = static_cast<std::uint32_t>(segment.sysv_id().value_or(0));
  std::memcpy(id.name, info.name.data(), info.name.size());
  return id;
}

SegmentPool::SegmentPool(Options options) noexcept
    : options_(std::move(options)), pid_(::getpid()) {}

Result<SegmentPool> SegmentPool::make(Options options) {
  SegmentPool pool(std::move(options));
  // Pools of one prefix must not meet: the pid tells processes apart, the clock their pools.
  const auto now = static_cast<std::uint64_t>(monotonic_ns());
  char tail[32];
  std::snprintf(tail, sizeof tail, ".%x.%08x.", static_cast<unsigned>(pool.pid_),
                static_cast<unsigned>(now ^ (now >> 32)));
  pool.stem_ = pool.options_.prefix + tail;
  if (pool.stem_.size() + 8 > kMaxSegmentIdName) {
    return fail(Errc::invalid_argument, 0, "segment pool: prefix too long");
  }
  if (const auto name = segment::Name::parse(pool.stem_ + "0"); !name) {
    return tl::unexpected(name.error());
  }
  return pool;
}

SegmentPool::~SegmentPool() {
  if (stem_.empty() || pid_ != ::getpid()) return;
  for (auto& [bytes, segments] : idle_) {
    for (Segment& segment : segments) remove(segment);
  }
  for (const auto& [instance, id] : taken_) {
    if (auto segment = open_named(id); segment && instance_of(*segment) == instance) {
      remove(*segment);
    }
  }
}

std::uint64_t SegmentPool::size_class(std::uint64_t bytes) noexcept {
  // Beyond half the address space draft() refuses; here it must only not wrap.
  if (bytes > std::uint64_t{1} << 62) return bytes;
  return std::bit_ceil(std::max(bytes, kPage));
}

Result<Segment> SegmentPool::make_one(std::uint64_t bytes) {
  segment::Spec spec;
  spec.body_bytes = bytes;
  spec.content = kContentPooledSegment;
  spec.places = options_.places;
  auto draft = segment::draft(options_.backend, spec);
  if (!draft) return tl::unexpected(draft.error());
  Result<Segment> made = fail(Errc::invalid_argument);
  if (options_.backend == Backend::memfd) {
    made = std::move(*draft).publish();
  } else {
    const auto name = segment::Name::parse(stem_ + std::to_string(numbered_++));
    if (!name) return tl::unexpected(name.error());
    made = std::move(*draft).publish(*name);
  }
  if (made) ++counters_.made;
  return made;
}

Result<void> SegmentPool::prepare(std::size_t count, std::uint64_t bytes) {
  const std::uint64_t size = size_class(bytes);
  auto& segments = idle_[size];
  for (std::size_t i = 0; i < count; ++i) {
    auto made = make_one(size);
    if (!made) return tl::unexpected(made.error());
    segments.push_back(std::move(*made));
    idle_bytes_ += size;
  }
  return {};
}

Result<Segment> SegmentPool::take(std::uint64_t bytes) {
  const std::uint64_t size = size_class(bytes);
  const auto hand_out = [this](Segment segment) -> Result<Segment> {
    const auto id = id_of(segment);
    if (!id) return tl::unexpected(id.error());
    taken_.emplace(instance_of(segment), *id);
    return segment;
  };
  for (const std::uint64_t fits : {size, size * 2}) {
    const auto found = idle_.find(fits);
    if (found == idle_.end() || found->second.empty()) continue;
    Segment segment = std::move(found->second.back());
    found->second.pop_back();
    idle_bytes_ -= fits;
    ++counters_.reused;
    return hand_out(std::move(segment));
  }
  if (!options_.may_make) {
    ++counters_.exhausted;
    return fail(Errc::full, 0, "segment pool: take");
  }
  auto made = make_one(size);
  if (!made) return made;
  return hand_out(std::move(*made));
}

Result<void> SegmentPool::give_back(Segment&& segment) {
  const auto taken = taken_.find(instance_of(segment));
  if (taken == taken_.end()) {
    return refuse(Errc::invalid_argument, "segment pool: not taken from here");
  }
  taken_.erase(taken);
  const std::uint64_t size = segment.info().body_bytes;
  if (size > options_.max_idle_bytes || idle_bytes_ > options_.max_idle_bytes - size) {
    remove(segment);
    const Segment gone = std::move(segment);
    return {};
  }
  idle_[size].push_back(std::move(segment));
  idle_bytes_ += size;
  return {};
}

void SegmentPool::remove(Segment& segment) {
  if (segment.backend() == Backend::memfd) return;
  if (segment.unlink()) ++counters_.unlinked;
}

tl::unexpected<Error> SegmentPool::refuse(Errc code, const char* why) noexcept {
  ++counters_.refused;
  return fail(code, 0, why);
}

Result<Segment> SegmentPool::open_named(const SegmentId& id) {
  // TRUST: a peer's bytes. Name::parse admits nothing that leads out of the directory.
  if (id.name_bytes == 0 && id.backend == static_cast<std::uint8_t>(Backend::sysv)) {
    return Segment::open_sysv_id(static_cast<int>(id.sysv_id), options_.open_mode, pooled());
  }
  if (id.name_bytes == 0 || id.name_bytes > kMaxSegmentIdName) {
    return refuse(Errc::corrupt, "segment id: name");
  }
  const auto name = segment::Name::parse({id.name, id.name_bytes});
  if (!name) return refuse(Errc::corrupt, "segment id: name");
  return Segment::open(*name, options_.open_mode, pooled(), options_.places);
}

Result<std::shared_ptr<const Segment>> SegmentPool::open(const SegmentId& id) {
  const Instance instance{id.instance_high, id.instance_low};
  if (const auto kept = by_instance_.find(instance); kept != by_instance_.end()) {
    mappings_.splice(mappings_.begin(), mappings_, kept->second);
    ++counters_.found;
    return kept->second->segment;
  }
  if (id.backend < static_cast<std::uint8_t>(Backend::posix) ||
      id.backend > static_cast<std::uint8_t>(Backend::file)) {
    return refuse(Errc::corrupt, "segment id: backend");
  }
  if (id.backend == static_cast<std::uint8_t>(Backend::memfd)) {
    return refuse(Errc::not_supported, "segment id: memfd not handed over");
  }
  auto segment = open_named(id);
  if (!segment) return tl::unexpected(segment.error());
  if (instance_of(*segment) != instance ||
      static_cast<std::uint8_t>(segment->backend()) != id.backend) {
    return refuse(Errc::corrupt, "segment id: another instance");
  }
  ++counters_.opened;
  return adopt(std::move(*segment));
}

std::shared_ptr<const Segment> SegmentPool::adopt(Segment segment) {
  const Instance instance = instance_of(segment);
  if (const auto kept = by_instance_.find(instance); kept != by_instance_.end()) {
    mappings_.splice(mappings_.begin(), mappings_, kept->second);
    return kept->second->segment;
  }
  auto shared = std::make_shared<const Segment>(std::move(segment));
  mappings_.push_front({instance, shared});
  by_instance_[instance] = mappings_.begin();
  while (mappings_.size() > std::max<std::size_t>(options_.max_mappings, 1)) {
    by_instance_.erase(mappings_.back().instance);
    mappings_.pop_back();
    ++counters_.dropped;
  }
  return shared;
}

Result<std::size_t> remove_leftovers(const std::string& prefix, const segment::Places& places) {
  auto listed = segment::list_segments(places);
  if (!listed) return tl::unexpected(listed.error());
  std::size_t removed = 0;
  for (const segment::Listing& row : *listed) {
    if (!row.info || row.info->content != kContentPooledSegment ||
        row.name.compare(0, prefix.size() + 1, prefix + ".") != 0 ||
        PeerWatch(row.info->creator).look() != Verdict::dead) {
      continue;
    }
    const auto name = segment::Name::parse(row.name);
    if (!name) continue;
    auto segment = Segment::open(*name, segment::OpenMode::read_only, pooled(), places);
    // The name may lead elsewhere by now: only the instance that was judged is removed.
    if (segment && segment->info().instance == row.info->instance && segment->unlink()) ++removed;
  }
  return removed;
}

}  // namespace slipring::pool

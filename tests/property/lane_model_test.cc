// SPDX-License-Identifier: Apache-2.0
#include <rapidcheck.h>
#include <unistd.h>

#include <cstdlib>
#include <deque>
#include <iostream>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "support/test_lane.h"
#include "support/watchdog.h"

// Random operation sequences against a std::deque: whatever is claimed, committed, grouped, given
// up, released and left behind by a death, the consumer sees the committed messages, in order.
// Repeat a failure with SLIPRING_TEST_SEED=..., as printed. Shrinking a run of hundreds of steps
// takes minutes, so it is left to whoever looks into it: RC_PARAMS='max_success=500 seed=...'.
namespace slipring::ring {
namespace {

using test::Placing;
using test::TestLane;

enum class Op : int {
  send,  // claim, write, commit less or all
  abort,
  begin_group,
  end_group,
  abort_group,
  peek,
  peek_many,
  release,
  tell,
  producer_dies,
  producer_leaves,
  consumer_dies,
  consumer_leaves,
  count_,
};

struct Step {
  Op op;
  std::uint32_t a;
  std::uint32_t b;
};
std::ostream& operator<<(std::ostream& out, const Step& step) {
  return out << '{' << static_cast<int>(step.op) << ',' << step.a << ',' << step.b << '}';
}

struct Message {
  std::size_t size;
  std::uint16_t type;
};

/// A lane and what it should hold.
class Model {
 public:
  Model(const LaneGeometry& geometry, std::uint32_t zero_ahead, bool crossed)
      : lane_(crossed ? Placing::crossed : Placing::heap, geometry) {
    tuning_.zero_ahead_bytes = zero_ahead;
    attach_producer(Predecessor::none);
    attach_consumer(Predecessor::none);
  }

  void run(const Step& step) {
    switch (step.op) {
      case Op::send: send(step); break;
      case Op::abort: abort(step); break;
      case Op::begin_group:
        RC_ASSERT(producer_->begin_group().has_value() == !in_group_);
        in_group_ = true;
        break;
      case Op::end_group: end_group(); break;
      case Op::abort_group:
        producer_->abort_group();
        drop_group();
        break;
      case Op::peek: peek(); break;
      case Op::peek_many: peek_many(1 + step.a % 40); break;
      case Op::release: release(step.a % 16); break;
      case Op::tell: tell(); break;
      case Op::producer_dies:
        drop_group();
        if (step.a % 2 == 0) scribble(step.b);
        attach_producer(Predecessor::dead);
        break;
      case Op::producer_leaves:
        end_group();
        producer_->tell_write();
        attach_producer(Predecessor::left);
        break;
      case Op::consumer_dies: consumer_dies(); break;
      case Op::consumer_leaves:
        consumer_->tell_read();
        told_ = released_;
        attach_consumer(Predecessor::left);
        break;
      case Op::count_: break;
    }
    check();
  }

  /// Everything that was committed is there at the end.
  void drain() {
    end_group();
    while (released_ < visible()) {
      peek();
      release(0);
    }
    const auto record = consumer_->try_peek();
    RC_ASSERT(!record && record.error().code == Errc::empty);
    RC_ASSERT(consumer_->read_pos() == producer_->write_pos());
  }
  [[nodiscard]] std::uint64_t position() const { return producer_->write_pos(); }

 private:
  [[nodiscard]] std::uint64_t visible() const { return first_ + sent_.size() - grouped_; }
  [[nodiscard]] const Message& message(std::uint64_t n) const {
    return sent_[static_cast<std::size_t>(n - first_)];
  }
  [[nodiscard]] std::size_t size_from(std::uint32_t a) const {
    const std::size_t max = lane_.geometry().max_payload();
    switch (a % 8) {
      case 0: return (a >> 3) % (max + 1);
      case 1: return max - (a >> 3) % 16;
      case 2: return 500 + (a >> 3) % 30;
      default: return (a >> 3) % 70;
    }
  }
  void attach_producer(Predecessor before) {
    auto end = lane_.producer(before, tuning_);
    RC_ASSERT(end.has_value());
    producer_ = *end;
  }
  void attach_consumer(Predecessor before) {
    auto end = lane_.consumer(before, tuning_);
    RC_ASSERT(end.has_value());
    consumer_ = *end;
    if (before == Predecessor::dead) flagged_to_ = visible();  // else as it was
    records_.clear();
  }

  void send(const Step& step) {
    const std::size_t size = size_from(step.a);
    const bool room = producer_->has_room(size);
    const auto claim = producer_->try_claim(size, step.b % 5 == 0);
    if (!claim) {
      RC_ASSERT(claim.error().code == Errc::full);
      // Full for a reason: something is unread, untold, or already in this group.
      RC_ASSERT(released_ != first_ + sent_.size() || told_ != released_ || grouped_ != 0);
      return;
    }
    RC_ASSERT(room);
    const std::uint64_t n = first_ + sent_.size();
    const std::size_t used = step.b % 3 == 0 ? step.b % (size + 1) : size;
    test::fill_pattern(claim->payload, n);
    const auto type = static_cast<std::uint16_t>(step.b);
    producer_->commit(used, type);
    sent_.push_back({used, type});
    if (in_group_) ++grouped_;
  }
  void abort(const Step& step) {
    const auto claim = producer_->try_claim(size_from(step.a));
    if (claim) std::fill(claim->payload.begin(), claim->payload.end(), std::byte{0xa5});
    producer_->abort();
  }
  /// A dying producer's last claim, filled with what looks like headers.
  void scribble(std::uint32_t a) {
    const auto claim = producer_->try_claim(size_from(a));
    if (!claim) return;
    const std::uint64_t header = RecordHeader{8, 1, RecordKind::data, 0}.encode();
    for (std::size_t i = 0; i + 8 <= claim->payload.size(); i += 8) {
      std::memcpy(claim->payload.data() + i, &header, sizeof(header));
    }
  }
  void end_group() {
    producer_->end_group();
    in_group_ = false;
    grouped_ = 0;
  }
  void drop_group() {
    sent_.resize(sent_.size() - grouped_);
    in_group_ = false;
    grouped_ = 0;
  }

  void expect(const Record& record, std::uint64_t n) {
    RC_ASSERT(record.number == n + 1);
    RC_ASSERT(record.payload.size() == message(n).size);
    RC_ASSERT(record.type == message(n).type);
    RC_ASSERT(test::has_pattern(record.payload, n));
    RC_ASSERT(record.redelivered == (n < flagged_to_));
  }
  void peek() {
    const auto record = consumer_->try_peek();
    RC_ASSERT(record.has_value() == (released_ < visible()));
    RC_ASSERT(consumer_->has_record() == record.has_value());
    if (!record) return;
    expect(*record, released_);
    records_ = {*record};
  }
  void peek_many(std::size_t count) {
    records_.resize(count);
    const auto found = consumer_->peek_many(records_);
    const std::uint64_t there = std::min<std::uint64_t>(count, visible() - released_);
    RC_ASSERT(found.value_or(0) == there);
    records_.resize(static_cast<std::size_t>(there));
    for (std::size_t i = 0; i < records_.size(); ++i) expect(records_[i], released_ + i);
  }
  void release(std::size_t which) {
    if (records_.empty()) return;
    const Record record = records_[std::min(which, records_.size() - 1)];
    const bool tells = consumer_->release(record);
    released_ = std::max(released_, record.number);
    if (tells) told_ = released_;
  }
  void tell() {
    consumer_->tell_read();
    told_ = released_;
    producer_->tell_write();
  }
  void consumer_dies() {
    released_ = told_;
    attach_consumer(Predecessor::dead);
  }

  void check() {
    RC_ASSERT(producer_->messages() == first_ + sent_.size());
    RC_ASSERT(consumer_->messages() == released_);
    RC_ASSERT(producer_->write_pos() - consumer_->read_pos() <= lane_.geometry().capacity);
    while (first_ < told_) {  // nobody sees these again
      sent_.pop_front();
      ++first_;
    }
  }

  TestLane lane_;
  LaneTuning tuning_;
  std::optional<LaneProducer<>> producer_;
  std::optional<LaneConsumer<>> consumer_;
  std::deque<Message> sent_;  // committed or grouped, from number first_ on
  std::uint64_t first_ = 0;
  std::size_t grouped_ = 0;  // of these, in the open group
  bool in_group_ = false;
  std::uint64_t released_ = 0;
  std::uint64_t told_ = 0;
  std::uint64_t flagged_to_ = 0;
  std::vector<Record> records_;  // peeked last, perhaps released since
};

/// One run: a lane and its operations, all from one number that rapidcheck can shrink around.
rc::Gen<Step> any_step() {
  const auto op = rc::gen::weightedElement<Op>({{30, Op::send},
                                                {3, Op::abort},
                                                {4, Op::begin_group},
                                                {4, Op::end_group},
                                                {2, Op::abort_group},
                                                {12, Op::peek},
                                                {8, Op::peek_many},
                                                {24, Op::release},
                                                {3, Op::tell},
                                                {2, Op::producer_dies},
                                                {1, Op::producer_leaves},
                                                {2, Op::consumer_dies},
                                                {1, Op::consumer_leaves}});
  const auto word = rc::gen::resize(1 << 20, rc::gen::inRange<std::uint32_t>(0, 1u << 31));
  const auto step = rc::gen::map(rc::gen::tuple(op, word, word), [](const auto& t) {
    return Step{std::get<0>(t), std::get<1>(t), std::get<2>(t)};
  });
  return rc::gen::noShrink(step);  // a failure shrinks by leaving steps out, in bounded time
}

bool lane_is_a_queue() {
  return rc::check("the lane is a queue of whole messages, whoever dies", [] {
    LaneGeometry geometry;
    geometry.capacity = *rc::gen::element<std::uint64_t>(4096, 8192, 16384, 32768, 65536);
    geometry.granule = *rc::gen::element<std::uint32_t>(8, 16, 64);
    const auto ahead = *rc::gen::element<std::uint32_t>(0, 24, 512, 4096, 65536);
    const bool crossed = *rc::gen::arbitrary<bool>();
    Model model(geometry, ahead, crossed);
    const auto steps = *rc::gen::resize(600, rc::gen::container<std::vector<Step>>(any_step()));
    for (const Step& step : steps) model.run(step);
    model.drain();
    RC_CLASSIFY(model.position() > geometry.capacity, "more than a lap");
  });
}

/// Long runs by a plain generator: many laps of every shape.
bool runs_of_many_laps(std::uint32_t seed) {
  const std::string name = "many laps of every shape, seed " + std::to_string(seed);
  return rc::check(name, [seed] {
    std::mt19937 random(seed + *rc::gen::noShrink(rc::gen::inRange<std::uint32_t>(0, 1u << 20)));
    LaneGeometry geometry;
    geometry.capacity = std::uint64_t{4096} << random() % 5;
    geometry.granule = std::vector<std::uint32_t>{8, 16, 64}[random() % 3];
    Model model(geometry, std::vector<std::uint32_t>{0, 24, 512, 4096}[random() % 4],
                random() % 2 == 0);
    constexpr Op kMix[] = {Op::send,    Op::send,    Op::send,      Op::send, Op::peek,
                           Op::release, Op::release, Op::peek_many, Op::tell};
    for (int i = 0; i < 4000; ++i) {
      const Op op = random() % 8 == 0 ? static_cast<Op>(random() % static_cast<int>(Op::count_))
                                      : kMix[random() % std::size(kMix)];
      model.run({op, static_cast<std::uint32_t>(random()), static_cast<std::uint32_t>(random())});
    }
    model.drain();
  });
}

}  // namespace
}  // namespace slipring::ring

int main() {
  ::alarm(120 * slipring::test::Watchdog::kSlowdown);
  const char* given = std::getenv("SLIPRING_TEST_SEED");
  const auto seed = given != nullptr ? static_cast<std::uint32_t>(std::strtoul(given, nullptr, 10))
                                     : std::random_device{}();
  std::cout << "SLIPRING_TEST_SEED=" << seed << std::endl;
  if (std::getenv("RC_PARAMS") == nullptr) {
    const std::string params =
        "max_success=" + std::to_string(500 / slipring::test::Watchdog::kSlowdown) +
        " noshrink=1 seed=" + std::to_string(seed);
    ::setenv("RC_PARAMS", params.c_str(), 0);
  }
  const bool ok = slipring::ring::lane_is_a_queue();
  return slipring::ring::runs_of_many_laps(seed) && ok ? 0 : 1;
}

// SPDX-License-Identifier: Apache-2.0
#include <rapidcheck.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "frame/frame_fixture.h"
#include "support/watchdog.h"

// Random messages in random chunks, interleaved at random, with random faults, against a model that
// knows of each message only whether it is open, whole or dropped, and which chunk is due.
// Repeat a failure with SLIPRING_TEST_SEED=..., as printed.
namespace slipring::frame {
namespace {

using namespace test;

enum class Op : int {
  good,         // the chunk that is due, or the first of a message not begun
  skip,         // a later one
  repeat,       // an earlier one
  flip_body,    // one bit of the body
  flip_header,  // one bit of the header
  cut,          // bytes at the end are missing
  retotal,      // another total than the first chunk's
  abort,
  refuse,
  drop_source,
  count_,
};

struct Act {
  Op op;
  std::uint32_t a, b;
};
std::ostream& operator<<(std::ostream& out, const Act& act) {
  return out << '{' << static_cast<int>(act.op) << ',' << act.a << ',' << act.b << '}';
}

constexpr std::uint64_t kSources = 3;
constexpr std::uint64_t kIds = 20;  // fewer than a source's past is remembered of
constexpr std::uint64_t kMaxMessage = 9000;

enum class State { unborn, open, whole, dropped };

struct Sent {
  Bytes body;
  Records chunks;
  bool check = false;
  State state = State::unborn;
  std::size_t due = 0;
};

class Model {
 public:
  Model(Mode mode, const Limits& limits, std::uint32_t seed)
      : mode_(mode), limits_(limits), random_(seed), receiver_(mode, limits) {
    for (std::uint64_t source = 0; source < kSources; ++source) {
      for (std::uint64_t id = 1; id <= kIds; ++id) messages_[{source, id}] = any_message(id);
    }
  }

  void run(const Act& act) {
    const std::uint64_t source = act.a % kSources, id = 1 + act.a / kSources % kIds;
    Sent& m = messages_[{source, id}];
    const std::size_t due = std::min(m.due, m.chunks.size() - 1);  // of a whole one the last
    switch (act.op) {
      case Op::good: send(source, m, m.chunks[due]); break;
      case Op::skip: send(source, m, m.chunks[due + act.b % (m.chunks.size() - due)]); break;
      case Op::repeat: send(source, m, m.chunks[act.b % (due + 1)]); break;
      case Op::abort:
        send(source, m, with(abort_of(id, m), [&](ChunkHeader& h) { h.type = type_of(m); }));
        break;
      case Op::refuse: {
        const bool was_open = m.state == State::open;
        RC_ASSERT(receiver_.assembler.refuse(source, id).has_value() == was_open);
        if (was_open) drop(m);
        break;
      }
      case Op::drop_source: drop_source(source); break;
      default: send_broken(source, m, act); break;
    }
    check();
  }

  /// Every message that is not dropped completes; then nothing is held.
  void drain() {
    for (auto& [name, m] : messages_) {
      while (m.state == State::open) {
        const std::size_t due = m.due;
        send(name.first, m, m.chunks[due]);
        RC_ASSERT(m.state != State::open || m.due == due + 1);
      }
    }
    RC_ASSERT(receiver_.assembler.open_messages() == 0u);
    RC_ASSERT(receiver_.assembler.bytes_under_assembly() == 0u);
  }
  [[nodiscard]] std::uint64_t completed() const { return receiver_.assembler.counters().completed; }

 private:
  Sent any_message(std::uint64_t id) {
    Sent m;
    const std::size_t size = random_() % 4 == 0 ? random_() % 10 : random_() % (kMaxMessage + 100);
    m.body = body_of(size, random_());
    m.check = random_() % 2 == 0;
    const std::uint64_t total = random_() % 3 == 0 ? kOpenEnded : size;
    Splitter splitter = splitter_of(
        {id, total, static_cast<std::uint32_t>(1 + size / (1 + random_() % 8)), 5, m.check});
    while (!splitter.done()) {  // random room, so that chunks have random sizes
      Bytes record(kChunkHeaderBytes + 1 + random_() % splitter.room());
      const auto used = splitter.next_of(m.body, record);
      RC_ASSERT(used.has_value());
      record.resize(*used);
      m.chunks.push_back(std::move(record));
    }
    return m;
  }
  static std::uint16_t type_of(const Sent& m) { return decode(m.chunks[0])->type; }
  static Bytes abort_of(std::uint64_t id, const Sent& m) {
    const auto at = static_cast<std::uint32_t>(std::min(m.due, m.chunks.size() - 1));
    const ChunkHeader due = *decode(m.chunks[at]);
    return abort_chunk(id, at, due.offset, due.total);
  }
  template <typename Change>
  static Bytes with(Bytes record, Change&& change) {
    edit(record, change);
    return record;
  }

  void send_broken(std::uint64_t source, Sent& m, const Act& act) {
    Bytes record = m.chunks[std::min(m.due, m.chunks.size() - 1)];
    const std::size_t body = record.size() - kChunkHeaderBytes;
    switch (act.op) {
      case Op::flip_body:
        if (body == 0) return;
        record[kChunkHeaderBytes + act.b % body] ^= std::byte{1};
        if (!m.check) return;  // nobody could tell
        break;
      case Op::flip_header: {
        // Not of the id: another message's chunk would be judged by that message's state. Not of a
        // hint, nor of the end of an open-ended message: nobody could tell.
        const std::size_t at = kChunkIndexAt + act.b / 8 % 32, bit = act.b % 8;
        const bool open_ended = decode(m.chunks[0])->total == kOpenEnded;
        if (at == kChunkFlagsAt && (bit >= 4 || (bit == 1 && open_ended))) return;
        record[at] ^= std::byte{1} << bit;
        break;
      }
      case Op::cut: record.resize(8 + act.b % (record.size() - 8)); break;
      case Op::retotal:
        edit(record, [&](ChunkHeader& h) {
          h.total = h.total == kOpenEnded ? h.end() + act.b % 2 : kOpenEnded;
        });
        break;
      default: return;
    }
    send(source, m, record);
  }

  // What must come of `record` for the message `m`, by the model alone; nothing: more than one
  // thing may.
  void send(std::uint64_t source, Sent& m, const Bytes& record) {
    const std::uint64_t held = receiver_.assembler.bytes_under_assembly();
    const Counters before = receiver_.assembler.counters();
    const auto chunk = decode_chunk(record);
    const auto step = receiver_.take(record, source);
    const auto fault = step ? std::optional<Fault>{} : receiver_.assembler.last_fault();

    if (m.state == State::dropped) return expect(step, Step::What::swallowed);
    if (!chunk) return expect_drop(m, fault, {Fault::bad_header});
    const ChunkHeader h = chunk->header;
    if (m.state == State::whole) return expect_drop(m, fault, {Fault::repeat});
    if (m.state == State::unborn && !h.has(chunk_flag::first)) {
      return expect_drop(m, fault, {Fault::gap});
    }

    const ChunkHeader due = *decode(m.chunks[m.due]);
    if (h.has(chunk_flag::abort) && h.index == due.index && h.offset == due.offset &&
        h.total == due.total && h.type == due.type) {
      expect(step, Step::What::aborted);
      return drop(m);
    }
    const bool first = m.state == State::unborn;
    // A first chunk is believed what later ones are held against: replace what it changed.
    if (first && !h.has(chunk_flag::abort) && record != m.chunks[0]) {
      if (step) return adopt(source, h.id, m);
      return expect_drop(m, fault,
                         {Fault::oversized, Fault::too_many_open, Fault::over_budget,
                          Fault::bad_check, Fault::bad_header});
    }
    if (first && h.has(chunk_flag::abort)) {
      expect(step, Step::What::aborted);
      return drop(m);
    }
    if (record == m.chunks[m.due]) return expect_good(source, m, h, step, fault, held);
    RC_ASSERT(fault.has_value());
    expect_drop(m, fault,
                {Fault::gap, Fault::repeat, Fault::out_of_order, Fault::overlap, Fault::bad_check,
                 Fault::bad_header, Fault::oversized, Fault::over_budget});
    const bool unchanged = h.index < m.chunks.size() && record == m.chunks[h.index];
    if (unchanged && h.index < due.index) RC_ASSERT(fault == Fault::repeat);
    if (unchanged && h.index > due.index) RC_ASSERT(fault == Fault::gap);
    RC_ASSERT(receiver_.assembler.counters().completed == before.completed);
  }

  void expect_good(std::uint64_t source, Sent& m, const ChunkHeader& h, const Result<Step>& step,
                   std::optional<Fault> fault, std::uint64_t held) {
    const bool keeps = mode_ != Mode::parts;
    const bool ends = h.has(chunk_flag::last);
    const std::uint64_t known = h.total == kOpenEnded ? h.end() : h.total;
    if (m.state == State::unborn) {
      if (keeps && h.total != kOpenEnded && known > limits_.max_message) {
        return expect_drop(m, fault, {Fault::oversized});
      }
      if (!ends && open_of(source) >= limits_.max_open_per_source) {
        return expect_drop(m, fault, {Fault::too_many_open});
      }
    }
    if (keeps && known > limits_.max_message) return expect_drop(m, fault, {Fault::oversized});
    if (fault == Fault::over_budget) {
      RC_ASSERT(keeps && held + h.body_bytes > limits_.max_bytes);
      return drop(m);
    }
    expect(step, ends ? Step::What::complete : Step::What::part);
    RC_ASSERT(step->of.so_far == h.end());
    m.state = ends ? State::whole : State::open;
    ++m.due;
    if (ends) {
      RC_ASSERT(receiver_.whole == m.body);
      ++completed_;
    }
  }

  /// The assembler took a changed first chunk; only its sender could know. Give it up.
  void adopt(std::uint64_t source, std::uint64_t id, Sent& m) {
    if (receiver_.assembler.refuse(source, id)) {
      drop(m);
    } else {  // whole, or aborted, at once: the model does not know which
      m.state = State::dropped;
      const auto step = receiver_.take(m.chunks[0], source);
      const bool quiet = step && step->what == Step::What::swallowed;
      RC_ASSERT(quiet || receiver_.assembler.last_fault() == Fault::repeat);
      completed_ = receiver_.assembler.counters().completed;
    }
  }

  static void expect(const Result<Step>& step, Step::What what) {
    RC_ASSERT(step.has_value());
    RC_ASSERT(step->what == what);
  }
  static void expect_drop(Sent& m, std::optional<Fault> fault, const std::set<Fault>& any_of) {
    RC_ASSERT(fault.has_value());
    RC_ASSERT(any_of.contains(*fault));
    drop(m);
  }
  static void drop(Sent& m) { m.state = State::dropped; }

  void drop_source(std::uint64_t source) {
    RC_ASSERT(receiver_.assembler.drop(source) == open_of(source));
    for (auto& [name, m] : messages_) {
      if (name.first == source) m = any_message(name.second);  // a successor begins anew
    }
    receiver_.forget(source);
  }

  [[nodiscard]] std::size_t open_of(std::uint64_t source) const {
    std::size_t count = 0;
    for (const auto& [name, m] : messages_) {
      count += name.first == source && m.state == State::open ? 1 : 0;
    }
    return count;
  }
  void check() {
    std::size_t open = 0;
    for (std::uint64_t source = 0; source < kSources; ++source) open += open_of(source);
    RC_ASSERT(receiver_.assembler.open_messages() == open);
    RC_ASSERT(receiver_.assembler.bytes_under_assembly() <= limits_.max_bytes);
    RC_ASSERT(open > 0 || receiver_.assembler.bytes_under_assembly() == 0);
    RC_ASSERT(receiver_.assembler.counters().completed == completed_);
  }

  Mode mode_;
  Limits limits_;
  std::mt19937 random_;
  Receiver receiver_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, Sent> messages_;
  std::uint64_t completed_ = 0;
};

rc::Gen<Act> any_act() {
  const auto op = rc::gen::weightedElement<Op>({{80, Op::good},
                                                {1, Op::skip},
                                                {1, Op::repeat},
                                                {2, Op::flip_body},
                                                {2, Op::flip_header},
                                                {1, Op::cut},
                                                {1, Op::retotal},
                                                {2, Op::abort},
                                                {1, Op::refuse},
                                                {1, Op::drop_source}});
  const auto word = rc::gen::resize(1 << 20, rc::gen::inRange<std::uint32_t>(0, 1u << 31));
  return rc::gen::map(rc::gen::tuple(op, word, word), [](const auto& t) {
    return Act{std::get<0>(t), std::get<1>(t), std::get<2>(t)};
  });
}

bool messages_are_whole_or_dropped(Mode mode) {
  return rc::check("messages are whole or dropped, mode " + testing::PrintToString(mode), [mode] {
    Limits limits;
    limits.max_message = kMaxMessage;
    limits.max_open_per_source = *rc::gen::element<std::uint32_t>(1, 3, 8, 100);
    limits.max_bytes = *rc::gen::element<std::uint64_t>(10000, 40000, 1 << 30);
    const auto seed = *rc::gen::resize(1 << 20, rc::gen::arbitrary<std::uint32_t>());
    Model model(mode, limits, seed);
    const auto acts = *rc::gen::container<std::vector<Act>>(400, any_act());
    for (const Act& act : acts) model.run(act);
    model.drain();
    RC_CLASSIFY(model.completed() > 10, "more than ten complete");
  });
}

}  // namespace
}  // namespace slipring::frame

int main() {
  ::alarm(300 * slipring::test::Watchdog::kSlowdown);
  const char* given = std::getenv("SLIPRING_TEST_SEED");
  const auto seed = given != nullptr ? static_cast<std::uint32_t>(std::strtoul(given, nullptr, 10))
                                     : std::random_device{}();
  std::cout << "SLIPRING_TEST_SEED=" << seed << std::endl;
  if (std::getenv("RC_PARAMS") == nullptr) {
    const std::string params =
        "max_success=" + std::to_string(300 / slipring::test::Watchdog::kSlowdown) +
        " seed=" + std::to_string(seed);
    ::setenv("RC_PARAMS", params.c_str(), 0);
  }
  using slipring::frame::Mode;
  bool ok = true;
  for (const Mode mode : {Mode::parts, Mode::assembled, Mode::pieces}) {
    ok = slipring::frame::messages_are_whole_or_dropped(mode) && ok;
  }
  const bool quiet = testing::UnitTest::GetInstance()->ad_hoc_test_result().Passed();
  return ok && quiet ? 0 : 1;
}

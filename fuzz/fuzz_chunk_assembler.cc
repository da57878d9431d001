// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "slipring/frame/assembler.h"

// Any sequence of chunks, of a few sources: limits hold after each, what completes is exactly what
// was taken, chunks are counted once, and when the sources are gone nothing is held.
// Input: byte 0: mode and limits; then operations, mostly a byte of choice and a few of detail.
namespace slipring::fuzz {
namespace {

using frame::Assembler;
using frame::ChunkHeader;
using frame::Mode;
using frame::Step;
using Bytes = std::vector<std::byte>;
using Name = std::pair<std::uint64_t, std::uint64_t>;  // source, id

void expect(bool holds) {
  if (!holds) __builtin_trap();
}

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : left_(data, size) {}
  [[nodiscard]] bool empty() const { return left_.empty(); }
  std::uint8_t byte() {
    if (left_.empty()) return 0;
    const std::uint8_t b = left_[0];
    left_ = left_.subspan(1);
    return b;
  }
  Bytes bytes(std::size_t size) {
    Bytes out(size);
    for (std::byte& b : out) b = static_cast<std::byte>(byte());
    return out;
  }

 private:
  std::span<const std::uint8_t> left_;
};

frame::Limits limits_by(std::uint8_t choice) {
  frame::Limits limits;
  limits.max_sources = 3;
  limits.max_open_per_source = 1 + (choice & 3);
  limits.max_open = 5;
  limits.max_message = (choice & 4) != 0 ? 100 : 20000;
  limits.max_bytes_per_source = (choice & 8) != 0 ? 300 : 9000;
  limits.max_bytes = (choice & 8) != 0 ? 500 : 15000;
  return limits;
}

/// A chunk that goes on where the sender of `due` stands, but for the fields that are overwritten.
Bytes plausible(Input& input, ChunkHeader& due) {
  const std::uint8_t shape = input.byte();
  const std::size_t size = (shape & 1) != 0 ? input.byte() * std::size_t{33} : input.byte() % 16;
  // The body repeats a byte: long ones cost the input nothing.
  Bytes record(frame::kChunkHeaderBytes + size, static_cast<std::byte>(input.byte()));
  const auto body = std::span(record).subspan(frame::kChunkHeaderBytes);
  ChunkHeader h = due;
  h.body_bytes = static_cast<std::uint32_t>(size);
  h.flags = h.index == 0 ? frame::chunk_flag::first : std::uint16_t{0};
  if ((shape & 2) != 0) {  // the end
    h.flags |= frame::chunk_flag::last;
    if (h.index == 0) h.total = (shape & 4) != 0 ? h.end() : frame::kOpenEnded;
  } else if (h.index == 0) {
    h.total = (shape & 4) != 0 ? input.byte() * std::uint64_t{100} : frame::kOpenEnded;
  }
  if (h.total == h.end()) h.flags |= frame::chunk_flag::last;
  if ((shape & 8) != 0) {
    h.flags |= frame::chunk_flag::has_check;
    h.check = frame::body_check(body);
  }
  due = h;
  due.offset = h.end();
  ++due.index;
  if (!frame::encode(h, record)) {
    // The rules forbid it: write its fields one by one, over a header that they allow.
    ChunkHeader sound;
    sound.id = 1;
    sound.body_bytes = 1;
    sound.flags = frame::chunk_flag::first;
    expect(frame::encode(sound, record).has_value());
    std::memcpy(record.data() + frame::kChunkIdAt, &h.id, sizeof(h.id));
    std::memcpy(record.data() + frame::kChunkOffsetAt, &h.offset, sizeof(h.offset));
    std::memcpy(record.data() + frame::kChunkFlagsAt, &h.flags, sizeof(h.flags));
  }
  if ((shape & 16) != 0) {  // a byte of it is spoiled
    record[input.byte() % record.size()] ^= static_cast<std::byte>(input.byte());
  }
  if ((shape & 32) != 0) record.resize(input.byte() % (record.size() + 1));
  record.shrink_to_fit();
  return record;
}

class Run {
 public:
  explicit Run(std::uint8_t setup)
      : limits_(limits_by(setup >> 2)), assembler_(static_cast<Mode>(setup % 3), limits_) {}

  void operator()(Input& input) {
    while (!input.empty()) {
      const std::uint8_t choice = input.byte();
      const std::uint64_t source = choice >> 6;  // one more than the limit
      const std::uint64_t id = 1 + (choice >> 3) % 8;
      switch (choice & 7) {
        case 0: take(source, input.bytes(input.byte() % 64)); break;
        case 1:
          if (assembler_.refuse(source, id)) seen_.erase({source, id});
          break;
        case 2:
          assembler_.drop(source);
          forget(source);
          break;
        case 3: {  // another id, far away or near
          ChunkHeader& due = due_[{source, id}];
          due = {};
          due.id = input.byte();
          due.id |= std::uint64_t{input.byte()} << (8 * (id - 1));
          break;
        }
        default: {
          ChunkHeader& due = due_[{source, id}];
          if (due.id == 0) due.id = id;
          take(source, plausible(input, due));
        }
      }
      check();
    }
    for (std::uint64_t source = 0; source < 4; ++source) assembler_.drop(source);
    expect(assembler_.sources() == 0 && assembler_.open_messages() == 0);
    expect(assembler_.bytes_under_assembly() == 0);
  }

 private:
  void take(std::uint64_t source, const Bytes& record) {
    const auto step = assembler_.take(source, record);
    if (!step) {
      expect(assembler_.last_fault().has_value());
      expect(step.error().code == errc_of(*assembler_.last_fault()));
      return;
    }
    const Name name{source, step->of.id};
    switch (step->what) {
      case Step::What::swallowed: return;
      case Step::What::aborted: seen_.erase(name); return;
      case Step::What::part:
      case Step::What::complete: break;
    }
    Bytes& seen = seen_[name];
    if (step->offset == 0) seen.clear();  // of a message that was dropped meanwhile
    expect(seen.size() == step->offset);
    const auto body = std::span(record).subspan(frame::kChunkHeaderBytes);
    seen.insert(seen.end(), body.begin(), body.end());
    expect(step->of.so_far == seen.size());
    if (assembler_.mode() == Mode::parts) {
      expect(step->body.data() == body.data() && step->body.size() == body.size());
    }
    if (step->what == Step::What::part) return;
    expect(step->of.total == frame::kOpenEnded || step->of.total == seen.size());
    if (assembler_.mode() != Mode::parts) {
      expect(seen.size() <= limits_.max_message && step->message.size() == seen.size());
      Bytes whole(seen.size());
      expect(step->message.copy_to(whole).has_value() && whole == seen);
      expect(assembler_.mode() == Mode::pieces || std::ranges::equal(step->message.bytes(), seen));
    }
    seen_.erase(name);
  }

  void check() const {
    std::array<frame::OpenMessage, 8> open;
    const std::size_t count = assembler_.list_open(open);
    expect(count == assembler_.open_messages() && count <= limits_.max_open);
    expect(assembler_.sources() <= limits_.max_sources);
    std::map<std::uint64_t, std::uint32_t> per_source;
    std::uint64_t so_far = 0;
    for (std::size_t i = 0; i < count; ++i) {
      expect(++per_source[open[i].source] <= limits_.max_open_per_source);
      so_far += open[i].so_far;
    }
    if (assembler_.mode() != Mode::parts) {
      expect(so_far <= assembler_.bytes_under_assembly());
      expect(assembler_.bytes_under_assembly() <= limits_.max_bytes);
    } else {
      expect(assembler_.bytes_under_assembly() == 0);
    }
    const frame::Counters& c = assembler_.counters();
    std::uint64_t sum = c.taken + c.swallowed;
    for (const std::uint64_t n : c.faults) sum += n;
    expect(sum == c.chunks);
  }

  void forget(std::uint64_t source) {
    const auto is_its = [source](const auto& one) { return one.first.first == source; };
    std::erase_if(seen_, is_its);
    std::erase_if(due_, is_its);
  }

  frame::Limits limits_;
  Assembler assembler_;
  std::map<Name, Bytes> seen_;       // what was taken of open messages
  std::map<Name, ChunkHeader> due_;  // where their senders stand
};

}  // namespace
}  // namespace slipring::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  slipring::fuzz::Input input(data + 1, size - 1);
  slipring::fuzz::Run run(data[0]);
  run(input);
  return 0;
}

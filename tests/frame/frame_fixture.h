// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <ostream>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "slipring/frame/assembler.h"
#include "slipring/frame/splitter.h"
#include "support/matchers.h"

namespace slipring::frame {

inline void PrintTo(Mode mode, std::ostream* out) {
  *out << (mode == Mode::parts ? "parts" : mode == Mode::assembled ? "assembled" : "pieces");
}
inline void PrintTo(Fault fault, std::ostream* out) { *out << to_string(fault); }

namespace test {

using slipring::test::FailsWith;
using slipring::test::Succeeds;
using Bytes = std::vector<std::byte>;
using Records = std::vector<Bytes>;

/// `size` bytes that no shift of them equals.
inline Bytes body_of(std::size_t size, std::uint64_t seed = 1) {
  Bytes out(size);
  std::uint64_t x = seed * 0x9e3779b97f4a7c15 + 1;
  for (std::byte& b : out) {
    x = x * 6364136223846793005 + 1442695040888963407;
    b = static_cast<std::byte>(x >> 56);
  }
  return out;
}

inline std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

/// One chunk as its sender would write it, but for what is asked: no rule is checked.
inline Bytes raw_chunk(const ChunkHeader& h, std::span<const std::byte> body = {}) {
  Bytes out(kChunkHeaderBytes + body.size());
  const auto put = [&](std::size_t at, auto value) {
    std::memcpy(out.data() + at, &value, sizeof(value));
  };
  put(kChunkIdAt, h.id);
  put(kChunkIndexAt, h.index);
  put(kChunkBodyBytesAt, h.body_bytes);
  put(kChunkOffsetAt, h.offset);
  put(kChunkTotalAt, h.total);
  put(kChunkFlagsAt, h.flags);
  put(kChunkTypeAt, h.type);
  put(kChunkCheckAt, h.check);
  std::copy(body.begin(), body.end(), out.begin() + kChunkHeaderBytes);
  return out;
}

/// Changes a header in place.
template <typename Change>
void edit(Bytes& record, Change&& change) {
  ChunkHeader h;
  const auto get = [&](std::size_t at, auto& value) {
    std::memcpy(&value, record.data() + at, sizeof(value));
  };
  get(kChunkIdAt, h.id);
  get(kChunkIndexAt, h.index);
  get(kChunkBodyBytesAt, h.body_bytes);
  get(kChunkOffsetAt, h.offset);
  get(kChunkTotalAt, h.total);
  get(kChunkFlagsAt, h.flags);
  get(kChunkTypeAt, h.type);
  get(kChunkCheckAt, h.check);
  change(h);
  record = raw_chunk(h, std::span(record).subspan(kChunkHeaderBytes));
}

inline Splitter splitter_of(const SplitOptions& options) { return Splitter::make(options).value(); }

/// The whole message as records of at most `max_body` bytes of body.
inline Records chunks_of(const Bytes& message, SplitOptions options) {
  Splitter splitter = splitter_of(options);
  Records out;
  while (!splitter.done()) {
    Bytes record(splitter.room());
    const auto used = splitter.next_of(message, record);
    EXPECT_THAT(used, Succeeds());
    if (!used) break;
    record.resize(*used);
    out.push_back(std::move(record));
  }
  return out;
}

inline Bytes abort_chunk(std::uint64_t id, std::uint32_t index, std::uint64_t offset,
                         std::uint64_t total) {
  ChunkHeader h;
  h.id = id;
  h.index = index;
  h.offset = offset;
  h.total = total;
  h.flags = chunk_flag::abort;
  if (index == 0) h.flags |= chunk_flag::first;
  return raw_chunk(h);
}

inline Bytes copy_of(const Message& message) {
  Bytes out(static_cast<std::size_t>(message.size()));
  EXPECT_THAT(message.copy_to(out), Succeeds());
  return out;
}

inline constexpr std::uint64_t kSource = 7;

/// Feeds an assembler, and in Mode::parts keeps the parts as a user would.
class Receiver {
 public:
  explicit Receiver(Mode mode, const Limits& limits = {}) : assembler(mode, limits) {}
  ~Receiver() {
    const Counters& c = assembler.counters();
    std::uint64_t sum = c.taken + c.swallowed;
    for (const std::uint64_t n : c.faults) sum += n;
    EXPECT_EQ(c.chunks, sum) << "every chunk is counted once";
  }

  Result<Step> take(const Bytes& record, std::uint64_t source = kSource) {
    // Exactly as large as the record, so that a sanitizer sees any look beyond it.
    const Bytes exact(record.begin(), record.end());
    Result<Step> step = assembler.take(source, exact);
    if (step && (step->what == Step::What::part || step->what == Step::What::complete)) {
      if (assembler.mode() == Mode::parts) {
        Bytes& sofar = parts_[{source, step->of.id}];
        EXPECT_EQ(sofar.size(), step->offset);
        sofar.insert(sofar.end(), step->body.begin(), step->body.end());
      } else {
        EXPECT_TRUE(step->body.empty());
      }
      if (step->what == Step::What::complete) {
        whole = assembler.mode() == Mode::parts ? parts_[{source, step->of.id}]
                                                : copy_of(step->message);
        parts_.erase({source, step->of.id});
      }
    }
    return step;
  }
  /// Takes records that all bring a message on; the last one ends it when `ends`.
  void take_all(const Records& records, std::uint64_t source = kSource, bool ends = true) {
    for (std::size_t i = 0; i < records.size(); ++i) {
      const auto step = take(records[i], source);
      ASSERT_THAT(step, Succeeds()) << "chunk " << i;
      const bool last = ends && i + 1 == records.size();
      ASSERT_EQ(step->what, last ? Step::What::complete : Step::What::part) << "chunk " << i;
    }
  }
  void expect_fault(const Bytes& record, Fault fault, std::uint64_t source = kSource) {
    const std::uint64_t before = assembler.counters().of(fault);
    const auto step = take(record, source);
    EXPECT_THAT(step, FailsWith(errc_of(fault)));
    EXPECT_EQ(assembler.last_fault(), fault);
    EXPECT_EQ(assembler.counters().of(fault), before + 1);
  }
  void expect_swallowed(const Bytes& record, std::uint64_t source = kSource) {
    const auto step = take(record, source);
    ASSERT_THAT(step, Succeeds());
    EXPECT_EQ(step->what, Step::What::swallowed);
  }
  void expect_nothing_held() {
    EXPECT_EQ(assembler.open_messages(), 0u);
    EXPECT_EQ(assembler.bytes_under_assembly(), 0u);
  }

  /// Forgets the parts of a source whose successor begins anew.
  void forget(std::uint64_t source) {
    std::erase_if(parts_, [source](const auto& one) { return one.first.first == source; });
  }

  Assembler assembler;
  Bytes whole;  // the last complete message

 private:
  std::map<std::pair<std::uint64_t, std::uint64_t>, Bytes> parts_;
};

class EachMode : public testing::TestWithParam<Mode> {};

inline std::string mode_name(const testing::TestParamInfo<Mode>& info) {
  return testing::PrintToString(info.param);
}

}  // namespace test
}  // namespace slipring::frame

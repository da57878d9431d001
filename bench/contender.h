// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "harness/sides.h"

// Who is measured. A contender makes sessions; a session is fresh memory for one measurement, and
// knows how each side of it behaves. What runs per message is inlined into the bodies of a session
// (loops.h): no virtual call stands between two messages.
namespace slipring::bench {

/// What a session is made for.
struct Shape {
  std::size_t size = 64;                            ///< Payload bytes of each message.
  std::size_t ring_bytes = std::size_t{256} << 10;  ///< Storage of one direction, for everybody.
  std::uint32_t producers = 1;
  bool there_and_back = false;
  bool lock_memory = false;
};

/// How the sides of a session run.
struct Flow {
  std::uint64_t warm_up = 0;  ///< Messages before the clock starts.
  std::uint64_t count = 0;    ///< Messages, or round trips, that are timed.
  std::uint32_t group = 1;    ///< Messages that are sent and taken together.
  std::uint32_t stream = 0;   ///< Which producer this is.
  std::uint32_t depth = 1;    ///< Messages under way in a round trip.
  bool pause = false;         ///< Between two failing looks, if the contender looks itself.
  double interval_ns = 0;     ///< Open loop: between two messages.
  double gap_ns = 0;          ///< Round trip: idle time before each, for both to fall asleep in.
  bool naps = false;          ///< Open loop: the sender sleeps between messages.
  double patience_ns = 0;     ///< Saturated, one producer: ends early after so long; 0: never.
};

using Begin = std::function<void()>;

/// Memory for one measurement. Made by the parent; each body runs in one of the sides.
/// All bodies: false with a reason in the report when anything failed. They look at every byte.
class Session {
 public:
  virtual ~Session() = default;
  virtual bool pump(const Flow& flow, SideReport& report, Board& board, const Begin& begin) = 0;
  virtual bool drain(const Flow& flow, std::uint32_t producers, SideReport& report, Board& board,
                     const Begin& begin) = 0;
  /// `count` round trips by the clock, and as many that each go into `latency`.
  virtual bool ping(const Flow& flow, SideReport& report, Board& board, const Begin& begin) = 0;
  virtual bool echo(const Flow& flow, SideReport& report, const Begin& begin) = 0;
  virtual bool send_on_schedule(const Flow& flow, SideReport& report, Board& board,
                                const Begin& begin) = 0;
  virtual bool receive_on_schedule(const Flow& flow, SideReport& report, Board& board,
                                   const Begin& begin) = 0;
};

/// What a contender is, and what can be asked of it.
struct Traits {
  std::string name;    ///< "boost.spsc_queue"
  std::string family;  ///< What --vs selects by: "boost".
  std::string what;    ///< For the tables: "Boost.Lockfree spsc_queue".
  Placement placement = Placement::processes;
  std::vector<std::size_t> sizes;  ///< That it was built for; none: any.
  std::size_t min_size = 8;
  std::size_t max_size = std::size_t{1} << 20;
  std::uint32_t max_producers = 1;
  bool groups = false;   ///< Has a call for many messages at once.
  bool retries = false;  ///< We poll it: with and without a pause in between.
  bool parks = false;    ///< Its waiting sides sleep: it works on one CPU.
  bool has_ring = true;  ///< Shape::ring_bytes is its storage.
  bool round_trips = true;
};

class Contender {
 public:
  explicit Contender(Traits traits) : traits_(std::move(traits)) {}
  virtual ~Contender() = default;
  [[nodiscard]] const Traits& traits() const noexcept { return traits_; }
  [[nodiscard]] bool can_do(std::size_t size) const noexcept;
  /// Why it cannot run on this machine; empty: it can.
  [[nodiscard]] virtual std::string unable() const { return {}; }
  [[nodiscard]] virtual Try<std::unique_ptr<Session>> open(const Shape& shape) const = 0;
  /// A daemon that works for it: CPU time that it has used. 0: there is none.
  [[nodiscard]] virtual std::int64_t helper_cpu_ns() const { return 0; }

 private:
  Traits traits_;
};

/// A contender that is a function.
class SimpleContender final : public Contender {
 public:
  using Open = std::function<Try<std::unique_ptr<Session>>(const Shape&)>;
  SimpleContender(Traits traits, Open open)
      : Contender(std::move(traits)), open_(std::move(open)) {}
  [[nodiscard]] Try<std::unique_ptr<Session>> open(const Shape& shape) const override {
    return open_(shape);
  }

 private:
  Open open_;
};

/// Somebody who is not measured, and why.
struct LeftOut {
  std::string name;
  std::string why;
};

/// Everybody that was built in.
struct Field {
  std::vector<std::unique_ptr<Contender>> contenders;
  std::vector<LeftOut> left_out;

  void add(Traits traits, SimpleContender::Open open) {
    contenders.push_back(std::make_unique<SimpleContender>(std::move(traits), std::move(open)));
  }
  [[nodiscard]] const Contender* find(const std::string& name) const noexcept;
};

/// All of slipring's forms, and all rivals; those that are not built in are left out with a reason.
[[nodiscard]] Field whole_field();

// One per file of ours/ and rivals/.
void add_lanes(Field& field);
void add_messages(Field& field);
void add_kernel(Field& field);
void add_boost(Field& field);
void add_boost_interprocess(Field& field);
void add_readerwriterqueue(Field& field);
void add_concurrentqueue(Field& field);
void add_atomic_queue(Field& field);
void add_dpdk(Field& field);
void add_zeromq(Field& field);
void add_nng(Field& field);
void add_iceoryx(Field& field);

}  // namespace slipring::bench

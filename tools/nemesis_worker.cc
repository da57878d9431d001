// SPDX-License-Identifier: Apache-2.0
#include "nemesis_worker.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <map>
#include <random>
#include <type_traits>

#include "slipring/channel/shm.h"

namespace slipring::tools::nemesis {
namespace {

using channel::RingForm;
using channel::ShmReceiver;
using channel::ShmSender;
using namespace std::chrono_literals;
using Rng = std::mt19937_64;

constexpr auto kSlice = 20ms;  // waits are cut, so that "stop" is seen

void nap(std::chrono::microseconds time) {
  const timespec pause{0, static_cast<long>(time.count()) * 1000};
  ::nanosleep(&pause, nullptr);
}

/// What a call may end with while others are killed, stopped and robbed of names around us.
bool is_transient(Errc code) {
  return code == Errc::in_use || code == Errc::timed_out || code == Errc::segment_lost ||
         code == Errc::full || code == Errc::empty || code == Errc::not_found;
}

/// Attaches, however long others are in the way. Nothing: it failed, or a sender was told to stop.
/// A receiver is needed all the same: somebody has to read what is left.
template <typename End>
std::optional<End> attach(const Stage& stage, Note& failed) {
  while (stage.log.stop.get() == 0 || std::is_same_v<End, ShmReceiver>) {
    auto segment = stage.open();
    auto end =
        segment ? End::attach(std::move(*segment)) : Result<End>(tl::unexpected(segment.error()));
    if (end) return std::move(*end);
    if (!is_transient(end.error().code)) {
      failed.set(1 + static_cast<std::uint64_t>(end.error().code));
      return std::nullopt;
    }
    nap(500us);
  }
  return std::nullopt;
}

/// A forked child tries whatever its parent's endpoint offers.
int misuse(ShmSender& tx) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const std::array<std::byte, 16> message{};
  const auto is_refused = [](const auto& result) {
    return !result && result.error().code == Errc::invalid_argument;
  };
  const bool all = is_refused(tx.try_claim(16)) && is_refused(tx.try_send(message)) &&
                   is_refused(tx.claim(16, Deadline::in(1ms))) && is_refused(tx.group());
  tx.flush();
  tx.close();
  return all ? 0 : 1;
}

class Sender {
 public:
  Sender(const Stage& stage, std::uint64_t me)
      : stage_(stage),
        mine_(stage.log.sender[me]),
        me_(me),
        rng_(stage.seed * 0x9e3779b97f4a7c15 + me) {}

  int run() {
    auto tx = attach<ShmSender>(stage_, mine_.failed);
    if (!tx) return finish();
    mine_.place.set(tx->link().sender());
    mine_.attached.set(static_cast<std::uint64_t>(monotonic_ns()));
    while (stage_.log.stop.get() == 0 && mine_.failed.get() == 0) {
      if (stage_.log.fork_request[mine_.slot.get()].get() != 0) fork_one(*tx);
      const bool is_lane = stage_.form != RingForm::total;
      if (is_lane && rng_() % 16 == 0)
        send_group(*tx);
      else
        send_one(*tx);
    }
    tx->close();
    return finish();
  }

 private:
  int finish() {
    mine_.ended.set(1);
    return 0;
  }

  [[nodiscard]] Head head() {
    const bool in_order = stage_.form == RingForm::total;
    return {me_, number_, in_order ? stage_.log.tickets.add() + 1 : 0, 0, 0, 0};
  }
  [[nodiscard]] std::size_t draw_size() {
    return sizeof(Head) + (rng_() % 32 == 0 ? rng_() % 4000 : rng_() % 200);
  }

  void send_one(ShmSender& tx) {
    Head head = this->head();
    const std::uint64_t receiver = living_receiver();
    auto claim = tx.claim(draw_size(), Deadline::in(kSlice));
    if (!claim) return note_failure(claim.error().code, receiver);
    if (head.before != 0) head.inside = stage_.log.tickets.add() + 1;
    if (stage_.defect == Defect::swap && number_ % 1000 == 998) head.number ^= 1;
    if (stage_.defect == Defect::swap && number_ % 1000 == 999) head.number ^= 1;
    write_message(claim->payload(), head);
    if (stage_.defect == Defect::tear && number_ == 1000) claim->payload()[20] ^= std::byte{1};
    if (rng_() % 64 == 0) {
      claim->abort();
      mine_.aborted.add();
      return;
    }
    mine_.from.set(number_);
    mine_.to.set(number_ + 1);
    if (stage_.defect == Defect::lose && number_ == 1000)
      claim->abort();
    else
      claim->commit();
    mine_.committed.set(++number_);
    if (stage_.defect == Defect::repeat && number_ == 1000) {
      if (auto again = tx.claim(sizeof(Head), Deadline::in(1s))) {
        write_message(again->payload(), {me_, number_ - 1, head.before, head.inside, 0, 0});
        again->commit();
      }
    }
  }

  // Several that appear together, or not at all.
  void send_group(ShmSender& tx) {
    auto group = tx.group();
    if (!group) return note_failure(group.error().code, kNobody);
    std::array<std::byte, 512> buffer;
    std::uint64_t count = 0;
    for (const std::uint64_t wanted = 2 + rng_() % 6; count < wanted; ++count) {
      const std::span<std::byte> message(buffer.data(), sizeof(Head) + rng_() % 100);
      write_message(message, {me_, number_ + count, 0, 0, 0, 0});
      if (!group->try_send(message)) break;
    }
    if (rng_() % 32 == 0 || count == 0) return;  // given up
    mine_.from.set(number_);
    mine_.to.set(number_ + count);
    group->commit();
    number_ += count;
    mine_.committed.set(number_);
  }

  static constexpr std::uint64_t kNobody = ~std::uint64_t{0};
  /// The one that is attached, whom nobody has begun to kill.
  [[nodiscard]] std::uint64_t living_receiver() const {
    const std::uint64_t last = stage_.log.receivers.get() - 1;
    if (last >= kMostReceivers) return kNobody;
    const ReceiverLog& receiver = stage_.log.receiver[last];
    const bool lives = receiver.killed.get() == 0 && receiver.ended.get() == 0;
    return receiver.attached.get() != 0 && lives ? last : kNobody;
  }

  void note_failure(Errc code, std::uint64_t receiver) {
    if (is_transient(code)) return;
    if (code == Errc::peer_dead || code == Errc::closed) {
      // One and the same receiver was there, and not yet struck, from before the call until now.
      const bool lived = receiver != kNobody && living_receiver() == receiver;
      if (lived && code == Errc::peer_dead) mine_.false_dead.add();
      return nap(200us);
    }
    mine_.failed.set(1 + static_cast<std::uint64_t>(code));
  }

  void fork_one(ShmSender& tx) {
    stage_.log.fork_request[mine_.slot.get()].set(0);
    const pid_t child = ::fork();
    if (child == 0) ::_exit(misuse(tx));
    int status = 0;
    if (child < 0 || retry_eintr([&] { return ::waitpid(child, &status, 0); }) != child) return;
    mine_.forks.add();
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) mine_.forks_not_refused.add();
  }

  const Stage& stage_;
  SenderLog& mine_;
  std::uint64_t me_;
  Rng rng_;
  std::uint64_t number_ = 0;
};

class Receiver {
 public:
  Receiver(const Stage& stage, std::uint64_t me)
      : stage_(stage), mine_(stage.log.receiver[me]), me_(me), rng_(~stage.seed + me) {}

  int run() {
    auto rx = attach<ShmReceiver>(stage_, mine_.failed);
    if (rx) {
      mine_.attached.set(static_cast<std::uint64_t>(monotonic_ns()));
      receive(*rx);
      note_departed(*rx);
      rx->close();
    }
    mine_.ended.set(1);
    return 0;
  }

 private:
  void receive(ShmReceiver& rx) {
    std::array<ring::Record, 64> batch;
    while (mine_.failed.get() == 0) {
      const std::size_t most = 1 + rng_() % batch.size();
      const auto found = rx.peek_many({batch.data(), most}, Deadline::in(kSlice));
      note_departed(rx);
      if (found) {
        for (std::size_t i = 0; i < *found; ++i) see(batch[i]);
        rx.release(batch[*found - 1]);
        continue;
      }
      const Errc code = found.error().code;
      const bool is_quiet =
          code == Errc::timed_out || code == Errc::closed || code == Errc::peer_dead;
      if (!is_quiet) mine_.failed.set(1 + static_cast<std::uint64_t>(code));
      if (is_quiet && stage_.log.stop.get() == 2) return;
      if (code != Errc::timed_out) nap(200us);
    }
  }

  void see(const ring::Record& record) {
    Head head;
    if (!read_message(record.payload, head)) return static_cast<void>(mine_.torn.add());
    if (head.sender >= stage_.log.senders.get()) return static_cast<void>(mine_.strange.add());
    // A claim that had ended before another began comes first: `inside` was drawn when a claim had
    // ended, `before` ahead of its beginning.
    if (head.before != 0 && !record.redelivered) {
      if (head.inside <= latest_before_) mine_.reordered.add();
      latest_before_ = std::max(latest_before_, head.before);
    }
    const auto it = runs_.find(head.sender);
    if (it != runs_.end()) {
      Run& run = stage_.log.run[it->second];
      if (run.end.get() == head.number && run.redelivered.get() == (record.redelivered ? 1U : 0U)) {
        run.end.set(head.number + 1);
        stage_.log.delivered.add();
        return;
      }
    }
    begin_run(head, record.redelivered);
  }

  void begin_run(const Head& head, bool redelivered) {
    const std::uint64_t index = stage_.log.runs.get();
    if (index >= kMostRuns) return mine_.failed.set(1 + static_cast<std::uint64_t>(Errc::no_space));
    Run& run = stage_.log.run[index];
    run.sender.set(head.sender);
    run.first.set(head.number);
    run.end.set(head.number + 1);
    run.receiver.set(me_);
    run.redelivered.set(redelivered ? 1 : 0);
    stage_.log.runs.set(index + 1);  // there from here on
    runs_[head.sender] = index;
    stage_.log.delivered.add();
  }

  void note_departed(ShmReceiver& rx) {
    while (const auto departed = rx.next_departed())
      note_departed(departed->who.pid, departed->sender);
    if (stage_.defect == Defect::slander && stage_.log.departed.get() == 0) {
      note_departed(static_cast<std::uint32_t>(::getpid()), 0);
    }
  }
  void note_departed(std::uint32_t pid, std::uint32_t place) {
    const std::uint64_t index = stage_.log.departed.get();
    if (index >= kMostSenders) return;
    stage_.log.departed_of[index].pid.set(pid);
    stage_.log.departed_of[index].place.set(place);
    stage_.log.departed.set(index + 1);
  }

  const Stage& stage_;
  ReceiverLog& mine_;
  std::uint64_t me_;
  Rng rng_;
  std::map<std::uint64_t, std::uint64_t> runs_;  // the last run of each sender, as we began it
  std::uint64_t latest_before_ = 0;
};

}  // namespace

int send_messages(const Stage& stage, std::uint64_t me) { return Sender(stage, me).run(); }
int receive_messages(const Stage& stage, std::uint64_t me) { return Receiver(stage, me).run(); }

}  // namespace slipring::tools::nemesis

// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <sys/shm.h>

#include <memory>

#include "harness.h"
#include "slipring/channel/message_receiver.h"
#include "slipring/channel/message_sender.h"
#include "slipring/manager/registry.h"
#include "support/names.h"
#include "support/watchdog.h"

// SIGKILL at every machine instruction of what makes, finds and removes segments, of messages in
// blocks and chunks, and of the registry (docs/crash-testing.md).
namespace slipring::test {
namespace {

using channel::MessageReceiver;
using channel::MessageSender;
using segment::Backend;

/// What is killed, and what is looked at afterwards. `prepare` and `judge` run in this process.
struct Task {
  std::string name;
  std::function<void()> prepare;
  std::function<bool()> set_up;  ///< In the victim.
  std::function<void()> operation;
  std::function<void(pid_t victim, Tally&)> judge;
  Watched watched;
};

[[gnu::noinline]] void run_operation(const std::function<void()>& operation) { operation(); }

int run_task(const Task& task) {
  if (task.set_up && !task.set_up()) return 3;
  stop_for_tracer();
  run_operation(task.operation);
  ::_exit(0);
}

void kill_everywhere(const Task& task, Tally& tally) {
  if (!is_wanted(task.name)) return;
  const std::int64_t began = monotonic_ns();
  Path path;
  tally.at = task.name + "@trace";
  {
    task.prepare();
    Tracee victim([&] { return run_task(task); });
    path = trace(victim, reinterpret_cast<std::uint64_t>(&run_operation), task.watched, 2'000'000);
    const bool was_stopped = victim.is_stopped();
    if (was_stopped) victim.kill();
    ASSERT_TRUE(path.is_whole) << task.name << ": " << path.steps() << " steps and no end";
    task.judge(victim.pid(), tally);
  }
  std::set<std::vector<std::byte>> distinct;
  for (const Image& image : path.images) distinct.insert(image.ring);
  tally.images += distinct.size();
  tally.instructions += path.steps();
  const Resources before = Resources::now();
  const std::vector<std::size_t> all = steps_of(path, is_nightly() ? 64 : 2);
  const std::size_t most = is_nightly() ? all.size() : 250;
  const std::size_t stride = (all.size() + most - 1) / most;
  std::uint64_t points = 0;
  for (std::size_t i = crash_seed() % stride; i < all.size(); i += stride) {
    const std::size_t k = all[i];
    if (!is_wanted(task.name, k)) continue;
    tally.at = task.name + "@" + std::to_string(k);
    task.prepare();
    Tracee victim([&] { return run_task(task); });
    if (!go_to_step(victim, path, k)) ++tally.diverged;
    if (victim.has_ended() && !victim.exited_with(0)) {
      tally.complain(tally.violations, "the victim could not begin");
    }
    if (!victim.has_ended()) {
      victim.kill();
      ++points;
    }
    task.judge(victim.pid(), tally);
  }
  tally.kill_points += points;
  before.expect_no_more(tally);
  std::cout << task.name << ": " << path.steps() << " instructions, " << distinct.size()
            << " images, " << points << " points, " << (monotonic_ns() - began) / 1'000'000 << " ms"
            << std::endl;
}

// ------------------------------------------------------------------------------ names of all kinds

/// SysV segments that a dead process made and nobody has: what `slipring gc` is for. Removes them.
std::uint64_t clear_sysv_orphans(pid_t creator) {
  std::uint64_t found = 0;
  shmid_ds info{};
  shm_info summary{};
  const int most = ::shmctl(0, SHM_INFO, reinterpret_cast<shmid_ds*>(&summary));
  for (int i = 0; i <= most; ++i) {
    const int id = ::shmctl(i, SHM_STAT, &info);
    if (id < 0 || info.shm_cpid != creator || info.shm_nattch != 0) continue;
    ::shmctl(id, IPC_RMID, nullptr);
    ++found;
  }
  return found;
}

class Named {
 public:
  explicit Named(Backend kind) {
    options.kind = kind;
    options.capacity = ring::kMinCapacity;
    options.places.shm = (dir_.path() / "shm").string();
    options.places.files = (dir_.path() / "files").string();
    std::filesystem::create_directory(options.places.shm);
    std::filesystem::create_directory(options.places.files);
    std::filesystem::permissions(options.places.files, std::filesystem::perms::owner_all);
  }

  /// Both ends attach, ten messages go through, and the last one out leaves nothing behind.
  void expect_usable_and_removable(pid_t victim, Tally& tally) {
    const std::int64_t from = monotonic_ns();
    {
      auto receiver = ShmReceiver::open_or_create(kName, options);
      auto sender = ShmSender::open_or_create(kName, options);
      if (!receiver || !sender) {
        return tally.complain(tally.stalls, std::string("it cannot be opened again: ") +
                                                (receiver ? sender.error() : receiver.error()).op);
      }
      if (monotonic_ns() - from > 500'000'000) tally.complain(tally.stalls, "opening waited");
      for (std::uint64_t n = 0; n < 10; ++n) {
        if (!send(*sender, Stream::living, n)) tally.complain(tally.lost, "no room");
        auto message = receiver->try_peek();
        if (!message || !has_pattern(message->bytes(), n)) {
          tally.complain(tally.torn, "message " + std::to_string(n));
        }
      }
      const auto report = channel::check(receiver->link().segment());
      if (!report || !report->is_sound()) tally.complain(tally.violations, "check found faults");
    }
    expect_nothing_left(victim, tally);
  }
  void expect_nothing_left(pid_t victim, Tally& tally) {
    orphans += clear_sysv_orphans(victim);
    for (const std::string& dir : {options.places.shm, options.places.files}) {
      for (const auto& entry : std::filesystem::directory_iterator(dir)) {
        const std::string name = entry.path().filename().string();
        // The lock of the names, made once and kept.
        if (entry.file_size() == 0 && name[0] == '.') continue;
        tally.complain(tally.leaked_bytes, name + " is left",
                       std::max<std::uint64_t>(entry.file_size(), 1));
        std::filesystem::remove(entry.path());
      }
    }
  }

  static constexpr const char* kName = "crash";
  ShmOptions options;
  std::uint64_t orphans = 0;  ///< Told, not faults: D7.

 private:
  TempDir dir_;
};

TEST(Names, ASegmentIsWholeOrAbsentWhereverWhoMakesFindsOrRemovesItIsKilled) {
  Watchdog watchdog(is_nightly() ? 3000 : 250, "names");
  const std::int64_t from = monotonic_ns();
  Tally tally;
  std::uint64_t orphans = 0;
  for (const auto& [kind, name] :
       {std::pair{Backend::posix, "posix"}, std::pair{Backend::file, "file"},
        std::pair{Backend::sysv, "sysv"}}) {
    Named place(kind);
    std::optional<ShmReceiver> peer;
    std::optional<ShmSender> mine;  // of the victim
    std::optional<ShmReceiver> my_other;
    const auto judge = [&](pid_t victim, Tally& t) {
      if (peer) {
        // The living end still has what the dead one only held.
        peer.reset();
      }
      place.expect_usable_and_removable(victim, t);
    };
    const auto nothing = [] {};
    const std::string kind_name(name);
    kill_everywhere({kind_name + "/create",
                     nothing,
                     nullptr,
                     [&] {
                       if (auto made = ShmSender::create(Named::kName, place.options)) {
                         mine.emplace(std::move(*made));
                       }
                     },
                     judge,
                     {}},
                    tally);
    kill_everywhere({kind_name + "/open",
                     [&] {
                       auto made = ShmReceiver::create(Named::kName, place.options);
                       if (!made) std::abort();
                       peer.emplace(std::move(*made));
                     },
                     nullptr,
                     [&] {
                       if (auto made = ShmSender::open(Named::kName, place.options)) {
                         mine.emplace(std::move(*made));
                       }
                     },
                     judge,
                     {}},
                    tally);
    kill_everywhere({kind_name + "/destroy",
                     nothing,
                     [&] {
                       auto one = ShmSender::create(Named::kName, place.options);
                       auto two = ShmReceiver::open(Named::kName, place.options);
                       if (!one || !two) return false;
                       mine.emplace(std::move(*one));
                       my_other.emplace(std::move(*two));
                       mine->close();
                       return true;
                     },
                     [&] { my_other->close(); },
                     judge,
                     {}},
                    tally);
    orphans += place.orphans;
  }
  print_complaints(tally);
  print_line("T1", "names", tally, from, " sysv_orphans=" + std::to_string(orphans));
  EXPECT_EQ(tally.faults(), 0u);
}

// --------------------------------------------------------------------------------------- registry

TEST(Registry, AnEntryIsFreeOrTheDeadsWhereverItsHolderIsKilled) {
  Watchdog watchdog(is_nightly() ? 3000 : 250, "registry");
  const std::int64_t from = monotonic_ns();
  Tally tally;
  Named place(Backend::posix);
  ShmOptions ring = place.options;
  ring.keep = true;
  const auto segment = channel::create_ring(Named::kName, ring);
  ASSERT_TRUE(segment);
  const manager::Registry registry(place.options.places);
  const auto what = manager::Attachment::of(*segment, manager::Form::lane, manager::Part::producer);
  std::optional<manager::Enrolment> mine;
  const auto judge = [&](pid_t, Tally& t) {
    const auto view = registry.look();
    if (!view || view->rows.size() + view->unreadable > 1) {
      t.complain(t.violations, "more entries than one were left");
    }
    auto other = registry.enroll(what);
    if (!other) return t.complain(t.stalls, std::string("nobody can enroll: ") + other.error().op);
    if (!registry.reap()) t.complain(t.violations, "nobody can reap");
    const auto after = registry.look();
    if (!after || after->rows.size() != 1 || after->unreadable != 0 || after->registries != 1) {
      t.complain(t.violations, "an entry of the dead is left");
    }
    if (other->leave() != manager::Enrolment::Left::removed) {
      t.complain(t.leaked_bytes, "the registry is left", 4096);
    }
  };
  const auto enroll = [&] {
    if (auto made = registry.enroll(what)) mine.emplace(std::move(*made));
    return mine.has_value();
  };
  kill_everywhere({"registry/register", [] {}, nullptr, [&] { (void)enroll(); }, judge, {}}, tally);
  kill_everywhere({"registry/unregister", [] {}, enroll, [&] { mine->leave(); }, judge, {}}, tally);
  print_complaints(tally);
  print_line("T1", "registry", tally, from);
  EXPECT_EQ(tally.faults(), 0u);
}

// --------------------------------------------------------------------------------------- messages

constexpr std::size_t kSmall = 100, kBlock = 1500, kChunked = 5000;
constexpr std::uint64_t kMore = 60;

/// A ring with a pool: small messages lie in it, those of 1500 bytes in blocks, larger ones go in
/// chunks.
class MessageWorld {
 public:
  explicit MessageWorld(RingForm form) : world_(options_for(form), 0) {
    mine.tiers.block_from = 1024;
    mine.tiers.chunk_bytes = 600;
    // One process has both ends: what waits for long waits for itself.
    mine.on_full = channel::OnFull::wait_for(std::chrono::milliseconds(500));
  }
  [[nodiscard]] Result<MessageSender> sender() const {
    auto under = world_.sender();
    if (!under) return tl::unexpected(under.error());
    return MessageSender::over(std::move(*under), mine);
  }
  [[nodiscard]] Result<MessageReceiver> receiver() const {
    auto under = world_.receiver();
    if (!under) return tl::unexpected(under.error());
    return MessageReceiver::over(std::move(*under), {});
  }
  [[nodiscard]] const World& world() const { return world_; }
  MessageSender::Options mine;

 private:
  static ShmOptions options_for(RingForm form) {
    ShmOptions options = ring_options(form);
    options.capacity = 16384;
    options.pool.emplace();
    options.pool->with(2048, 6);
    return options;
  }
  World world_;
};

[[nodiscard]] std::vector<std::byte> message_of(Stream stream, std::uint64_t n, std::size_t size) {
  std::vector<std::byte> bytes(size);
  fill_pattern(bytes, n + static_cast<std::uint64_t>(stream) * 7919);
  return bytes;
}

/// What the victim and the living have attached, and what is checked behind a death.
class MessageTask {
 public:
  explicit MessageTask(RingForm form) : world(form) {}

  MessageWorld world;
  std::optional<MessageSender> sender;  // ours, or the victim's
  std::optional<MessageReceiver> receiver;
  std::optional<channel::MessageClaim> claim;
  std::optional<channel::MessageStream> stream;
  std::optional<channel::Incoming> incoming;

  [[nodiscard]] Log& log() const { return world.world().log(); }
  bool attach_sender() {
    if (auto made = world.sender()) sender.emplace(std::move(*made));
    return sender.has_value();
  }
  bool attach_receiver() {
    if (auto made = world.receiver()) receiver.emplace(std::move(*made));
    return receiver.has_value();
  }
  /// Sends message `n` of a stream, with its tier's size.
  bool put(Stream stream_of, std::uint64_t n, std::size_t size) {
    channel::SendOptions options;
    options.type = type_of(stream_of, n);
    return sender->send(message_of(stream_of, n, size), options).has_value();
  }

  void judge(Tally& tally, std::size_t size, std::uint64_t of_living, bool may_lose_chunks) {
    const auto expect_sound = [&](bool settled) {
      const auto report = channel::check(world.world().segment());
      if (!report) return tally.complain(tally.violations, report.error().op);
      for (const channel::Finding& f : report->findings) {
        if (f.severity == channel::Severity::violation || settled) {
          tally.complain(tally.violations, f.rule + (" " + f.where) + ": " + f.what);
        }
      }
    };
    expect_sound(false);
    if (!receiver && !attach_receiver()) return tally.complain(tally.stalls, "no receiver");
    if (!sender && !attach_sender()) return tally.complain(tally.stalls, "no sender");
    std::uint64_t seen[3] = {log().released[0], log().released[1], 0};
    bool has_begun[3] = {};
    const auto take = [&] {
      const auto message = receiver->try_peek();
      if (!message) {
        const Error error = message.error();
        if (error.code == Errc::corrupt || error.code == Errc::bad_format) {
          // Of a message in chunks whose receiver died the rest is refused.
          if (!may_lose_chunks) tally.complain(tally.violations, std::string("peek: ") + error.op);
        }
        return false;
      }
      const std::uint64_t s = message->type() >> 14, n = message->type() & 0x3fff;
      if (s > 2 || !has_pattern(message->bytes(), n + s * 7919) || message->size() == 0) {
        tally.complain(tally.torn, "message " + std::to_string(n) + " of " + std::to_string(s));
        return true;
      }
      // What was given back and not told may come again, flagged, and in order from there on.
      const bool again = has_begun[s] && n < seen[s];
      has_begun[s] = true;
      if (again || (s < 2 && n < log().peeked[s] && !message->redelivered())) {
        tally.complain(tally.duplicated, "message " + std::to_string(n));
      }
      if (n > seen[s]) tally.complain(tally.lost, "before message " + std::to_string(n));
      seen[s] = n + 1;
      return true;
    };
    // Among 130 empty looks are those for the dead.
    const auto take_all = [&](int most) {
      for (int empty = 0; empty < most;) empty = take() ? 0 : empty + 1;
    };
    take_all(130);
    // More blocks than there are, one behind the other: none of the dead's may be missing for good.
    for (std::uint64_t n = 0; n < kMore; ++n) {
      const std::size_t sizes[] = {kSmall, kBlock, kChunked};
      if (!put(static_cast<Stream>(2), n, sizes[n % 3])) {
        return tally.complain(tally.stalls, "it carries no messages any more");
      }
      take_all(1);
    }
    take_all(130);
    if (seen[2] != kMore) tally.complain(tally.lost, "messages sent afterwards", kMore - seen[2]);
    if (seen[0] != of_living) tally.complain(tally.lost, "messages of the living");
    if (seen[1] != log().done && seen[1] != log().began && !may_lose_chunks) {
      tally.complain(seen[1] < log().done ? tally.lost : tally.duplicated,
                     std::to_string(seen[1]) + " messages of the victim");
    }
    static_cast<void>(size);
    // In use the ring heals itself: no block stays with the dead, though nobody left.
    const auto pool = pool::audit<NativeAccess>(world.world().body().pool());
    if (!pool || pool->total.lent + pool->total.held + pool->total.claimed != 0) {
      tally.complain(tally.leaked_bytes, "blocks are not free again",
                     pool ? 2048 * (pool->total.capacity - pool->total.free) : 1);
    }
    sender.reset();
    receiver.reset();
    expect_sound(true);
  }
  void drop_all() {
    incoming.reset();
    stream.reset();
    claim.reset();
    sender.reset();
    receiver.reset();
  }
};

TEST(Messages, BlocksAndChunksOfTheDeadComeBackAtAnyInstruction) {
  Watchdog watchdog(is_nightly() ? 6000 : 250, "messages");
  const std::int64_t from = monotonic_ns();
  Tally tally;
  for (const auto form : {RingForm::lane, RingForm::per_producer, RingForm::total}) {
    MessageTask t(form);
    const auto sends = [&](const char* name, std::size_t size, std::function<bool()> set_up,
                           std::function<void()> operation) {
      kill_everywhere({std::string(to_string(form)) + "/" + name,
                       [&] {
                         t.drop_all();
                         t.world.world().begin_again();
                         if (!t.attach_receiver()) std::abort();
                       },
                       [&, set_up] {
                         if (!t.attach_sender()) return false;
                         ++t.log().began;
                         if (!t.put(Stream::victim, 0, kBlock)) return false;
                         ++t.log().done;
                         return !set_up || set_up();
                       },
                       std::move(operation),
                       [&, size](pid_t, Tally& result) { t.judge(result, size, 0, false); },
                       t.world.world().watched()},
                      tally);
    };
    const auto send_whole = [&](std::size_t size) {
      return [&t, size] {
        t.log().began = 2;
        if (t.put(Stream::victim, 1, size)) t.log().done = 2;
      };
    };
    sends("send_block", kBlock, nullptr, send_whole(kBlock));
    sends("send_chunks", kChunked, nullptr, send_whole(kChunked));
    const auto claim = [&] {
      if (auto made = t.sender->claim(kBlock, Deadline::now())) t.claim.emplace(std::move(*made));
      return t.claim.has_value();
    };
    const auto fill = [&] {
      if (!claim()) return false;
      fill_pattern(t.claim->payload().first(kBlock), 1 + 7919);
      t.log().began = 2;
      return true;
    };
    sends("block_allocate", kBlock, nullptr, [&] { (void)claim(); });
    sends("block_commit", kBlock, fill, [&] {
      if (t.claim->commit(kBlock, type_of(Stream::victim, 1))) t.log().done = 2;
    });
    sends("block_free", kBlock, fill, [&] {
      t.claim->abort();
      t.log().began = t.log().done;
    });
    const auto begin = [&] {
      auto made = t.sender->stream(kChunked, type_of(Stream::victim, 1));
      if (made) t.stream.emplace(std::move(*made));
      return t.stream.has_value();
    };
    const std::vector<std::byte> whole = message_of(Stream::victim, 1, kChunked);
    const auto part = [&] {
      const auto body = t.stream->next(Deadline::now());
      if (!body) return false;
      std::memcpy(body->data(), whole.data() + t.stream->progress().handed_over, body->size());
      return t.stream->commit(body->size()).has_value();
    };
    sends("chunk_begin", kChunked, nullptr, [&] { (void)(begin() && part()); });
    sends(
        "chunk_next", kChunked, [&] { return begin() && part(); }, [&] { (void)part(); });
    sends(
        "chunk_end", kChunked,
        [&] {
          if (!begin()) return false;
          t.log().began = 2;
          while (t.stream->progress().handed_over + 600 < kChunked) {
            if (!part()) return false;
          }
          return true;
        },
        [&] {
          while (!t.stream->done() && part()) {
          }
          if (t.stream->done()) t.log().done = 2;
        });

    const auto receives = [&](const char* name, std::size_t size, bool may_lose_chunks,
                              std::function<bool()> set_up, std::function<void()> operation) {
      kill_everywhere({std::string(to_string(form)) + "/" + name,
                       [&, size] {
                         t.drop_all();
                         t.world.world().begin_again();
                         if (!t.attach_sender()) std::abort();
                         for (std::uint64_t n = 0; n < 2; ++n) {
                           if (!t.put(Stream::living, n, size)) std::abort();
                         }
                       },
                       [&, set_up] { return t.attach_receiver() && (!set_up || set_up()); },
                       std::move(operation),
                       [&, size, may_lose_chunks](pid_t, Tally& result) {
                         t.judge(result, size, 2, may_lose_chunks);
                       },
                       t.world.world().watched()},
                      tally);
    };
    const auto peek = [&] {
      auto message = t.receiver->try_peek();
      if (!message) return false;
      t.log().peeked[0] = (message->type() & 0x3fff) + std::uint64_t{1};
      t.incoming.emplace(std::move(*message));
      return true;
    };
    receives("peek_block", kBlock, false, nullptr, [&] { (void)peek(); });
    receives("release_block", kBlock, false, peek, [&] {
      t.log().released[0] = 1;
      t.incoming->release();
    });
  }
  print_complaints(tally);
  print_line("T1", "messages", tally, from);
  EXPECT_EQ(tally.faults(), 0u);
}

}  // namespace
}  // namespace slipring::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (const char* why = slipring::test::why_no_tracing(); why != nullptr) {
    std::cout << "skipped: " << why << "\n";
    return 77;
  }
  return RUN_ALL_TESTS();
}

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "segment/fixture.h"
#include "slipring/base/align.h"
#include "slipring/base/shared_access.h"

// What every kind of memory must do. A backend is done when its line stands in the list of
// segment_suite_test.cc.
namespace slipring::segment {

template <typename Kind>
class SegmentSuite : public SegmentTest {
 protected:
  static constexpr Backend kBackend = Kind::backend;
  static constexpr bool kNamed = Kind::backend != Backend::memfd;
  static constexpr bool kHasFd = Kind::backend != Backend::sysv;

  Result<Segment> create(const std::string& name = "s", std::uint64_t bytes = 10'000) const {
    return publish(draft(kBackend, spec(bytes)), name);
  }
  static Result<Segment> publish(Result<Draft> drafted, const std::string& name = "s") {
    if (!drafted) return tl::unexpected(drafted.error());
    if (!kNamed) return std::move(*drafted).publish();
    return std::move(*drafted).publish(*Name::parse(name));
  }
  // A second opener: by name where there is one, else by a descriptor that was handed over.
  Result<Segment> again(const Segment& first, OpenMode mode = OpenMode::read_write,
                        Expect expect = {}) const {
    if (kNamed) return open(first.info().name, mode, expect);
    return Segment::from_fd(UniqueFd{::fcntl(first.fd(), F_DUPFD_CLOEXEC, 0)}, mode, expect);
  }
  static void put(const Segment& s, std::uint64_t offset, std::uint64_t value) {
    NativeAccess::store_relaxed(word_at<std::uint64_t>(s.body().data(), offset), value);
  }
  static std::uint64_t get(const Segment& s, std::uint64_t offset) {
    return NativeAccess::load_relaxed(word_at<std::uint64_t>(s.body().data(), offset));
  }
  void remove(Segment& s) const {
    if (kNamed) {
      EXPECT_TRUE(ok(s.unlink()));
    }
  }
};
TYPED_TEST_SUITE_P(SegmentSuite);

TYPED_TEST_P(SegmentSuite, IsBornZeroAlignedAndOfTheSizeAskedFor) {
  auto drafted = draft(this->kBackend, this->spec(10'000));
  ASSERT_TRUE(ok(drafted));
  const auto body = drafted->body();
  EXPECT_EQ(body.size(), 10'000u);
  EXPECT_TRUE(is_aligned(reinterpret_cast<std::uintptr_t>(body.data()), 4096));
  EXPECT_TRUE(std::ranges::all_of(body, [](std::byte b) { return b == std::byte{0}; }));
}

TYPED_TEST_P(SegmentSuite, TellsEveryOpenerTheSame) {
  Spec s = this->spec();
  s.keep = true;
  auto first = this->publish(draft(this->kBackend, s));
  ASSERT_TRUE(ok(first));
  const auto second = this->again(*first, OpenMode::read_write, {kContentLane, 0x1234});
  ASSERT_TRUE(ok(second));
  for (const HeaderInfo* info : {&first->info(), &second->info()}) {
    EXPECT_EQ(info->backend, this->kBackend);
    EXPECT_EQ(info->body_bytes, 10'000u);
    EXPECT_EQ(info->total_bytes, 16'384u);
    EXPECT_EQ(info->content, kContentLane);
    EXPECT_EQ(info->name, this->kNamed ? "s" : "");
    EXPECT_EQ(info->creator.pid, static_cast<std::uint32_t>(::getpid()));
    EXPECT_TRUE(info->keep);
    EXPECT_EQ(info->instance, first->info().instance);
  }
  EXPECT_EQ(first->where(), second->where());
  EXPECT_EQ(first->fd() >= 0, this->kHasFd);
  EXPECT_EQ(first->sysv_id().has_value(), !this->kHasFd);
  this->remove(*first);
}

TYPED_TEST_P(SegmentSuite, ShowsBytesToASecondMapping) {
  auto first = this->create();
  ASSERT_TRUE(ok(first));
  auto second = this->again(*first);
  ASSERT_TRUE(ok(second));
  EXPECT_NE(first->body().data(), second->body().data());
  this->put(*first, 0, 42);
  this->put(*second, 9'992, 43);
  EXPECT_EQ(this->get(*second, 0), 42u);
  EXPECT_EQ(this->get(*first, 9'992), 43u);
  this->remove(*first);
}

// K8: neither a store nor mprotect gets through.
TYPED_TEST_P(SegmentSuite, CannotBeWrittenThroughAReadOnlyMapping) {
  auto first = this->create();
  ASSERT_TRUE(ok(first));
  auto reader = this->again(*first, OpenMode::read_only);
  ASSERT_TRUE(ok(reader));
  this->put(*first, 8, 7);
  EXPECT_EQ(this->get(*reader, 8), 7u);
  std::byte* header = reader->body().data() - 4096;
  EXPECT_EQ(::mprotect(header, 4096, PROT_READ | PROT_WRITE), -1);
  EXPECT_EQ(errno, EACCES);
  const int status = in_child([&] {
    ::signal(SIGSEGV, SIG_DFL);  // a sanitizer's handler would turn it into an exit
    this->put(*reader, 8, 9);
    return 0;
  });
  EXPECT_EQ(status, -SIGSEGV);
  EXPECT_EQ(this->get(*first, 8), 7u);
  this->remove(*first);
}

TYPED_TEST_P(SegmentSuite, RefusesOtherContentAndOtherFingerprints) {
  auto first = this->create();
  ASSERT_TRUE(ok(first));
  EXPECT_TRUE(fails(this->again(*first, OpenMode::read_write, {2, 0}), Errc::bad_format,
                    "header: content"));
  EXPECT_TRUE(fails(this->again(*first, OpenMode::read_write, {0, 0x1235}), Errc::type_mismatch,
                    "header: fingerprint"));
  this->remove(*first);
}

TYPED_TEST_P(SegmentSuite, RefusesANameThatAnyKindHas) {
  if (!this->kNamed) GTEST_SKIP() << "no names";
  for (const Backend other : {Backend::posix, Backend::sysv, Backend::file}) {
    auto holder = this->make(other, "s");
    ASSERT_TRUE(ok(holder));
    EXPECT_TRUE(fails(this->create("s"), Errc::exists)) << to_string(other);
    EXPECT_TRUE(*holder->still_named());
    EXPECT_TRUE(ok(holder->unlink()));
  }
}

TYPED_TEST_P(SegmentSuite, StaysWithItsUsersWhenItsNameGoes) {
  if (!this->kNamed) GTEST_SKIP() << "no names";
  auto first = this->create();
  ASSERT_TRUE(ok(first));
  auto second = this->again(*first);
  ASSERT_TRUE(ok(second));
  EXPECT_TRUE(*second->still_named());
  EXPECT_TRUE(ok(second->unlink()));
  EXPECT_FALSE(*first->still_named());
  EXPECT_FALSE(*second->still_named());
  EXPECT_TRUE(fails(this->open("s"), Errc::not_found));
  EXPECT_TRUE(fails(first->unlink(), Errc::not_found));
  this->put(*first, 0, 5);
  EXPECT_EQ(this->get(*second, 0), 5u);
}

TYPED_TEST_P(SegmentSuite, HasANewInstanceWhenItsNameIsUsedAgain) {
  if (!this->kNamed) GTEST_SKIP() << "no names";
  auto old = this->create();
  ASSERT_TRUE(ok(old));
  ASSERT_TRUE(ok(old->unlink()));
  auto recent = this->create();
  ASSERT_TRUE(ok(recent));
  EXPECT_NE(old->info().instance, recent->info().instance);
  EXPECT_FALSE(*old->still_named());
  EXPECT_TRUE(*recent->still_named());
  EXPECT_TRUE(fails(old->unlink(), Errc::not_found));
  EXPECT_TRUE(*recent->still_named());
  EXPECT_TRUE(ok(recent->unlink()));
}

TYPED_TEST_P(SegmentSuite, LeavesNothingOfADroppedDraft) {
  const std::size_t before = open_fds();
  {
    auto drafted = draft(this->kBackend, this->spec());
    ASSERT_TRUE(ok(drafted));
    EXPECT_TRUE(fails(this->open("s"), Errc::not_found));
  }
  EXPECT_EQ(open_fds(), before);
  EXPECT_TRUE(entries(this->places_.shm).empty());
  EXPECT_TRUE(entries(this->places_.files).empty());
  EXPECT_TRUE(sysv_segments_of(::getpid()).empty());
}

TYPED_TEST_P(SegmentSuite, LeavesADraftToItsProcessWhenAForkedChildExits) {
  auto drafted = draft(this->kBackend, this->spec());
  ASSERT_TRUE(ok(drafted));
  EXPECT_EQ(in_child([&] {
              const Draft copy = std::move(*drafted);
              return 0;
            }),
            0);
  auto s = this->publish(std::move(drafted));
  ASSERT_TRUE(ok(s));
  EXPECT_TRUE(ok(this->again(*s)));
  this->remove(*s);
}

TYPED_TEST_P(SegmentSuite, GoesToExactlyOneOfRacingCreators) {
  if (!this->kNamed) GTEST_SKIP() << "no names";
  for (int round = 0; round < 20; ++round) {
    Gate gate;
    std::vector<pid_t> creators;
    for (int i = 0; i < 4; ++i) {
      creators.push_back(spawn([&] {
        auto drafted = draft(this->kBackend, this->spec());
        if (!drafted) return 3;
        gate.pass();
        const auto s = std::move(*drafted).publish(*Name::parse("s"));
        if (s) return 0;
        return s.error().code == Errc::exists ? 1 : 2;
      }));
    }
    gate.open();
    int won = 0;
    int lost = 0;
    for (const pid_t creator : creators) {
      const int status = wait_for(creator);
      won += status == 0;
      lost += status == 1;
    }
    EXPECT_EQ(won, 1);
    EXPECT_EQ(lost, 3);
    auto s = this->open("s");
    ASSERT_TRUE(ok(s));
    ASSERT_TRUE(ok(s->unlink()));
  }
}

// A creator makes and removes until it was caught 30 times; each time every word was in place.
TYPED_TEST_P(SegmentSuite, IsNeverOpenedHalfMade) {
  if (!this->kNamed) GTEST_SKIP() << "no names";
  constexpr std::uint64_t kWords = 1024;
  int enough[2];
  ASSERT_EQ(::pipe2(enough, O_NONBLOCK | O_CLOEXEC), 0);
  const pid_t creator = spawn([&] {
    ::close(enough[1]);
    char byte;
    for (std::uint64_t round = 1; ::read(enough[0], &byte, 1) != 0; ++round) {
      auto drafted = draft(this->kBackend, this->spec(kWords * 8));
      if (!drafted) return 1;
      for (std::uint64_t i = 0; i < kWords; ++i) {
        NativeAccess::store_relaxed(word_at<std::uint64_t>(drafted->body().data(), i * 8), round);
      }
      auto s = std::move(*drafted).publish(*Name::parse("s"));
      if (!s || !s->unlink()) return 2;
    }
    return 0;
  });
  ::close(enough[0]);
  for (int opened = 0; opened < 30 && !this->HasFailure();) {
    const auto s = this->open("s", OpenMode::read_only, {kContentLane, 0x1234});
    if (!s) {
      EXPECT_TRUE(fails(s, Errc::not_found));
      continue;
    }
    ++opened;
    const std::uint64_t round = this->get(*s, 0);
    EXPECT_NE(round, 0u);
    for (std::uint64_t i = 1; i < kWords; ++i) EXPECT_EQ(this->get(*s, i * 8), round);
  }
  ::close(enough[1]);
  EXPECT_EQ(wait_for(creator), 0);
}

// Two remove A while a third waits to put B in its place: B must survive.
TYPED_TEST_P(SegmentSuite, IsNeverRemovedByWhoMeantItsPredecessor) {
  if (!this->kNamed) GTEST_SKIP() << "no names";
  for (int round = 0; round < 40; ++round) {
    auto a = this->create();
    ASSERT_TRUE(ok(a));
    Gate gate;
    pid_t removers[2];
    for (pid_t& remover : removers) {
      remover = spawn([&] {
        auto mine = this->open("s");
        if (!mine) return 3;
        gate.pass();
        const auto gone = mine->unlink();
        if (gone) return 0;
        return gone.error().code == Errc::not_found ? 1 : 2;
      });
    }
    const pid_t creator = spawn([&] {
      gate.pass();
      for (;;) {
        const auto b = this->create();
        if (b) return 0;
        if (b.error().code != Errc::exists) return 1;
      }
    });
    gate.open();
    const int first = wait_for(removers[0]);
    const int second = wait_for(removers[1]);
    EXPECT_EQ(std::min(first, second), 0);
    EXPECT_EQ(std::max(first, second), 1);
    EXPECT_EQ(wait_for(creator), 0);
    EXPECT_FALSE(*a->still_named());
    auto b = this->open("s");
    ASSERT_TRUE(ok(b));
    ASSERT_NE(b->info().instance, a->info().instance);
    ASSERT_TRUE(ok(b->unlink()));
  }
}

// The interleaving itself: a remover of A has looked and waits for the lock; meanwhile A's name
// goes and B gets it. Having the lock proves nothing about the name: it must look again.
TYPED_TEST_P(SegmentSuite, IsNotRemovedByWhoWaitedWhileItTookTheName) {
  if (!this->kNamed) GTEST_SKIP() << "no names";
  auto a = this->create();
  ASSERT_TRUE(ok(a));
  const std::string path =
      this->kHasFd ? a->where() : this->places_.files + "/s.sysv";  // what the name is
  const auto descriptors = [&] {
    int count = 0;
    for (const std::string& fd : entries("/proc/self/fd")) {
      char target[4096] = {};
      const std::string link = "/proc/self/fd/" + fd;
      if (::readlink(link.c_str(), target, sizeof target - 1) > 0) count += path == target;
    }
    return count;
  };
  UniqueFd holder{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  ASSERT_EQ(::flock(holder.get(), LOCK_EX), 0);
  const int before = descriptors();
  Result<void> gone{};
  std::thread remover([&] { gone = a->unlink(); });
  while (descriptors() == before) std::this_thread::yield();
  EXPECT_EQ(::unlink(path.c_str()), 0);
  auto b = this->create();
  holder.reset();
  remover.join();
  EXPECT_TRUE(fails(gone, Errc::not_found));
  ASSERT_TRUE(ok(b));
  EXPECT_TRUE(*b->still_named());
  EXPECT_TRUE(ok(b->unlink()));
  if (a->sysv_id()) ::shmctl(*a->sysv_id(), IPC_RMID, nullptr);
}

TYPED_TEST_P(SegmentSuite, PassesItsDescriptorOverAUnixSocket) {
  if (!this->kHasFd) GTEST_SKIP() << "no descriptor";
  auto first = this->create();
  ASSERT_TRUE(ok(first));
  this->put(*first, 0, 11);
  int sockets[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
  const pid_t child = spawn([&] {
    auto fd = receive_fd(sockets[1]);
    if (!fd || (::fcntl(fd->get(), F_GETFD) & FD_CLOEXEC) == 0) return 1;
    const auto s = Segment::from_fd(std::move(*fd), OpenMode::read_write, {kContentLane, 0x1234});
    if (!s || this->get(*s, 0) != 11) return 2;
    this->put(*s, 0, 12);
    return 0;
  });
  EXPECT_TRUE(ok(send_fd(sockets[0], first->fd())));
  EXPECT_EQ(wait_for(child), 0);
  EXPECT_EQ(this->get(*first, 0), 12u);
  ::close(sockets[0]);
  ::close(sockets[1]);
  this->remove(*first);
}

TYPED_TEST_P(SegmentSuite, HasTheModeAskedForWhateverTheUmask) {
  Spec s = this->spec();
  s.mode = 0640;
  s.group = ::getegid();
  const mode_t old = ::umask(0777);
  auto made = this->publish(draft(this->kBackend, s));
  ::umask(old);
  ASSERT_TRUE(ok(made));
  mode_t mode = 0;
  if (made->sysv_id()) {
    shmid_ds ds{};
    ASSERT_EQ(::shmctl(*made->sysv_id(), IPC_STAT, &ds), 0);
    mode = ds.shm_perm.mode & 0777;
  } else {
    struct stat st {};
    ASSERT_EQ(::fstat(made->fd(), &st), 0);
    mode = st.st_mode & 0777;
  }
  EXPECT_EQ(mode, 0640u);
  this->remove(*made);
}

TYPED_TEST_P(SegmentSuite, RefusesImpossibleRequestsAtOnce) {
  const auto sized = [&](std::uint64_t bytes) { return draft(this->kBackend, this->spec(bytes)); };
  EXPECT_TRUE(fails(sized(0), Errc::invalid_argument, "size"));
  EXPECT_TRUE(fails(sized(~0ULL), Errc::too_large, "size"));
  EXPECT_TRUE(fails(sized(1ULL << 63), Errc::too_large, "size"));
  // More than any machine that runs this has: refused before a page of it is taken.
  const auto vast = sized(1ULL << 50);
  ASSERT_FALSE(vast);
  EXPECT_TRUE(vast.error().code == Errc::no_space || vast.error().code == Errc::too_large)
      << describe(vast.error());
  Spec s = this->spec();
  s.mode = 0666;
  EXPECT_TRUE(fails(draft(this->kBackend, s), Errc::invalid_argument, "mode"));
  s = this->spec();
  s.huge_page_bytes = 12345;
  EXPECT_TRUE(fails(draft(this->kBackend, s), Errc::invalid_argument, "huge pages: size"));
  s = this->spec();
  s.numa_node = 5000;
  EXPECT_FALSE(draft(this->kBackend, s));
}

TYPED_TEST_P(SegmentSuite, HasItsPagesFromTheStart) {
  auto s = this->create("s", 64 * 4096);
  ASSERT_TRUE(ok(s));
  std::vector<unsigned char> resident(65);
  ASSERT_EQ(::mincore(s->body().data() - 4096, 65 * 4096, resident.data()), 0);
  EXPECT_TRUE(std::ranges::all_of(resident, [](unsigned char page) { return (page & 1) != 0; }));
  this->remove(*s);
}

TYPED_TEST_P(SegmentSuite, LocksAndPlacesItsPagesOnRequest) {
  Spec s = this->spec();
  s.lock = true;
  if (this->kBackend != Backend::file) s.numa_node = 0;
  auto made = this->publish(draft(this->kBackend, s));
  if (!made && made.error().code == Errc::not_supported) GTEST_SKIP() << describe(made.error());
  if (!made && std::string_view(made.error().op) == "mlock") GTEST_SKIP() << describe(made.error());
  ASSERT_TRUE(ok(made));
  this->remove(*made);
}

REGISTER_TYPED_TEST_SUITE_P(
    SegmentSuite, IsBornZeroAlignedAndOfTheSizeAskedFor, TellsEveryOpenerTheSame,
    ShowsBytesToASecondMapping, CannotBeWrittenThroughAReadOnlyMapping,
    RefusesOtherContentAndOtherFingerprints, RefusesANameThatAnyKindHas,
    StaysWithItsUsersWhenItsNameGoes, HasANewInstanceWhenItsNameIsUsedAgain,
    LeavesNothingOfADroppedDraft, LeavesADraftToItsProcessWhenAForkedChildExits,
    GoesToExactlyOneOfRacingCreators, IsNeverOpenedHalfMade, IsNeverRemovedByWhoMeantItsPredecessor,
    IsNotRemovedByWhoWaitedWhileItTookTheName, PassesItsDescriptorOverAUnixSocket,
    HasTheModeAskedForWhateverTheUmask, RefusesImpossibleRequestsAtOnce, HasItsPagesFromTheStart,
    LocksAndPlacesItsPagesOnRequest);

}  // namespace slipring::segment

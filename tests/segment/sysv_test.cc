// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <signal.h>
#include <sys/shm.h>

#include <cstdio>
#include <fstream>

#include "fixture.h"
#include "slipring/base/deadline.h"

namespace slipring::segment {
namespace {

class Sysv : public SegmentTest {
 protected:
  // A key that nobody else is likely to use, one per process.
  key_t key() const { return key_; }
  Result<Draft> keyed() const {
    Spec s = spec();
    s.sysv_key = key();
    return draft(Backend::sysv, s);
  }
  const key_t key_ = static_cast<key_t>(0x51000000 | ::getpid());
  std::string link_path(const std::string& name) const {
    return places_.files + "/" + name + ".sysv";
  }
  void write_link(const std::string& name, const std::string& text) const {
    std::ofstream(link_path(name)) << text;
  }
};

// What `ipcs -m` prints of one segment; empty when it knows none.
std::string ipcs(int shmid) {
  FILE* pipe = ::popen(("ipcs -m -i " + std::to_string(shmid) + " 2>/dev/null").c_str(), "r");
  std::string out;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) out += static_cast<char>(c);
  ::pclose(pipe);
  return out;
}

TEST_F(Sysv, IsSeenByIpcsAsWeSeeIt) {
  auto s = make(Backend::sysv, "s");
  ASSERT_TRUE(ok(s));
  const std::string out = ipcs(*s->sysv_id());
  EXPECT_NE(out.find("bytes=16384"), out.npos) << out;
  EXPECT_NE(out.find("mode=0600"), out.npos) << out;
  EXPECT_NE(out.find("nattch=1"), out.npos) << out;
  EXPECT_EQ(s->where(), "sysv id " + std::to_string(*s->sysv_id()));
  EXPECT_TRUE(ok(s->unlink()));
}

TEST_F(Sysv, RemovedByIpcrmLeavesAStaleNameThatACreatorReplaces) {
  auto old = make(Backend::sysv, "s");
  ASSERT_TRUE(ok(old));
  ASSERT_EQ(std::system(("ipcrm -m " + std::to_string(*old->sysv_id())).c_str()), 0);
  EXPECT_TRUE(fails(open("s"), Errc::not_found, "sysv: stale link"));
  EXPECT_FALSE(*old->still_named());
  for (const Backend kind : {Backend::sysv, Backend::posix, Backend::file}) {
    if (kind != Backend::sysv) write_link("s", "slipring-sysv 1 1 " + std::string(32, '0') + "\n");
    auto fresh = make(kind, "s");
    ASSERT_TRUE(ok(fresh));
    EXPECT_TRUE(*fresh->still_named());
    EXPECT_TRUE(fails(old->unlink(), Errc::not_found));
    EXPECT_TRUE(ok(fresh->unlink()));
  }
}

TEST_F(Sysv, RefusesANumberThatWasGivenToSomebodyElse) {
  auto s = make(Backend::sysv, "s");
  ASSERT_TRUE(ok(s));
  write_link("t", "slipring-sysv 1 " + std::to_string(*s->sysv_id()) + " " +
                      to_string(InstanceId{1, 2}) + "\n");
  EXPECT_TRUE(fails(open("t"), Errc::not_found, "sysv: stale link"));
  EXPECT_TRUE(ok(remove_stale(*Name::parse("t"), places_)));
  EXPECT_TRUE(ok(open("s")));
  EXPECT_TRUE(ok(s->unlink()));
}

TEST_F(Sysv, RemovesStaleNamesOnlyWhenTheyAre) {
  EXPECT_TRUE(fails(remove_stale(*Name::parse("s"), places_), Errc::not_found));
  auto s = make(Backend::sysv, "s");
  ASSERT_TRUE(ok(s));
  EXPECT_TRUE(fails(remove_stale(*Name::parse("s"), places_), Errc::in_use));
  EXPECT_TRUE(ok(s->unlink()));
}

TEST_F(Sysv, RefusesAndKeepsLinkFilesThatAreNotItsOwn) {
  for (const std::string text : {"", "hello", "slipring-sysv 2 1 00",
                                 "slipring-sysv 1 -1 00000000000000000000000000000000\n",
                                 "slipring-sysv 1 1 0000000000000000000000000000000g\n",
                                 "slipring-sysv 1 1 00000000000000000000000000000000\nmore"}) {
    write_link("s", text);
    EXPECT_TRUE(fails(open("s"), Errc::bad_format, "sysv: link")) << text;
    EXPECT_TRUE(fails(make(Backend::sysv, "s"), Errc::exists)) << text;
  }
  ::unlink(link_path("s").c_str());
}

TEST_F(Sysv, OpensByIdAndByKey) {
  auto made = std::move(*keyed()).publish();
  ASSERT_TRUE(ok(made));
  const auto by_key = Segment::open_sysv_key(key(), OpenMode::read_write, {kContentLane, 0x1234});
  const auto by_id = Segment::open_sysv_id(*made->sysv_id(), OpenMode::read_only);
  ASSERT_TRUE(ok(by_key) && ok(by_id));
  EXPECT_EQ(by_key->info().instance, by_id->info().instance);
  EXPECT_TRUE(*by_key->still_named());
  EXPECT_TRUE(fails(keyed(), Errc::exists, "shmget"));
  EXPECT_TRUE(ok(made->unlink()));
  EXPECT_FALSE(*by_key->still_named());
  EXPECT_TRUE(fails(Segment::open_sysv_key(key(), OpenMode::read_only), Errc::not_found));
  EXPECT_TRUE(
      fails(Segment::open_sysv_id(*by_id->sysv_id(), OpenMode::read_only), Errc::not_found));
  EXPECT_TRUE(fails(Segment::open_sysv_id(0x7fffffff, OpenMode::read_only), Errc::not_found));
  EXPECT_TRUE(fails(Segment::open_sysv_key(0, OpenMode::read_only), Errc::invalid_argument));
}

TEST_F(Sysv, MayHaveAKeyAndANameBoth) {
  auto made = std::move(*keyed()).publish(*Name::parse("s"));
  ASSERT_TRUE(ok(made));
  EXPECT_EQ(Segment::open_sysv_key(key(), OpenMode::read_only)->info().instance,
            open("s")->info().instance);
  EXPECT_TRUE(ok(made->unlink()));
}

TEST_F(Sysv, WaitsForACreatorThatIsAlive) {
  Gate gate;
  const pid_t creator = spawn([&] {
    auto drafted = keyed();
    if (!drafted) return 1;
    gate.pass();
    ::usleep(30'000);  // the opener is most likely waiting by now
    return std::move(*drafted).publish() ? 0 : 2;
  });
  // Half-made memory of that key is there before the gate opens.
  while (::shmget(static_cast<key_t>(key()), 0, 0) == -1) ::usleep(1000);
  gate.open();
  auto s = Segment::open_sysv_key(key(), OpenMode::read_write);
  EXPECT_TRUE(ok(s));
  EXPECT_EQ(wait_for(creator), 0);
  if (s) {
    EXPECT_TRUE(ok(s->unlink()));
  }
}

TEST_F(Sysv, TellsThatTheCreatorDiedInTheMiddle) {
  // H21: killed before the ready mark, openers must not wait for ever.
  const pid_t creator = spawn([&] {
    const auto drafted = keyed();
    ::raise(SIGKILL);
    return drafted ? 0 : 1;
  });
  EXPECT_EQ(wait_for(creator), -SIGKILL);
  EXPECT_TRUE(fails(Segment::open_sysv_key(key(), OpenMode::read_write), Errc::bad_format,
                    "sysv: creator died"));
  const int id = ::shmget(key(), 0, 0);
  ASSERT_NE(id, -1);
  EXPECT_EQ(::shmctl(id, IPC_RMID, nullptr), 0);
}

TEST_F(Sysv, GivesUpOnACreatorThatIsStopped) {
  auto drafted = keyed();
  ASSERT_TRUE(ok(drafted));
  const std::int64_t from = monotonic_ns();
  EXPECT_TRUE(
      fails(Segment::open_sysv_key(key(), OpenMode::read_only), Errc::bad_format, "header: magic"));
  EXPECT_GE(monotonic_ns() - from, 1'000'000'000);
}

TEST_F(Sysv, RefusesTheMemoryOfStrangers) {
  const int small = ::shmget(IPC_PRIVATE, 100, IPC_CREAT | 0600);
  const int foreign = ::shmget(IPC_PRIVATE, 10'000, IPC_CREAT | 0600);
  const int open_to_all = ::shmget(IPC_PRIVATE, 10'000, IPC_CREAT | 0666);
  const auto by_id = [](int id) { return Segment::open_sysv_id(id, OpenMode::read_write); };
  EXPECT_TRUE(fails(by_id(small), Errc::bad_format, "header: truncated"));
  EXPECT_TRUE(fails(by_id(foreign), Errc::bad_format, "header: magic"));
  EXPECT_TRUE(fails(by_id(open_to_all), Errc::permission, "object: mode"));
  for (const int id : {small, foreign, open_to_all}) ::shmctl(id, IPC_RMID, nullptr);
}

TEST_F(Sysv, OfAnotherUserNeedsItsPermission) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  auto s = make(Backend::sysv, "s");
  ASSERT_TRUE(ok(s));
  EXPECT_EQ(in_child([&] {
              if (::setgid(12345) != 0 || ::setuid(12345) != 0) return 9;
              const auto opened = Segment::open_sysv_id(*s->sysv_id(), OpenMode::read_only);
              return !opened && opened.error().code == Errc::permission ? 0 : 1;
            }),
            0);
  EXPECT_TRUE(ok(s->unlink()));
}

TEST_F(Sysv, OffersFtokAndRefusesItsPitfall) {
  EXPECT_EQ(*sysv_key_of(places_.files, 7), ::ftok(places_.files.c_str(), 7));
  EXPECT_TRUE(fails(sysv_key_of(places_.files, 256), Errc::invalid_argument));
  EXPECT_TRUE(fails(sysv_key_of("/nonexistent", 7), Errc::not_found, "ftok"));
}

TEST_F(Sysv, SaysWhenThereAreNoHugePages) {
  std::ifstream nr("/proc/sys/vm/nr_hugepages");
  int pages = -1;
  nr >> pages;
  if (pages != 0) GTEST_SKIP() << "huge pages are configured, or unknown";
  Spec s = spec();
  s.huge_page_bytes = 2 << 20;
  for (const Backend kind : {Backend::sysv, Backend::memfd}) {
    const auto drafted = draft(kind, s);
    ASSERT_FALSE(drafted);
    EXPECT_TRUE(drafted.error().code == Errc::no_space ||
                drafted.error().code == Errc::not_supported)
        << describe(drafted.error());
  }
  EXPECT_TRUE(fails(draft(Backend::posix, s), Errc::not_supported));
}

}  // namespace
}  // namespace slipring::segment

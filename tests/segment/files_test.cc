// SPDX-License-Identifier: Apache-2.0
// What can lie in the place of a segment, and what segments are as files.
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <fstream>

#include "../../src/segment/object.h"
#include "fixture.h"

namespace slipring::segment {
namespace {

#if defined(__has_feature)
constexpr bool kSanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

class Files : public SegmentTest {
 protected:
  void write_file(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  }
  std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
};

TEST_F(Files, AreFoundByShmOpenUnderTheSameName) {
  Places real = places_;
  real.shm = "/dev/shm";
  Spec s = spec();
  s.places = real;
  const std::string name = "slipring-test-" + std::to_string(::getpid());
  auto made = std::move(*draft(Backend::posix, s)).publish(*Name::parse("/" + name));
  ASSERT_TRUE(ok(made));
  EXPECT_EQ(made->where(), "/dev/shm/" + name);
  const UniqueFd fd{::shm_open(("/" + name).c_str(), O_RDONLY, 0)};
  EXPECT_TRUE(fd);
  EXPECT_TRUE(ok(made->unlink()));
  EXPECT_EQ(::shm_open(("/" + name).c_str(), O_RDONLY, 0), -1);
}

TEST_F(Files, LieWhereWhereSays) {
  auto posix = make(Backend::posix, "p");
  auto file = make(Backend::file, "f");
  ASSERT_TRUE(ok(posix) && ok(file));
  EXPECT_EQ(posix->where(), places_.shm + "/p");
  EXPECT_EQ(file->where(), places_.files + "/f.ring");
  struct stat st {};
  EXPECT_EQ(::stat(posix->where().c_str(), &st), 0);
  EXPECT_EQ(static_cast<std::uint64_t>(st.st_size), posix->info().total_bytes);
  EXPECT_EQ(::stat(file->where().c_str(), &st), 0);
  // Reserved, not sparse.
  EXPECT_GE(static_cast<std::uint64_t>(st.st_blocks) * 512, file->info().total_bytes);
  EXPECT_TRUE(ok(posix->unlink()));
  EXPECT_TRUE(ok(file->unlink()));
}

TEST_F(Files, ThatAreTruncatedAreRefused) {
  auto s = make(Backend::posix, "s");
  ASSERT_TRUE(ok(s));
  for (const off_t size : {0, 1, 8, 4095, 4096, 16'383}) {
    ASSERT_EQ(::truncate(shm_path("s").c_str(), size), 0);
    ASSERT_EQ(::truncate(shm_path("s").c_str(), size), 0);
    const auto opened = open("s");
    if (size > 0 && size < 4096) {
      EXPECT_TRUE(fails(opened, Errc::bad_format, "header: truncated")) << size;
    } else {
      // Growing again does not bring the header back.
      EXPECT_TRUE(fails(opened, Errc::bad_format)) << size;
    }
  }
  ::unlink(shm_path("s").c_str());
}

TEST_F(Files, ShorterOrLongerThanTheirHeaderSaysAreRefused) {
  auto s = make(Backend::file, "s");
  ASSERT_TRUE(ok(s));
  const std::string path = places_.files + "/s.ring";
  ASSERT_EQ(::truncate(path.c_str(), 4096), 0);
  EXPECT_TRUE(fails(open("s"), Errc::bad_format, "header: truncated"));
  ASSERT_EQ(::truncate(path.c_str(), 16'384), 0);
  EXPECT_TRUE(ok(open("s")));
  ASSERT_EQ(::truncate(path.c_str(), 16'385), 0);
  EXPECT_TRUE(fails(open("s"), Errc::bad_format, "header: size"));
  ::unlink(path.c_str());
}

TEST_F(Files, OfStrangersAreRefused) {
  write_file(shm_path("text"), std::string(10'000, 'x'));
  EXPECT_TRUE(fails(open("text"), Errc::bad_format, "header: magic"));
  write_file(shm_path("empty"), "");
  EXPECT_TRUE(fails(open("empty"), Errc::bad_format, "header: truncated"));
  ::unlink(shm_path("text").c_str());
  ::unlink(shm_path("empty").c_str());
}

TEST_F(Files, OfAnotherVersionAreRefused) {
  auto s = make(Backend::posix, "s");
  ASSERT_TRUE(ok(s));
  const UniqueFd fd{::open(shm_path("s").c_str(), O_RDWR)};
  const std::uint64_t version = 99;
  ASSERT_EQ(::pwrite(fd.get(), &version, 8, 0x10), 8);
  EXPECT_TRUE(fails(open("s"), Errc::bad_format, "header: version"));
  EXPECT_TRUE(ok(s->unlink()));
}

TEST_F(Files, CopiedToAnotherKindOfPlaceAreRefused) {
  auto s = make(Backend::posix, "s");
  ASSERT_TRUE(ok(s));
  write_file(places_.files + "/copy.ring", read_file(shm_path("s")));
  EXPECT_TRUE(fails(open("copy"), Errc::bad_format, "header: backend"));
  ::unlink((places_.files + "/copy.ring").c_str());
  EXPECT_TRUE(ok(s->unlink()));
}

TEST_F(Files, BehindASymbolicLinkAreRefused) {
  auto s = make(Backend::posix, "real");
  ASSERT_TRUE(ok(s));
  ASSERT_EQ(::symlink("real", shm_path("link").c_str()), 0);
  EXPECT_TRUE(fails(open("link"), Errc::bad_format, "object: type"));
  // A dangling one is a taken name, and never the way to make a file elsewhere.
  ASSERT_EQ(::symlink("/tmp/nowhere", shm_path("dangling").c_str()), 0);
  EXPECT_TRUE(fails(make(Backend::posix, "dangling"), Errc::exists));
  ::unlink(shm_path("link").c_str());
  ::unlink(shm_path("dangling").c_str());
  EXPECT_TRUE(ok(s->unlink()));
}

TEST_F(Files, ThatAreFifosSocketsDirectoriesOrDevicesAreRefusedWithoutWaiting) {
  ASSERT_EQ(::mkfifo(shm_path("fifo").c_str(), 0600), 0);
  ASSERT_EQ(::mkdir(shm_path("dir").c_str(), 0700), 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  shm_path("socket").copy(address.sun_path, sizeof address.sun_path - 1);
  {
    const UniqueFd socket{::socket(AF_UNIX, SOCK_STREAM, 0)};
    ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  for (const OpenMode mode : {OpenMode::read_write, OpenMode::read_only}) {
    for (const std::string name : {"fifo", "dir", "socket"}) {
      EXPECT_TRUE(fails(open(name, mode), Errc::bad_format, "object: type")) << name;
      EXPECT_TRUE(fails(make(Backend::file, name), Errc::exists)) << name;
    }
  }
  ::unlink(shm_path("fifo").c_str());
  ::unlink(shm_path("socket").c_str());
  ::rmdir(shm_path("dir").c_str());
}

TEST_F(Files, WritableByTheWorldAreNotTrusted) {
  auto s = make(Backend::posix, "s");
  ASSERT_TRUE(ok(s));
  ASSERT_EQ(::chmod(shm_path("s").c_str(), 0666), 0);
  EXPECT_TRUE(fails(open("s"), Errc::permission, "object: mode"));
  EXPECT_TRUE(ok(s->unlink()));
}

TEST_F(Files, OfAnotherUserAreNotTrusted) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to make files of others";
  auto s = make(Backend::posix, "s");
  ASSERT_TRUE(ok(s));
  ASSERT_EQ(::chown(shm_path("s").c_str(), 12345, 12345), 0);
  EXPECT_TRUE(fails(open("s"), Errc::permission, "object: owner"));
  // Root may look, and remove.
  EXPECT_TRUE(ok(open("s", OpenMode::read_only)));
  ASSERT_EQ(::chown(shm_path("s").c_str(), 0, 0), 0);
  ASSERT_EQ(::chmod(places_.shm.c_str(), 0755), 0);
  const auto as_user = [&](gid_t gid, OpenMode mode, Errc expected) {
    return in_child([&] {
      if (::setgroups(0, nullptr) != 0 || ::setgid(gid) != 0 || ::setuid(12345) != 0) return 9;
      const auto opened = open("s", mode);
      return opened ? 0 : opened.error().code == expected ? 1 : 2;
    });
  };
  EXPECT_EQ(as_user(12345, OpenMode::read_only, Errc::permission), 1);  // 0600, of root
  ASSERT_EQ(::chown(shm_path("s").c_str(), 4711, 12346), 0);
  ASSERT_EQ(::chmod(shm_path("s").c_str(), 0660), 0);
  EXPECT_EQ(as_user(12346, OpenMode::read_write, Errc::permission), 0);  // shared with the group
  EXPECT_EQ(as_user(12345, OpenMode::read_write, Errc::permission), 1);
  EXPECT_TRUE(ok(s->unlink()));
}

TEST_F(Files, AreMadeOnlyInADirectoryThatIsOursAlone) {
  const std::string dir = places_.files + "/sub";
  Spec s = spec();
  s.places.files = dir;
  // Made on demand, closed to others whatever the umask allows.
  const mode_t old = ::umask(0);
  auto made = std::move(*draft(Backend::file, s)).publish(*Name::parse("s"));
  ::umask(old);
  ASSERT_TRUE(ok(made));
  struct stat st {};
  ASSERT_EQ(::stat(dir.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0700u);
  EXPECT_TRUE(ok(made->unlink()));

  ASSERT_EQ(::chmod(dir.c_str(), 0770), 0);
  EXPECT_TRUE(fails(draft(Backend::file, s), Errc::permission, "files dir: writable by others"));
  ASSERT_EQ(::chmod(dir.c_str(), 0700), 0);
  ASSERT_EQ(::symlink(dir.c_str(), (places_.files + "/link").c_str()), 0);
  s.places.files = places_.files + "/link";
  EXPECT_TRUE(fails(draft(Backend::file, s), Errc::permission, "files dir: not a directory"));
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(dir.c_str(), 12345, 12345), 0);
    s.places.files = dir;
    EXPECT_TRUE(fails(draft(Backend::file, s), Errc::permission, "files dir: owner"));
    EXPECT_TRUE(fails(Segment::open(*Name::parse("x"), OpenMode::read_only, {}, s.places),
                      Errc::permission, "files dir: owner"));
  }
  ::unlink((places_.files + "/link").c_str());
  ::rmdir(dir.c_str());
}

TEST_F(Files, WorkWithoutODashTmpfile) {
  const UniqueFd dir{::open(places_.shm.c_str(), O_RDONLY | O_DIRECTORY)};
  auto unnamed = detail::make_unnamed(dir.get(), false);
  ASSERT_TRUE(ok(unnamed));
  EXPECT_TRUE(unnamed->temp.starts_with(".slipring-")) << unnamed->temp;
  EXPECT_EQ(entries(places_.shm).size(), 1u);
  ASSERT_TRUE(ok(detail::give_name(dir.get(), unnamed->fd.get(), unnamed->temp, "s")));
  EXPECT_EQ(entries(places_.shm), std::vector<std::string>{"s"});
  auto second = detail::make_unnamed(dir.get(), false);
  ASSERT_TRUE(ok(second));
  EXPECT_TRUE(
      fails(detail::give_name(dir.get(), second->fd.get(), second->temp, "s"), Errc::exists));
  ::unlink(shm_path(second->temp).c_str());
  ::unlink(shm_path("s").c_str());
}

TEST_F(Files, NeedANameToBePublished) {
  auto drafted = draft(Backend::posix, spec());
  ASSERT_TRUE(ok(drafted));
  EXPECT_TRUE(fails(std::move(*drafted).publish(), Errc::invalid_argument));
  // The failed call left the draft as it was.
  auto s = std::move(*drafted).publish(*Name::parse("s"));
  ASSERT_TRUE(ok(s));
  EXPECT_TRUE(ok(s->unlink()));
}

TEST_F(Files, LargerThanTheirLimitAreAnErrorAndNoSignal) {
  EXPECT_EQ(in_child([&] {
              const rlimit limit{1 << 20, 1 << 20};
              if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 9;
              const auto refused = draft(Backend::posix, spec(2 << 20));
              const auto taken = draft(Backend::posix, spec(1 << 19));
              return !refused && refused.error().code == Errc::too_large && taken ? 0 : 1;
            }),
            0);
}

TEST_F(Files, BeyondTheAddressSpaceAreAnError) {
  if (kSanitized) GTEST_SKIP() << "the sanitizer itself needs the address space";
  auto s = std::move(*draft(Backend::posix, spec(64 << 20))).publish(*Name::parse("s"));
  ASSERT_TRUE(ok(s));
  EXPECT_EQ(in_child([&] {
              const rlimit limit{16 << 20, 16 << 20};
              if (::setrlimit(RLIMIT_AS, &limit) != 0) return 9;
              const auto refused = open("s");
              return !refused && refused.error().code == Errc::no_space ? 0 : 1;
            }),
            0);
  EXPECT_TRUE(ok(s->unlink()));
}

TEST_F(Files, AreReservedWholeUnderARainOfSignals) {
  EXPECT_EQ(in_child([&] {
              struct sigaction action {};
              action.sa_handler = [](int) {};
              ::sigaction(SIGALRM, &action, nullptr);
              const itimerval every{{0, 1000}, {0, 1000}};
              ::setitimer(ITIMER_REAL, &every, nullptr);
              for (const Backend b : {Backend::posix, Backend::memfd, Backend::file}) {
                if (!draft(b, spec(64 << 20))) return 1;
              }
              return 0;
            }),
            0);
}

// The remover waits for its turn, within bounds, and then says why it went without it.
TEST_F(Files, TellWhenTheLockOfTheirRemovalIsKept) {
  auto s = make(Backend::posix, "s");
  ASSERT_TRUE(ok(s));
  {
    const UniqueFd holder{::open(shm_path("s").c_str(), O_RDONLY)};
    ASSERT_EQ(::flock(holder.get(), LOCK_EX), 0);
    EXPECT_TRUE(fails(s->unlink(), Errc::timed_out, "flock"));
    EXPECT_TRUE(*s->still_named());
  }
  EXPECT_TRUE(ok(s->unlink()));
}

TEST_F(Files, TakeTheirPlacesFromTheEnvironment) {
  EXPECT_EQ(in_child([] {
              ::unsetenv("SLIPRING_DIR");
              ::unsetenv("SLIPRING_SHM_DIR");
              ::unsetenv("XDG_RUNTIME_DIR");
              const std::string uid = std::to_string(::geteuid());
              if (Places::standard().shm != "/dev/shm") return 1;
              if (Places::standard().files != "/tmp/slipring-" + uid) return 2;
              ::setenv("XDG_RUNTIME_DIR", "/run/user/1", 1);
              if (Places::standard().files != "/run/user/1/slipring") return 3;
              ::setenv("SLIPRING_DIR", "/a", 1);
              ::setenv("SLIPRING_SHM_DIR", "/b", 1);
              const Places places = Places::standard();
              return places.files == "/a" && places.shm == "/b" ? 0 : 4;
            }),
            0);
}

}  // namespace
}  // namespace slipring::segment

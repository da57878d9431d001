// SPDX-License-Identifier: Apache-2.0
// What happens when the memory runs out: an error at creation, never a signal at a store.
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include <cstring>

#include "fixture.h"

namespace slipring::segment {
namespace {

constexpr int kNoMount = 77;

class Walls : public SegmentTest {
 protected:
  // Runs `body` in a child whose shm directory is a tmpfs of its own.
  template <typename Body>
  void with_tmpfs(const char* options, Body&& body) {
    const int status = in_child([&] {
      if (::unshare(CLONE_NEWNS) != 0 ||
          ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
          ::mount("tmpfs", places_.shm.c_str(), "tmpfs", 0, options) != 0) {
        return kNoMount;
      }
      return body();
    });
    if (status == kNoMount) GTEST_SKIP() << "cannot mount a tmpfs here (needs root)";
    EXPECT_EQ(status, 0);
  }
  std::uint64_t free_bytes() const {
    struct statvfs fs {};
    return ::statvfs(places_.shm.c_str(), &fs) == 0 ? fs.f_bavail * fs.f_frsize : 0;
  }
};

// K9: of the ways to ask for memory that is not there, most succeed and then kill.
TEST_F(Walls, AFullFileSystemIsAnErrorAndNoSigbus) {
  with_tmpfs("size=256k", [&] {
    const auto refused = draft(Backend::posix, spec(1 << 20));
    if (!fails(refused, Errc::no_space, "posix_fallocate")) return 1;
    if (free_bytes() != 256 << 10) return 2;
    // What was granted can be stored to, to its last byte.
    auto granted = draft(Backend::posix, spec((256 << 10) - 4096));
    if (!granted) return 3;
    std::memset(granted->body().data(), 1, granted->body().size());
    auto s = std::move(*granted).publish(*Name::parse("s"));
    if (!s) return 4;
    const auto second = draft(Backend::posix, spec(1));
    if (second || second.error().code != Errc::no_space) return 5;
    const auto room = room_for(Backend::posix, places_);
    if (!room || room->free_bytes != 0 || room->total_bytes != 256 << 10) return 6;
    return s->unlink() ? 0 : 7;
  });
}

TEST_F(Walls, NeitherPrefaultNorItsAbsenceMakesADifference) {
  with_tmpfs("size=256k", [&] {
    Spec s = spec(200 << 10);
    s.prefault = false;
    auto first = draft(Backend::posix, s);
    if (!first || draft(Backend::posix, s)) return 1;
    std::memset(first->body().data(), 1, first->body().size());
    return 0;
  });
}

TEST_F(Walls, NoInodeLeftIsAnError) {
  with_tmpfs("size=1m,nr_inodes=2", [&] {
    const auto first = draft(Backend::posix, spec());
    const auto second = draft(Backend::posix, spec());
    return first && !second && second.error().code == Errc::no_space ? 0 : 1;
  });
}

TEST_F(Walls, AReadOnlyFileSystemIsAnError) {
  with_tmpfs("ro", [&] {
    const auto refused = draft(Backend::posix, spec());
    return !refused && refused.error().sys == EROFS ? 0 : 1;
  });
}

// A killed creator leaves nothing: its object never had a name.
TEST_F(Walls, AKilledCreatorGivesItsRoomBack) {
  with_tmpfs("size=256k", [&] {
    const int status = in_child([&] {
      const auto drafted = draft(Backend::posix, spec(100 << 10));
      ::raise(SIGKILL);
      return drafted ? 0 : 1;
    });
    return status == -SIGKILL && free_bytes() == 256 << 10 ? 0 : 1;
  });
}

TEST_F(Walls, HugePagesNeedAMountThatHasThem) {
  with_tmpfs("size=64m", [&] {
    Spec s = spec(4 << 20);
    s.huge_page_bytes = 2 << 20;
    const auto refused = draft(Backend::posix, s);
    return !refused && refused.error().code == Errc::not_supported ? 0 : 1;
  });
}

TEST_F(Walls, HugePagesComeFromAMountThatHasThem) {
  with_tmpfs("size=64m,huge=advise", [&] {
    Spec s = spec(4 << 20);
    s.huge_page_bytes = 2 << 20;
    auto drafted = draft(Backend::posix, s);
    if (!drafted) return drafted.error().code == Errc::not_supported ? 0 : 1;
    std::memset(drafted->body().data(), 1, drafted->body().size());
    return drafted->info().total_bytes == 6 << 20 ? 0 : 2;
  });
}

}  // namespace
}  // namespace slipring::segment

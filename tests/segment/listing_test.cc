// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>

#include <algorithm>
#include <fstream>

#include "fixture.h"

namespace slipring::segment {
namespace {

class ListSegments : public SegmentTest {
 protected:
  // Rows of these places; other SysV segments of the machine are not this test's business.
  std::vector<Listing> rows() const {
    auto all = list_segments(places_);
    EXPECT_TRUE(ok(all));
    if (!all) return {};
    std::erase_if(*all, [](const Listing& row) {
      return row.name.empty() && row.info &&
             row.info->creator.pid != static_cast<std::uint32_t>(::getpid());
    });
    return std::move(*all);
  }
};

TEST_F(ListSegments, ShowsEveryKind) {
  auto p = make(Backend::posix, "p");
  auto f = make(Backend::file, "f");
  auto v = make(Backend::sysv, "v");
  auto nameless = std::move(*draft(Backend::sysv, spec())).publish();
  ASSERT_TRUE(ok(p) && ok(f) && ok(v) && ok(nameless));
  const auto found = rows();
  ASSERT_EQ(found.size(), 4u);
  const Segment* expected[] = {&*p, &*f, &*v, &*nameless};
  for (std::size_t i = 0; i < 4; ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(found[i].name, expected[i]->info().name);
    EXPECT_EQ(found[i].backend, expected[i]->backend());
    EXPECT_EQ(found[i].where, expected[i]->where());
    EXPECT_EQ(found[i].sysv_id, expected[i]->sysv_id());
    EXPECT_EQ(found[i].object_bytes, 16'384u);
    EXPECT_EQ(found[i].mode, 0600u);
    EXPECT_EQ(found[i].owner, ::geteuid());
    ASSERT_TRUE(ok(found[i].info));
    EXPECT_EQ(found[i].info->instance, expected[i]->info().instance);
  }
  EXPECT_EQ(found[2].attached, 1u);
  for (auto* s : {&p, &f, &v, &nameless}) EXPECT_TRUE(ok((*s)->unlink()));
}

TEST_F(ListSegments, SkipsWhatIsForeign) {
  std::ofstream(shm_path("text")) << std::string(5000, 'x');
  std::ofstream(places_.files + "/notes.txt") << "hello";
  ASSERT_EQ(::mkfifo(shm_path("fifo").c_str(), 0600), 0);
  ASSERT_EQ(::symlink("text", shm_path("link").c_str()), 0);
  const int foreign = ::shmget(IPC_PRIVATE, 10'000, IPC_CREAT | 0600);
  EXPECT_TRUE(rows().empty());
  ::shmctl(foreign, IPC_RMID, nullptr);
  for (const std::string name : {"text", "fifo", "link"}) ::unlink(shm_path(name).c_str());
  ::unlink((places_.files + "/notes.txt").c_str());
}

TEST_F(ListSegments, ShowsWhatIsOursAndRottenWithItsError) {
  auto cut = make(Backend::posix, "cut");
  auto rot = make(Backend::file, "rot");
  auto gone = make(Backend::sysv, "gone");
  ASSERT_TRUE(ok(cut) && ok(rot) && ok(gone));
  ASSERT_EQ(::truncate(shm_path("cut").c_str(), 100), 0);
  ASSERT_EQ(::truncate((places_.files + "/rot.ring").c_str(), 5000), 0);
  ASSERT_EQ(::shmctl(*gone->sysv_id(), IPC_RMID, nullptr), 0);
  std::ofstream(places_.files + "/never.ring") << "?";
  const auto found = rows();
  ASSERT_EQ(found.size(), 4u);
  EXPECT_TRUE(fails(found[0].info, Errc::bad_format, "header: truncated"));
  EXPECT_EQ(found[1].name, "never");
  EXPECT_TRUE(fails(found[1].info, Errc::bad_format, "header: truncated"));
  EXPECT_TRUE(fails(found[2].info, Errc::bad_format, "header: truncated"));
  EXPECT_EQ(found[3].name, "gone");
  EXPECT_TRUE(fails(found[3].info, Errc::not_found, "sysv: stale link"));
  ::unlink((places_.files + "/never.ring").c_str());
  EXPECT_TRUE(ok(cut->unlink()));
  EXPECT_TRUE(ok(rot->unlink()));
  EXPECT_TRUE(ok(remove_stale(*Name::parse("gone"), places_)));
}

TEST_F(ListSegments, OfDirectoriesThatDoNotExistIsEmpty) {
  Places nowhere = places_;
  nowhere.files += "/nowhere";
  nowhere.shm += "/nowhere";
  const auto found = list_segments(nowhere);
  ASSERT_TRUE(ok(found));
  EXPECT_TRUE(std::ranges::all_of(*found, [](const Listing& row) { return row.name.empty(); }));
}

TEST(RoomFor, IsKnownForEveryKind) {
  Places places;
  places.files = "/tmp/a/b/c/that/does/not/exist";
  for (const Backend b : {Backend::posix, Backend::sysv, Backend::memfd, Backend::file}) {
    const auto room = room_for(b, places);
    ASSERT_TRUE(ok(room)) << to_string(b);
    EXPECT_GT(room->total_bytes, 0u);
    EXPECT_LE(room->free_bytes, room->total_bytes);
  }
}

}  // namespace
}  // namespace slipring::segment

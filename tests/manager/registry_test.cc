// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>

#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "registry_fixture.h"
#include "slipring/base/deadline.h"

namespace slipring::manager {
namespace {

using segment::Backend;
using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::byte> bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::vector<char> chars{std::istreambuf_iterator<char>(in), {}};
  std::vector<std::byte> bytes(chars.size());
  std::memcpy(bytes.data(), chars.data(), chars.size());
  return bytes;
}

// ------------------------------------------------------------------------------ listed as it says

TEST_F(Registries, ListEachAttachmentAsItWasSaid) {
  const std::int64_t before = monotonic_ns();
  std::vector<Enrolment> all;
  for (std::uint32_t number = 0; number < 200; ++number) {
    all.push_back(enroll(attachment(number)));
  }
  const RegistryView view = look();
  ASSERT_EQ(view.rows.size(), 200u);
  EXPECT_EQ(view.registries, 1u);
  EXPECT_EQ(view.unreadable, 0u);
  for (std::uint32_t number = 0; number < 200; ++number) {
    const RegistryRow& row = view.rows[number];
    EXPECT_EQ(row.what, attachment(number)) << number;
    EXPECT_EQ(row.entry, all[number].entry());
    EXPECT_EQ(row.registry, 0u);
    EXPECT_EQ(row.holder, Holder::alive);
    EXPECT_EQ(row.pid, static_cast<std::uint32_t>(::getpid()));
    EXPECT_EQ(row.command, command_of(row.pid).substr(0, 15));
    EXPECT_GE(row.since_ns, before);
  }
}

TEST_F(Registries, ListSegmentsByWhatTheySayOfThemselves) {
  auto posix = *make(Backend::posix, "md.btc");
  auto sysv = *make(Backend::sysv, "md.eth");
  auto memfd = *std::move(*segment::draft(Backend::memfd, spec())).publish();
  const auto a = enroll(Attachment::of(posix, Form::lane, Part::producer));
  const auto b = enroll(Attachment::of(sysv, Form::total, Part::consumer, 17));
  const auto c = enroll(Attachment::of(memfd, Form::blocks, Part::participant, 3));
  const auto rows = look().rows;
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].what.backend, Backend::posix);
  EXPECT_EQ(rows[0].what.name, "md.btc");
  EXPECT_EQ(rows[0].what.where, shm_path("md.btc"));
  EXPECT_EQ(rows[0].what.instance, posix.info().instance);
  EXPECT_FALSE(rows[0].what.sysv_id || rows[0].what.descriptor);
  EXPECT_EQ(rows[1].what.backend, Backend::sysv);
  EXPECT_EQ(rows[1].what.sysv_id, static_cast<std::uint32_t>(*sysv.sysv_id()));
  EXPECT_EQ(rows[1].what.index, 17u);
  EXPECT_EQ(rows[2].what.backend, Backend::memfd);
  EXPECT_EQ(rows[2].what.name, "");
  EXPECT_EQ(rows[2].what.descriptor, static_cast<std::uint32_t>(memfd.fd()));
  EXPECT_THAT(posix.unlink(), Succeeds());
  EXPECT_THAT(sysv.unlink(), Succeeds());
}

TEST_F(Registries, LeaveOutAPathThatDoesNotFitRatherThanCutIt) {
  const std::string deep = places_.shm + "/" + std::string(80, 'd');
  ASSERT_EQ(::mkdir(deep.c_str(), 0700), 0);
  auto spec = this->spec();
  spec.places.shm = deep;
  auto made = *std::move(*segment::draft(Backend::posix, spec)).publish(*segment::Name::parse("s"));
  ASSERT_GT(made.where().size(), kMaxWhereBytes);
  const Attachment what = Attachment::of(made, Form::lane, Part::consumer);
  EXPECT_EQ(what.where, "");
  EXPECT_EQ(what.name, "s");
  EXPECT_THAT(Registry(places_).enroll(what), Succeeds());
  EXPECT_THAT(made.unlink(), Succeeds());
  ::rmdir(deep.c_str());
}

struct Odd {
  const char* op;
  std::function<void(Attachment&)> spoil;
};
const Odd kOdd[] = {
    {"name: character", [](Attachment& a) { a.name = "a b"; }},
    {"name: character", [](Attachment& a) { a.name = "a\nb"; }},
    {"name: character", [](Attachment& a) { a.name = "\x1b[2J"; }},
    {"name: character", [](Attachment& a) { a.name = "\xff"; }},
    {"name: character", [](Attachment& a) { a.name = std::string("a\0b", 3); }},
    {"name: slash", [](Attachment& a) { a.name = "a/b"; }},
    {"name: dots", [](Attachment& a) { a.name = ".."; }},
    {"name: too long", [](Attachment& a) { a.name = std::string(201, 'x'); }},
    {"where: character", [](Attachment& a) { a.where = "a\nb"; }},
    {"where: character", [](Attachment& a) { a.where = "\x1b[2J"; }},
    {"where: character", [](Attachment& a) { a.where = "\x7f"; }},
    {"where: character", [](Attachment& a) { a.where = "\x9b"; }},
    {"where: character", [](Attachment& a) { a.where = std::string(1, '\0'); }},
    {"where: too long", [](Attachment& a) { a.where = std::string(97, 'x'); }},
    {"attachment: form", [](Attachment& a) { a.form = Form{6}; }},
    {"attachment: part", [](Attachment& a) { a.part = Part{0}; }},
    {"attachment: part", [](Attachment& a) { a.part = Part{6}; }},
    {"attachment: backend", [](Attachment& a) { a.backend = Backend{5}; }},
    {"attachment: backend", [](Attachment& a) { a.backend = Backend{0}; }},
};
TEST_F(Registries, RefuseWhatCannotBeListedAndMakeNothingForIt) {
  for (const Odd& odd : kOdd) {
    Attachment what = attachment(1);
    odd.spoil(what);
    const auto refused = Registry(places_).enroll(what);
    ASSERT_THAT(refused, FailsWith(Errc::invalid_argument));
    EXPECT_STREQ(refused.error().op, odd.op);
    EXPECT_THAT(names(), IsEmpty());
  }
  Attachment longest = attachment(1);
  longest.name = "/" + std::string(200, 'x');  // a leading slash is no part of a name
  longest.where = std::string(96, '~');
  const Enrolment enrolled = enroll(longest);
  longest.name.erase(0, 1);
  EXPECT_EQ(look().rows.at(0).what, longest);
}

// ------------------------------------------------------------------------------- coming and going

TEST_F(Registries, AreRemovedByTheLastOneOut) {
  EXPECT_THAT(names(), IsEmpty());
  Enrolment first = enroll(attachment(1));
  Enrolment second = enroll(attachment(2));
  EXPECT_THAT(names(), ElementsAre(Registry::name_of(::geteuid(), 0)));
  EXPECT_EQ(first.leave(), Enrolment::Left::kept);
  EXPECT_EQ(look().rows.size(), 1u);
  EXPECT_EQ(second.leave(), Enrolment::Left::removed);
  EXPECT_THAT(names(), IsEmpty());
  EXPECT_EQ(second.leave(), Enrolment::Left::nothing) << "twice";
}

TEST_F(Registries, AMovedFromEnrolmentDoesNothing) {
  Enrolment first = enroll(attachment(1));
  Enrolment second = std::move(first);
  EXPECT_EQ(first.leave(), Enrolment::Left::nothing);
  EXPECT_EQ(look().rows.size(), 1u);
  second = enroll(attachment(2));  // leaves the one before
  const auto rows = look().rows;
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].what, attachment(2));
}

TEST_F(Registries, AForkedChildLeavesItsParentEnrolledAndEnrollsForItself) {
  const Registry registry(places_);
  Enrolment mine = *registry.enroll(attachment(1));
  EXPECT_EQ(segment::in_child([&] {
              if (mine.leave() != Enrolment::Left::nothing) return 1;
              auto its_own = registry.enroll(attachment(2));
              if (!its_own) return 2;
              std::map<std::uint32_t, std::uint32_t> who;
              const auto view = registry.look();
              if (!view || view->rows.size() != 2) return 3;
              for (const RegistryRow& row : view->rows) who[row.what.index] = row.pid;
              if (who[1] != static_cast<std::uint32_t>(::getppid())) return 4;
              if (who[2] != static_cast<std::uint32_t>(::getpid())) return 5;
              return its_own->leave() == Enrolment::Left::kept ? 0 : 6;
            }),
            0);
  EXPECT_EQ(look().rows.size(), 1u);
  EXPECT_EQ(mine.leave(), Enrolment::Left::removed);
}

// It shares its parent's open file, whose lock would not keep the two apart.
TEST_F(Registries, AForkedChildOpensTheRegistryForItself) {
  const Registry registry(places_);
  const Enrolment mine = *registry.enroll(attachment(1));
  const auto opened = [&] {
    struct stat registry_file {};
    EXPECT_EQ(::stat(file(0).c_str(), &registry_file), 0);
    int count = 0;
    for (const std::string& fd : segment::entries("/proc/self/fd")) {
      struct stat st {};
      if (::stat(("/proc/self/fd/" + fd).c_str(), &st) != 0) continue;
      count += st.st_dev == registry_file.st_dev && st.st_ino == registry_file.st_ino ? 1 : 0;
    }
    return count;
  };
  const Enrolment second = *registry.enroll(attachment(2));
  EXPECT_EQ(opened(), 1) << "one descriptor, however many enrolments";
  EXPECT_EQ(segment::in_child([&] {
              const auto its_own = registry.enroll(attachment(3));
              return its_own && opened() == 2 ? 0 : 1;
            }),
            0);
}

// ---------------------------------------------------------------------------- the stopped and dead

TEST_F(Registries, TheKilledAreListedAsDeadUntilSomebodyReaps) {
  Child child =
      test::sleeper_after([&] { static const Enrolment enrolled = enroll(attachment(3)); });
  const auto pid = static_cast<std::uint32_t>(child.pid());
  EXPECT_THAT(Registry(places_).reap(), test::Holds(testing::Field(&Reaped::entries, 0u)));
  EXPECT_EQ(look().rows.at(0).holder, Holder::alive);
  child.kill_to_zombie();
  EXPECT_EQ(look().rows.at(0).holder, Holder::dead) << "a zombie is dead";
  child.wait();
  const auto rows = look().rows;
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].holder, Holder::dead);
  EXPECT_EQ(rows[0].pid, pid);
  EXPECT_EQ(rows[0].what, attachment(3));
  const auto reaped = Registry(places_).reap();
  ASSERT_THAT(reaped, Succeeds());
  EXPECT_EQ(reaped->entries, 1u);
  EXPECT_EQ(reaped->registries, 1u);
  EXPECT_THAT(names(), IsEmpty());
}

TEST_F(Registries, AStoppedProcessIsListedAsStoppedAndKeepsItsEntry) {
  const Enrolment mine = enroll(attachment(1));
  Child child =
      test::sleeper_after([&] { static const Enrolment enrolled = enroll(attachment(2)); });
  child.stop();
  auto rows = look().rows;
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].holder, Holder::alive);
  EXPECT_EQ(rows[1].holder, Holder::stopped);
  const auto reaped = Registry(places_).reap();
  ASSERT_THAT(reaped, Succeeds());
  EXPECT_EQ(reaped->entries + reaped->registries, 0u);
  child.resume();
}

TEST_F(Registries, TellApartMoreHoldersThanTheyRememberInOnePass) {
  std::vector<Child> children;
  for (std::uint32_t i = 0; i < 20; ++i) {
    children.push_back(test::sleeper_after([&] {
      static const Enrolment first = enroll(attachment(i));
      static const Enrolment second = enroll(attachment(i + 20));
    }));
  }
  const auto pid = static_cast<std::uint32_t>(children[9].pid());
  children[9].kill();
  const auto rows = look().rows;
  ASSERT_EQ(rows.size(), 40u);
  for (const RegistryRow& row : rows) EXPECT_EQ(row.holder == Holder::dead, row.pid == pid);
  EXPECT_EQ(Registry(places_).reap()->entries, 2u);
  EXPECT_EQ(look().rows.size(), 38u);
  for (Child& child : children) {
    if (child.pid() > 0) child.kill();
  }
  EXPECT_EQ(Registry(places_).reap()->registries, 1u);
}

TEST_F(Registries, WhatTheKilledLeftIsRemovedByTheNextUser) {
  for (int i = 0; i < 3; ++i) {
    Child child = test::sleeper_after([&] {
      static const Enrolment one = enroll(attachment(1));
      static const Enrolment another = enroll(attachment(2));
    });
    child.kill();
  }
  EXPECT_EQ(look().rows.size(), 6u);
  Enrolment next = enroll(attachment(3));
  EXPECT_EQ(next.leave(), Enrolment::Left::removed);
}

TEST_F(Registries, ReuseWhatTheDeadHeldOnlyWhenNothingElseIsFree) {
  Child child =
      test::sleeper_after([&] { static const Enrolment enrolled = enroll(attachment(1)); });
  child.kill();
  const Registry registry(places_);
  std::vector<Enrolment> all;
  for (std::uint32_t i = 1; i < kRegistryEntries; ++i) {
    all.push_back(*registry.enroll(attachment(i)));
    EXPECT_EQ(all.back().entry(), i);
  }
  EXPECT_EQ(look().rows.at(0).holder, Holder::dead);
  all.push_back(*registry.enroll(attachment(1000)));
  EXPECT_EQ(all.back().registry(), 0u);
  EXPECT_EQ(all.back().entry(), 0u);
  EXPECT_EQ(look().rows.at(0).what, attachment(1000));
}

// ----------------------------------------------------------------------------------- many of them

TEST_F(Registries, WhenOneSegmentIsFullTheNextIsMade) {
  test::ProcessEvent enrolled;
  const auto enroll_many = [&] {
    static const Registry registry(places_);
    static std::vector<Enrolment> all;
    for (std::uint32_t i = 0; i < 120; ++i) all.push_back(*registry.enroll(attachment(i)));
  };
  std::vector<Child> children;
  for (int i = 0; i < 3; ++i) children.push_back(test::sleeper_after(enroll_many));
  const RegistryView view = look();
  EXPECT_EQ(view.registries, 2u);
  ASSERT_EQ(view.rows.size(), 360u);
  std::map<std::uint32_t, std::set<std::uint32_t>> said;
  for (const RegistryRow& row : view.rows) {
    EXPECT_EQ(row.what, attachment(row.what.index));
    EXPECT_TRUE(said[row.pid].insert(row.what.index).second);
  }
  for (const Child& child : children) {
    EXPECT_EQ(said[static_cast<std::uint32_t>(child.pid())].size(), 120u);
  }
  // The first two fill the first segment and a part of the second, where the third one is.
  children[0].kill();
  children[1].kill();
  const auto reaped = Registry(places_).reap();
  ASSERT_THAT(reaped, Succeeds());
  EXPECT_EQ(reaped->entries, 240u);
  EXPECT_EQ(reaped->registries, 0u) << "the third is in both";
  children[2].kill();
  EXPECT_EQ(Registry(places_).reap()->registries, 2u);
}

// The first segment is removed by the last one out of it, though the second is in use.
TEST_F(Registries, AHoleInTheNumbersIsFilledByTheNextAndHidesNobody) {
  const Registry registry(places_);
  std::vector<Enrolment> first;
  for (std::uint32_t i = 0; i < kRegistryEntries; ++i) first.push_back(enroll(attachment(i)));
  Enrolment second = *registry.enroll(attachment(777));
  EXPECT_EQ(second.registry(), 1u);
  first.clear();
  EXPECT_THAT(names(), ElementsAre(Registry::name_of(::geteuid(), 1)));
  EXPECT_EQ(look().rows.at(0).what, attachment(777));
  const Enrolment next = *registry.enroll(attachment(778));
  EXPECT_EQ(next.registry(), 0u);
  EXPECT_EQ(look().rows.size(), 2u);
}

TEST_F(Registries, AreFullWhenTheLivingHoldEveryEntryOfEverySegment) {
  const ProcessToken self = self_token();
  const RoleWord held{RoleWord::State::held, self.pid, pid_scope(self), 1};
  std::vector<segment::Segment> segments;
  for (std::uint32_t number = 0; number < kMaxRegistries; ++number) {
    segments.push_back(make_empty(number));
    for (std::uint32_t i = 0; i < kRegistryEntries; ++i) {
      Native::store_relaxed(detail::entry_at(segments.back().body(), i).role, held.encode());
    }
  }
  const Registry registry(places_);
  EXPECT_THAT(registry.enroll(attachment(1)), FailsWith(Errc::full));
  const RegistryView view = look();
  EXPECT_EQ(view.registries, kMaxRegistries);
  EXPECT_EQ(view.unreadable, kMaxRegistries * kRegistryEntries) << "held, and not described";
  Native::store_relaxed(detail::entry_at(segments.back().body(), 200).role, 0);
  {
    const auto last = registry.enroll(attachment(1));
    ASSERT_THAT(last, Succeeds());
    EXPECT_EQ(last->registry(), kMaxRegistries - 1);
    EXPECT_EQ(last->entry(), 200u);
  }
  EXPECT_EQ(names().size(), kMaxRegistries) << "others are in it";
  for (segment::Segment& segment : segments) EXPECT_THAT(segment.unlink(), Succeeds());
}

// ------------------------------------------------------------------------------- looked at, opened

TEST_F(Registries, LookingMakesNothingAndChangesNoByte) {
  const RegistryView nothing = look();
  EXPECT_THAT(nothing.rows, IsEmpty());
  EXPECT_EQ(nothing.registries + nothing.unreadable + nothing.foreign, 0u);
  EXPECT_THAT(names(), IsEmpty());
  EXPECT_THAT(Registry(places_).reap(), Succeeds());
  EXPECT_THAT(names(), IsEmpty());

  const Enrolment mine = enroll(attachment(1));
  Child child =
      test::sleeper_after([&] { static const Enrolment enrolled = enroll(attachment(2)); });
  child.kill();
  const auto before = bytes_of(file(0));
  ASSERT_EQ(before.size(), segment::kHeaderBytes + kRegistryBytes);
  EXPECT_EQ(look().rows.size(), 2u);
  EXPECT_EQ(bytes_of(file(0)), before);
  // Not even where a store would be possible: a mapping that allows none is enough.
  ASSERT_EQ(::chmod(file(0).c_str(), 0400), 0);
  EXPECT_EQ(look().rows.size(), 2u);
}

TEST_F(Registries, PassOverWhatIsNoRegistryForThem) {
  std::ofstream(file(0)) << "not a segment";
  auto other_version = make_empty(1, kRegistryFingerprint + 1);
  auto lane = *make(Backend::posix, Registry::name_of(::geteuid(), 2));
  ASSERT_EQ(::mkfifo(file(3).c_str(), 0600), 0);
  ASSERT_EQ(::symlink("/dev/zero", file(4).c_str()), 0);
  ASSERT_EQ(::mkdir(file(5).c_str(), 0700), 0);
  auto too_small = spec(kRegistryBytes - 8);
  too_small.content = kContentRegistry;
  too_small.fingerprint = kRegistryFingerprint;
  auto small = *std::move(*segment::draft(Backend::posix, too_small))
                    .publish(*segment::Name::parse(Registry::name_of(::geteuid(), 6)));
  std::uint32_t count = 7;
  if (::geteuid() == 0) {  // who else could make a file of another user
    (void)make_empty(count);
    ASSERT_EQ(::chown(file(count).c_str(), 65534, 65534), 0);
    ++count;
  }
  {
    const Enrolment mine = enroll(attachment(1));
    EXPECT_EQ(mine.registry(), count);
    const RegistryView view = look();
    EXPECT_EQ(view.rows.size(), 1u);
    // Root may look at another user's.
    EXPECT_EQ(view.foreign, 7u);
    EXPECT_THAT(Registry(places_).reap(), Succeeds());
  }
  EXPECT_EQ(names().size(), count);
  for (std::uint32_t number = 0; number < count; ++number) ::remove(file(number).c_str());
}

TEST_F(Registries, SayWhenAllNamesAreTakenByOthers) {
  for (std::uint32_t number = 0; number < kMaxRegistries; ++number) {
    ASSERT_EQ(::mkdir(file(number).c_str(), 0700), 0);
  }
  EXPECT_THAT(Registry(places_).enroll(attachment(1)), FailsWith(Errc::bad_format));
  EXPECT_EQ(look().foreign, kMaxRegistries);
  for (std::uint32_t number = 0; number < kMaxRegistries; ++number) ::rmdir(file(number).c_str());
}

TEST_F(Registries, OfAnotherUserAreForLookingAlone) {
  const Enrolment mine = enroll(attachment(1));
  const Registry others(places_, ::geteuid() + 1);
  EXPECT_THAT(others.enroll(attachment(2)), FailsWith(Errc::permission));
  EXPECT_THAT(others.reap(), FailsWith(Errc::permission));
  EXPECT_THAT(others.look(), test::Holds(testing::Field(&RegistryView::rows, IsEmpty())));
}

TEST_F(Registries, OneRemovedByHandCostsNothingButTheListing) {
  const Registry registry(places_);
  Enrolment old = *registry.enroll(attachment(1));
  ASSERT_EQ(::unlink(file(0).c_str()), 0);
  EXPECT_THAT(look().rows, IsEmpty());
  Enrolment next = *registry.enroll(attachment(2));
  EXPECT_EQ(look().rows.at(0).what, attachment(2));
  EXPECT_EQ(old.leave(), Enrolment::Left::kept) << "what has its name now is another's";
  EXPECT_EQ(look().rows.size(), 1u);
  EXPECT_EQ(next.leave(), Enrolment::Left::removed);
}

TEST_F(Registries, LeadToAMemfdThroughTheProcessThatHoldsIt) {
  Child child = test::sleeper_after([&] {
    static auto memfd = *std::move(*segment::draft(Backend::memfd, spec())).publish();
    std::memset(memfd.body().data(), 0x5a, memfd.body().size());
    static const Enrolment enrolled = enroll(Attachment::of(memfd, Form::lane, Part::consumer));
  });
  RegistryRow row = look().rows.at(0);
  {
    const auto opened = open_attached(row, segment::OpenMode::read_only, places_);
    ASSERT_THAT(opened, Succeeds());
    EXPECT_EQ(opened->body()[9'999], std::byte{0x5a});
    EXPECT_EQ(opened->mode(), segment::OpenMode::read_only);
  }
  for (std::uint32_t lie = 0; lie < 16; ++lie) {  // pipes, the watched files of a test, nothing
    if (lie == row.what.descriptor) continue;
    RegistryRow other = row;
    other.what.descriptor = lie;
    EXPECT_FALSE(open_attached(other, segment::OpenMode::read_only, places_)) << lie;
  }
  RegistryRow other = row;
  other.what.instance.low ^= 1;
  EXPECT_THAT(open_attached(other, segment::OpenMode::read_only, places_),
              FailsWith(Errc::not_found));
  other = row;
  other.what.descriptor.reset();
  EXPECT_THAT(open_attached(other, segment::OpenMode::read_only, places_),
              FailsWith(Errc::not_supported));
  child.kill();
  EXPECT_THAT(open_attached(row, segment::OpenMode::read_only, places_),
              FailsWith(Errc::not_found));
  EXPECT_THAT(Registry(places_).reap(), Succeeds());
}

TEST_F(Registries, LeadToASegmentByNameOrIdAndNeverToItsSuccessor) {
  auto posix = *make(Backend::posix, "s");
  auto unnamed = *std::move(*segment::draft(Backend::sysv, spec())).publish();
  RegistryRow row;
  row.what = Attachment::of(posix, Form::lane, Part::producer);
  EXPECT_THAT(open_attached(row, segment::OpenMode::read_only, places_), Succeeds());
  RegistryRow by_id;
  by_id.what = Attachment::of(unnamed, Form::lane, Part::producer);
  EXPECT_EQ(by_id.what.name, "");
  EXPECT_THAT(open_attached(by_id, segment::OpenMode::read_only, places_), Succeeds());
  EXPECT_THAT(unnamed.unlink(), Succeeds());
  EXPECT_THAT(posix.unlink(), Succeeds());
  EXPECT_THAT(open_attached(row, segment::OpenMode::read_only, places_),
              FailsWith(Errc::not_found));
  auto successor = *make(Backend::posix, "s");
  EXPECT_THAT(open_attached(row, segment::OpenMode::read_only, places_),
              FailsWith(Errc::not_found));
  EXPECT_THAT(successor.unlink(), Succeeds());
  EXPECT_THAT(open_attached(RegistryRow{}, segment::OpenMode::read_only, places_),
              FailsWith(Errc::not_supported));
}

// -------------------------------------------------------------------------------- the kernel lock

TEST_F(Registries, AProcessStoppedInTheLockKeepsNobodyAndLeavesALeftover) {
  Enrolment mine = enroll(attachment(1));
  Child child([&] {
    const auto segment = open(Registry::name_of(::geteuid(), 0));
    if (!segment) return 1;
    const auto lock = segment->lock(Deadline::never());
    ::raise(SIGSTOP);
    return lock ? 0 : 2;
  });
  siginfo_t info{};
  retry_eintr([&] {
    return ::waitid(P_PID, static_cast<id_t>(child.pid()), &info, WSTOPPED | WEXITED | WNOWAIT);
  });
  ASSERT_EQ(info.si_code, CLD_STOPPED);
  std::thread newcomer(
      [&] { EXPECT_THAT(Registry(places_).enroll(attachment(2)), FailsWith(Errc::timed_out)); });
  EXPECT_EQ(mine.leave(), Enrolment::Left::kept);
  newcomer.join();
  EXPECT_THAT(look().rows, IsEmpty()) << "it has left all the same";
  EXPECT_EQ(names().size(), 1u);
  child.resume();
  EXPECT_TRUE(child.wait().exited_with(0));
  EXPECT_EQ(Registry(places_).reap()->registries, 1u);
}

}  // namespace
}  // namespace slipring::manager

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "slipring/segment/segment.h"

namespace slipring::segment {

inline std::string describe(const Error& e) {
  return std::string(to_string(e.code)) + " (" + e.op + ", errno " + std::to_string(e.sys) + ")";
}

template <typename T>
testing::AssertionResult ok(const Result<T>& result) {
  if (result) return testing::AssertionSuccess();
  return testing::AssertionFailure() << describe(result.error());
}

/// The code, and, unless empty, exactly that operation.
template <typename T>
testing::AssertionResult fails(const Result<T>& result, Errc code, std::string_view op = {}) {
  if (result) return testing::AssertionFailure() << "it succeeded";
  if (result.error().code == code && (op.empty() || op == result.error().op)) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << describe(result.error());
}

/// Entries of a directory but "." and "..".
inline std::vector<std::string> entries(const std::string& dir) {
  std::vector<std::string> found;
  DIR* stream = ::opendir(dir.c_str());
  if (stream == nullptr) return found;
  while (const dirent* entry = ::readdir(stream)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") found.push_back(name);
  }
  ::closedir(stream);
  return found;
}

/// SysV segments that this user made by process `cpid`.
inline std::set<int> sysv_segments_of(pid_t cpid) {
  std::set<int> ids;
  struct shm_info info {};
  const int last = ::shmctl(0, SHM_INFO, reinterpret_cast<shmid_ds*>(&info));
  for (int i = 0; i <= last; ++i) {
    shmid_ds ds{};
    const int id = ::shmctl(i, SHM_STAT, &ds);
    if (id != -1 && ds.shm_cpid == cpid) ids.insert(id);
  }
  return ids;
}

inline std::size_t open_fds() { return entries("/proc/self/fd").size(); }

/// Two private directories, a watchdog, and at the end the proof that nothing is left.
class SegmentTest : public testing::Test {
 protected:
  void SetUp() override {
    ::alarm(120);
    std::string shm = "/dev/shm/slipring-test-XXXXXX";
    std::string files = "/tmp/slipring-test-XXXXXX";
    ASSERT_NE(::mkdtemp(shm.data()), nullptr);
    ASSERT_NE(::mkdtemp(files.data()), nullptr);
    places_.shm = shm;
    places_.files = files;
    fds_ = open_fds();
  }
  void TearDown() override {
    EXPECT_EQ(entries(places_.shm), std::vector<std::string>());
    EXPECT_EQ(entries(places_.files), std::vector<std::string>());
    EXPECT_EQ(open_fds(), fds_);
    for (const int id : sysv_segments_of(::getpid())) {
      ADD_FAILURE() << "left SysV segment " << id;
      ::shmctl(id, IPC_RMID, nullptr);
    }
    for (const std::string& dir : {places_.shm, places_.files}) {
      for (const std::string& name : entries(dir)) ::remove((dir + "/" + name).c_str());
      ::rmdir(dir.c_str());
    }
    ::alarm(0);
  }

  Spec spec(std::uint64_t body_bytes = 10'000) const {
    Spec s;
    s.body_bytes = body_bytes;
    s.content = kContentLane;
    s.fingerprint = 0x1234;
    s.places = places_;
    return s;
  }
  Result<Segment> make(Backend backend, const std::string& name) const {
    auto drafted = draft(backend, spec());
    if (!drafted) return tl::unexpected(drafted.error());
    return std::move(*drafted).publish(*Name::parse(name));
  }
  Result<Segment> open(const std::string& name, OpenMode mode = OpenMode::read_write,
                       Expect expect = {}) const {
    return Segment::open(*Name::parse(name), mode, expect, places_);
  }
  std::string shm_path(const std::string& name) const { return places_.shm + "/" + name; }

  Places places_;
  std::size_t fds_ = 0;
};

/// Runs `body` in a child; its int is the exit status. _exit: no destructors, no gtest.
template <typename Body>
pid_t spawn(Body&& body) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::alarm(60);
  ::_exit(body());
}
/// The exit status, or minus the signal.
inline int wait_for(pid_t child) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child) return -1000;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}
template <typename Body>
int in_child(Body&& body) {
  return wait_for(spawn(std::forward<Body>(body)));
}

/// A gate for several processes: all wait until it is opened.
class Gate {
 public:
  Gate() { EXPECT_EQ(::pipe(ends_), 0); }
  ~Gate() {
    ::close(ends_[0]);
    if (ends_[1] != -1) ::close(ends_[1]);
  }
  void pass() {  // in the child
    ::close(ends_[1]);
    char byte;
    while (::read(ends_[0], &byte, 1) > 0) {
    }
  }
  void open() { ::close(std::exchange(ends_[1], -1)); }

 private:
  int ends_[2] = {-1, -1};
};

}  // namespace slipring::segment

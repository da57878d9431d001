// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "segment/fixture.h"
#include "slipring/manager/registry_inl.h"
#include "support/child.h"
#include "support/matchers.h"
#include "support/shared_area.h"
#include "support/trace_access.h"
#include "support/watchdog.h"

namespace slipring::manager {

using detail::TakenEntry;
using test::Child;
using test::FailsWith;
using test::Succeeds;
using test::TraceAccess;
using test::Watchdog;
using Native = NativeAccess;

/// What somebody could be attached to; another one for each `number`, and `number` again from it.
inline Attachment attachment(std::uint32_t number) {
  Attachment what;
  what.form = static_cast<Form>(number % 6);
  what.part = static_cast<Part>(1 + number % 5);
  what.index = number;
  what.instance = {number * 0x9e3779b97f4a7c15, ~std::uint64_t{number}};
  if (number % 7 != 0) what.backend = static_cast<segment::Backend>(1 + number % 4);
  if (number % 3 == 0) what.sysv_id = number * 3;
  if (number % 4 == 0) what.descriptor = number;
  if (number % 5 != 0) what.name = "md." + std::string(number % 190, 'x') + std::to_string(number);
  what.where = std::string(number % 90, '/') + std::to_string(number);
  return what;
}

/// Entries in memory that forks share: the segment of a registry, less the segment.
class TestTable {
 public:
  explicit TestTable(std::uint32_t entries = kSmall) : area_(entries * kRegistryEntryBytes) {}

  [[nodiscard]] std::span<std::byte> bytes() const { return {area_.data(), area_.size()}; }
  [[nodiscard]] RegistryEntry& entry(std::uint32_t i) const { return detail::entry_at(bytes(), i); }
  template <typename Access = NativeAccess>
  Result<TakenEntry> enroll(std::uint32_t number) const {
    return detail::take_entry<Access>(bytes(), *detail::encode_description(attachment(number), 1));
  }
  [[nodiscard]] RegistryView look() const {
    RegistryView view;
    detail::read_entries(bytes(), 0, view);
    return view;
  }
  /// Enrolls until all entries are held, and says how many that took.
  [[nodiscard]] std::vector<TakenEntry> fill() const {
    std::vector<TakenEntry> taken;
    while (const auto one = enroll(7)) taken.push_back(*one);
    return taken;
  }
  [[nodiscard]] std::vector<std::byte> copy() const { return {bytes().begin(), bytes().end()}; }

  static constexpr std::uint32_t kSmall = 4;

 private:
  test::SharedArea area_;
};

/// A child that enrolled as each of `numbers` in `table`, and was killed.
inline void enroll_and_die(const TestTable& table, const std::vector<std::uint32_t>& numbers) {
  Child child = test::sleeper_after([&] {
    for (const std::uint32_t number : numbers) {
      if (!table.enroll(number)) ::_exit(3);
    }
  });
  EXPECT_TRUE(child.kill().killed_by(SIGKILL));
}

/// Runs `victim` in a child that kills or stops itself before access `k`. A stopped one waits for
/// resume(); what it returns is its exit status.
inline Child run_to_access(std::uint64_t k, int signal, const std::function<int()>& victim) {
  return Child([&, k, signal] {
    ::alarm(60);
    TraceAccess::clear();
    TraceAccess::keeps_trace = false;
    TraceAccess::before_access = [k, signal](std::uint64_t index) {
      if (index == k) ::kill(::getpid(), signal);
    };
    return victim();
  });
}

/// Directories of its own, and at the end the proof that nothing is left in them.
class Registries : public segment::SegmentTest {
 protected:
  [[nodiscard]] RegistryView look() const {
    const auto view = Registry(places_).look();
    EXPECT_THAT(view, Succeeds());
    return view ? *view : RegistryView{};
  }
  [[nodiscard]] Enrolment enroll(const Attachment& what) const {
    return std::move(Registry(places_).enroll(what).value());
  }
  [[nodiscard]] std::string file(std::uint32_t number) const {
    return shm_path(Registry::name_of(::geteuid(), number));
  }
  [[nodiscard]] std::vector<std::string> names() const { return segment::entries(places_.shm); }
  /// A registry's segment that nobody is in.
  [[nodiscard]] segment::Segment make_empty(
      std::uint32_t number, std::uint64_t fingerprint = kRegistryFingerprint) const {
    auto spec = this->spec(kRegistryBytes);
    spec.content = kContentRegistry;
    spec.fingerprint = fingerprint;
    auto draft = segment::draft(segment::Backend::posix, spec);
    return std::move(std::move(*draft)
                         .publish(*segment::Name::parse(Registry::name_of(::geteuid(), number)))
                         .value());
  }
};

}  // namespace slipring::manager

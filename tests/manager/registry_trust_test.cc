// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <random>

#include "registry_fixture.h"
#include "support/oracle_access.h"

// Every word of an entry may hold anything. Whoever looks sees rows that somebody said, or none, in
// a bounded number of loads; whoever enrolls or reaps goes on.
namespace slipring::manager {
namespace {

using test::AccessKind;
using test::OracleAccess;
using test::Rights;

constexpr std::uint32_t kWords = kRegistryEntryBytes / 8;
/// Role twice, checksum and description once; token and role once more for the verdict.
constexpr std::uint64_t kLoadsOfOne = 2 + 1 + kDescriptionWords + 16 + 1 + 16 + 1;

struct Looked {
  RegistryView view;
  std::uint64_t loads = 0;
  std::uint64_t stores = 0;
};
Looked look_traced(const TestTable& table) {
  Looked looked;
  TraceAccess::keeps_trace = true;
  TraceAccess::before_access = nullptr;
  for (const auto& access : TraceAccess::record(
           [&] { detail::read_entries<TraceAccess>(table.bytes(), 0, looked.view); })) {
    (access.writes() ? looked.stores : looked.loads) += 1;
  }
  return looked;
}

SharedWord<std::uint64_t>& word(const TestTable& table, std::uint32_t entry, std::uint32_t i) {
  return word_at<std::uint64_t>(table.bytes().data(), entry * kRegistryEntryBytes + i * 8);
}

TEST(RegistryTrust, AWordThatLiesHidesItsEntryAndNoOther) {
  constexpr std::uint32_t kRole = 0, kToken = 2, kEndOfToken = 18, kEndOfDescription = 61;
  const TestTable table;
  ASSERT_THAT(table.enroll(1), Succeeds());
  ASSERT_THAT(table.enroll(2), Succeeds());
  ASSERT_EQ(look_traced(table).view.rows.size(), 2u);
  for (std::uint32_t i = 0; i < kWords; ++i) {
    auto& spoiled = word(table, 0, i);
    const std::uint64_t truth = Native::load_relaxed(spoiled);
    std::vector<std::uint64_t> lies{0, ~std::uint64_t{0}, truth + 1, truth * 0x9e3779b97f4a7c15};
    for (int bit = 0; bit < 64; ++bit) lies.push_back(truth ^ std::uint64_t{1} << bit);
    for (const std::uint64_t lie : lies) {
      if (lie == truth) continue;
      SCOPED_TRACE("word " + std::to_string(i) + " is " + std::to_string(lie));
      Native::store_relaxed(spoiled, lie);
      const Looked looked = look_traced(table);
      EXPECT_EQ(looked.stores, 0u);
      EXPECT_LE(looked.loads, TestTable::kSmall * kLoadsOfOne);
      const auto& rows = looked.view.rows;
      ASSERT_GE(rows.size(), 1u);
      EXPECT_EQ(rows.back().what, attachment(2));
      EXPECT_EQ(rows.back().holder, Holder::alive);
      if (i >= kEndOfDescription) {  // reserved
        EXPECT_EQ(rows.size(), 2u);
      } else if (i >= kToken && i < kEndOfToken) {
        // The token is for verdict and command; its own checksum says that it is none.
        ASSERT_EQ(rows.size(), 2u);
        EXPECT_EQ(rows[0].what, attachment(1));
        EXPECT_EQ(rows[0].holder, Holder::alive) << "the number in the role word is ours";
        EXPECT_EQ(rows[0].command, "");
      } else {
        EXPECT_EQ(rows.size(), 1u);
        const auto state = RoleWord::decode(lie).state;
        const bool is_free =
            i == kRole && (state == RoleWord::State::vacant || state == RoleWord::State::left);
        EXPECT_EQ(looked.view.unreadable, is_free ? 0u : 1u);
      }
    }
    Native::store_relaxed(spoiled, truth);
  }
  EXPECT_EQ(look_traced(table).view.rows.size(), 2u);
}

struct Forgery {
  const char* what;
  std::function<void(DescriptionWords&)> spoil;
};
const Forgery kForgeries[] = {
    {"backend", [](auto& w) { w.what = (w.what & ~std::uint64_t{0xff}) | 5; }},
    {"form", [](auto& w) { w.what = (w.what & ~std::uint64_t{0xff00}) | 6 << 8; }},
    {"part 0", [](auto& w) { w.what &= ~std::uint64_t{0xff0000}; }},
    {"part", [](auto& w) { w.what = (w.what & ~std::uint64_t{0xff0000}) | 6 << 16; }},
    {"known", [](auto& w) { w.what |= 4 << 24; }},
    {"name too long", [](auto& w) { w.lengths = 201; }},
    {"name much too long", [](auto& w) { w.lengths |= 0xffffffff; }},
    {"where too long", [](auto& w) { w.lengths |= std::uint64_t{97} << 32; }},
    {"where much too long", [](auto& w) { w.lengths |= std::uint64_t{0xffffffff} << 32; }},
    {"name cut", [](auto& w) { w.lengths -= 1; }},
    {"name with a zero", [](auto& w) { w.lengths += 1; }},
    {"name with a slash", [](auto& w) { std::memcpy(w.name, "/", 1); }},
    {"name with an escape", [](auto& w) { std::memcpy(w.name, "\x1b", 1); }},
    {"bytes behind the name", [](auto& w) { w.name[24] = 1; }},
    {"bytes behind where", [](auto& w) { w.where[11] |= std::uint64_t{1} << 56; }},
    {"where with an escape", [](auto& w) { std::memcpy(w.where, "\x1b", 1); }},
    {"where with a high byte", [](auto& w) { std::memcpy(w.where, "\xc3", 1); }},
};
// Whoever may write here can also compute a checksum.
TEST(RegistryTrust, WhatNobodyCouldHaveSaidIsNotShownThoughItsChecksumIsRight) {
  const TestTable table;
  ASSERT_THAT(table.enroll(1), Succeeds());
  RegistryEntry& entry = table.entry(0);
  const std::uint64_t role = Native::load_relaxed(entry.role);
  const auto truth = *detail::encode_description(attachment(1), 1);
  for (const Forgery& forgery : kForgeries) {
    SCOPED_TRACE(forgery.what);
    DescriptionWords words = truth;
    forgery.spoil(words);
    detail::store_description<Native>(entry, role, words);
    const RegistryView view = table.look();
    EXPECT_EQ(view.rows.size(), 0u);
    EXPECT_EQ(view.unreadable, 1u);
  }
  detail::store_description<Native>(entry, role, truth);
  EXPECT_EQ(table.look().rows.size(), 1u);
}

// The checksum is of the holder, too: what a predecessor said is nothing that its successor says.
TEST(RegistryTrust, ASuccessorDoesNotSayWhatItsPredecessorSaid) {
  const TestTable table(1);
  const auto first = table.enroll(1);
  ASSERT_THAT(first, Succeeds());
  detail::leave_entry(table.bytes(), *first);
  EXPECT_EQ(table.look().rows.size() + table.look().unreadable, 0u);
  RegistryEntry& entry = table.entry(0);
  const auto taken = take_role({entry.role, entry.token});
  ASSERT_THAT(taken, Succeeds());
  EXPECT_EQ(table.look().rows.size(), 0u);
  EXPECT_EQ(table.look().unreadable, 1u) << "held, and not described yet";
}

// The kernel is asked about each holder once in a pass. A number alone is no holder.
TEST(RegistryTrust, AFormerProcessWithTheNumberOfALivingOneIsDead) {
  const TestTable table;
  ASSERT_THAT(table.enroll(1), Succeeds());
  const auto second = table.enroll(2);
  ASSERT_THAT(second, Succeeds());
  ASSERT_THAT(table.enroll(3), Succeeds());
  ProcessToken former = self_token();
  ASSERT_NE(former.start_ticks, 0u);
  former.start_ticks -= 1;
  former.generation = second->generation;
  store_token(table.entry(1).token, former);
  const auto rows = table.look().rows;
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].holder, Holder::alive);
  EXPECT_EQ(rows[1].holder, Holder::dead);
  EXPECT_EQ(rows[2].holder, Holder::alive);
  EXPECT_EQ(detail::reap_entries(table.bytes()), 1u);
}

// An entry that changes hands between the description and the verdict is neither holder's.
TEST(RegistryTrust, AnEntryThatChangesHandsUnderTheReaderIsNotShown) {
  const TestTable table(1);
  auto taken = table.enroll(1);
  ASSERT_THAT(taken, Succeeds());
  const std::uint64_t accesses = look_traced(table).loads;
  ASSERT_GT(accesses, kDescriptionWords);
  for (std::uint64_t k = 0; k < accesses; ++k) {
    SCOPED_TRACE(k);
    TraceAccess::clear();
    TraceAccess::before_access = [&](std::uint64_t index) {
      if (index != k) return;
      detail::leave_entry(table.bytes(), *taken);
      taken = table.enroll(2);
    };
    RegistryView view;
    detail::read_entries<TraceAccess>(table.bytes(), 0, view);
    TraceAccess::before_access = nullptr;
    for (const RegistryRow& row : view.rows) {
      EXPECT_EQ(k, 0u);
      EXPECT_EQ(row.what, attachment(2));
    }
    EXPECT_EQ(view.unreadable, 0u);
    detail::leave_entry(table.bytes(), *taken);
    taken = table.enroll(1);
  }
}

TEST(RegistryTrustOracle, NoLieLeadsOutOfTheTableOrIntoAHang) {
  const Watchdog watchdog(60, "registry oracle");
  std::mt19937 random(1);
  std::vector<std::uint8_t> input;
  std::uint64_t rows = 0, unreadable = 0;
  for (int run = 0; run < 3000; ++run) {
    const TestTable table;
    for (auto i = static_cast<std::uint32_t>(random() % 5); i > 0; --i) (void)table.enroll(i);
    input.resize(random() % 2000);
    const unsigned honest = random() % 16;
    for (auto& byte : input) {
      byte = random() % 16 < honest ? std::uint8_t{1} : static_cast<std::uint8_t>(random());
    }
    OracleAccess::feed(input, run % 2 == 0 ? OracleAccess::Mode::sticky : OracleAccess::Mode::free);
    // Read-only: a store is an abort.
    OracleAccess::allow(table.bytes(), Rights::read_only);
    OracleAccess::limit_loads(2 * TestTable::kSmall * kLoadsOfOne);
    RegistryView view;
    detail::read_entries<OracleAccess>(table.bytes(), 0, view);
    (void)detail::is_deserted<OracleAccess>(table.bytes());
    rows += view.rows.size();
    unreadable += view.unreadable;
  }
  EXPECT_GT(rows, 500u);
  EXPECT_GT(unreadable, 500u);
}

TEST(RegistryTrust, NoBytesKeepAnybodyFromEnrollingWhereAnEntryIsFree) {
  std::mt19937_64 random(1);
  std::uint64_t enrolled = 0, full = 0;
  for (int run = 0; run < 500; ++run) {
    const TestTable table;
    for (std::uint32_t i = 0; i < TestTable::kSmall * kWords; ++i) {
      if (random() % 4 == 0) continue;
      Native::store_relaxed(word_at<std::uint64_t>(table.bytes().data(), i * 8), random());
    }
    (void)detail::reap_entries(table.bytes());
    const auto taken = table.enroll(9);
    if (!taken) {
      EXPECT_THAT(taken, FailsWith(Errc::full));
      ++full;
      continue;
    }
    ++enrolled;
    const RegistryView view = table.look();
    ASSERT_EQ(view.rows.size(), 1u);
    EXPECT_EQ(view.rows[0].what, attachment(9));
    EXPECT_EQ(view.rows[0].entry, taken->entry);
    EXPECT_FALSE(detail::is_deserted(table.bytes()));
    detail::leave_entry(table.bytes(), *taken);
    EXPECT_EQ(table.look().rows.size(), 0u);
  }
  EXPECT_GT(enrolled, 100u);
  EXPECT_GT(full, 5u);
}

}  // namespace
}  // namespace slipring::manager

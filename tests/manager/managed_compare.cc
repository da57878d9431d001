// SPDX-License-Identifier: Apache-2.0
// For docs/decisions/0011: what a kill leaves behind, in a managed segment of Boost.Interprocess
// and in a registry's table. An operation is run instruction by instruction; the shared memory
// after each one that changed it is what a kill there would leave. On a copy of each, a newcomer
// does what it always does, and says what became of it. Run by hand: ninja -C build benchmark.
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/interprocess/indexes/iset_index.hpp>
#include <boost/interprocess/managed_external_buffer.hpp>
#include <boost/interprocess/mem_algo/rbtree_best_fit.hpp>
#include <boost/interprocess/sync/mutex_family.hpp>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "slipring/manager/registry_inl.h"
#include "support/child.h"
#include "support/shared_area.h"

namespace {

using namespace slipring;
namespace bip = boost::interprocess;

// As rule D9 would have it: no mutex in the memory; a kernel lock around it keeps others out.
using Managed =
    bip::basic_managed_external_buffer<char, bip::rbtree_best_fit<bip::null_mutex_family>,
                                       bip::iset_index>;
constexpr std::size_t kBytes = 32 << 10;
struct Said {
  char bytes[384];
};
const char* const kNames[] = {"md.btc", "md.eth", "audit", "orders"};
const char* const kVictims = "md.new";

/// What a newcomer finds; exit codes of a child.
enum Finding : int { sound = 0, insane, forgotten, leaked, refused, crashed, hung };
const char* const kFindings[] = {"sound", "check_sanity() false", "an entry of others gone",
                                 "leaks", "no room for others",   "crashes",
                                 "hangs"};

void fill_managed(std::span<std::byte> memory) {
  Managed managed(bip::create_only, memory.data(), memory.size());
  for (const char* name : kNames) std::memset(managed.construct<Said>(name)()->bytes, name[0], 384);
}
Finding judge_managed(std::span<std::byte> memory, std::size_t free_when_empty) {
  Managed managed(bip::open_only, memory.data(), memory.size());
  if (!managed.check_sanity()) return insane;
  for (const char* name : kNames) {
    const auto found = managed.find<Said>(name);
    if (found.first == nullptr || found.first->bytes[383] != name[0]) return forgotten;
    managed.destroy<Said>(name);
  }
  managed.destroy<Said>(kVictims);
  if (managed.get_free_memory() != free_when_empty) return leaked;
  for (int i = 0; i < 16; ++i) {
    if (managed.construct<Said>(std::to_string(i).c_str(), std::nothrow)() == nullptr) {
      return refused;
    }
  }
  return managed.check_sanity() ? sound : insane;
}

constexpr std::uint32_t kEntries = 8;
manager::DescriptionWords words_of(const char* name) {
  manager::Attachment what;
  what.name = name;
  return *manager::detail::encode_description(what, 1);
}
void fill_table(std::span<std::byte> table) {
  for (const char* name : kNames) (void)manager::detail::take_entry(table, words_of(name));
}
// The victim is dead by then, so its entry is reaped or was never taken. "Others" are this process.
Finding judge_table(std::span<std::byte> table) {
  (void)manager::detail::reap_entries(table);
  manager::RegistryView view;
  manager::detail::read_entries(table, 0, view);
  if (view.unreadable != 0) return insane;
  if (view.rows.size() != std::size(kNames)) return forgotten;
  std::uint32_t taken = 0;
  while (manager::detail::take_entry(table, words_of("x"))) ++taken;
  return taken == kEntries - std::size(kNames) ? sound : leaked;
}

Finding ask_a_newcomer(const std::function<Finding()>& judge) {
  test::Child child([&] {
    ::alarm(2);
    std::freopen("/dev/null", "w", stderr);  // what an assertion has to say
    return static_cast<int>(judge());
  });
  const int status = child.wait().status;
  if (WIFEXITED(status)) return static_cast<Finding>(WEXITSTATUS(status));
  return WTERMSIG(status) == SIGALRM ? hung : crashed;
}

/// Steps through `operation` and judges each state that it leaves `memory` in.
void compare(const char* what, std::span<std::byte> memory, const std::function<void()>& operation,
             const std::function<Finding(std::span<std::byte>)>& judge) {
  const pid_t victim = ::fork();
  if (victim == 0) {
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    ::raise(SIGSTOP);
    operation();
    ::_exit(0);
  }
  std::vector<std::vector<std::byte>> states{{memory.begin(), memory.end()}};
  std::uint64_t instructions = 0;
  int status = 0;
  for (;; ++instructions) {
    ::waitpid(victim, &status, 0);
    if (!WIFSTOPPED(status)) break;
    if (std::memcmp(states.back().data(), memory.data(), memory.size()) != 0) {
      states.emplace_back(memory.begin(), memory.end());
    }
    if (::ptrace(PTRACE_SINGLESTEP, victim, nullptr, nullptr) != 0) break;
  }
  std::map<Finding, int> found;
  const test::SharedArea copy(memory.size());
  for (const auto& state : states) {
    std::memcpy(copy.data(), state.data(), state.size());
    const std::span<std::byte> bytes{copy.data(), copy.size()};
    ++found[ask_a_newcomer([&] { return judge(bytes); })];
  }
  std::printf("%-24s %6zu states in %6llu instructions:", what, states.size(),
              static_cast<unsigned long long>(instructions));
  for (const auto& [finding, count] : found) std::printf(" %d %s;", count, kFindings[finding]);
  std::printf("\n");
}

}  // namespace

int main() {
  const auto managed = [](const char* what, bool with_victim,
                          const std::function<void(Managed&)>& operation) {
    const test::SharedArea area(kBytes);
    const std::span<std::byte> memory{area.data(), area.size()};
    std::size_t free_when_empty = 0;
    {
      Managed empty(bip::create_only, memory.data(), memory.size());
      empty.construct<Said>(kNames[0])();  // the index allocates once, and keeps it
      empty.destroy<Said>(kNames[0]);
      free_when_empty = empty.get_free_memory();
    }
    std::memset(memory.data(), 0, memory.size());
    fill_managed(memory);
    Managed opened(bip::open_only, memory.data(), memory.size());
    if (with_victim) opened.construct<Said>(kVictims)();
    compare(
        what, memory, [&] { operation(opened); },
        [&](std::span<std::byte> bytes) { return judge_managed(bytes, free_when_empty); });
  };
  managed("managed: construct", false, [](Managed& m) { m.construct<Said>(kVictims)(); });
  managed("managed: destroy", true, [](Managed& m) { m.destroy<Said>(kVictims); });

  const auto table = [](const char* what, bool leaves) {
    const test::SharedArea area(kEntries * manager::kRegistryEntryBytes);
    const std::span<std::byte> memory{area.data(), area.size()};
    fill_table(memory);
    compare(
        what, memory,
        [memory, leaves] {
          const auto taken = manager::detail::take_entry(memory, words_of(kVictims));
          if (taken && leaves) manager::detail::leave_entry(memory, *taken);
        },
        judge_table);
  };
  table("table: enroll", false);
  table("table: enroll and leave", true);
}

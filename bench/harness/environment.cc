// SPDX-License-Identifier: Apache-2.0
#include "harness/environment.h"

#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "harness/pattern.h"

#ifndef SLIPRING_BENCH_FLAGS
#define SLIPRING_BENCH_FLAGS "unknown"
#endif

namespace slipring::bench {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// The value behind "name   : value" in a file of such lines.
std::string field_of(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(':');
    if (!line.starts_with(name) || colon == std::string::npos) continue;
    const auto from = line.find_first_not_of(" \t", colon + 1);
    return from == std::string::npos ? "" : line.substr(from);
  }
  return "";
}

std::string caches() {
  std::string text;
  for (int index = 0; index < 8; ++index) {
    const std::string at = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
    const std::string size = first_line(at + "size");
    if (size.empty() || first_line(at + "type") == "Instruction") continue;
    if (!text.empty()) text += ", ";
    text += "L" + first_line(at + "level") + " " + size;
  }
  return text.empty() ? "unknown" : text;
}

std::uint64_t last_level_bytes() {
  std::uint64_t bytes = 0;
  for (int index = 0; index < 8; ++index) {
    const std::string size =
        first_line("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/size");
    if (!size.empty()) bytes = std::stoull(size) << (size.back() == 'M' ? 20 : 10);
  }
  return bytes;
}

std::string joined(const std::vector<int>& numbers) {
  std::string text;
  for (const int number : numbers) text += (text.empty() ? "" : ",") + std::to_string(number);
  return text;
}

bool may_lock(std::size_t bytes, std::string& why) {
  void* const memory =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return false;
  const bool may = ::mlock(memory, bytes) == 0;
  if (!may) why = std::strerror(errno);
  ::munmap(memory, bytes);
  return may;
}

}  // namespace

Environment look_around(const std::string& commit, std::size_t lock_bytes) {
  Environment here;
  utsname os{};
  ::uname(&os);
  const auto cpus = usable_cpus();
  const std::string info = "/proc/cpuinfo";
  here.last_level_bytes = last_level_bytes();
  const std::string governor = first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  const bool is_guest = field_of(info, "flags").find(" hypervisor") != std::string::npos;
  here.facts = {
      {"cpu", field_of(info, "model name")},
      {"cpu_family_model", field_of(info, "cpu family") + "/" + field_of(info, "model")},
      {"cpus", joined(cpus)},
      {"caches", caches()},
      {"virtual", is_guest ? "yes" : "no"},
      {"governor", governor.empty() ? "not shown" : governor},
      {"kernel", std::string(os.sysname) + " " + os.release},
      {"compiler",
#if defined(__clang__)
       "clang++ " __clang_version__
#else
       "g++ " __VERSION__
#endif
      },
      {"flags", SLIPRING_BENCH_FLAGS},
      {"page_bytes", std::to_string(::sysconf(_SC_PAGESIZE))},
      {"huge_pages_of_shared_memory",
       first_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled")},
      {"clock_source",
       first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource")},
      {"wide_stores", wide_name()},
      {"commit", commit.empty() ? "not told" : commit},
  };
  // Given back at once: the mask is what a refusal would leave, too.
  here.may_pin = !cpus.empty() && [&] {
    Run run;
    return run
        .go(Placement::processes,
            {{cpus.front(), [](SideReport& report, Board&, const auto&) { return report.pinned; }}})
        .has_value();
  }();
  if (!here.may_pin) {
    here.notes.emplace_back(
        "not pinned: the kernel refuses sched_setaffinity, so the sides may share a CPU or move; "
        "figures scatter more");
  }
  std::string why;
  here.may_lock = may_lock(lock_bytes, why);
  if (!here.may_lock) {
    here.notes.push_back("not locked: mlock of " + std::to_string(lock_bytes >> 10) + " KiB says " +
                         why +
                         ", so pages may be taken away; ulimit -l, or CAP_IPC_LOCK, allows it");
  }
  if (is_guest) {
    here.notes.emplace_back(
        "a virtual machine: the hypervisor may move and halt its CPUs; figures are ratios to a "
        "calibration of the same round");
  }
  return here;
}

double steal_seconds() {
  std::istringstream line(first_line("/proc/stat"));
  std::string cpu;
  double value = 0;
  line >> cpu;
  for (int field = 0; field < 8 && line >> value; ++field) {
    if (field == 7) return value / static_cast<double>(::sysconf(_SC_CLK_TCK));
  }
  return 0;
}

}  // namespace slipring::bench

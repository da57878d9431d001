// SPDX-License-Identifier: Apache-2.0
#include "slipring/base/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>

#include "slipring/base/fork_guard.h"
#include "slipring/base/hash.h"

namespace slipring {
namespace {

constexpr long kPidfsMagic = 0x50494446;   // linux/magic.h has it from 6.9 on
constexpr unsigned kPidfdThread = O_EXCL;  // PIDFD_THREAD of linux/pidfd.h, from 6.9 on

// Reads a short /proc file whole. Empty when it cannot be read.
std::string_view read_small(const char* path, char* buffer, std::size_t size) noexcept {
  const UniqueFd fd{::open(path, O_RDONLY | O_CLOEXEC)};
  if (!fd) return {};
  const auto got = retry_eintr([&] { return ::read(fd.get(), buffer, size); });
  return got > 0 ? std::string_view(buffer, static_cast<std::size_t>(got)) : std::string_view{};
}

struct ProcStat {
  char state = '?';
  std::uint64_t threads = 0;
  std::uint64_t start_ticks = 0;
};

// Fields of a stat file, counted behind the last ')': a command may contain anything.
std::optional<ProcStat> read_stat_at(const char* path) noexcept {
  char buffer[1024];
  std::string_view text = read_small(path, buffer, sizeof buffer);
  const std::size_t close = text.rfind(')');
  if (close == std::string_view::npos || close + 2 >= text.size()) return std::nullopt;
  text.remove_prefix(close + 2);
  ProcStat stat;
  stat.state = text[0];
  for (int field = 3; !text.empty(); ++field) {
    const std::size_t end = text.find(' ');
    const std::string_view word = text.substr(0, end);
    if (field == 20) std::from_chars(word.begin(), word.end(), stat.threads);
    if (field == 22) {
      std::from_chars(word.begin(), word.end(), stat.start_ticks);
      return stat;
    }
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return std::nullopt;
}

std::optional<ProcStat> read_stat(std::uint32_t pid) noexcept {
  char path[32];
  std::snprintf(path, sizeof path, "/proc/%u/stat", pid);
  return read_stat_at(path);
}

std::optional<ProcStat> read_thread_stat(std::uint32_t pid, std::uint32_t tid) noexcept {
  char path[48];
  std::snprintf(path, sizeof path, "/proc/%u/task/%u/stat", pid, tid);
  return read_stat_at(path);
}

std::uint64_t inode_of(const char* path) noexcept {
  struct stat st {};
  return ::stat(path, &st) == 0 ? st.st_ino : 0;
}

UniqueFd open_pidfd(std::uint32_t pid, unsigned flags = 0) noexcept {
  return UniqueFd{static_cast<int>(::syscall(SYS_pidfd_open, pid, flags))};
}

// The inode that names a process exactly, or 0 where pidfds are not of pidfs.
std::uint64_t pidfs_inode(int fd) noexcept {
  struct statfs fs {};
  struct stat st {};
  if (::fstatfs(fd, &fs) != 0 || fs.f_type != kPidfsMagic) return 0;
  return ::fstat(fd, &st) == 0 ? st.st_ino : 0;
}

bool readable(int fd) noexcept {
  pollfd p{fd, POLLIN, 0};
  return retry_eintr([&] { return ::poll(&p, 1, 0); }) == 1 && (p.revents & POLLIN) != 0;
}

// False in a new pid namespace that still shows its parent's /proc.
bool proc_is_mine() noexcept {
  char link[32] = {};
  const auto n = ::readlink("/proc/self", link, sizeof link - 1);
  if (n <= 0) return false;
  std::uint32_t pid = 0;
  std::from_chars(link, link + n, pid);
  return pid == static_cast<std::uint32_t>(::getpid());
}

ProcessToken make_self_token() noexcept {
  ProcessToken token;
  token.pid = static_cast<std::uint32_t>(::getpid());
  if (proc_is_mine()) {
    if (const auto stat = read_stat(token.pid)) token.start_ticks = stat->start_ticks;
    token.pid_ns = inode_of("/proc/self/ns/pid");
    token.time_ns = inode_of("/proc/self/ns/time");
  }
  char buffer[64];
  std::uint64_t half[2] = {};
  int digits = 0;
  for (const char c : read_small("/proc/sys/kernel/random/boot_id", buffer, sizeof buffer)) {
    std::uint64_t digit = 0;
    if (c >= '0' && c <= '9')
      digit = static_cast<std::uint64_t>(c - '0');
    else if (c >= 'a' && c <= 'f')
      digit = static_cast<std::uint64_t>(c - 'a' + 10);
    else
      continue;
    if (digits < 32) half[digits / 16] = half[digits / 16] << 4 | digit;
    ++digits;
  }
  token.boot_low = half[0];
  token.boot_high = half[1];
  if (const UniqueFd fd = open_pidfd(token.pid)) token.pidfd_ino = pidfs_inode(fd.get());
  const std::string command = command_of(token.pid);
  std::memcpy(token.command, command.data(), std::min(command.size(), sizeof token.command - 1));
  return token;
}

}  // namespace

ProcessToken self_token() noexcept {
  struct Cache {
    std::mutex mutex;
    ProcessToken token;
  };
  static Cache cache;
  // Another thread of the parent may have held the mutex: a child begins anew.
  static const ForkGuard guard(
      &cache, [](void* copy) noexcept { std::construct_at(static_cast<Cache*>(copy)); });
  const std::lock_guard lock(cache.mutex);
  // A child that was not made by fork() inherits the cache; its pid tells.
  if (cache.token.pid != static_cast<std::uint32_t>(::getpid())) cache.token = make_self_token();
  return cache.token;
}

ProcessToken self_thread_token() noexcept {
  ProcessToken token = self_token();
  token.tid = static_cast<std::uint32_t>(::gettid());
  if (token.start_ticks != 0) {  // /proc is ours
    if (const auto stat = read_thread_stat(token.pid, token.tid)) {
      token.thread_start = stat->start_ticks;
    }
  }
  return token;
}

std::uint16_t pid_scope(const ProcessToken& token) noexcept {
  std::uint64_t hash = fnv1a(token.pid_ns, kFnvBasis);
  hash = fnv1a(token.boot_low, hash);
  hash = fnv1a(token.boot_high, hash);
  return static_cast<std::uint16_t>(hash ^ (hash >> 16) ^ (hash >> 32) ^ (hash >> 48));
}

std::string command_of(std::uint32_t pid) {
  char path[32];
  std::snprintf(path, sizeof path, "/proc/%u/comm", pid);
  char buffer[64];
  std::string_view text = read_small(path, buffer, sizeof buffer);
  if (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  return std::string(text);
}

bool is_stopped(std::uint32_t pid) noexcept {
  const auto stat = read_stat(pid);
  return stat && (stat->state == 'T' || stat->state == 't');
}

namespace detail {
namespace {
std::uint64_t checksum(const TokenWords& raw) noexcept {
  std::uint64_t hash = kFnvBasis;
  for (int i = 0; i < 15; ++i) hash = fnv1a(raw.words[i], hash);
  return hash;
}
}  // namespace

TokenWords encode_token(const ProcessToken& token) noexcept {
  TokenWords raw{};
  raw.words[0] = token.pid | static_cast<std::uint64_t>(token.tid) << 32;
  raw.words[1] = token.start_ticks;
  raw.words[2] = token.pid_ns;
  raw.words[3] = token.time_ns;
  raw.words[4] = token.boot_low;
  raw.words[5] = token.boot_high;
  raw.words[6] = token.pidfd_ino;
  raw.words[7] = token.thread_start;
  raw.words[8] = token.generation;
  std::memcpy(&raw.words[9], token.command, sizeof token.command);
  raw.words[15] = checksum(raw);
  return raw;
}

Result<ProcessToken> decode_token(const TokenWords& raw) noexcept {
  if (raw.words[15] != checksum(raw)) return fail(Errc::corrupt, 0, "process token");
  ProcessToken token;
  token.pid = static_cast<std::uint32_t>(raw.words[0]);
  token.tid = static_cast<std::uint32_t>(raw.words[0] >> 32);
  token.start_ticks = raw.words[1];
  token.pid_ns = raw.words[2];
  token.time_ns = raw.words[3];
  token.boot_low = raw.words[4];
  token.boot_high = raw.words[5];
  token.pidfd_ino = raw.words[6];
  token.thread_start = raw.words[7];
  token.generation = static_cast<std::uint32_t>(raw.words[8]);
  std::memcpy(token.command, &raw.words[9], sizeof token.command);
  token.command[sizeof token.command - 1] = '\0';
  return token;
}
}  // namespace detail

Verdict PeerWatch::look() noexcept {
  // A held pidfd is the proof itself: the number cannot have changed its meaning since.
  if (pidfd_) return readable(pidfd_.get()) ? Verdict::dead : look_at_thread();
  const ProcessToken self = self_token();
  const bool knows_boots = (self.boot_low | self.boot_high) != 0 &&  // else /proc is hidden
                           (token_.boot_low | token_.boot_high) != 0;
  if (!knows_boots) return Verdict::unknown;
  if (token_.boot_low != self.boot_low || token_.boot_high != self.boot_high) {
    return Verdict::dead;  // file segments outlive a boot, processes do not
  }
  if (token_.pid_ns == 0 || token_.pid_ns != self.pid_ns || token_.pid == 0) {
    return Verdict::unknown;
  }
  return look_by_number();
}

Verdict PeerWatch::look_by_number() noexcept {
  UniqueFd fd = open_pidfd(token_.pid);
  if (!fd && errno == ESRCH) return Verdict::dead;

  // Identity is asked only now: an open pidfd pins whom the number means.
  if (fd && token_.pidfd_ino != 0) {
    const std::uint64_t inode = pidfs_inode(fd.get());
    if (inode != 0 && inode != token_.pidfd_ino) return Verdict::dead;
  }
  const ProcessToken self = self_token();
  std::optional<ProcStat> stat;
  if (token_.start_ticks != 0 && token_.time_ns == self.time_ns && self.start_ticks != 0) {
    stat = read_stat(token_.pid);
    // Another start time is another process. An equal one is no proof: ticks are 10 ms.
    if (stat && stat->start_ticks != token_.start_ticks) return Verdict::dead;
  }
  if (fd) {
    if (readable(fd.get())) return Verdict::dead;
    pidfd_ = std::move(fd);
    return look_at_thread();
  }
  // No pidfd to be had (seccomp, descriptor limit). A zombie with no other thread is dead; the
  // letter Z alone only says that the leader has ended.
  if (stat && (stat->state == 'Z' || stat->state == 'X') && stat->threads <= 1) {
    return Verdict::dead;
  }
  if (::kill(static_cast<pid_t>(token_.pid), 0) != 0 && errno == ESRCH) return Verdict::dead;
  return look_at_thread();
}

// The process lives, and has its number; does the thread?
Verdict PeerWatch::look_at_thread() noexcept {
  if (token_.tid == 0) return Verdict::alive;
  // SUBTLE: a leader's descriptor keeps silent while its group lives; the others' do not.
  if (thread_fd_) return readable(thread_fd_.get()) ? Verdict::dead : Verdict::alive;
  const auto pid = static_cast<pid_t>(token_.pid);
  const auto tid = static_cast<pid_t>(token_.tid);
  UniqueFd fd;
  if (token_.tid != token_.pid) fd = open_pidfd(token_.tid, kPidfdThread);
  if (::syscall(SYS_tgkill, pid, tid, 0) != 0 && errno == ESRCH) return Verdict::dead;
  const ProcessToken self = self_token();
  std::optional<ProcStat> stat;
  if (self.start_ticks != 0) stat = read_thread_stat(token_.pid, token_.tid);
  if (stat && token_.thread_start != 0 && token_.time_ns == self.time_ns &&
      stat->start_ticks != token_.thread_start) {
    return Verdict::dead;  // the number is another thread's by now
  }
  // Of one thread, other than of a process, the letter is proof.
  if (stat && (stat->state == 'Z' || stat->state == 'X')) return Verdict::dead;
  // Kept once the number is known to be its own: from here on it means no other thread.
  if (stat && fd) thread_fd_ = std::move(fd);
  return Verdict::alive;
}

Verdict look_at_pid(std::uint32_t pid) noexcept {
  if (pid == 0) return Verdict::unknown;
  const UniqueFd fd = open_pidfd(pid);
  if (!fd) return errno == ESRCH ? Verdict::dead : Verdict::alive;
  return readable(fd.get()) ? Verdict::dead : Verdict::alive;
}

}  // namespace slipring

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "slipring/base/result.h"
#include "slipring/base/shared_access.h"
#include "slipring/base/unique_fd.h"

namespace slipring {

/// Who a process is, precisely enough to prove its death and never to believe a stranger with its
/// number (D5). A pid alone is reused; with start time, namespaces, boot and pidfs inode it is not.
struct ProcessToken {
  std::uint32_t pid = 0;
  std::uint32_t tid = 0;           ///< 0: the process, not one of its threads.
  std::uint64_t start_ticks = 0;   ///< /proc/PID/stat field 22; 0 where /proc is not ours.
  std::uint64_t pid_ns = 0;        ///< Inode of the pid namespace; 0 equals nothing.
  std::uint64_t time_ns = 0;       ///< Inode of the time namespace.
  std::uint64_t boot_low = 0;      ///< The kernel's random boot id, first half
  std::uint64_t boot_high = 0;     ///< and second.
  std::uint64_t pidfd_ino = 0;     ///< pidfs inode of the process; 0 before Linux 6.9.
  std::uint64_t thread_start = 0;  ///< Start ticks of `tid`.
  std::uint32_t generation = 0;    ///< Of the role it was stored for.
  char command[16] = {};           ///< /proc/PID/comm when the token was made, for people.
};

/// A ProcessToken in shared memory: 15 words and a checksum over them.
/// One writer: whoever holds the role beside it.
struct SharedToken {
  SharedWord<std::uint64_t> words[16];
};
static_assert(sizeof(SharedToken) == 128);

/// This process. Made once and again after a fork.
/// Threads: any.  Progress: reads /proc on the first call.
[[nodiscard]] ProcessToken self_token() noexcept;

/// This thread of it. What is held under such a token is free once the thread has ended, although
/// the process lives on. Where /proc is not ours, or the kernel tells no thread apart, the proof
/// waits for the end of the process.
/// Threads: any.  Progress: reads /proc.
[[nodiscard]] ProcessToken self_thread_token() noexcept;

/// 16 bits that differ, most likely, between two pid namespaces or two boots: enough to refuse to
/// interpret a foreign pid, never enough to accept one.
[[nodiscard]] std::uint16_t pid_scope(const ProcessToken& token) noexcept;

/// `/proc/PID/comm`, or empty when there is none to read.
[[nodiscard]] std::string command_of(std::uint32_t pid);

/// True while the kernel shows the process as stopped or traced. A stopped process is alive.
[[nodiscard]] bool is_stopped(std::uint32_t pid) noexcept;

namespace detail {
struct TokenWords {
  std::uint64_t words[16];
};
[[nodiscard]] TokenWords encode_token(const ProcessToken& token) noexcept;
[[nodiscard]] Result<ProcessToken> decode_token(const TokenWords& raw) noexcept;
}  // namespace detail

/// Stores `token`. A reader in the middle of it sees a wrong checksum, hence nothing.
template <typename Access = NativeAccess>
void store_token(SharedToken& shared, const ProcessToken& token) noexcept {
  const detail::TokenWords raw = detail::encode_token(token);
  for (int i = 0; i < 16; ++i) Access::store_relaxed(shared.words[i], raw.words[i]);
}

/// Loads a token, each word once.
/// Errors: corrupt  the checksum does not match: half-written, or not a token. Proves nothing.
template <typename Access = NativeAccess>
[[nodiscard]] Result<ProcessToken> load_token(const SharedToken& shared) noexcept {
  detail::TokenWords raw;
  for (int i = 0; i < 16; ++i) raw.words[i] = Access::load_relaxed(shared.words[i]);
  return detail::decode_token(raw);
}

/// What the kernel says of a process. Only `dead` allows anyone to reuse what it held.
enum class Verdict : std::uint8_t {
  alive,    ///< Running, sleeping, stopped or traced.
  dead,     ///< Proved gone: it will never store another byte.
  unknown,  ///< Cannot be told from here, as in a foreign pid namespace. Treated as alive.
};

/// Watches one process through a pidfd, opened at the first look and kept: the descriptor pins the
/// meaning of the number, so later looks cost one poll.
/// Threads:  one at a time.
/// Progress: each look is a bounded number of system calls.
/// Trust:    the token comes from shared memory; a forged one yields a verdict about whatever
///           process it describes, and nothing else.
/// Source:   docs/reliability.md, "Proof of death"; the order of steps decides.
class PeerWatch {
 public:
  explicit PeerWatch(const ProcessToken& token) noexcept : token_(token) {}

  /// May err towards alive or unknown, never towards dead.
  [[nodiscard]] Verdict look() noexcept;
  /// Readable on the death of the process. -1 before the first look and where the kernel gives
  /// none. The end of a thread alone is found by looking.
  [[nodiscard]] int fd() const noexcept { return pidfd_.get(); }
  [[nodiscard]] const ProcessToken& token() const noexcept { return token_; }

 private:
  [[nodiscard]] Verdict look_by_number() noexcept;
  [[nodiscard]] Verdict look_at_thread() noexcept;

  ProcessToken token_;
  UniqueFd pidfd_;
  UniqueFd thread_fd_;  // of token_.tid, where the kernel has such descriptors
};

/// The verdict about a bare pid of our own namespace and boot, when no token can be had. Knows
/// nothing of reuse, so it errs towards alive.
[[nodiscard]] Verdict look_at_pid(std::uint32_t pid) noexcept;

}  // namespace slipring

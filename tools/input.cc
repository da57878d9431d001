// SPDX-License-Identifier: Apache-2.0
#include "input.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "stop.h"

namespace slipring::tools {

Try<Input> Input::open(const std::string& path, bool stdin_was_closed) {
  const bool is_stdin = path == "-";
  const std::string label = is_stdin ? "standard input" : printable(path);
  if (is_stdin && stdin_was_closed) {
    errno = EBADF;
    return failed_call("cannot read standard input", "read", "it was closed before we started",
                       "slipring send NAME FILE, or slipring send NAME <FILE");
  }
  Input input(UniqueFd(is_stdin ? ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                                : ::open(path.c_str(), O_RDONLY | O_CLOEXEC)),
              label);
  if (!input.fd_) {
    return failed_call(fmt::format("cannot read {}", label), "open", "",
                       fmt::format("ls -l {}; nothing was made or sent", label));
  }
  struct stat st {};
  if (::fstat(input.fd_.get(), &st) != 0) {
    return failed_call(fmt::format("cannot read {}", label), "fstat", "", "ls -l " + label);
  }
  if (S_ISDIR(st.st_mode)) {
    errno = EISDIR;
    return failed_call(fmt::format("cannot read {}", label), "open", "it is a directory",
                       fmt::format("tar c {} | slipring send NAME", label));
  }
  input.is_regular_ = S_ISREG(st.st_mode);
  if (input.is_regular_) {
    const off_t at = ::lseek(input.fd_.get(), 0, SEEK_CUR);
    // Files of /proc say 0 and have something: those are read like a pipe.
    if (st.st_size > 0 && at >= 0) {
      input.size_ = static_cast<std::uint64_t>(std::max<off_t>(st.st_size - at, 0));
    }
    static_cast<void>(::posix_fadvise(input.fd_.get(), 0, 0, POSIX_FADV_SEQUENTIAL));
  }
  return input;
}

bool Input::is_readable(std::chrono::milliseconds limit) const noexcept {
  pollfd poll{fd_.get(), POLLIN, 0};
  return ::poll(&poll, 1, static_cast<int>(limit.count())) > 0;
}

Input::State Input::look_ahead() noexcept {
  const ssize_t n = ::read(fd_.get(), ahead_.data(), ahead_.size());
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return State::nothing_yet;
  ahead_errno_ = n < 0 ? errno : 0;
  ahead_begin_ = 0;
  ahead_end_ = n > 0 ? static_cast<std::size_t>(n) : 0;
  return n == 0 ? State::end : State::ready;
}

Input::State Input::wait(std::chrono::milliseconds limit) noexcept {
  if (ahead_begin_ < ahead_end_ || (size_ && taken_ < *size_)) return State::ready;
  if (size_) {
    // It may have grown meanwhile; a look costs less than a claim given up.
    struct stat st {};
    const off_t at = ::lseek(fd_.get(), 0, SEEK_CUR);
    const bool more = ::fstat(fd_.get(), &st) == 0 && at >= 0 && st.st_size > at;
    return more ? State::ready : State::end;
  }
  available_.reset();
  if (!is_readable(limit)) return State::nothing_yet;
  int available = 0;
  const bool tells = !is_regular_ && ::ioctl(fd_.get(), FIONREAD, &available) == 0;
  if (!tells || available == 0) return look_ahead();  // nothing: the end, or an error
  available_ = static_cast<std::uint64_t>(available);
  return State::ready;
}

Try<std::size_t> Input::read(std::span<std::byte> room) {
  std::size_t filled = std::min(room.size(), ahead_end_ - ahead_begin_);
  if (filled != 0) std::memcpy(room.data(), ahead_.data() + ahead_begin_, filled);
  ahead_begin_ += filled;
  // Behind what was read ahead, only what comes at once.
  const bool goes_on = filled == 0 || is_regular_ || is_readable(std::chrono::milliseconds(0));
  while (goes_on && filled < room.size()) {
    ssize_t n = -1;
    errno = std::exchange(ahead_errno_, 0);
    if (errno == 0) n = ::read(fd_.get(), room.data() + filled, room.size() - filled);
    if (n < 0 && errno == EINTR && stop_signal() == 0) continue;
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) break;
    if (n < 0) {
      return failed_call(fmt::format("cannot read {}", label_), "read", "",
                         "what was read before was sent; check the file, then send it again");
    }
    if (n == 0) break;
    filled += static_cast<std::size_t>(n);
    if (!is_regular_) break;
  }
  taken_ += filled;
  return filled;
}

}  // namespace slipring::tools

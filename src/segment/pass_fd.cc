// SPDX-License-Identifier: Apache-2.0
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstring>

#include "slipring/segment/segment.h"

namespace slipring::segment {
namespace {

// Room for more than the one we want: the kernel closes what does not fit, and we want to see it.
constexpr std::size_t kMaxReceived = 8;

}  // namespace

Result<void> send_fd(int unix_socket, int fd) noexcept {
  char byte = 'F';
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  if (retry_eintr([&] { return ::sendmsg(unix_socket, &message, MSG_NOSIGNAL); }) == 1) return {};
  if (errno == EAGAIN) return fail(Errc::full, errno, "sendmsg");
  if (errno == EPIPE || errno == ECONNRESET) return fail(Errc::closed, errno, "sendmsg");
  return fail_errno("sendmsg");
}

Result<UniqueFd> receive_fd(int unix_socket) noexcept {
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxReceived * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const auto got = retry_eintr([&] { return ::recvmsg(unix_socket, &message, MSG_CMSG_CLOEXEC); });
  if (got < 0 && errno == EAGAIN) return fail(Errc::empty, errno, "recvmsg");
  if (got < 0 && errno == ECONNRESET) return fail(Errc::closed, errno, "recvmsg");
  if (got < 0) return fail_errno("recvmsg");
  UniqueFd received[kMaxReceived];  // all of them are closed unless exactly one came
  std::size_t count = 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t fds = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < fds && count < kMaxReceived; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      received[count++] = UniqueFd{fd};
    }
  }
  if (got == 0 && count == 0) return fail(Errc::closed, 0, "recvmsg");
  if ((message.msg_flags & MSG_CTRUNC) != 0) return fail(Errc::bad_format, 0, "receive: truncated");
  if (count != 1) return fail(Errc::bad_format, 0, "receive: not one descriptor");
  return std::move(received[0]);
}

}  // namespace slipring::segment

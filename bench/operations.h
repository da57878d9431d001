// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "slipring/channel/shm.h"

namespace slipring::bench {

/// Both ends of a ring in one thread: what an operation costs its caller, without a peer.
/// Each function is one operation, and is found by its name in a profile.
class Operations {
 public:
  static std::optional<Operations> make() {
    channel::ShmOptions options;
    options.kind = segment::Backend::memfd;
    auto made = channel::create_unnamed_ring(options);
    if (!made) return std::nullopt;
    auto mapped =
        segment::Segment::from_fd(UniqueFd(::dup(made->fd())), segment::OpenMode::read_write);
    if (!mapped) return std::nullopt;
    auto tx = channel::ShmSender::attach(std::move(*made), options);
    auto rx = channel::ShmReceiver::attach(std::move(*mapped), options);
    if (!tx || !rx) return std::nullopt;
    return Operations(std::move(*tx), std::move(*rx));
  }

  /// Fills the first 8 bytes alone: the payload is not what is counted.
  template <std::size_t N>
  [[gnu::noinline]] bool claim_commit() {
    auto claim = tx_.try_claim(N);
    if (!claim) return false;
    *reinterpret_cast<std::uint64_t*>(claim->payload().data()) = ++number_;
    claim->commit();
    return true;
  }
  template <std::size_t N>
  [[gnu::noinline]] bool send() {
    return tx_.try_send(std::span<const std::byte>(bytes_).first<N>()).has_value();
  }
  [[gnu::noinline]] bool peek_release() {
    auto message = rx_.try_peek();
    if (!message) return false;
    seen_ += message->bytes().size();
    return true;
  }
  [[gnu::noinline]] bool peek_nothing() { return !rx_.try_peek(); }
  [[gnu::noinline]] bool send_group() {
    auto group = tx_.group();
    if (!group) return false;
    for (int i = 0; i < 32; ++i) {
      if (!group->try_send(std::span<const std::byte>(bytes_).first<8>())) return false;
    }
    group->commit();
    return true;
  }
  [[gnu::noinline]] bool peek_group() {
    ring::Record records[32];
    const auto found = rx_.peek_many(records);
    if (!found) return false;
    rx_.release(records[*found - 1]);
    return *found == 32;
  }

 private:
  Operations(channel::ShmSender tx, channel::ShmReceiver rx)
      : tx_(std::move(tx)), rx_(std::move(rx)) {}

  channel::ShmSender tx_;
  channel::ShmReceiver rx_;
  std::byte bytes_[256] = {};
  std::uint64_t number_ = 0, seen_ = 0;
};

}  // namespace slipring::bench

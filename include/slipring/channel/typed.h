// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <new>
#include <string_view>
#include <utility>

#include "slipring/channel/schema.h"
#include "slipring/channel/shm.h"

namespace slipring {

/// How a lane is made and waited on; see channel/shm_options.h for each field.
using Options = channel::ShmOptions;
using WaitStrategy = wait::WaitStrategy;

/// Room for one T in the ring. Dropped without commit(): nothing becomes visible.
template <typename T>
class TypedClaim {
 public:
  explicit TypedClaim(channel::ShmClaim claim) noexcept
      // Starts the lifetime of a T in the claimed bytes; trivial, so nothing is stored.
      : claim_(std::move(claim)), value_(::new (static_cast<void*>(claim_.payload().data())) T) {}
  /// Indeterminate until assigned.
  [[nodiscard]] T& value() noexcept { return *value_; }
  void commit() noexcept { claim_.commit(sizeof(T)); }
  void abort() noexcept { claim_.abort(); }

 private:
  channel::ShmClaim claim_;
  T* value_;
};

/// One received T, in place; released at the end of its scope.
template <typename T>
class TypedMessage {
 public:
  explicit TypedMessage(channel::ShmMessage message) noexcept : message_(std::move(message)) {}
  [[nodiscard]] const T& value() const noexcept {
    return *std::launder(reinterpret_cast<const T*>(message_.bytes().data()));
  }
  const T& operator*() const noexcept { return value(); }
  const T* operator->() const noexcept { return &value(); }
  [[nodiscard]] bool redelivered() const noexcept { return message_.redelivered(); }
  void release() noexcept { message_.release(); }

 private:
  channel::ShmMessage message_;
};

/// Sends values of a trivially copyable type. Size, alignment and a fingerprint of T are stored in
/// the lane and compared at attach: two builds that disagree do not talk past each other.
/// Threads, Progress, Crash: as channel::ShmSender.
/// Errors:  type_mismatch  the lane carries another type; for the rest see channel::ShmSender.
template <typename T>
class Sender {
  static constexpr channel::Schema kSchema = channel::schema_of<T>();
  static constexpr bool kOwnLine = alignof(T) > 8;

 public:
  [[nodiscard]] static Result<Sender> open(std::string_view name, Options options = {}) {
    return over(channel::ShmSender::open(name, with_schema(options)));
  }
  [[nodiscard]] static Result<Sender> create(std::string_view name, Options options = {}) {
    return over(channel::ShmSender::create(name, with_schema(options)));
  }
  [[nodiscard]] static Result<Sender> open_or_create(std::string_view name, Options options = {}) {
    return over(channel::ShmSender::open_or_create(name, with_schema(options)));
  }
  [[nodiscard]] static Result<Sender> attach(segment::Segment segment, Options options = {}) {
    return over(channel::ShmSender::attach(std::move(segment), with_schema(options)));
  }

  [[nodiscard]] Result<TypedClaim<T>> try_claim() noexcept {
    return typed(bytes_.try_claim(sizeof(T), kOwnLine));
  }
  [[nodiscard]] Result<TypedClaim<T>> claim(Deadline deadline = Deadline::never()) noexcept {
    return typed(bytes_.claim(sizeof(T), deadline, kOwnLine));
  }
  [[nodiscard]] Result<void> try_send(const T& value) noexcept { return put(try_claim(), value); }
  /// Waits while the ring is full.
  [[nodiscard]] Result<void> send(const T& value, Deadline deadline = Deadline::never()) noexcept {
    return put(claim(deadline), value);
  }
  channel::ShmLink::Left close() noexcept { return bytes_.close(); }
  [[nodiscard]] channel::ShmSender& bytes() noexcept { return bytes_; }

 private:
  explicit Sender(channel::ShmSender bytes) noexcept : bytes_(std::move(bytes)) {}
  static Options with_schema(Options options) {
    options.schema = kSchema;
    return options;
  }
  static Result<Sender> over(Result<channel::ShmSender> bytes) {
    if (!bytes) return tl::unexpected(bytes.error());
    return Sender(std::move(*bytes));
  }
  static Result<TypedClaim<T>> typed(Result<channel::ShmClaim> claim) noexcept {
    if (!claim) [[unlikely]]
      return tl::unexpected(claim.error());
    return TypedClaim<T>(std::move(*claim));
  }
  static Result<void> put(Result<TypedClaim<T>> claim, const T& value) noexcept {
    if (!claim) [[unlikely]]
      return tl::unexpected(claim.error());
    claim->value() = value;
    claim->commit();
    return {};
  }

  channel::ShmSender bytes_;
};

/// Receives what a Sender<T> sends.
/// Trust:   the type was compared at attach; a record of another size is `corrupt`.
/// Threads, Progress, End: as channel::ShmReceiver.
template <typename T>
class Receiver {
  static constexpr channel::Schema kSchema = channel::schema_of<T>();

 public:
  [[nodiscard]] static Result<Receiver> open(std::string_view name, Options options = {}) {
    return over(channel::ShmReceiver::open(name, with_schema(options)));
  }
  [[nodiscard]] static Result<Receiver> create(std::string_view name, Options options = {}) {
    return over(channel::ShmReceiver::create(name, with_schema(options)));
  }
  [[nodiscard]] static Result<Receiver> open_or_create(std::string_view name,
                                                       Options options = {}) {
    return over(channel::ShmReceiver::open_or_create(name, with_schema(options)));
  }
  [[nodiscard]] static Result<Receiver> attach(segment::Segment segment, Options options = {}) {
    return over(channel::ShmReceiver::attach(std::move(segment), with_schema(options)));
  }

  [[nodiscard]] Result<TypedMessage<T>> try_peek() noexcept { return typed(bytes_.try_peek()); }
  [[nodiscard]] Result<TypedMessage<T>> peek(Deadline deadline = Deadline::never()) noexcept {
    return typed(bytes_.peek(deadline));
  }
  /// Calls `handle(const T&)` for each message until the end; returns why it ended: `closed`,
  /// `peer_dead` or `corrupt`. Room is given back by batch.
  template <typename Handle>
  Error for_each(Handle&& handle) {
    ring::Record batch[64];
    for (;;) {
      const auto found = bytes_.peek_many(batch);
      if (!found) return found.error();
      for (std::size_t i = 0; i < *found; ++i) {
        if (!fits(batch[i].payload)) return Error{Errc::corrupt, 0, "lane: size of a record"};
        handle(*std::launder(reinterpret_cast<const T*>(batch[i].payload.data())));
      }
      bytes_.release(batch[*found - 1]);
    }
  }
  channel::ShmLink::Left close() noexcept { return bytes_.close(); }
  [[nodiscard]] channel::ShmReceiver& bytes() noexcept { return bytes_; }

 private:
  explicit Receiver(channel::ShmReceiver bytes) noexcept : bytes_(std::move(bytes)) {}
  static Options with_schema(Options options) {
    options.schema = kSchema;
    return options;
  }
  static Result<Receiver> over(Result<channel::ShmReceiver> bytes) {
    if (!bytes) return tl::unexpected(bytes.error());
    return Receiver(std::move(*bytes));
  }
  static bool fits(std::span<const std::byte> payload) noexcept {
    return payload.size() == sizeof(T) &&
           is_aligned(reinterpret_cast<std::uintptr_t>(payload.data()), alignof(T));
  }
  static Result<TypedMessage<T>> typed(Result<channel::ShmMessage> message) noexcept {
    if (!message) [[unlikely]]
      return tl::unexpected(message.error());
    if (!fits(message->bytes())) [[unlikely]] {
      message->keep();
      return fail(Errc::corrupt, 0, "lane: size of a record");
    }
    return TypedMessage<T>(std::move(*message));
  }

  channel::ShmReceiver bytes_;
};

}  // namespace slipring

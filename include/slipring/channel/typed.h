// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <new>
#include <span>
#include <string_view>
#include <utility>

#include "slipring/base/shared_access.h"
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
  /// For senders.
  TypedClaim(channel::SenderState* state, std::span<std::byte> payload) noexcept
      : claim_(state, payload), value_(::new (static_cast<void*>(payload.data())) T) {}
  /// Indeterminate until assigned.
  [[nodiscard]] T& value() noexcept { return *value_; }
  void commit() noexcept { claim_.commit(sizeof(T)); }
  void abort() noexcept { claim_.abort(); }

 private:
  channel::ShmClaim claim_;
  T* value_;
};

/// One received T, in place; released at the end of its scope. Of a run, all of it is given back
/// with its last one.
template <typename T>
class TypedMessage {
 public:
  explicit TypedMessage(channel::ShmMessage message) noexcept : message_(std::move(message)) {}
  /// For receivers.
  TypedMessage(channel::ReceiverState* state, const ring::Record& record) noexcept
      : message_(state, record) {}
  /// For receivers: the T at `offset` bytes of a run.
  TypedMessage(channel::ShmMessage message, std::size_t offset) noexcept
      : message_(std::move(message)), offset_(offset) {}
  TypedMessage(TypedMessage&&) noexcept = default;
  TypedMessage& operator=(TypedMessage&&) = delete;
  ~TypedMessage() { release(); }

  [[nodiscard]] const T& value() const noexcept {
    return *std::launder(reinterpret_cast<const T*>(message_.bytes().data() + offset_));
  }
  const T& operator*() const noexcept { return value(); }
  const T* operator->() const noexcept { return &value(); }
  [[nodiscard]] bool redelivered() const noexcept { return message_.redelivered(); }
  void release() noexcept {
    if (message_.bytes().size() == sizeof(T)) [[likely]]
      message_.release();
    else
      message_.release_to(offset_ + sizeof(T));
  }

 private:
  channel::ShmMessage message_;
  std::size_t offset_ = 0;
};

/// Several T that were sent as one run, in place; released together at the end of its scope.
template <typename T>
class TypedRun {
 public:
  TypedRun(channel::ShmMessage message, std::size_t offset) noexcept
      : message_(std::move(message)), offset_(offset) {}
  TypedRun(TypedRun&&) noexcept = default;
  TypedRun& operator=(TypedRun&&) = delete;
  ~TypedRun() { release(); }

  /// At least one.
  [[nodiscard]] std::span<const T> values() const noexcept {
    const auto bytes = message_.bytes().subspan(offset_);
    return {std::launder(reinterpret_cast<const T*>(bytes.data())), bytes.size() / sizeof(T)};
  }
  [[nodiscard]] bool redelivered() const noexcept { return message_.redelivered(); }
  void release() noexcept { message_.release_to(message_.bytes().size()); }

 private:
  channel::ShmMessage message_;
  std::size_t offset_;
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
    if (std::byte* const payload = bytes_.claim_plain(sizeof(T), kOwnLine)) [[likely]]
      return in_place(payload);
    return typed(bytes_.try_claim_slowly(sizeof(T), kOwnLine));
  }
  [[nodiscard]] Result<TypedClaim<T>> claim(Deadline deadline = Deadline::never()) noexcept {
    if (std::byte* const payload = bytes_.claim_plain(sizeof(T), kOwnLine)) [[likely]]
      return in_place(payload);
    return typed(bytes_.claim_slowly(sizeof(T), deadline, kOwnLine));
  }
  [[nodiscard]] Result<void> try_send(const T& value) noexcept {
    if constexpr (kOwnLine) {
      return put(try_claim(), value);
    } else {
      return bytes_.try_send(std::as_bytes(std::span(&value, 1)));
    }
  }
  /// Waits while the ring is full.
  [[nodiscard]] Result<void> send(const T& value, Deadline deadline = Deadline::never()) noexcept {
    if constexpr (kOwnLine) {
      return put(claim(deadline), value);
    } else {
      return bytes_.send(std::as_bytes(std::span(&value, 1)), deadline);
    }
  }
  /// Sends `values` as one run: one header for all, visible together or not at all. Counts as one
  /// message. Of small T the fastest way by far: 8 bytes of header for each are half the ring.
  /// Errors: as send(); invalid_argument  no value; too_large  more than bytes().max_payload().
  [[nodiscard]] Result<void> try_send_run(std::span<const T> values) noexcept {
    return put_run(values, Deadline::now(), false);
  }
  [[nodiscard]] Result<void> send_run(std::span<const T> values,
                                      Deadline deadline = Deadline::never()) noexcept {
    return put_run(values, deadline, true);
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
  Result<TypedClaim<T>> in_place(std::byte* payload) noexcept {
    return Result<TypedClaim<T>>(tl::in_place, bytes_.state_.get(), std::span(payload, sizeof(T)));
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

  Result<void> put_run(std::span<const T> values, Deadline deadline, bool wait) noexcept {
    if (values.empty()) return fail(Errc::invalid_argument, 0, "send_run: no value");
    const auto bytes = std::as_bytes(values);
    if constexpr (!kOwnLine) {
      return wait ? bytes_.send(bytes, deadline) : bytes_.try_send(bytes);
    } else {
      auto claim =
          wait ? bytes_.claim(bytes.size(), deadline, true) : bytes_.try_claim(bytes.size(), true);
      if (!claim) return tl::unexpected(claim.error());
      NativeAccess::copy_in(claim->payload().data(), bytes.data(), bytes.size());
      claim->commit();
      return {};
    }
  }

  channel::ShmSender bytes_;
};

/// Receives what a Sender<T> sends.
/// Trust:   the type was compared at attach; a record that is no whole number of T is `corrupt`.
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

  [[nodiscard]] Result<TypedMessage<T>> try_peek() noexcept {
    ring::Record record;
    if (bytes_.peek_plain(record) && fits(record.payload)) [[likely]]
      return bytes_.template message_of<TypedMessage<T>>(record);
    return typed(bytes_.try_peek_closely());
  }
  [[nodiscard]] Result<TypedMessage<T>> peek(Deadline deadline = Deadline::never()) noexcept {
    ring::Record record;
    if (bytes_.peek_plain(record) && fits(record.payload)) [[likely]]
      return bytes_.template message_of<TypedMessage<T>>(record);
    return typed(bytes_.peek_slowly(deadline));
  }
  /// A whole run, or what is left of it when peek() took some; a T that was sent alone is a run of
  /// one.
  [[nodiscard]] Result<TypedRun<T>> try_peek_run() noexcept { return run(bytes_.try_peek()); }
  [[nodiscard]] Result<TypedRun<T>> peek_run(Deadline deadline = Deadline::never()) noexcept {
    return run(bytes_.peek(deadline));
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
        const std::span<const std::byte> payload = batch[i].payload;
        if (!is_run(payload)) return Error{Errc::corrupt, 0, "lane: size of a record"};
        for (std::size_t at = std::exchange(bytes_.released_of_first(), 0); at < payload.size();
             at += sizeof(T)) {
          handle(*std::launder(reinterpret_cast<const T*>(payload.data() + at)));
        }
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
  static bool is_run(std::span<const std::byte> payload) noexcept {
    return !payload.empty() && payload.size() % sizeof(T) == 0 &&
           is_aligned(reinterpret_cast<std::uintptr_t>(payload.data()), alignof(T));
  }
  // What is not one plain T: the end, another kind, a run.
  [[gnu::noinline]] Result<TypedMessage<T>> typed(Result<channel::ShmMessage> message) noexcept {
    if (!message) return tl::unexpected(message.error());
    if (!is_run(message->bytes())) {
      message->keep();
      return fail(Errc::corrupt, 0, "lane: size of a record");
    }
    return TypedMessage<T>(std::move(*message), bytes_.released_of_first());
  }
  Result<TypedRun<T>> run(Result<channel::ShmMessage> message) noexcept {
    if (!message) return tl::unexpected(message.error());
    if (!is_run(message->bytes())) {
      message->keep();
      return fail(Errc::corrupt, 0, "lane: size of a record");
    }
    return TypedRun<T>(std::move(*message), bytes_.released_of_first());
  }

  channel::ShmReceiver bytes_;
};

}  // namespace slipring

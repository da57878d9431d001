// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "slipring/base/error.h"
#include "slipring/channel/shm_link.h"
#include "slipring/channel/shm_options.h"

namespace slipring {

/// What was attempted, and on what: all that a text about a failure can know beyond the Error.
struct Subject {
  // Implicit, so that explain(error, "md.btc") reads as it should.
  Subject(std::string_view of) : name(of) {}  // NOLINT(google-explicit-constructor)
  Subject(const char* of) : name(of) {}       // NOLINT(google-explicit-constructor)
  Subject(std::string_view of, std::string_view attempted) : name(of), action(attempted) {}

  std::string name;             ///< As the user wrote it; it is escaped before it is shown.
  std::string action = "open";  ///< Follows "cannot": "create", "send to", ..
  /// The command that the fix shows, without the name.
  std::string command = "slipring create";
  channel::ShmOptions options;      ///< As asked for: kind, capacity, schema, places.
  std::optional<channel::End> end;  ///< The end that was wanted or held, if any.
  std::uint64_t record_bytes = 0;   ///< The record that did not fit; 0: not about one.
  std::uint64_t message_bytes = 0;  ///< The most that a message may have; 0: not about one.
};

/// Three lines for people: what failed, why on this host, and the command that helps.
struct Explanation {
  Errc code = Errc::system;
  std::string what;  ///< Ends in the code: "(no_space: posix_fallocate, ENOSPC)".
  std::string why;
  std::string fix;

  /// "what\n     why: ..\n     fix: ..", lined up under a "slipring: " in front. No newline at the
  /// end.
  [[nodiscard]] std::string text() const;
};

/// Says what an error means, from one table keyed by code and operation (docs/errors.md). It may
/// look at the object again, read-only: who holds the lane, what it carries, how much room is left.
/// So it tells the state of now, which may be newer than the error.
/// Threads:  any. Progress: cold; allocates and makes a bounded number of system calls.
/// Trust:    what comes from a segment is shown escaped.
[[nodiscard]] Explanation explain(const Error& error, const Subject& subject);

/// `text` with all but printable ASCII written as \xNN, fit for a terminal and a log line.
[[nodiscard]] std::string printable(std::string_view text);

/// Bytes in binary units with one letter and at most three digits: 512, 64K, 2.3K, 1G.
[[nodiscard]] std::string human_bytes(std::uint64_t bytes);

}  // namespace slipring

// SPDX-License-Identifier: Apache-2.0
#include "slipring/segment/header.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "slipring/base/align.h"
#include "slipring/base/hash.h"

namespace slipring::segment {
namespace {

// Only words that decide whether the others can be understood at all.
Result<void> check_language(const HeaderWords& header, OpenMode mode) {
  if (header.magic != kMagic) return fail(Errc::bad_format, 0, "header: magic");
  if (header.canary != kCanary) return fail(Errc::bad_format, 0, "header: byte order");
  if (header.format_version != kFormatVersion) return fail(Errc::bad_format, 0, "header: version");
  if (header.header_bytes != kHeaderBytes) return fail(Errc::bad_format, 0, "header: header bytes");
  if ((header.incompat & ~kKnownIncompat) != 0) {
    return fail(Errc::bad_format, 0, "header: incompat");
  }
  if ((header.ro_compat & ~kKnownRoCompat) != 0 && mode != OpenMode::read_only) {
    return fail(Errc::not_supported, 0, "header: ro_compat");
  }
  return {};
}

Result<void> check_geometry(const HeaderWords& header, std::uint64_t object_bytes) {
  if (header.page_bytes != static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))) {
    return fail(Errc::bad_format, 0, "header: page size");
  }
  // TRUST S2: subtractions that cannot wrap, never sums that can.
  if (header.body_offset != kHeaderBytes || header.total_bytes < kHeaderBytes ||
      header.body_bytes == 0 || header.body_bytes > header.total_bytes - kHeaderBytes ||
      (header.huge_page_bytes != 0 && !is_power_of_two(header.huge_page_bytes))) {
    return fail(Errc::bad_format, 0, "header: geometry");
  }
  if (object_bytes < header.total_bytes) return fail(Errc::bad_format, 0, "header: truncated");
  if (object_bytes > header.total_bytes) return fail(Errc::bad_format, 0, "header: size");
  return {};
}

Result<std::string> check_name(const HeaderWords& header) {
  if (header.name_bytes == 0) return std::string();
  if (header.name_bytes > kMaxNameBytes) return fail(Errc::bad_format, 0, "header: name");
  char bytes[sizeof header.name];
  std::memcpy(bytes, header.name, sizeof bytes);
  const std::string_view text(bytes, header.name_bytes);
  // A leading '/' would parse, but is never stored.
  const Result<Name> name = Name::parse(text);
  if (!name || name->str() != text) return fail(Errc::bad_format, 0, "header: name");
  return name->str();
}

}  // namespace

std::string_view to_string(Backend backend) noexcept {
  switch (backend) {
    case Backend::posix: return "posix";
    case Backend::sysv: return "sysv";
    case Backend::memfd: return "memfd";
    case Backend::file: return "file";
  }
  return "unknown";
}

Result<Backend> parse_backend(std::string_view text) noexcept {
  for (const Backend b : {Backend::posix, Backend::sysv, Backend::memfd, Backend::file}) {
    if (to_string(b) == text) return b;
  }
  return fail(Errc::invalid_argument, 0, "backend");
}

std::string to_string(const InstanceId& id) {
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(id.high),
                static_cast<unsigned long long>(id.low));
  return text;
}

std::uint64_t header_checksum(const HeaderWords& header) noexcept {
  std::uint64_t words[kHeaderBytes / 8];
  std::memcpy(words, &header, sizeof words);
  std::uint64_t hash = kFnvBasis;
  for (std::uint64_t i = 1; i < detail::kUsedWords; ++i) {
    if (i != offsetof(HeaderWords, checksum) / 8) hash = fnv1a(words[i], hash);
  }
  return hash;
}

HeaderWords encode_header(const HeaderInfo& info) noexcept {
  HeaderWords header{};
  header.magic = kMagic;
  header.canary = kCanary;
  header.format_version = info.format_version;
  header.header_bytes = kHeaderBytes;
  header.compat = info.compat;
  header.ro_compat = info.ro_compat;
  header.incompat = info.incompat;
  header.content = info.content;
  header.fingerprint = info.fingerprint;
  header.instance_high = info.instance.high;
  header.instance_low = info.instance.low;
  header.total_bytes = info.total_bytes;
  header.body_offset = info.body_offset;
  header.body_bytes = info.body_bytes;
  header.page_bytes = info.page_bytes;
  header.huge_page_bytes = info.huge_page_bytes;
  header.backend = static_cast<std::uint64_t>(info.backend);
  header.flags = info.keep ? kFlagKeep : 0;
  header.mode = info.mode;
  header.created_ns = static_cast<std::uint64_t>(info.created_ns);
  header.name_bytes = std::min(info.name.size(), sizeof header.name);
  std::memcpy(header.name, info.name.data(), header.name_bytes);
  const slipring::detail::TokenWords creator = slipring::detail::encode_token(info.creator);
  std::memcpy(header.creator, creator.words, sizeof header.creator);
  header.checksum = header_checksum(header);
  return header;
}

Result<HeaderInfo> check_header(const HeaderWords& header, std::uint64_t object_bytes,
                                OpenMode mode, const Expect& expect) {
  if (object_bytes < kHeaderBytes) return fail(Errc::bad_format, 0, "header: truncated");
  if (auto ok = check_language(header, mode); !ok) return tl::unexpected(ok.error());
  if (auto ok = check_geometry(header, object_bytes); !ok) return tl::unexpected(ok.error());
  if (header.backend < 1 || header.backend > 4) {
    return fail(Errc::bad_format, 0, "header: backend");
  }
  if ((header.flags & ~kFlagKeep) != 0) return fail(Errc::bad_format, 0, "header: flags");
  if ((header.mode & ~std::uint64_t{0777}) != 0) return fail(Errc::bad_format, 0, "header: mode");
  Result<std::string> name = check_name(header);
  if (!name) return tl::unexpected(name.error());
  // S3. Last of the tests of soundness, so that the ones above can be more precise.
  if (header.checksum != header_checksum(header))
    return fail(Errc::bad_format, 0, "header: checksum");
  slipring::detail::TokenWords token;
  std::memcpy(token.words, header.creator, sizeof token.words);
  const Result<ProcessToken> creator = slipring::detail::decode_token(token);
  if (!creator) return fail(Errc::bad_format, 0, "header: creator");

  if (expect.content != 0 && header.content != expect.content) {
    return fail(Errc::bad_format, 0, "header: content");
  }
  if (expect.fingerprint != 0 && header.fingerprint != expect.fingerprint) {
    return fail(Errc::type_mismatch, 0, "header: fingerprint");
  }
  HeaderInfo info;
  info.format_version = header.format_version;
  info.compat = header.compat;
  info.ro_compat = header.ro_compat;
  info.incompat = header.incompat;
  info.content = header.content;
  info.fingerprint = header.fingerprint;
  info.instance = {header.instance_high, header.instance_low};
  info.total_bytes = header.total_bytes;
  info.body_offset = header.body_offset;
  info.body_bytes = header.body_bytes;
  info.page_bytes = header.page_bytes;
  info.huge_page_bytes = header.huge_page_bytes;
  info.backend = static_cast<Backend>(header.backend);
  info.keep = (header.flags & kFlagKeep) != 0;
  info.mode = static_cast<mode_t>(header.mode);
  info.created_ns = static_cast<std::int64_t>(header.created_ns);
  info.creator = *creator;
  info.name = std::move(*name);
  return info;
}

}  // namespace slipring::segment

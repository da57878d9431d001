// SPDX-License-Identifier: Apache-2.0
#include "selector.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fnmatch.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>

#include "ring_flags.h"
#include "slipring/base/unique_fd.h"

namespace slipring::tools {
namespace {

// Hexadecimal behind 0x, otherwise decimal. Nothing else behind it.
std::optional<unsigned> number(std::string_view text) {
  const bool hex = text.starts_with("0x") || text.starts_with("0X");
  if (hex) text.remove_prefix(2);
  unsigned value = 0;
  const auto [end, bad] =
      std::from_chars(text.data(), text.data() + text.size(), value, hex ? 16 : 10);
  if (bad != std::errc{} || text.empty() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<int> id_of_key(key_t key) {
  const auto segment = segment::Segment::open_sysv_key(key, segment::OpenMode::read_only);
  return segment ? segment->sysv_id() : std::nullopt;
}

// TRUST: the number may be of anything. Only a regular file is opened: opening a device or a FIFO
// can do something.
Result<segment::Segment> open_descriptor(int pid, int fd, segment::OpenMode mode) {
  const std::string path = fmt::format("/proc/{}/fd/{}", pid, fd);
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return fail_errno("open descriptor");
  if (!S_ISREG(st.st_mode)) return fail(Errc::bad_format, 0, "header: magic");
  const int access = mode == segment::OpenMode::read_only ? O_RDONLY : O_RDWR;
  UniqueFd opened{::open(path.c_str(), access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)};
  if (!opened) return fail_errno("open descriptor");
  return segment::Segment::from_fd(std::move(opened), mode);
}

}  // namespace

Try<Selector> parse_selector(const std::string& text, const Subject& subject, bool globs) {
  Selector selector;
  selector.text = text;
  std::string_view rest = text;
  if (rest.starts_with("sysv:") || rest.starts_with("sysv-id:")) {
    const bool by_key = rest.starts_with("sysv:");
    const auto value = number(rest.substr(rest.find(':') + 1));
    if (!value || (by_key && *value == 0) || (!by_key && *value > 0x7fffffff)) {
      return usage(fmt::format("cannot {} {}: that is no System V {}", subject.action,
                               printable(text), by_key ? "key" : "id"),
                   "a segment is named by its key in hexadecimal, or by its id",
                   "ipcs -m shows both: sysv:0x5eed, sysv-id:98307");
    }
    selector.by = by_key ? Selector::By::sysv_key : Selector::By::sysv_id;
    selector.key = static_cast<key_t>(*value);
    selector.sysv_id = static_cast<int>(*value);
    return selector;
  }
  if (rest.starts_with("fd:")) {
    rest.remove_prefix(3);
    const std::size_t slash = std::min(rest.find('/'), rest.size());
    const auto pid = number(rest.substr(0, slash));
    const auto fd = number(rest.substr(std::min(slash + 1, rest.size())));
    if (!pid || !fd || *pid == 0 || *pid > 0x7fffffff || *fd > 0x7fffffff) {
      return usage(fmt::format("cannot {} {}: that is no descriptor of a process", subject.action,
                               printable(text)),
                   "a memfd is named by a process that has it, and its number there",
                   "slipring ls shows them, as fd:4101/7");
    }
    selector.by = Selector::By::descriptor;
    selector.pid = static_cast<int>(*pid);
    selector.fd = static_cast<int>(*fd);
    return selector;
  }
  if (rest.starts_with("shm:")) rest.remove_prefix(4);
  if (globs && rest.find_first_of("*?[") != rest.npos) {
    selector.by = Selector::By::glob;
    if (rest.starts_with('/')) rest.remove_prefix(1);
    selector.name = rest;
    return selector;
  }
  const auto name = segment::Name::parse(rest);
  if (!name) return failed(name.error(), subject);
  selector.name = name->str();
  return selector;
}

bool matches(const Selector& selector, const segment::Listing& listing) {
  switch (selector.by) {
    case Selector::By::name: return listing.name == selector.name;
    case Selector::By::glob:
      // A System V segment without a name here is no match of '*': it may be anybody's.
      return !listing.name.empty() &&
             ::fnmatch(selector.name.c_str(), listing.name.c_str(), 0) == 0;
    case Selector::By::sysv_id: return listing.sysv_id == selector.sysv_id;
    case Selector::By::sysv_key:
      return listing.sysv_id && id_of_key(selector.key) == listing.sysv_id;
    case Selector::By::descriptor: break;  // not in any list: looked at directly
  }
  return false;
}

Result<segment::Segment> open_selected(const Selector& selector, segment::OpenMode mode) {
  switch (selector.by) {
    case Selector::By::sysv_id: return segment::Segment::open_sysv_id(selector.sysv_id, mode);
    case Selector::By::sysv_key: return segment::Segment::open_sysv_key(selector.key, mode);
    case Selector::By::descriptor: return open_descriptor(selector.pid, selector.fd, mode);
    default: break;
  }
  const auto name = segment::Name::parse(selector.name);
  if (!name) return tl::unexpected(name.error());
  return segment::Segment::open(*name, mode, {}, places());
}

Result<segment::Segment> open_listed(const segment::Listing& listing, segment::OpenMode mode) {
  if (!listing.info) return tl::unexpected(listing.info.error());
  auto opened = [&]() -> Result<segment::Segment> {
    // By name where there is one: only then does the segment know the link that leads to it.
    if (listing.name.empty() && listing.sysv_id) {
      return segment::Segment::open_sysv_id(*listing.sysv_id, mode);
    }
    const auto name = segment::Name::parse(listing.name);
    if (!name) return tl::unexpected(name.error());
    return segment::Segment::open(*name, mode, {}, places());
  }();
  if (opened && opened->info().instance != listing.info->instance) {
    return fail(Errc::not_found, 0, "unlink: another instance");
  }
  return opened;
}

std::string label_of(const segment::Listing& listing) {
  if (!listing.name.empty()) return listing.name;
  return listing.sysv_id ? "sysv-id:" + std::to_string(*listing.sysv_id) : listing.where;
}

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
#include "slipring/channel/explain.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "explain_table.h"
#include "slipring/channel/inspect.h"
#include "slipring/segment/segment.h"

namespace slipring {
namespace channel {
namespace {

using Peer = RoleWatch::Peer;

std::string user_name(uid_t uid) {
  const passwd* entry = ::getpwuid(uid);
  return entry != nullptr ? entry->pw_name : "uid " + std::to_string(uid);
}

/// Looks things up when a text asks for them, the object at most once.
class Facts {
 public:
  Facts(const Error& error, const Subject& subject) : error_(error), subject_(subject) {}

  [[nodiscard]] std::string operator[](std::string_view fact);

 private:
  [[nodiscard]] const RingView* ring_view();
  [[nodiscard]] std::string where();
  [[nodiscard]] std::string raw_path() const;
  [[nodiscard]] std::uint64_t raw_word(std::size_t offset) const;
  [[nodiscard]] std::string object_fact(std::string_view fact);
  [[nodiscard]] std::string host_fact(std::string_view fact) const;
  [[nodiscard]] std::string ring_fact(std::string_view fact);
  [[nodiscard]] std::string request_fact(std::string_view fact);
  [[nodiscard]] std::string attached();
  [[nodiscard]] std::string peer_state();
  [[nodiscard]] std::string capacity_fault() const;
  [[nodiscard]] static std::string who(const EndView& end);
  [[nodiscard]] static std::string senders_text(const RingView& view);
  [[nodiscard]] const EndView* holder();

  const Error& error_;
  const Subject& subject_;
  bool looked_ = false;
  std::optional<RingView> view_;
  std::string where_;
};

std::string Facts::who(const EndView& end) {
  if (end.pid == 0) return "somebody";
  std::string command = end.command.empty() ? command_of(end.pid) : end.command;
  return printable(command.empty() ? "pid" : command) + "(" + std::to_string(end.pid) + ")";
}

const RingView* Facts::ring_view() {
  if (!looked_) {
    looked_ = true;
    const auto name = segment::Name::parse(subject_.name);
    if (!name) return nullptr;
    const auto segment =
        segment::Segment::open(*name, segment::OpenMode::read_only, {}, subject_.options.places);
    if (segment) {
      where_ = segment->where();
      if (auto view = inspect(*segment)) view_ = std::move(*view);
    }
  }
  return view_ ? &*view_ : nullptr;
}

// Where an object lies that could not be opened: the first place that has something.
std::string Facts::raw_path() const {
  const auto name = segment::Name::parse(subject_.name);
  if (!name) return {};
  const segment::Places& places = subject_.options.places;
  for (const std::string& path :
       {places.shm + "/" + name->str(), places.files + "/" + name->str() + ".ring",
        places.files + "/" + name->str() + ".sysv"}) {
    struct stat st {};
    if (::lstat(path.c_str(), &st) == 0) return path;
  }
  return {};
}

std::string Facts::where() {
  static_cast<void>(ring_view());
  if (!where_.empty()) return where_;
  const std::string path = raw_path();
  return path.empty() ? "it" : path;
}

std::uint64_t Facts::raw_word(std::size_t offset) const {
  std::uint64_t word = 0;
  const UniqueFd fd{::open(raw_path().c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)};
  if (!fd || ::pread(fd.get(), &word, sizeof word, static_cast<off_t>(offset)) != sizeof word) {
    return 0;
  }
  return word;
}

std::string Facts::attached() {
  const RingView* view = ring_view();
  if (view == nullptr) return "who uses it cannot be told";
  const bool sends = view->sender().state == Peer::alive;
  const bool receives = view->consumer.state == Peer::alive;
  if (sends && receives) {
    return who(view->sender()) + " sends and " + who(view->consumer) + " receives";
  }
  if (sends) return who(view->sender()) + " is attached";
  if (receives) return who(view->consumer) + " is attached";
  return "nobody is attached";
}

std::string Facts::peer_state() {
  const RingView* view = ring_view();
  if (view == nullptr) return "the other side cannot be seen";
  const bool we_send = subject_.end != End::consumer;
  const EndView& peer = we_send ? view->consumer : view->sender();
  const std::string verb = we_send ? "receives" : "sends";
  const std::string role = we_send ? "receiver " : "sender ";
  switch (peer.state) {
    case Peer::never_came: return "nobody " + verb + " yet";
    case Peer::alive:
      if (peer.stopped) return "the " + role + who(peer) + " is stopped (SIGSTOP or a debugger)";
      return "the " + role + who(peer) + " is alive, but slower";
    case Peer::dead: return "the " + role + who(peer) + " died";
    case Peer::left:
    case Peer::retired: return "the " + role + who(peer) + " left, and no other came";
  }
  return {};
}

// The first few of those who hold a place: "feed(4101), log(4102) and 62 more".
std::string Facts::senders_text(const RingView& view) {
  constexpr std::size_t kShown = 4;
  std::string text;
  std::size_t named = 0, living = 0;
  for (const SenderView& sender : view.senders) {
    if (sender.end.state != Peer::alive) continue;
    ++living;
    if (named == kShown) continue;
    text += (named++ == 0 ? "" : ", ") + who(sender.end);
    if (sender.end.stopped) text += ":stopped";
  }
  if (living > named) text += " and " + std::to_string(living - named) + " more";
  if (text.empty()) return "one has left since: try again";
  return text + (living == 1 ? " holds it, and is alive" : " hold them, and are alive");
}

const EndView* Facts::holder() {
  const RingView* view = ring_view();
  if (view == nullptr) return nullptr;
  return subject_.end == End::consumer ? &view->consumer : &view->sender();
}

std::string Facts::capacity_fault() const {
  const std::uint64_t capacity = subject_.options.capacity;
  if (capacity == 0) return "holds nothing";
  if (capacity < ring::kMinCapacity) return "is too small";
  if (capacity > ring::kMaxCapacity) return "is too large";
  return "is not a power of two";
}

std::string next_capacity(std::uint64_t wanted) {
  if (wanted == 0) return human_bytes(ring::kDefaultCapacity);
  if (wanted >= ring::kMaxCapacity) return human_bytes(ring::kMaxCapacity);
  return human_bytes(std::max(std::bit_ceil(wanted), ring::kMinCapacity));
}

std::string type_text(std::uint64_t fingerprint, std::uint32_t size, std::uint32_t align) {
  if (fingerprint == 0 && size == 0) return "bytes";
  char text[80];
  std::snprintf(text, sizeof text, "records of %u bytes, align %u (%08x)", size, align,
                static_cast<unsigned>(fingerprint >> 32));
  return text;
}

std::string Facts::request_fact(std::string_view fact) {
  const ShmOptions& options = subject_.options;
  if (fact == "capacity") return human_bytes(options.capacity);
  if (fact == "capacity_fault") return capacity_fault();
  if (fact == "next_capacity") return next_capacity(options.capacity);
  if (fact == "need") return human_bytes(segment_bytes(options).value_or(options.capacity));
  if (fact == "smaller") {
    if (options.form == RingForm::per_producer) return "fewer --senders, a smaller --capacity";
    return options.pool ? "a smaller --pool" : "a smaller --capacity";
  }
  const std::uint64_t most = subject_.message_bytes;
  if (fact == "message_limit") return most == 0 ? "the limit" : human_bytes(most);
  if (fact == "more_message") return most == 0 ? "64M" : human_bytes(most * 4);
  if (fact == "node") return std::to_string(options.numa_node);
  if (fact == "senders") return std::to_string(options.senders);
  if (fact == "record") return human_bytes(subject_.record_bytes);
  if (fact == "want_mode") {
    char text[16];
    std::snprintf(text, sizeof text, "0%o", static_cast<unsigned>(options.mode));
    return text;
  }
  if (fact == "want_type") {
    return type_text(options.schema.fingerprint, options.schema.size, options.schema.align);
  }
  if (fact == "not_found_fix") {
    const bool is_glob = subject_.name.find_first_of("*?[:") != std::string::npos;
    std::string fix = "slipring ls shows what is there";
    if (subject_.action != "remove" && !is_glob) {
      fix += "; slipring create " + printable(subject_.name) + " makes it";
    }
    return fix;
  }
  if (fact == "safe_name") {
    std::string safe;
    for (const char c : subject_.name) {
      const bool fine = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                        (c >= 'A' && c <= 'Z') || c == '.' || c == '_' || c == '-';
      if (fine) safe += c;
      if (c == '/' && !safe.empty()) safe += '.';
    }
    while (!safe.empty() && safe.front() == '.') safe.erase(0, 1);
    return safe.empty() ? "ticks" : safe.substr(0, segment::kMaxNameBytes);
  }
  return {};
}

std::string Facts::host_fact(std::string_view fact) const {
  const ShmOptions& options = subject_.options;
  const bool is_file = options.kind == segment::Backend::file;
  if (fact == "place") return is_file ? options.places.files : options.places.shm;
  if (fact == "files") return options.places.files;
  if (fact == "user") return user_name(::geteuid());
  if (fact == "free" || fact == "total" || fact == "container") {
    const auto room = segment::room_for(options.kind, options.places);
    if (!room) return fact == "container" ? "" : "?";
    if (fact == "container") {
      const bool is_default =
          options.kind == segment::Backend::posix && room->total_bytes == std::uint64_t{64} << 20;
      return is_default ? ", the default of a container (docker run --shm-size=1g)" : "";
    }
    return human_bytes(fact == "free" ? room->free_bytes : room->total_bytes);
  }
  if (fact == "memlock") {
    rlimit limit{};
    if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return "none";
    return human_bytes(limit.rlim_cur);
  }
  if (fact == "huge_sizes") {
    std::string sizes;
    std::error_code ignored;
    for (const auto& entry :
         std::filesystem::directory_iterator("/sys/kernel/mm/hugepages", ignored)) {
      std::uint64_t kilobytes = 0;
      if (std::sscanf(entry.path().filename().c_str(), "hugepages-%lukB", &kilobytes) != 1)
        continue;
      sizes += (sizes.empty() ? "" : ", ") + human_bytes(kilobytes << 10);
    }
    return sizes.empty() ? "none" : sizes;
  }
  return {};
}

std::string Facts::object_fact(std::string_view fact) {
  if (fact == "where") return printable(where());
  if (fact == "found_version") return std::to_string(raw_word(0x10));
  if (fact == "our_version") return std::to_string(segment::kFormatVersion);
  if (fact == "owner" || fact == "mode" || fact == "object_bytes" || fact == "truncated_fix") {
    struct stat st {};
    const std::string path = raw_path();
    const bool found = !path.empty() && ::lstat(path.c_str(), &st) == 0;
    if (fact == "truncated_fix") {
      // Without a magic it may be anybody's file, and rm would refuse it.
      return raw_word(0) == segment::kMagic || path.ends_with(".ring")
                 ? "slipring rm -f " + printable(subject_.name)
                 : "use another name; slipring ls shows ours";
    }
    if (!found) return fact == "owner" ? "somebody else" : "?";
    if (fact == "owner") return user_name(st.st_uid);
    if (fact == "object_bytes") return std::to_string(st.st_size);
    char text[16];
    std::snprintf(text, sizeof text, "0%o", st.st_mode & 07777u);
    return text;
  }
  if (fact == "sysv_state") {
    char text[48] = "no key was given";
    if (subject_.options.sysv_key) {
      std::snprintf(text, sizeof text, "key 0x%x belongs to an existing segment",
                    static_cast<unsigned>(*subject_.options.sysv_key));
    }
    return text;
  }
  return {};
}

std::string Facts::ring_fact(std::string_view fact) {
  if (fact == "attached") return attached();
  if (fact == "peer_state") return peer_state();
  const bool we_send = subject_.end != End::consumer;
  const std::string name = printable(subject_.name);
  if (fact == "peer_fix") return (we_send ? "slipring recv " : "slipring send ") + name;
  if (fact == "waited_for") return we_send ? "no room was made" : "nothing came";
  if (fact == "one_at_a_time") {
    return we_send ? "this ring has one sender at a time" : "a ring has one receiver at a time";
  }
  if (fact == "or_many") {
    return we_send ? "; one for many senders: slipring create NEW --ring mpsc" : "";
  }
  if (fact == "holds") return we_send ? "sends" : "receives";

  const RingView* view = ring_view();
  if (fact == "producer") return view != nullptr ? " " + who(view->sender()) : "";
  if (fact == "consumer") return view != nullptr ? " " + who(view->consumer) : "";
  if (fact == "unread_state") {
    if (view == nullptr || view->backlog_bytes == 0) return "what was sent before waits in it";
    return human_bytes(view->backlog_bytes) + " wait in it for the next receiver";
  }
  if (fact == "held_type") {
    if (view == nullptr) return "another type";
    return type_text(view->shape.schema.fingerprint, view->shape.schema.size,
                     view->shape.schema.align);
  }
  const std::uint64_t capacity = view != nullptr ? view->shape.capacity : subject_.options.capacity;
  if (fact == "held_capacity") return human_bytes(capacity);
  if (fact == "max_record") {
    return human_bytes(view != nullptr ? view->shape.max_payload : capacity / 4);
  }
  if (fact == "record_fix") {
    if (subject_.record_bytes > ring::kMaxCapacity / 4) {
      return "slipring send " + name + " --record " + human_bytes(capacity / 4);
    }
    const std::string fitting = next_capacity(subject_.record_bytes * 4);
    return view != nullptr ? "a lane with more: slipring create NEW --capacity " + fitting
                           : "slipring send " + name + " --capacity " + fitting;
  }
  if (fact == "places") return view != nullptr ? std::to_string(view->shape.senders) : "its";
  if (fact == "holders")
    return view != nullptr ? senders_text(*view) : "who they are cannot be seen";
  if (fact == "more_places") {
    const std::uint64_t more = view != nullptr ? std::uint64_t{view->shape.senders} * 4 : 256;
    return std::to_string(std::min<std::uint64_t>(more, ring::kMaxOwners));
  }
  const EndView* held = holder();
  if (fact == "holder") return held != nullptr ? who(*held) : "somebody";
  if (fact == "holder_state") {
    if (held == nullptr || held->state != Peer::alive) return "it has left since: try again";
    return held->stopped ? "it is stopped, which is not dead" : "it is alive";
  }
  if (fact == "holder_fix") {
    if (held == nullptr || held->pid == 0) return "try again";
    return "stop it: kill " + std::to_string(held->pid);
  }
  return {};
}

std::string Facts::operator[](std::string_view fact) {
  if (fact == "name") return subject_.name.empty() ? "\"\"" : printable(subject_.name);
  if (fact == "action") return subject_.action;
  if (fact == "command") return subject_.command;
  if (fact == "op") return error_.op;
  if (fact == "strerror") {
    return error_.sys != 0 ? ::strerrordesc_np(error_.sys) : "no system call failed";
  }
  if (std::string text = request_fact(fact); !text.empty()) return text;
  if (std::string text = host_fact(fact); !text.empty()) return text;
  if (std::string text = object_fact(fact); !text.empty()) return text;
  return ring_fact(fact);
}

std::string expand(std::string_view text, Facts& facts) {
  std::string out;
  while (!text.empty()) {
    const std::size_t open = text.find('{');
    out += text.substr(0, open);
    if (open == text.npos) break;
    const std::size_t close = text.find('}', open);
    out += facts[text.substr(open + 1, close - open - 1)];
    text.remove_prefix(close + 1);
  }
  return out;
}

// "(no_space: posix_fallocate, ENOSPC)": the system call is named where one failed.
std::string tag_of(const Error& error) {
  std::string tag = "(" + std::string(to_string(error.code));
  // Of a name that is not there, or is, the call says nothing new.
  const bool is_plain = error.code == Errc::not_found || error.code == Errc::exists;
  if (error.sys != 0 && !is_plain) {
    const char* name = ::strerrorname_np(error.sys);
    tag += std::string(": ") + error.op + ", " +
           (name != nullptr ? name : "errno " + std::to_string(error.sys));
  }
  return tag + ")";
}

const Reason& reason_for(const Error& error) {
  const std::string_view op = error.op;
  for (const Reason& reason : kReasons) {
    if (reason.code == error.code && op.starts_with(reason.op)) return reason;
  }
  return kReasons[std::size(kReasons) - 1];
}

}  // namespace
}  // namespace channel

Explanation explain(const Error& error, const Subject& subject) {
  channel::Facts facts(error, subject);
  const channel::Reason& reason = channel::reason_for(error);
  Explanation text;
  text.code = error.code;
  text.what = "cannot " + subject.action + " " + facts["name"] + ": " +
              channel::expand(reason.detail, facts) + " " + channel::tag_of(error);
  text.why = channel::expand(reason.why, facts);
  text.fix = channel::expand(reason.fix, facts);
  return text;
}

std::string Explanation::text() const { return what + "\n     why: " + why + "\n     fix: " + fix; }

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c >= ' ' && c <= '~' && c != '\\') {
      out += c;
      continue;
    }
    char hex[8];
    std::snprintf(hex, sizeof hex, "\\x%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
    out += hex;
  }
  return out;
}

std::string human_bytes(std::uint64_t bytes) {
  static constexpr std::array kUnits = {"", "K", "M", "G", "T", "P", "E"};
  std::size_t unit = 0;
  auto value = static_cast<double>(bytes);
  while (value >= 1000 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  // One digit behind the point below ten, unless it is a zero.
  const auto tenths = static_cast<long>(value * 10 + 0.5);
  const bool whole = tenths >= 100 || tenths % 10 == 0;
  std::snprintf(text, sizeof text, whole ? "%.0f%s" : "%.1f%s", value, kUnits[unit]);
  return text;
}

}  // namespace slipring

// SPDX-License-Identifier: Apache-2.0
#include "ring_flags.h"

#include <fmt/format.h>
#include <grp.h>

#include <algorithm>
#include <bit>
#include <charconv>

#include "sizes.h"
#include "slipring/ring/mpsc_layout.h"

namespace slipring::tools {
namespace {

std::optional<unsigned long> number(std::string_view text, int base) {
  unsigned long value = 0;
  const auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (bad != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

Try<gid_t> group_id(const std::string& name, const std::string& command) {
  if (const group* entry = ::getgrnam(name.c_str())) return entry->gr_gid;
  if (const auto gid = number(name, 10)) return static_cast<gid_t>(*gid);
  return usage(fmt::format("unknown group '{}' for --group", printable(name)),
               "neither a group of this machine nor a number",
               command + " NAME --mode 0660 --group GROUP, where id -Gn shows your groups");
}

Try<key_t> sysv_key(const std::string& text, const std::string& command) {
  const bool hex = text.starts_with("0x") || text.starts_with("0X");
  const auto key = number(std::string_view(text).substr(hex ? 2 : 0), hex ? 16 : 10);
  if (key && *key != 0 && *key <= 0xffffffff) return static_cast<key_t>(*key);
  return usage(fmt::format("bad key '{}' for --sysv-key", printable(text)),
               "a System V key is a number from 1 to 0xffffffff",
               command + " NAME --kind sysv --sysv-key 0x5eed");
}

Try<wait::BellKind> bell_kind(const std::string& text, const std::string& command) {
  const auto bell = wait::parse_bell_kind(text);
  if (bell && !wait::has_fd(*bell)) return *bell;
  return usage(fmt::format("bad doorbell '{}' for --bell", printable(text)),
               bell ? "it needs a descriptor or a pid that a name does not carry"
                    : "known are futex, posix_sem, sysv_sem and condvar",
               command + " NAME --bell futex");
}

Try<segment::Backend> kind(const std::string& text, const std::string& command) {
  const auto backend = segment::parse_backend(text);
  if (backend && *backend != segment::Backend::memfd) return *backend;
  return usage(fmt::format("bad kind '{}' for --kind", printable(text)),
               backend ? "a memfd has no name: it is handed over by the program that made it"
                       : "known are posix, sysv and file",
               command + " NAME --kind posix");
}

Try<channel::RingForm> form(const RingFlags& flags, const std::string& command) {
  const bool many = flags.ring == "mpsc";
  if (!flags.ring.empty() && !many && flags.ring != "spsc" && flags.ring != "lane") {
    return usage(fmt::format("bad ring '{}' for --ring", printable(flags.ring)),
                 "known are spsc (one sender) and mpsc (many)", command + " NAME --ring mpsc");
  }
  if (!many && !(flags.order.empty() && flags.senders.empty())) {
    const bool of_order = !flags.order.empty();
    return usage(fmt::format("{} needs --ring mpsc", of_order ? "--order" : "--senders"),
                 "a ring of one sender has one order and one place for it",
                 fmt::format("{} NAME --ring mpsc{}", command,
                             flags.order == "total" ? " --order total" : ""));
  }
  if (!many) return channel::RingForm::lane;
  if (flags.order.empty() || flags.order == "producer") return channel::RingForm::per_producer;
  if (flags.order == "total") return channel::RingForm::total;
  return usage(fmt::format("bad order '{}' for --order", printable(flags.order)),
               "known are producer (a lane for each) and total (that of claims)",
               command + " NAME --ring mpsc --order total");
}

// "4K:64,1M:4"
Try<pool::PoolSpec> pool_spec(const std::string& text, const std::string& command) {
  pool::PoolSpec spec;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    const std::string part = text.substr(at, comma - at);
    at = comma + 1;
    const std::size_t colon = std::min(part.find(':'), part.size());
    const std::uint64_t bytes = parse_size(part.substr(0, colon)).value_or(0);
    const unsigned long count =
        number(std::string_view(part).substr(std::min(colon + 1, part.size())), 10).value_or(0);
    const auto bad = [&](std::string why) {
      return usage(fmt::format("bad blocks '{}' for --pool", printable(part)), std::move(why),
                   command + " NAME --pool 64K:32");
    };
    // A size is not rounded up in silence: as a capacity, it is a power of two or wrong.
    if (!std::has_single_bit(bytes) || bytes < pool::kMinBlockBytes ||
        bytes > pool::kMaxBlockBytes || count == 0 || count > pool::kMaxBlocksPerClass) {
      return bad(
          fmt::format("blocks are SIZE:COUNT; a size is a power of two from 256 to 1M, a "
                      "count at most {}",
                      pool::kMaxBlocksPerClass));
    }
    if (spec.counts[pool::class_for(bytes)] != 0) return bad("blocks of that size are given twice");
    spec.with(bytes, static_cast<std::uint32_t>(count));
  }
  return spec;
}

}  // namespace

Globals& globals() noexcept {
  static Globals globals;
  return globals;
}

segment::Places places() {
  segment::Places places = segment::Places::standard();
  if (!globals().root.empty()) places.shm = globals().root;
  return places;
}

void add_ring_flags(CLI::App& app, RingFlags& flags, bool all) {
  const std::string group = "A ring that is made";
  app.add_option("--kind", flags.kind, "posix (default), sysv or file")
      ->type_name("KIND")
      ->group(group);
  app.add_option("--ring", flags.ring, "spsc (default): one sender; mpsc: many")
      ->type_name("FORM")
      ->group(group);
  app.add_option("--order", flags.order, "of mpsc: producer (default), a lane each; or total")
      ->type_name("ORDER")
      ->group(group);
  app.add_option("--senders", flags.senders, "of mpsc: how many at a time (default 64)")
      ->type_name("N")
      ->group(group);
  app.add_option("--capacity", flags.capacity,
                 "a power of two, 4K to 1G (default 256K; mpsc: 64K a lane)")
      ->type_name("SIZE")
      ->group(group);
  app.add_option("--pool", flags.pool, "blocks for large messages, as in 64K:32 or 4K:64,1M:4")
      ->type_name("BLOCKS")
      ->group(group);
  if (all) {
    app.add_option("--granule", flags.granule, "records start at multiples: 8 (default), 16, 64")
        ->type_name("BYTES")
        ->group(group);
    app.add_option("--bell", flags.bell, "futex (default), posix_sem, sysv_sem or condvar")
        ->type_name("BELL")
        ->group(group);
    app.add_option("--mode", flags.mode, "permissions (default 0600)")
        ->type_name("OCTAL")
        ->group(group);
    app.add_option("--group", flags.group, "who shares it, with --mode 0660")
        ->type_name("GROUP")
        ->group(group);
    app.add_option("--huge", flags.huge, "size of huge pages, as in 2M")
        ->type_name("SIZE")
        ->group(group);
    app.add_option("--numa", flags.numa, "node that the memory lies on")
        ->type_name("NODE")
        ->group(group);
    app.add_option("--sysv-key", flags.sysv_key, "with --kind sysv: a key that others know")
        ->type_name("KEY")
        ->group(group);
    app.add_flag("--lock", flags.lock, "keep the creator's mapping in memory (mlock)")
        ->group(group);
    app.add_flag("--no-prefault", flags.no_prefault, "reserve the room, but do not touch it yet")
        ->group(group);
  } else {
    app.add_option("--wait", flags.wait, "adaptive (default), spin or park")
        ->type_name("HOW")
        ->envname("SLIPRING_WAIT");
  }
}

Try<std::optional<std::uint64_t>> size_flag(const std::string& text, const std::string& option,
                                            const std::string& command) {
  if (text.empty()) return std::nullopt;
  if (const auto size = parse_size(text)) return size;
  return usage(fmt::format("bad size '{}' for {}", printable(text), option),
               "a size is whole bytes or a number with K, M or G (binary)",
               fmt::format("{} NAME {} 64K", command, option));
}

Try<std::optional<std::chrono::nanoseconds>> duration_flag(const std::string& text,
                                                           const std::string& option,
                                                           const std::string& command) {
  if (text.empty()) return std::nullopt;
  if (const auto time = parse_duration(text)) return time;
  return usage(fmt::format("bad time '{}' for {}", printable(text), option),
               "a time is a number with its unit: ns, us, ms, s, m or h",
               fmt::format("{} NAME {} 5ms", command, option));
}

Try<std::uint64_t> count_flag(const std::string& text, const std::string& option,
                              const std::string& command) {
  if (text.empty()) return 0;
  if (const auto count = number(text, 10); count && *count != 0) return *count;
  return usage(fmt::format("bad number '{}' for {}", printable(text), option),
               "it says how many, from 1", fmt::format("{} NAME {} 10", command, option));
}

Try<channel::ShmOptions> shm_options(const RingFlags& flags, const std::string& command) {
  channel::ShmOptions options;
  options.places = places();
  if (!flags.kind.empty()) {
    const auto parsed = kind(flags.kind, command);
    if (!parsed) return tl::unexpected(parsed.error());
    options.kind = *parsed;
  }
  const auto ring_form = form(flags, command);
  if (!ring_form) return tl::unexpected(ring_form.error());
  options.form = *ring_form;
  if (options.form == channel::RingForm::per_producer)
    options.capacity = ring::kDefaultLaneCapacity;
  if (!flags.senders.empty()) {
    const auto senders = number(flags.senders, 10);
    // What a form takes at most is the library's to say; zero and beyond 32 bits nobody takes.
    if (!senders || *senders == 0 || *senders > 0xffffffff) {
      return usage(fmt::format("bad number '{}' for --senders", printable(flags.senders)),
                   "it says how many may send at a time, from 1",
                   command + " NAME --ring mpsc --senders 64");
    }
    options.senders = static_cast<std::uint32_t>(*senders);
  }
  if (!flags.pool.empty()) {
    const auto pool = pool_spec(flags.pool, command);
    if (!pool) return tl::unexpected(pool.error());
    options.pool = *pool;
  }
  const auto capacity = size_flag(flags.capacity, "--capacity", command);
  if (!capacity) return tl::unexpected(capacity.error());
  if (*capacity) options.capacity = **capacity;
  const auto granule = size_flag(flags.granule, "--granule", command);
  if (!granule) return tl::unexpected(granule.error());
  // A granule beyond 32 bits is as wrong as any other unknown one.
  if (*granule)
    options.granule = static_cast<std::uint32_t>(std::min<std::uint64_t>(**granule, 1u << 31));
  if (!flags.bell.empty()) {
    const auto bell = bell_kind(flags.bell, command);
    if (!bell) return tl::unexpected(bell.error());
    options.bell = *bell;
  }
  if (!flags.mode.empty()) {
    const auto mode = number(flags.mode, 8);
    if (!mode || *mode > 07777) {
      return usage(fmt::format("bad mode '{}' for --mode", printable(flags.mode)),
                   "a mode is octal, as chmod takes it", command + " NAME --mode 0600");
    }
    options.mode = static_cast<mode_t>(*mode);
  }
  if (!flags.group.empty()) {
    const auto gid = group_id(flags.group, command);
    if (!gid) return tl::unexpected(gid.error());
    options.group = *gid;
  }
  const auto huge = size_flag(flags.huge, "--huge", command);
  if (!huge) return tl::unexpected(huge.error());
  if (*huge) options.huge_page_bytes = **huge;
  if (!flags.sysv_key.empty()) {
    const auto key = sysv_key(flags.sysv_key, command);
    if (!key) return tl::unexpected(key.error());
    options.sysv_key = *key;
  }
  if (!flags.wait.empty()) {
    const auto wait = wait::WaitStrategy::parse(flags.wait);
    if (!wait) {
      return usage(fmt::format("bad wait '{}' for --wait", printable(flags.wait)),
                   "known are spin, adaptive and park", command + " NAME --wait park");
    }
    options.wait = *wait;
  }
  options.numa_node = flags.numa;
  options.lock = flags.lock;
  options.prefault = !flags.no_prefault;
  return options;
}

}  // namespace slipring::tools

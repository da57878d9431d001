// SPDX-License-Identifier: Apache-2.0
// What `slipring stat` says of a ring.
#include "describe.h"

#include <fmt/format.h>

#include <algorithm>

#include "sizes.h"
#include "slipring/base/deadline.h"

namespace slipring::tools {
namespace {

using Peer = RoleWatch::Peer;

std::string label(const char* text) {
  return fmt::format("{}{:<11}{}", voice().color_out ? "\x1b[2m" : "", text,
                     voice().color_out ? "\x1b[0m" : "");
}

double percent(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

std::string doing(const channel::EndView& end, bool sends) {
  switch (end.state) {
    case Peer::never_came: return "-                nobody yet";
    case Peer::left:
      return fmt::format("-                {} left in order",
                         end.command.empty() ? "the last one" : printable(end.command));
    case Peer::retired: return "-                the segment is being removed";
    default: break;
  }
  std::string text = fmt::format("{:<16} ", holder_text(end));
  if (end.state == Peer::dead) return text + "dead: the kernel reports it gone";
  if (end.stopped) return text + "stopped by a signal or a debugger; alive all the same";
  if (!end.parked) return text + "alive, running";
  const std::string since = end.parked_since_ns > 0
                                ? " since " + human_duration(monotonic_ns() - end.parked_since_ns)
                                : "";
  return text + (sends ? "alive, waits for room" : "alive, waits for records") + since;
}

const channel::SenderView* sender_at(const channel::RingView& view, std::uint32_t index) {
  const auto found = std::ranges::find_if(
      view.senders, [=](const channel::SenderView& sender) { return sender.index == index; });
  return found == view.senders.end() ? nullptr : &*found;
}

std::string hint_of(const channel::RingView& view, const std::string& name) {
  if (view.blocker) {
    const channel::SenderView* owner = sender_at(view, view.blocker->sender);
    if (owner != nullptr && owner->end.stopped) {
      return fmt::format("all wait for the open claim of {}: kill -CONT {}",
                         holder_text(owner->end), owner->end.pid);
    }
  }
  for (const channel::SenderView& sender : view.senders) {
    if (sender.end.stopped) return fmt::format("it goes on after: kill -CONT {}", sender.end.pid);
  }
  if (view.consumer.stopped) {
    return fmt::format("it goes on after: kill -CONT {}", view.consumer.pid);
  }
  if (view.sender().state == Peer::dead || view.consumer.state == Peer::dead) {
    return fmt::format("nothing to repair: slipring {} {} takes the place of the dead",
                       view.consumer.state == Peer::dead ? "recv" : "send", name);
  }
  if (std::string_view(view.state()) == "pressure") {
    return view.consumer.state == Peer::alive ? "the receiver does not keep up"
                                              : "nobody receives: slipring recv " + name;
  }
  return {};
}

std::string type_line(const channel::RingShape& shape) {
  const channel::Schema& schema = shape.schema;
  const std::string type = schema.size == 0
                               ? std::string("bytes")
                               : fmt::format("{} bytes, align {}, fingerprint {:08x}", schema.size,
                                             schema.align, schema.fingerprint >> 32);
  return fmt::format("{}; records of at most {}, at multiples of {}; bell {}", type,
                     human_bytes(shape.max_payload), shape.granule, to_string(shape.bell));
}

// Who sends. Of many: those who are there, died, or left something to read, one line each.
std::string senders_lines(const channel::RingView& view) {
  if (view.shape.form == channel::RingForm::lane) {
    return fmt::format("{} {}\n", label("producer"), doing(view.senders.front().end, true));
  }
  std::string text = fmt::format("{} {} of {} places taken", label("senders"),
                                 view.living_senders(), view.shape.senders);
  text += view.deaths == 0 ? "\n" : fmt::format("; {} died until now\n", grouped(view.deaths));
  for (const channel::SenderView& sender : view.senders) {
    const bool here = sender.end.state == Peer::alive || sender.end.state == Peer::dead;
    if (!here && sender.backlog_bytes == 0) continue;
    text += fmt::format("{} {}; sent {}", label(fmt::format("  #{}", sender.index).c_str()),
                        doing(sender.end, true), grouped(sender.committed));
    if (view.shape.form == channel::RingForm::per_producer) {
      text += fmt::format(", backlog {} ({:.0f} %)", human_bytes(sender.backlog_bytes),
                          percent(sender.backlog_bytes, view.shape.capacity));
    }
    text += "\n";
  }
  return text;
}

std::string sum_lines(const channel::RingView& view) {
  channel::SenderView sum;
  for (const channel::SenderView& s : view.senders) {
    sum.waits += s.waits;
    sum.timeouts += s.timeouts;
    sum.refused += s.refused;
    sum.stashed += s.stashed;
    sum.dropped += s.dropped;
    sum.blocks += s.blocks;
    sum.streams += s.streams;
    sum.directs += s.directs;
  }
  std::string text =
      fmt::format("{} in {}, {} bytes   out {}   aborted {}   redelivered {}\n", label("counts"),
                  counted(view.committed, "record"), grouped(view.committed_bytes),
                  grouped(view.released), grouped(view.aborts), grouped(view.redelivered));
  text +=
      fmt::format("{} found {}   waited {}   timed out {}   refused {}   stashed {}   dropped {}\n",
                  label("full"), grouped(view.fulls), grouped(sum.waits), grouped(sum.timeouts),
                  grouped(sum.refused), grouped(sum.stashed), grouped(sum.dropped));
  const std::uint64_t large = sum.blocks + sum.streams + sum.directs + view.completed +
                              view.aborted + view.faults + view.open_messages;
  if (large == 0) return text;
  return text +
         fmt::format(
             "{} by block {}   in chunks {}   read directly {}   open {} ({})   complete {}   "
             "aborted {}   refused {}\n",
             label("large"), grouped(sum.blocks), grouped(sum.streams), grouped(sum.directs),
             view.open_messages, human_bytes(view.open_bytes), grouped(view.completed),
             grouped(view.aborted), grouped(view.faults));
}

std::string pool_line(const pool::PoolAudit& pool) {
  std::string classes;
  for (const pool::ClassCounts& of : pool.classes) {
    if (of.capacity == 0) continue;
    classes += fmt::format("   {} of {}: {} free", grouped(of.capacity),
                           human_bytes(of.block_bytes), grouped(of.free));
    if (of.claimed + of.lent + of.held != 0) {
      classes += fmt::format(", {} claimed, {} lent, {} held", of.claimed, of.lent, of.held);
    }
  }
  return fmt::format("{} {} participants, dry {} times, {}{}\n", label("pool"), pool.participants,
                     grouped(pool.exhausted), pool.is_whole() ? "whole" : "NOT WHOLE", classes);
}

}  // namespace

std::string describe(const Row& row) {
  const channel::RingView& view = *row.view;
  const std::string name = printable(label_of(row.listing));
  std::string text =
      fmt::format("{} {}, {}, in {}, mode {:04o} {}\n", label(name.c_str()), ring_text(view.shape),
                  to_string(row.listing.backend), printable(row.listing.where),
                  row.listing.mode & 07777, owner_text(row.listing));
  const auto age = age_ns(row);
  text += fmt::format("{} {}; layout {}, uuid {}; {}, made {} ago by {}({})\n", label("state"),
                      row.state(), row.info->format_version, to_string(row.info->instance),
                      row.info->keep ? "stays" : "removed by its last user",
                      age ? human_age(*age) : "?", printable(row.info->creator.command),
                      row.info->creator.pid);
  text += fmt::format("{} {}\n", label("type"), type_line(view.shape));
  if (view.shape.form != channel::RingForm::per_producer) {
    text += fmt::format("{} write {}   read {}   backlog {} ({:.0f} %){}\n", label("positions"),
                        grouped(view.write_pos), grouped(view.read_pos),
                        human_bytes(view.backlog_bytes),
                        percent(view.backlog_bytes, view.shape.capacity),
                        view.exact ? ", exact" : ", as last told");
  } else {
    text += fmt::format("{} backlog {} in all lanes{}\n", label("positions"),
                        human_bytes(view.backlog_bytes), view.exact ? ", exact" : ", as last told");
  }
  if (view.blocker) {
    const channel::SenderView* owner = sender_at(view, view.blocker->sender);
    text += fmt::format("{} at {} by the open claim of {}\n", label("blocked"),
                        grouped(view.blocker->position),
                        owner != nullptr ? holder_text(owner->end) : "nobody known");
  }
  text += senders_lines(view);
  text += fmt::format("{} {}\n", label("consumer"), doing(view.consumer, false));
  if (!row.attached.empty()) {
    std::string all;
    for (const manager::RegistryRow& attached : row.attached) {
      all += (all.empty() ? "" : ", ") + attached_text(attached);
    }
    text += fmt::format("{} {}\n", label("registry"), all);
  }
  text += sum_lines(view);
  if (view.pool) text += pool_line(*view.pool);
  if (row.in_per_s) {
    text += fmt::format("{} in {}/s, {}   out {}/s\n", label("rates"), human_count(*row.in_per_s),
                        human_rate(row.in_bytes_per_s.value_or(0)),
                        human_count(row.out_per_s.value_or(0)));
  }
  const std::string hint = hint_of(view, name);
  if (!hint.empty()) text += fmt::format("{} {}\n", label("hint"), hint);
  return text;
}

}  // namespace slipring::tools

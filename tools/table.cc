// SPDX-License-Identifier: Apache-2.0
#include "table.h"

#include <fmt/format.h>
#include <libsmartcols.h>
#include <strings.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "sizes.h"

namespace slipring::tools {
namespace {

std::string bytes_text(std::uint64_t bytes, bool plain) {
  return plain ? std::to_string(bytes) : human_bytes(bytes);
}

std::string rate_text(const Row& row, const std::optional<double>& rate, bool plain) {
  if (!row.view) return "-";
  if (!rate) return "?";
  return plain ? fmt::format("{:.0f}", *rate) : human_count(*rate);
}

template <typename Get>
auto of_view(Get get) {
  return [get](const Row& row, bool plain) -> std::string {
    return row.view ? get(*row.view, plain) : "-";
  };
}

std::string use_text(const channel::RingView& view, bool) {
  return fmt::format("{:.0f}", 100.0 * static_cast<double>(view.backlog_bytes) /
                                   static_cast<double>(view.shape.total_capacity()));
}

const char* color_of(const std::string& state) {
  if (state == "ok") return "green";
  if (state == "idle" || state == "waiting") return "gray";
  if (state == "pressure" || state == "stopped") return "yellow";
  return "red";
}

std::vector<Column> make_columns() {
  using View = channel::RingView;
  std::vector<Column> columns;
  const auto add = [&](const char* name, bool right, bool by_default, const char* help, auto cell) {
    const std::string_view column(name);
    const bool may_be_cut =
        column == "NAME" || column == "PROD" || column == "CONS" || column == "WHERE";
    columns.push_back({name, right, by_default, may_be_cut, help, std::move(cell)});
  };
  add("NAME", false, true, "as send and recv take it",
      [](const Row& row, bool) { return printable(label_of(row.listing)); });
  add("KIND", false, true, "posix, sysv, file or memfd",
      [](const Row& row, bool) { return std::string(to_string(row.listing.backend)); });
  add("RING", false, true, "lane, mpsc (a lane for each sender) or total (in one order)",
      of_view(
          [](const View& view, bool) { return std::string(channel::to_string(view.shape.form)); }));
  add("SIZE", true, true, "capacity, of all lanes together",
      of_view([](const View& view, bool plain) {
        return bytes_text(view.shape.total_capacity(), plain);
      }));
  add("IN/S", true, true, "records committed per second, while we looked",
      [](const Row& row, bool plain) { return rate_text(row, row.in_per_s, plain); });
  add("BACKLOG", true, true, "bytes not yet read, as last told",
      of_view([](const View& view, bool plain) { return bytes_text(view.backlog_bytes, plain); }));
  add("USE%", true, true, "backlog in hundredths of the capacity", of_view(use_text));
  add("PROD", false, true, "who sends: command and pid, and how many others",
      of_view([](const View& view, bool) { return senders_text(view); }));
  add("CONS", false, true, "who receives: command and pid",
      of_view([](const View& view, bool) { return end_text(view.consumer); }));
  add("STATE", false, true, "ok, waiting, idle, pressure, stopped, dead, corrupt, ..",
      [](const Row& row, bool) { return row.state(); });
  add("AGE", true, true, "since it was made", [](const Row& row, bool) {
    const auto age = age_ns(row);
    return age ? human_age(*age) : "-";
  });
  add("WHERE", false, false, "path, or System V id",
      [](const Row& row, bool) { return printable(row.listing.where); });
  add("OUT/S", true, false, "records released per second, while we looked",
      [](const Row& row, bool plain) { return rate_text(row, row.out_per_s, plain); });
  add("IN-BYTES/S", true, false, "payload committed per second, while we looked",
      [](const Row& row, bool plain) { return rate_text(row, row.in_bytes_per_s, plain); });
  add("RECORDS", true, false, "records committed since it was made, as last told",
      of_view([](const View& view, bool plain) {
        return plain ? std::to_string(view.committed)
                     : human_count(static_cast<double>(view.committed));
      }));
  add("SENDERS", true, false, "living senders, of how many places",
      of_view([](const View& view, bool) {
        return fmt::format("{}/{}", view.living_senders(), view.shape.senders);
      }));
  add("POOL", true, false, "blocks in use, of how many", of_view([](const View& view, bool) {
        if (!view.pool) return std::string("-");
        return fmt::format("{}/{}", view.pool->total.capacity - view.pool->total.free,
                           view.pool->total.capacity);
      }));
  add("LARGE", true, false, "messages being put together from chunks",
      of_view([](const View& view, bool) { return std::to_string(view.open_messages); }));
  add("OWNER", false, false, "user", [](const Row& row, bool) { return owner_text(row.listing); });
  add("MODE", false, false, "permissions",
      [](const Row& row, bool) { return fmt::format("{:04o}", row.listing.mode & 07777); });
  add("UUID", false, false, "drawn when it was made",
      [](const Row& row, bool) { return row.info ? to_string(row.info->instance) : "-"; });
  return columns;
}

}  // namespace

const std::vector<Column>& ls_columns() {
  static const std::vector<Column> columns = make_columns();
  return columns;
}

Try<std::vector<const Column*>> choose_columns(const std::string& list) {
  std::vector<const Column*> chosen;
  std::string_view rest = list;
  const bool more = rest.starts_with('+');
  if (rest.empty() || more) {
    for (const Column& column : ls_columns()) {
      if (column.by_default) chosen.push_back(&column);
    }
  }
  if (more) rest.remove_prefix(1);
  while (!rest.empty()) {
    const std::string name(rest.substr(0, rest.find(',')));
    rest.remove_prefix(std::min(rest.size(), name.size() + 1));
    const auto found = std::ranges::find_if(ls_columns(), [&](const Column& column) {
      return ::strcasecmp(column.name, name.c_str()) == 0;
    });
    if (found == ls_columns().end()) {
      std::string known;
      for (const Column& column : ls_columns())
        known += (known.empty() ? "" : " ") + std::string(column.name);
      return usage(fmt::format("unknown column '{}' for -o", printable(name)),
                   "there are: " + known, "slipring ls -o +UUID,OWNER");
    }
    // Asked for twice is shown once: + may name what is usual, too.
    if (std::ranges::find(chosen, &*found) == chosen.end()) chosen.push_back(&*found);
  }
  return chosen;
}

std::string draw_table(const std::vector<Row>& rows, const std::vector<const Column*>& columns,
                       const TableFormat& format) {
  const std::unique_ptr<libscols_table, void (*)(libscols_table*)> table(::scols_new_table(),
                                                                         &::scols_unref_table);
  if (!table) return {};
  ::scols_table_enable_noheadings(table.get(), format.headings ? 0 : 1);
  ::scols_table_enable_raw(table.get(), format.raw ? 1 : 0);
  ::scols_table_enable_colors(table.get(), voice().color_out && !format.raw ? 1 : 0);
  if (const int width = format.raw ? 0 : terminal_width(STDOUT_FILENO); width != 0) {
    ::scols_table_set_termforce(table.get(), SCOLS_TERMFORCE_ALWAYS);
    ::scols_table_set_termwidth(table.get(), static_cast<std::size_t>(width));
  }
  for (const Column* column : columns) {
    // Numbers and states are whole or wrong; a name that is cut can be asked for with -o.
    ::scols_table_new_column(table.get(), column->name, 0,
                             column->right        ? SCOLS_FL_RIGHT
                             : column->may_be_cut ? SCOLS_FL_TRUNC
                                                  : 0);
  }
  for (const Row& row : rows) {
    libscols_line* line = ::scols_table_new_line(table.get(), nullptr);
    for (std::size_t i = 0; i < columns.size(); ++i) {
      ::scols_line_set_data(line, i, columns[i]->cell(row, format.bytes).c_str());
    }
    const auto state = std::ranges::find_if(
        columns, [](const Column* column) { return std::string_view(column->name) == "STATE"; });
    if (state != columns.end()) {
      libscols_cell* cell =
          ::scols_line_get_cell(line, static_cast<std::size_t>(state - columns.begin()));
      ::scols_cell_set_color(cell, color_of(row.state()));
    }
  }
  char* drawn = nullptr;
  std::string text;
  if (::scols_print_table_to_string(table.get(), &drawn) == 0 && drawn != nullptr) text = drawn;
  std::free(drawn);
  if (!text.empty() && text.back() != '\n') text += '\n';
  return text;
}

}  // namespace slipring::tools

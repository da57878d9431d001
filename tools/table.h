// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "rows.h"

namespace slipring::tools {

/// A column of ls: what it is called, what it shows. One list feeds table, help and checks.
struct Column {
  const char* name;
  bool right;  ///< Numbers.
  bool by_default;
  bool may_be_cut;  ///< To the width of the terminal.
  const char* help;
  std::function<std::string(const Row&, bool bytes)> cell;
};
[[nodiscard]] const std::vector<Column>& ls_columns();
/// "NAME,STATE" or "+UUID,OWNER" (behind the default ones).
[[nodiscard]] Try<std::vector<const Column*>> choose_columns(const std::string& list);

struct TableFormat {
  bool headings = true;
  bool raw = false;    ///< Words split by one space, for scripts.
  bool bytes = false;  ///< Plain numbers instead of 4M.
};
/// Drawn by libsmartcols, hence as lsipc and lsblk do.
[[nodiscard]] std::string draw_table(const std::vector<Row>& rows,
                                     const std::vector<const Column*>& columns,
                                     const TableFormat& format);

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
#include "help.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

namespace slipring::tools {
namespace {

constexpr const char* kEmptyValue = "the value is empty";

std::string row(const std::string& left, const std::string& right) {
  constexpr std::size_t kColumn = 28;
  if (left.size() + 4 > kColumn) return fmt::format("  {}\n{:{}}{}\n", left, "", kColumn, right);
  return fmt::format("  {:<{}}{}\n", left, kColumn - 2, right);
}

std::string option_text(const CLI::Option* option) {
  std::string names;
  for (const std::string& name : option->get_snames()) names += "-" + name + ", ";
  if (names.empty()) names = "    ";
  for (const std::string& name : option->get_lnames()) names += "--" + name + ", ";
  if (names.ends_with(", ")) names.resize(names.size() - 2);
  if (option->get_items_expected_max() > 0) names += " " + option->get_type_name();
  return row(names, option->get_description());
}

std::string usage_line(const CLI::App* app) {
  std::string line = "slipring";
  if (app->get_parent() == nullptr) return line + " [OPTIONS] COMMAND ..";
  line += " " + app->get_name() + " [OPTIONS]";
  for (const CLI::Option* option : app->get_options()) {
    if (!option->get_positional()) continue;
    const std::string dots = option->get_items_expected_max() > 1 ? ".." : "";
    const std::string name = option->get_type_name() + dots;
    line += option->get_required() ? " " + name : " [" + name + "]";
  }
  return line;
}

// Edits between two words, at most about their length.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row_above(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row_above[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row_above[0];
    row_above[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row_above[j];
      row_above[j] = std::min({above + 1, row_above[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row_above[b.size()];
}

std::string nearest(std::string_view word, const std::vector<std::string>& known) {
  std::string best;
  std::size_t least = 3;  // more edits than that are another word
  for (const std::string& candidate : known) {
    const std::size_t edits = distance(word, candidate);
    const bool begins = word.size() >= 2 && candidate.starts_with(word);
    if (edits < least || (begins && best.empty())) {
      least = std::min(least, edits);
      best = candidate;
    }
  }
  return best;
}

std::vector<std::string> option_names(const CLI::App* app) {
  std::vector<std::string> names;
  for (; app != nullptr; app = app->get_parent()) {
    for (const CLI::Option* option : app->get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
  }
  return names;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& known) {
  const std::string guess = nearest(word, known);
  return guess.empty() ? guess : "; did you mean " + guess + "?";
}

// The first long option on the command line that nobody knows; empty for none.
std::string unknown_option(const CLI::App& app, int argc, char** argv) {
  const std::vector<std::string> known = option_names(&app);
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--") break;
    const std::string name(word.substr(0, word.find('=')));
    if (!name.starts_with("--") || name.size() == 2) continue;
    if (std::ranges::find(known, name) == known.end()) return printable(name);
  }
  return {};
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands({})) names.push_back(sub->get_name());
  return names;
}

}  // namespace

void refuse_empty_values(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    if (option->get_positional() || option->get_items_expected_max() == 0) continue;
    option->check([](const std::string& value) {
      return value.empty() ? std::string(kEmptyValue) : std::string();
    });
  }
  for (CLI::App* sub : app.get_subcommands({})) refuse_empty_values(*sub);
}

const CLI::App* find_command(const CLI::App& app, const std::string& name) {
  for (const CLI::App* sub : app.get_subcommands({})) {
    if (sub->get_name() == name) return sub;
  }
  return nullptr;
}

std::string HelpFormatter::make_help(const CLI::App* app, std::string, CLI::AppFormatMode) const {
  std::string text = fmt::format("Usage: {}\n{}\n", usage_line(app), app->get_description());
  if (app->get_parent() == nullptr) {
    text += "\nCommands:\n";
    for (const CLI::App* sub : app->get_subcommands({})) {
      text += row(sub->get_name(), sub->get_description());
    }
  }
  std::string arguments;
  for (const CLI::Option* option : app->get_options()) {
    if (option->get_positional())
      arguments += row(option->get_type_name(), option->get_description());
  }
  if (!arguments.empty()) text += "\nArguments:\n" + arguments;
  for (const std::string& group : app->get_groups()) {
    std::string options;
    for (const CLI::Option* option : app->get_options()) {
      if (option->nonpositional() && option->get_group() == group) options += option_text(option);
    }
    if (!options.empty()) text += fmt::format("\n{}:\n{}", group, options);
  }
  if (app->get_parent() != nullptr) text += "\nOptions of every command: slipring --help\n";
  if (!app->get_footer().empty()) text += "\n" + app->get_footer() + "\n";
  return text;
}

Failure explain_parse(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  const CLI::App* sub = nullptr;
  std::string command = "slipring";
  for (int i = 1; i < argc && sub == nullptr; ++i) {
    sub = find_command(app, argv[i]);
  }
  if (sub != nullptr) command += " " + sub->get_name();
  const std::string help = command + " --help";
  const auto fail = [](std::string what, std::string why, std::string fix) {
    return usage(std::move(what), std::move(why), std::move(fix)).value();
  };
  const std::string message = printable(error.what());
  // What is misspelt comes first: that something else is missing may follow from it.
  const std::string unknown = unknown_option(sub != nullptr ? *sub : app, argc, argv);
  if (!unknown.empty()) {
    return fail("unknown option " + unknown,
                command + " has no such option" +
                    did_you_mean(unknown, option_names(sub != nullptr ? sub : &app)),
                help);
  }
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError) && sub != nullptr) {
    std::string word = message.substr(message.find(": ") + 2);
    return fail("too many arguments: " + word, command + " takes no more", help);
  }
  if (error.get_name() == "RequiredError" && sub == nullptr) {
    // A word that is no command counts as an argument that nobody took.
    for (int i = 1; i < argc; ++i) {
      if (argv[i][0] == '-') continue;
      const std::string word = printable(argv[i]);
      return fail("unknown command " + word,
                  "slipring has no such command" + did_you_mean(word, command_names(app)),
                  "slipring --help lists them");
    }
    return fail("a command is needed", "slipring does nothing by itself",
                "slipring --help lists them; slipring ls shows what is there");
  }
  if (error.get_name() == "RequiredError") {
    return fail(message, "an argument of " + command + " is missing",
                usage_line(sub) + "   (more: " + help + ")");
  }
  if (error.get_name() == "ValidationError" && message.ends_with(kEmptyValue)) {
    return fail(message, "perhaps it is that of a shell variable that is not set",
                command + " without the option, for the default; or: " + help);
  }
  return fail(message, "the command line of " + command + " does not fit together", help);
}

}  // namespace slipring::tools

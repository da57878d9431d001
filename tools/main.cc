// SPDX-License-Identifier: Apache-2.0
// The command `slipring`: options of every subcommand, and the one place that ends the process.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string_view>

#include "commands.h"
#include "help.h"
#include "ring_flags.h"

namespace slipring::tools {
namespace {

Closed closed;

// A segment opened into a free descriptor 1 would be written over by whoever prints.
void open_standard_descriptors() noexcept {
  bool* const marks[] = {&closed.in, &closed.out, &closed.err};
  for (int fd = 0; fd < 3; ++fd) {
    if (::fcntl(fd, F_GETFD) != -1) continue;
    *marks[fd] = true;
    // The lowest free number is this one: those below are open by now.
    if (::open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY) != fd)
      std::_Exit(to_int(ExitCode::system));
  }
}

bool wants_json(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--") return false;
    if (word == "-J" || word == "--json") return true;
  }
  return false;
}

struct HelpOptions {
  std::string command;
};

void add_help(CLI::App& app, Job& job) {
  auto opt = std::make_shared<HelpOptions>();
  CLI::App* sub = app.add_subcommand("help", "Show the help of a command");
  sub->add_option("command", opt->command, "which one")->type_name("COMMAND");
  sub->callback([opt, &app, &job] {
    job = [opt, &app]() -> Outcome {
      const CLI::App* about = &app;
      if (!opt->command.empty()) about = find_command(app, opt->command);
      if (about == nullptr) {
        return usage("unknown command " + printable(opt->command), "slipring has no such command",
                     "slipring --help lists them");
      }
      return print_out(app.get_formatter()->make_help(about, "", CLI::AppFormatMode::Normal));
    };
  });
}

void add_globals(CLI::App& app) {
  static const std::map<std::string, Color> kColors = {
      {"auto", Color::automatic}, {"always", Color::always}, {"never", Color::never}};
  app.set_help_flag("-h,--help", "show help, of the command if one is given");
  app.set_version_flag("-V,--version", "slipring " SLIPRING_VERSION, "show the version");
  app.add_flag("-q,--quiet", voice().quiet, "errors only");
  app.add_flag("-v,--verbose", voice().verbose, "say more");
  app.add_option_function<std::string>(
         "--color",
         [](const std::string& when) {
           const auto found = kColors.find(when);
           if (found == kColors.end()) {
             throw CLI::ValidationError("--color", "auto, always or never, not '" + when + "'");
           }
           set_color(found->second);
         },
         "auto (default), always or never")
      ->type_name("WHEN");
  app.add_option("--root", globals().root, "another /dev/shm, as /proc/PID/root/dev/shm")
      ->type_name("DIR");
}

int run(int argc, char** argv) {
  CLI::App app{"Messages between processes through shared memory."};
  Job job;
  app.formatter(std::make_shared<HelpFormatter>());
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(
      "Sizes are 64K, 4M, 1G; times are 10us, 5ms, 2s. A name is 1 to 200 of A-Z a-z 0-9 . _ -\n\n"
      "Example:\n  tar c DIR | slipring send x        # in one terminal\n"
      "  slipring recv x | tar x            # in another, before or after");
  add_globals(app);
  for (const auto add : {add_create, add_send, add_recv, add_ls, add_stat, add_rm, add_bench,
                         add_check, add_gc, add_stress}) {
    add(app, job);
  }
  add_help(app, job);
  refuse_empty_values(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    const CLI::App* about = &app;
    for (const CLI::App* sub : app.get_subcommands()) about = sub;
    const Outcome printed =
        print_out(app.get_formatter()->make_help(about, "", CLI::AppFormatMode::Normal));
    return to_int(printed ? ExitCode::ok : report(printed.error()));
  } catch (const CLI::CallForVersion& version) {
    const Outcome printed = print_out(std::string(version.what()) + "\n");
    return to_int(printed ? ExitCode::ok : report(printed.error()));
  } catch (const CLI::ParseError& error) {
    voice().json = wants_json(argc, argv);
    return to_int(report(explain_parse(app, error, argc, argv)));
  }
  const Outcome outcome = job();
  return to_int(outcome ? *outcome : report(outcome.error()));
}

}  // namespace

const Closed& closed_at_start() noexcept { return closed; }

Outcome print_out(const std::string& text) {
  if (closed.out) errno = EBADF;
  // Each answer is written at once, so that `stat -i` can be piped.
  const bool done = !closed.out &&
                    std::fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
                    std::fflush(stdout) == 0;
  if (done) return ExitCode::ok;
  return failed_call("cannot write to standard output", "write",
                     errno == EPIPE ? "the program that reads our output has ended" : "",
                     "nothing was changed by looking; run it again");
}

}  // namespace slipring::tools

int main(int argc, char** argv) {
  using namespace slipring::tools;
  open_standard_descriptors();
  ::signal(SIGPIPE, SIG_IGN);
  // Character classes of the terminal only: numbers and sorting stay as they are.
  std::setlocale(LC_CTYPE, "");
  set_color(Color::automatic);
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc&) {
    return to_int(
        report({{slipring::Errc::no_space, "out of memory (no_space)",
                 "this process could not get the memory it needs", "free, and ulimit -v, show why"},
                ExitCode::system}));
  }
}

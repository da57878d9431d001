// SPDX-License-Identifier: Apache-2.0
// `slipring bench`: hands over to slipring-bench, a program of its own, because it has the rivals
// in it and this command links none of them.
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "commands.h"

namespace slipring::tools {
namespace {

struct BenchOptions {
  std::string sizes, rates, versus, cpus, rounds, seconds, ring;
  bool quick = false;
  bool list = false;
};

std::string folder_of_this_program() {
  char path[4096];
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof path);
  if (length <= 0) return "";
  const std::string text(path, static_cast<std::size_t>(length));
  return text.substr(0, text.rfind('/'));
}

/// Beside us, in a build tree, or where it is installed. Empty: nowhere.
std::string find_program() {
  const std::string here = folder_of_this_program();
  for (const std::string& path :
       {here + "/slipring-bench", here + "/../bench/slipring-bench",
        here + "/" SLIPRING_BENCH_FROM_BIN, std::string(SLIPRING_BENCH_INSTALLED)}) {
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return "";
}

Outcome run_bench(const BenchOptions& opt) {
  const std::string program = find_program();
  if (program.empty()) {
    return tl::unexpected(
        Failure{{Errc::not_found, "the benchmark is not here (not_found)",
                 "it is a program of its own, slipring-bench, and was not built or not installed",
                 "in the source of slipring: ./dev bench --quick"},
                ExitCode::not_found});
  }
  std::vector<std::string> words = {program};
  for (const auto& [name, value] :
       {std::pair{"--size", &opt.sizes}, std::pair{"--rate", &opt.rates},
        std::pair{"--vs", &opt.versus}, std::pair{"--cpus", &opt.cpus},
        std::pair{"--rounds", &opt.rounds}, std::pair{"--seconds", &opt.seconds},
        std::pair{"--ring", &opt.ring}}) {
    if (!value->empty()) words.push_back(name + ("=" + *value));
  }
  if (opt.quick) words.emplace_back("--quick");
  if (opt.list) words.emplace_back("--list");
  if (voice().json) words.emplace_back("--json=-");
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  return failed_call("cannot start " + program, "execv", "", "./dev bench --quick builds it anew");
}

}  // namespace

void add_bench(CLI::App& app, Job& job) {
  auto opt = std::make_shared<BenchOptions>();
  CLI::App* sub = app.add_subcommand("bench", "Measure speed on this machine, beside others");
  sub->add_option("--size", opt->sizes, "of a message: 64 (default), or 8,64,4K")
      ->type_name("LIST");
  sub->add_option("--vs", opt->versus, "rivals: pipe,unix,boost (default), all or none")
      ->type_name("LIST");
  sub->add_option("--rate", opt->rates, "on a schedule, per second: 10k,1M")->type_name("LIST");
  sub->add_option("--cpus", opt->cpus, "of sender and receiver: 0,1")->type_name("A,B");
  sub->add_option("--rounds", opt->rounds, "how often everything is repeated (5)")->type_name("N");
  sub->add_option("--seconds", opt->seconds, "of each measurement (0.1)")->type_name("S");
  sub->add_option("--ring", opt->ring, "bytes of each ring (256K)")->type_name("SIZE");
  sub->add_flag("--quick", opt->quick, "judge every target of slipring, in 3 minutes");
  sub->add_flag("--list", opt->list, "who can be measured here, and who cannot, and why");
  sub->add_flag("-J,--json", voice().json, "all figures, and errors, as JSON");
  sub->footer("Example:\n  slipring bench --size 64 --rate 100k --vs pipe,unix,zeromq");
  sub->callback([opt, &job] { job = [opt] { return run_bench(*opt); }; });
}

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
// `slipring create`: a lane that stays until it is removed.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "lane_flags.h"
#include "selector.h"
#include "slipring/channel/lane_link.h"

namespace slipring::tools {
namespace {

struct CreateOptions {
  std::string name;
  LaneFlags lane;
};

Outcome run_create(const CreateOptions& opt) {
  auto options = lane_options(opt.lane, "slipring create");
  if (!options) return tl::unexpected(options.error());
  options->keep = true;
  Subject subject(opt.name, "create");
  subject.options = *options;
  const auto selector = parse_selector(opt.name, subject, false);
  if (!selector) return tl::unexpected(selector.error());
  if (selector->by != Selector::By::name) {
    return usage(fmt::format("cannot create {}: that is no name", printable(opt.name)),
                 "a System V key belongs to a lane with a name",
                 "slipring create NAME --kind sysv --sysv-key KEY");
  }
  subject.name = selector->name;
  const auto made = channel::create_lane(selector->name, *options);
  if (!made) return failed(made.error(), subject);

  if (voice().json) {
    const nlohmann::ordered_json channel = {
        {"name", selector->name},    {"kind", to_string(made->backend())},
        {"where", made->where()},    {"capacity_bytes", options->capacity},
        {"mode", made->info().mode}, {"uuid", to_string(made->info().instance)}};
    return print_out(nlohmann::ordered_json{
                         {"slipring", {{"schema", 1}, {"command", "create"}, {"channel", channel}}}}
                         .dump() +
                     "\n");
  }
  if (voice().quiet) return ExitCode::ok;
  return print_out(fmt::format("{}: lane, {} in {}, mode {:04o}; remove it with: slipring rm {}\n",
                               selector->name, human_bytes(options->capacity), made->where(),
                               made->info().mode, selector->name));
}

}  // namespace

void add_create(CLI::App& app, Job& job) {
  auto opt = std::make_shared<CreateOptions>();
  CLI::App* sub = app.add_subcommand("create", "Make a lane that stays until it is removed");
  sub->add_option("name", opt->name, "what to call it")->required()->type_name("NAME");
  sub->add_flag("-J,--json", voice().json, "answer and errors as JSON");
  add_lane_flags(*sub, opt->lane, true);
  sub->footer("Example:\n  slipring create md.btc --capacity 4M --mode 0640 --group trade");
  sub->callback([opt, &job] { job = [opt] { return run_create(*opt); }; });
}

}  // namespace slipring::tools

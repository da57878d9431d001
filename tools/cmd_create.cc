// SPDX-License-Identifier: Apache-2.0
// `slipring create`: a ring that stays until it is removed.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "ring_flags.h"
#include "rows.h"
#include "selector.h"
#include "slipring/channel/shm_link.h"

namespace slipring::tools {
namespace {

struct CreateOptions {
  std::string name;
  RingFlags ring;
};

Outcome run_create(const CreateOptions& opt) {
  auto options = shm_options(opt.ring, "slipring create");
  if (!options) return tl::unexpected(options.error());
  options->keep = true;
  Subject subject(opt.name, "create");
  subject.options = *options;
  const auto selector = parse_selector(opt.name, subject, false);
  if (!selector) return tl::unexpected(selector.error());
  if (selector->by != Selector::By::name) {
    return usage(fmt::format("cannot create {}: that is no name", printable(opt.name)),
                 "a System V key belongs to a ring with a name",
                 "slipring create NAME --kind sysv --sysv-key KEY");
  }
  subject.name = selector->name;
  const auto made = channel::create_ring(selector->name, *options);
  if (!made) return failed(made.error(), subject);

  if (voice().json) {
    const bool is_lane = options->form == channel::RingForm::lane;
    const std::uint32_t senders = is_lane ? 1 : options->senders;
    const nlohmann::ordered_json channel = {{"name", selector->name},
                                            {"kind", to_string(made->backend())},
                                            {"where", made->where()},
                                            {"capacity_bytes", options->capacity},
                                            {"ring", channel::to_string(options->form)},
                                            {"places", senders},
                                            {"object_bytes", made->info().total_bytes},
                                            {"mode", made->info().mode},
                                            {"uuid", to_string(made->info().instance)}};
    return print_out(nlohmann::ordered_json{
                         {"slipring", {{"schema", 1}, {"command", "create"}, {"channel", channel}}}}
                         .dump() +
                     "\n");
  }
  if (voice().quiet) return ExitCode::ok;
  const auto body = channel::RingBody::of(*made);
  if (!body) return failed(body.error(), subject);
  return print_out(fmt::format("{}: {} in {}, mode {:04o}; remove it with: slipring rm {}\n",
                               selector->name, ring_text(*body, made->backend()), made->where(),
                               made->info().mode, selector->name));
}

}  // namespace

void add_create(CLI::App& app, Job& job) {
  auto opt = std::make_shared<CreateOptions>();
  CLI::App* sub = app.add_subcommand("create", "Make a ring that stays until it is removed");
  sub->add_option("name", opt->name, "what to call it")->required()->type_name("NAME");
  sub->add_flag("-J,--json", voice().json, "answer and errors as JSON");
  add_ring_flags(*sub, opt->ring, true);
  sub->footer("Example:\n  slipring create md.btc --capacity 4M --mode 0640 --group trade");
  sub->callback([opt, &job] { job = [opt] { return run_create(*opt); }; });
}

}  // namespace slipring::tools

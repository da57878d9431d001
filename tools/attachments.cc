// SPDX-License-Identifier: Apache-2.0
#include "attachments.h"

#include <fmt/format.h>

#include "report.h"
#include "ring_flags.h"

namespace slipring::tools {
namespace {

manager::Form form_of(channel::RingForm form) {
  switch (form) {
    case channel::RingForm::per_producer: return manager::Form::lanes;
    case channel::RingForm::total: return manager::Form::total;
    case channel::RingForm::lane: break;
  }
  return manager::Form::lane;
}

}  // namespace

std::optional<manager::Enrolment> enroll(const channel::ShmLink& link, channel::End end) {
  const bool sends = end == channel::End::producer;
  auto enrolled = manager::Registry(places()).enroll(manager::Attachment::of(
      link.segment(), form_of(link.shape().form),
      sends ? manager::Part::producer : manager::Part::consumer, sends ? link.sender() : 0));
  if (enrolled) return std::move(*enrolled);
  if (voice().verbose) {
    note(fmt::format("not listed in the registry: {} ({})", to_string(enrolled.error().code),
                     enrolled.error().op));
  }
  return std::nullopt;
}

}  // namespace slipring::tools

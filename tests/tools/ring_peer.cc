// SPDX-License-Identifier: Apache-2.0
// Another program at a ring, for what the command does not do itself. Says on standard output when
// it is there, and goes on when its standard input ends.
//   ring_peer memfd       makes a ring of many senders without a name, sends "from the peer"
//   ring_peer claim NAME  holds room in the ring NAME that it has not filled yet
//   ring_peer block NAME  has a block of the ring NAME, and neither sends nor receives
//   ring_peer draft KIND  has begun to make a ring of that kind, and gave it no name yet
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string_view>

#include "slipring/channel/shm.h"
#include "slipring/manager/registry.h"
#include "slipring/pool/block_pool.h"
#include "slipring/segment/name.h"

namespace {

using namespace slipring;

void wait_for_end_of_input() {
  char byte;
  while (::read(STDIN_FILENO, &byte, 1) > 0) {
  }
}

int send_without_a_name() {
  channel::ShmOptions options;
  options.kind = segment::Backend::memfd;
  options.form = channel::RingForm::per_producer;
  options.capacity = ring::kMinCapacity;
  options.senders = 4;
  auto made = channel::create_unnamed_ring(options);
  if (!made) return 2;
  auto sender = channel::ShmSender::attach(std::move(*made), options);
  if (!sender) return 3;
  const auto what = manager::Attachment::of(sender->link().segment(), manager::Form::lanes,
                                            manager::Part::producer, sender->link().sender());
  const auto enrolled = manager::Registry().enroll(what);
  if (!enrolled || !what.descriptor) return 4;
  constexpr std::string_view kText = "from the peer";
  if (!sender->send(std::as_bytes(std::span(kText)))) return 5;
  sender->flush();
  std::printf("fd:%d/%u\n", static_cast<int>(::getpid()), *what.descriptor);
  std::fflush(stdout);
  wait_for_end_of_input();
  return 0;
}

int hold_a_claim(const char* name) {
  auto sender = channel::ShmSender::open(name);
  if (!sender) return 2;
  auto claim = sender->try_claim(100);
  if (!claim) return 3;
  std::printf("claimed\n");
  std::fflush(stdout);
  wait_for_end_of_input();
  std::memset(claim->payload().data(), 'c', claim->payload().size());
  claim->commit();
  return 0;
}

int hold_a_block(const char* name) {
  const auto parsed = segment::Name::parse(name);
  auto segment = segment::Segment::open(*parsed, segment::OpenMode::read_write);
  if (!segment) return 2;
  const auto body = channel::RingBody::of(*segment);
  if (!body) return 3;
  auto pool = pool::BlockPool<>::attach(body->pool());
  if (!pool || !pool->claim(1000)) return 4;
  std::printf("claimed\n");
  std::fflush(stdout);
  wait_for_end_of_input();
  return 0;
}

int draft_a_ring(std::string_view kind) {
  channel::ShmOptions options;
  options.kind = kind == "sysv"   ? segment::Backend::sysv
                 : kind == "file" ? segment::Backend::file
                                  : segment::Backend::posix;
  const auto draft = channel::draft_ring(options);
  if (!draft) return 2;
  std::printf("drafted\n");
  std::fflush(stdout);
  wait_for_end_of_input();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view job = argc > 1 ? argv[1] : "";
  if (job == "memfd") return send_without_a_name();
  if (job == "claim" && argc > 2) return hold_a_claim(argv[2]);
  if (job == "block" && argc > 2) return hold_a_block(argv[2]);
  if (job == "draft" && argc > 2) return draft_a_ring(argv[2]);
  return 1;
}

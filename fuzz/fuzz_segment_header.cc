// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <span>

#include "slipring/channel/inspect.h"
#include "slipring/segment/segment.h"

// Arbitrary bytes in the place of a segment: a header of any content over an object of any size.
// Whatever check_header accepts must be safe to map and to look at; the rest is a typed error.
// Input: bytes 0, 1: size of the object in units of 64; byte 2: repair the checksum or not; then
// patches {offset:12 bits of 16, length:8, bytes} to the header of a real segment.
namespace {

using namespace slipring;
using segment::HeaderWords;

constexpr std::size_t kObject = 16 * 4096;

const HeaderWords& sample() {
  static const HeaderWords words = [] {
    segment::HeaderInfo info;
    info.content = segment::kContentLane;
    info.total_bytes = kObject;
    info.body_bytes = kObject - segment::kHeaderBytes;
    info.page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    info.instance = {1, 2};
    info.backend = segment::Backend::memfd;
    info.creator = self_token();
    return segment::encode_header(info);
  }();
  return words;
}

void expect(bool truth) {
  if (!truth) std::abort();
}

void open_it(const HeaderWords& words, std::size_t object_bytes) {
  UniqueFd fd{::memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
  expect(static_cast<bool>(fd));
  expect(::ftruncate(fd.get(), static_cast<off_t>(object_bytes)) == 0);
  const std::size_t header = std::min(sizeof words, object_bytes);
  expect(::pwrite(fd.get(), &words, header, 0) == static_cast<ssize_t>(header));
  expect(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
  auto opened = segment::Segment::from_fd(std::move(fd), segment::OpenMode::read_only);
  if (!opened) return;
  unsigned sum = 0;
  for (const std::byte b : opened->body()) sum += static_cast<unsigned>(b);
  asm volatile("" : : "r"(sum));
  static_cast<void>(channel::inspect(*opened, true));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  const std::size_t object_bytes =
      std::min<std::size_t>((data[0] | std::size_t{data[1]} << 8) * 64, 2 * kObject);
  const bool repair = (data[2] & 1) != 0;
  std::span<const std::uint8_t> input{data + 3, size - 3};
  HeaderWords words = sample();
  auto* bytes = reinterpret_cast<unsigned char*>(&words);
  while (input.size() > 3) {
    const std::size_t offset = (input[0] | std::size_t{input[1]} << 8) % sizeof words;
    const std::size_t length = std::min<std::size_t>(input[2], input.size() - 3);
    input = input.subspan(3);
    for (std::size_t i = 0; i < length; ++i) bytes[(offset + i) % sizeof words] = input[i];
    input = input.subspan(length);
  }
  if (repair) words.checksum = segment::header_checksum(words);
  for (const auto mode : {segment::OpenMode::read_only, segment::OpenMode::read_write}) {
    const auto info = segment::check_header(words, object_bytes, mode);
    if (!info) continue;
    expect(info->total_bytes <= object_bytes);
    expect(info->body_offset == segment::kHeaderBytes);
    expect(info->body_bytes <= info->total_bytes - info->body_offset);
    expect(info->name.size() <= 200);
  }
  open_it(words, object_bytes);
  return 0;
}

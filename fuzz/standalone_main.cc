// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "depth.h"
#include "support/oracle_script.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

// Replays inputs where there is no fuzzer: each argument is a file or a folder of files. Without
// arguments it takes one input from stdin. A crash is the result; or, of a folder, that it no
// longer reaches what the target says that it has to.
// --twin free|sticky INPUT OUTPUT: the input of that mode which does the same as INPUT.
namespace {

namespace fs = std::filesystem;
using slipring::fuzz::Depth;
using slipring::test::OracleMode;
using slipring::test::OracleScript;

void replay(std::istream& in) {
  const std::vector<char> bytes{std::istreambuf_iterator<char>(in), {}};
  // A copy of exact size on the heap: reading beyond the input is an error a sanitizer sees.
  const std::vector<std::uint8_t> input(bytes.begin(), bytes.end());
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

bool replay(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    std::fprintf(stderr, "replay: cannot read %s\n", path.c_str());
    return false;
  }
  replay(in);
  return true;
}

/// Says how often each depth was reached. False when a whole corpus missed one.
bool tell_depths(bool whole_corpus) {
  bool all = true;
  for (const Depth* depth = Depth::first(); depth != nullptr; depth = depth->next()) {
    std::printf("%9llu  %s\n", static_cast<unsigned long long>(depth->count()), depth->what());
    all = all && depth->count() != 0;
  }
  if (all || !whole_corpus) return true;
  std::fprintf(stderr, "replay: the corpus no longer reaches a depth whose count is 0\n");
  return false;
}

/// Targets whose inputs have twins keep the mode in the low bits of the first byte.
int make_twin(OracleMode mode, const char* from, const char* to) {
  std::vector<std::uint8_t> twin;
  OracleScript::write_twin(&twin, mode);
  if (!replay(fs::path(from)) || twin.empty()) return 1;
  OracleScript::write_twin(nullptr, mode);
  twin[0] = static_cast<std::uint8_t>((twin[0] & ~3) | static_cast<std::uint8_t>(mode));
  std::ofstream out(to, std::ios::binary);
  out.write(reinterpret_cast<const char*>(twin.data()), static_cast<std::streamsize>(twin.size()));
  return out.good() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 5 && std::strcmp(argv[1], "--twin") == 0) {
    const bool free = std::strcmp(argv[2], "free") == 0;
    return make_twin(free ? OracleMode::free : OracleMode::sticky, argv[3], argv[4]);
  }
  int replayed = 0;
  bool whole_corpus = false;
  for (int i = 1; i < argc; ++i) {
    const fs::path path(argv[i]);
    if (!fs::is_directory(path)) {
      if (!replay(path)) return 1;
      ++replayed;
      continue;
    }
    whole_corpus = true;
    for (const auto& entry : fs::directory_iterator(path)) {
      if (!entry.is_regular_file()) continue;
      if (!replay(entry.path())) return 1;
      ++replayed;
    }
  }
  if (argc == 1) {
    std::ifstream in("/dev/stdin", std::ios::binary);
    replay(in);
    ++replayed;
  }
  std::printf("replayed %d inputs\n", replayed);
  if (!tell_depths(whole_corpus)) return 1;
  return replayed > 0 ? 0 : 1;
}

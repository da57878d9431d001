// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

namespace slipring::test {

/// A name that no other test, process or run uses: "t.<what>.<pid>.<count>".
inline std::string unique_name(std::string_view what) {
  static std::atomic<unsigned> count{0};
  return "t." + std::string(what) + "." + std::to_string(::getpid()) + "." +
         std::to_string(count.fetch_add(1));
}

/// A new directory, removed with all it holds at the end of the scope, by the process that made it.
class TempDir {
 public:
  TempDir() : owner_(::getpid()) {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "slipring-test-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;
    if (::getpid() == owner_) std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
  pid_t owner_;
};

}  // namespace slipring::test

// SPDX-License-Identifier: Apache-2.0
#include "report.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

namespace slipring::tools {

tl::unexpected<Failure> failed(const Error& error, const Subject& subject) {
  return tl::unexpected(Failure{explain(error, subject), exit_code_of(error.code)});
}

tl::unexpected<Failure> usage(std::string what, std::string why, std::string fix) {
  return tl::unexpected(Failure{{Errc::invalid_argument, std::move(what) + " (invalid_argument)",
                                 std::move(why), std::move(fix)},
                                ExitCode::usage});
}

tl::unexpected<Failure> failed_call(const std::string& what, const char* call, std::string why,
                                    std::string fix) {
  const int sys = errno;
  const Errc code = errc_of(sys);
  const char* name = ::strerrorname_np(sys);
  std::string text = fmt::format("{} ({}: {}, {})", what, to_string(code), call,
                                 name != nullptr ? name : std::to_string(sys));
  if (why.empty()) why = ::strerrordesc_np(sys);
  return tl::unexpected(
      Failure{{code, std::move(text), std::move(why), std::move(fix)}, exit_code_of(code)});
}

Voice& voice() noexcept {
  static Voice voice;
  return voice;
}

void set_color(Color color) noexcept {
  const auto wanted = [color](int fd) {
    if (color != Color::automatic) return color == Color::always;
    const char* term = std::getenv("TERM");
    return ::isatty(fd) == 1 && std::getenv("NO_COLOR") == nullptr && term != nullptr &&
           std::strcmp(term, "dumb") != 0;
  };
  voice().color_err = wanted(STDERR_FILENO);
  voice().color_out = wanted(STDOUT_FILENO);
}

int terminal_width(int fd) noexcept {
  winsize size{};
  return ::isatty(fd) == 1 && ::ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

ExitCode report(const Failure& failure) {
  const Explanation& text = failure.text;
  if (text.what.empty()) return failure.exit;  // a signal: the user knows
  if (voice().json) {
    using Json = nlohmann::ordered_json;
    const Json error = {
        {"code", to_string(text.code)}, {"what", text.what}, {"why", text.why}, {"fix", text.fix}};
    fmt::print(stderr, "{}\n", Json{{"slipring", {{"error", error}}}}.dump());
  } else if (voice().color_err) {
    fmt::print(stderr,
               "\x1b[1;31mslipring:\x1b[0m \x1b[1m{}\x1b[0m\n"
               "     \x1b[2mwhy:\x1b[0m {}\n     \x1b[32mfix:\x1b[0m {}\n",
               text.what, text.why, text.fix);
  } else {
    fmt::print(stderr, "slipring: {}\n", text.text());
  }
  return failure.exit;
}

void note(const std::string& line) {
  if (!voice().quiet && !voice().json) fmt::print(stderr, "slipring: {}\n", line);
}

}  // namespace slipring::tools

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace slipring::bench {

/// Writes JSON, one value after the other. The caller opens and closes in pairs.
class Json {
 public:
  Json& open(char bracket) {
    comma();
    text_ += bracket;
    first_ = true;
    return *this;
  }
  Json& close(char bracket) {
    text_ += bracket;
    first_ = false;
    return *this;
  }
  Json& key(std::string_view name) {
    comma();
    quote(name);
    text_ += ':';
    first_ = true;  // no comma before its value
    return *this;
  }
  Json& value(std::string_view text) {
    comma();
    quote(text);
    return *this;
  }
  Json& value(const char* text) { return value(std::string_view(text)); }
  Json& value(bool truth) { return raw(truth ? "true" : "false"); }
  /// null for what is no number.
  Json& value(double number) {
    char text[40];
    std::snprintf(text, sizeof text, "%.6g", number);
    return raw(std::isfinite(number) ? text : "null");
  }
  Json& value(std::uint64_t number) { return raw(std::to_string(number)); }
  Json& value(int number) { return raw(std::to_string(number)); }
  template <typename T>
  Json& put(std::string_view name, const T& what) {
    return key(name).value(what);
  }
  /// A line of its own, for whoever looks at the difference of two files.
  Json& new_line() {
    line_ = true;
    return *this;
  }
  [[nodiscard]] const std::string& text() const noexcept { return text_; }

 private:
  Json& raw(std::string_view text) {
    comma();
    text_ += text;
    return *this;
  }
  void comma() {
    if (!first_) text_ += ',';
    if (line_) text_ += '\n';
    first_ = line_ = false;
  }
  void quote(std::string_view text) {
    text_ += '"';
    for (const char c : text) {
      if (c == '"' || c == '\\') text_ += '\\';
      if (static_cast<unsigned char>(c) < 0x20) {
        char code[8];
        std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(c));
        text_ += code;
      } else {
        text_ += c;
      }
    }
    text_ += '"';
  }

  std::string text_;
  bool first_ = true;
  bool line_ = false;
};

}  // namespace slipring::bench

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/section.h"

namespace temper {

/// Writes option structs as YAML. It is called like Section, so that what is read and what is
/// written are one list of keys.
class SectionWriter {
 public:
  /// The YAML so far.
  const std::string& yaml() const { return yaml_; }

  template <std::integral T>
  void integer(const char* key, const T& value, Rule<int64_t>, KeyHelp) {
    line(key, std::to_string(value));
  }
  void real(const char* key, double value, Rule<double>, KeyHelp);
  /// Nothing if it is 0, which stands for none.
  void real_or_none(const char* key, double value, Rule<double> rule, KeyHelp help) {
    if (value != 0.0) real(key, value, rule, help);
  }
  void real_or_none(const char* key, const std::optional<double>& value, Rule<double> rule,
                    KeyHelp help) {
    if (value) real(key, *value, rule, help);
  }
  void flag(const char* key, bool value, KeyHelp) { line(key, value ? "true" : "false"); }
  void text(const char* key, const std::string& value, const TextRule&, KeyHelp);
  void texts(const char* key, const std::vector<std::string>& values, const TextRule&, KeyHelp);
  void integers(const char* key, const std::vector<int64_t>& values, Rule<int64_t>, KeyHelp);

  template <typename E, size_t kCount>
  void choice(const char* key, const E& value, const Choice<E> (&choices)[kCount], KeyHelp) {
    for (const Choice<E>& one : choices) {
      if (one.value == value) return line(key, one.name);
    }
  }

  template <typename Write>
  void section(const char* key, KeyHelp, Write write) {
    open(key, "");
    write(*this);
    close();
  }

  template <typename T, typename Write>
  void list(const char* key, std::vector<T>& values, KeyHelp, Write write) {
    open(key, values.empty() ? " []" : "");
    for (T& value : values) {
      begins_item_ = true;
      write(*this, value);
    }
    close();
  }

 private:
  void line(std::string_view key, std::string_view value);
  void open(std::string_view key, std::string_view value);
  void close() { --depth_; }

  std::string yaml_;
  int depth_ = 0;
  bool begins_item_ = false;
};

}  // namespace temper

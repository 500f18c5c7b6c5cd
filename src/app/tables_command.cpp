// SPDX-License-Identifier: Apache-2.0
#include <iostream>

#include "app/commands.h"
#include "config/key_table.h"
#include "core/error.h"

namespace temper {

namespace {

int write(const std::string& text) {
  std::cout << text << std::flush;
  return static_cast<int>(ExitCode::kFinished);
}

}  // namespace

int run_options(const std::string& section, bool as_markdown) {
  const KeyEntry table = key_table();
  if (as_markdown && !section.empty()) {
    throw ConfigError("--markdown is the page of all sections", "leave one of them out");
  }
  if (as_markdown) return write(options_markdown(table));
  return write(options_text(section.empty() ? table : find_key(table, section)));
}

int run_schema() { return write(options_schema(key_table())); }

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include <iostream>

#include "app/commands.h"
#include "app/completion.h"
#include "app/man_page.h"
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

int run_completion(const std::string& shell, const ProgramHelp& help) {
  const KeyEntry keys = key_table();
  if (shell == "bash") return write(bash_completion(help, keys));
  if (shell == "zsh") return write(zsh_completion(help, keys));
  return write(fish_completion(help, keys));
}

int run_man(const std::string& page, const ProgramHelp& help) {
  return write(page == "temper" ? program_page(help) : config_page(key_table(), help.version));
}

}  // namespace temper

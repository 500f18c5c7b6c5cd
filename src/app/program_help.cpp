// SPDX-License-Identifier: Apache-2.0
#include "app/program_help.h"

#include <CLI/CLI.hpp>
#include <sstream>
#include <utility>

namespace temper {
namespace {

// The names in "INT:value in {one->0,two->1}" or "TEXT:{one,two}", as CLI11 describes an option of
// few values.
std::vector<std::string> choices_of(const std::string& type) {
  const size_t begin = type.find('{');
  if (begin == std::string::npos) return {};
  std::istringstream list(type.substr(begin + 1, type.find('}') - begin - 1));
  std::vector<std::string> names;
  for (std::string one; std::getline(list, one, ',');)
    names.push_back(one.substr(0, one.find("->")));
  return names;
}

ArgumentHelp help_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const bool is_flag = option.get_items_expected_max() == 0;
  const bool is_positional = option.get_positional();
  const std::string text = option.get_option_text();
  return {.name = option.get_name(is_positional),
          .value = is_flag || is_positional ? ""
                   : text.empty()           ? type.substr(0, type.find(':'))
                                            : text,
          .default_text = option.get_default_str(),
          .description = option.get_description(),
          .choices = choices_of(type),
          .is_required = option.get_required(),
          .has_many = option.get_items_expected_max() > 1};
}

// Options may stand in groups, which CLI11 has as verbs without a name.
void append_arguments(const CLI::App& command, VerbHelp& verb) {
  for (const CLI::Option* option : command.get_options()) {
    if (command.get_name().empty() && option == command.get_help_ptr()) continue;
    (option->get_positional() ? verb.positionals : verb.options).push_back(help_of(*option));
  }
  for (const CLI::App* group : command.get_subcommands([](const CLI::App*) { return true; })) {
    append_arguments(*group, verb);
  }
}

}  // namespace

ProgramHelp help_of(const CLI::App& app, const std::string& version) {
  ProgramHelp help{.description = app.get_description(), .version = version};
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    VerbHelp verb{.name = command->get_name(), .description = command->get_description()};
    append_arguments(*command, verb);
    help.verbs.push_back(std::move(verb));
  }
  return help;
}

}  // namespace temper

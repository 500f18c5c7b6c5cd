// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace temper {

/// What the command line's own tables tell of one option or positional argument of a verb.
struct ArgumentHelp {
  std::string name = {};          ///< "--ranks", or "config".
  std::string value = {};         ///< What follows an option: "INT"; empty: nothing does.
  std::string default_text = {};  ///< Empty: none is told.
  std::string description = {};
  std::vector<std::string> choices = {};  ///< All values there are, where there are few.
  bool is_required = false;
  bool has_many = false;  ///< A positional that takes all that follows.
};

struct VerbHelp {
  std::string name = {};
  std::string description = {};
  std::vector<ArgumentHelp> options = {};
  std::vector<ArgumentHelp> positionals = {};
};

/// All of the command line, as it is read.
struct ProgramHelp {
  std::string description = {};
  std::string version = {};
  std::vector<VerbHelp> verbs = {};
};

/// What the parser of the command line knows of it. `version` as --version prints it.
ProgramHelp help_of(const CLI::App& app, const std::string& version);

}  // namespace temper

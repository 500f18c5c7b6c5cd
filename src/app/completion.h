// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "app/program_help.h"
#include "config/key_table.h"

namespace temper {

/// What a shell reads to complete the command line: verbs, their options and the values of those
/// that have few, files, and where a verb takes overrides the keys of a configuration, as
/// `train.max_steps=`.
std::string bash_completion(const ProgramHelp& help, const KeyEntry& keys);
std::string zsh_completion(const ProgramHelp& help, const KeyEntry& keys);
std::string fish_completion(const ProgramHelp& help, const KeyEntry& keys);

}  // namespace temper

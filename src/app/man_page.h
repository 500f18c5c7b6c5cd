// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "app/program_help.h"
#include "config/key_table.h"

namespace temper {

/// The manual page temper(1), with every verb and its options, in man(7).
std::string program_page(const ProgramHelp& help);

/// The manual page temper-config(5), with every key, in man(7).
std::string config_page(const KeyEntry& table, const std::string& version);

}  // namespace temper

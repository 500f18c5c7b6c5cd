// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "checkpoint/json_keys.h"
#include "model/family.h"

namespace temper {

/// Reads the rotary settings of a config.json, whose sizes `config` has by now: `rope_parameters`,
/// or in older files `rope_scaling`, which holds the same but the base, and calls the kind `type`.
/// Families with two tables have one below `full_attention` and one below `sliding_attention`.
/// Notes problems; adds the names of keys that nobody looks at to `unknown_keys`.
/// Source: transformers 5.24, modeling_rope_utils.py.
void read_rope(const JsonKeys& top, const Family& family, ModelConfig& config,
               std::vector<std::string>& problems, std::vector<std::string>& unknown_keys);

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "checkpoint/json_keys.h"

namespace temper {

// What becomes of those keys of a config.json that nobody has asked for: the harmless ones are
// passed over, and those by which other models change what is computed are noted as problems. The
// names of the rest are returned: transformers' classes of the families ignore them.

/// Of the file itself.
std::vector<std::string> sort_out_config_keys(const JsonKeys& keys);

/// Of its rotary settings.
std::vector<std::string> sort_out_rope_keys(const JsonKeys& keys);

}  // namespace temper

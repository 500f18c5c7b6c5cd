// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace temper {

/// What a generation_config.json says beside the tokens that end a text.
struct GenerationKeys {
  /// Settings by which transformers takes other tokens, and which generation here does not take
  /// from the file: "temperature 0.6". Those of sampling count where the file asks for it.
  std::vector<std::string> not_applied;
  std::vector<std::string> unknown;  ///< Names of keys with a value that are not known here.
};

/// Reads these keys; nothing is refused, since none of them changes what is trained. `name` is the
/// file's. Throws: ModelError if the text is no JSON object.
/// Source: transformers 5.24, generation/configuration_utils.py.
GenerationKeys read_generation_keys(std::string_view text, const std::string& name);

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "model/adapter/method.h"

namespace temper {

/// What servers that load adapters beside a base do not take of this one, or only if asked, and
/// what to do; one line for each. Empty: nothing is in the way. Source: vLLM 0.11,
/// lora/peft_helper.py and config/lora.py; llama.cpp, convert_lora_to_gguf.py.
std::vector<std::string> serving_notes(const MethodOptions& adapter);

}  // namespace temper

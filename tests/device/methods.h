// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "model/adapter/method.h"

namespace temper::testing {

/// The options of a method by its name, and of DoRA; small.
inline MethodOptions method_of(const std::string& name) {
  MethodOptions method;
  if (name == "lora" || name == "dora") method.kind = MethodOptions::Kind::kLora;
  if (name == "dora") method.lora.uses_dora = true;
  if (name == "qlora") method.kind = MethodOptions::Kind::kQlora;
  if (name == "bottleneck") method.kind = MethodOptions::Kind::kBottleneck;
  if (name == "prefix") method.kind = MethodOptions::Kind::kPrefix;
  if (name == "prompt") method.kind = MethodOptions::Kind::kPrompt;
  method.prefix.num_tokens = method.prompt.num_tokens = 5;
  return method;
}

}  // namespace temper::testing

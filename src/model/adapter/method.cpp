// SPDX-License-Identifier: Apache-2.0
#include "model/adapter/method.h"

namespace temper {

std::optional<Adapter> make_adapter(const MethodOptions& options, const ModelConfig& config) {
  switch (options.kind) {
    case MethodOptions::Kind::kFull: break;
    case MethodOptions::Kind::kLora: return make_lora(options.lora, config);
  }
  return std::nullopt;
}

}  // namespace temper

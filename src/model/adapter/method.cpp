// SPDX-License-Identifier: Apache-2.0
#include "model/adapter/method.h"

#include <stdexcept>

#include "core/concat.h"
#include "core/error.h"
#include "model/family.h"

namespace temper {

using Kind = MethodOptions::Kind;

int64_t MethodOptions::num_virtual_tokens() const {
  return kind == Kind::kPrefix ? prefix.num_tokens : kind == Kind::kPrompt ? prompt.num_tokens : 0;
}

std::string name_of(Kind kind) {
  switch (kind) {
    case Kind::kFull: return "full";
    case Kind::kLora: return "lora";
    case Kind::kQlora: return "qlora";
    case Kind::kPrefix: return "prefix";
    case Kind::kPrompt: return "prompt";
    case Kind::kBottleneck: return "bottleneck";
  }
  throw std::logic_error("a method without a name");
}

// Four bits stand for rows of [out, in] in bitsandbytes.
void require_four_bits(const ModelConfig& config) {
  if (!family_of(config.model_type).is_transposed) return;
  throw ConfigError(concat("method is qlora, but a ", config.model_type,
                           " model stores its matrices transposed, which is not computed in four "
                           "bits"),
                    "set method to lora");
}

std::optional<Adapter> make_adapter(const MethodOptions& options, const ModelConfig& config) {
  const auto seed = static_cast<uint64_t>(options.seed);
  switch (options.kind) {
    case Kind::kFull: break;
    case Kind::kQlora: require_four_bits(config); [[fallthrough]];
    case Kind::kLora: return make_lora(options.lora, seed, config);
    case Kind::kPrefix: return make_prefix(options.prefix, config);
    case Kind::kPrompt: return make_prompt(options.prompt, seed, config);
    case Kind::kBottleneck: return make_bottleneck(options.bottleneck, config);
  }
  return std::nullopt;
}

bool is_same_adapter(const MethodOptions& a, const MethodOptions& b, const ModelConfig& config) {
  if (a.is_lora() && b.is_lora()) {
    return lora_modules(a.lora, config) == lora_modules(b.lora, config) &&
           a.lora.uses_dora == b.lora.uses_dora && a.lora.saved.tokens == b.lora.saved.tokens &&
           saved_tensors(a.lora.saved, config) == saved_tensors(b.lora.saved, config);
  }
  if (a.kind == Kind::kBottleneck && b.kind == Kind::kBottleneck) {
    return is_same_bottleneck(a.bottleneck, b.bottleneck, config);
  }
  return a.kind == b.kind && a.num_virtual_tokens() == b.num_virtual_tokens();
}

}  // namespace temper

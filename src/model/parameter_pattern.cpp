// SPDX-License-Identifier: Apache-2.0
#include "model/parameter_pattern.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string_view>

#include "core/concat.h"
#include "core/message_text.h"
#include "model/adapter/option_error.h"
#include "model/tensor_names.h"

namespace temper {
namespace {

constexpr std::string_view kLayers = "layers.";
constexpr std::string_view kWeight = ".weight";
constexpr std::string_view kBias = ".bias";
constexpr std::string_view kBiasOfAll = "_bias";  // Of all experts.

// Takes "layers.4" or "layers.4-11", and a dot behind it, off the beginning.
std::optional<Range> take_layers(std::string_view& text) {
  if (!text.starts_with(kLayers)) return std::nullopt;
  std::string_view rest = text.substr(kLayers.size());
  const std::optional<int64_t> first = take_number(rest);
  std::optional<int64_t> last = first;
  if (first && rest.starts_with('-')) {
    rest.remove_prefix(1);
    last = take_number(rest);
  }
  if (!last || !(rest.empty() || rest.starts_with('.'))) return std::nullopt;
  text = rest.substr(rest.empty() ? 0 : 1);
  return Range{*first, *last + 1};
}

// As their modules are called: "input_layernorm", "ln_1".
bool is_norm(const std::string& parameter) {
  const std::string_view module = std::string_view(parameter).substr(0, parameter.rfind('.'));
  return module.ends_with("norm") || module.substr(module.rfind('.') + 1).starts_with("ln_");
}

}  // namespace

ParameterPattern::ParameterPattern(const std::string& text, const ModelConfig& model,
                                   const std::string& option)
    : blocks_(blocks_prefix(model)),
      embedding_{embedding_weight(model), concat(positions_name(model), kWeight)},
      head_{head_weight(model), concat(head_name(model), kBias)} {
  std::string_view rest = text;
  layers_ = take_layers(rest);
  if (layers_ && (layers_->is_empty() || layers_->end > model.num_layers)) {
    throw OptionError(option,
                      concat("has ", quote(text), ", but the model has ", model.num_layers,
                             " blocks, 0 to ", model.num_layers - 1),
                      concat("write a range of them, as in layers.0-", model.num_layers - 1));
  }
  if (layers_ && (rest.empty() || rest == "*")) return;
  static const std::map<std::string_view, Word> kWords = {{"embedding", Word::kEmbedding},
                                                          {"head", Word::kHead},
                                                          {"norms", Word::kNorms},
                                                          {"biases", Word::kBiases}};
  if (const auto word = kWords.find(rest); word != kWords.end()) {
    word_ = word->second;
  } else {
    pattern_.emplace(std::string(rest), option);
  }
}

bool ParameterPattern::fits(const std::string& parameter) const {
  if (!layers_) return fits_rest(parameter);
  const std::optional<int64_t> layer = layer_of(parameter, blocks_);
  return layer && *layer >= layers_->begin && *layer < layers_->end && fits_rest(parameter);
}

bool ParameterPattern::fits_rest(const std::string& parameter) const {
  switch (word_) {
    case Word::kEmbedding: return std::ranges::find(embedding_, parameter) != embedding_.end();
    case Word::kHead: return std::ranges::find(head_, parameter) != head_.end();
    case Word::kNorms: return is_norm(parameter);
    case Word::kBiases: return parameter.ends_with(kBias) || parameter.ends_with(kBiasOfAll);
    case Word::kNone: break;
  }
  if (!pattern_) return true;
  std::string path = parameter;  // Then the module that has it, and those around that one.
  while (!pattern_->fits_end_of(path)) {
    const size_t dot = path.rfind('.');
    if (dot == std::string::npos) return false;
    path.resize(dot);
  }
  return true;
}

}  // namespace temper

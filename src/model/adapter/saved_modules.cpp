// SPDX-License-Identifier: Apache-2.0
#include "model/adapter/saved_modules.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "core/concat.h"
#include "core/message_text.h"
#include "model/adapter/option_error.h"
#include "model/family.h"
#include "model/linear_modules.h"
#include "model/tensor_names.h"

namespace temper {
namespace {

using Place = SavedTensor::Place;

// A module's path in transformers, and its name in files.
struct ModuleNames {
  std::string module, file;
};

SavedTensor saved(const ModuleNames& names, Place place, std::vector<int64_t> shape,
                  int64_t layer = -1) {
  const std::string weight = names.file + ".weight";
  return {names.module, place, layer, std::move(shape), false, weight, weight};
}

// What `name_of` makes of the model, by both kinds of names.
template <typename NameOf>
ModuleNames names_by(const ModelConfig& config, NameOf name_of) {
  return {name_of(config, NameKind::kModule), name_of(config, NameKind::kFile)};
}

// The norms of a block, in their order.
std::vector<SavedTensor> norms_of(const ModelConfig& config, int64_t layer) {
  const Family& family = family_of(config.model_type);
  const bool is_of_all = family.query_key_norm == Family::QueryKeyNorm::kAllHeads;
  const int64_t queries = (is_of_all ? config.num_heads : 1) * config.head_dim;
  const int64_t keys = (is_of_all ? config.num_key_value_heads : 1) * config.head_dim;
  std::vector<SavedTensor> all;
  const auto add = [&](std::string_view BlockNames::*which, Place place, int64_t size) {
    if ((block_names(config).*which).empty()) return;
    const auto name_of = [&](const ModelConfig& model, NameKind kind) {
      return concat(block_name(model, layer, kind), '.', block_names(model, kind).*which);
    };
    all.push_back(saved(names_by(config, name_of), place, {size}, layer));
  };
  add(&BlockNames::attention_norm, Place::kAttentionNorm, config.hidden_size);
  if (config.has_qk_norm) {
    add(&BlockNames::query_norm, Place::kQueryNorm, queries);
    add(&BlockNames::key_norm, Place::kKeyNorm, keys);
  }
  add(&BlockNames::after_attention_norm, Place::kAfterAttentionNorm, config.hidden_size);
  add(&BlockNames::mlp_norm, Place::kMlpNorm, config.hidden_size);
  add(&BlockNames::after_mlp_norm, Place::kAfterMlpNorm, config.hidden_size);
  return all;
}

// All that may be trained as it is, in the order of the model: of norms, those that have no bias.
std::vector<SavedTensor> all_tensors(const ModelConfig& config) {
  const std::vector<int64_t> matrix = {config.vocab_size, config.hidden_size};
  const NormKind kind = family_of(config.model_type).norm;
  const bool has_plain_norms = kind.has_scale && !kind.has_bias;
  std::vector<SavedTensor> all = {
      saved(names_by(config, embedding_name), Place::kEmbedding, matrix)};
  for (int64_t layer = 0; has_plain_norms && layer < config.num_layers; ++layer) {
    for (SavedTensor& norm : norms_of(config, layer)) all.push_back(std::move(norm));
  }
  if (has_plain_norms) {
    all.push_back(
        saved(names_by(config, final_norm_name), Place::kFinalNorm, {config.hidden_size}));
  }
  all.push_back(saved(names_by(config, head_name), Place::kHead, matrix));
  if (config.has_tied_head) all.back().base = embedding_weight(config);
  return all;
}

bool is_meant(const SavedTensor& tensor, const std::string& module) {
  return tensor.module.ends_with(module);
}

void require_modules(const SavedModuleOptions& options, const ModelConfig& config,
                     const std::vector<SavedTensor>& all) {
  for (const std::string& module : options.modules) {
    if (std::ranges::any_of(all, [&](const auto& one) { return is_meant(one, module); })) continue;
    const auto linear = all_modules(config);
    if (std::ranges::any_of(linear, [&](const auto& one) { return one.name.ends_with(module); })) {
      throw OptionError("lora.modules_to_save",
                        concat("names ", quote(module), ", a matrix of the blocks"),
                        "name it in lora.targets, or set method to full");
    }
    if (module.ends_with("norm") && family_of(config.model_type).norm.has_bias) {
      throw OptionError("lora.modules_to_save",
                        concat("names ", quote(module), ", but norms of a ", config.model_type,
                               " model have biases, which an adapter is not saved with here"),
                        "leave it out, or set method to full");
    }
    throw OptionError("lora.modules_to_save",
                      concat("names ", quote(module), ", which is no module of this ",
                             config.model_type, " model"),
                      "take some of: embed_tokens, lm_head, model.norm, input_layernorm, "
                      "post_attention_layernorm");
  }
}

void require_tokens(const SavedModuleOptions& options, const ModelConfig& config) {
  std::set<int64_t> seen;
  for (const int64_t token : options.tokens) {
    if (token >= config.vocab_size) {
      throw OptionError(
          "lora.trainable_tokens",
          concat("has ", token, ", but the vocabulary has ", config.vocab_size, " tokens"),
          "name ids of this model's tokenizer");
    }
    if (!seen.insert(token).second) {
      throw OptionError("lora.trainable_tokens", concat("has ", token, " twice"), "name it once");
    }
  }
}

std::vector<SavedTensor> whole_tensors(const SavedModuleOptions& options,
                                       const ModelConfig& config) {
  std::vector<SavedTensor> all = all_tensors(config);
  require_modules(options, config, all);
  std::erase_if(all, [&](const SavedTensor& tensor) {
    return std::ranges::none_of(options.modules,
                                [&](const auto& module) { return is_meant(tensor, module); });
  });
  return all;
}

// The matrices of which only rows are trained, beside those that are trained as a whole.
void add_rows(const SavedModuleOptions& options, const ModelConfig& config,
              std::vector<SavedTensor>& chosen) {
  bool trains_head = options.trains_head_rows && !config.has_tied_head;
  for (const SavedTensor& whole : chosen) {
    if (whole.place == Place::kEmbedding || (whole.place == Place::kHead && config.has_tied_head)) {
      throw OptionError(
          "lora.modules_to_save",
          concat("trains ", whole.module, " as a whole, and lora.trainable_tokens rows of it"),
          "keep one of them");
    }
    if (whole.place == Place::kHead) trains_head = false;
  }
  for (SavedTensor tensor : all_tensors(config)) {
    if (tensor.place != Place::kEmbedding && !(tensor.place == Place::kHead && trains_head))
      continue;
    tensor.is_rows = true;
    tensor.shape[0] = static_cast<int64_t>(options.tokens.size());
    chosen.push_back(std::move(tensor));
  }
}

void attach_rows(const SavedTensor& tensor, const std::vector<int64_t>& tokens, bool has_tied_head,
                 Adapter& adapter) {
  const bool is_embedding = tensor.place == Place::kEmbedding;
  if (is_embedding) {
    adapter.embedding_rows = {adapter.use(tensor.name(), Adapter::kEmbeddingUser), tokens};
  }
  if (!is_embedding || has_tied_head) {
    adapter.head_rows = {adapter.use(tensor.name(), adapter.head_user()), tokens};
  }
}

int user_of(const SavedTensor& tensor, const Adapter& adapter) {
  if (tensor.place == Place::kEmbedding) return Adapter::kEmbeddingUser;
  return tensor.layer >= 0 ? Adapter::block_user(tensor.layer) : adapter.head_user();
}

Weight& place_of(const SavedTensor& tensor, Adapter& adapter) {
  switch (tensor.place) {
    case Place::kEmbedding: return adapter.embedding;
    case Place::kHead: return adapter.head;
    case Place::kFinalNorm: return adapter.final_norm;
    default: break;
  }
  BlockAddition& block = adapter.blocks[static_cast<size_t>(tensor.layer)];
  switch (tensor.place) {
    case Place::kQueryNorm: return block.query_norm;
    case Place::kKeyNorm: return block.key_norm;
    case Place::kMlpNorm: return block.mlp_norm;
    case Place::kAfterAttentionNorm: return block.after_attention_norm;
    case Place::kAfterMlpNorm: return block.after_mlp_norm;
    default: return block.attention_norm;
  }
}

}  // namespace

std::string SavedTensor::name() const {
  return concat("base_model.model.", module,
                is_rows ? ".token_adapter.trainable_tokens_delta" : ".weight");
}

std::vector<SavedTensor> saved_tensors(const SavedModuleOptions& options,
                                       const ModelConfig& config) {
  std::vector<SavedTensor> chosen = whole_tensors(options, config);
  require_tokens(options, config);
  if (!options.tokens.empty()) add_rows(options, config, chosen);
  return chosen;
}

void add_saved(const SavedModuleOptions& options, const ModelConfig& config,
               std::vector<AdapterTensor>& tensors) {
  using Distribution = InitialValues::Distribution;
  for (const SavedTensor& tensor : saved_tensors(options, config)) {
    const auto distribution = tensor.is_rows ? Distribution::kRows : Distribution::kCopy;
    tensors.push_back(
        {{.name = tensor.name(), .shape = tensor.shape, .decays = tensor.shape.size() == 2},
         {distribution, 0.0, options.tokens, tensor.base},
         tensor.layer});
  }
}

void attach_saved(const SavedModuleOptions& options, const ModelConfig& config, Adapter& adapter) {
  for (const SavedTensor& tensor : saved_tensors(options, config)) {
    if (tensor.is_rows) {
      attach_rows(tensor, options.tokens, config.has_tied_head, adapter);
    } else {
      place_of(tensor, adapter) = adapter.use(tensor.name(), user_of(tensor, adapter));
    }
  }
}

}  // namespace temper

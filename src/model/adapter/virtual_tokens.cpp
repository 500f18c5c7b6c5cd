// SPDX-License-Identifier: Apache-2.0
#include "model/adapter/virtual_tokens.h"

#include "core/concat.h"
#include "core/error.h"
#include "core/random.h"
#include "model/family.h"
#include "model/tensor_names.h"

namespace temper {
namespace {

using Distribution = InitialValues::Distribution;

constexpr const char* kName = "prompt_embeddings";

// An adapter of one matrix, whose weights nothing uses yet.
Adapter one_matrix(std::vector<int64_t> shape, InitialValues initial, const ModelConfig& config,
                   bool decays = true) {
  const TensorSlot slot{.name = kName, .shape = std::move(shape), .decays = decays};
  return {{{slot, std::move(initial)}}, std::make_shared<Dropout>(0.0, 0), config.num_layers};
}

std::vector<int64_t> first_tokens(const PromptOptions& options, uint64_t seed,
                                  const ModelConfig& config) {
  std::vector<int64_t> tokens;
  for (int64_t i = 0; i < options.num_tokens; ++i) {
    const auto index = static_cast<uint64_t>(i);
    const bool is_random = options.init == PromptOptions::Init::kVocabulary;
    tokens.push_back(is_random ? static_cast<int64_t>(random_word(seed, index) %
                                                      static_cast<uint64_t>(config.vocab_size))
                               : options.token_ids[index % options.token_ids.size()]);
  }
  return tokens;
}

void require_tokens(const PromptOptions& options, const ModelConfig& config) {
  if (options.init != PromptOptions::Init::kTokens) return;
  if (options.token_ids.empty()) {
    throw ConfigError("prompt.init is tokens, but prompt.token_ids is empty",
                      "list the ids of the text to begin with");
  }
  for (const int64_t token : options.token_ids) {
    if (token < config.vocab_size) continue;
    throw ConfigError(concat("prompt.token_ids has ", token, ", but the vocabulary has ",
                             config.vocab_size, " tokens"),
                      "encode the text with this model's tokenizer");
  }
}

}  // namespace

Adapter make_prefix(const PrefixOptions& options, const ModelConfig& config) {
  const int64_t columns = 2 * config.num_key_value_heads * config.head_dim;
  const bool is_zero = options.deviation == 0.0;
  Adapter adapter =
      one_matrix({options.num_tokens, config.num_layers * columns},
                 {is_zero ? Distribution::kZero : Distribution::kNormal, options.deviation}, config,
                 /*decays=*/options.projection == 0);
  if (options.projection > 0) {
    adapter.add_projection(
        {options.num_tokens, columns / 2, options.projection, config.num_layers * columns});
  }
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    adapter.blocks[static_cast<size_t>(layer)].prefix = {
        adapter.use(kName, Adapter::block_user(layer)), layer * columns};
  }
  return adapter;
}

Adapter make_prompt(const PromptOptions& options, uint64_t seed, const ModelConfig& config) {
  if (config.embedding_scale != 1.0) {
    throw ConfigError(concat("method is prompt, but a ", config.model_type,
                             " model scales its embeddings, and programs differ in whether they "
                             "scale a prompt's, too: that is not computed here"),
                      "set method to prefix or lora");
  }
  if (family_of(config.model_type).has_learned_positions()) {
    throw ConfigError(concat("method is prompt, but a ", config.model_type,
                             " model learns its positions, and those of a prompt are not computed "
                             "here"),
                      "set method to prefix or lora");
  }
  require_tokens(options, config);
  const bool is_normal = options.init == PromptOptions::Init::kNormal;
  InitialValues initial{Distribution::kNormal, 1.0};
  if (!is_normal) {
    initial = {Distribution::kRows, 0.0, first_tokens(options, seed, config),
               embedding_weight(config)};
  }
  Adapter adapter = one_matrix({options.num_tokens, config.hidden_size}, initial, config);
  adapter.prompt = adapter.use(kName, Adapter::kEmbeddingUser);
  return adapter;
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "model/adapter/adapter.h"
#include "model/model_config.h"

namespace temper {

struct PrefixOptions {
  int64_t num_tokens = 20;
  double deviation = 1.0;  ///< Of the normal numbers that it begins with, as in peft; 0: zeros.
  int64_t projection = 0;  ///< Trained through a hidden layer of this width; 0: directly.

  friend bool operator==(const PrefixOptions&, const PrefixOptions&) = default;
};

struct PromptOptions {
  enum class Init {
    kNormal,      ///< Standard normal numbers: peft's RANDOM.
    kVocabulary,  ///< The embeddings of random tokens: peft's SAMPLE_VOCAB.
    kTokens,      ///< The embeddings of `token_ids`, repeated or cut: peft's TEXT.
  };
  int64_t num_tokens = 20;
  Init init = Init::kVocabulary;
  std::vector<int64_t> token_ids = {};

  friend bool operator==(const PromptOptions&, const PromptOptions&) = default;
};

/// Prefix tuning: trained keys and values before each document, in every block; with a projection,
/// what they are computed from is trained.
/// Source: Li and Liang, arXiv:2101.00190; peft 0.21, tuners/prefix_tuning (name, layout).
Adapter make_prefix(const PrefixOptions& options, const ModelConfig& config);

/// Prompt tuning: trained embeddings before each document.
/// Throws: ConfigError for tokens that the model does not have.
/// Source: Lester et al., "The power of scale for parameter-efficient prompt tuning",
///   arXiv:2104.08691; peft 0.21, tuners/prompt_tuning (name, layout, init).
Adapter make_prompt(const PromptOptions& options, uint64_t seed, const ModelConfig& config);

}  // namespace temper

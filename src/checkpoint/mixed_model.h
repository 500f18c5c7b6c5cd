// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

namespace temper {

/// A model's folder, and what its weights count.
struct WeightedModel {
  std::filesystem::path path;
  double weight = 1.0;
};

/// Writes the model whose weights are the weighted sums of those of models of one shape: between a
/// base and what was tuned from it, or the mean of several runs. Sums are taken in fp64, in the
/// order of the models, and rounded once to the first one's dtypes; configuration, tokenizer and
/// chat template are the first one's. Holds one tensor at a time. The folder appears whole or not
/// at all.
/// Source: Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv:2109.01903, and "Model
///   soups", arXiv:2203.05482.
///
/// Throws: ConfigError if there are fewer than two models, the weights do not add up to 1, or
///   `destination` exists; ModelError if a model cannot be read, is in four bits or has other
///   tensors than the first, or a sum is not finite; CheckpointError if it cannot be written.
void mix_models(const std::vector<WeightedModel>& models, const std::filesystem::path& destination);

}  // namespace temper

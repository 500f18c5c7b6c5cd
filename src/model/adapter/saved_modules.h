// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/adapter/adapter.h"
#include "model/model_config.h"

namespace temper {

/// What LoRA may train beside its additions: whole modules that are no matrices of the blocks, and
/// the rows of some tokens. A tied head and the embedding become two matrices when one of them is
/// trained as a whole, as in peft; rows are trained in both.
struct SavedModuleOptions {
  std::vector<std::string> modules = {};  ///< Ends of paths, as in peft: lm_head, norm.
  std::vector<int64_t> tokens = {};       ///< Whose rows are trained, in the embedding and ...
  bool trains_head_rows = true;           ///< ... in an untied head.

  friend bool operator==(const SavedModuleOptions&, const SavedModuleOptions&) = default;
};

/// One tensor that is trained as it is.
struct SavedTensor {
  enum class Place {
    kEmbedding,
    kHead,
    kFinalNorm,
    kAttentionNorm,
    kAfterAttentionNorm,
    kQueryNorm,
    kKeyNorm,
    kMlpNorm,
    kAfterMlpNorm
  };
  std::string module;  ///< Its path: "model.layers.0.input_layernorm".
  Place place;
  int64_t layer = -1;          ///< Of norms in a block.
  std::vector<int64_t> shape;  ///< Of the tensor, or of the rows that are trained.
  bool is_rows = false;        ///< Only the rows of tokens are trained.
  std::string base;            ///< The tensor of the model that it begins with,
  std::string replaced;        ///< and that which it takes the place of.

  std::string name() const;  ///< As in the files of peft.
  friend bool operator==(const SavedTensor&, const SavedTensor&) = default;
};

/// The tensors that the options mean, in the order of the model.
/// Throws: ConfigError for a module that is none or a matrix of a block; for a token that the model
///   does not have, or that is named twice; for both, modules and rows, of one matrix.
std::vector<SavedTensor> saved_tensors(const SavedModuleOptions& options,
                                       const ModelConfig& config);

/// Adds them to those of an adapter.
void add_saved(const SavedModuleOptions& options, const ModelConfig& config,
               std::vector<AdapterTensor>& tensors);

/// Says where they are used. The adapter has them.
void attach_saved(const SavedModuleOptions& options, const ModelConfig& config, Adapter& adapter);

}  // namespace temper

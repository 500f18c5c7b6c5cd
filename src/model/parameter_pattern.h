// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/range.h"
#include "model/adapter/module_pattern.h"
#include "model/model_config.h"

namespace temper {

/// Which parameters of a model one word of a configuration means:
/// - `embedding` or `head`, the matrices; `norms`; `biases`;
/// - `layers.4` or `layers.4-11`, all of these blocks, and `layers.4-11.mlp`, what of them the rest
///   means; a rest of `*` is all;
/// - else a regular expression for the end of a module's path or of a parameter's name: q_proj,
///   self_attn\.[qk]_proj, input_layernorm, v_proj.bias. A module has all that lies in it.
class ParameterPattern {
 public:
  /// `option` says in messages where it stands.
  /// Throws: OptionError for no regular expression, or blocks that the model does not have.
  ParameterPattern(const std::string& text, const ModelConfig& model, const std::string& option);

  /// Whether it means the parameter, which has its name in Hugging Face files.
  /// Throws: OptionError after too much work.
  bool fits(const std::string& parameter) const;

 private:
  enum class Word { kNone, kEmbedding, kHead, kNorms, kBiases };

  bool fits_rest(const std::string& parameter) const;

  std::string blocks_;                         // What goes before a block's number.
  std::vector<std::string> embedding_, head_;  // The parameters of both.
  Word word_ = Word::kNone;
  std::optional<Range> layers_;           // Only of these blocks.
  std::optional<ModulePattern> pattern_;  // Nothing where all of the blocks is meant.
};

}  // namespace temper

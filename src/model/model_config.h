// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/ops/activation_function.h"

namespace temper {

/// The rotary positions of some layers, and how their frequencies are stretched beyond the original
/// context.
struct RopeOptions {
  enum class Scaling { kNone, kLinear, kLlama3, kYarn, kLongRope };
  enum class Pairs {
    kHalves,      ///< A number of the rotated part's first half goes with one of its second.
    kNeighbours,  ///< It goes with the next one.
  };
  double theta = 10000.0;
  Scaling scaling = Scaling::kNone;
  Pairs pairs = Pairs::kHalves;
  int64_t num_rotated = 0;  ///< Of a head's numbers, from its first on; 0: all.
  double factor = 1.0;
  double low_frequency_factor = 1.0;       ///< llama3 only.
  double high_frequency_factor = 4.0;      ///< llama3 only.
  double fast_rotations = 32.0;            ///< yarn only: beta_fast,
  double slow_rotations = 1.0;             ///< and beta_slow.
  bool has_whole_range = true;             ///< yarn only: what `truncate` says.
  std::vector<double> short_factors = {};  ///< longrope only: of each frequency,
  std::vector<double> long_factors = {};   ///< and where contexts are beyond the original.
  bool is_long = false;                    ///< Which: Decoder::choose_positions.
  int64_t original_max_positions = 8192;   ///< The context before it was stretched.
  double attention_factor = 1.0;           ///< Multiplies cosines and sines.
  double query_growth = 0.0;  ///< Queries are multiplied with 1 + this log(1 + floor(position /
                              ///< original_max_positions)).
};

/// Which positions a layer's queries and keys are rotated by.
enum class LayerPositions { kRope, kWindowRope, kNone };

/// What the sublayers of a block read.
enum class Residual {
  kSequential,     ///< The MLP reads what attention has added to.
  kParallel,       ///< Both read the same norm of the block's input.
  kParallelApart,  ///< Each reads a norm of its own of that.
};

/// The experts in the place of some layers' MLPs: each token is computed by a few of them, which a
/// router chooses.
struct ExpertOptions {
  int64_t count = 0;          ///< Of each such layer; 0: the model has none.
  int64_t num_chosen = 0;     ///< For a token.
  int64_t width = 0;          ///< What intermediate_size is to an MLP.
  int64_t shared_width = 0;   ///< Of the MLP that all tokens go through beside them; 0: none.
  bool renormalises = false;  ///< The weights of the chosen ones are divided by their sum,
  double weight_scale = 1.0;  ///< and then multiplied with this.
  int64_t num_groups = 1;     ///< Of which these are chosen before experts are.
  int64_t chosen_groups = 1;
  double bound = 0.0;           ///< MlpActivation::bound.
  double balance_factor = 0.0;  ///< Of the loss that wants experts chosen alike; 0: there is none.
  std::vector<bool> layers = {};  ///< [num_layers], which have them.
  /// [num_layers][count], what is added to scores for the choice alone; empty where there is none.
  /// They lie beside the weights, are not trained, and are never rounded.
  std::vector<std::vector<float>> corrections = {};
  int64_t most_in_unit = int64_t{1} << 27;  ///< Elements of a unit of several experts; arbitrary.
};

/// What a decoder is, in numbers; read from a Hugging Face config.json. What its family says for
/// all its models is in family.h.
struct ModelConfig {
  std::string model_type;            ///< As its family is called: "llama".
  std::string file_base = "model.";  ///< Before the names of tensors in its files but the head's.
  std::string file_head = "lm_head";
  bool has_other_parts = false;  ///< It is the part that reads text of a model that sees, too.
  std::string module_base = "model.";  ///< Before those of transformers' modules: tensor_names.h.
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t max_positions = 0;
  double norm_epsilon = 1e-6;
  RopeOptions rope;
  RopeOptions window_rope;                                     ///< Of layers that have kWindowRope.
  ActivationFunction activation = ActivationFunction::kSwish;  ///< Of the MLP.
  bool has_tied_head = false;
  bool has_qkv_bias = false;     ///< Qwen2; Llama with attention_bias.
  bool has_output_bias = false;  ///< Llama with attention_bias: o_proj too.
  bool has_mlp_bias = false;     ///< Llama with mlp_bias.
  bool has_head_bias = false;    ///< Phi.
  bool has_qk_norm = false;      ///< Queries and keys are normed, as the family says.
  Residual residual = Residual::kSequential;
  double qkv_bound = 0.0;                 ///< Bounds queries, keys and values; 0: not. OLMo.
  double embedding_scale = 1.0;           ///< Multiplies embeddings: Gemma, Granite.
  double residual_scale = 1.0;            ///< Multiplies what a sublayer adds: Granite.
  double attention_scale = 0.0;           ///< Multiplies scores; 0: 1 / sqrt(head_dim).
  double attention_softcap = 0.0;         ///< Bounds scaled scores by c tanh(s / c); 0: not.
  double logit_scale = 1.0;               ///< Multiplies logits: Granite, Cohere.
  double logit_softcap = 0.0;             ///< Bounds scaled logits likewise: Gemma 2.
  std::vector<int64_t> windows;           ///< [num_layers], sliding window; 0 where it is full.
  std::vector<LayerPositions> positions;  ///< [num_layers]; empty: kRope in each.
  ExpertOptions experts;
  std::vector<int64_t> eos_token_ids;

  bool has_experts(int64_t layer) const {
    return experts.count > 0 && experts.layers[static_cast<size_t>(layer)];
  }
  LayerPositions positions_of(int64_t layer) const {
    return positions.empty() ? LayerPositions::kRope : positions[static_cast<size_t>(layer)];
  }
};

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "model/model_config.h"
#include "model/ops/norm.h"
#include "model/ops/router.h"

namespace temper {

/// The names of a block's tensors in the files of a family, below the block's; empty where it has
/// none.
struct BlockNames {
  std::string_view queries = "self_attn.q_proj";
  std::string_view keys = "self_attn.k_proj";
  std::string_view values = "self_attn.v_proj";
  std::string_view output = "self_attn.o_proj";
  std::string_view attention_norm = "input_layernorm";
  std::string_view after_attention_norm = "";  ///< Of what attention adds to the residual.
  std::string_view mlp_norm = "post_attention_layernorm";
  std::string_view after_mlp_norm = "";  ///< Of what the MLP adds.
  std::string_view query_norm = "self_attn.q_norm";
  std::string_view key_norm = "self_attn.k_norm";
  std::string_view sinks = "";                ///< A tensor's; empty: attention has none.
  std::string_view queries_keys_values = "";  ///< Where the three are one matrix.
  std::string_view gate_up = "";              ///< Where the two are one.
  std::string_view gate = "mlp.gate_proj";    ///< Empty: the MLP has none.
  std::string_view up = "mlp.up_proj";
  std::string_view down = "mlp.down_proj";
};

/// Those of its other parts, below what ModelConfig says goes before them.
struct PartNames {
  std::string_view embedding = "embed_tokens";
  std::string_view positions = "";  ///< Where they are learned: one row each.
  std::string_view blocks = "layers";
  std::string_view final_norm = "norm";
  std::string_view head = "lm_head";
};

/// Where a family's files have the router and the experts of a block, below it: a matrix an expert,
/// or one tensor with a matrix of each.
struct ExpertNames {
  std::string_view router = "mlp.gate";
  std::string_view experts = "mlp.experts";  ///< Then the expert's number and one of these three.
  std::string_view gate = "gate_proj";
  std::string_view up = "up_proj";
  std::string_view down = "down_proj";
  std::string_view all_gate_up = "";  ///< The tensors of all experts: [count, 2 width, hidden],
  std::string_view all_down = "";     ///< and [count, hidden, width]; empty: a matrix each.
  std::string_view all_gate_up_bias = "";  ///< [count, 2 width]
  std::string_view all_down_bias = "";     ///< [count, hidden]
  std::string_view correction = "";        ///< Beside the router: ExpertOptions::corrections.
  std::string_view shared = "";            ///< The MLP beside them, whose matrices are named alike,
  std::string_view shared_gate_up = "";    ///< or gate and up as one
  std::string_view shared_down = "";       ///< and the matrix behind them;
  std::string_view shared_gate = "";  ///< and what its output is multiplied with the sigmoid of.
};

/// How a family of models differs from Llama: what its Hugging Face configuration class assumes
/// where a key is absent, which keys it knows, and what its blocks are made of. A further family is
/// a further entry.
struct Family {
  /// The key that says whether, and what is so where it is absent; without a key it is always so.
  struct Flag {
    std::string_view key = "";
    bool is_set = false;
  };
  /// Another name of a key, as in files of who published the family first.
  struct Alias {
    std::string_view name, key;
  };
  enum class Windows {
    kNone,
    kEveryLayer,        ///< `sliding_window`, where it is not null.
    kEveryLayerIfUsed,  ///< Likewise, under `use_sliding_window`.
    kAboveLayer,  ///< Under `use_sliding_window`: `layer_types`, or from `max_window_layers` on.
    kEvenBelowLayer,  ///< Likewise, or every other layer from the first on, below that one.
    kByPattern,       ///< `layer_types`, or all but each `sliding_window_pattern`th layer.
    kByLayerTypes,    ///< `layer_types`, or every layer.
    kWithoutRope,     ///< Under `use_sliding_window`: `layer_types`, or those that do not rotate.
  };
  enum class Rotated {
    kEveryLayer,
    kWindowLayers,  ///< Those with a window, if any has one.
    kByList,        ///< `no_rope_layers`, whose ones rotate, or all but each fourth.
    kTwoTables,     ///< Every one; those with a window have a table of their own.
    kNoLayer,       ///< Positions are learned.
  };
  enum class QueryKeyNorm { kNone, kEachHead, kAllHeads, kEachHeadRotated };

  std::string_view model_type;
  std::string_view architecture;
  BlockNames names = {};
  PartNames parts = {};
  std::string_view base = "model.";
  bool has_llama_modules = false;  ///< transformers has Llama's names for what it has read.
  bool is_grouped = false;  ///< One matrix has each key-value head's queries, its key, its value.
  bool is_transposed = false;  ///< Matrices of the blocks are stored as [in, out].
  NormKind norm = {};
  std::array<Alias, 5> aliases = {};
  int64_t default_vocab_size = 0;  ///< 0: the key has to be there; so of the next one.
  int64_t default_heads = 0;
  int64_t default_key_value_heads = 0;  ///< 0: as many as heads.
  int64_t default_head_dim = 0;         ///< 0: hidden_size / num_heads.
  bool has_plain_heads = false;  ///< Always so, and as many key-value heads: it has no such keys.
  int64_t default_max_positions = 0;
  std::string_view inner_key = "intermediate_size";
  bool has_wide_inner = false;  ///< Without that key, it is four times as wide as the others.
  std::string_view epsilon_key = "rms_norm_eps";
  double default_epsilon = 1e-6;
  std::string_view activation_key = "hidden_act";
  ActivationFunction default_activation = ActivationFunction::kSwish;
  bool means_tanh_by_gelu = false;
  std::array<std::string_view, 3> dropouts = {};  ///< Keys beside `attention_dropout`.
  bool is_published_with_dropout = false;         ///< Which is left out then, and told.
  bool is_tied_by_default = false;
  std::array<int64_t, 3> default_end_tokens = {-1, -1, -1};  ///< Where the file has no such key.
  Flag qkv_bias = {};
  Flag output_bias = {};
  Flag mlp_bias = {};
  QueryKeyNorm query_key_norm = QueryKeyNorm::kNone;
  Flag norms_queries = {"", true};  ///< Whether it has that.
  Flag parallel = {};               ///< Attention and MLP read norms of the block's input:
  bool is_apart = false;            ///< each its own, else the same one,
  std::string_view attention_norm_apart = "", mlp_norm_apart = "";  ///< by these names, if any.
  bool has_falcon_keys = false;                                     ///< Falcon's two generations.
  bool has_head_bias = false;
  bool has_qkv_bound = false;      ///< `clip_qkv`.
  bool has_unscaled_flag = false;  ///< `scale_attn_weights`, without which scores are not scaled.
  Windows windows = Windows::kNone;
  int64_t default_window = 4096;  ///< Where the file has no such key; 0: none.
  int64_t default_pattern = 0;
  std::string_view pattern_key = "";  ///< Empty: the pattern is always that.
  Rotated rotated = Rotated::kEveryLayer;
  RopeOptions::Pairs pairs = RopeOptions::Pairs::kHalves;
  double default_theta = 10000.0;
  std::string_view window_theta_key = "";  ///< Of the second table, in older files.
  double default_window_theta = 10000.0;
  double default_rotated_share = 1.0;  ///< `partial_rotary_factor`,
  bool knows_rotated_share = false;    ///< which other classes do not look at.
  bool has_longrope = false;           ///< Its stretched positions are longrope, however called.
  bool has_rope_alpha = false;         ///< `dynamic` positions with `alpha` change the base.
  bool has_query_growth = false;       ///< `llama_4_scaling_beta`.
  std::string_view default_rope = "";  ///< Where neither file nor class has other positions: JSON.
  bool scales_embedding = false;       ///< By the root of hidden_size.
  bool has_multipliers = false;        ///< Granite's four.
  double default_query_scalar = 0.0;   ///< `query_pre_attn_scalar`; 0: no such key.
  bool knows_softcaps = false;         ///< Of logits.
  double default_attention_softcap = 0.0;  ///< 0: no such key.
  double default_logit_softcap = 0.0;
  double default_logit_scale = 0.0;  ///< `logit_scale`; 0: no such key.

  /// Of a family with experts.
  struct Experts {
    std::string_view count_key = "";  ///< Empty: the family has none.
    int64_t default_count = 0;
    int64_t default_chosen = 0;  ///< `num_experts_per_tok`
    std::string_view width_key = "intermediate_size";
    int64_t default_width = 0;  ///< 0: the key has to be there.
    std::string_view shared_width_key = "";
    int64_t default_shared_width = 0;
    bool counts_shared = false;  ///< That key says how many experts wide it is.
    RouterScores scores = RouterScores::kSoftmax;
    bool has_groups = false;  ///< `n_group`, `topk_group` and `routed_scaling_factor`.
    Flag renormalises = {"norm_topk_prob", false};
    bool knows_dense_layers = false;  ///< `decoder_sparse_step` and `mlp_only_layers`.
    bool begins_dense = false;        ///< `first_k_dense_replace`, and layers behind the last one
                                      ///< predict further tokens: they are passed on.
    bool has_balance_loss = true;
    double default_balance_factor = 0.001;
    bool is_transposed = false;  ///< The tensors of all experts: [count, in, out].
    bool has_router_bias = false;
    double default_bound = 0.0;  ///< `swiglu_limit`; 0: no such key.
    ExpertNames names = {};
  };
  Experts experts = {};

  bool has_learned_positions() const { return !parts.positions.empty(); }
  bool is_gated() const { return !names.gate.empty() || !names.gate_up.empty(); }
};

/// All families that are computed exactly as their reference does.
/// Source: transformers 5.24, configuration_<model_type>.py and modeling_<model_type>.py.
std::span<const Family> families();

/// Of these, Llama's kind, and those that are built otherwise: LayerNorm with biases or without
/// weights, parallel residuals, learned positions, other names.
std::span<const Family> llama_families();
std::span<const Family> older_families();

/// Those of them that have experts.
std::span<const Family> families_with_experts();

/// What a family of this name would need that is not computed here; empty if nobody has looked. Of
/// those that transformers has for text, each is computed or has such words.
std::string_view missing_for(std::string_view model_type);

/// Throws: ModelError that lists the known ones.
const Family& family_of(std::string_view model_type);

/// Throws: ModelError that lists every problem: sizes that are not positive or do not divide, a
/// family that is not known, windows that are not one for each layer.
void validate(const ModelConfig& config);

}  // namespace temper

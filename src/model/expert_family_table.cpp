// SPDX-License-Identifier: Apache-2.0
#include <array>

#include "model/family.h"

namespace temper {
namespace {

constexpr Family::Flag kBiasByKey{"attention_bias", false};

constexpr Family kQwen3Moe{.model_type = "qwen3_moe",
                           .architecture = "Qwen3MoeForCausalLM",
                           .aliases = {{{"num_local_experts", "num_experts"}}},
                           .default_key_value_heads = 4,
                           .default_max_positions = 32768,
                           .qkv_bias = kBiasByKey,
                           .output_bias = kBiasByKey,
                           .query_key_norm = Family::QueryKeyNorm::kEachHead,
                           .windows = Family::Windows::kEveryLayerIfUsed,
                           .experts = {.count_key = "num_experts",
                                       .default_count = 128,
                                       .default_chosen = 8,
                                       .width_key = "moe_intermediate_size",
                                       .default_width = 768,
                                       .knows_dense_layers = true}};

constexpr Family kQwen2Moe{
    .model_type = "qwen2_moe",
    .architecture = "Qwen2MoeForCausalLM",
    .default_key_value_heads = 16,
    .default_max_positions = 32768,
    .qkv_bias = {"qkv_bias", true},
    .windows = Family::Windows::kEvenBelowLayer,
    .experts = {.count_key = "num_experts",
                .default_count = 60,
                .default_chosen = 4,
                .width_key = "moe_intermediate_size",
                .default_width = 1408,
                .shared_width_key = "shared_expert_intermediate_size",
                .default_shared_width = 5632,
                .knows_dense_layers = true,
                .names = {.shared = "mlp.shared_expert", .shared_gate = "mlp.shared_expert_gate"}}};

constexpr Family kMixtral{.model_type = "mixtral",
                          .architecture = "MixtralForCausalLM",
                          .default_key_value_heads = 8,
                          .default_max_positions = 131072,
                          .default_epsilon = 1e-5,
                          .dropouts = {"router_jitter_noise"},
                          .default_end_tokens = {2, -1, -1},
                          .windows = Family::Windows::kEveryLayer,
                          .default_window = 0,
                          .default_theta = 1e6,
                          .experts = {.count_key = "num_local_experts",
                                      .default_count = 8,
                                      .default_chosen = 2,
                                      .renormalises = {"", true},
                                      .names = {.router = "block_sparse_moe.gate",
                                                .experts = "block_sparse_moe.experts",
                                                .gate = "w1",
                                                .up = "w3",
                                                .down = "w2"}}};

constexpr Family kOlmoe{.model_type = "olmoe",
                        .architecture = "OlmoeForCausalLM",
                        .aliases = {{{"num_local_experts", "num_experts"}}},
                        .default_max_positions = 4096,
                        .default_epsilon = 1e-5,
                        .default_end_tokens = {50279, -1, -1},
                        .qkv_bias = kBiasByKey,
                        .output_bias = kBiasByKey,
                        .query_key_norm = Family::QueryKeyNorm::kAllHeads,
                        .experts = {.count_key = "num_experts",
                                    .default_count = 64,
                                    .default_chosen = 8,
                                    .default_balance_factor = 0.01}};

constexpr Family granite_moe() {
  return {.model_type = "granitemoe",
          .architecture = "GraniteMoeForCausalLM",
          .default_max_positions = 2048,
          .default_end_tokens = {2, -1, -1},
          .qkv_bias = kBiasByKey,
          .output_bias = kBiasByKey,
          .has_multipliers = true,
          .experts = {.count_key = "num_local_experts",
                      .default_count = 8,
                      .default_chosen = 2,
                      .scores = RouterScores::kSoftmaxOfChosen,
                      .renormalises = {},
                      .names = {.router = "block_sparse_moe.router.layer",
                                .all_gate_up = "block_sparse_moe.input_linear.weight",
                                .all_down = "block_sparse_moe.output_linear.weight"}}};
}

constexpr Family granite_moe_shared() {
  Family family = granite_moe();
  family.model_type = "granitemoeshared";
  family.architecture = "GraniteMoeSharedForCausalLM";
  family.experts.shared_width_key = "shared_intermediate_size";
  family.experts.names.shared_gate_up = "shared_mlp.input_linear";
  family.experts.names.shared_down = "shared_mlp.output_linear";
  return family;
}

constexpr Family kGptOss{
    .model_type = "gpt_oss",
    .architecture = "GptOssForCausalLM",
    .names = {.sinks = "self_attn.sinks"},
    .norm = {.is_rounded_once = true},
    .aliases = {{{"num_experts", "num_local_experts"},
                 {"experts_per_token", "num_experts_per_tok"}}},
    .default_heads = 64,
    .default_key_value_heads = 8,
    .default_head_dim = 64,
    .default_max_positions = 131072,
    .default_epsilon = 1e-5,
    .qkv_bias = {"attention_bias", true},
    .output_bias = {"attention_bias", true},
    .windows = Family::Windows::kByPattern,
    .default_window = 128,
    .default_pattern = 2,
    .default_theta = 150000.0,
    .default_rope =
        R"({"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
            "truncate": false, "original_max_position_embeddings": 4096})",
    .experts = {.count_key = "num_local_experts",
                .default_count = 128,
                .default_chosen = 4,
                .scores = RouterScores::kSoftmaxOfChosen,
                .renormalises = {},
                .is_transposed = true,
                .has_router_bias = true,
                .default_bound = 7.0,
                .names = {.router = "mlp.router",
                          .all_gate_up = "mlp.experts.gate_up_proj",
                          .all_down = "mlp.experts.down_proj",
                          .all_gate_up_bias = "mlp.experts.gate_up_proj_bias",
                          .all_down_bias = "mlp.experts.down_proj_bias"}}};

constexpr Family kGlm4Moe{.model_type = "glm4_moe",
                          .architecture = "Glm4MoeForCausalLM",
                          .aliases = {{{"num_local_experts", "n_routed_experts"},
                                       {"num_mtp_layers", "num_nextn_predict_layers"}}},
                          .default_key_value_heads = 8,
                          .default_max_positions = 131072,
                          .default_epsilon = 1e-5,
                          .qkv_bias = kBiasByKey,
                          .query_key_norm = Family::QueryKeyNorm::kEachHead,
                          .norms_queries = {"use_qk_norm", false},
                          .default_rotated_share = 0.5,
                          .knows_rotated_share = true,
                          .experts = {.count_key = "n_routed_experts",
                                      .default_count = 128,
                                      .default_chosen = 8,
                                      .width_key = "moe_intermediate_size",
                                      .default_width = 1408,
                                      .shared_width_key = "n_shared_experts",
                                      .default_shared_width = 1,
                                      .counts_shared = true,
                                      .scores = RouterScores::kSigmoid,
                                      .has_groups = true,
                                      .renormalises = {"norm_topk_prob", true},
                                      .begins_dense = true,
                                      .has_balance_loss = false,
                                      .names = {.correction = "mlp.gate.e_score_correction_bias",
                                                .shared = "mlp.shared_experts"}}};

constexpr std::array kFamiliesWithExperts = {
    kQwen3Moe, kQwen2Moe, kMixtral, kOlmoe, granite_moe(), granite_moe_shared(), kGptOss, kGlm4Moe,
};

}  // namespace

std::span<const Family> families_with_experts() { return kFamiliesWithExperts; }

}  // namespace temper

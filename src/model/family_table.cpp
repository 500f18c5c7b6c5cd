// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <vector>

#include "model/family.h"

namespace temper {
namespace {

using Flag = Family::Flag;
using Windows = Family::Windows;
using Rotated = Family::Rotated;
using QueryKeyNorm = Family::QueryKeyNorm;
using enum ActivationFunction;
using enum RopeOptions::Pairs;

constexpr Flag kAlways{"", true};
constexpr Flag kAttentionBias{"attention_bias", false};
constexpr Flag kMlpBias{"mlp_bias", false};

constexpr NormKind kGemmaNorm{.adds_one = true, .is_rounded_once = true};
constexpr NormKind kLayerNorm{.is_centred = true, .has_bias = true, .is_rounded_once = true};
constexpr NormKind kLayerNormWithoutBias{.is_centred = true, .is_rounded_once = true};

constexpr BlockNames kFourNorms{.after_attention_norm = "post_attention_layernorm",
                                .mlp_norm = "pre_feedforward_layernorm",
                                .after_mlp_norm = "post_feedforward_layernorm"};
constexpr BlockNames kNormsBehind{.attention_norm = "",
                                  .after_attention_norm = "post_attention_layernorm",
                                  .mlp_norm = "",
                                  .after_mlp_norm = "post_feedforward_layernorm"};

constexpr Family kLlama{.model_type = "llama",
                        .architecture = "LlamaForCausalLM",
                        .default_max_positions = 2048,
                        .default_end_tokens = {2, -1, -1},
                        .qkv_bias = kAttentionBias,
                        .output_bias = kAttentionBias,
                        .mlp_bias = kMlpBias};

constexpr Family kMistral{.model_type = "mistral",
                          .architecture = "MistralForCausalLM",
                          .default_key_value_heads = 8,
                          .default_max_positions = 131072,
                          .default_end_tokens = {2, -1, -1},
                          .windows = Windows::kEveryLayer};

constexpr Family kGemma{.model_type = "gemma",
                        .architecture = "GemmaForCausalLM",
                        .norm = kGemmaNorm,
                        .default_key_value_heads = 16,
                        .default_head_dim = 256,
                        .default_max_positions = 8192,
                        .default_activation = kGeluNew,
                        .means_tanh_by_gelu = true,
                        .is_tied_by_default = true,
                        .default_end_tokens = {1, -1, -1},
                        .qkv_bias = kAttentionBias,
                        .output_bias = kAttentionBias,
                        .scales_embedding = true};

constexpr Family kOlmo2{.model_type = "olmo2",
                        .architecture = "Olmo2ForCausalLM",
                        .names = kNormsBehind,
                        .norm = {.is_rounded_once = true},
                        .default_max_positions = 2048,
                        .default_epsilon = 1e-5,
                        .default_end_tokens = {50279, -1, -1},
                        .qkv_bias = kAttentionBias,
                        .output_bias = kAttentionBias,
                        .query_key_norm = QueryKeyNorm::kAllHeads};

constexpr Family kGlm{.model_type = "glm",
                      .architecture = "GlmForCausalLM",
                      .names = {.gate_up = "mlp.gate_up_proj", .gate = "", .up = ""},
                      .default_key_value_heads = 2,
                      .default_head_dim = 128,
                      .default_max_positions = 131072,
                      .default_epsilon = 1.5625e-7,
                      .default_end_tokens = {151329, 151336, 151338},
                      .qkv_bias = {"attention_bias", true},
                      .pairs = kNeighbours,
                      .default_rotated_share = 0.5,
                      .knows_rotated_share = true};

constexpr Family kCohere{.model_type = "cohere",
                         .architecture = "CohereForCausalLM",
                         .norm = kLayerNormWithoutBias,
                         .default_max_positions = 8192,
                         .epsilon_key = "layer_norm_eps",
                         .default_epsilon = 1e-5,
                         .is_tied_by_default = true,
                         .default_end_tokens = {255001, -1, -1},
                         .qkv_bias = kAttentionBias,
                         .output_bias = kAttentionBias,
                         .parallel = kAlways,
                         .pairs = kNeighbours,
                         .default_theta = 500000.0,
                         .default_logit_scale = 0.0625};

// A family as another one, but for what `change` does to it.
template <typename Change>
constexpr Family like(Family family, Change change) {
  change(family);
  return family;
}

constexpr std::array kFamilies = {
    kLlama,
    kMistral,
    Family{.model_type = "qwen2",
           .architecture = "Qwen2ForCausalLM",
           .default_key_value_heads = 32,
           .default_max_positions = 32768,
           .qkv_bias = kAlways,
           .windows = Windows::kAboveLayer},
    Family{.model_type = "qwen3",
           .architecture = "Qwen3ForCausalLM",
           .default_key_value_heads = 32,
           .default_head_dim = 128,
           .default_max_positions = 32768,
           .qkv_bias = kAttentionBias,
           .output_bias = kAttentionBias,
           .query_key_norm = QueryKeyNorm::kEachHead,
           .windows = Windows::kAboveLayer},
    like(kLlama,
         [](Family& family) {
           family.model_type = "internlm3";
           family.default_key_value_heads = 2;
           family.default_head_dim = 128;
           family.default_max_positions = 32768;
           family.default_epsilon = 1e-5;
           family.aliases = {{{"qkv_bias", "attention_bias"}, {"bias", "mlp_bias"}}};
         }),
    like(kMistral,
         [](Family& family) {
           family.model_type = "ministral";
           family.architecture = "MinistralForCausalLM";
           family.windows = Windows::kByLayerTypes;
         }),
    like(kMistral,
         [](Family& family) {
           family.model_type = "ministral3";
           family.architecture = "Ministral3ForCausalLM";
           family.default_head_dim = 128;
           family.default_max_positions = 262144;
           family.default_epsilon = 1e-5;
           family.default_window = 0;
           family.has_query_growth = true;
           family.default_rope =
               R"({"rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0,
                   "original_max_position_embeddings": 16384, "mscale": 1.0,
                   "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1})";
         }),
    Family{.model_type = "smollm3",
           .architecture = "SmolLM3ForCausalLM",
           .default_key_value_heads = 4,
           .default_max_positions = 32768,
           .is_tied_by_default = true,
           .default_end_tokens = {128001, -1, -1},
           .qkv_bias = kAttentionBias,
           .output_bias = kAttentionBias,
           .mlp_bias = kMlpBias,
           .windows = Windows::kWithoutRope,
           .default_window = 0,
           .rotated = Rotated::kByList,
           .default_theta = 2e6},
    Family{.model_type = "ernie4_5",
           .architecture = "Ernie4_5ForCausalLM",
           .default_key_value_heads = 2,
           .default_head_dim = 128,
           .default_max_positions = 131072,
           .default_epsilon = 1e-5,
           .is_tied_by_default = true,
           .default_end_tokens = {2, -1, -1},
           .qkv_bias = {"use_bias", false},
           .output_bias = {"use_bias", false},
           .mlp_bias = {"use_bias", false},
           .pairs = kNeighbours,
           .default_theta = 500000.0},
    like(kLlama,
         [](Family& family) {
           family.model_type = "granite";
           family.architecture = "GraniteForCausalLM";
           family.has_multipliers = true;
         }),
    kGemma,
    like(kGemma,
         [](Family& family) {
           family.model_type = "gemma2";
           family.architecture = "Gemma2ForCausalLM";
           family.names = kFourNorms;
           family.default_key_value_heads = 4;
           family.activation_key = "hidden_activation";
           family.means_tanh_by_gelu = false;
           family.windows = Windows::kByPattern;
           family.default_pattern = 2;
           family.default_query_scalar = 256.0;
           family.knows_softcaps = true;
           family.default_attention_softcap = 50.0;
           family.default_logit_softcap = 30.0;
         }),
    like(kGemma,
         [](Family& family) {
           family.model_type = "gemma3_text";
           family.architecture = "Gemma3ForCausalLM";
           family.names = kFourNorms;
           family.default_vocab_size = 262208;
           family.default_heads = 8;
           family.default_key_value_heads = 4;
           family.default_max_positions = 131072;
           family.activation_key = "hidden_activation";
           family.means_tanh_by_gelu = false;
           family.query_key_norm = QueryKeyNorm::kEachHead;
           family.windows = Windows::kByPattern;
           family.default_pattern = 6;
           family.pattern_key = "sliding_window_pattern";
           family.rotated = Rotated::kTwoTables;
           family.default_theta = 1e6;
           family.window_theta_key = "rope_local_base_freq";
           family.default_query_scalar = 256.0;
           family.knows_softcaps = true;
         }),
    Family{.model_type = "starcoder2",
           .architecture = "Starcoder2ForCausalLM",
           .names = {.gate = "", .up = "mlp.c_fc", .down = "mlp.c_proj"},
           .norm = kLayerNorm,
           .default_key_value_heads = 2,
           .default_max_positions = 4096,
           .epsilon_key = "norm_epsilon",
           .default_epsilon = 1e-5,
           .default_activation = kGeluNew,
           .dropouts = {"residual_dropout", "embedding_dropout"},
           .is_tied_by_default = true,
           .default_end_tokens = {50256, -1, -1},
           .qkv_bias = {"use_bias", true},
           .output_bias = {"use_bias", true},
           .mlp_bias = {"use_bias", true},
           .windows = Windows::kEveryLayer,
           .default_window = 0},
    Family{
        .model_type = "nemotron",
        .architecture = "NemotronForCausalLM",
        .names = {.gate = ""},
        .norm = {.is_centred = true, .adds_one = true, .has_bias = true, .is_rounded_once = true},
        .default_max_positions = 4096,
        .epsilon_key = "norm_eps",
        .default_epsilon = 1e-5,
        .default_activation = kSquaredRelu,
        .default_end_tokens = {3, -1, -1},
        .qkv_bias = kAttentionBias,
        .output_bias = kAttentionBias,
        .mlp_bias = kMlpBias,
        .default_rotated_share = 0.5,
        .knows_rotated_share = true},
    Family{.model_type = "arcee",
           .architecture = "ArceeForCausalLM",
           .names = {.gate = ""},
           .default_max_positions = 4096,
           .default_epsilon = 1e-5,
           .default_activation = kSquaredRelu,
           .default_end_tokens = {128001, -1, -1},
           .qkv_bias = kAttentionBias,
           .output_bias = kAttentionBias,
           .mlp_bias = kMlpBias},
    Family{.model_type = "phi3",
           .architecture = "Phi3ForCausalLM",
           .names = {.queries_keys_values = "self_attn.qkv_proj",
                     .gate_up = "mlp.gate_up_proj",
                     .gate = "",
                     .up = ""},
           .default_max_positions = 4096,
           .default_epsilon = 1e-5,
           .dropouts = {"resid_pdrop", "embd_pdrop"},
           .default_end_tokens = {32000, -1, -1},
           .windows = Windows::kEveryLayer,
           .default_window = 0,
           .knows_rotated_share = true,
           .has_longrope = true},
    kOlmo2,
    like(kOlmo2,
         [](Family& family) {
           family.model_type = "olmo3";
           family.architecture = "Olmo3ForCausalLM";
           family.windows = Windows::kByPattern;
           family.default_pattern = 4;
           family.rotated = Rotated::kTwoTables;
           family.default_theta = 500000.0;
           family.default_window_theta = 500000.0;
         }),
    kGlm,
    like(kGlm,
         [](Family& family) {
           family.model_type = "glm4";
           family.architecture = "Glm4ForCausalLM";
           family.names.after_attention_norm = "post_self_attn_layernorm";
           family.names.after_mlp_norm = "post_mlp_layernorm";
         }),
    Family{.model_type = "exaone4",
           .architecture = "Exaone4ForCausalLM",
           .names = kNormsBehind,
           .default_key_value_heads = 32,
           .default_max_positions = 2048,
           .default_epsilon = 1e-5,
           .default_end_tokens = {2, -1, -1},
           .query_key_norm = QueryKeyNorm::kEachHead,
           .windows = Windows::kByPattern,
           .default_pattern = 4,
           .pattern_key = "sliding_window_pattern",
           .rotated = Rotated::kWindowLayers},
    kCohere,
    like(kCohere,
         [](Family& family) {
           family.model_type = "cohere2";
           family.architecture = "Cohere2ForCausalLM";
           family.windows = Windows::kByPattern;
           family.default_pattern = 4;
           family.pattern_key = "sliding_window_pattern";
           family.rotated = Rotated::kWindowLayers;
           family.default_theta = 10000.0;
         }),
    like(kLlama,
         [](Family& family) {
           family.model_type = "hunyuan_v1_dense";
           family.architecture = "HunYuanDenseV1ForCausalLM";
           family.names.query_norm = "self_attn.query_layernorm";
           family.names.key_norm = "self_attn.key_layernorm";
           family.default_epsilon = 1e-5;
           family.mlp_bias = {};
           family.query_key_norm = QueryKeyNorm::kEachHeadRotated;
           family.has_rope_alpha = true;
         }),
};

}  // namespace

std::span<const Family> llama_families() { return kFamilies; }

}  // namespace temper

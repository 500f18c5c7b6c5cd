// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/config_keys.h"

#include <algorithm>
#include <iterator>
#include <span>

#include "core/concat.h"
#include "io/json.h"

namespace temper {
namespace {

// Keys of config.json that change no weight, no logit and no token: what transformers and those who
// publish models note for themselves, how others run or sample from the model, and keys that a
// family has and another one's class does not look at.
constexpr const char* kHarmlessConfigKeys[] = {
    // Of transformers' classes.
    "_name_or_path",
    "architectures",
    "bos_token_id",
    "chunk_size_feed_forward",
    "id2label",
    "initializer_range",
    "label2id",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "pretraining_tp",
    "problem_type",
    "return_dict",
    "transformers_version",
    "use_cache",
    "summary_activation",
    "summary_first_dropout",
    "summary_last_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    // Of one family, ignored by the others.
    "attention_bias",
    "hidden_act",
    "hidden_activation",
    "max_window_layers",
    "mlp_bias",
    "sliding_window",
    "use_sliding_window",
    "layer_types",
    "original_max_position_embeddings",
    // How the weights are stored: see four_bit/stored_format.h and companion_files.h.
    "dtype",
    "quantization_config",
    "torch_dtype",
    // Of earlier versions, and of other programs.
    "_attn_implementation",
    "_sliding_window_pattern",
    "_attn_implementation_autoset",
    "_attn_implementation_internal",
    "_commit_hash",
    "_flash_attn_2_enabled",
    "_from_model_config",
    "attn_implementation",
    "auto_map",
    "bos_token",
    "cache_implementation",
    "classifier_dropout",
    "decoder_start_token_id",
    "do_sample",
    "eod_token_id",
    "eos_token",
    "finetuning_task",
    "gradient_checkpointing",
    "hidden_dropout",
    "image_token_id",
    "initial_context_length",
    "is_decoder",
    "is_llama_config",
    "keys_to_ignore_at_inference",
    "license",
    "max_length",
    "max_new_tokens",
    "max_sequence_length",
    "mm_tokens_per_image",
    "model_max_length",
    "n_ctx",
    "name",
    "neftune_noise_alpha",
    "pad_token",
    "reorder_and_upcast_attn",
    "repetition_penalty",
    "return_dict_in_generate",
    "sep_token_id",
    "temperature",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torchscript",
    "transformers.js_config",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_return_dict",
};

// Of the rotary settings those that a kind has and another one does not look at.
constexpr const char* kHarmlessRopeKeys[] = {"attention_factor",
                                             "beta_fast",
                                             "beta_slow",
                                             "factor",
                                             "high_freq_factor",
                                             "long_factor",
                                             "low_freq_factor",
                                             "max_position_embeddings",
                                             "mscale",
                                             "mscale_all_dim",
                                             "original_max_position_embeddings",
                                             "rope_type",
                                             "short_factor",
                                             "truncate",
                                             "type"};

// Keys by which other models, and variants of these families with code of their own, change what is
// computed. transformers' classes of the families do not look at most of them; a file that sets one
// is of a model that was trained with other arithmetic than theirs.
constexpr const char* kOtherArithmetic[] = {
    "add_cross_attention",
    "alibi",
    "attention_chunk_size",
    "attention_multiplier",
    "attn_logit_softcapping",
    "attn_temperature_tuning",
    "clip_qkv",
    "dim_model_base",
    "embedding_multiplier",
    "final_logit_softcapping",
    "full_attention",
    "kv_lora_rank",
    "kv_sharing_modes",
    "llama_4_scaling_beta",
    "lm_head_multiplier",
    "logit_scale",
    "logits_mup_width_multiplier",
    "logits_scaling",
    "mrope_interleaved",
    "mrope_section",
    "n_routed_experts",
    "no_rope_layer_interval",
    "no_rope_layers",
    "num_experts",
    "num_local_experts",
    "parallel_attn",
    "per_layer_config",
    "q_lora_rank",
    "qk_layernorm",
    "qk_norm",
    "query_pre_attn_scalar",
    "residual_multiplier",
    "rope_interleaved",
    "rotary_dim",
    "rotary_pct",
    "scale_attn_by_inverse_layer_idx",
    "scale_depth",
    "scale_emb",
    "sliding_attention",
    "sliding_window_pattern",
    "text_config",
    "use_alibi",
    "use_bidirectional_attention",
    "use_parallel_residual",
    "use_qk_norm",
    "vision_config",
};

// Notes a problem for each key that nobody has asked for and that belongs to other arithmetic;
// returns the rest.
std::vector<std::string> sort_out_others(const JsonKeys& keys,
                                         std::span<const char* const> harmless) {
  std::vector<std::string> unknown;
  for (const std::string& key : keys.others(harmless)) {
    if (std::ranges::find(kOtherArithmetic, key) == std::end(kOtherArithmetic)) {
      unknown.push_back(key);
    } else {
      keys.refuse(key.c_str(), concat("is ", shown(keys[key.c_str()]),
                                      ", by which other models change what is computed"));
    }
  }
  return unknown;
}

}  // namespace

std::vector<std::string> sort_out_config_keys(const JsonKeys& keys) {
  return sort_out_others(keys, kHarmlessConfigKeys);
}

std::vector<std::string> sort_out_rope_keys(const JsonKeys& keys) {
  return sort_out_others(keys, kHarmlessRopeKeys);
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/generation_config.h"

#include <span>

#include "checkpoint/json_keys.h"
#include "core/concat.h"
#include "core/error.h"
#include "io/json.h"

namespace temper {
namespace {

// Which tokens come does not depend on them: tokens that are named elsewhere, bounds that the
// command line sets, what is returned beside tokens, how the work is done, and settings that only
// another one makes use of.
constexpr const char* kHarmlessGenerationKeys[] = {
    "_from_model_config",
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_ensemble_weight",
    "assistant_lookbehind",
    "bos_token_id",
    "cache_config",
    "cache_implementation",
    "compile_config",
    "continuous_batching_config",
    "decoder_start_token_id",
    "disable_compile",
    "early_stopping",
    "eos_token_id",  // Read with the configuration.
    "is_assistant",
    "length_penalty",
    "low_memory",
    "max_cache_len",
    "max_length",
    "max_matching_ngram_size",
    "max_new_tokens",
    "max_time",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "pad_token_id",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "remove_invalid_values",
    "renormalize_logits",
    "return_dict_in_generate",
    "speculation_type",
    "target_lookbehind",
    "transformers_version",
    "use_cache",
    "use_mtp",
};

// A setting, and the number by which it changes nothing.
struct Setting {
  const char* key;
  double neutral = 0.0;
};

// They count only beside do_sample.
constexpr Setting kSampling[] = {{"do_sample"}, {"epsilon_cutoff"},   {"eta_cutoff"},
                                 {"min_p"},     {"temperature", 1.0}, {"top_h", 1.0},
                                 {"top_k"},     {"top_p", 1.0},       {"typical_p", 1.0}};

constexpr Setting kSettings[] = {{"bad_words_ids"},
                                 {"begin_suppress_tokens"},
                                 {"constraints"},
                                 {"diversity_penalty"},
                                 {"dola_layers"},
                                 {"encoder_no_repeat_ngram_size"},
                                 {"encoder_repetition_penalty", 1.0},
                                 {"exponential_decay_length_penalty"},
                                 {"force_words_ids"},
                                 {"forced_bos_token_id"},
                                 {"forced_eos_token_id"},
                                 {"guidance_scale", 1.0},
                                 {"min_length"},
                                 {"min_new_tokens"},
                                 {"no_repeat_ngram_size"},
                                 {"num_beam_groups", 1.0},
                                 {"num_beams", 1.0},
                                 {"penalty_alpha"},
                                 {"repetition_penalty", 1.0},
                                 {"sequence_bias"},
                                 {"stop_strings"},
                                 {"suppress_tokens"},
                                 {"token_healing"},
                                 {"watermarking_config"}};

void add_settings(const JsonKeys& keys, std::span<const Setting> settings,
                  std::vector<std::string>& found) {
  for (const Setting& setting : settings) {
    if (!keys.has(setting.key)) continue;
    const Json& value = keys[setting.key];
    if (value != false && value != setting.neutral && !(value.is_structured() && value.empty())) {
      found.push_back(concat(setting.key, ' ', shown(value)));
    }
  }
}

}  // namespace

GenerationKeys read_generation_keys(std::string_view text, const std::string& name) {
  const Json json = parse_json(text, {name, FilePurpose::kModel});
  std::vector<std::string> problems;
  const JsonKeys keys(json, "", problems);
  if (!problems.empty()) {
    throw ModelError(concat(name, ": ", problems.front()), "mend the file, or fetch it again");
  }
  GenerationKeys found;
  std::vector<std::string> of_sampling;
  add_settings(keys, kSampling, of_sampling);
  if (keys.has("do_sample") && keys["do_sample"] == true) found.not_applied = of_sampling;
  add_settings(keys, kSettings, found.not_applied);
  found.unknown = keys.others(kHarmlessGenerationKeys);
  return found;
}

}  // namespace temper

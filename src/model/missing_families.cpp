// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <sstream>
#include <string>
#include <string_view>

#include "model/family.h"

namespace temper {
namespace {

/// What models need that is not computed here, and the types of models that do.
struct Missing {
  std::string_view what;
  std::string_view model_types;  ///< Between spaces.
};

// Source: transformers 5.24, modeling_<model_type>.py.
constexpr Missing kMissing[] = {
    {"routing that is drawn at random", "phimoe"},
    {"latent attention",
     "axk1 axk2 deepseek_v2 deepseek_v3 deepseek_v32 dots3_note dots3_note_text glm4_moe_lite "
     "glm_moe_dsa longcat_flash minicpm3 sarvam_mla youtu"},
    {"latent attention, and several residual streams", "hy_v4"},
    {"compressed attention, and several residual streams", "deepseek_v4"},
    {"compressed attention behind convolutions", "zaya"},
    {"gated DeltaNet layers",
     "lara_mini olmo_hybrid qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen3_next "
     "qwen4_exp qwen4_exp_text"},
    {"latent attention, and layers by the delta rule", "bailing_hybrid kimi_linear"},
    {"Mamba layers",
     "bamba falcon_h1 falcon_mamba granitemoehybrid jamba mamba mamba2 nemotron_h zamba zamba2"},
    {"recurrent layers", "recurrent_gemma rwkv xlstm"},
    {"linear attention that decays", "minimax"},
    {"short convolutions", "lfm2 lfm2_moe lfm3"},
    {"short convolutions, and scores by distance", "inkling2_loop_text inkling2_text inkling_text"},
    {"chunked attention, and experts that read weighted inputs", "llama4 llama4_text"},
    {"embeddings a layer, and heads that differ by layer",
     "gemma3n gemma3n_text gemma4 gemma4_assistant gemma4_text gemma4_unified "
     "gemma4_unified_assistant gemma4_unified_text"},
    {"a gate of what attention computes", "afmoe dory laguna"},
    {"attention by blocks of an index", "minimax_m3_vl_text"},
    {"the difference of two attentions", "diffllama"},
    {"masks that are computed from values", "doge"},
    {"experts of attention", "jetmoe"},
    {"layers that are passed several times", "hrm_text"},
    {"attention sinks in its blocks", "flint granite_swa granitemoe_swa mimo_v2_flash"},
    {"GLM-4.5's routing in other blocks",
     "beam dots1 exaone_moe hy_v3 kolibri1 minimax_m2 sarvam_moe solar_open"},
    {"experts in blocks of another form",
     "aria_text cohere2_moe dbrx ernie4_5_moe flex_olmo hunyuan_v1_moe mellum"},
    {"its activation, which has trained scales", "apertus apertus1p5_text"},
    {"matrices of three values, and norms within attention and MLP", "bitnet"},
    {"positions as biases of scores (ALiBi)", "bloom mpt"},
    {"positions as sums of sines", "ctrl xglm"},
    {"learned positions that begin at 2", "biogpt opt"},
    {"an order of its matrices and names of its tensors that are not known",
     "codegen gpt_bigcode gpt_neo gpt_neox_japanese gptj"},
    {"the name gpt2, by which such models are saved", "gpt-sw3"},
    {"norms behind the sums of residuals", "openai-gpt"},
    {"positions as trained biases of scores", "cpmant"},
    {"norms of heads with biases", "fuyu persimmon"},
    {"a row in the table of families: its blocks are a known family's with other defaults or norms",
     "cwm helium hyperclovax iquestcoder jais2 nanochat seed_oss vaultgemma"},
    {"attention in both directions, or its blocks",
     "bert bert-generation big_bird camembert cohere_compass_text data2vec-text electra ernie "
     "megatron-bert modernbert-decoder reformer rembert roberta roberta-prelayernorm roc_bert "
     "roformer xlm xlm-roberta xlm-roberta-xl xlnet xmod"},
    {"an encoder beside the decoder",
     "bart bigbird_pegasus blenderbot blenderbot-small marian mbart musicgen musicgen_melody mvp "
     "pegasus plbart prophetnet trocr whisper"},
    {"a part that sees or hears, whose names are not known",
     "emu3 git got_ocr2 moss_transcribe_diarize phi4_multimodal"},
    {"attention to what another part sees", "mllama"},
    {"several streams of tokens", "moshi"},
    {"patches of bytes", "blt"},
};

bool is_among(std::string_view model_type, std::string_view names) {
  std::istringstream words{std::string(names)};
  for (std::string word; words >> word;) {
    if (word == model_type) return true;
  }
  return false;
}

}  // namespace

std::string_view missing_for(std::string_view model_type) {
  const auto found = std::ranges::find_if(
      kMissing, [&](const Missing& one) { return is_among(model_type, one.model_types); });
  return found == std::end(kMissing) ? std::string_view() : found->what;
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "model/family.h"

#include <boost/test/unit_test.hpp>
#include <string>
#include <utility>

#include "core/concat.h"
#include "core/error.h"
#include "io/says.h"
#include "model/adapter/method.h"
#include "model/adapter/option_error.h"
#include "model/adapter/saved_modules.h"
#include "model/adapter/virtual_tokens.h"
#include "model/parameter_pattern.h"
#include "support/tiny_model.h"

namespace temper {
namespace {

std::string refusal(const ModelConfig& config) {
  try {
    validate(config);
  } catch (const ModelError& error) {
    return error.what();
  }
  return "";
}

BOOST_AUTO_TEST_SUITE(family)

BOOST_AUTO_TEST_CASE(a_model_that_can_be_computed_passes) {
  BOOST_TEST(refusal(testing::tiny_config(true)) == "");
}

BOOST_AUTO_TEST_CASE(all_that_cannot_be_computed_is_told_at_once) {
  ModelConfig config = testing::tiny_config(true);
  config.windows.push_back(-1);
  config.norm_epsilon = 0.0;
  config.rope.theta = 0.0;
  config.model_type = "bert";
  config.vocab_size = 0;
  config.num_key_value_heads = 3;
  config.head_dim = 11;
  const std::string message = refusal(config);
  for (const char* problem :
       {"the model cannot be computed:\n  model_type is \"bert\", known are llama, mistral, qwen2",
        "vocab_size is 0, wanted at least 1", "head_dim is 11, wanted an even number",
        "num_heads is 4, no multiple of the 3 num_key_value_heads",
        "windows has 4 entries for 3 layers", "a window is -1, wanted 0 or more",
        "norm_epsilon is 0, wanted more than 0", "rope theta is 0, wanted more than 0",
        "\n  try: mend config.json"}) {
    BOOST_TEST(message.find(problem) != std::string::npos, message);
  }
}

BOOST_AUTO_TEST_CASE(an_unknown_family_is_refused_with_the_known_ones) {
  BOOST_TEST(family_of("qwen3").architecture == "Qwen3ForCausalLM");
  BOOST_CHECK_EXCEPTION(family_of("bert"), ModelError,
                        says("model_type is \"bert\", which is not computed here\n"
                             "  try: choose a model of one of these: llama, mistral, qwen2"));
}

// What people ask for first, by the names in their files.
BOOST_AUTO_TEST_CASE(a_family_that_is_not_computed_has_words_for_what_is_missing) {
  const std::pair<const char*, const char*> kMissing[] = {
      {"deepseek_v2", "latent attention"},
      {"deepseek_v3", "latent attention"},
      {"deepseek_v32", "latent attention"},
      {"glm4_moe_lite", "latent attention"},
      {"minicpm3", "latent attention"},
      {"qwen3_next", "gated DeltaNet layers"},
      {"qwen3_5", "gated DeltaNet layers"},
      {"qwen3_5_moe", "gated DeltaNet layers"},
      {"granitemoehybrid", "Mamba layers"},
      {"falcon_h1", "Mamba layers"},
      {"nemotron_h", "Mamba layers"},
      {"lfm2", "short convolutions"},
      {"phimoe", "routing that is drawn at random"},
      {"llama4", "chunked attention, and experts that read weighted inputs"},
      {"llama4_text", "chunked attention, and experts that read weighted inputs"},
      {"gemma4", "embeddings a layer, and heads that differ by layer"},
      {"gemma3n", "embeddings a layer, and heads that differ by layer"}};
  for (const auto& one : kMissing) BOOST_TEST(missing_for(one.first) == one.second, one.first);
  BOOST_TEST(missing_for("nobodys_model") == "");
  for (const Family& family : families()) {
    BOOST_TEST(missing_for(family.model_type) == "", family.model_type);
  }
}

BOOST_AUTO_TEST_CASE(a_prompt_is_refused_where_embeddings_are_scaled) {
  ModelConfig config = testing::tiny_config(true);
  config.embedding_scale = 2.0;
  BOOST_CHECK_EXCEPTION(make_prompt({}, 1, config), ConfigError,
                        says("method is prompt, but a llama model scales its embeddings, and "
                             "programs differ in whether they scale a prompt's, too"));
}

BOOST_AUTO_TEST_CASE(norms_with_biases_are_not_saved_with_an_adapter) {
  ModelConfig config = testing::tiny_config(true);
  config.model_type = "starcoder2";
  BOOST_CHECK_EXCEPTION(saved_tensors({.modules = {"input_layernorm"}}, config), OptionError,
                        says("names 'input_layernorm', but norms of a starcoder2 model have "
                             "biases"));
}

BOOST_AUTO_TEST_CASE(what_reads_matrices_is_refused_where_they_are_stored_transposed) {
  ModelConfig config = testing::tiny_config(true);
  config.model_type = "gpt2";
  MethodOptions method;
  method.kind = MethodOptions::Kind::kQlora;
  BOOST_CHECK_EXCEPTION(make_adapter(method, config), ConfigError,
                        says("method is qlora, but a gpt2 model stores its matrices transposed"));
  method.kind = MethodOptions::Kind::kLora;
  method.lora.targets = {"c_attn"};
  BOOST_TEST(make_adapter(method, config)->file.slots().size() == 6U);
  method.lora.uses_dora = true;
  BOOST_CHECK_EXCEPTION(make_adapter(method, config), OptionError,
                        says("is true, but a gpt2 model stores its matrices transposed"));
  method.lora.uses_dora = false;
  method.lora.init = LoraOptions::Init::kPrincipal;
  BOOST_CHECK_EXCEPTION(make_adapter(method, config), OptionError,
                        says("is pissa, but a gpt2 model stores its matrices transposed"));
  method.kind = MethodOptions::Kind::kPrompt;
  BOOST_CHECK_EXCEPTION(make_adapter(method, config), ConfigError,
                        says("method is prompt, but a gpt2 model learns its positions"));
}

BOOST_AUTO_TEST_CASE(experts_in_one_tensor_are_no_targets) {
  ModelConfig config = testing::tiny_config_with_experts();
  config.experts.layers = {true, true, true};
  MethodOptions method;
  method.kind = MethodOptions::Kind::kLora;
  const auto refuses = [&](const char* model_type, const char* target, const char* tensor) {
    config.model_type = model_type;
    method.lora.targets = {target};
    BOOST_CHECK_EXCEPTION(
        make_adapter(method, config), OptionError,
        says(
            concat("names '", target, "', but a ", model_type,
                   " model has the matrices of all experts in one tensor (", tensor,
                   "), to which LoRA adds nothing here\n  try: take some of: all-linear, q_proj")));
  };
  refuses("granitemoe", "input_linear", "block_sparse_moe.input_linear");
  refuses("granitemoe", "output_linear", "block_sparse_moe.output_linear");
  refuses("gpt_oss", "down_proj", "mlp.experts.down_proj");
  refuses("gpt_oss", "experts", "mlp.experts.gate_up_proj");
  method.lora.targets = {"gate_up_projection"};
  BOOST_CHECK_EXCEPTION(make_adapter(method, config), OptionError,
                        says("is no linear module of this gpt_oss model"));
}

BOOST_AUTO_TEST_CASE(words_for_parameters_go_by_the_names_of_the_family) {
  ModelConfig config = testing::tiny_config(false);
  config.model_type = "exaone";
  config.file_base = "transformer.";
  const auto fits = [&](const char* word, const char* parameter) {
    return ParameterPattern(word, config, "train.only").fits(parameter);
  };
  BOOST_TEST(fits("embedding", "transformer.wte.weight"));
  BOOST_TEST(fits("norms", "transformer.h.0.ln_1.weight"));
  BOOST_TEST(fits("norms", "transformer.ln_f.weight"));
  BOOST_TEST(!fits("norms", "transformer.h.0.mlp.c_fc_0.weight"));
  BOOST_TEST(fits("layers.1", "transformer.h.1.mlp.c_proj.weight"));
  BOOST_TEST(!fits("layers.1", "transformer.h.0.mlp.c_proj.weight"));
}

BOOST_AUTO_TEST_CASE(a_part_of_a_head_is_rotated_in_pairs) {
  ModelConfig config = testing::tiny_config(true);
  config.rope.num_rotated = 3;
  config.positions = {LayerPositions::kNone};
  const std::string message = refusal(config);
  BOOST_TEST(message.find(" has 3 rotated numbers, wanted an even number") != std::string::npos,
             message);
  BOOST_TEST(message.find("positions has 1 entries for 3 layers") != std::string::npos, message);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/hugging_face_config.h"

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <ostream>

#include "core/concat.h"
#include "core/error.h"
#include "io/json.h"
#include "model/tensor_names.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;

// The keys that each configuration must have.
Json small(const char* model_type) {
  return {{"model_type", model_type}, {"vocab_size", 100},      {"hidden_size", 64},
          {"intermediate_size", 96},  {"num_hidden_layers", 4}, {"num_attention_heads", 32},
          {"num_key_value_heads", 16}};
}

ModelConfig parse(const Json& json) {
  return parse_hugging_face_config(json.dump(), "config.json");
}

// The message that `change` to a good configuration leads to.
std::string refusal(const char* model_type, const Json& change) {
  Json json = small(model_type);
  json.update(change);
  try {
    parse(json);
  } catch (const ModelError& error) {
    return error.what();
  }
  return "accepted";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(hugging_face_config)

// SmolLM2-135M's file.
BOOST_AUTO_TEST_CASE(reads_a_real_llama_file) {
  const ModelConfig config = parse_hugging_face_config(R"({
    "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
    "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 576,
    "initializer_range": 0.041666666666666664, "intermediate_size": 1536,
    "is_llama_config": true, "max_position_embeddings": 8192, "model_type": "llama",
    "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3,
    "pad_token_id": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": false,
    "rope_scaling": null, "rope_theta": 100000, "tie_word_embeddings": true,
    "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 49152})",
                                                       "config.json");
  BOOST_TEST(config.model_type == "llama");
  BOOST_TEST(config.vocab_size == 49152);
  BOOST_TEST(config.hidden_size == 576);
  BOOST_TEST(config.intermediate_size == 1536);
  BOOST_TEST(config.num_layers == 30);
  BOOST_TEST(config.num_heads == 9);
  BOOST_TEST(config.num_key_value_heads == 3);
  BOOST_TEST(config.head_dim == 64);
  BOOST_TEST(config.max_positions == 8192);
  BOOST_TEST(config.norm_epsilon == 1e-5);
  BOOST_TEST(config.rope.theta == 100000.0);
  BOOST_CHECK(config.rope.scaling == RopeOptions::Scaling::kNone);
  BOOST_TEST(config.has_tied_head);
  BOOST_TEST(!config.has_qkv_bias);
  BOOST_TEST(config.windows == std::vector<int64_t>(30, 0), boost::test_tools::per_element());
  BOOST_TEST(config.eos_token_ids == std::vector<int64_t>{2}, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(absent_keys_have_the_defaults_of_their_family) {
  Json json = small("llama");
  json.erase("num_key_value_heads");
  const ModelConfig llama = parse(json);
  BOOST_TEST(llama.num_key_value_heads == 32);
  BOOST_TEST(llama.head_dim == 2);
  BOOST_TEST(llama.max_positions == 2048);
  BOOST_TEST(llama.norm_epsilon == 1e-6);
  BOOST_TEST(llama.rope.theta == 10000.0);
  BOOST_TEST(!llama.has_tied_head);
  BOOST_TEST(llama.eos_token_ids == std::vector<int64_t>{2}, boost::test_tools::per_element());

  json["model_type"] = "mistral";
  BOOST_TEST(parse(json).num_key_value_heads == 8);
  BOOST_TEST(parse(json).max_positions == 131072);
  BOOST_TEST(parse(json).windows[3] == 4096);
  json["num_key_value_heads"] = nullptr;
  json["sliding_window"] = nullptr;
  BOOST_TEST(parse(json).num_key_value_heads == 32);
  BOOST_TEST(parse(json).windows[3] == 0);

  const ModelConfig qwen3 = parse(small("qwen3"));
  BOOST_TEST(qwen3.head_dim == 128);
  BOOST_TEST(qwen3.max_positions == 32768);
  BOOST_TEST(qwen3.eos_token_ids.empty());
}

BOOST_AUTO_TEST_CASE(biases_and_norms_belong_to_the_family_or_have_a_key) {
  const ModelConfig qwen2 = parse(small("qwen2"));
  BOOST_TEST((qwen2.has_qkv_bias && !qwen2.has_output_bias && !qwen2.has_qk_norm));
  const ModelConfig qwen3 = parse(small("qwen3"));
  BOOST_TEST((!qwen3.has_qkv_bias && qwen3.has_qk_norm));

  Json json = small("llama");
  json.update({{"attention_bias", true}, {"mlp_bias", true}});
  const ModelConfig llama = parse(json);
  BOOST_TEST((llama.has_qkv_bias && llama.has_output_bias && llama.has_mlp_bias));
  json["model_type"] = "mistral";  // Its classes have no such keys.
  BOOST_TEST((!parse(json).has_qkv_bias && !parse(json).has_mlp_bias));
}

BOOST_AUTO_TEST_CASE(old_and_new_rotary_keys_give_the_same) {
  const Json numbers = {{"factor", 32.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 8192}};
  for (const char* kind : {"type", "rope_type"}) {
    Json old_file = small("llama");
    old_file["rope_theta"] = 500000.0;
    old_file["rope_scaling"] = numbers;
    old_file["rope_scaling"][kind] = "llama3";
    Json new_file = small("llama");
    new_file["rope_parameters"] = numbers;
    new_file["rope_parameters"].update({{kind, "llama3"}, {"rope_theta", 500000.0}});
    for (const Json& file : {old_file, new_file}) {
      const RopeOptions rope = parse(file).rope;
      BOOST_CHECK(rope.scaling == RopeOptions::Scaling::kLlama3);
      BOOST_TEST(rope.theta == 500000.0);
      BOOST_TEST(rope.factor == 32.0);
      BOOST_TEST(rope.low_frequency_factor == 1.0);
      BOOST_TEST(rope.high_frequency_factor == 4.0);
      BOOST_TEST(rope.original_max_positions == 8192);
    }
  }
}

BOOST_AUTO_TEST_CASE(linear_and_default_rotary_positions) {
  Json json = small("llama");
  json["rope_scaling"] = {{"type", "linear"}, {"factor", 2.5}};
  BOOST_CHECK(parse(json).rope.scaling == RopeOptions::Scaling::kLinear);
  BOOST_TEST(parse(json).rope.factor == 2.5);
  json["rope_scaling"] = Json::object();
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 7.0}};
  BOOST_CHECK(parse(json).rope.scaling == RopeOptions::Scaling::kNone);
  BOOST_TEST(parse(json).rope.theta == 7.0);
}

BOOST_AUTO_TEST_CASE(windows_by_layer_come_from_either_key) {
  Json json = small("qwen2");
  json.update({{"sliding_window", 32}, {"max_window_layers", 1}});
  const std::vector<int64_t> none{0, 0, 0, 0}, late{0, 32, 32, 32}, listed{32, 0, 32, 0};
  BOOST_TEST(parse(json).windows == none, boost::test_tools::per_element());
  json["use_sliding_window"] = true;
  BOOST_TEST(parse(json).windows == late, boost::test_tools::per_element());
  // As in transformers: a null is no window, an absent key one of 4,096 tokens.
  json["sliding_window"] = nullptr;
  BOOST_TEST(parse(json).windows == none, boost::test_tools::per_element());
  json.erase("sliding_window");
  BOOST_TEST(parse(json).windows[3] == 4096);
  json["sliding_window"] = 32;
  json["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention",
                         "full_attention"};
  BOOST_TEST(parse(json).windows == listed, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(end_tokens_are_one_or_a_list_and_the_generation_file_wins) {
  Json json = small("llama");
  json["eos_token_id"] = {3, 4};
  ModelConfig config = parse(json);
  BOOST_TEST(config.eos_token_ids == (std::vector<int64_t>{3, 4}),
             boost::test_tools::per_element());
  take_end_tokens(R"({"eos_token_id": null})", "generation_config.json", config);
  BOOST_TEST(config.eos_token_ids.size() == 2u);
  take_end_tokens(R"({"eos_token_id": 5})", "generation_config.json", config);
  BOOST_TEST(config.eos_token_ids == std::vector<int64_t>{5}, boost::test_tools::per_element());
  BOOST_CHECK_EXCEPTION(
      take_end_tokens(R"({"eos_token_id": 100})", "generation_config.json", config), ModelError,
      [](const ModelError& error) {
        return contains(error.what(),
                        "generation_config.json cannot be used:\n  eos_token_id is 100");
      });
}

struct Refusal {
  const char* model_type;
  Json change;
  const char* message;

  friend std::ostream& operator<<(std::ostream& stream, const Refusal& refusal) {
    return stream << refusal.model_type << ' ' << refusal.change;
  }
};

const Refusal kRefusals[] = {
    {"nobodys", Json::object(), "model_type is \"nobodys\"; computed are llama, mistral, qwen2"},
    {"bert", Json::object(), "model_type is \"bert\", which needs attention in both directions"},
    {"deepseek_v3", Json::object(),
     "model_type is \"deepseek_v3\", which needs latent attention; c"},
    {"llama", {{"model_type", nullptr}}, "model_type is missing"},
    {"llama", {{"model_type", 7}}, "model_type is 7, wanted a string"},
    {"llama", {{"vocab_size", nullptr}}, "vocab_size is missing"},
    {"llama", {{"vocab_size", "many"}}, "vocab_size is \"many\", wanted a whole number"},
    {"llama", {{"hidden_size", 64.5}}, "hidden_size is 64.5, wanted a whole number"},
    {"llama", {{"num_hidden_layers", 0}}, "num_hidden_layers is 0, wanted a whole number of at le"},
    {"llama", {{"num_hidden_layers", 1 << 30}}, "wanted a whole number of at least 1 and below"},
    {"llama", {{"hidden_size", uint64_t{1} << 63}}, "hidden_size is 9223372036854775808, wanted"},
    {"llama", {{"num_key_value_heads", 5}}, "num_attention_heads is 32, no multiple of the 5 key"},
    {"llama", {{"head_dim", 5}}, "head_dim is 5; rotary positions need an even number"},
    {"llama", {{"rms_norm_eps", 0}}, "rms_norm_eps is 0, wanted a positive number"},
    {"llama", {{"hidden_act", "celu"}}, "hidden_act is \"celu\"; computed are silu, swish, gelu"},
    {"llama", {{"attention_dropout", 0.1}}, "attention_dropout is 0.1, wanted 0.0"},
    {"llama", {{"tie_word_embeddings", "yes"}}, "tie_word_embeddings is \"yes\", wanted true or"},
    {"llama", {{"partial_rotary_factor", 0.5}}, "partial_rotary_factor is 0.5, wanted 1.0"},
    {"llama", {{"torch_dtype", {"float32"}}}, "torch_dtype is [\"float32\"], wanted a name such"},
    {"llama",
     {{"final_logit_softcapping", 30.0}},
     "final_logit_softcapping is 30.0, by which other models change what is computed"},
    {"llama", {{"is_causal", false}}, "is_causal is false, wanted true"},
    {"qwen2", {{"num_experts", 8}}, "num_experts is 8, by which other models"},
    {"llama", {{"is_encoder_decoder", true}}, "is_encoder_decoder is true, wanted false"},
    {"llama",
     {{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}, {"mrope_section", {1}}}}},
     "rope_scaling.mrope_section is [1], by which other models"},
    {"llama", {{"model_type", std::string(60'000, 'x')}}, "xxx…'; computed are llama, mistral"},
    {"llama", {{"rope_scaling", 4}}, "rope_scaling. is not a JSON object"},
    {"llama", {{"rope_scaling", {{"type", "xpos"}}}}, "rope_scaling.type is \"xpos\"; computed ar"},
    {"llama", {{"rope_scaling", {{"type", "yarn"}}}}, "rope_scaling.factor is missing"},
    {"llama",
     {{"rope_parameters", {{"rope_type", "longrope"}, {"short_factor", {1.0}}}}},
     "rope_parameters.long_factor is not a list of 1 positive numbers"},
    {"phi3",
     {{"rope_scaling", {{"type", "linear"}}}},
     "rope_scaling.type is \"linear\"; computed are default and longrope"},
    {"phi3", {{"resid_pdrop", 0.1}}, "resid_pdrop is 0.1, wanted 0.0"},
    {"glm",
     {{"head_dim", 10}},
     "partial_rotary_factor is 0.5: of a head of 10 numbers 5 would be rotated"},
    {"gemma3_text",
     {{"rope_parameters", {{"rope_theta", 1e4}}}},
     "rope_parameters.rope_theta is beside full_attention and sliding_attention"},
    {"gemma2", {{"sliding_window_pattern", 3}}, "sliding_window_pattern is 3, by which other mod"},
    {"cohere2", {{"sliding_window", nullptr}}, "sliding_window is null, which is not computed"},
    {"cohere", {{"use_qk_norm", true}}, "use_qk_norm is true, by which other models"},
    {"gemma3_text", {{"attn_logit_softcapping", 50.0}}, "attn_logit_softcapping is 50.0, by which"},
    {"falcon", {{"alibi", true}}, "alibi is true, wanted false"},
    {"falcon",
     {{"new_decoder_architecture", true}, {"parallel_attn", false}},
     "parallel_attn is false beside new_decoder_architecture"},
    {"falcon",
     {{"num_ln_in_parallel_attn", 2}},
     "num_ln_in_parallel_attn is 2 without new_decoder_architecture"},
    {"phi", {{"qk_layernorm", true}}, "qk_layernorm is true, by which other models"},
    {"gpt_neox", {{"hidden_dropout", 0.1}}, "hidden_dropout is 0.1, wanted 0.0"},
    {"gpt2",
     {{"scale_attn_by_inverse_layer_idx", true}},
     "scale_attn_by_inverse_layer_idx is true, by which other models"},
    {"gemma3",
     {{"text_config", {{"hidden_size", 0}}}},
     "text_config.hidden_size is 0, wanted a whole number"},
    {"smollm3", {{"no_rope_layers", {1}}}, "no_rope_layers is not a list of 4 layers"},
    {"ministral3",
     {{"rope_parameters", {{"rope_type", "default"}}}},
     "rope_parameters.llama_4_scaling_beta is missing"},
    {"llama", {{"rope_scaling", {{"type", "linear"}}}}, "rope_scaling.factor is missing"},
    {"llama", {{"rope_parameters", {{"rope_theta", -1}}}}, "rope_parameters.rope_theta is -1"},
    {"llama",
     {{"rope_scaling",
       {{"type", "llama3"}, {"factor", 2}, {"low_freq_factor", 4}, {"high_freq_factor", 4}}}},
     "rope_scaling.high_freq_factor must be greater than low_freq_factor"},
    {"qwen2", {{"layer_types", {"full_attention"}}}, "layer_types is not a list of 4 layers"},
    {"mistral", {{"layer_types", {"full_attention"}}}, "layer_types is not a list of 4 layers"},
    {"phi3", {{"layer_types", {"full_attention"}}}, "layer_types is no key of the family phi3"},
    {"glm4_moe", {{"n_group", 3}}, "n_group is 3, but 128 experts are no such groups"},
    {"glm4_moe", {{"n_group", 128}}, "n_group is 128, but 128 experts are no such groups of two"},
    {"glm4_moe", {{"topk_group", 2}}, "topk_group is 2, but there are 1 groups of 128 experts"},
    {"glm4_moe",
     {{"n_group", 32}},
     "topk_group is 1, but there are 32 groups of 4 experts, of which 8 are chosen"},
    {"glm4_moe", {{"first_k_dense_replace", 5}}, "first_k_dense_replace is 5, wanted a whole"},
    {"gpt_oss", {{"swiglu_alpha", 1.0}}, "swiglu_alpha is 1.0, wanted 1.702"},
    {"llama", {{"eos_token_id", 100}}, "eos_token_id is 100, wanted a token id"},
    {"llama", {{"eos_token_id", {1, "x"}}}, "eos_token_id is [1,\"x\"], wanted a token id"},
};

BOOST_DATA_TEST_CASE(what_is_not_computed_is_refused_by_its_key, data::make(kRefusals), refused) {
  const std::string message = refusal(refused.model_type, refused.change);
  BOOST_TEST(contains(message, "config.json cannot be used:\n"), message);
  BOOST_TEST(contains(message, refused.message), message);
}

BOOST_AUTO_TEST_CASE(layer_types_must_be_known_and_fit_the_window) {
  Json change = {{"layer_types", Json::array({"full_attention", "full_attention",
                                              "chunked_attention", "full_attention"})}};
  BOOST_TEST(contains(refusal("qwen3", change), "has \"chunked_attention\" at layer 2"));
  change["layer_types"][2] = "sliding_attention";
  BOOST_TEST(contains(refusal("qwen3", change), "has sliding_attention at layer 2, but use_sl"));
}

BOOST_AUTO_TEST_CASE(keys_that_no_code_of_the_family_looks_at_are_told_and_ignored) {
  Json json = small("llama");
  json.update({{"activation", "swiglu"}, {"license", "mit"}, {"z_loss", 0}, {"note", ""}});
  json["rope_scaling"] = {{"type", "linear"}, {"factor", 2.0}, {"beta_fast", 32}, {"why", "?"}};
  std::vector<std::string> unknown;
  parse_hugging_face_config(json.dump(), "config.json", &unknown);
  const std::vector<std::string> wanted{"rope_scaling.why", "activation", "z_loss"};
  BOOST_TEST(unknown == wanted, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(reads_the_older_gpt2_file_and_tells_of_what_it_leaves_out) {
  std::vector<std::string> unknown;
  const ModelConfig config = parse_hugging_face_config(R"({
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
    "bos_token_id": 50256, "embd_pdrop": 0.0, "eos_token_id": 50256, "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12,
    "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1, "summary_type": "cls_index",
    "task_specific_params": {"text-generation": {"do_sample": true}}, "vocab_size": 50257})",
                                                       "config.json", &unknown);
  BOOST_TEST(config.intermediate_size == 3072);
  BOOST_TEST(config.max_positions == 1024);
  BOOST_TEST(config.has_tied_head);
  const std::vector<std::string> wanted{"resid_pdrop (0.1: nothing is dropped)",
                                        "attn_pdrop (0.1: nothing is dropped)"};
  BOOST_TEST(unknown == wanted, boost::test_tools::per_element());
}

// Of Gemma 3 4B's file what is not about images.
BOOST_AUTO_TEST_CASE(reads_the_text_part_of_a_model_that_sees) {
  const ModelConfig config = parse({{"architectures", {"Gemma3ForConditionalGeneration"}},
                                    {"eos_token_id", {1, 106}},
                                    {"model_type", "gemma3"},
                                    {"text_config",
                                     {{"hidden_size", 2560},
                                      {"intermediate_size", 10240},
                                      {"model_type", "gemma3_text"},
                                      {"num_hidden_layers", 34},
                                      {"rope_scaling", {{"factor", 8.0}, {"rope_type", "linear"}}},
                                      {"sliding_window", 1024}}},
                                    {"vision_config", {{"hidden_size", 1152}}}});
  BOOST_TEST(config.model_type == "gemma3_text");
  BOOST_TEST(config.vocab_size == 262208);
  BOOST_TEST(config.num_heads == 8);
  BOOST_TEST(config.num_key_value_heads == 4);
  BOOST_TEST(config.rope.factor == 8.0);
  BOOST_TEST(config.has_tied_head);
  BOOST_TEST(config.has_other_parts);
  BOOST_TEST(embedding_weight(config) == "language_model.model.embed_tokens.weight");
  BOOST_TEST(block_name(config, 3, NameKind::kModule) == "model.language_model.layers.3");
  const std::vector<int64_t> ends{1, 106};
  BOOST_TEST(config.eos_token_ids == ends, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(all_problems_are_reported_at_once) {
  const std::string message = refusal("llama", {{"hidden_act", "celu"},
                                                {"attention_dropout", 0.5},
                                                {"vocab_size", 0},
                                                {"rope_scaling", {{"type", "xpos"}}}});
  for (const char* key : {"hidden_act", "attention_dropout", "vocab_size", "rope_scaling.type"}) {
    BOOST_TEST(contains(message, concat("\n  ", key, " is ")), message);
  }
  BOOST_TEST(contains(message, "\n  try: "));
}

BOOST_AUTO_TEST_CASE(text_that_is_no_object_is_refused_by_name) {
  for (const char* text : {"", "[1]", "{\"model_type\": \"llama\"", "{} {}"}) {
    BOOST_CHECK_EXCEPTION(
        parse_hugging_face_config(text, "some/config.json"), ModelError,
        [](const ModelError& error) { return contains(error.what(), "some/config.json"); });
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper

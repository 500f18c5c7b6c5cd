// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/model_folder.h"

#include <boost/test/unit_test.hpp>

#include "checkpoint/hugging_face_config.h"
#include "checkpoint/published_folder.h"
#include "checkpoint/tiny_folder.h"
#include "io/json.h"
#include "io/says.h"
#include "io/temporary_folder.h"

namespace temper {
namespace {

using testing::Head;

struct Fixture {
  // The folder's weights are these, whatever its configuration says.
  void write(const std::vector<TensorSpec>& tensors) {
    testing::write_weights(folder.path(), tensors);
  }

  std::string refusal() {
    try {
      const ModelFolder model(folder.path());
    } catch (const ModelError& error) {
      return error.what();
    }
    return "accepted";
  }

  TemporaryFolder folder;
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(model_folder, Fixture)

BOOST_AUTO_TEST_CASE(opens_one_file_and_several) {
  for (const size_t num_files : {1u, 3u}) {
    const std::filesystem::path path = folder / std::to_string(num_files);
    testing::write_tiny_folder(path, Head::kTied, DType::kBF16, num_files);
    const ModelFolder model(path);
    BOOST_TEST(model.config().num_layers == 2);
    BOOST_TEST(model.units().size() == 4u);
    BOOST_TEST(model.weights().files().size() == num_files);
    BOOST_CHECK(model.stored_dtype() == DType::kBF16);
  }
}

BOOST_AUTO_TEST_CASE(all_missing_surplus_and_odd_tensors_are_listed_at_once) {
  testing::write_tiny_folder(folder.path(), Head::kUntied, DType::kF32);
  std::vector<TensorSpec> tensors = testing::tiny_tensors(Head::kUntied, DType::kF32);
  for (TensorSpec& tensor : tensors) {
    if (tensor.name == "model.norm.weight") tensor.name = "model.final.weight";
    if (tensor.name == "lm_head.weight") tensor.shape = {40, 151};
    if (tensor.name == "model.embed_tokens.weight") tensor.dtype = DType::kI32;
  }
  write(tensors);
  const std::string message = refusal();
  for (const char* line :
       {"\n  missing: model.norm.weight [40]", "\n  surplus: model.final.weight [40]",
        "\n  wrong shape: lm_head.weight is [40, 151], wanted [151, 40]",
        "\n  wrong dtype: model.embed_tokens.weight is I32, wanted F32, BF16 or F16"}) {
    BOOST_TEST(contains(message, line), message);
  }
  BOOST_TEST(contains(message, folder.path().string()), message);
  BOOST_TEST(contains(message, "\n  try: "), message);
}

BOOST_AUTO_TEST_CASE(a_long_list_is_cut_and_counted) {
  testing::write_tiny_folder(folder.path(), Head::kTied, DType::kF32);
  std::vector<TensorSpec> tensors = testing::tiny_tensors(Head::kTied, DType::kF32);
  for (int i = 0; i < 50; ++i) tensors.push_back({"extra" + std::to_string(i), DType::kF32, {1}});
  write(tensors);
  BOOST_TEST(contains(refusal(), "\n  and 10 more"));
}

BOOST_AUTO_TEST_CASE(a_tied_head_may_be_there_again_but_an_untied_one_must) {
  testing::write_tiny_folder(folder.path(), Head::kTied, DType::kF32);
  write(testing::tiny_tensors(Head::kUntied, DType::kF32));
  BOOST_TEST(refusal() == "accepted");

  testing::write_tiny_folder(folder.path(), Head::kUntied, DType::kF32);
  write(testing::tiny_tensors(Head::kTied, DType::kF32));
  BOOST_TEST(contains(refusal(), "\n  missing: lm_head.weight [151, 40]"));
}

BOOST_AUTO_TEST_CASE(a_quantisation_of_dense_weights_is_ignored_and_not_passed_on) {
  testing::write_tiny_folder(folder.path(), Head::kTied, DType::kF32);
  const auto write_method = [&](const char* method) {
    Json config = Json::parse(testing::tiny_config_text(Head::kTied));
    config["quantization_config"] = {{"quant_method", method}};
    put(folder / "config.json", config.dump());
  };
  for (const char* method : {"bitsandbytes", "gptq", "fp8"}) {
    write_method(method);
    const ModelFolder model(folder.path());
    BOOST_TEST(!model.quantisation().has_value());
    for (const TextFile& file : model.companions()) {
      BOOST_TEST(!contains(file.text, "quantization_config"), file.path);
    }
  }
  std::vector<TensorSpec> tensors = testing::tiny_tensors(Head::kTied, DType::kF32);
  for (TensorSpec& tensor : tensors) {
    if (tensor.name.ends_with("mlp.up_proj.weight")) tensor.dtype = DType::kU8;
  }
  write(tensors);
  BOOST_TEST(contains(refusal(), "quant_method is \"fp8\""), refusal());
}

// Of gpt-oss-20b's file what is of experts and positions.
BOOST_AUTO_TEST_CASE(reads_the_file_of_a_mixture) {
  const std::string text = R"({"attention_bias": true, "experts_per_token": 4, "head_dim": 64,
    "hidden_act": "silu", "hidden_size": 2880, "initial_context_length": 4096,
    "intermediate_size": 2880, "max_position_embeddings": 131072, "model_type": "gpt_oss",
    "num_attention_heads": 64, "num_experts_per_tok": 4, "num_hidden_layers": 4,
    "num_key_value_heads": 8, "num_local_experts": 32, "output_router_logits": false,
    "quantization_config": {"modules_to_not_convert": ["lm_head"], "quant_method": "mxfp4"},
    "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "rope_type": "yarn",
    "original_max_position_embeddings": 4096, "truncate": false}, "rope_theta": 150000,
    "router_aux_loss_coef": 0.9, "sliding_window": 128, "swiglu_limit": 7.0, "vocab_size": 9})";
  std::vector<std::string> unknown;
  const ModelConfig config = parse_hugging_face_config(text, "config.json", &unknown);
  BOOST_TEST(unknown.empty());
  BOOST_TEST(config.experts.num_chosen == 4);
  BOOST_TEST(config.experts.bound == 7.0);
  BOOST_TEST(config.experts.balance_factor == 0.0);
  BOOST_TEST(config.rope.factor == 32.0);
  BOOST_TEST(!config.rope.has_whole_range);
  const std::vector<int64_t> windows{128, 0, 128, 0};
  BOOST_TEST(config.windows == windows, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(end_tokens_are_added_to_both_files) {
  testing::write_tiny_folder(folder.path(), Head::kTied, DType::kF32);
  const ModelFolder model(folder.path());
  int num_changed = 0;
  for (const TextFile& file :
       published_model(model, {.end_tokens = {9, 2, 9}}).companions(DType::kF32)) {
    if (file.path == "tokenizer.json") continue;
    BOOST_TEST(Json::parse(file.text)["eos_token_id"] == Json({2, 9}), file.path);
    ++num_changed;
  }
  BOOST_TEST(num_changed == 2);
}

BOOST_AUTO_TEST_CASE(rotary_frequencies_are_ignored) {
  testing::write_tiny_folder(folder.path(), Head::kTied, DType::kF32);
  std::vector<TensorSpec> tensors = testing::tiny_tensors(Head::kTied, DType::kF32);
  tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", DType::kF32, {5}});
  write(tensors);
  BOOST_TEST(refusal() == "accepted");
}

BOOST_AUTO_TEST_CASE(the_dtype_is_that_of_most_elements) {
  testing::write_tiny_folder(folder.path(), Head::kTied, DType::kF32);
  std::vector<TensorSpec> tensors = testing::tiny_tensors(Head::kTied, DType::kF16);
  for (TensorSpec& tensor : tensors) {
    if (tensor.shape.size() == 1) tensor.dtype = DType::kF32;
  }
  write(tensors);
  BOOST_CHECK(ModelFolder(folder.path()).stored_dtype() == DType::kF16);
}

BOOST_AUTO_TEST_CASE(end_tokens_of_the_generation_file_win) {
  testing::write_tiny_folder(folder.path(), Head::kTied, DType::kF32);
  put(folder / "generation_config.json", R"({"eos_token_id": [2, 9]})");
  const std::vector<int64_t> wanted{2, 9};
  BOOST_TEST(ModelFolder(folder.path()).config().eos_token_ids == wanted,
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_tokenizer_is_known_by_its_bytes) {
  testing::write_tiny_folder(folder.path(), Head::kTied, DType::kF32);
  const ModelFolder model(folder.path());
  put(folder / "tokenizer.json", "abc");  // The first test vector of FIPS 180-2.
  BOOST_TEST(model.tokenizer_sha256() ==
             "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  std::filesystem::remove(folder / "tokenizer.json");
  BOOST_CHECK_EXCEPTION(model.tokenizer_sha256(), ModelError, says("tokenizer.json"));
}

BOOST_AUTO_TEST_CASE(the_fingerprint_follows_configuration_and_headers) {
  testing::write_tiny_folder(folder / "a", Head::kTied, DType::kF32);
  testing::write_tiny_folder(folder / "b", Head::kTied, DType::kF32);
  testing::write_tiny_folder(folder / "c", Head::kTied, DType::kBF16);
  testing::write_tiny_folder(folder / "d", Head::kTied, DType::kF32, 2);
  put(folder / "b" / "config.json", testing::tiny_config_text(Head::kTied) + " ");
  const std::string a = ModelFolder(folder / "a").fingerprint();
  BOOST_TEST(a.size() == 64u);
  BOOST_TEST(a == ModelFolder(folder / "a").fingerprint());
  for (const char* other : {"b", "c", "d"}) {
    BOOST_TEST(a != ModelFolder(folder / other).fingerprint());
  }
}

BOOST_AUTO_TEST_CASE(a_folder_without_configuration_or_weights_is_refused) {
  BOOST_TEST(contains(refusal(), "config.json"));
  put(folder / "config.json", testing::tiny_config_text(Head::kTied));
  BOOST_TEST(contains(refusal(), "model.safetensors"));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper

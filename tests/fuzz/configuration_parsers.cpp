// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "app/allocation_end.h"
#include "app/processors.h"
#include "app/prompts.h"
#include "checkpoint/chat_template.h"
#include "checkpoint/companion_files.h"
#include "checkpoint/four_bit/stored_format.h"
#include "checkpoint/hugging_face_config.h"
#include "checkpoint/peft/adapter_config.h"
#include "checkpoint/peft/base_identity.h"
#include "config/run_config.h"
#include "fuzz/parsers.h"
#include "model/adapter/module_pattern.h"

namespace temper {
namespace {

void parse_yaml_text(const std::string& bytes) {
  const std::string written = to_yaml(parse_run_config(bytes, "file"));
  require(to_yaml(parse_run_config(written, "file")) == written,
          "a configuration reads as written");
}

Seeds yaml_seeds() {
  const std::string least =
      "run: {folder: run}\nmodel: {path: model}\ndata:\n  train: [{path: a.h5}]\n"
      "  sequence_length: 8\n  global_batch: 2\n  micro_batch: 1\ntrain: {max_steps: 3}\n";
  Seeds seeds = {least, least + "method: lora\nlora: {rank: 4, targets: [q_proj, v_proj]}\n"};
  for (const char* method : {"full", "qlora", "prefix", "prompt", "bottleneck"}) {
    seeds.push_back(to_yaml(parse_run_config(least + "method: " + method + "\n", "file")));
  }
  return seeds;
}

// What can be read can be written for a result of another dtype, and read again.
void parse_model_config(const std::string& bytes) {
  parse_hugging_face_config(bytes, "file");
  parse_hugging_face_config(with_end_tokens(with_dtype(bytes, DType::kBF16), {1}), "written");
}

Seeds model_config_seeds() {
  const std::string sizes =
      R"("hidden_size":16,"intermediate_size":32,"num_hidden_layers":2,"num_attention_heads":2,)"
      R"("num_key_value_heads":1,"vocab_size":64,"max_position_embeddings":64,)"
      R"("eos_token_id":[1,2],"hidden_act":"silu","rms_norm_eps":1e-5,"tie_word_embeddings":false)";
  return {R"({"model_type":"llama","rope_theta":500000.0,"rope_scaling":{"rope_type":"llama3",)"
          R"("factor":32.0,"low_freq_factor":1.0,"high_freq_factor":4.0,)"
          R"("original_max_position_embeddings":8192},)" +
              sizes + "}",
          R"({"model_type":"mistral","sliding_window":8,)" + sizes + "}",
          R"({"model_type":"qwen3","head_dim":8,"attention_bias":false,)" + sizes + "}",
          R"({"model_type":"qwen2","use_sliding_window":true,"sliding_window":4,)" + sizes + "}"};
}

void parse_generation_config(const std::string& bytes) {
  ModelConfig config;
  config.vocab_size = 64;
  take_end_tokens(bytes, "file", config);
}

void parse_quantization(const std::string& bytes) { parse_quantization_config(bytes, "file"); }

Seeds quantization_seeds() {
  return {R"({"quantization_config":{"quant_method":"bitsandbytes","load_in_4bit":true,)"
          R"("bnb_4bit_quant_type":"nf4","bnb_4bit_use_double_quant":true,)"
          R"("bnb_4bit_compute_dtype":"bfloat16","bnb_4bit_quant_storage":"uint8",)"
          R"("llm_int8_skip_modules":["lm_head"]}})"};
}

void parse_templates(const std::string& bytes) {
  put(folder() / "tokenizer_config.json", bytes);
  chat_template_sha256s(folder().path());
}

Seeds template_seeds() {
  return {R"({"chat_template":"{{ messages }}"})",
          R"({"chat_template":[{"name":"default","template":"a"},)"
          R"({"name":"tool_use","template":"b"}]})"};
}

std::string adapter_text(const MethodOptions& options) {
  static const ModelConfig base = parse_hugging_face_config(model_config_seeds().front(), "seed");
  return adapter_config_text(options, base, "base");
}

void parse_adapter(const std::string& bytes) {
  const std::string written = adapter_text(parse_adapter_config(bytes, "file"));
  require(adapter_text(parse_adapter_config(written, "file")) == written,
          "an adapter reads as written");
}

Seeds adapter_seeds() {
  Seeds seeds;
  for (const auto kind : {MethodOptions::Kind::kLora, MethodOptions::Kind::kPrefix,
                          MethodOptions::Kind::kPrompt, MethodOptions::Kind::kBottleneck}) {
    MethodOptions options;
    options.kind = kind;
    options.lora.rank_pattern = {{"q_proj", 4}};
    options.lora.layers = {0, 1};
    seeds.push_back(adapter_text(options));
  }
  return seeds;
}

void parse_base(const std::string& bytes) {
  const std::string written = to_json(parse_base_identity(bytes, "file"));
  require(to_json(parse_base_identity(written, "file")) == written, "a base reads as written");
}

Seeds base_seeds() {
  return {to_json(BaseIdentity{"base", std::string(64, 'a'), QuantisationOptions{}}),
          to_json(BaseIdentity{"base", std::string(64, 'a')})};
}

// The first line is a pattern, the second one a module's path.
void parse_pattern_of_modules(const std::string& bytes) {
  const size_t end = std::min(bytes.find('\n'), bytes.size());
  const ModulePattern pattern(bytes.substr(0, end), "lora.targets");
  const std::string path = bytes.substr(std::min(end + 1, bytes.size()));
  if (pattern.fits(path)) require(pattern.fits_end_of(path), "a path is an end of itself");
}

Seeds pattern_seeds() {
  return {"layers\\.(0|1[0-9]?)\\..*_proj\nlayers.12.self_attn.q_proj",
          "(?!x)[^a-c\\d]{1,3}(?:ab)+?$\nxyzab"};
}

// What a person, Slurm or Linux writes.
void parse_texts(const std::string& bytes) {
  parse_processor(bytes);
  parse_time_left(bytes);
  parse_time_limit(bytes);
  read_prompts(put(folder() / "prompts", bytes));
}

Seeds text_seeds() { return {"1,22,7\n\n3\n"}; }

}  // namespace

std::vector<Parser> configuration_parsers() {
  return {
      {"run_config", parse_yaml_text, yaml_seeds},
      {"model_config", parse_model_config, model_config_seeds},
      {"generation_config", parse_generation_config,
       [] {
         return Seeds{R"({"eos_token_id":[1,2],"do_sample":true})", "{}"};
       }},
      {"quantization_config", parse_quantization, quantization_seeds},
      {"chat_template", parse_templates, template_seeds},
      {"module_pattern", parse_pattern_of_modules, pattern_seeds},
      {"texts", parse_texts, text_seeds},
      {"adapter_config", parse_adapter, adapter_seeds},
      {"base_identity", parse_base, base_seeds},
  };
}

}  // namespace temper

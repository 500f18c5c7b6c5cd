// SPDX-License-Identifier: Apache-2.0
// Fuzz targets for the parsers of every file that temper reads. Whatever the bytes: a parser
// returns what they say, or throws one of temper's own errors. What it returns is written and read
// again where there is a writer, and must come out the same: nothing is lost in silence.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/four_bit/stored_format.h"
#include "checkpoint/hugging_face_config.h"
#include "checkpoint/manifest.h"
#include "checkpoint/peft/adapter_config.h"
#include "checkpoint/peft/base_identity.h"
#include "checkpoint/run_state.h"
#include "config/run_config.h"
#include "core/error.h"
#include "core/hash.h"
#include "io/safetensors_bytes.h"
#include "io/safetensors_folder.h"
#include "io/shard_file.h"
#include "io/temporary_folder.h"
#include "io/token_shard.h"

namespace temper {
namespace {

using Seeds = std::vector<std::string>;

struct Parser {
  std::string_view name;
  std::function<void(const std::string& bytes)> parse;
  std::function<Seeds()> seeds;
};

const TemporaryFolder& folder() {
  static const TemporaryFolder folder;
  return folder;
}

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

// --- safetensors ---

// The last byte says how many bytes of data follow the header.
void parse_header(const std::string& bytes) {
  if (bytes.empty()) return;
  const std::string json = bytes.substr(0, bytes.size() - 1);
  const auto begin = static_cast<int64_t>(json.size()) + SafetensorsHeader::kPrefixBytes;
  const int64_t end = begin + static_cast<unsigned char>(bytes.back());
  const auto header = parse_safetensors_header(json, end, {"file", FilePurpose::kModel});
  int64_t next = begin;
  for (const SafetensorsTensor& tensor : header.tensors) {
    require(tensor.bytes.begin == next, "the tensors' data lie one behind the other");
    next = tensor.bytes.end;
  }
  require(next == end, "the tensors' data cover the file");
}

Seeds header_seeds() {
  return {
      R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]}})"
      "\x1a",
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})" +
          std::string(1, '\0')};
}

// Two files with a tensor each lie beside the index.
void parse_index(const std::string& bytes) {
  static const bool is_written = [] {
    for (const std::string name : {"a", "b"}) {
      const std::string tensor = R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
      put(folder() / (name + ".safetensors"), safetensors_bytes("{\"" + name + tensor, "x"));
    }
    return true;
  }();
  require(is_written, "the files are there");
  put(folder() / "model.safetensors.index.json", bytes);
  const SafetensorsFolder tensors(folder().path());
  for (const auto& [name, place] : tensors.tensors()) {
    require(place.tensor->name == name, "a tensor has the name that the index gives it");
  }
}

Seeds index_seeds() {
  return {safetensors_index({{"a", "a.safetensors"}, {"b", "b.safetensors"}}, 2),
          R"({"metadata":{"total_size":1},"weight_map":{"a":"a.safetensors"}})"};
}

// --- a checkpoint ---

// A manifest has its own hash, which no mutation would hit: zeros stand for it.
std::string sealed(std::string text) {
  const std::string zeros(64, '0');
  const size_t at = text.find(zeros);
  if (at != std::string::npos) text.replace(at, zeros.size(), to_hex(sha256(text)));
  return text;
}

void parse_manifest_text(const std::string& bytes) {
  std::vector<Digest> digests;
  const Manifest manifest = parse_manifest(sealed(bytes), "file", &digests);
  const auto num_digests = static_cast<int64_t>(digests.size());
  require(num_digests == 0 || num_digests == manifest.num_digests(), "each segment has a digest");
  const std::string written = to_json(manifest);
  require(to_json(parse_manifest(written, "file")) == written, "a manifest reads as written");
}

Seeds manifest_seeds() {
  Manifest manifest;
  manifest.step = 7;
  manifest.world_size = 2;
  manifest.model_dtype = "F32";
  manifest.units = {{"unit", 10, 5}};
  manifest.files = {
      {.path = "state.json", .bytes = 10, .first_segment_bytes = 10, .sha256 = sha256("a")},
      {.path = "model/m",
       .bytes = 9,
       .first_segment_bytes = 1,
       .segment_bytes = 4,
       .sha256 = sha256("b")},
  };
  std::string text = to_json(manifest);
  const std::string member = "\"manifest_sha256\": \"";
  text.replace(text.find(member) + member.size(), 64, std::string(64, '0'));
  const std::string version_1 =
      R"({"format":"temper-checkpoint","format_version":1,"manifest_sha256":")" +
      std::string(64, '0') + R"(","step":1,"world_size":1,"model_dtype":"F32",)" +
      R"("units":[{"name":"u","num_elements":1,"shard_size":1}],)" +
      R"("files":[{"path":"state.json","bytes":8,"segments":[{"offset":0,"bytes":8,"sha256":")" +
      std::string(64, 'a') + R"("}]}]})";
  return {text, version_1};
}

void parse_state(const std::string& bytes) {
  const std::string written = to_json(parse_run_state(bytes, "file"));
  require(to_json(parse_run_state(written, "file")) == written, "a state reads as written");
}

Seeds state_seeds() {
  return {to_json(RunState{.step = 3, .trajectory = "t", .config_yaml = "a: 1\n"})};
}

// --- configurations ---

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

void parse_model_config(const std::string& bytes) { parse_hugging_face_config(bytes, "file"); }

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

// --- token shards ---

void parse_shard(const std::string& bytes) {
  TokenShard(put(folder() / "shard.h5", bytes)).verify_all();
}

Seeds shard_seeds() {
  const std::filesystem::path path = folder() / "seed.h5";
  return {content_of(write_shard(path, counting_documents(4, 6))),
          content_of(write_shard(path, counting_conversations(4, 6)))};
}

const std::vector<Parser>& parsers() {
  static const std::vector<Parser> all = {
      {"safetensors_header", parse_header, header_seeds},
      {"safetensors_index", parse_index, index_seeds},
      {"manifest", parse_manifest_text, manifest_seeds},
      {"run_state", parse_state, state_seeds},
      {"run_config", parse_yaml_text, yaml_seeds},
      {"model_config", parse_model_config, model_config_seeds},
      {"generation_config", parse_generation_config,
       [] {
         return Seeds{R"({"eos_token_id":[1,2],"do_sample":true})", "{}"};
       }},
      {"quantization_config", parse_quantization, quantization_seeds},
      {"adapter_config", parse_adapter, adapter_seeds},
      {"base_identity", parse_base, base_seeds},
      {"shard", parse_shard, shard_seeds},
  };
  return all;
}

const Parser* chosen = nullptr;

// Seeds must be what the parser reads to its end, or a fuzzer finds nothing behind them.
void write_seeds(const Parser& parser, const std::filesystem::path& corpus) {
  const Seeds seeds = parser.seeds();
  for (size_t i = 0; i < seeds.size(); ++i) {
    parser.parse(seeds[i]);
    put(corpus / ("seed-" + std::to_string(i)), seeds[i]);
  }
}

}  // namespace
}  // namespace temper

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  const std::string_view option = *argc > 2 ? (*argv)[1] : "";
  for (const temper::Parser& parser : temper::parsers()) {
    if (option == "--parser=" + std::string(parser.name)) temper::chosen = &parser;
  }
  if (temper::chosen == nullptr) {
    std::fputs("usage: fuzz.parsers --parser=NAME [libFuzzer's options] CORPUS or FILE\n", stderr);
    std::exit(1);
  }
  const std::filesystem::path corpus = (*argv)[*argc - 1];
  if (std::filesystem::is_directory(corpus)) temper::write_seeds(*temper::chosen, corpus);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    temper::chosen->parse(std::string(reinterpret_cast<const char*>(data), size));
  } catch (const temper::Error&) {  // Refused in words.
  }
  return 0;
}

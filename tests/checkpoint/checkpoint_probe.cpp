// SPDX-License-Identifier: Apache-2.0
// usage: checkpoint_probe config <config.json>...
//        checkpoint_probe generation <generation_config.json>
//        checkpoint_probe save <model folder> <run folder> <dtype>
//        checkpoint_probe export <model folder> <destination> <bytes per file>
//        checkpoint_probe quantise <model folder> <destination> <bytes per file> <nf4|fp4>
//            <nested|plain>
// What transformers_oracle.py and quantised_export_oracle.py compare with transformers.
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_saver.h"
#include "checkpoint/export_model.h"
#include "checkpoint/generation_config.h"
#include "checkpoint/hugging_face_config.h"
#include "checkpoint/load_state.h"
#include "checkpoint/save.h"
#include "checkpoint/single_rank.h"
#include "core/error.h"
#include "io/file.h"
#include "io/json.h"

namespace temper {
namespace {

Json meaning_of(const std::string& path) {
  std::vector<std::string> unknown;
  const ModelConfig config =
      parse_hugging_face_config(read_file(path, FilePurpose::kModel), path, &unknown);
  const RopeOptions& rope = config.rope;
  const char* types[] = {"default", "linear", "llama3", "yarn", "longrope"};
  return {{"model_type", config.model_type},
          {"vocab_size", config.vocab_size},
          {"hidden_size", config.hidden_size},
          {"intermediate_size", config.intermediate_size},
          {"num_hidden_layers", config.num_layers},
          {"num_attention_heads", config.num_heads},
          {"num_key_value_heads", config.num_key_value_heads},
          {"head_dim", config.head_dim},
          {"max_position_embeddings", config.max_positions},
          {"rms_norm_eps", config.norm_epsilon},
          {"tie_word_embeddings", config.has_tied_head},
          {"qkv_bias", config.has_qkv_bias},
          {"output_bias", config.has_output_bias},
          {"mlp_bias", config.has_mlp_bias},
          {"qk_norm", config.has_qk_norm},
          {"windows", config.windows},
          {"eos_token_ids", config.eos_token_ids},
          {"rope_type", types[static_cast<int>(rope.scaling)]},
          {"rope_theta", rope.theta},
          {"factor", rope.factor},
          {"low_freq_factor", rope.low_frequency_factor},
          {"high_freq_factor", rope.high_frequency_factor},
          {"original_max_position_embeddings", rope.original_max_positions},
          {"unknown_keys", unknown}};
}

// What the file means, or why it is refused.
void print_config(const std::string& path) {
  Json json;
  try {
    json = meaning_of(path);
  } catch (const ModelError& error) {
    json = {{"refused", error.what()}};
  }
  std::printf("%s\n", json.dump().c_str());
}

void print_generation(const std::string& path) {
  const GenerationKeys keys = read_generation_keys(read_file(path, FilePurpose::kModel), path);
  const Json json = {{"not_applied", keys.not_applied}, {"unknown", keys.unknown}};
  std::printf("%s\n", json.dump().c_str());
}

void save(const std::string& source, const std::string& run, const std::string& dtype) {
  testing::SingleRank ranks;
  const ModelFolder model(source);
  UnitStore store(in_form(model.units()), ranks, {});
  load_weights(model, store, ranks);
  CheckpointOptions options;
  options.model_dtype = dtype;
  CheckpointSaver saver({store, ranks, run}, published_model(model), options);
  RunState state;
  state.step = 1;
  saver.begin(state);
  testing::wait_until_written(saver, ranks);
  saver.publish();
}

int run(std::span<char*> arguments) {
  const std::string verb = arguments.size() > 1 ? arguments[1] : "";
  if (verb == "config" && arguments.size() > 2) {
    for (const char* path : arguments.subspan(2)) print_config(path);
  } else if (verb == "generation" && arguments.size() == 3) {
    print_generation(arguments[2]);
  } else if (verb == "save" && arguments.size() == 5) {
    save(arguments[2], arguments[3], arguments[4]);
  } else if (verb == "export" && arguments.size() == 5) {
    export_model(ModelFolder(arguments[2]), arguments[3],
                 {.max_file_bytes = std::stoll(arguments[4])});
  } else if (verb == "quantise" && arguments.size() == 7) {
    QuantisedExportOptions options;
    options.files.max_file_bytes = std::stoll(arguments[4]);
    if (arguments[5] == std::string("fp4")) options.format.kind = FourBitKind::kFp4;
    options.quantises_absmax = arguments[6] == std::string("nested");
    export_quantised(ModelFolder(arguments[2]), arguments[3], options);
  } else {
    std::fputs("see the head of checkpoint_probe.cpp for its usage\n", stderr);
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace temper

int main(int argc, char** argv) {
  try {
    return temper::run(std::span(argv, static_cast<size_t>(argc)));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <filesystem>
#include <string>

#include "app/commands.h"
#include "checkpoint/checkpoint_list.h"
#include "checkpoint/four_bit/stored_format.h"
#include "checkpoint/model_folder.h"
#include "checkpoint/peft/adapter_config.h"
#include "checkpoint/peft/adapter_folder.h"
#include "checkpoint/run_state.h"
#include "checkpoint/together.h"
#include "checkpoint/unit_files.h"
#include "checkpoint/verification.h"
#include "config/problem.h"
#include "core/concat.h"
#include "core/error.h"
#include "io/file.h"
#include "io/token_shard.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

template <typename Value>
void print(const char* key, const Value& value) {
  std::printf("%s\n", concat(key, '=', value).c_str());
}

Manifest manifest_of(const fs::path& checkpoint, bool verifies) {
  return verifies ? verify_alone(checkpoint, VerifiedPart::kWhole) : check_files(checkpoint);
}

void require_hashes(const fs::path& path, bool verifies) {
  if (!verifies) return;
  throw ConfigError(path.string() + " has no hashes to be verified with",
                    "verify the checkpoint that it was taken from, or leave out --verify");
}

void inspect_shard(const fs::path& path, bool verifies) {
  const TokenShard shard(path);
  if (verifies) shard.verify_all();
  const ShardHeader& header = shard.header();
  print("kind", "shard");
  print("content", to_string(header.kind));
  print("num_documents", header.num_documents);
  print("num_tokens", header.num_tokens);
  print("num_targets", header.num_targets);
  print("vocab_size", header.vocab_size);
  print("eos_token_id", header.eos_token_id);
  print("tokenizer_sha256", header.tokenizer_sha256);
  print("chat_template_sha256", header.chat_template_sha256);
  print("fingerprint", header.fingerprint);
  print("origin", header.origin);
}

void inspect_checkpoint(const fs::path& path, bool verifies) {
  const Manifest manifest = manifest_of(path, verifies);
  const RunState state = read_run_state(path);
  print("kind", "checkpoint");
  print("step", manifest.step);
  print("num_updates", state.num_updates);
  print("num_skipped", state.num_skipped);
  print("num_target_tokens", state.num_target_tokens);
  print("next_micro_batch", state.next_micro_batch);
  print("trajectory", state.trajectory);
  if (!state.origin.trajectory.empty()) {
    print("continued_from", state.origin.checkpoint);
    print("continued_changes", state.origin.changes);
  }
  print("written_by_ranks", manifest.world_size);
  print("model_dtype", manifest.model_dtype);
  print("num_units", manifest.units.size());
  print("num_files", manifest.files.size());
  print("bytes", manifest.bytes());
}

void inspect_model(const fs::path& path) {
  const ModelFolder folder(path, WeightForms::kAny);
  const ModelConfig& config = folder.config();
  print("kind", "model");
  print("model_type", config.model_type);
  print("num_parameters", num_elements(folder.units()));
  print("num_layers", config.num_layers);
  print("hidden_size", config.hidden_size);
  print("intermediate_size", config.intermediate_size);
  print("num_heads", config.num_heads);
  print("num_key_value_heads", config.num_key_value_heads);
  print("head_dim", config.head_dim);
  print("vocab_size", config.vocab_size);
  print("max_positions", config.max_positions);
  print("has_tied_head", config.has_tied_head ? "true" : "false");
  print("stored_dtype", to_string(folder.stored_dtype()));
  if (folder.quantisation()) print("quantised", describe(*folder.quantisation()));
  print("num_files", folder.weights().files().size());
  print("fingerprint", folder.fingerprint());
  if (fs::exists(path / "tokenizer.json")) print("tokenizer_sha256", folder.tokenizer_sha256());
}

void inspect_adapter(const fs::path& path) {
  const std::string file = (path / "adapter_config.json").string();
  const MethodOptions options = parse_adapter_config(read_file(file, FilePurpose::kModel), file);
  const SafetensorsFolder weights = open_adapter_weights(path, options);
  int64_t num_parameters = 0;
  for (const auto& [name, place] : weights.tensors()) {
    num_parameters += place.tensor->bytes.size() * 8 / num_bits(place.tensor->dtype);
  }
  print("kind", "adapter");
  print("method", name_of(options.kind));
  if (options.kind == MethodOptions::Kind::kLora) {
    print("rank", options.lora.rank);
    print("alpha", options.lora.alpha);
    print("targets", options.lora.target_pattern.empty() ? joined(options.lora.targets)
                                                         : options.lora.target_pattern);
  } else if (options.kind == MethodOptions::Kind::kBottleneck) {
    print("name", options.bottleneck.name);
    print("placement", options.bottleneck.is_houlsby() ? "houlsby" : "pfeiffer");
    print("reduction_factor", options.bottleneck.reduction_factor);
    print("activation", name_of(options.bottleneck.function()));
  } else {
    print("num_virtual_tokens", options.num_virtual_tokens());
  }
  print("num_tensors", weights.tensors().size());
  print("num_parameters", num_parameters);
}

// What is wrong with one checkpoint is no reason not to look at the others.
void inspect_run(const fs::path& path, bool verifies) {
  print("kind", "run");
  const std::vector<FoundCheckpoint> checkpoints = list_checkpoints(checkpoints_of(path));
  std::string first_problem;
  int64_t num_problems = 0;
  for (const FoundCheckpoint& found : checkpoints) {
    try {
      const int64_t bytes = manifest_of(found.path, verifies).bytes();
      print("checkpoint", concat(found.path.string(), " bytes=", bytes));
    } catch (const CheckpointError& error) {
      const bool is_unread = dynamic_cast<const UnjudgedError*>(&error) != nullptr;
      print(is_unread ? "unreadable" : "damaged",
            concat(found.path.string(), " reason=\"", error.problem(), '"'));
      if (num_problems++ == 0) first_problem = error.problem();
    }
  }
  if (num_problems == 0) return;
  throw CheckpointError(concat(num_problems, " of ", checkpoints.size(), " checkpoints of ",
                               path.string(), " are not known to be whole: ", first_problem),
                        "restore what is damaged; training and export pass it over");
}

}  // namespace

int run_inspect(const std::string& name, bool verifies) {
  const fs::path path(name);
  if (!fs::exists(path)) throw ConfigError(name + " does not exist", "check the path");
  print("path", name);
  if (fs::is_regular_file(path)) {
    inspect_shard(path, verifies);
  } else if (fs::exists(path / Manifest::kFileName)) {
    inspect_checkpoint(path, verifies);
  } else if (fs::exists(path / "config.json")) {
    require_hashes(path, verifies);
    inspect_model(path);
  } else if (fs::exists(path / "adapter_config.json")) {
    require_hashes(path, verifies);
    inspect_adapter(path);
  } else if (fs::exists(checkpoints_of(path))) {
    inspect_run(path, verifies);
  } else {
    throw ConfigError(name + " is no token shard, checkpoint, run, model or adapter folder",
                      "give one of these: they have the HDF5 format, MANIFEST.json, checkpoints/, "
                      "config.json, or adapter_config.json");
  }
  return 0;
}

}  // namespace temper

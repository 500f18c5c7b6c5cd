// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "app/commands.h"
#include "app/data_conventions.h"
#include "app/result_record.h"
#include "app/serving_notes.h"
#include "checkpoint/checkpoint_list.h"
#include "checkpoint/companion_files.h"
#include "checkpoint/export_model.h"
#include "checkpoint/new_folder.h"
#include "checkpoint/peft/adapter_config.h"
#include "checkpoint/peft/merge.h"
#include "checkpoint/published_folder.h"
#include "checkpoint/verification.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/log.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

void say(const std::string& warning) { log_event(concat("warning=\"", warning, '"')); }

// Those that turns in the training data end with, and no text of the model. They are of use only
// with a template that writes them.
std::vector<int64_t> foreign_turn_ends(const Manifest& manifest, const ModelConfig& model) {
  std::vector<int64_t> tokens;
  if (!manifest.data) return tokens;
  for (const DataShard& shard : manifest.data->shards) {
    const auto& token = shard.end_of_turn_id;
    if (!token || !shard.holdout.empty()) continue;
    if (std::ranges::find(model.eos_token_ids, *token) == model.eos_token_ids.end() &&
        std::ranges::find(tokens, *token) == tokens.end()) {
      tokens.push_back(*token);
    }
  }
  return tokens;
}

std::string adapter_kind(const fs::path& adapter) {
  const fs::path path = adapter / "adapter_config.json";
  const MethodOptions options =
      parse_adapter_config(read_file(path, FilePurpose::kModel), path.string());
  for (const std::string& note : serving_notes(options)) say(note);
  return name_of(options.kind);
}

// The texts of a model that end tokens are added to, if they are asked for; else they are told of.
void settle_end_tokens(const ModelFolder& model, const Manifest& manifest, bool adds,
                       std::vector<TextFile>& texts) {
  const std::vector<int64_t> tokens = foreign_turn_ends(manifest, model.config());
  if (tokens.empty()) return;
  if (!adds)
    return say(describe_turn_ends(tokens, model.config(), "export with --end-of-turn add"));
  std::vector<TextFile> files = model.companions();
  std::erase_if(files, [](const TextFile& file) {
    return file.path != "config.json" && file.path != "generation_config.json";
  });
  add_end_tokens(tokens, model, files);
  put_texts(files, texts);
}

}  // namespace

int run_export(const std::string& checkpoint, const std::string& destination,
               const ExportArguments& arguments) {
  if (!arguments.gguf.empty()) {
    throw ConfigError("temper itself writes no GGUF: its tokenizer takes Python to translate",
                      concat("run launch/export-gguf ", shell_text({checkpoint, destination}),
                             " --type ", arguments.gguf));
  }
  require_new_folder(destination);
  const auto verify = [](const fs::path& path) {
    return verify_alone(path, VerifiedPart::kPublished);
  };
  const auto [source, manifest] = resolve_checkpoint(checkpoint, verify);
  std::string dtype = manifest.model_dtype;
  const bool is_adapter = fs::exists(source / "adapter");
  if (is_adapter && arguments.quantise) {
    throw ConfigError(source.string() + " is a checkpoint of an adapter, which is not quantised",
                      "leave --quantize out, or merge the adapter into its base first");
  }
  if (is_adapter && arguments.adds_end_of_turn) {
    throw ConfigError(source.string() +
                          " is a checkpoint of an adapter, whose texts end as those "
                          "of its base",
                      "leave --end-of-turn out, and add the token to eos_token_id in the base's "
                      "generation_config.json");
  }
  const fs::path published = source / (is_adapter ? "adapter" : "model");
  const fs::path run = fs::weakly_canonical(source).parent_path().parent_path();
  std::vector<TextFile> texts = result_record(run, manifest.step, card_in(published));
  const bool has_history = !texts.empty();
  std::string kind;
  if (is_adapter) {
    kind = " adapter=" + adapter_kind(published);
    export_adapter(published, destination, texts);
  } else {
    const ModelFolder model(published);
    settle_end_tokens(model, manifest, arguments.adds_end_of_turn, texts);
    if (arguments.quantise) {
      export_quantised(model, destination,
                       {.format = {.kind = *arguments.quantise}, .files = {.texts = texts}});
      dtype = *arguments.quantise == FourBitKind::kNf4 ? "NF4" : "FP4";
    } else {
      export_model(model, destination, {.texts = texts});
    }
  }
  const std::vector<std::string> code = own_code_in(destination);
  for (const std::string& name : code) say(concat(name, " is copied, and was not run"));
  std::printf("exported=%s step=%lld dtype=%s%s history=%s to=%s\n", source.c_str(),
              static_cast<long long>(manifest.step), dtype.c_str(), kind.c_str(),
              has_history ? "yes" : "none", destination.c_str());
  return 0;
}

}  // namespace temper

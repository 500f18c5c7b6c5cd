// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/peft/adapter_folder.h"

#include <algorithm>
#include <optional>
#include <system_error>
#include <utility>

#include "checkpoint/chat_template.h"
#include "checkpoint/companion_files.h"
#include "checkpoint/peft/adapter_config.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/message_text.h"
#include "io/file.h"
#include "model/adapter/option_error.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

constexpr const char* kConfig = "adapter_config.json";
constexpr const char* kBase = "base.json";
constexpr const char* kPickledWeights = "pytorch_adapter.bin";  // The default of adapters.

// What peft calls the options that may not fit a base.
constexpr std::pair<const char*, const char*> kKeys[] = {
    {"lora.targets", "target_modules"},
    {"lora.target_pattern", "target_modules"},
    {"lora.layers", "layers_to_transform"},
    {"lora.rank_pattern", "rank_pattern"},
    {"lora.alpha_pattern", "alpha_pattern"},
    {"lora.modules_to_save", "modules_to_save"},
    {"lora.trainable_tokens", "trainable_token_indices"}};

std::string key_of(const std::string& option) {
  for (const auto& [known, key] : kKeys) {
    if (option == known) return key;
  }
  return option;
}

// The tensors that the adapter has on a base of this shape. Options that do not fit it are problems
// of the adapter's file. Patterns that fit nothing change nothing in peft either: they are named.
Adapter adapter_on(const ModelConfig& base, MethodOptions& options, const fs::path& file) {
  try {
    if (options.is_lora()) {
      for (const std::string& pattern : remove_idle_patterns(options.lora, base)) {
        log_event(concat("warning=\"", file.string(), " has the pattern ", quote(pattern),
                         ", which fits no module that is adapted, and is ignored\""));
      }
    }
    return make_adapter(options, base).value();
  } catch (const OptionError& error) {
    throw ModelError(concat(file.string(), ": ", key_of(error.option()), ' ', error.reason()),
                     "use an adapter of linear modules of the blocks, on the model that it is for");
  } catch (const ConfigError& error) {
    throw ModelError(concat(file.string(), " does not fit this model: ", error.problem()),
                     "use the adapter on the model that it is for");
  }
}

// The slots of those units of an adapter that change its base.
std::vector<TensorSlot> base_change_of(const Adapter& adapter) {
  std::vector<TensorSlot> slots;
  for (const AdapterUnit& unit : adapter.units) {
    if (!unit.layout.changes_base()) continue;
    slots.insert(slots.end(), unit.layout.slots().begin(), unit.layout.slots().end());
  }
  return slots;
}

}  // namespace

AdapterFolder::AdapterFolder(fs::path folder, const ModelFolder& base)
    : path_(std::move(folder)),
      config_text_(read_file(path_ / kConfig, FilePurpose::kModel)),
      options_(parse_adapter_config(config_text_, (path_ / kConfig).string())),
      weights_(open_adapter_weights(path_, options_)) {
  require_tensors(weights_, {adapter_on(base.config(), options_, path_ / kConfig).file},
                  path_.string());
}

const UnitFileSet& adapter_files_of(const MethodOptions& options) {
  return options.kind == MethodOptions::Kind::kBottleneck ? kAdapterHubFiles : kAdapterFiles;
}

std::vector<UnitLayout> units_in_files(const Adapter& adapter) {
  const std::vector<TensorSlot> change = base_change_of(adapter);
  std::vector<UnitLayout> units = {adapter.file};
  if (adapter.projection) units.push_back(adapter.projection->unit());
  if (change.empty()) return units;
  std::vector<TensorSlot> slots = adapter.file.slots();
  for (TensorSlot& slot : slots) {
    const std::string name = base_change_name(slot.name);
    const auto other = std::ranges::find(change, name, &TensorSlot::name);
    if (other == change.end()) continue;
    const size_t dimension = slot.name.ends_with(kLoraDown) ? 0 : 1;
    slot.shape[dimension] += other->shape[dimension];
  }
  return {{"adapter", slots, UnitLayout::Use::kExported},
          {"adapter.trained", adapter.file.slots(), UnitLayout::Use::kPrivate},
          {"adapter.base_change", change, UnitLayout::Use::kBaseChange}};
}

SafetensorsFolder open_adapter_weights(const fs::path& folder, const MethodOptions& options) {
  const std::string stem = adapter_files_of(options).stem;
  const fs::path pickled = folder / kPickledWeights;
  if (fs::exists(pickled) && !fs::exists(folder / (stem + ".safetensors"))) {
    throw ModelError(concat(pickled.string(), " is a pickle, which is not read here"),
                     "save it again: model.save_adapter(folder, name, use_safetensors=True)");
  }
  return SafetensorsFolder(folder, stem);
}

std::string AdapterFolder::fingerprint() const {
  return to_hex(sha256(config_text_ + sampled_sha256(weights_)));
}

std::optional<BaseIdentity> read_base_identity(const fs::path& folder) {
  const fs::path path = folder / kBase;
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return {};
  return parse_base_identity(read_file(path, FilePurpose::kModel), path.string());
}

void require_same_base(const fs::path& folder, const BaseIdentity& base) {
  const std::optional<BaseIdentity> wanted = read_base_identity(folder);
  if (!wanted || *wanted == base) return;
  throw ModelError(concat("the adapter in ", folder.string(), " was trained on ", wanted->path,
                          ", and ", base.path, " is another model"),
                   "use it with its own base");
}

void require_same_base(const fs::path& folder, const ModelFolder& base) {
  if (read_base_identity(folder)) require_same_base(folder, identify_base(base));
}

std::vector<TextFile> adapter_texts(const MethodOptions& options, const ModelFolder& base,
                                    const std::string& base_record) {
  return {{kConfig, adapter_config_text(options, base.config(), base.path())},
          {kBase, base_record}};
}

std::vector<TextFile> template_texts(const std::string& chat_template, const ModelFolder& base) {
  std::vector<TextFile> files = read_tokenizer_files(base.path());
  set_chat_template(chat_template, files);
  return files;
}

PublishedFolder published_adapter(const MethodOptions& options, const ModelFolder& base,
                                  const std::optional<QuantisationOptions>& quantisation,
                                  const ResultTexts& texts) {
  return {adapter_files_of(options), DType::kF32, [&options, &base, quantisation, texts](DType) {
            BaseIdentity identity = identify_base(base);
            identity.quantisation = quantisation;
            std::vector<TextFile> files = adapter_texts(options, base, to_json(identity));
            if (!texts.chat_template.empty()) {
              for (TextFile& file : template_texts(texts.chat_template, base)) {
                files.push_back(std::move(file));
              }
            }
            if (!texts.model_card.empty()) files.push_back({kModelCard, texts.model_card});
            return files;
          }};
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/peft/adapter_folder.h"

#include <optional>
#include <system_error>
#include <utility>

#include "checkpoint/peft/adapter_config.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/hash.h"
#include "io/file.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

constexpr const char* kConfig = "adapter_config.json";
constexpr const char* kBase = "base.json";
constexpr const char* kPickledWeights = "pytorch_adapter.bin";  // The default of adapters.

std::optional<BaseIdentity> read_base(const fs::path& folder) {
  const fs::path path = folder / kBase;
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return {};
  return parse_base_identity(read_file(path, FilePurpose::kModel), path.string());
}

}  // namespace

AdapterFolder::AdapterFolder(fs::path folder, const ModelFolder& base)
    : path_(std::move(folder)),
      config_text_(read_file(path_ / kConfig, FilePurpose::kModel)),
      options_(parse_adapter_config(config_text_, (path_ / kConfig).string())),
      weights_(open_adapter_weights(path_, options_)) {
  require_tensors(weights_, {make_adapter(options_, base.config())->unit}, path_.string());
}

const UnitFileSet& adapter_files_of(const MethodOptions& options) {
  return options.kind == MethodOptions::Kind::kBottleneck ? kAdapterHubFiles : kAdapterFiles;
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

void require_same_base(const fs::path& folder, const ModelFolder& base) {
  const std::optional<BaseIdentity> wanted = read_base(folder);
  if (!wanted || *wanted == identify_base(base)) return;
  throw ModelError(concat("the adapter in ", folder.string(), " was trained on ", wanted->path,
                          ", and ", base.path().string(), " is another model"),
                   "use it with its own base");
}

PublishedFolder published_adapter(const MethodOptions& options, const ModelFolder& base) {
  return {adapter_files_of(options), DType::kF32,
          [&options, &base](DType) -> std::vector<TextFile> {
            return {{kConfig, adapter_config_text(options, base.config(), base.path())},
                    {kBase, to_json(identify_base(base))}};
          }};
}

}  // namespace temper

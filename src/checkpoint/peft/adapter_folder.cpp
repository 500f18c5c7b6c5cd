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

PublishedFolder published_adapter(const MethodOptions& options, const ModelFolder& base,
                                  const std::optional<QuantisationOptions>& quantisation) {
  return {adapter_files_of(options), DType::kF32, [&options, &base, quantisation](DType) {
            BaseIdentity identity = identify_base(base);
            identity.quantisation = quantisation;
            return adapter_texts(options, base, to_json(identity));
          }};
}

}  // namespace temper

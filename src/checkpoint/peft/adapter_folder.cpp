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
      weights_(path_, kAdapterFiles.stem) {
  require_tensors(weights_, {make_adapter(options_, base.config())->unit}, path_.string());
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
  return {kAdapterFiles, DType::kF32, [&options, &base](DType) -> std::vector<TextFile> {
            return {{kConfig, adapter_config_text(options, base.config(), base.path())},
                    {kBase, to_json(identify_base(base))}};
          }};
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <filesystem>

#include "app/commands.h"
#include "checkpoint/checkpoint_list.h"
#include "checkpoint/export_model.h"
#include "checkpoint/new_folder.h"
#include "checkpoint/peft/merge.h"
#include "checkpoint/verification.h"
#include "core/error.h"

namespace temper {
namespace fs = std::filesystem;

int run_export(const std::string& checkpoint, const std::string& destination,
               std::optional<FourBitKind> quantise) {
  require_new_folder(destination);
  const auto verify = [](const fs::path& path) {
    return verify_alone(path, VerifiedPart::kPublished);
  };
  const auto [source, manifest] = resolve_checkpoint(checkpoint, verify);
  std::string dtype = manifest.model_dtype;
  const bool is_adapter = fs::exists(source / "adapter");
  if (is_adapter && quantise) {
    throw ConfigError(source.string() + " is a checkpoint of an adapter, which is not quantised",
                      "leave --quantize out, or merge the adapter into its base first");
  }
  if (is_adapter) {
    export_adapter(source / "adapter", destination);
  } else if (quantise) {
    export_quantised(ModelFolder(source / "model"), destination, {.format = {.kind = *quantise}});
    dtype = *quantise == FourBitKind::kNf4 ? "NF4" : "FP4";
  } else {
    export_model(ModelFolder(source / "model"), destination);
  }
  std::printf("exported=%s step=%lld dtype=%s to=%s\n", source.c_str(),
              static_cast<long long>(manifest.step), dtype.c_str(), destination.c_str());
  return 0;
}

}  // namespace temper

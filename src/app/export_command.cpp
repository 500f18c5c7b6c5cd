// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <filesystem>

#include "app/commands.h"
#include "app/resolve_checkpoint.h"
#include "checkpoint/export_model.h"
#include "checkpoint/new_folder.h"
#include "checkpoint/peft/merge.h"
#include "checkpoint/verification.h"

namespace temper {
namespace fs = std::filesystem;

int run_export(const std::string& checkpoint, const std::string& destination) {
  require_new_folder(destination);
  const fs::path source = resolve_checkpoint(checkpoint);
  const Manifest manifest = verify_published(source);
  if (fs::exists(source / "adapter")) {
    export_adapter(source / "adapter", destination);
  } else {
    export_model(ModelFolder(source / "model"), destination);
  }
  std::printf("exported=%s step=%lld dtype=%s to=%s\n", source.c_str(),
              static_cast<long long>(manifest.step), manifest.model_dtype.c_str(),
              destination.c_str());
  return 0;
}

}  // namespace temper

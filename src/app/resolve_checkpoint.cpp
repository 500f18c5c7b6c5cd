// SPDX-License-Identifier: Apache-2.0
#include "app/resolve_checkpoint.h"

#include <string>

#include "checkpoint/checkpoint_list.h"
#include "checkpoint/together.h"
#include "checkpoint/verification.h"
#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace fs = std::filesystem;

fs::path resolve_checkpoint(const fs::path& path) {
  if (fs::exists(path / Manifest::kFileName)) return path;
  std::string passed_over;
  for (const FoundCheckpoint& found : list_checkpoints(checkpoints_of(path))) {
    try {
      check_files(found.path);
      return found.path;
    } catch (const CheckpointError& error) {
      passed_over += "\n  " + error.problem();
    }
  }
  if (!passed_over.empty()) {
    throw CheckpointError(concat("no checkpoint of ", path.string(), " is whole:", passed_over),
                          "restore one of them");
  }
  throw CheckpointError(path.string() + " is no checkpoint, and no run that has one",
                        "give a folder such as RUN/checkpoints/step-00001000, or RUN itself");
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "app/resolve_checkpoint.h"

#include <string>
#include <system_error>

#include "checkpoint/checkpoint_list.h"
#include "core/concat.h"
#include "core/log.h"
#include "io/file.h"

namespace temper {
namespace fs = std::filesystem;

ResolvedCheckpoint resolve_checkpoint(const fs::path& path, const CheckpointCheck& check) {
  std::error_code ignored;
  if (fs::exists(path / Manifest::kFileName, ignored)) return {path, check(path)};
  std::string passed_over;
  for (const FoundCheckpoint& found : list_checkpoints(checkpoints_of(path))) {
    try {
      return {found.path, check(found.path)};
    } catch (const UnjudgedError&) {
      throw;
    } catch (const CheckpointError& error) {
      log_event(concat("checkpoint passed_over=", found.path.string(), " reason=\"",
                       error.problem(), '"'));
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

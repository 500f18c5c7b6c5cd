// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>

#include "checkpoint/manifest.h"

namespace temper {

struct ResolvedCheckpoint {
  std::filesystem::path folder;
  Manifest manifest;
};

/// What is asked of a checkpoint: returns its manifest, or throws CheckpointError if it is damaged.
using CheckpointCheck = std::function<Manifest(const std::filesystem::path&)>;

/// The checkpoint that a path means: itself, which must pass the check, or the newest one of a
/// run's folder that does. The log names each newer one that is damaged, with the reason. One that
/// cannot be read is never passed over. Local. Throws: CheckpointError if there is none;
/// UnjudgedError.
ResolvedCheckpoint resolve_checkpoint(const std::filesystem::path& path,
                                      const CheckpointCheck& check);

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace temper {

struct CheckpointOptions {
  int64_t every_steps = 0;      ///< 0: only at the end.
  int64_t keep = 2;             ///< So many checkpoints stay; the last verified one always does.
  std::string resume = "auto";  ///< "auto": the newest whole one; "never"; or a checkpoint folder.
  std::string model_dtype = "auto";  ///< Of the saved weights: "auto" as loaded, or a dtype's name.
};

}  // namespace temper

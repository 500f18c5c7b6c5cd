// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace temper {

struct CheckpointOptions {
  int64_t every_steps = 0;      ///< 0: only at the end.
  int64_t keep = 2;             ///< So many checkpoints stay; the last verified one always does.
  std::string resume = "auto";  ///< "auto": the newest whole one; "never"; or a checkpoint folder.
  std::string keep_best;        ///< The hold-out whose best checkpoint stays, too; empty: none.
  bool publishes_best = false;  ///< `final/` is of that one, not of the newest.
  std::string model_dtype = "auto";  ///< Of the saved weights: "auto" as loaded, or a dtype's name.
};

/// What a run that goes on from another run's checkpoint may have otherwise than that one had, and
/// begins anew there. Everything else must be the same.
inline constexpr std::array<std::string_view, 4> kChangeableAspects = {
    "steps",      // How many there are in all.
    "schedule",   // It begins at the checkpoint and spans the steps that are left.
    "optimizer",  // Rates, decay and clipping; its moments are kept.
    "data",       // The sources, or how they are mixed and batched: from their first row on.
};

/// How a run goes on from a checkpoint that another one has written.
struct ContinueOptions {
  std::string from;                 ///< The checkpoint's folder; empty: the run goes on from none.
  std::vector<std::string> change;  ///< Of `kChangeableAspects`.

  bool changes(std::string_view aspect) const {
    return std::find(change.begin(), change.end(), aspect) != change.end();
  }
};

}  // namespace temper

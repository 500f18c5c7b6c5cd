// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/range.h"
#include "model/kl_options.h"

namespace temper {

/// When a run ends before its last step.
struct EarlyStopOptions {
  std::string holdout;    ///< The name of the hold-out that decides; empty: none.
  int64_t patience = 3;   ///< Evaluations in a row without a gain that end the run.
  double min_gain = 0.0;  ///< What counts as a gain: a loss lower by more than this.
};

struct TrainOptions {
  int64_t max_steps = 0;             ///< Optimizer steps; 0 where `epochs` decides.
  double epochs = 0.0;               ///< Passes over the mixture; 0 where `max_steps` decides.
  double max_grad_norm = 1.0;        ///< 0: gradients are measured but not clipped.
  int64_t max_skipped_in_a_row = 5;  ///< So many steps without an update end the run.
  int64_t log_every_steps = 1;
  int64_t log_unit_norms = 0;  ///< Every so many steps the gradient norm of each unit; 0: never.
  std::string profile_steps;   ///< "10-12": of these each rank writes a trace; empty: of none.
  std::string sample_prompts;  ///< A file of prompts that the run answers; empty: none.
  int64_t sample_tokens = 64;  ///< Of an answer, at most.
  int64_t evaluate_every_steps = 0;  ///< 0: only before the first and after the last step.
  bool recomputes = false;           ///< Blocks are computed again in backward instead of kept.
  double time_limit_minutes = 0.0;   ///< Of one job; 0: what Slurm says.
  int threads = 0;  ///< Per rank; 0: what the affinity mask and the ranks per node leave.
  EarlyStopOptions early_stop;
  double l2_sp = 0.0;        ///< A step pulls each weight to its start by this times its rate.
  double ema_decay = 0.0;    ///< Of the moving mean of the weights, the result then; 0: none.
  KlOptions kl;              ///< By which the model is kept near the one that the run began with.
  double layer_decay = 1.0;  ///< Of rates by depth: see ParameterOptions.

  /// Whether each step needs the weights that the run began with.
  bool needs_start() const { return l2_sp > 0.0 || kl.is_on(); }
};

/// The steps that `profile_steps` names, [begin, end); nothing if it is no such text.
std::optional<Range> steps_in(const std::string& text);

}  // namespace temper

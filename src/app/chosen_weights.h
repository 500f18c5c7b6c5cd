// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "comm/communicator.h"
#include "config/run_config.h"

namespace temper {

/// Which of a run's weights are evaluated, or generate.
enum class WeightsChoice {
  kAuto,    ///< The first that the run has of: its newest whole checkpoint, final/, the base.
  kBase,    ///< What the run begins with: model.path, and adapter.start if it is set.
  kNewest,  ///< Its newest whole checkpoint.
  kFinal,   ///< Its final/.
};

struct ChosenWeights {
  /// The run's, but for model.path, or the method's options and adapter.start: they mean the
  /// weights that were chosen.
  RunConfig config;
  std::string text;  ///< "weights=newest step=20 path=run/checkpoints/step-00000020/model".
};

/// Finds the weights of a run; a checkpoint is verified to the last byte.
/// Collective: all ranks. Throws: CheckpointError if there are none of this kind, or checkpoints,
/// but none that is whole; ConfigError if they are of another method than the configuration says.
ChosenWeights choose_weights(const RunConfig& config, WeightsChoice choice, Communicator& ranks);

}  // namespace temper

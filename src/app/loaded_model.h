// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/model_folder.h"
#include "comm/communicator.h"
#include "comm/mpi_session.h"
#include "config/run_config.h"
#include "model/decoder.h"
#include "train/engine.h"
#include "train/evaluation.h"
#include "zero/unit_store.h"

namespace temper {

/// What training, evaluation and generation have in common: the ranks, the model's folder, and an
/// engine over sharded units whose weights are still to be loaded.
///
/// Collective. Throws: LaunchError if the ranks' binaries or configurations differ; ModelError;
/// ConfigError.
struct LoadedModel {
  LoadedModel(const MpiSession& session, const RunConfig& config, StorePurpose purpose);

  std::unique_ptr<Communicator> ranks;
  int num_threads;
  ModelFolder folder;
  Decoder decoder;
  UnitStore store;
  Engine engine;
};

/// How many threads this rank computes with, which LibTorch then uses: as asked, or this rank's
/// share of the CPUs. More than that is warned of.
/// Collective: all ranks.
int set_threads(int asked, int num_cpus, Communicator& ranks);

/// The CPU, or a GPU that is still to be chosen by the rank's place on its node.
at::Device device_of(const ModelOptions& options);

at::ScalarType scalar_type_of(ComputeDtype dtype);

/// The hold-outs of a configuration, each checked against the model.
std::vector<HoldOut> open_holdouts(const RunConfig& config, const ModelFolder& folder);

}  // namespace temper

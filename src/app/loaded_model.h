// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>

#include "app/memory_estimate.h"
#include "app/run_inputs.h"
#include "comm/communicator.h"
#include "comm/mpi_session.h"
#include "config/run_config.h"
#include "model/decoder.h"
#include "train/engine.h"
#include "train/start_model.h"
#include "zero/unit_store.h"

namespace temper {

/// What training, evaluation and generation have in common: the ranks, the model's folder, and an
/// engine over sharded units whose weights are still to be loaded.
///
/// Collective. Throws: LaunchError if the ranks' kinds of processor or copies of the model differ,
/// if a rank has fewer CPUs than threads, or if what is to be trained does not fit into a node's
/// memory; Error for all that `open_model` finds.
struct LoadedModel {
  LoadedModel(const MpiSession& session, std::unique_ptr<Communicator> all_ranks,
              const RunConfig& config, ModelOpening::Use use);

  const ModelFolder& folder() const { return opened.folder; }
  const std::optional<Adapter>& adapter() const { return opened.adapter; }

  /// Loads the weights that a run begins with: the model's, and the adapter's if there is one.
  /// Collective. Throws: ModelError.
  void load_start();

  /// Loads what a run's steps need of the model that it began with, beside the weights that are
  /// trained; those of the store must be the ones that the run begins with. Collective. Throws:
  /// ModelError.
  void remember_start();

  /// Decoder::choose_positions, logged where a model has two sets. Training and evaluation have
  /// done it for their rows; who generates or scores does it once for all requests.
  void choose_positions(int64_t longest_context);

  /// The units of the store, for training or not.
  std::vector<StoredUnit> units(bool is_trained) const;

  /// What an estimate of the memory of training depends on. It refers to this object.
  MemoryFacts memory_facts() const;

  std::unique_ptr<Communicator> ranks;
  ComputeDtype compute_dtype;  // The same on all ranks.
  int num_threads;
  OpenedModel opened;
  MethodOptions method;
  Decoder decoder;
  std::optional<UnitStore> store;
  std::optional<Engine> engine;
  std::optional<StartModel> start;  // Where training keeps the model near the one it began with.
};

/// All ranks of a launch, of one binary and one configuration.
/// Collective. Throws: LaunchError if they differ.
std::unique_ptr<Communicator> open_ranks(const MpiSession& session, const RunConfig& config);

/// The CPU, or LibTorch's accelerator: a GPU that is still to be chosen by the rank's place on its
/// node.
at::Device device_of(const ModelOptions& options);

at::ScalarType scalar_type_of(ComputeDtype dtype);

}  // namespace temper

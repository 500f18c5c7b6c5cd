// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/memory_estimate.h"
#include "checkpoint/model_folder.h"
#include "checkpoint/peft/adapter_folder.h"
#include "comm/communicator.h"
#include "comm/mpi_session.h"
#include "config/run_config.h"
#include "model/decoder.h"
#include "train/engine.h"
#include "train/evaluation.h"
#include "zero/quantised_units.h"
#include "zero/unit_store.h"

namespace temper {

/// What training, evaluation and generation have in common: the ranks, the model's folder, and an
/// engine over sharded units whose weights are still to be loaded.
///
/// Collective. Throws: LaunchError if the ranks' binaries, configurations, kinds of processor or
/// copies of the model differ, if a rank has fewer CPUs than threads, or if what is to be trained
/// does not fit into a node's memory; ModelError; ConfigError.
struct LoadedModel {
  /// An adapter's store serves `purpose`, and the model's own units are frozen then. Weights that
  /// are stored in four bits can be trained on by qlora alone, and used by every method.
  LoadedModel(const MpiSession& session, const RunConfig& config, StorePurpose purpose);

  /// Loads the weights that a run begins with: the model's, and the adapter's if there is one.
  /// Collective. Throws: ModelError; ConfigError if adapter.start is another kind of adapter.
  void load_start();

  /// Bytes of weights, gradients and state that this rank holds between steps.
  int64_t state_bytes() const;

  /// What an estimate of this rank's memory depends on. It refers to this object.
  MemoryFacts memory_facts() const;

  /// What is trained.
  UnitStore& trained() { return adapter_store ? *adapter_store : *store; }
  const UnitStore& trained() const { return adapter_store ? *adapter_store : *store; }

  /// Loads the model's own weights. Collective. Throws: ModelError.
  void load_base();

  std::unique_ptr<Communicator> ranks;
  ComputeDtype compute_dtype;  // The same on all ranks.
  int num_threads;
  ModelFolder folder;
  MethodOptions method;
  Decoder decoder;
  std::optional<UnitStore> store;  // Or else the units are quantised.
  std::optional<QuantisedUnits> quantised;
  std::optional<Adapter> adapter;  // With its store, or neither.
  std::optional<UnitStore> adapter_store;
  std::optional<Engine> engine;
};

/// How the blocks' matrices are kept in four bits: as the folder has them, or else as method qlora
/// says; nothing if they are dense. Local.
/// Throws: ConfigError if qlora says something else than the folder, or the device cannot.
std::optional<QuantisationOptions> quantisation_of(const RunConfig& config,
                                                   const ModelFolder& folder);

/// The adapter that a method begins with; nothing if it begins from scratch. Local.
/// Throws: ModelError; ConfigError if its options are not those of the method.
std::optional<AdapterFolder> open_start(const MethodOptions& method, const ModelFolder& base);

/// The CPU, or a GPU that is still to be chosen by the rank's place on its node.
at::Device device_of(const ModelOptions& options);

at::ScalarType scalar_type_of(ComputeDtype dtype);

/// The hold-outs of a configuration, each checked against the model.
/// Collective: all ranks. Throws: DataError; LaunchError if ranks see other ones.
std::vector<HoldOut> open_holdouts(const MpiSession& session, Communicator& ranks,
                                   const RunConfig& config, const ModelFolder& folder);

}  // namespace temper

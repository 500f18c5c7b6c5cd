// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/findings.h"
#include "checkpoint/model_folder.h"
#include "checkpoint/peft/adapter_folder.h"
#include "checkpoint/run_state.h"
#include "comm/communicator.h"
#include "comm/mpi_session.h"
#include "config/run_config.h"
#include "config/trajectory.h"
#include "core/once_for_all.h"
#include "data/mixture.h"
#include "data/row_source.h"
#include "model/adapter/method.h"
#include "model/trained_parameters.h"
#include "train/evaluation.h"
#include "zero/unit_form.h"

namespace temper {

// What a run reads, opened and checked: its model, its adapter, its shards. No verb has another way
// to them, so that `check` finds what `train`, `eval` and `generate` refuse, and the other way
// round.

/// What a model is opened for.
struct ModelOpening {
  enum class Use {
    kTraining,    ///< Weights in four bits are trained on by qlora alone.
    kEvaluation,  ///< On rows of data.sequence_length.
    kGeneration,  ///< On prompts, whose lengths are checked with each of them.
  };
  Use use = Use::kTraining;
  bool samples_weights = true;  ///< To tell the base of an adapter; one rank does it for all.
  std::optional<bool> has_own_head = {};  ///< As ModelFolder takes it.
};

/// A model's folder with what a configuration makes of it.
struct OpenedModel {
  ModelFolder folder;
  std::optional<QuantisationOptions> quantisation = {};  ///< Of the blocks' matrices in memory.
  std::optional<Adapter> adapter = {};                   ///< Of every method but full.
  std::optional<AdapterFolder> start = {};               ///< What the adapter begins with.
  TrainedParameters parameters = {};                     ///< Of the model itself.

  /// The units of a store: the model's, then those of its adapter.
  std::vector<StoredUnit> units(at::ScalarType dtype, bool is_trained) const;

  /// Those that a checkpoint's sets of files have.
  std::vector<UnitLayout> saved_units() const;
};

/// Opens a model and the adapter that a configuration begins with, and checks that they and the
/// options go together. Nothing if the model itself cannot be opened. Local.
std::optional<OpenedModel> open_model(const RunConfig& config, const ModelOpening& opening,
                                      Findings& findings);

/// What shards must fit, as far as the files beside the weights say it. Local. Throws: ModelError.
ModelFacts read_model_facts(const RunConfig& config);

/// The same with the vocabulary of `folder`; rank 0 reads the files for all. Collective.
ModelFacts find_model_facts(const RunConfig& config, const ModelFolder& folder,
                            Communicator& ranks);

/// Has rank 0 find out what all ranks need, and hands it round. Both must outlive the result.
OnceForAll once_for(const MpiSession& session, Communicator& ranks);

/// Has rank 0 look for the files of a corpus: on a shared file system another one may not see them
/// all yet. `ranks` must outlive the result.
FindShards find_once(Communicator& ranks);

/// How shards are opened.
struct ShardOpening {
  ModelFacts model = {};
  OnceForAll once = find_alone;
  FindShards find = find_shards;
};

/// The rows of a corpus. Collective if the opening is. Throws: DataError; LaunchError.
std::unique_ptr<const RowSource> open_rows(const RunConfig& config, const std::string& path,
                                           const ShardOpening& opening);

/// Shards that are trained on: their paths by their fingerprints.
using TrainingShards = std::map<std::string, std::filesystem::path>;

/// Those of opened corpora; nullptr where one could not be opened.
TrainingShards training_shards_of(const Mixture::Sources& sources);

/// Those of a configuration, by their headers; without what cannot be read here. Local.
TrainingShards find_training_shards(const RunConfig& config);

/// What is held out measures what training cannot have seen.
/// Throws: DataError if a shard of a hold-out has the content of one that is trained on.
void require_unseen(const Corpus& holdout, const TrainingShards& trained);

/// The rows of each hold-out of a configuration, in its order.
using HoldOutRows = std::vector<std::shared_ptr<const EvaluationRows>>;

/// What `read_token_bytes` says of the model's tokenizer. Collective if the opening is.
/// Throws: ModelError.
std::shared_ptr<const std::vector<int64_t>> find_token_bytes(const ShardOpening& opening);

/// Opens them. Collective and throws as `open_rows`.
HoldOutRows open_holdouts(const RunConfig& config, const ShardOpening& opening);

/// The same as they are evaluated: as many rows of each as the configuration says. Local.
std::vector<HoldOut> to_holdouts(const RunConfig& config, const HoldOutRows& opened,
                                 std::shared_ptr<const std::vector<int64_t>> token_bytes);

/// What is trained on, and for how long.
struct TrainingPlan {
  Mixture mixture;
  int64_t num_steps = 0;  ///< Those of the run before included, if it goes on from another one.
  Origin origin = {};
};

/// What each source gives to the run, from the step at which its data begin to the last. Shapes:
/// result [source].
std::vector<SourceUse> source_uses(const TrainingPlan& plan, const RunConfig& config);

/// "shard.h5: 25 % of the tokens, 1.50 M, 2 epochs".
std::string describe(const SourceUse& use);

/// `sources` are the rows of each corpus of data.train, nullptr where it could not be opened; then
/// there is no plan. Local.
std::optional<TrainingPlan> plan_training(const RunConfig& config, int num_ranks,
                                          const Origin& origin, Mixture::Sources sources,
                                          Findings& findings);

/// Opens the shards and plans. Collective if the opening is. Throws: Error with all problems.
TrainingPlan open_training(const RunConfig& config, int num_ranks, const Origin& origin,
                           const ShardOpening& opening);

/// Of a sample of the weights, where each step needs those that the run began with: reads a page of
/// each tensor. Local. Throws: ModelError.
std::string start_model_sha256(const RunConfig& config, const OpenedModel& model);

/// What `trajectory_text` needs beside the configuration, but for that sample.
TrajectoryFacts trajectory_facts(const RunConfig& config, const OpenedModel& model,
                                 const TrainingPlan& plan, int world_size);

}  // namespace temper

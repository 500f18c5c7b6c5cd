// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/run_state.h"
#include "comm/communicator.h"
#include "model/packed_batch.h"
#include "optim/adamw.h"
#include "optim/schedule.h"
#include "train/engine.h"
#include "train/expert_use.h"
#include "train/loss_total.h"
#include "train/source_losses.h"
#include "zero/unit_store.h"

namespace temper {

struct StepResult {
  double loss = 0.0;              ///< Mean over every target of the global batch.
  double grad_norm = 0.0;         ///< Before clipping.
  double learning_rate = 0.0;     ///< What this step used.
  std::optional<double> kl = {};  ///< The mean divergence, where the model is kept near another.
  ExpertUse experts = {};         ///< Without shares where the model has none.
  std::vector<SourceLoss> sources = {};  ///< [source] of the mixture; empty where it has one.
  int64_t num_targets = 0;               ///< Of the global batch.
  /// Of each unit that is trained, by name, where they were asked for; before clipping.
  std::vector<std::pair<std::string, double>> unit_grad_norms = {};
  std::vector<UpdateSize> update_sizes = {};  ///< The same of the update, where there was one.
  bool updated = false;  ///< False when the loss or norm was not finite, or there was no target.
};

struct TrainerOptions {
  AdamWOptions adamw;
  double max_grad_norm = 1.0;          ///< 0: no clipping.
  int64_t unit_norms_every_steps = 0;  ///< 0: those of units are not asked for.
  int64_t num_sources = 0;             ///< That losses are told apart by.
};

/// One optimizer step after another, the same on every rank.
class Trainer {
 public:
  Trainer(Engine& engine, UnitStore& store, Communicator& ranks, Schedule schedule,
          TrainerOptions options)
      : engine_(engine), store_(store), ranks_(ranks), schedule_(schedule), options_(options) {}

  /// Trains on this rank's micro-batches of the global batch and counts the step in `state`.
  ///
  /// Micro-batch j of rank r is number j * world_size + r of the `num_micro_batches` of the global
  /// batch, of which each rank has one or more; the last ranks may have one less than the first.
  /// Collective. Throws: CommError.
  StepResult train_step(std::span<const PackedBatch> rank_batch, int64_t num_micro_batches,
                        RunState& state);

 private:
  struct Totals {
    LossTotal loss, kl;
    ExpertUse experts = {};
    std::vector<SourceLoss> sources = {};
  };
  Totals add_up_gradients(std::span<const PackedBatch> rank_batch, int64_t num_micro_batches,
                          int64_t first);

  Engine& engine_;
  UnitStore& store_;
  Communicator& ranks_;
  Schedule schedule_;
  TrainerOptions options_;
};

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

#include "checkpoint/checkpoint_options.h"
#include "checkpoint/run_state.h"
#include "core/energy_counter.h"
#include "train/background_save.h"
#include "train/evaluation.h"
#include "train/loss_trend.h"
#include "train/matmul_limit.h"
#include "train/metrics_file.h"
#include "train/progress.h"
#include "train/time_limit.h"
#include "train/train_options.h"
#include "train/trainer.h"

namespace temper {

/// This rank's micro-batches of the next step, and how long it waited for them.
struct RankBatch {
  std::vector<PackedBatch> micro_batches;
  int64_t num_of_all_ranks = 0;  ///< Micro-batches in the step.
  double data_seconds = 0.0;
  int64_t num_places = 0;  ///< Tokens that the step's rows have room for, of all ranks.
};

/// What the loop drives; it owns none of it.
struct LoopParts {
  Engine& engine;
  UnitStore& store;
  Trainer& trainer;
  Communicator& ranks;
  BackgroundSave& save;
  std::function<RankBatch()> next_batch;
  std::filesystem::path profiles = {};  ///< The folder that traces go to.
  std::vector<HoldOut> holdouts;
  MetricsFile* metrics = nullptr;  ///< Rank 0 only.
  MatmulLimit limit;
  at::Device device = at::kCPU;
  TimeLimit time = {};
  /// Answers to the run's prompts as lines for the metrics; nothing if it was cut off, which
  /// `is_stopped` says. Collective.
  std::function<std::optional<std::vector<Json>>(const std::function<bool()>& is_stopped)>
      answer_samples = {};
  std::function<void(const TimeLimit&)> note_save = {};  ///< Called after each.
  std::optional<EnergyCounter> cpu_energy = {};          ///< On the first rank of each node.
  /// The whole text of a warning of config/warnings.h, empty where it is silenced. Without it the
  /// loop warns of nothing.
  std::function<std::string(const char* name, const std::string& words)> to_warning = {};
};

enum class Ending { kFinished, kStopped };

/// Steps, with evaluation, saving and logging in between, until the last step, the one at which a
/// hold-out has gained nothing for too long, a stop signal, or the last moment at which a save
/// still fits into the job's time.
///
/// Collective. Throws: after too many steps in a row without an update Error with
/// ExitCode::kNonFinite, or DataError if none of them had a target; CheckpointError; CommError.
class TrainingLoop {
 public:
  TrainingLoop(LoopParts parts, const TrainOptions& train, const CheckpointOptions& checkpoint,
               int64_t num_steps);

  /// Goes on from `state.step`, and first makes up for what is due at that step and stands in no
  /// metrics: a job before this one may have been killed, or stopped, between saving the step and
  /// evaluating it. Every way out but an exception leaves `state` saved, unless less time is left
  /// than a save takes: then the checkpoint before stays the newest, and the log says so.
  Ending run(RunState& state);

 private:
  // What any rank knows of, agreed by all.
  struct Stop {
    int64_t signal = 0;  // 0: none.
    bool is_time_up = false;
    bool lacks_save_time = false;
    bool is_asked() const { return signal != 0 || is_time_up; }
  };

  bool is_over(const RunState& state) const;
  void round(RunState& state);
  void step(RunState& state);
  void write_profile(int64_t step);
  void finish_saving(const RunState& state);
  bool evaluate_if_due(const RunState& state);
  void judge(const RunState& state);
  void warn(const char* name, const std::string& words);
  bool says_early_stop(const HoldOut& holdout, const RunState& state) const;
  bool evaluate_one(const RunState& state, const HoldOut& holdout);
  std::vector<bool> find_evaluated(int64_t step);
  bool sample(const RunState& state);
  void save_now_and_then(const RunState& state);
  void look_around(const RunState& state);
  void note_save();
  Stop agree_on_stop(const RunState& state);
  void record(const RunState& state, const StepResult& result, const StepTiming& timing);
  StepTiming timing_of(const RankBatch& batch, const StepResult& result, double seconds);

  LoopParts parts_;
  TrainOptions train_;
  CheckpointOptions checkpoint_;
  int64_t num_steps_;
  Progress progress_;
  Range profiled_;             // Steps.
  int64_t counted_bytes_ = 0;  // Of what this rank has sent.
  int64_t saved_step_ = 0;
  int64_t num_noted_saves_ = 0;
  Stop stop_;
  bool is_stopped_early_ = false;
  LossWatch loss_watch_;
  ExpertWatch expert_watch_;
};

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/launch_resources.h"
#include "app/loaded_model.h"
#include "app/run_inputs.h"
#include "app/training_samples.h"
#include "checkpoint/checkpoint_saver.h"
#include "checkpoint/run_state.h"
#include "checkpoint/verification.h"
#include "comm/mpi_session.h"
#include "comm/watchdog.h"
#include "config/run_config.h"
#include "config/trajectory.h"
#include "core/clock.h"
#include "data/loader.h"
#include "io/lock_file.h"
#include "train/metrics_file.h"
#include "train/run_timing.h"
#include "train/training_loop.h"

namespace temper {

/// One job of a training run on this rank: it builds everything, goes on from the newest whole
/// checkpoint if there is one, and trains to the end or until it is asked to stop.
///
/// Collective: every rank.
/// Throws: Error.
class TrainingJob {
 public:
  /// `seconds_left`: until the end of the job's allocation; nothing if that is not known.
  /// `command`: that trains it, for the model card.
  TrainingJob(const MpiSession& session, RunConfig config, std::optional<double> seconds_left,
              std::string command);

  /// kFinished, or kResume if a signal or the end of its time stopped it.
  ExitCode run();

  at::Device device() const { return model_.ranks->device(); }

 private:
  void require_fitting_launch();
  JobShape shape() const;
  TimeLimit time_limit() const;
  void note_save(const TimeLimit& time) const;
  void lock_folder();
  void load();
  std::optional<VerifiedCheckpoint> find_own_checkpoint();
  VerifiedCheckpoint verify_named(const std::filesystem::path& folder);
  void load_from(const VerifiedCheckpoint& checkpoint);
  void require_continued(const VerifiedCheckpoint& checkpoint);
  void go_on_from_another_run();
  void load_base(const VerifiedCheckpoint& checkpoint);
  TrajectoryFacts find_facts() const;
  std::vector<int64_t> added_end_tokens() const;
  std::string take_template();
  PublishedFolder published_folder(const std::string& chat_template,
                                   const TrainingData& data) const;
  void give_advice() const;
  void start_loader();
  RankBatch next_batch();
  void find_samples();
  std::optional<std::vector<Json>> answer_samples(const std::function<bool()>& is_stopped);
  std::optional<MetricsFile> open_metrics(CheckpointSaver& saver) const;
  void publish_result(const CheckpointSaver& saver);

  RunSize size() const;
  std::vector<UnitLayout> saved_units() const;  // One for each file of a checkpoint's set.

  const MpiSession& session_;
  RunConfig config_;
  std::string command_;
  std::optional<LockFile> lock_;        // Rank 0 only.
  std::optional<double> seconds_left_;  // When this object was made:
  Stopwatch watch_;                     // since then, loading may have taken minutes.
  LoadedModel model_;
  Watchdog watchdog_;
  ShardOpening shards_;
  TrainingPlan plan_;
  TrajectoryFacts facts_;
  RunState state_;
  std::filesystem::path resumed_from_;  // The checkpoint; empty for a fresh run.
  int64_t resumed_step_ = 0;
  std::optional<PromptRequests> samples_;
  RankSequence sequence_;
  std::optional<Loader> loader_;
};

}  // namespace temper

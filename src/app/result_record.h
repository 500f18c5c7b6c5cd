// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "app/run_inputs.h"
#include "checkpoint/model_card.h"
#include "checkpoint/model_folder.h"
#include "checkpoint/training_data.h"
#include "config/run_config.h"
#include "io/file.h"
#include "train/metrics_file.h"

namespace temper {

/// A command as it is typed into a shell.
std::string shell_text(const std::vector<std::string>& words);

/// A run, as its model card tells of it: only of what decides the result, so that the card does not
/// depend on how the run came to its end.
struct RunToTell {
  const RunConfig& config;
  const TrainingPlan& plan;
  const ModelFolder& base;
  const TrainingData& data;
  std::string command;             ///< That trains it.
  std::string decided_by;          ///< As trajectory_text has it.
  bool has_data_template = false;  ///< The result's chat template is that of the data.
};

/// The model card of what a run trains, as far as it is known before the first step.
std::string card_of_run(const RunToTell& run);

/// What holds for every step of a run.
RunFacts facts_of_run(const RunConfig& config, const TrainingPlan& plan);

/// What a run's metrics.jsonl tells of the run up to `step`, for the folder of its result:
/// `trainer_state.json` as Hugging Face's Trainer writes it, without times, so that it does not
/// depend on who trained; and `card` with the losses on hold-outs, if the text is not empty.
/// Nothing if there are no metrics. Lines that are torn are passed over. Local.
/// Throws: CheckpointError if the file is there and cannot be read.
/// Source: transformers 5.24, trainer_callback.TrainerState, Trainer.log and evaluate.
std::vector<TextFile> result_record(const std::filesystem::path& run, int64_t step,
                                    const std::string& card);

}  // namespace temper

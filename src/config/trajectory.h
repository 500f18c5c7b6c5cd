// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "config/model_options.h"
#include "config/run_config.h"

namespace temper {

/// What decides the result of a run and is not in its configuration.
struct TrajectoryFacts {
  std::string model_fingerprint = {};   ///< Of the weights the run starts from.
  std::string start_fingerprint = {};   ///< Of the adapter that it begins with.
  std::string start_model_sha256 = {};  ///< Of a sample of the weights, where each step needs them.
  std::vector<std::string> data_fingerprints = {};  ///< [source], in the order of data.train.
  int64_t num_steps = 0;
  ComputeDtype compute_dtype = ComputeDtype::kFloat32;  ///< What `auto` became.
  int world_size = 1;                                   ///< Counts in fast mode only.
  std::string origin_trajectory = {};  ///< Of the run whose checkpoint this one goes on from,
  int64_t origin_step = 0;             ///< and the checkpoint's step.
};

/// All that decides the bits of a run's losses and weights on one kind of processor, one
/// `key=value` a line.
///
/// In it: the model's weights and the dtype and device they compute with; the method with all of
/// its options, and the adapter it begins with; the training shards and their weights,
/// sequence_length, global_batch, micro_batch, seed; the number of steps and max_grad_norm; what
/// holds against forgetting, with a sample of the weights that it holds to; all of the optimizer
/// and the schedule; the reduction and, if it is fast, the number of ranks; the run and step that
/// it goes on from, and what begins anew there. Not in it, since results do not depend on them:
/// paths, ranks, stage, prefetching, recomputation, threads, hold-outs, logging, evaluation,
/// checkpoints.
std::string trajectory_text(const RunConfig& config, const TrajectoryFacts& facts);

/// SHA-256 of such a text, hexadecimal: what a checkpoint keeps, so that a resume on another
/// trajectory can be refused.
std::string trajectory_digest(const std::string& text);

/// The aspect of where a run began.
inline constexpr std::string_view kOriginAspect = "origin";

struct TrajectoryChange {
  std::string_view aspect;  ///< Of `kChangeableAspects`, or `kOriginAspect`; empty: of neither.
  std::string text;         ///< "data.seed was 1 and is 2"
};

/// What `now` has otherwise than `before`, both texts of trajectories.
std::vector<TrajectoryChange> trajectory_changes(const std::string& before, const std::string& now);

/// Why a run is on another trajectory than the one whose resolved configuration, `to_yaml`, a
/// checkpoint keeps: "data.seed was 1 and is 2". If the configurations agree, the facts do not, and
/// it says that.
/// Throws: ConfigError if `stored_yaml` cannot be read.
std::string explain_other_trajectory(const std::string& stored_yaml, const RunConfig& now);

}  // namespace temper

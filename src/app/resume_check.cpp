// SPDX-License-Identifier: Apache-2.0
#include "app/resume_check.h"

#include "checkpoint/checkpoint_list.h"
#include "checkpoint/frozen_tensors.h"
#include "checkpoint/unit_files.h"
#include "checkpoint/verification.h"
#include "core/concat.h"
#include "core/error.h"
#include "io/safetensors_folder.h"
#include "optim/schedule.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

bool is_trajectory(const std::string& digest, const RunConfig& config, TrajectoryFacts facts,
                   AskedOn machine) {
  if (trajectory_digest(trajectory_text(config, facts)) == digest) return true;
  const bool is_known = config.model.dtype != ModelOptions::Dtype::kAuto;
  if (is_known || machine == AskedOn::kComputeNode) return false;
  facts.compute_dtype = facts.compute_dtype == ComputeDtype::kFloat32 ? ComputeDtype::kBfloat16
                                                                      : ComputeDtype::kFloat32;
  return trajectory_digest(trajectory_text(config, facts)) == digest;
}

// Writers of format version 1 had a warm-up of n steps from a rate of 0 on, one step behind ours:
// after it the rates are the same.
void require_same_warmup(const RunConfig& config, int64_t num_steps, const FoundState& found) {
  constexpr int64_t kFirstVersionOfOurs = 2;
  const int64_t warmup_steps = Schedule(config.schedule, num_steps).warmup_steps();
  if (found.format_version >= kFirstVersionOfOurs || found.state.step >= warmup_steps) return;
  throw ConfigError(
      concat(found.checkpoint.string(), " is in step ", found.state.step, " of a warm-up of ",
             warmup_steps, " steps that an older temper began at a learning rate of 0",
             "; this one's begins at 1/", warmup_steps, " of the peak",
             ", so that going on would be the same as neither"),
      "train to the end of the warm-up with the temper that began it, or begin again with "
      "checkpoint.resume=never");
}

// Before it changed the base, PiSSA was a LoRA of twice the rank on the base as it is.
void require_base_change(const RunConfig& config, const fs::path& checkpoint) {
  const MethodOptions& method = config.method;
  const bool is_pissa = method.is_lora() && method.lora.init == LoraOptions::Init::kPrincipal;
  const fs::path folder = checkpoint / kBaseChangeFiles.folder;
  if (!is_pissa || fs::exists(folder / safetensors_file_name(kBaseChangeFiles.stem, 0, 1))) return;
  throw ConfigError(
      concat(checkpoint.string(), " is of a run of an older temper, which trained PiSSA beside ",
             "the base's weights as they are; this one takes its principal parts off them, and ",
             "rounds what is left, so that going on would be the same as neither"),
      "go on with the temper that began it; or begin a new run with the checkpoint's adapter/ as "
      "adapter.start, a LoRA of twice the rank");
}

Origin origin_at(const FoundState& before, const ContinueOptions& continuation) {
  const RunState& state = before.state;
  Origin origin = state.origin;  // What does not begin anew goes on.
  origin.checkpoint = before.checkpoint.string();
  origin.trajectory = state.trajectory;
  origin.step = state.step;
  origin.changes.clear();
  if (continuation.changes("schedule")) origin.schedule_step = state.step;
  if (continuation.changes("data")) {
    origin.data_step = state.step;
    origin.data_micro_batch = state.next_micro_batch;
  }
  return origin;
}

}  // namespace

std::optional<FoundState> find_state(const RunConfig& config) {
  const std::string& resume = config.checkpoint.resume;
  if (resume == "never") return std::nullopt;
  const bool is_auto = resume == "auto";
  if (is_auto && list_checkpoints(checkpoints_of(config.run.folder)).empty()) return std::nullopt;
  const auto [checkpoint, manifest] =
      resolve_checkpoint(is_auto ? config.run.folder : resume, check_files);
  return FoundState{checkpoint, manifest.format_version, read_run_state(checkpoint)};
}

FoundState find_continued(const RunConfig& config) {
  const fs::path checkpoint = config.continuation.from;
  const Manifest manifest = check_files(checkpoint);
  return {checkpoint, manifest.format_version, read_run_state(checkpoint)};
}

Origin find_origin(const RunConfig& config) {
  const std::string& from = config.continuation.from;
  if (from.empty()) return {};
  const std::optional<FoundState> own = find_state(config);
  if (!own) return origin_at(find_continued(config), config.continuation);
  // The other run may be gone by now; its own checkpoints keep what is needed of it.
  Origin origin = own->state.origin;
  if (!origin.trajectory.empty() && !fs::exists(from)) return origin;
  const RunState before = find_continued(config).state;
  if (origin.trajectory == before.trajectory && origin.step == before.step) return origin;
  throw ConfigError(
      concat(own->checkpoint.string(), " is of a run that did not begin at continue.from, ", from),
      "set continue.from back, or set run.folder to a new folder");
}

std::string require_continuable(const RunConfig& config, const TrajectoryFacts& facts,
                                const FoundState& before, AskedOn machine) {
  if (before.state.decided_by.empty()) {
    throw CheckpointError(before.checkpoint.string() +
                              ", which continue.from names, was written by an older temper, and "
                              "does not keep what decided its run's result",
                          "begin from its model/ or adapter/ folder instead");
  }
  const bool may_differ_in_dtype =
      machine == AskedOn::kLoginNode && config.model.dtype == ModelOptions::Dtype::kAuto;
  std::vector<std::string> allowed;
  std::vector<std::string> refused;
  for (const TrajectoryChange& change :
       trajectory_changes(before.state.decided_by, trajectory_text(config, facts))) {
    if (change.aspect == kOriginAspect) continue;
    if (may_differ_in_dtype && change.text.starts_with("model.dtype ")) continue;
    const bool is_allowed = config.continuation.changes(change.aspect);
    (is_allowed ? allowed : refused).push_back(change.text);
    if (!is_allowed && !change.aspect.empty()) {
      refused.back() += concat(" (list ", change.aspect, " in continue.change to want that)");
    }
  }
  if (refused.empty()) {
    require_base_change(config, before.checkpoint);
    return joined(allowed);
  }
  throw ConfigError(
      concat("the run is not as that of ", before.checkpoint.string(), ": ", joined(refused)),
      "set these options back; steps, schedule, optimizer and data may change, no more");
}

void require_same_trajectory(const RunConfig& config, const TrajectoryFacts& facts,
                             const FoundState& found, AskedOn machine) {
  if (is_trajectory(found.state.trajectory, config, facts, machine)) {
    require_base_change(config, found.checkpoint);
    return require_same_warmup(config, facts.num_steps, found);
  }
  throw ConfigError(concat(found.checkpoint.string(), " is of a run with another result: ",
                           explain_other_trajectory(found.state.config_yaml, config)),
                    "set the options back, set run.folder to a new folder, or begin again with "
                    "checkpoint.resume=never");
}

void require_same_base(const fs::path& checkpoint, const OpenedModel& model) {
  if (model.adapter) {
    require_same_base(checkpoint / "adapter", model.folder);
  } else {
    require_same_frozen(checkpoint, model.folder, model.parameters.units.layouts);
  }
}

int64_t bytes_of_checkpoints(const fs::path& run) {
  int64_t bytes = 0;
  for (const FoundCheckpoint& found : list_checkpoints(checkpoints_of(run))) {
    try {
      bytes += check_files(found.path).bytes();
    } catch (const CheckpointError&) {
      continue;  // What a damaged checkpoint occupies is not known.
    }
  }
  return bytes;
}

}  // namespace temper

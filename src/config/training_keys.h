// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "config/key_rules.h"
#include "config/run_config.h"

/// The keys of how a run goes on. A visitor is a Section, a SectionWriter or a KeyCollector.
namespace temper::keys {

template <typename Visitor>
void visit_near_the_start(Visitor& section, TrainOptions& train) {
  using namespace rules;
  section.real("layer_decay", train.layer_decay, kShareOfRate,
               {"Each block learns at this times the rate of the one above it; the head has the "
                "whole rate."});
  section.real("l2_sp", train.l2_sp, kNotNegative,
               {"A step pulls each weight to its start by the rate times this; 0: none."});
  section.section("ema", {"The moving mean of the weights, which is the result then."},
                  [&](auto& ema) {
                    ema.real("decay", train.ema_decay, kBelowOne,
                             {"What a step leaves of the mean; 0: there is none."});
                  });
  section.section("kl", {"Keeps the model near the one that the run began with."}, [&](auto& kl) {
    kl.real("weight", train.kl.weight, kNotNegative,
            {"Of the divergence from the start model's distribution, in the loss; 0: none."});
    kl.real("temperature", train.kl.temperature, kPositive, {"Of both distributions."});
  });
}

template <typename Visitor>
void visit_train(Visitor& section, RunConfig& config) {
  using namespace rules;
  TrainOptions& train = config.train;
  section.integer("max_steps", train.max_steps, kStepsOrNone,
                  {"The run's optimizer steps; 0 where epochs says it.", "steps"});
  section.real("epochs", train.epochs, kEpochs,
               {"Passes over the mixture; 0 where max_steps says it.", "passes"});
  section.real("max_grad_norm", train.max_grad_norm, kNotNegative,
               {"Gradients are scaled down to this norm; 0: they are only measured."});
  visit_near_the_start(section, train);
  section.texts("only", config.trained.only, kParameters,
                {"Trains these parameters alone; [] is all."});
  section.texts("freeze", config.trained.freeze, kParameters, {"Leaves these as they are."});
  section.integer(
      "max_skipped_in_a_row", train.max_skipped_in_a_row, kOneOrMore,
      {"So many steps in a row without a finite loss and gradient end the run.", "steps"});
  section.integer("log_every_steps", train.log_every_steps, kOneOrMore,
                  {"How often the log has a line; metrics.jsonl has every step.", "steps"});
  section.integer(
      "log_unit_norms", train.log_unit_norms, kStepsOrNone,
      {"How often metrics.jsonl has each unit's gradient norm and share of update; 0: never.",
       "steps"});
  section.section("profile", {"What steps spend their time on."}, [&](auto& profile) {
    profile.text("steps", train.profile_steps, kStepRange,
                 {"Of which each rank writes a Chrome trace, such as 10-12."});
  });
  section.integer("evaluate_every_steps", train.evaluate_every_steps, kStepsOrNone,
                  {"How often hold-outs are evaluated; 0: only before the first step and after the "
                   "last one.",
                   "steps"});
  section.text("sample_prompts", train.sample_prompts, kFileOrNone,
               {"A file of prompts, as temper generate takes it, that each evaluation answers; "
                "\"\": none."});
  section.integer("sample_tokens", train.sample_tokens, kOneOrMore,
                  {"Of such an answer, at most, where its prompt does not say.", "tokens"});
  section.flag("recompute", train.recomputes,
               {"Blocks are computed again in the backward pass, which takes less memory."});
  section.integer("threads", train.threads, kThreadsOrAuto,
                  {"Threads of a rank; 0: its share of the processors.", "threads"});
  section.real(
      "time_limit_minutes", train.time_limit_minutes, kNotNegative,
      {"What a job has, before whose end it saves and stops; 0: what Slurm says.", "minutes"});
}

template <typename Visitor>
void visit_early_stop(Visitor& section, EarlyStopOptions& stop) {
  using namespace rules;
  section.text("holdout", stop.holdout, kNameOrNone, {"The hold-out that decides; \"\": none."});
  section.integer("patience", stop.patience, kOneOrMore,
                  {"So many evaluations in a row without a gain end the run.", "evaluations"});
  section.real("min_gain", stop.min_gain, kNotNegative,
               {"A loss that is lower by more than this is a gain.", "nats a token"});
}

template <typename Visitor>
void visit_optimizer(Visitor& section, RunConfig& config) {
  using namespace rules;
  AdamWOptions& optimizer = config.optimizer;
  section.real("learning_rate", optimizer.learning_rate, kPositive,
               {"At its peak, after the warm-up."});
  section.real("beta1", optimizer.beta1, kBelowOne, {"What a step leaves of the first moment."});
  section.real("beta2", optimizer.beta2, kBelowOne, {"What a step leaves of the second moment."});
  section.real("epsilon", optimizer.epsilon, kPositive,
               {"Is added to the root of the second moment."});
  section.real("weight_decay", optimizer.weight_decay, kNotNegative,
               {"Decoupled, and not of norms and biases."});
  section.choice("state_dtype", optimizer.state_dtype, kMomentDtypes,
                 {"What the moments are kept in from step to step."});
  section.text("offload", optimizer.offload, kFolderOrNone,
               {"A folder on each node's own disk for master weights and moments; \"\": they stay "
                "in memory."});
  section.list(
      "groups", config.groups,
      {"Parameters with a rate or a decay of their own; the first group that means one has it."},
      [](auto& item, auto& group) {
        item.texts("match", group.match, kParameters, {"The parameters of the group."});
        item.real_or_none("learning_rate", group.learning_rate, kPositive,
                          {"Theirs, at its peak."});
        item.real_or_none("learning_rate_ratio", group.learning_rate_ratio, kPositive,
                          {"Or so many times the optimizer's."});
        item.real_or_none("weight_decay", group.weight_decay, kNotNegative,
                          {"Theirs, of norms and biases, too."});
      });
}

template <typename Visitor>
void visit_schedule(Visitor& section, ScheduleOptions& schedule) {
  using namespace rules;
  section.choice("name", schedule.shape, kShapes,
                 {"How the rate goes on after the warm-up; wsd: constant, then a decay."});
  section.integer("warmup_steps", schedule.warmup_steps, kStepsOrNone,
                  {"The rate rises to its peak in so many steps.", "steps"});
  section.real("warmup_ratio", schedule.warmup_ratio, kShare,
               {"Or in this share of all steps.", "of the run"});
  section.real(
      "floor_ratio", schedule.floor_ratio, kShare,
      {"After the warm-up the rate never falls below this share of its peak.", "of the peak"});
  section.real("decay_ratio", schedule.decay_ratio, kShare,
               {"The last share of all steps, in which the rate of wsd falls.", "of the run"});
}

template <typename Visitor>
void visit_parallel(Visitor& section, ZeroOptions& parallel) {
  using namespace rules;
  section.integer("stage", parallel.stage, kStage,
                  {"ZeRO: 0 replicates all, 1 shards the optimizer's state, 2 gradients, too, 3 "
                   "weights, too."});
  section.choice("reduction", parallel.reduction, kReductions,
                 {"exact: the same bits on any number of ranks; fast: one exchange a step, at "
                  "stages 0 and 1."});
  section.flag("prefetch", parallel.prefetches,
               {"At stage 3 the next block's weights are gathered while one computes."});
}

template <typename Visitor>
void visit_checkpoint(Visitor& section, CheckpointOptions& checkpoint) {
  using namespace rules;
  section.integer("every_steps", checkpoint.every_steps, kStepsOrNone,
                  {"How often the run is saved; 0: only at its end.", "steps"});
  section.integer(
      "keep", checkpoint.keep, kOneOrMore,
      {"So many checkpoints stay; the last one that was verified always does.", "checkpoints"});
  section.text("keep_best", checkpoint.keep_best, kNameOrNone,
               {"The hold-out whose best checkpoint stays, too; \"\": none."});
  section.choice("final", checkpoint.publishes_best, kPublished,
                 {"Which checkpoint the result, final/, is of."});
  section.text("resume", checkpoint.resume, kResume,
               {"Where the run goes on: auto is its newest whole checkpoint."});
  section.text("model_dtype", checkpoint.model_dtype, kSavedDtype,
               {"What weights are saved in; auto: as they were loaded."});
}

template <typename Visitor>
void visit_endings(Visitor& root, RunConfig& config) {
  using namespace rules;
  root.section("continue", {"Goes on from a checkpoint of another run."}, [&](auto& section) {
    section.text("from", config.continuation.from, kCheckpointOrNone, {"That checkpoint."});
    section.texts("change", config.continuation.change, kAspect,
                  {"What begins anew there; everything else must be the same."});
  });
  root.section("watchdog", {"When a run that stands still is ended."}, [&](auto& section) {
    section.real("silence_seconds", config.watchdog.silence_seconds, kNotNegative,
                 {"How long a rank may be out of reach; 0: for ever.", "seconds"});
    section.real("stall_seconds", config.watchdog.stall_seconds, kNotNegative,
                 {"How long all ranks may wait for each other; 0: for ever.", "seconds"});
  });
  root.texts("silence", config.silence, kWarning, {"Warnings that are not to be given."});
}

}  // namespace temper::keys

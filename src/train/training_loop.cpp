// SPDX-License-Identifier: Apache-2.0
#include "train/training_loop.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/clock.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/log.h"
#include "train/stop_signal.h"

namespace temper {

TrainingLoop::TrainingLoop(LoopParts parts, const TrainOptions& train,
                           const CheckpointOptions& checkpoint, int64_t num_steps)
    : parts_(std::move(parts)),
      train_(train),
      checkpoint_(checkpoint),
      num_steps_(num_steps),
      progress_(num_steps, train.log_every_steps) {}

Ending TrainingLoop::run(RunState& state) {
  if (state.step >= num_steps_) return Ending::kFinished;
  if (state.step == 0) evaluate_all(state);
  int64_t saved_step = state.step;
  bool is_stopping = any_rank_is_asked_to_stop();
  while (state.step < num_steps_ && !is_stopping) {
    step(state);
    parts_.save.poll();
    is_stopping = any_rank_is_asked_to_stop();
    const bool is_last = is_stopping || state.step == num_steps_;
    if (!is_last && checkpoint_.every_steps > 0 && state.step % checkpoint_.every_steps == 0) {
      parts_.save.start(state);
      saved_step = state.step;
    }
    const int64_t every = train_.evaluate_every_steps;
    if (every > 0 && state.step % every == 0 && state.step < num_steps_) evaluate_all(state);
  }
  if (saved_step != state.step) parts_.save.save_last(state);
  parts_.save.finish();
  progress_.end_line();
  if (state.step < num_steps_) return Ending::kStopped;
  evaluate_all(state);
  return Ending::kFinished;
}

void TrainingLoop::step(RunState& state) {
  const Stopwatch watch;
  const RankBatch batch = parts_.next_batch();
  const StepResult result = parts_.trainer.train_step(batch.micro_batches, state);
  record(state, result, timing_of(batch, result, watch.seconds()));
  if (state.num_skipped_in_a_row >= train_.max_skipped_in_a_row) {
    progress_.end_line();
    throw Error(ExitCode::kNonFinite,
                concat("steps ", state.step - state.num_skipped_in_a_row + 1, " to ", state.step,
                       " had no finite loss and gradient; the weights are those before them"),
                "lower optimizer.learning_rate, or look at the data of these steps");
  }
}

StepTiming TrainingLoop::timing_of(const RankBatch& batch, const StepResult& result,
                                   double seconds) {
  int64_t num_tokens = 0;
  for (const PackedBatch& micro_batch : batch.micro_batches) {
    num_tokens += micro_batch.tokens.numel();
  }
  const at::Tensor total = at::full({1}, num_tokens, at::kLong).to(parts_.device);
  parts_.ranks.all_reduce(total, ReduceOp::kSum).wait();
  num_tokens = total.item<int64_t>();
  const double flop = linear_flop(parts_.engine.decoder().config(), num_tokens, result.num_targets,
                                  parts_.engine.is_frozen());
  const double limit = parts_.limit.flop_per_second * parts_.ranks.world_size();
  return {seconds, num_tokens, flop / seconds / limit, batch.data_seconds};
}

void TrainingLoop::record(const RunState& state, const StepResult& result,
                          const StepTiming& timing) {
  if (parts_.metrics == nullptr) return;
  parts_.metrics->add_step(state.step, result, timing);
  progress_.show(state.step, result, timing);
}

void TrainingLoop::evaluate_all(const RunState& state) {
  progress_.end_line();
  for (const HoldOut& holdout : parts_.holdouts) {
    const EvaluationResult result = evaluate(parts_.engine, holdout, parts_.ranks, parts_.device);
    if (parts_.metrics == nullptr) continue;
    parts_.metrics->add_evaluation(state.step, holdout.name, result.loss, result.num_targets);
    log_event(concat("evaluation step=", state.step, " holdout=", holdout.name,
                     " loss=", result.loss, " perplexity=", std::exp(result.loss),
                     " num_targets=", result.num_targets));
  }
}

bool TrainingLoop::any_rank_is_asked_to_stop() {
  const at::Tensor asked = at::full({1}, stop_signal(), at::kLong).to(parts_.device);
  parts_.ranks.all_reduce(asked, ReduceOp::kMax).wait();
  const auto signal = asked.item<int64_t>();
  if (signal != 0) log_event(concat("stop signal=", signal, " saving=yes"));
  return signal != 0;
}

}  // namespace temper

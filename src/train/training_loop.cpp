// SPDX-License-Identifier: Apache-2.0
#include "train/training_loop.h"

#include <ATen/ATen.h>

#include <cmath>

#include "comm/collective_ring.h"
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
  saved_step_ = state.step;
  stop_ = agree_on_stop();
  while (state.step < num_steps_ && !stop_.is_asked()) round(state);
  finish_saving(state);
  progress_.end_line();
  if (state.step < num_steps_) return Ending::kStopped;
  evaluate_all(state);
  return Ending::kFinished;
}

// A step and what comes before the next one.
void TrainingLoop::round(RunState& state) {
  const Stopwatch watch;
  step(state);
  parts_.save.poll();
  parts_.time.add_save(parts_.save.last_seconds());
  stop_ = agree_on_stop();
  if (state.step == num_steps_ || stop_.is_asked()) return;
  save_now_and_then(state);
  const int64_t every = train_.evaluate_every_steps;
  if (every > 0 && state.step % every == 0) evaluate_all(state);
  parts_.time.add_step(watch.seconds());
}

void TrainingLoop::save_now_and_then(const RunState& state) {
  if (checkpoint_.every_steps == 0 || state.step % checkpoint_.every_steps != 0) return;
  parts_.save.start(state);
  saved_step_ = state.step;
}

void TrainingLoop::finish_saving(const RunState& state) {
  const bool is_finished = state.step == num_steps_;
  if (saved_step_ != state.step && (is_finished || !stop_.lacks_save_time)) {
    parts_.save.save_last(state);
  } else if (saved_step_ != state.step) {
    log_event(concat("saved=no step=", state.step, " kept_step=", saved_step_, " seconds_left=",
                     parts_.time.seconds_left(), " a_save_takes=", parts_.time.save_seconds()));
  }
  parts_.save.finish();
}

void TrainingLoop::step(RunState& state) {
  const Stopwatch watch;
  CollectiveRing::own().begin_step(state.step + 1);
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

TrainingLoop::Stop TrainingLoop::agree_on_stop() {
  const at::Tensor asked = at::tensor({int64_t{stop_signal()}, int64_t{parts_.time.is_up()},
                                       int64_t{!parts_.time.allows_save()}},
                                      at::kLong)
                               .to(parts_.device);
  parts_.ranks.all_reduce(asked, ReduceOp::kMax).wait();
  const at::Tensor agreed = asked.cpu();
  const auto* values = agreed.const_data_ptr<int64_t>();
  const Stop stop{values[0], values[1] != 0, values[2] != 0};
  if (!stop.is_asked()) return stop;
  progress_.end_line();
  log_event(concat("stop ", stop.signal != 0 ? concat("signal=", stop.signal) : "reason=time",
                   " saving=", stop.lacks_save_time ? "no" : "yes"));
  return stop;
}

}  // namespace temper

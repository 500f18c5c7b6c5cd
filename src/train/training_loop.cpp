// SPDX-License-Identifier: Apache-2.0
#include "train/training_loop.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <map>
#include <string_view>
#include <utility>

#include "comm/agree.h"
#include "comm/collective_ring.h"
#include "core/clock.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/log.h"
#include "core/phase_log.h"
#include "core/stop_signal.h"
#include "io/file.h"

namespace temper {
namespace {

[[noreturn]] void end_after_skipped_steps(const RunState& state) {
  const int64_t num_skipped = state.num_skipped_in_a_row;
  const int64_t num_without = state.num_without_target_in_a_row;
  const std::string steps = concat("steps ", state.step - num_skipped + 1, " to ", state.step);
  if (num_without == num_skipped) {
    throw DataError(concat(steps,
                           " had no target, so there was nothing to learn from: the weights "
                           "are those before them"),
                    "give data.train documents of at least two tokens, or raise data.global_batch");
  }
  const std::string which =
      num_without == 0 ? "" : concat(", or no target (", num_without, " of them)");
  throw Error(ExitCode::kNonFinite,
              concat(steps, " had no finite loss and gradient", which,
                     "; the weights are those before them"),
              "lower optimizer.learning_rate, or look at the data of these steps");
}

// What a rank computed itself, or waited for its data.
double busy_seconds(const std::map<std::string_view, double>& phases) {
  double seconds = 0.0;
  for (const auto& [name, own] : phases) {
    if (name != "exchange" && name != "save") seconds += own;
  }
  return seconds;
}

bool is_within(Range range, int64_t step) { return step >= range.begin && step < range.end; }

}  // namespace

TrainingLoop::TrainingLoop(LoopParts parts, const TrainOptions& train,
                           const CheckpointOptions& checkpoint, int64_t num_steps)
    : parts_(std::move(parts)),
      train_(train),
      checkpoint_(checkpoint),
      num_steps_(num_steps),
      progress_(num_steps, train.log_every_steps),
      profiled_(steps_in(train.profile_steps).value_or(Range{})) {}

Ending TrainingLoop::run(RunState& state) {
  saved_step_ = state.step;
  PhaseLog::own().take_seconds();  // Those of loading.
  if (parts_.cpu_energy) parts_.cpu_energy->take_joules();
  counted_bytes_ = CollectiveRing::own().num_bytes_sent();
  stop_ = agree_on_stop(state);
  evaluate_if_due(state);
  while (!is_over(state) && !stop_.is_asked()) round(state);
  keep_status();
  finish_saving(state);
  if (!is_over(state)) return Ending::kStopped;
  return evaluate_if_due(state) ? Ending::kFinished : Ending::kStopped;
}

bool TrainingLoop::is_over(const RunState& state) const {
  return state.step == num_steps_ || is_stopped_early_;
}

// A step and what comes before the next one.
void TrainingLoop::round(RunState& state) {
  const Stopwatch watch;
  step(state);
  look_around(state);
  if (is_over(state) || stop_.is_asked()) return;
  save_now_and_then(state);
  parts_.time.add_step(watch.seconds());
  evaluate_if_due(state);
}

// Between steps, and between the micro-batches of an evaluation: publishes what is written by now,
// and finds out whether to stop.
void TrainingLoop::look_around(const RunState& state) {
  {
    const Phase phase("save");
    parts_.save.poll();
  }
  note_save();
  if (!stop_.is_asked()) stop_ = agree_on_stop(state);
}

// What the last save has taken, if it is a new one.
void TrainingLoop::note_save() {
  if (parts_.save.num_published() == num_noted_saves_) return;
  num_noted_saves_ = parts_.save.num_published();
  parts_.time.add_save(parts_.save.last_seconds());
  if (parts_.note_save) parts_.note_save(parts_.time);
}

void TrainingLoop::save_now_and_then(const RunState& state) {
  if (checkpoint_.every_steps == 0 || state.step % checkpoint_.every_steps != 0) return;
  if (parts_.metrics != nullptr) parts_.metrics->sync();
  const Phase phase("save");
  parts_.save.start(state);
  saved_step_ = state.step;
}

void TrainingLoop::finish_saving(const RunState& state) {
  if (saved_step_ != state.step && (is_over(state) || !stop_.lacks_save_time)) {
    if (parts_.metrics != nullptr) parts_.metrics->sync();
    parts_.save.save_last(state);
  } else if (saved_step_ != state.step) {
    log_event(concat("saved=no step=", state.step, " kept_step=", saved_step_, " seconds_left=",
                     parts_.time.seconds_left(), " a_save_takes=", parts_.time.save_seconds()));
  }
  parts_.save.finish();
  note_save();
}

void TrainingLoop::step(RunState& state) {
  const Stopwatch watch;
  CollectiveRing::own().begin_step(state.step + 1);
  PhaseLog::own().record(is_within(profiled_, state.step + 1));
  const RankBatch batch = [&] {
    const Phase phase("data");
    return parts_.next_batch();
  }();
  const StepResult result =
      parts_.trainer.train_step(batch.micro_batches, batch.num_of_all_ranks, state);
  record(state, result, timing_of(batch, result, watch.seconds()));
  write_profile(state.step);
  if (state.num_skipped_in_a_row < train_.max_skipped_in_a_row) return;
  end_after_skipped_steps(state);
}

StepTiming TrainingLoop::timing_of(const RankBatch& batch, const StepResult& result,
                                   double seconds) {
  const auto phases = PhaseLog::own().take_seconds();
  OwnStep own{.micro_batches = batch.micro_batches, .busy_seconds = busy_seconds(phases)};
  own.is_first_of_node = parts_.cpu_energy.has_value();
  if (parts_.cpu_energy) own.cpu_joules = parts_.cpu_energy->take_joules();
  StepContent content = content_of(own, parts_.ranks);
  const int64_t num_tokens = content.num_tokens;
  const bool has_adapter = parts_.engine.adapter() != nullptr;
  double flop = linear_flop(parts_.engine.decoder(), has_adapter, num_tokens, result.num_targets);
  if (const Engine* other = parts_.engine.other()) {
    flop += forward_flop(other->decoder(), num_tokens, result.num_targets);
  }
  const double limit = parts_.limit.flop_per_second * parts_.ranks.world_size();
  const int64_t bytes = CollectiveRing::own().num_bytes_sent();
  return {seconds,
          flop / seconds / limit,
          batch.data_seconds,
          phases,
          bytes - std::exchange(counted_bytes_, bytes),
          batch.num_places - num_tokens,
          std::move(content)};
}

// After the last step of those that are profiled, or where a run ends among them.
void TrainingLoop::write_profile(int64_t step) {
  if (!is_within(profiled_, step) || (step + 1 < profiled_.end && step < num_steps_)) return;
  PhaseLog::own().record(false);
  const int rank = parts_.ranks.rank();
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "rank-%05d.json", rank);
  const std::string text = to_chrome_trace(PhaseLog::own().take_events(), rank);
  try {
    std::filesystem::create_directories(parts_.profiles);
    write_file_atomically(parts_.profiles / name.data(), text);
  } catch (const std::exception& error) {  // What it measures is not worth the run.
    log_event(concat("profile warning=\"", error.what(), '"'));
  }
}

void TrainingLoop::record(const RunState& state, const StepResult& result,
                          const StepTiming& timing) {
  if (parts_.metrics == nullptr) return;
  parts_.metrics->add_step(state.step, result, timing);
  progress_.show(state.step, result, timing);
  warn("rising_loss", loss_watch_.add(state.step, result.loss));
  warn("idle_experts", expert_watch_.add(state.step, result.experts));
}

// Whether nothing that is due is left: an evaluation that was cut off is not recorded. Where a run
// keeps the moving mean of its weights, that is its result, and is evaluated.
bool TrainingLoop::evaluate_if_due(const RunState& state) {
  const int64_t every = train_.evaluate_every_steps;
  const bool is_due = state.step == state.origin.step || state.step == num_steps_ ||
                      (every > 0 && state.step % every == 0);
  if (!is_due || (parts_.holdouts.empty() && !parts_.answer_samples)) return true;
  keep_status();
  const std::vector<bool> is_evaluated = find_evaluated(state.step);
  parts_.store.swap_means();
  bool is_whole = true;
  for (size_t i = 0; is_whole && i < parts_.holdouts.size(); ++i) {
    is_whole = is_evaluated[i] || evaluate_one(state, parts_.holdouts[i]);
  }
  is_whole = is_whole && sample(state);
  parts_.store.swap_means();
  if (is_whole) judge(state);
  return is_whole;
}

// False if a stop cut it off. What stands in the metrics already is not made again.
bool TrainingLoop::sample(const RunState& state) {
  const bool is_there = parts_.metrics != nullptr && parts_.metrics->has_samples(state.step);
  if (!parts_.answer_samples || any_of(parts_.ranks, is_there)) return true;
  const auto lines = parts_.answer_samples([&] {
    look_around(state);
    return stop_.is_asked();
  });
  if (!lines) {
    log_event(concat("samples step=", state.step, " cut_off=yes: the next job makes up for it"));
    return false;
  }
  if (parts_.metrics == nullptr || lines->empty()) return true;
  parts_.metrics->add_samples(state.step, *lines);
  log_event(concat("samples step=", state.step, " answers=", lines->size()));
  return true;
}

// What the losses so far tell, of which rank 0 knows: also of those that an earlier job measured.
void TrainingLoop::judge(const RunState& state) {
  bool is_stopped = false;
  for (const HoldOut& holdout : parts_.holdouts) {
    if (parts_.metrics == nullptr) break;
    const HoldOutLosses& losses = parts_.metrics->losses(holdout.name);
    const std::string words =
        words_on_rise(holdout.name, *trend_of(losses), state.step, holdout.is_general);
    warn("rising_holdout", words);
    if (holdout.name == checkpoint_.keep_best) {
      parts_.save.note_loss(state.step, losses.at(state.step));
    }
    is_stopped = is_stopped || says_early_stop(holdout, state);
  }
  is_stopped_early_ = any_of(parts_.ranks, is_stopped);
}

void TrainingLoop::warn(const char* name, const std::string& words) {
  if (words.empty() || !parts_.to_warning) return;
  const std::string text = parts_.to_warning(name, words);
  if (text.empty()) return;
  log_event(concat("warning=\"", text, '"'));
}

bool TrainingLoop::says_early_stop(const HoldOut& holdout, const RunState& state) const {
  const auto& [name, patience, min_gain] = train_.early_stop;
  if (holdout.name != name || state.step == num_steps_) return false;
  const LossTrend trend = *trend_of(parts_.metrics->losses(name), min_gain);
  if (trend.num_without_gain < patience) return false;
  log_event(concat("early_stop step=", state.step, " holdout=", name, " loss=", trend.last,
                   " lowest=", trend.lowest, " at_step=", trend.lowest_step,
                   " without_gain=", trend.num_without_gain));
  return true;
}

// Which hold-outs the metrics have for this step already; rank 0 alone can say.
std::vector<bool> TrainingLoop::find_evaluated(int64_t step) {
  const int64_t num_holdouts = std::ssize(parts_.holdouts);
  std::vector<int64_t> known(static_cast<size_t>(num_holdouts));  // Of the others 0.
  for (size_t i = 0; parts_.metrics != nullptr && i < known.size(); ++i) {
    known[i] = parts_.metrics->has_evaluation(step, parts_.holdouts[i].name) ? 1 : 0;
  }
  reduce_words(parts_.ranks, known, ReduceOp::kMax);
  return std::vector<bool>(known.begin(), known.end());
}

// False if a stop cut it off. At the last step there is nothing left to save, so that the end of
// the time is no reason.
bool TrainingLoop::evaluate_one(const RunState& state, const HoldOut& holdout) {
  const auto is_stopped = [&] {
    look_around(state);
    return stop_.is_asked();
  };
  const std::optional<EvaluationResult> result =
      evaluate(parts_.engine, holdout, parts_.ranks, parts_.device, is_stopped);
  if (!result) {
    log_event(concat("evaluation step=", state.step, " holdout=", holdout.name,
                     " cut_off=yes: the next job makes up for it"));
    return false;
  }
  if (parts_.metrics == nullptr) return true;
  const auto forgetting = parts_.metrics->add_evaluation(state.step, holdout, *result);
  log_event(concat("evaluation step=", state.step, " holdout=", holdout.name, ' ',
                   describe(*result, /*precision=*/6),
                   forgetting ? concat(" forgetting=", *forgetting) : std::string()));
  return true;
}

TrainingLoop::Stop TrainingLoop::agree_on_stop(const RunState& state) {
  const bool is_time_up = state.step < num_steps_ && parts_.time.is_up();
  std::array asked{int64_t{stop_signal()}, int64_t{is_time_up},
                   int64_t{!parts_.time.allows_save()}};
  reduce_words(parts_.ranks, asked, ReduceOp::kMax);
  const Stop stop{asked[0], asked[1] != 0, asked[2] != 0};
  if (!stop.is_asked()) return stop;
  log_event(concat("stop ", stop.signal != 0 ? concat("signal=", stop.signal) : "reason=time",
                   " saving=", stop.lacks_save_time ? "no" : "yes"));
  return stop;
}

}  // namespace temper

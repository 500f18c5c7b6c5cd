// SPDX-License-Identifier: Apache-2.0
#include "app/training_job.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <span>

#include "app/advice.h"
#include "app/data_conventions.h"
#include "app/data_record.h"
#include "app/launch_check.h"
#include "app/memory_estimate.h"
#include "app/result_record.h"
#include "app/resume_check.h"
#include "app/run_banner.h"
#include "app/trained_text.h"
#include "checkpoint/checkpoint_list.h"
#include "checkpoint/final_folder.h"
#include "checkpoint/load_state.h"
#include "checkpoint/new_folder.h"
#include "checkpoint/together.h"
#include "checkpoint/verification.h"
#include "comm/bytes.h"
#include "config/warnings.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/log.h"
#include "core/message_text.h"
#include "core/stop_signal.h"
#include "train/batch.h"
#include "zero/initialise.h"

namespace temper {
namespace {

FoundState found_state(const VerifiedCheckpoint& checkpoint) {
  return {checkpoint.folder(), checkpoint.manifest().format_version,
          read_run_state(checkpoint.folder())};
}

// Of a full micro-batch.
MatmulLimit limit_of(const RunConfig& config, const LoadedModel& model) {
  return measure_matmul_limit(model.folder().config(),
                              config.data.micro_batch_rows * config.data.sequence_length,
                              scalar_type_of(model.compute_dtype), model.ranks->device());
}

TrainerOptions trainer_options_of(const RunConfig& config, const TrainingPlan& plan) {
  return {config.optimizer, config.train.max_grad_norm, config.train.log_unit_norms,
          std::ssize(plan.mixture.source_names())};
}

Origin shared_origin(const RunConfig& config, Communicator& ranks) {
  if (config.continuation.from.empty()) return {};  // As on all ranks.
  std::string text;
  do_on_rank_0(ranks, [&] { text = to_json(RunState{.origin = find_origin(config)}); });
  return parse_run_state(broadcast_text(ranks, text), "the origin of the run").origin;
}

}  // namespace

TrainingJob::TrainingJob(const MpiSession& session, RunConfig config,
                         std::optional<double> seconds_left, std::string command)
    : session_(session),
      config_(std::move(config)),
      command_(std::move(command)),
      seconds_left_(seconds_left),
      model_(session, open_ranks(session, config_), config_, ModelOpening::Use::kTraining),
      watchdog_(session, *model_.ranks, config_.watchdog),
      shards_{find_model_facts(config_, model_.folder(), *model_.ranks),
              once_for(session, *model_.ranks), find_once(*model_.ranks)},
      plan_(open_training(config_, session.world_size(), shared_origin(config_, *model_.ranks),
                          shards_)) {}

ExitCode TrainingJob::run() {
  const std::string chat_template = take_template();
  const HoldOutRows holdouts = open_holdouts(config_, shards_);
  const auto token_bytes = holdouts.empty() ? nullptr : find_token_bytes(shards_);
  const TrainingShards trained = training_shards_of(plan_.mixture.sources());
  for (const auto& holdout : holdouts) require_unseen(holdout->corpus(), trained);
  require_fitting_launch();
  find_samples();
  try {
    lock_folder();
    load();
  } catch (const StopRequest& request) {
    log_event(concat("stop reason=\"", request.problem(), "\" saving=no"));
    return ExitCode::kResume;
  }
  for (const std::string& line : banner_of({config_, model_, plan_, state_.mixture, shape()})) {
    log_event(line);
  }
  give_advice();
  TrainingData data;
  if (session_.rank() == 0) data = training_data_of(config_, plan_.mixture, holdouts);
  CheckpointSaver saver(
      {*model_.store, *model_.ranks, config_.run.folder, state_.step, data, saved_units()},
      published_folder(chat_template, data), config_.checkpoint);
  std::optional<MetricsFile> metrics = open_metrics(saver);
  saver.tidy();
  BackgroundSave save(saver, *model_.ranks);
  Trainer trainer(*model_.engine, *model_.store, *model_.ranks,
                  Schedule(config_.schedule, plan_.num_steps, plan_.origin.schedule_step),
                  trainer_options_of(config_, plan_));
  start_loader();
  TrainingLoop loop(
      {.engine = *model_.engine,
       .store = *model_.store,
       .trainer = trainer,
       .ranks = *model_.ranks,
       .save = save,
       .next_batch = [this] { return next_batch(); },
       .profiles = std::filesystem::path(config_.run.folder) / "profile",
       .holdouts = to_holdouts(config_, holdouts, token_bytes),
       .metrics = metrics ? &*metrics : nullptr,
       .limit = limit_of(config_, model_),
       .device = model_.ranks->device(),
       .time = time_limit(),
       .answer_samples = std::bind_front(&TrainingJob::answer_samples, this),
       .note_save = [this](const TimeLimit& time) { note_save(time); },
       .cpu_energy = session_.local_rank() == 0 ? std::optional(EnergyCounter()) : std::nullopt,
       .to_warning = std::bind_front(warning_of, std::cref(config_))},
      config_.train, config_.checkpoint, plan_.num_steps);
  const Ending ending = loop.run(state_);
  if (ending == Ending::kStopped) {
    saver.settle();
    return ExitCode::kResume;
  }
  publish_result(saver);
  saver.tidy();
  saver.settle();
  return ExitCode::kFinished;
}

// Those that the result has beside the model's.
std::vector<int64_t> TrainingJob::added_end_tokens() const {
  const ModelConfig& model = model_.folder().config();
  const std::vector<int64_t> tokens = foreign_turn_ends(plan_.mixture, model);
  if (tokens.empty() || config_.model.end_of_turn == ModelOptions::EndOfTurn::kAdd) return tokens;
  log_event(concat("warning=\"",
                   describe_turn_ends(tokens, model, remedy_of_turn_ends(config_.method)), '"'));
  return {};
}

// Hold-outs are opened after it: they must be of the template that is taken.
std::string TrainingJob::take_template() {
  const std::string text = adopt_template(config_, plan_.mixture.sources(), shards_.model);
  if (!text.empty()) {
    log_event(concat("chat_template=\"", describe_adoption(shards_.model, text), '"'));
  }
  return text;
}

// The arguments must outlive the saver's construction only: it reads the small files there.
PublishedFolder TrainingJob::published_folder(const std::string& chat_template,
                                              const TrainingData& data) const {
  const ModelFolder& base = model_.folder();
  ResultTexts texts{.end_tokens = added_end_tokens(), .chat_template = chat_template};
  if (session_.rank() == 0) {
    texts.model_card = card_of_run(
        {config_, plan_, base, data, command_, state_.decided_by, !chat_template.empty()});
  }
  if (!model_.adapter()) return published_model(base, texts);
  return published_adapter(config_.method, base, model_.opened.quantisation, texts);
}

void TrainingJob::find_samples() {
  if (config_.train.sample_prompts.empty()) return;
  read_requests_together(session_, *model_.ranks, [&] {
    samples_ = read_sample_prompts(config_, model_.folder().config());
    return samples_->list.digest;
  });
}

std::optional<std::vector<Json>> TrainingJob::answer_samples(
    const std::function<bool()>& is_stopped) {
  if (!samples_) return std::vector<Json>();
  return temper::answer_samples(*samples_, *model_.engine, *model_.ranks, is_stopped);
}

// Before anything is made.
void TrainingJob::require_fitting_launch() {
  facts_ = find_facts();
  require_same_fingerprints(session_, *model_.ranks, {facts_.start_fingerprint},
                            "the adapter to begin with");
  do_on_rank_0(*model_.ranks,
               [&] { require_run_space(config_, size().most, session_.host_names().front()); });
}

void TrainingJob::give_advice() const {
  do_on_rank_0(*model_.ranks, [&] {
    for (const std::string& warning : find_warnings({config_, model_.opened, plan_})) {
      log_event(concat("warning=\"", warning, '"'));
    }
  });
}

RunSize TrainingJob::size() const {
  return run_size(config_, saved_units(),
                  model_.adapter() ? DType::kF32 : model_.folder().stored_dtype());
}

std::vector<UnitLayout> TrainingJob::saved_units() const { return model_.opened.saved_units(); }

JobShape TrainingJob::shape() const {
  return {session_.world_size() / session_.local_size(), session_.world_size()};
}

// Until a save of this job has shown what it takes, what one of a job before took.
TimeLimit TrainingJob::time_limit() const {
  std::string text;
  do_on_rank_0(*model_.ranks, [&] { text = read_run_timing(config_.run.folder); });
  text = broadcast_text(*model_.ranks, text);
  if (!seconds_left_) return {};
  const ExpectedTiming expected = expect_timing(size().checkpoint, shape(), parse_run_timing(text));
  const TimeLimit time(*seconds_left_ - watch_.seconds(), expected.save_seconds);
  log_event(concat("time_left=", duration_text(time.seconds_left()),
                   " reserved_for_a_save=", duration_text(time.save_seconds()),
                   " expected=", duration_text(expected.save_seconds),
                   expected.is_measured ? " measured=yes" : " measured=no"));
  return time;
}

void TrainingJob::note_save(const TimeLimit& time) const {
  if (session_.rank() != 0) return;
  write_run_timing(config_.run.folder,
                   {shape(), size().checkpoint, time.save_seconds(), time.step_seconds()});
}

// One job at a time writes into a run's folder.
void TrainingJob::lock_folder() {
  const char* job = std::getenv("SLURM_JOB_ID");
  do_on_rank_0(*model_.ranks, [&] {
    const std::filesystem::path folder = config_.run.folder;
    make_folder(folder);
    lock_.emplace(folder / "lock.json",
                  job != nullptr ? concat("job ", job) : std::string("a run without Slurm"));
    tidy_final(folder / "final");
  });
}

void TrainingJob::load() {
  if (const auto checkpoint = find_own_checkpoint()) {
    require_continued(*checkpoint);
    load_from(*checkpoint);
    log_event(concat("resumed step=", state_.step, " checkpoint=", checkpoint->folder().string()));
  } else if (!config_.continuation.from.empty()) {
    go_on_from_another_run();
  } else {
    model_.load_start();
    model_.remember_start();
  }
  state_.decided_by = trajectory_text(config_, facts_);
  state_.trajectory = trajectory_digest(state_.decided_by);
  state_.config_yaml = to_yaml(config_);
  state_.mixture = source_uses(plan_, config_);
}

std::optional<VerifiedCheckpoint> TrainingJob::find_own_checkpoint() {
  const std::string& resume = config_.checkpoint.resume;
  if (resume == "auto") return find_newest_whole(config_.run.folder, *model_.ranks);
  if (resume == "never") return std::nullopt;
  return verify_named(resume);
}

// Where storage fails, again after a while.
VerifiedCheckpoint TrainingJob::verify_named(const std::filesystem::path& folder) {
  std::optional<VerifiedCheckpoint> checkpoint;
  try_again(*model_.ranks, default_pauses(),
            [&] { checkpoint = verify_checkpoint(folder, *model_.ranks); });
  return std::move(*checkpoint);
}

void TrainingJob::load_from(const VerifiedCheckpoint& checkpoint) {
  load_base(checkpoint);
  model_.remember_start();
  state_ = load_checkpoint(checkpoint, *model_.store, *model_.ranks);
  if (model_.adapter()) change_base(*model_.adapter(), *model_.store);
  resumed_from_ = checkpoint.folder();
  resumed_step_ = state_.step;
}

void TrainingJob::go_on_from_another_run() {
  const VerifiedCheckpoint checkpoint = verify_named(config_.continuation.from);
  std::string changes;
  do_together(*model_.ranks, [&] {
    changes = require_continuable(config_, facts_, found_state(checkpoint), AskedOn::kComputeNode);
  });
  load_from(checkpoint);
  state_.origin = plan_.origin;
  state_.origin.changes = changes;
  log_event(concat("continued step=", state_.step, " checkpoint=", checkpoint.folder().string(),
                   " changes=\"", changes, '"'));
}

// Before anything is loaded: another method has other tensors.
void TrainingJob::require_continued(const VerifiedCheckpoint& checkpoint) {
  do_together(*model_.ranks, [&] {
    require_same_trajectory(config_, facts_, found_state(checkpoint), AskedOn::kComputeNode);
  });
}

// What is frozen is not in a checkpoint's state, and an adapter's has no weights of the model; nor
// is where weights began, from which they are told apart.
void TrainingJob::load_base(const VerifiedCheckpoint& checkpoint) {
  const auto& units = model_.decoder.units();
  const bool is_in_checkpoint =
      !model_.adapter() && std::ranges::all_of(units, &UnitLayout::is_trained);
  if (is_in_checkpoint && config_.train.l2_sp == 0.0) return;
  do_on_rank_0(*model_.ranks, [&] { require_same_base(checkpoint.folder(), model_.opened); });
  load_weights(model_.folder(), *model_.store, *model_.ranks);
}

TrajectoryFacts TrainingJob::find_facts() const {
  TrajectoryFacts facts = trajectory_facts(config_, model_.opened, plan_, session_.world_size());
  std::string sample;
  do_on_rank_0(*model_.ranks, [&] { sample = start_model_sha256(config_, model_.opened); });
  facts.start_model_sha256 = broadcast_text(*model_.ranks, sample);
  facts.compute_dtype = model_.compute_dtype;
  return facts;
}

void TrainingJob::start_loader() {
  sequence_ = {state_.next_micro_batch, config_.data.num_micro_batches(), session_.rank(),
               session_.world_size()};
  const int64_t first = plan_.origin.data_micro_batch;
  loader_.emplace([this, first](int64_t index) { return plan_.mixture.micro_batch(index - first); },
                  sequence_,
                  LoaderOptions{config_.data.loader_threads, config_.data.prefetch_depth});
}

RankBatch TrainingJob::next_batch() {
  if (lock_ && !lock_->is_held()) {
    throw LaunchError(
        config_.run.folder + " was taken over by another job while this one stood still",
        "look at that job's log; this one has not written since");
  }
  const double waited = loader_->waited_seconds();
  RankBatch batch{.micro_batches = {}, .num_of_all_ranks = sequence_.per_step};
  for (int64_t j = 0; j < sequence_.own_per_step(); ++j) {
    batch.micro_batches.push_back(to_packed_batch(loader_->next(), model_.ranks->device()));
  }
  batch.data_seconds = loader_->waited_seconds() - waited;
  batch.num_places = config_.data.global_batch_rows * config_.data.sequence_length;
  return batch;
}

// On rank 0. The losses that an earlier job measured decide what stays.
std::optional<MetricsFile> TrainingJob::open_metrics(CheckpointSaver& saver) const {
  std::optional<MetricsFile> metrics;
  do_on_rank_0(*model_.ranks, [&] {
    metrics.emplace(std::filesystem::path(config_.run.folder) / "metrics.jsonl", state_.step);
    const std::string& decides = config_.checkpoint.keep_best;
    for (const auto& [step, loss] : metrics->losses(decides)) saver.note_loss(step, loss);
    metrics->add_run(state_.step, facts_of_run(config_, plan_));
  });
  return metrics;
}

// What others open of the last checkpoint, or the best: without the state to go on training.
void TrainingJob::publish_result(const CheckpointSaver& saver) {
  const std::filesystem::path folder = config_.run.folder;
  int64_t best = 0;
  do_on_rank_0(*model_.ranks, [&] {
    if (config_.checkpoint.publishes_best) best = saver.best_step().value_or(0);
  });
  broadcast_bytes(*model_.ranks, std::as_writable_bytes(std::span(&best, 1)));
  const int64_t step = best > 0 ? best : state_.step;
  const bool is_own = best > 0 || state_.step > resumed_step_;
  const std::filesystem::path checkpoint =
      is_own ? checkpoints_of(folder) / checkpoint_name(step) : resumed_from_;
  std::vector<TextFile> texts;
  do_on_rank_0(*model_.ranks, [&] {
    texts = result_record(folder, step, card_in(checkpoint / saver.published_folder()));
  });
  publish_final(checkpoint, folder / "final", *model_.ranks, texts);
}

}  // namespace temper

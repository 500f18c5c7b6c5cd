// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>

#include "app/advice.h"
#include "app/allocation_end.h"
#include "app/commands.h"
#include "app/data_conventions.h"
#include "app/findings.h"
#include "app/launch_resources.h"
#include "app/loaded_model.h"
#include "app/memory_estimate.h"
#include "app/resume_check.h"
#include "app/run_inputs.h"
#include "app/trained_text.h"
#include "app/training_samples.h"
#include "checkpoint/four_bit/stored_format.h"
#include "checkpoint/model_folder.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/message_text.h"
#include "train/run_timing.h"
#include "train/time_limit.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

constexpr const char* kMayNotHold =
    " may not hold one step and one save";  // slurm/submit knows it.

std::string stored_form(const ModelFolder& model) {
  const std::string dtype(to_string(model.stored_dtype()));
  return model.quantisation() ? concat(describe(*model.quantisation()), ", of ", dtype) : dtype;
}

// The parts of `temper check`; each takes what those before it could find out.
class RunCheck {
 public:
  explicit RunCheck(const CheckOptions& options) : options_(options) {}

  int run() {
    read_config();
    if (!config_.model.path.empty()) {
      check_model();
      find_facts();
    }
    check_data();
    check_turn_ends();
    check_samples();
    if (model_) check_memory();
    check_advice();
    if (!config_.run.folder.empty() && report_.attempt([this] { check_storage(); })) {
      report_.attempt([this] { check_resume(); });
    }
    return report_.print();
  }

 private:
  void read_config() {
    RunConfigReport read = read_run_config(options_.config_path, options_.overrides);
    config_ = std::move(read.config);
    report_.add(read.problems);
  }

  void check_model() {
    model_ = open_model(config_, {.use = ModelOpening::Use::kTraining}, report_);
    if (!model_) return;
    const ModelFolder& folder = model_->folder;
    report_.add_fact("model",
                     concat(config_.model.path, ": ", folder.config().model_type, ", ",
                            readable_count(num_elements(folder.units())), " parameters in ",
                            folder.units().size(), " units, stored as ", stored_form(folder)));
    if (const auto& adapter = model_->adapter) {
      report_.add_fact("method",
                       concat(name_of(config_.method.kind), ", ",
                              readable_count(num_trained(adapter->layouts())),
                              " trained parameters in ", adapter->file.slots().size(), " tensors"));
    }
    if (config_.trained.has_any()) {
      report_.add_fact("trained", describe_trained(model_->parameters.units));
    }
    if (config_.train.layer_decay != 1.0) {
      report_.add_fact("by depth", describe_depths(config_, folder.config()));
    }
    for (const std::string& group : describe_groups(config_, model_->parameters)) {
      report_.add_fact("group", group);
    }
    const bool is_auto = config_.model.dtype == ModelOptions::Dtype::kAuto;
    report_.add_fact("compute", concat(name_of(compute_dtype_of(config_.model)),
                                       is_auto ? " (auto, by this machine's processor)" : ""));
  }

  // Also where the model's weights are missing.
  void find_facts() {
    report_.attempt([this] { shards_.model = read_model_facts(config_); });
    if (model_) shards_.model.vocab_size = model_->folder.config().vocab_size;
  }

  void check_data() {
    Mixture::Sources sources;
    for (const DataSource& source : config_.data.sources) {
      sources.push_back(open_shard("data", source.path));
    }
    check_template(sources);
    check_holdouts(training_shards_of(sources));
    const DataOptions& data = config_.data;
    const int64_t num_in_last_round = data.num_micro_batches() % options_.num_ranks;
    report_.add_fact("batch",
                     concat(data.global_batch_rows, " rows of ", data.sequence_length,
                            " tokens: ", data.num_micro_batches(), " micro-batches, shared by ",
                            options_.num_ranks, " ranks",
                            num_in_last_round == 0 ? std::string()
                                                   : concat(", of which ", num_in_last_round,
                                                            " have one more than the others")));
    Origin origin;
    if (!report_.attempt([&] { origin = find_origin(config_); })) return;
    plan_ = plan_training(config_, options_.num_ranks, origin, std::move(sources), report_);
    if (!plan_) return;
    const int64_t rows = plan_->mixture.rows_per_epoch();
    const double epochs =
        static_cast<double>(plan_->num_steps * data.global_batch_rows) / static_cast<double>(rows);
    report_.add_fact("steps",
                     concat(plan_->num_steps, ", or ", epochs, " epochs of ", rows, " rows"));
    if (data.sources.size() < 2) return;
    for (const SourceUse& use : source_uses(*plan_, config_)) {
      report_.add_fact("mixture", describe(use));
    }
  }

  void check_holdouts(const TrainingShards& trained) {
    for (const HoldOutOptions& holdout : config_.holdouts) {
      const auto rows = open_shard("holdout", holdout.path);
      if (rows) report_.attempt([&] { require_unseen(rows->corpus(), trained); });
    }
  }

  void check_template(const Mixture::Sources& sources) {
    report_.attempt([&] {
      const std::string text = adopt_template(config_, sources, shards_.model);
      if (!text.empty()) report_.add_fact("template", describe_adoption(shards_.model, text));
    });
  }

  // Nothing if it cannot be used, or if its path could not be read, which was said before.
  std::unique_ptr<const RowSource> open_shard(const std::string& topic, const std::string& path) {
    std::unique_ptr<const RowSource> rows;
    if (path.empty()) return rows;
    report_.attempt([&] {
      rows = open_rows(config_, path, shards_);
      if (options_.verifies_data) rows->corpus().verify_all();
      add_shard_fact(topic, *rows);
    });
    return rows;
  }

  void add_shard_fact(const std::string& topic, const RowSource& rows) {
    const Corpus& corpus = rows.corpus();
    const size_t num_files = corpus.parts().size();
    const std::string files = num_files > 1 ? concat(" in ", num_files, " files") : std::string();
    std::string text =
        concat(corpus.name(), ": ", to_string(corpus.kind()), ", ", corpus.num_documents(),
               " documents", files, ", ", readable_count(corpus.num_tokens()), " tokens in ",
               rows.num_rows(), " rows", options_.verifies_data ? ", verified" : "");
    if (rows.num_truncated() > 0) text += concat(", ", rows.num_truncated(), " truncated");
    if (rows.num_without_target() > 0) {
      text += concat(", ", rows.num_without_target(), " without a target left out");
    }
    report_.add_fact(topic, text);
  }

  void check_turn_ends() {
    if (!model_ || !plan_ || config_.model.end_of_turn == ModelOptions::EndOfTurn::kAdd) return;
    const ModelConfig& model = model_->folder.config();
    const std::vector<int64_t> tokens = foreign_turn_ends(plan_->mixture, model);
    if (tokens.empty()) return;
    report_.add_fact("end of turn",
                     describe_turn_ends(tokens, model, remedy_of_turn_ends(config_.method)));
  }

  void check_samples() {
    if (!model_ || config_.train.sample_prompts.empty()) return;
    report_.attempt([this] {
      const auto asked = read_sample_prompts(config_, model_->folder.config());
      report_.add_fact("samples", concat(config_.train.sample_prompts, ": ", asked->requests.size(),
                                         " prompts, answered at each evaluation"));
    });
  }

  void check_advice() {
    if (!model_ || !plan_) return;
    report_.attempt([this] {
      for (const std::string& warning : find_warnings({config_, *model_, *plan_})) {
        report_.add_fact("warning", warning);
      }
    });
  }

  void check_memory() {
    const MemoryEstimate memory = estimate_memory(
        config_, {.model = model_->folder.config(),
                  .units = model_->units(scalar_type_of(compute_dtype_of(config_.model)),
                                         /*is_trained=*/true),
                  .users = model_->parameters.units.users,
                  .num_ranks = options_.num_ranks,
                  .num_threads = std::max(1, config_.train.threads)});
    report_.add_fact(
        "memory",
        concat("about ", readable_bytes(memory.total()), " a rank: ", readable_bytes(memory.state),
               " state, ", readable_bytes(memory.gradients), " gradients, ",
               readable_bytes(memory.exchange), " exchange, ", readable_bytes(memory.activations),
               " activations, ", readable_bytes(memory.saving), " saving, ",
               readable_bytes(memory.program), " program"));
    if (memory.offloaded == 0) return;
    report_.add_fact("offload", concat(readable_bytes(memory.offloaded), " a rank, in ",
                                       config_.optimizer.offload, " on each node"));
  }

  void check_storage() {
    const Storage storage = find_storage(config_.run.folder);
    if (!model_) return;
    const DType stored = model_->adapter ? DType::kF32 : model_->folder.stored_dtype();
    const RunSize size = run_size(config_, model_->saved_units(), stored);
    report_.add_fact(
        "checkpoint",
        concat(readable_bytes(size.checkpoint), " each, ", readable_bytes(size.most), " with ",
               config_.checkpoint.keep, " kept, one under way and the final model; ",
               readable_bytes(storage.free_bytes), " free"));
    report_.add(find_space_problems(config_, storage, size.most));
    report_.attempt([&] { check_time(size.checkpoint); });
  }

  // A job that cannot hold one step and one save comes to nothing, as do all that follow it. Where
  // no save was measured yet that is no more than a warning: the first one shows what it takes.
  void check_time(int64_t checkpoint_bytes) {
    const std::optional<double> job = job_seconds();
    if (!job) return;
    const JobShape shape{options_.num_nodes, options_.num_ranks};
    const std::string past = read_run_timing(config_.run.folder);
    const ExpectedTiming expected = expect_timing(checkpoint_bytes, shape, parse_run_timing(past));
    const double wanted = TimeLimit::seconds_for(expected.step_seconds, expected.save_seconds);
    const std::string save =
        concat("a save is expected to take ", duration_text(expected.save_seconds));
    if (expected.is_measured && wanted > *job) {
      throw ConfigError(concat("a job of ", duration_text(*job),
                               " cannot hold one step and one save: by what jobs "
                               "of this run have measured, ",
                               save, " and a step ", duration_text(expected.step_seconds),
                               ", which with a margin is ", duration_text(wanted)),
                        "give each job more time, or use more nodes");
    }
    const char* source = expected.is_measured ? " (measured by a job before)"
                                              : " (not measured yet: at 100 MB/s a node)";
    report_.add_fact("time", concat(duration_text(*job), " a job", wanted > *job ? kMayNotHold : "",
                                    "; ", save, source));
  }

  // What a job has by the command line and by the configuration; nothing if neither says.
  std::optional<double> job_seconds() const {
    std::optional<double> seconds;
    if (!options_.job_time.empty()) {
      const auto parsed = parse_time_limit(options_.job_time);
      if (!parsed) {
        throw ConfigError(concat("--time is ", quote(options_.job_time), ", which is no time"),
                          "a time as sbatch takes it, such as 90 (minutes), 8:00:00 or 1-12");
      }
      if (*parsed > 0) seconds = static_cast<double>(*parsed);  // To sbatch 0 is no limit.
    }
    const double configured = 60.0 * config_.train.time_limit_minutes;
    if (configured > 0.0) seconds = std::min(configured, seconds.value_or(configured));
    return seconds;
  }

  void check_resume() {
    const std::optional<FoundState> found = find_state(config_);
    if (!found && !config_.continuation.from.empty()) return check_continuation();
    if (!found) {
      report_.add_fact("resume", "nothing to go on from: the run starts at step 0");
      return;
    }
    report_.add_fact("resume",
                     concat("at step ", found->state.step, ", from ", found->checkpoint.string()));
    if (!model_ || !plan_) return;
    require_same_trajectory(config_, facts(), *found, AskedOn::kLoginNode);
    require_same_base(found->checkpoint, *model_);
  }

  // Of the run, whose model and plan are there.
  TrajectoryFacts facts() const {
    TrajectoryFacts found = trajectory_facts(config_, *model_, *plan_, options_.num_ranks);
    found.start_model_sha256 = start_model_sha256(config_, *model_);
    return found;
  }

  void check_continuation() {
    if (!model_ || !plan_) return;
    const FoundState before = find_continued(config_);
    const std::string changes = require_continuable(config_, facts(), before, AskedOn::kLoginNode);
    report_.add_fact("continue", concat("at step ", before.state.step, " of another run, from ",
                                        before.checkpoint.string(), ": ",
                                        changes.empty() ? "nothing changes" : changes));
    require_same_base(before.checkpoint, *model_);
  }

  const CheckOptions& options_;
  CheckReport report_;
  RunConfig config_;
  std::optional<OpenedModel> model_;
  ShardOpening shards_;
  std::optional<TrainingPlan> plan_;  // Nothing unless all of data.train could be used.
};

}  // namespace

int run_check(const CheckOptions& options) {
  if (!options.prints_config) return RunCheck(options).run();
  std::printf("%s", to_yaml(load_run_config(options.config_path, options.overrides)).c_str());
  return static_cast<int>(ExitCode::kFinished);
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>

#include "app/check_report.h"
#include "app/commands.h"
#include "app/launch_resources.h"
#include "app/loaded_model.h"
#include "app/memory_estimate.h"
#include "app/readable.h"
#include "app/resume_check.h"
#include "app/storage.h"
#include "app/trajectory_facts.h"
#include "checkpoint/companion_files.h"
#include "checkpoint/four_bit/stored_format.h"
#include "checkpoint/model_folder.h"
#include "core/concat.h"
#include "data/row_source.h"
#include "data/shard_checks.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

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
      report_.attempt([this] { check_model(); });
      report_.attempt([this] { read_tokenizer(); });
    }
    check_data();
    check_steps();
    if (model_) check_memory();
    if (!config_.run.folder.empty() && report_.attempt([this] { check_storage(); })) {
      report_.attempt([this] { check_resume(); });
    }
    return report_.print();
  }

 private:
  void read_config() {
    RunConfigReport read = read_run_config(options_.config_path, options_.overrides);
    config_ = std::move(read.config);
    report_.add_problems(read.problems);
    report_.add_problems(validate_ranks(config_, options_.num_ranks));
  }

  void check_model() {
    const bool is_qlora = config_.method.kind == MethodOptions::Kind::kQlora;
    model_.emplace(config_.model.path, is_qlora ? WeightForms::kAny : WeightForms::kDense);
    const ModelConfig& config = model_->config();
    report_.add_fact("model",
                     concat(config_.model.path, ": ", config.model_type, ", ",
                            readable_count(num_elements(model_->units())), " parameters in ",
                            model_->units().size(), " units, stored as ", stored_form(*model_)));
    report_.add_problems(validate_model(config_, config));
    report_.attempt([this] { quantisation_of(config_, *model_); });
    adapter_ = make_adapter(config_.method, config);
    if (adapter_) {
      open_start(config_.method, *model_);
      report_.add_fact(
          "method", concat(name_of(config_.method.kind), ", ",
                           readable_count(num_elements(adapter_->units())),
                           " trained parameters in ", adapter_->unit.slots().size(), " tensors"));
    }
    const bool is_auto = config_.model.dtype == ModelOptions::Dtype::kAuto;
    report_.add_fact("compute", concat(name_of(compute_dtype_of(config_.model)),
                                       is_auto ? " (auto, by this machine's processor)" : ""));
  }

  // Beside the model itself, so that shards are checked where only its weights are missing.
  void read_tokenizer() { tokenizer_sha256_ = tokenizer_sha256_of(config_.model.path); }

  void check_data() {
    for (const DataSource& source : config_.data.sources) {
      if (source.path.empty()) continue;
      std::unique_ptr<RowSource> rows = open_shard("data", source.path);
      if (rows) sources_.push_back(std::move(rows));
    }
    for (const HoldOutOptions& holdout : config_.holdouts) {
      if (!holdout.path.empty()) open_shard("holdout", holdout.path);
    }
  }

  std::unique_ptr<RowSource> open_shard(const std::string& topic, const std::string& path) {
    std::unique_ptr<RowSource> rows;
    report_.attempt([&] {
      rows = std::make_unique<RowSource>(path, config_.data.sequence_length);
      if (!tokenizer_sha256_.empty()) {
        const int64_t vocab_size =
            model_ ? model_->config().vocab_size : rows->shard().header().vocab_size;
        require_fits(rows->shard(), {vocab_size, tokenizer_sha256_});
      }
      if (options_.verifies_data) rows->shard().verify_all();
      add_shard_fact(topic, *rows);
    });
    return rows;
  }

  void add_shard_fact(const std::string& topic, const RowSource& rows) {
    const ShardHeader& header = rows.shard().header();
    std::string text =
        concat(rows.shard().path().string(), ": ", to_string(header.kind), ", ",
               header.num_documents, " documents, ", readable_count(header.num_tokens),
               " tokens in ", rows.num_rows(), " rows", options_.verifies_data ? ", verified" : "");
    if (rows.num_truncated() > 0) text += concat(", ", rows.num_truncated(), " truncated");
    if (rows.num_without_target() > 0) {
      text += concat(", ", rows.num_without_target(), " without a target left out");
    }
    report_.add_fact(topic, text);
  }

  bool has_all_sources() const {
    return !sources_.empty() && sources_.size() == config_.data.sources.size();
  }

  void check_steps() {
    const DataOptions& data = config_.data;
    report_.add_fact("batch", concat(data.global_batch_rows, " rows of ", data.sequence_length,
                                     " tokens: ", data.global_batch_rows / data.micro_batch_rows,
                                     " micro-batches, shared by ", options_.num_ranks, " ranks"));
    if (!has_all_sources()) return;
    int64_t rows = 0;
    for (const auto& source : sources_) rows += source->num_rows();
    num_steps_ = num_steps_of(config_, rows);
    if (config_.train.max_steps == 0) report_.add_problems(validate_steps(config_, num_steps_));
    const double epochs =
        static_cast<double>(num_steps_ * data.global_batch_rows) / static_cast<double>(rows);
    report_.add_fact("steps", concat(num_steps_, ", or ", epochs, " epochs of ", rows, " rows"));
  }

  void check_memory() {
    const MemoryEstimate memory =
        estimate_memory(config_, {.model = model_->config(),
                                  .units = model_->units(),
                                  .adapter = units_of(adapter_),
                                  .num_ranks = options_.num_ranks,
                                  .num_threads = std::max(1, config_.train.threads),
                                  .compute_dtype = compute_dtype_of(config_.model)});
    report_.add_fact(
        "memory",
        concat("about ", readable_bytes(memory.total()), " a rank: ", readable_bytes(memory.state),
               " state, ", readable_bytes(memory.exchange), " exchange, ",
               readable_bytes(memory.activations), " activations, ", readable_bytes(memory.saving),
               " saving, ", readable_bytes(memory.program), " program"));
  }

  void check_storage() {
    const Storage storage = find_storage(config_.run.folder);
    if (!model_) return;
    const DType stored = adapter_ ? DType::kF32 : model_->stored_dtype();
    const std::vector<UnitLayout> trained = adapter_ ? adapter_->units() : model_->units();
    const RunSize size = run_size(config_, trained, stored);
    report_.add_fact(
        "checkpoint",
        concat(readable_bytes(size.checkpoint), " each, ", readable_bytes(size.most), " with ",
               config_.checkpoint.keep, " kept, one under way and the final model; ",
               readable_bytes(storage.free_bytes), " free"));
    report_.add_problems(find_space_problems(config_, storage, size.most));
  }

  void check_resume() {
    const std::optional<FoundState> found = find_state(config_);
    if (!found) {
      report_.add_fact("resume", "nothing to go on from: the run starts at step 0");
      return;
    }
    report_.add_fact("resume",
                     concat("at step ", found->state.step, ", from ", found->checkpoint.string()));
    if (!model_ || !has_all_sources()) return;
    std::vector<const TokenShard*> shards;
    for (const auto& source : sources_) shards.push_back(&source->shard());
    require_same_trajectory(
        config_, trajectory_facts(config_, *model_, shards, num_steps_, options_.num_ranks), *found,
        AskedOn::kLoginNode);
  }

  const CheckOptions& options_;
  CheckReport report_;
  RunConfig config_;
  std::optional<ModelFolder> model_;
  std::optional<Adapter> adapter_;
  std::string tokenizer_sha256_;                     // Empty if it could not be read.
  std::vector<std::unique_ptr<RowSource>> sources_;  // Those of data.train that could be opened.
  int64_t num_steps_ = 0;
};

}  // namespace

int run_check(const CheckOptions& options) {
  if (!options.prints_config) return RunCheck(options).run();
  std::printf("%s", to_yaml(load_run_config(options.config_path, options.overrides)).c_str());
  return static_cast<int>(ExitCode::kFinished);
}

}  // namespace temper

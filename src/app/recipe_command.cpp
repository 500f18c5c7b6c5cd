// SPDX-License-Identifier: Apache-2.0
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "app/commands.h"
#include "app/findings.h"
#include "app/launch_resources.h"
#include "app/loaded_model.h"
#include "app/memory_estimate.h"
#include "app/recipe.h"
#include "app/run_inputs.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/message_text.h"
#include "data/row_source.h"
#include "io/file.h"
#include "model/decoder.h"
#include "train/matmul_limit.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

constexpr double kShareOfProducts = 0.5;  // Of the products' speed that a step reaches, at least.
constexpr double kGigabyte = 1e9;

// The parts of `temper recipe`; each takes what those before it have found.
class Recipe {
 public:
  explicit Recipe(const RecipeOptions& options)
      : options_(options), corpus_(find_shards(options.shard)) {
    if (fs::exists(options.output)) {
      throw ConfigError(concat(options.output, " is there already"),
                        "name another file with --output");
    }
  }

  int run() {
    RunConfig config;
    config.model.path = options_.model;
    model_facts_ = read_model_facts(config);
    open_model_for(config);
    look_at_data();
    measure_speed();
    const std::vector<RecipeCandidate> candidates = weigh_candidates();
    RecipeCandidate chosen = choose(candidates);
    write(chosen);
    return static_cast<int>(ExitCode::kFinished);
  }

 private:
  void say(const std::string& topic, const std::string& text) {
    constexpr size_t kTopicWidth = 12;
    const std::string gap(kTopicWidth - std::min(kTopicWidth - 1, topic.size()), ' ');
    std::printf("%s%s%s\n", topic.c_str(), gap.c_str(), text.c_str());
    reasons_.push_back(concat(topic, ": ", text));
  }

  void open_model_for(const RunConfig& config) {
    Findings findings;
    model_ = open_model(config, {.use = ModelOpening::Use::kGeneration}, findings);
    findings.throw_if_any();
    const ModelConfig& model = model_->folder.config();
    model_facts_.vocab_size = model.vocab_size;
    facts_.num_parameters = num_elements(model_->folder.units());
    facts_.num_ranks = options_.num_ranks;
    say("model",
        concat(options_.model, ": ", model.model_type, ", ", readable_count(facts_.num_parameters),
               " parameters, ", model.max_positions, " positions"));
  }

  std::vector<int64_t> lengths() const {
    std::vector<int64_t> all;
    for (const Corpus::Part& part : corpus_.parts()) {
      const std::vector<int64_t> offsets =
          part.shard->documents().offsets({0, part.shard->num_documents() + 1});
      for (size_t d = 0; d + 1 < offsets.size(); ++d) all.push_back(offsets[d + 1] - offsets[d]);
    }
    return all;
  }

  void look_at_data() {
    facts_.kind = corpus_.kind();
    facts_.num_documents = corpus_.num_documents();
    constexpr int64_t kLongestText = 1024;  // Text is cut anywhere; conversations are not.
    int64_t most = model_->folder.config().max_positions;
    if (facts_.kind == ShardKind::kPretrain) most = std::min(most, kLongestText);
    sequence_length_ = fitting_length(lengths(), facts_.kind, most);
    const RowSource rows(find_shards(options_.shard), sequence_length_, model_facts_);
    facts_.num_rows = rows.num_rows();
    facts_.documents_per_row =
        static_cast<double>(facts_.num_documents) / static_cast<double>(facts_.num_rows);
    say("data", concat(corpus_.name(), ": ", to_string(facts_.kind), ", ", facts_.num_documents,
                       " documents, ", readable_count(corpus_.num_tokens()), " tokens, of which ",
                       readable_count(corpus_.num_targets()), " carry loss"));
    say("rows", concat(facts_.num_rows, " of ", sequence_length_, " tokens, ", rows.num_truncated(),
                       " documents cut"));
    say("size", size_class(facts_));
    find_holdout();
  }

  // Preparation writes both sides into one folder.
  void find_holdout() {
    const fs::path shard(options_.shard);
    std::string name = shard.filename().string();
    const size_t at = name.find("train");
    if (at == std::string::npos) return say_no_holdout();
    name.replace(at, std::string("train").size(), "holdout");
    for (const char* other : {name.c_str(), "holdout.h5", "holdout-*.h5"}) {
      try {
        find_shards(shard.parent_path() / other);
        holdout_ = (shard.parent_path() / other).string();
        return say("hold-out", concat(holdout_, ": it ends the run when it no longer falls"));
      } catch (const DataError&) {
        continue;
      }
    }
    say_no_holdout();
  }

  void say_no_holdout() {
    say("hold-out",
        "none beside the shard: nothing will tell when to stop; set one aside by "
        "holdout.fraction in preparation");
  }

  void measure_speed() {
    const ComputeDtype dtype = compute_dtype_of(ModelOptions());
    limit_ = measure_matmul_limit(model_->folder.config(), sequence_length_, scalar_type_of(dtype),
                                  at::kCPU);
    say("speed", concat("matrix products of this model: ", limit_.flop_per_second / 1e9,
                        " GFLOP/s in ", name_of(dtype), " on the ", at::get_num_threads(),
                        " cores here; a step is taken to reach half of that, and each rank to have "
                        "as many cores"));
  }

  std::vector<RecipeCandidate> weigh_candidates() {
    std::vector<RecipeCandidate> candidates;
    for (RunConfig& config : recipe_configs(facts_, sequence_length_)) {
      candidates.push_back(weigh(std::move(config)));
      const RecipeCandidate& one = candidates.back();
      say("method",
          concat(name_of(one.config.method.kind), ": ",
                 one.memory_bytes == 0 ? std::string()
                                       : concat("about ", readable_bytes(one.memory_bytes),
                                                " a rank, ", duration_text(3600.0 * one.hours()),
                                                " for ", one.num_steps, " steps"),
                 one.problem.empty() ? "" : "; no: ", one.problem));
    }
    return candidates;
  }

  int64_t memory_limit() const {
    if (options_.memory_gigabytes > 0.0) {
      return static_cast<int64_t>(kGigabyte * options_.memory_gigabytes);
    }
    return available_memory().value_or(INT64_MAX) / options_.num_ranks;
  }

  RecipeCandidate weigh(RunConfig config) const {
    config.model.path = options_.model;
    config.run.folder = concat("runs/", fs::path(options_.output).stem().string());
    config.data.sources = {{options_.shard}};
    if (!holdout_.empty()) {
      config.holdouts = {{.name = "holdout", .path = holdout_, .max_rows = 64}};
      config.train.early_stop = {.holdout = "holdout", .patience = 3};
      config.checkpoint.keep_best = "holdout";
      config.checkpoint.publishes_best = true;
    } else {
      config.train.evaluate_every_steps = 0;
    }
    RecipeCandidate candidate{.config = std::move(config)};
    Findings findings;
    const auto model = open_model(candidate.config, {}, findings);
    if (!findings.problems().empty()) {
      candidate.problem = findings.problems().front().what;
      return candidate;
    }
    fit_memory(candidate, *model);
    candidate.num_steps = num_steps_of(candidate.config, facts_.num_rows);
    candidate.step_seconds = step_seconds(candidate.config, *model);
    return candidate;
  }

  // As many rows in a micro-batch as fit; recomputation where not even one does.
  void fit_memory(RecipeCandidate& candidate, const OpenedModel& model) const {
    constexpr int64_t kMostTokens = 4096;  // In a micro-batch; more makes nothing faster.
    RunConfig& config = candidate.config;
    const int64_t most = config.data.global_batch_rows / options_.num_ranks;
    for (const bool recomputes : {false, true}) {
      config.train.recomputes = recomputes;
      for (int64_t rows = most; rows >= 1; --rows) {
        if (most % rows != 0 || (rows > 1 && rows * sequence_length_ > kMostTokens)) continue;
        config.data.micro_batch_rows = rows;
        candidate.memory_bytes = memory_of(config, model);
        if (candidate.memory_bytes <= memory_limit()) return;
      }
    }
    candidate.problem = concat("a rank has ", readable_bytes(memory_limit()));
  }

  int64_t memory_of(const RunConfig& config, const OpenedModel& model) const {
    return estimate_memory(config,
                           {.model = model.folder.config(),
                            .units = model.units(scalar_type_of(compute_dtype_of(config.model)),
                                                 /*is_trained=*/true),
                            .users = model.parameters.units.users,
                            .num_ranks = options_.num_ranks,
                            .num_threads = at::get_num_threads()})
        .total();
  }

  double step_seconds(const RunConfig& config, const OpenedModel& model) const {
    const Decoder decoder(model.folder.config(), model.parameters.units);
    const double share =
        static_cast<double>(corpus_.num_targets()) / static_cast<double>(corpus_.num_tokens());
    const int64_t tokens = config.data.global_batch_rows * sequence_length_;
    const auto targets = static_cast<int64_t>(share * static_cast<double>(tokens));
    const double flop = linear_flop(decoder, config.method.has_adapter(), tokens, targets);
    return flop / (kShareOfProducts * limit_.flop_per_second * options_.num_ranks);
  }

  RecipeCandidate choose(const std::vector<RecipeCandidate>& candidates) {
    const auto fits = std::ranges::find(candidates, std::string(), &RecipeCandidate::problem);
    if (fits == candidates.end()) {
      throw ConfigError(concat("no method fits: ", candidates.back().problem, ", and ",
                               name_of(candidates.back().config.method.kind), " takes ",
                               readable_bytes(candidates.back().memory_bytes)),
                        "use more ranks, give them more memory, or take a smaller model");
    }
    RecipeCandidate chosen = *fits;
    const std::string why = fits == candidates.begin() ? "the best for data of this kind and size"
                                                       : "the best that fits into memory";
    say("choice", concat(name_of(chosen.config.method.kind), ": ", why));
    const std::string change = fit_time(chosen, facts_.num_rows, options_.hours);
    if (!change.empty()) say("time", change);
    say("steps", concat(chosen.num_steps, " of ", chosen.config.data.global_batch_rows, " rows, ",
                        duration_text(chosen.step_seconds), " each, ",
                        duration_text(3600.0 * chosen.hours()), " in all"));
    return chosen;
  }

  void write(const RecipeCandidate& chosen) {
    const std::string text = recipe_text(chosen.config, reasons_);
    parse_run_config(text, options_.output);  // What cannot be read is our bug, told here.
    write_file_atomically(options_.output, text, FilePurpose::kData);
    std::printf("%s is written; next: temper check %s --ranks %d\n", options_.output.c_str(),
                options_.output.c_str(), options_.num_ranks);
  }

  const RecipeOptions& options_;
  Corpus corpus_;
  ModelFacts model_facts_;
  std::optional<OpenedModel> model_;
  RecipeFacts facts_;
  int64_t sequence_length_ = 0;
  std::string holdout_;
  MatmulLimit limit_;
  std::vector<std::string> reasons_;
};

}  // namespace

int run_recipe(const RecipeOptions& options) { return Recipe(options).run(); }

}  // namespace temper

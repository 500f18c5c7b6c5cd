// SPDX-License-Identifier: Apache-2.0
#include "app/run_inputs.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <span>
#include <sstream>
#include <utility>

#include "app/launch_check.h"
#include "checkpoint/chat_template.h"
#include "checkpoint/four_bit/stored_format.h"
#include "checkpoint/peft/base_identity.h"
#include "checkpoint/together.h"
#include "comm/agree.h"
#include "comm/bytes.h"
#include "comm/watch_peers.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/message_text.h"
#include "data/row_source.h"
#include "data/token_bytes.h"
#include "io/shard_header.h"

namespace temper {
namespace {

using Use = ModelOpening::Use;

WeightForms accepted_forms(const RunConfig& config, Use use) {
  return config.method.kind == MethodOptions::Kind::kQlora || use != Use::kTraining
             ? WeightForms::kAny
             : WeightForms::kDense;
}

// How the blocks' matrices are kept in four bits: as the folder has them, or else as method qlora
// says; nothing if they are dense.
std::optional<QuantisationOptions> quantisation_of(const RunConfig& config,
                                                   const ModelFolder& folder) {
  const bool is_qlora = config.method.kind == MethodOptions::Kind::kQlora;
  if (!folder.quantisation()) return is_qlora ? std::optional(config.quantise) : std::nullopt;
  const QuantisationOptions& stored = *folder.quantisation();
  if (is_qlora && config.quantise != stored) {
    throw ConfigError(concat("quantise is ", describe(config.quantise), ", but the weights in ",
                             folder.path().string(), " are ", describe(stored)),
                      concat("set quantise: {type: ", name_of(stored.kind),
                             ", double: ", stored.is_double ? "true" : "false", "}"));
  }
  return stored;
}

std::optional<AdapterFolder> open_start(const MethodOptions& method, const ModelFolder& base) {
  if (method.start.empty()) return std::nullopt;
  std::optional<AdapterFolder> start(std::in_place, method.start, base);
  if (is_same_adapter(start->options(), method, base.config())) return start;
  throw ConfigError(
      concat("the adapter in ", method.start, " is one of method ", name_of(start->options().kind),
             ", or has other tensors or scales than the configuration says"),
      "set method and its options to those of the adapter's adapter_config.json");
}

// What is in four bits is not divided: it is frozen as a whole.
TrainedParameters parameters_of(const RunConfig& config, const OpenedModel& model) {
  const ModelFolder& folder = model.folder;
  if (config.method.has_adapter()) return {undivided(folder.units()), {}};
  TrainedParameters parameters = trained_parameters(
      {config.trained, config.groups, config.optimizer.learning_rate, config.train.layer_decay},
      folder.config());
  if (model.quantisation) parameters.units = undivided(folder.units());
  return parameters;
}

std::filesystem::path tokenizer_path(const RunConfig& config) {
  return std::filesystem::path(config.model.path) / "tokenizer.json";
}

// Each file of a corpus stays open.
void require_room_for(const ShardSet& set) {
  constexpr int64_t kOthers = 64;  // Of checkpoints and the like, opened later; arbitrary.
  const int64_t wanted = make_room_for_files(std::ssize(set.files) + kOthers);
  // Without all of the others it may do, too; if not, the one that lacks room says so.
  if (wanted == 0 || make_room_for_files(std::ssize(set.files)) == 0) return;
  throw DataError(concat(set.name, " has ", set.files.size(), " files, and this process may not ",
                         "have that many open"),
                  concat("raise the hard limit to ", wanted, " or more (ulimit -Hn), or prepare ",
                         "fewer, larger shards (shard_tokens)"));
}

// By what preparation says of it; `require_unseen` finds those that nothing is said of.
void require_no_holdout(const Corpus& corpus) {
  for (const Corpus::Part& part : corpus.parts()) {
    if (part.shard->header().side != "holdout") continue;
    throw DataError(concat("data.train names a hold-out: ", part.shard->path().string(),
                           " was made for evaluation, as its origin says"),
                    "name the training shards; to train on all documents, prepare them with "
                    "holdout.fraction: 0");
  }
}

// A model without a template is used with that of what it is trained on.
void set_templates(std::vector<std::string> sha256s, const RunConfig& config, ModelFacts& facts) {
  facts.adopts_template =
      config.data.chat_template == DataOptions::ChatTemplate::kShard || sha256s.empty();
  facts.template_sha256s = std::move(sha256s);
}

void require_steps_left(const TrainingPlan& plan) {
  const Origin& origin = plan.origin;
  if (origin.trajectory.empty() || plan.num_steps > origin.step) return;
  throw ConfigError(concat("the run has ", plan.num_steps, " steps in all, but ", origin.checkpoint,
                           ", from which it goes on, has done ", origin.step),
                    "raise train.max_steps or train.epochs, and list steps in continue.change");
}

}  // namespace

std::vector<StoredUnit> OpenedModel::units(at::ScalarType dtype, bool is_trained) const {
  return stored_units(parameters.units.layouts, layouts_of(adapter),
                      {dtype, is_trained, quantisation});
}

std::vector<UnitLayout> OpenedModel::saved_units() const {
  if (adapter) return units_in_files(*adapter);
  std::vector<UnitLayout> units = parameters.units.layouts;
  if (const auto passed = folder.passed_unit()) units.push_back(*passed);
  return units;
}

std::optional<OpenedModel> open_model(const RunConfig& config, const ModelOpening& opening,
                                      Findings& findings) {
  std::optional<OpenedModel> model;
  const auto open = [&] {
    model.emplace(
        OpenedModel{.folder = ModelFolder(config.model.path, accepted_forms(config, opening.use),
                                          opening.has_own_head)});
  };
  if (!findings.attempt(open)) return model;
  const ModelFolder& folder = model->folder;
  if (opening.use != Use::kGeneration) findings.add(validate_model(config, folder.config()));
  model->parameters.units = undivided(folder.units());
  findings.attempt([&] { model->quantisation = quantisation_of(config, folder); });
  findings.attempt([&] { model->parameters = parameters_of(config, *model); });
  findings.attempt([&] {
    model->adapter = make_adapter(config.method, folder.config());
    if (!model->adapter) return;
    model->start = open_start(config.method, folder);
    if (model->start && opening.samples_weights) require_same_base(model->start->path(), folder);
  });
  return model;
}

ModelFacts read_model_facts(const RunConfig& config) {
  ModelFacts facts{.tokenizer_sha256 = tokenizer_sha256_of(config.model.path),
                   .tokenizer = tokenizer_path(config)};
  if (config.data.chat_template == DataOptions::ChatTemplate::kAny) return facts;
  set_templates(chat_template_sha256s(config.model.path), config, facts);
  return facts;
}

ModelFacts find_model_facts(const RunConfig& config, const ModelFolder& folder,
                            Communicator& ranks) {
  std::string found;  // The tokenizer's digest and those of the templates, each with a space.
  do_on_rank_0(ranks, [&] {
    const ModelFacts facts = read_model_facts(config);
    found = *facts.tokenizer_sha256 + ' ';
    if (!facts.template_sha256s) return;
    for (const std::string& sha256 : *facts.template_sha256s) found += sha256 + ' ';
  });
  std::istringstream words(broadcast_text(ranks, found));
  ModelFacts facts{.vocab_size = folder.config().vocab_size,
                   .tokenizer_sha256 = "",
                   .tokenizer = tokenizer_path(config)};
  words >> *facts.tokenizer_sha256;
  if (config.data.chat_template == DataOptions::ChatTemplate::kAny) return facts;
  std::vector<std::string> template_sha256s;
  for (std::string sha256; words >> sha256;) template_sha256s.push_back(sha256);
  set_templates(std::move(template_sha256s), config, facts);
  return facts;
}

OnceForAll once_for(const MpiSession& session, Communicator& ranks) {
  return [&session, &ranks](const SharedFile& file, const auto& find) {
    require_same_fingerprints(session, ranks, {file.fingerprint}, file.path);
    std::vector<int64_t> numbers;
    do_on_rank_0(ranks, [&] { numbers = find(); });
    int64_t count = std::ssize(numbers);
    broadcast_bytes(ranks, std::as_writable_bytes(std::span(&count, 1)));
    numbers.resize(static_cast<size_t>(count));
    broadcast_bytes(ranks, std::as_writable_bytes(std::span(numbers)));
    return numbers;
  };
}

FindShards find_once(Communicator& ranks) {
  return [&ranks](const std::filesystem::path& path) {
    std::string found;  // Each path with a line feed, which no path of a configuration has.
    do_on_rank_0(ranks, [&] {
      for (const auto& file : find_shards(path).files) found += file.string() + '\n';
    });
    std::istringstream lines(broadcast_text(ranks, found));
    ShardSet set{path.string(), {}};
    for (std::string line; std::getline(lines, line);) set.files.emplace_back(line);
    return set;
  };
}

std::unique_ptr<const RowSource> open_rows(const RunConfig& config, const std::string& path,
                                           const ShardOpening& opening) {
  const ShardSet files = opening.find(path);
  require_room_for(files);
  return std::make_unique<const RowSource>(files, config.data.sequence_length, opening.model,
                                           opening.once);
}

TrainingShards training_shards_of(const Mixture::Sources& sources) {
  TrainingShards shards;
  for (const auto& source : sources) {
    if (source == nullptr) continue;
    for (const Corpus::Part& part : source->corpus().parts()) {
      shards.emplace(part.shard->header().fingerprint, part.shard->path());
    }
  }
  return shards;
}

TrainingShards find_training_shards(const RunConfig& config) {
  TrainingShards shards;
  for (const DataSource& source : config.data.sources) {
    try {
      for (const std::filesystem::path& path : find_shards(source.path).files) {
        const File file = File::open(path, FilePurpose::kData);
        shards.emplace(read_shard_header(file).fingerprint, path);
      }
    } catch (const DataError&) {
      continue;  // Whoever evaluates need not have what was trained on.
    }
  }
  return shards;
}

void require_unseen(const Corpus& holdout, const TrainingShards& trained) {
  for (const Corpus::Part& part : holdout.parts()) {
    const auto same = trained.find(part.shard->header().fingerprint);
    if (same == trained.end()) continue;
    const std::string path = part.shard->path().string();
    const std::string other = same->second.string();
    throw DataError(concat("data.holdout names what is trained on: ", path,
                           path == other ? "" : concat(" has the content of ", other),
                           path == other ? " is in" : ", which is in", " data.train, too"),
                    "name shards that are not trained on, such as those that holdout.fraction sets "
                    "aside in preparation");
  }
}

HoldOutRows open_holdouts(const RunConfig& config, const ShardOpening& opening) {
  HoldOutRows holdouts;
  for (const HoldOutOptions& options : config.holdouts) {
    holdouts.push_back(std::make_shared<const EvaluationRows>(
        open_rows(config, options.path, opening), config.data.micro_batch_rows));
  }
  return holdouts;
}

std::shared_ptr<const std::vector<int64_t>> find_token_bytes(const ShardOpening& opening) {
  const ModelFacts& model = opening.model;
  const std::string path = model.tokenizer.string();
  return std::make_shared<const std::vector<int64_t>>(opening.once(
      {path, *model.tokenizer_sha256}, [&] { return read_token_bytes(path, *model.vocab_size); }));
}

std::vector<HoldOut> to_holdouts(const RunConfig& config, const HoldOutRows& opened,
                                 std::shared_ptr<const std::vector<int64_t>> token_bytes) {
  const int64_t micro_batch_rows = config.data.micro_batch_rows;
  std::vector<HoldOut> holdouts;
  for (size_t k = 0; k < opened.size(); ++k) {
    const HoldOutOptions& options = config.holdouts[k];
    const std::shared_ptr<const EvaluationRows>& rows = opened[k];
    int64_t num_micro_batches = rows->num_micro_batches();
    if (options.max_rows > 0) {
      const int64_t wanted = (options.max_rows + micro_batch_rows - 1) / micro_batch_rows;
      num_micro_batches = std::min(num_micro_batches, wanted);
    }
    holdouts.push_back({.name = options.name,
                        .num_micro_batches = num_micro_batches,
                        .micro_batch = [rows](int64_t index) { return rows->micro_batch(index); },
                        .is_general = options.role == HoldOutOptions::Role::kGeneral,
                        .num_documents = rows->corpus().num_documents(),
                        .token_bytes = token_bytes,
                        .sources = rows->corpus().files_told_apart()});
  }
  return holdouts;
}

std::vector<SourceUse> source_uses(const TrainingPlan& plan, const RunConfig& config) {
  std::vector<SourceUse> result;
  const int64_t num_steps = plan.num_steps - plan.origin.data_step;
  const auto uses = plan.mixture.use_of(num_steps * config.data.global_batch_rows);
  for (size_t k = 0; k < uses.size(); ++k) {
    const Corpus& corpus = plan.mixture.sources()[k]->corpus();
    result.push_back({.path = corpus.name(),
                      .fingerprint = corpus.fingerprint(),
                      .share = uses[k].share,
                      .num_tokens = std::llround(uses[k].tokens),
                      .epochs = uses[k].passes});
  }
  return result;
}

std::string describe(const SourceUse& use) {
  std::ostringstream text;
  text.precision(4);
  text << use.path << ": " << 100.0 * use.share << " % of the tokens, "
       << readable_count(use.num_tokens) << ", " << use.epochs << " epochs";
  return text.str();
}

std::optional<TrainingPlan> plan_training(const RunConfig& config, int num_ranks,
                                          const Origin& origin, Mixture::Sources sources,
                                          Findings& findings) {
  findings.add(validate_ranks(config, num_ranks));
  for (const auto& source : sources) {
    if (source) findings.attempt([&] { require_no_holdout(source->corpus()); });
  }
  const bool is_complete =
      std::ranges::all_of(sources, [](const auto& source) { return source != nullptr; });
  if (sources.empty() || !is_complete) return std::nullopt;
  std::optional<TrainingPlan> plan;
  findings.attempt([&] {
    Mixture mixture(config.data, std::move(sources));
    // Epochs are those of the data that the run has now.
    const int64_t num_before = config.train.max_steps > 0 ? 0 : origin.data_step;
    const int64_t num_steps = num_before + num_steps_of(config, mixture.rows_per_epoch());
    plan.emplace(TrainingPlan{std::move(mixture), num_steps, origin});
  });
  if (!plan) return plan;
  findings.attempt([&] { require_steps_left(*plan); });
  // What is set by max_steps was checked when the configuration was read.
  if (config.train.max_steps > 0 && origin.schedule_step == 0) return plan;
  if (plan->num_steps > origin.schedule_step) {
    findings.add(validate_steps(config, plan->num_steps - origin.schedule_step));
  }
  return plan;
}

TrainingPlan open_training(const RunConfig& config, int num_ranks, const Origin& origin,
                           const ShardOpening& opening) {
  Mixture::Sources sources;
  for (const DataSource& source : config.data.sources) {
    sources.push_back(open_rows(config, source.path, opening));
  }
  Findings findings;
  std::optional<TrainingPlan> plan =
      plan_training(config, num_ranks, origin, std::move(sources), findings);
  findings.throw_if_any();
  return std::move(*plan);
}

TrajectoryFacts trajectory_facts(const RunConfig& config, const OpenedModel& model,
                                 const TrainingPlan& plan, int world_size) {
  TrajectoryFacts facts{.model_fingerprint = model.folder.fingerprint(),
                        .num_steps = plan.num_steps,
                        .compute_dtype = compute_dtype_of(config.model),
                        .world_size = world_size,
                        .origin_trajectory = plan.origin.trajectory,
                        .origin_step = plan.origin.step};
  if (model.start) facts.start_fingerprint = model.start->fingerprint();
  for (const auto& source : plan.mixture.sources()) {
    facts.data_fingerprints.push_back(source->corpus().fingerprint());
  }
  return facts;
}

std::string start_model_sha256(const RunConfig& config, const OpenedModel& model) {
  return config.train.needs_start() ? sampled_sha256(model.folder.weights()) : std::string();
}

}  // namespace temper

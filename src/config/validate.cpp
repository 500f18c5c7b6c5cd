// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <utility>

#include "config/run_config.h"
#include "core/concat.h"

namespace temper {
namespace {

using Shape = ScheduleOptions::Shape;
using Problems = std::vector<Problem>;

void check_length(const TrainOptions& train, Problems& problems) {
  const std::vector<std::string> keys = {"train.max_steps", "train.epochs"};
  if (train.max_steps > 0 && train.epochs > 0.0) {
    problems.push_back({concat("train.max_steps is ", train.max_steps, " and train.epochs is ",
                               train.epochs, ": both set the end of the run"),
                        "keep one of them (0 counts as not set)", keys});
  } else if (train.max_steps == 0 && train.epochs == 0.0) {
    problems.push_back({"neither train.max_steps nor train.epochs is set: the run has no end",
                        "set one of them", keys});
  }
}

void check_batches(const DataOptions& data, Problems& problems) {
  if (data.global_batch_rows % data.micro_batch_rows == 0) return;
  const int64_t micro = data.micro_batch_rows;
  const int64_t below = data.global_batch_rows / micro * micro;
  const std::string batches = below == 0 ? concat(micro) : concat(below, " or ", below + micro);
  problems.push_back({concat("data.global_batch is ", data.global_batch_rows,
                             " rows, which data.micro_batch of ", micro, " rows does not divide"),
                      concat("set data.global_batch to ", batches, ", or data.micro_batch to ",
                             nearest_divisors(data.global_batch_rows, micro)),
                      {"data.global_batch", "data.micro_batch"}});
}

void check_sources(const RunConfig& config, Problems& problems) {
  if (config.data.sources.empty()) {
    problems.push_back({"data.train names no token shard",
                        "list one or more: data: {train: [{path: shard.h5}]}",
                        {"data.train"}});
  }
  std::set<std::string> paths;
  for (const auto& source : config.data.sources) {
    if (source.path.empty() || paths.insert(source.path).second) continue;
    problems.push_back({concat("data.train lists ", quote(source.path), " twice"),
                        "list it once, with the sum of the weights or epochs",
                        {"data.train"}});
  }
  std::set<std::string> names;
  for (const HoldOutOptions& holdout : config.holdouts) {
    if (holdout.name.empty() || names.insert(holdout.name).second) continue;
    problems.push_back({concat("data.holdout has the name ", quote(holdout.name), " twice"),
                        "give each hold-out a name of its own",
                        {"data.holdout"}});
  }
}

void check_mixture(const DataOptions& data, Problems& problems) {
  const auto first_without = std::ranges::find(data.sources, 0.0, &DataSource::weight);
  const auto num_without = std::ranges::count(data.sources, 0.0, &DataSource::weight);
  const bool has_weights = num_without < std::ssize(data.sources);
  if (has_weights && num_without > 0) {
    problems.push_back({concat("data.train[", first_without - data.sources.begin(),
                               "] has no weight, but other sources have one"),
                        "give each source a weight, or none: then they weigh by their tokens",
                        {"data.train"}});
  }
  for (size_t k = 0; k < data.sources.size(); ++k) {
    const DataSource& source = data.sources[k];
    if (source.weight == 0.0 || (source.epochs == 1.0 && source.max_tokens == 0)) continue;
    problems.push_back(
        {concat("data.train[", k, "].", source.epochs != 1.0 ? "epochs" : "max_tokens",
                " has no effect: the weight sets what is used of the source"),
         "leave out the weights of all sources, or this",
         {"data.train"}});
  }
  if (data.mixture.temperature == 1.0) return;
  if (has_weights || data.sources.size() == 1) {
    problems.push_back({concat("data.mixture.temperature has no effect: ",
                               has_weights ? "the sources of data.train have weights"
                                           : "data.train has one source"),
                        has_weights ? "leave out the weights, or this" : "leave it out",
                        {"data.mixture.temperature", "data.train"}});
  }
}

void check_schedule(const ScheduleOptions& schedule, Problems& problems) {
  const ScheduleOptions defaults;
  if (schedule.warmup_steps > 0 && schedule.warmup_ratio > 0.0) {
    problems.push_back(
        {concat("schedule.warmup_steps is ", schedule.warmup_steps,
                " and schedule.warmup_ratio is ", schedule.warmup_ratio, ": both set the warm-up"),
         "keep one of them (0 counts as not set)",
         {"schedule.warmup_steps", "schedule.warmup_ratio"}});
  }
  if (schedule.shape != Shape::kWsd && schedule.decay_ratio != defaults.decay_ratio) {
    problems.push_back({"schedule.decay_ratio has no effect: only the schedule wsd has a decay",
                        "leave it out, or set schedule.name to wsd",
                        {"schedule.decay_ratio", "schedule.name"}});
  }
  if (schedule.shape == Shape::kConstant && schedule.floor_ratio > 0.0) {
    problems.push_back({"schedule.floor_ratio has no effect: the schedule constant never falls",
                        "leave it out, or set schedule.name to linear, cosine or wsd",
                        {"schedule.floor_ratio", "schedule.name"}});
  }
  if (schedule.shape == Shape::kWsd && schedule.warmup_ratio + schedule.decay_ratio > 1.0) {
    problems.push_back(
        {concat("schedule.warmup_ratio of ", schedule.warmup_ratio, " and schedule.decay_ratio of ",
                schedule.decay_ratio, " are more than the whole run"),
         "set them to a sum of at most 1",
         {"schedule.warmup_ratio", "schedule.decay_ratio"}});
  }
}

void check_method(const RunConfig& config, Problems& problems) {
  using Kind = MethodOptions::Kind;
  const MethodOptions& method = config.method;
  const auto check_section = [&](const std::string& name, bool is_used, bool is_set) {
    if (is_used || !is_set) return;
    problems.push_back(
        {concat("the options under ", name, " have no effect: method is ", name_of(method.kind)),
         "set method to one that uses them, or leave them out",
         {"method", name}});
  };
  const bool is_qlora = method.kind == Kind::kQlora;
  check_section("lora", method.is_lora(), method.lora != LoraOptions());
  check_section("quantise", is_qlora, config.quantise != QuantisationOptions());
  check_section("prefix", method.kind == Kind::kPrefix, method.prefix != PrefixOptions());
  check_section("bottleneck", method.kind == Kind::kBottleneck,
                method.bottleneck != BottleneckOptions());
  check_section("prompt", method.kind == Kind::kPrompt, method.prompt != PromptOptions());
  if (!method.start.empty() && !method.has_adapter()) {
    problems.push_back({"adapter.start has no effect: method is full",
                        "set method to that of the adapter, or leave it out",
                        {"method", "adapter.start"}});
  }
  if (method.kind == Kind::kPrefix && method.prefix.projection > 0 && !method.start.empty()) {
    problems.push_back(
        {"prefix.projection is set, but an adapter has only what was computed by one",
         "set prefix.projection to 0, or begin without adapter.start",
         {"prefix.projection", "adapter.start"}});
  }
  if (method.has_adapter() && config.model.end_of_turn == ModelOptions::EndOfTurn::kAdd) {
    problems.push_back({"model.end_of_turn is add, but an adapter has the end tokens of its base",
                        "leave it out, and add the token to eos_token_id in the base's "
                        "generation_config.json",
                        {"model.end_of_turn", "method"}});
  }
  const LoraOptions& lora = method.lora;
  if (method.is_lora() && lora.init == LoraOptions::Init::kPrincipal) {
    if (is_qlora) {
      problems.push_back({"lora.init is pissa, but a matrix in four bits is not decomposed",
                          "set method to lora, or lora.init to kaiming",
                          {"method", "lora.init"}});
    }
    if (!method.start.empty()) {
      problems.push_back({"lora.init is pissa, but an adapter to begin with has its values already",
                          "leave lora.init out: what was published after PiSSA is a LoRA of twice "
                          "the rank; or begin without adapter.start",
                          {"lora.init", "adapter.start"}});
    }
  }
  if (lora.pissa_iterations > 0 && lora.init != LoraOptions::Init::kPrincipal) {
    problems.push_back({concat("lora.pissa_niter has no effect: lora.init is ", name_of(lora.init)),
                        "set lora.init to pissa, or leave it out",
                        {"lora.pissa_niter", "lora.init"}});
  }
  if (lora.targets.empty() && lora.target_pattern.empty()) {
    problems.push_back({"lora.targets is empty: nothing would be trained",
                        "list modules such as q_proj, or all-linear",
                        {"lora.targets"}});
  }
}

// Which parameters they mean, the model says.
void check_parameters(const RunConfig& config, Problems& problems) {
  const MethodOptions& method = config.method;
  const auto check_key = [&](const std::string& key, bool is_set) {
    if (!is_set || !method.has_adapter()) return;
    problems.push_back({concat(key, " has no effect: method is ", name_of(method.kind),
                               ", which trains its own tensors alone"),
                        "set method to full, or leave it out",
                        {"method", key}});
  };
  check_key("train.only", !config.trained.only.empty());
  check_key("train.freeze", !config.trained.freeze.empty());
  check_key("optimizer.groups", !config.groups.empty());
  for (size_t i = 0; i < config.groups.size(); ++i) {
    const ParameterGroup& group = config.groups[i];
    const auto refuse = [&](const std::string& what, const std::string& remedy) {
      problems.push_back({concat("optimizer.groups[", i, "]", what), remedy, {"optimizer.groups"}});
    };
    if (group.match.empty()) {
      refuse(".match names no parameters", "list patterns: match: [embedding, layers.0-3]");
    }
    const bool has_rate = group.learning_rate > 0.0, has_ratio = group.learning_rate_ratio > 0.0;
    if (has_rate && has_ratio) {
      refuse(" has learning_rate and learning_rate_ratio: both set its rate", "keep one of them");
    }
    if (!has_rate && !has_ratio && !group.weight_decay) {
      refuse(" changes nothing",
             "give it learning_rate, learning_rate_ratio or weight_decay, or remove it");
    }
  }
}

constexpr int64_t kCountedSteps = int64_t{1} << 61;  // Two of them can be added.

// Steps of a run in which the rate rises and falls; each at most kCountedSteps.
struct StepParts {
  int64_t warmup = 0;
  int64_t decay = 0;

  int64_t total() const { return warmup + decay; }
};

StepParts parts_of(const ScheduleOptions& schedule, int64_t num_steps) {
  const auto share = [&](double ratio) {
    const double steps = std::ceil(static_cast<double>(num_steps) * ratio);
    return static_cast<int64_t>(std::min(steps, static_cast<double>(kCountedSteps)));
  };
  return {schedule.warmup_steps > 0 ? std::min(schedule.warmup_steps, kCountedSteps)
                                    : share(schedule.warmup_ratio),
          schedule.shape == Shape::kWsd ? share(schedule.decay_ratio) : 0};
}

// The length of a run from which on the parts fit; they may grow with it. Nothing if they never do.
std::optional<int64_t> fewest_steps(const ScheduleOptions& schedule, int64_t too_few) {
  constexpr int kMostTries = 1000;  // Arbitrary: enough for shares of up to 98 %.
  int64_t num_steps = too_few;
  for (int k = 0; k < kMostTries; ++k) {
    const int64_t wanted = parts_of(schedule, num_steps).total();
    if (wanted >= kCountedSteps) break;
    if (wanted <= num_steps) return num_steps;
    num_steps = wanted;
  }
  return std::nullopt;
}

void check_parallel(const ZeroOptions& parallel, Problems& problems) {
  if (parallel.reduction == Reduction::kExact || parallel.stage < 2) return;
  problems.push_back({concat("parallel.reduction is fast at parallel.stage ", parallel.stage,
                             ", where each micro-batch's gradients have to be exchanged: it would "
                             "move no fewer bytes than exact"),
                      "set parallel.stage to 0 or 1, or parallel.reduction to exact",
                      {"parallel.reduction", "parallel.stage"}});
}

// What is kept in fewer bits, or in a file, is updated by functions for the CPU.
void check_optimizer_state(const RunConfig& config, Problems& problems) {
  if (config.model.device == ModelOptions::Device::kCpu) return;
  const auto add = [&](const char* option, const char* value) {
    problems.push_back(
        {concat("optimizer.", option, " is set, but model.device is cuda"),
         concat("leave it out, or set it to ", value, ": it is for model.device cpu"),
         {concat("optimizer.", option), "model.device"}});
  };
  if (config.optimizer.state_dtype != MomentDtype::kFloat32) add("state_dtype", "float32");
  if (!config.optimizer.offload.empty()) add("offload", "\"\"");
}

void check_continuation(const ContinueOptions& continuation, Problems& problems) {
  if (!continuation.from.empty() || continuation.change.empty()) return;
  problems.push_back({"continue.change lists what changes, but continue.from names no checkpoint",
                      "set continue.from to the folder of the checkpoint to go on from",
                      {"continue.change", "continue.from"}});
}

void append(const Problems& more, Problems& problems) {
  problems.insert(problems.end(), more.begin(), more.end());
}

}  // namespace

Problems validate(const RunConfig& config) {
  Problems problems;
  check_sources(config, problems);
  check_mixture(config.data, problems);
  check_batches(config.data, problems);
  check_length(config.train, problems);
  check_schedule(config.schedule, problems);
  check_method(config, problems);
  check_parameters(config, problems);
  append(validate_evaluation(config), problems);
  append(validate_forgetting(config), problems);
  check_parallel(config.parallel, problems);
  check_optimizer_state(config, problems);
  check_continuation(config.continuation, problems);
  if (config.train.max_steps > 0) append(validate_steps(config, config.train.max_steps), problems);
  return problems;
}

Problems validate_ranks(const RunConfig& config, int world_size) {
  const int64_t num_micro_batches = config.data.num_micro_batches();
  if (num_micro_batches >= world_size) return {};
  const int64_t micro = config.data.micro_batch_rows;
  return {{concat("data.global_batch of ", config.data.global_batch_rows, " rows is ",
                  num_micro_batches, " micro-batches of ", micro, ", fewer than ", world_size,
                  " ranks"),
           concat("set data.global_batch to ", micro * world_size, ", or start at most ",
                  num_micro_batches, " ranks"),
           {"data.global_batch", "data.micro_batch"}}};
}

Problems validate_steps(const RunConfig& config, int64_t num_steps) {
  const ScheduleOptions& schedule = config.schedule;
  const StepParts parts = parts_of(schedule, num_steps);
  if (parts.total() <= num_steps) return {};
  const std::string with_decay =
      parts.decay > 0 ? concat(" and the decay of ", parts.decay, " steps") : std::string();
  std::string remedy = schedule.warmup_steps > 0
                           ? concat("set schedule.warmup_steps to at most ",
                                    std::max<int64_t>(0, num_steps - parts.decay))
                           : concat("lower schedule.warmup_ratio",
                                    parts.decay > 0 ? " or schedule.decay_ratio" : "");
  if (const auto enough = fewest_steps(schedule, num_steps)) {
    remedy += concat(", or train for ", *enough, " steps");
  }
  return {{concat("the warm-up of ", parts.warmup, " steps", with_decay,
                  " cannot fit into the run of ", num_steps, " steps"),
           std::move(remedy),
           {"schedule.warmup_steps", "schedule.warmup_ratio", "schedule.decay_ratio",
            "train.max_steps", "train.epochs"}}};
}

Problems validate_model(const RunConfig& config, const ModelConfig& model) {
  constexpr int64_t kShortestRow = 2;  // A token, and the one that it predicts.
  const int64_t before = config.method.num_virtual_tokens();
  if (before + config.data.sequence_length <= model.max_positions) return {};
  const std::string with =
      before > 0 ? concat(" with ", before, " virtual tokens before") : std::string();
  Problem problem{concat("data.sequence_length is ", config.data.sequence_length, with,
                         ", but the model knows only ", model.max_positions, " positions"),
                  concat("set data.sequence_length to at most ", model.max_positions - before),
                  {"data.sequence_length"}};
  const int64_t most_before = model.max_positions - kShortestRow;
  if (before > most_before) {
    problem.remedy = most_before > 0 && before > 0
                         ? concat("set ", name_of(config.method.kind), ".tokens to at most ",
                                  most_before, ", and data.sequence_length so that both fit")
                         : std::string("use a model that knows more positions");
  }
  return {std::move(problem)};
}

int64_t num_steps_of(const RunConfig& config, int64_t rows_per_epoch) {
  if (config.train.max_steps > 0) return config.train.max_steps;
  const double rows = config.train.epochs * static_cast<double>(rows_per_epoch);
  const double steps = std::ceil(rows / static_cast<double>(config.data.global_batch_rows));
  return std::max<int64_t>(1, static_cast<int64_t>(steps));
}

std::string nearest_divisors(int64_t total, int64_t wanted) {
  int64_t below = 1;
  int64_t above = 0;
  for (int64_t divisor = 1; divisor <= total && above == 0; ++divisor) {
    if (total % divisor != 0) continue;
    if (divisor <= wanted) below = divisor;
    if (divisor > wanted) above = divisor;
  }
  if (below == wanted || above == 0) return concat(below);
  return concat(below, " or ", above);
}

}  // namespace temper

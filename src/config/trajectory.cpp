// SPDX-License-Identifier: Apache-2.0
#include "config/trajectory.h"

#include <map>
#include <sstream>
#include <stdexcept>

#include "checkpoint/four_bit/stored_format.h"
#include "config/number.h"
#include "core/concat.h"
#include "core/hash.h"

namespace temper {
namespace {

class Lines {
 public:
  void add(const std::string& key, const std::string& value) { text_ += key + "=" + value + "\n"; }
  void add(const std::string& key, int64_t value) { add(key, std::to_string(value)); }
  void add(const std::string& key, double value) { add(key, shortest_text(value)); }

  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// What is alone has all, and its weight was 1 before there were sources without one; so is what
// was not known then in the text only where it is set.
void add_share(const std::string& name, const DataSource& source, bool is_alone, Lines& lines) {
  if (source.weight > 0.0 || is_alone) {
    lines.add(name + ".weight", source.weight > 0.0 ? source.weight : 1.0);
  } else {
    lines.add(name + ".weight", std::string("by tokens"));
  }
  if (source.epochs != 1.0) lines.add(name + ".epochs", source.epochs);
  if (source.max_tokens > 0) lines.add(name + ".max_tokens", source.max_tokens);
}

void add_data(const DataOptions& data, const TrajectoryFacts& facts, Lines& lines) {
  for (size_t i = 0; i < data.sources.size(); ++i) {
    const std::string name = concat("data.train[", i, "]");
    lines.add(name, facts.data_fingerprints[i]);
    add_share(name, data.sources[i], data.sources.size() == 1, lines);
  }
  const double temperature = data.mixture.temperature;
  if (temperature != 1.0) lines.add("data.mixture.temperature", temperature);
  lines.add("data.sequence_length", data.sequence_length);
  lines.add("data.global_batch", data.global_batch_rows);
  lines.add("data.micro_batch", data.micro_batch_rows);
  lines.add("data.seed", static_cast<int64_t>(data.seed));
}

void add_trained(const TrainedOptions& trained, Lines& lines) {
  if (!trained.only.empty()) lines.add("train.only", joined(trained.only));
  if (!trained.freeze.empty()) lines.add("train.freeze", joined(trained.freeze));
}

// Those which are not set are not in the text, as before they were known.
void add_against_forgetting(const TrainOptions& train, const TrajectoryFacts& facts, Lines& lines) {
  if (train.layer_decay != 1.0) lines.add("train.layer_decay", train.layer_decay);
  if (train.l2_sp > 0.0) lines.add("train.l2_sp", train.l2_sp);
  if (train.ema_decay > 0.0) lines.add("train.ema.decay", train.ema_decay);
  if (train.kl.is_on()) {
    lines.add("train.kl.weight", train.kl.weight);
    lines.add("train.kl.temperature", train.kl.temperature);
  }
  if (train.needs_start()) lines.add("train.start", facts.start_model_sha256);
}

void add_groups(const std::vector<ParameterGroup>& groups, Lines& lines) {
  for (size_t i = 0; i < groups.size(); ++i) {
    const std::string name = concat("optimizer.groups[", i, "]");
    lines.add(name + ".match", joined(groups[i].match));
    const auto add = [&](const char* key, double value) {
      if (value != 0.0) lines.add(name + key, value);
    };
    add(".learning_rate", groups[i].learning_rate);
    add(".learning_rate_ratio", groups[i].learning_rate_ratio);
    if (groups[i].weight_decay) lines.add(name + ".weight_decay", *groups[i].weight_decay);
  }
}

void add_optimizer(const AdamWOptions& optimizer, Lines& lines) {
  lines.add("optimizer.learning_rate", optimizer.learning_rate);
  lines.add("optimizer.beta1", optimizer.beta1);
  lines.add("optimizer.beta2", optimizer.beta2);
  lines.add("optimizer.epsilon", optimizer.epsilon);
  lines.add("optimizer.weight_decay", optimizer.weight_decay);
  if (optimizer.state_dtype != MomentDtype::kFloat32) {
    const bool is_int8 = optimizer.state_dtype == MomentDtype::kInt8;
    lines.add("optimizer.state_dtype", std::string(is_int8 ? "int8" : "bfloat16"));
  }
}

std::string name_of(ScheduleOptions::Shape shape) {
  switch (shape) {
    case ScheduleOptions::Shape::kConstant: return "constant";
    case ScheduleOptions::Shape::kLinear: return "linear";
    case ScheduleOptions::Shape::kCosine: return "cosine";
    case ScheduleOptions::Shape::kWsd: return "wsd";
  }
  throw std::logic_error("a schedule without a name");
}

void add_schedule(const ScheduleOptions& schedule, Lines& lines) {
  lines.add("schedule.name", name_of(schedule.shape));
  lines.add("schedule.warmup_steps", schedule.warmup_steps);
  lines.add("schedule.warmup_ratio", schedule.warmup_ratio);
  lines.add("schedule.floor_ratio", schedule.floor_ratio);
  lines.add("schedule.decay_ratio", schedule.decay_ratio);
}

std::string joined_numbers(const std::vector<int64_t>& numbers) {
  std::vector<std::string> texts;
  for (const int64_t number : numbers) texts.push_back(std::to_string(number));
  return joined(texts);
}

void add_lora(const LoraOptions& lora, Lines& lines) {
  lines.add("lora.rank", lora.rank);
  lines.add("lora.alpha", lora.alpha);
  lines.add("lora.dropout", lora.dropout);
  lines.add("lora.targets", joined(lora.targets));
  lines.add("lora.target_pattern", lora.target_pattern);
  lines.add("lora.layers", joined_numbers(lora.layers));
  for (const auto& one : lora.rank_pattern) lines.add("lora.rank of " + one.module, one.rank);
  for (const auto& one : lora.alpha_pattern) lines.add("lora.alpha of " + one.module, one.alpha);
  lines.add("lora.use_rslora", static_cast<int64_t>(lora.uses_rslora));
  lines.add("lora.plus_ratio", lora.plus_ratio);
  lines.add("lora.use_dora", static_cast<int64_t>(lora.uses_dora));
  lines.add("lora.init", std::string(name_of(lora.init)));
  if (lora.pissa_iterations > 0) lines.add("lora.pissa_niter", lora.pissa_iterations);
  lines.add("lora.modules_to_save", joined(lora.saved.modules));
  lines.add("lora.trainable_tokens", joined_numbers(lora.saved.tokens));
  lines.add("lora.train_head_rows", static_cast<int64_t>(lora.saved.trains_head_rows));
}

void add_method(const RunConfig& config, const TrajectoryFacts& facts, Lines& lines) {
  using Kind = MethodOptions::Kind;
  const MethodOptions& method = config.method;
  if (!method.has_adapter()) return;
  lines.add("method", name_of(method.kind));
  lines.add("adapter.start", facts.start_fingerprint);
  lines.add("adapter.seed", method.seed);
  if (method.is_lora()) add_lora(method.lora, lines);
  if (method.kind == Kind::kQlora) {
    lines.add("quantise.type", name_of(config.quantise.kind));
    lines.add("quantise.double", static_cast<int64_t>(config.quantise.is_double));
  }
  if (method.kind == Kind::kPrefix) {
    lines.add("prefix.tokens", method.prefix.num_tokens);
    lines.add("prefix.deviation", method.prefix.deviation);
    lines.add("prefix.projection", method.prefix.projection);
  }
  if (method.kind == Kind::kBottleneck) {
    lines.add("bottleneck.name", method.bottleneck.name);
    lines.add("bottleneck.placement",
              std::string(method.bottleneck.is_houlsby() ? "houlsby" : "pfeiffer"));
    lines.add("bottleneck.reduction_factor", method.bottleneck.reduction_factor);
    lines.add("bottleneck.activation", std::string(name_of(method.bottleneck.function())));
  }
  if (method.kind == Kind::kPrompt) {
    lines.add("prompt.tokens", method.prompt.num_tokens);
    lines.add("prompt.init", static_cast<int64_t>(method.prompt.init));
    lines.add("prompt.token_ids", joined_numbers(method.prompt.token_ids));
  }
}

void add_parallel(const ZeroOptions& parallel, int world_size, Lines& lines) {
  if (parallel.reduction == Reduction::kExact) {
    lines.add("parallel.reduction", std::string("exact"));
    return;
  }
  lines.add("parallel.reduction", std::string("fast"));
  lines.add("ranks", static_cast<int64_t>(world_size));
}

// The aspects in one order, whatever that of the configuration.
std::string changed_aspects(const ContinueOptions& continuation) {
  std::vector<std::string> aspects;
  for (const std::string_view aspect : kChangeableAspects) {
    if (continuation.changes(aspect)) aspects.emplace_back(aspect);
  }
  return joined(aspects);
}

void add_origin(const RunConfig& config, const TrajectoryFacts& facts, Lines& lines) {
  if (facts.origin_trajectory.empty()) return;
  lines.add("continue.trajectory", facts.origin_trajectory);
  lines.add("continue.step", facts.origin_step);
  lines.add("continue.change", changed_aspects(config.continuation));
}

std::string_view aspect_of(const std::string& key) {
  if (key == "steps" || key == "train.epochs") return "steps";
  if (key.starts_with("schedule.")) return "schedule";
  const bool is_rate = key == "train.max_grad_norm" || key == "train.layer_decay";
  if (key.starts_with("optimizer.") || is_rate) return "optimizer";
  if (key.starts_with("continue.")) return kOriginAspect;
  return key.starts_with("data.") ? "data" : "";
}

std::map<std::string, std::string> values_of(const std::string& text) {
  std::map<std::string, std::string> values;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const size_t equals = line.find('=');
    if (equals != std::string::npos) values[line.substr(0, equals)] = line.substr(equals + 1);
  }
  return values;
}

// The trajectory's text with the options themselves in the place of what is found out at the start.
std::string own_text(const RunConfig& config) {
  TrajectoryFacts facts{.model_fingerprint = config.model.path,
                        .start_fingerprint = config.method.start,
                        .num_steps = config.train.max_steps,
                        .compute_dtype = compute_dtype_of(config.model)};
  for (const auto& source : config.data.sources) facts.data_fingerprints.push_back(source.path);
  return trajectory_text(config, facts) +
         concat("train.epochs=", config.train.epochs, "\ncontinue.from=", config.continuation.from,
                "\ncontinue.change=", changed_aspects(config.continuation), "\n");
}

}  // namespace

std::string trajectory_text(const RunConfig& config, const TrajectoryFacts& facts) {
  if (facts.data_fingerprints.size() != config.data.sources.size()) {
    throw std::invalid_argument("a trajectory needs one fingerprint per data source");
  }
  const bool is_gpu = config.model.device == ModelOptions::Device::kCuda;
  Lines lines;
  lines.add("model", facts.model_fingerprint);
  lines.add("model.dtype", name_of(facts.compute_dtype));
  lines.add("model.device", std::string(is_gpu ? "cuda" : "cpu"));
  add_method(config, facts, lines);
  add_data(config.data, facts, lines);
  lines.add("steps", facts.num_steps);
  lines.add("train.max_grad_norm", config.train.max_grad_norm);
  add_trained(config.trained, lines);
  add_against_forgetting(config.train, facts, lines);
  add_optimizer(config.optimizer, lines);
  add_groups(config.groups, lines);
  add_schedule(config.schedule, lines);
  add_parallel(config.parallel, facts.world_size, lines);
  add_origin(config, facts, lines);
  return lines.text();
}

std::string trajectory_digest(const std::string& text) { return to_hex(sha256(text)); }

std::vector<TrajectoryChange> trajectory_changes(const std::string& before,
                                                 const std::string& now) {
  const auto old_values = values_of(before);
  const auto new_values = values_of(now);
  std::vector<TrajectoryChange> changes;
  const auto add = [&](const std::string& key, const std::string& text) {
    changes.push_back({aspect_of(key), text});
  };
  for (const auto& [key, value] : new_values) {
    const auto old = old_values.find(key);
    if (old == old_values.end()) {
      add(key, concat(key, " was not set and is ", value));
    } else if (old->second != value) {
      add(key, concat(key, " was ", old->second, " and is ", value));
    }
  }
  for (const auto& [key, value] : old_values) {
    if (!new_values.contains(key)) add(key, concat(key, " was ", value));
  }
  return changes;
}

std::string explain_other_trajectory(const std::string& stored_yaml, const RunConfig& now) {
  const RunConfig before = parse_run_config(stored_yaml, "the checkpoint's configuration");
  std::vector<std::string> changes;
  for (const auto& change : trajectory_changes(own_text(before), own_text(now))) {
    changes.push_back(change.text);
  }
  if (!changes.empty()) return joined(changes);
  return "no option has changed: the model's weights, the training shards or how they are cut "
         "into files, the kind of processor, the number of ranks of a fast reduction or the "
         "checkpoint that continue.from names have";
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "app/result_record.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <optional>

#include "checkpoint/companion_files.h"
#include "core/concat.h"
#include "io/json.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

// What metrics.jsonl has of the steps up to one.
struct History {
  Json run;                 // The last line of what holds for all steps; null: none.
  std::vector<Json> lines;  // Of steps and evaluations, in the order of the file.
};

double number_at(const Json& line, const char* key) {
  return line.contains(key) && line[key].is_number() ? line[key].get<double>() : 0.0;
}

std::string string_at(const Json& line, const char* key) {
  return line.contains(key) && line[key].is_string() ? line[key].get<std::string>() : "";
}

std::optional<double> loss_at(const Json& line, const char* key) {
  if (!line.contains(key) || !line[key].is_number()) return {};
  return line[key].get<double>();
}

History read_history(const fs::path& path, int64_t last_step) {
  History history;
  const auto last = static_cast<double>(last_step);
  std::ifstream file(path);
  if (!file) {
    throw CheckpointError(path.string() + " cannot be read",
                          "check the rights of the run's folder");
  }
  for (std::string text; std::getline(file, text);) {
    Json line = object_or_null(text);
    if (line.is_null() || !line.contains("step") || number_at(line, "step") > last) continue;
    if (string_at(line, "kind") == "run") {
      history.run = std::move(line);
    } else if (string_at(line, "kind") != "samples") {
      history.lines.push_back(std::move(line));
    }
  }
  return history;
}

double epoch_of(const Json& run, double step) {
  const double rows = number_at(run, "rows_per_epoch");
  const double steps = step - number_at(run, "data_step");
  return rows > 0.0 ? std::max(0.0, steps) * number_at(run, "rows_per_step") / rows : 0.0;
}

// A line as Trainer logs it.
Json log_entry(const Json& line, const Json& run) {
  Json entry = {{"step", line["step"]}, {"epoch", epoch_of(run, number_at(line, "step"))}};
  if (string_at(line, "kind") == "step") {
    for (const char* key : {"loss", "grad_norm", "learning_rate"}) {
      if (line.contains(key)) entry[key] = line[key];
    }
    return entry;
  }
  const std::string prefix = concat("eval_", string_at(line, "name"), '_');
  for (const char* key : {"loss", "perplexity", "bits_per_byte", "forgetting"}) {
    if (line.contains(key)) entry[prefix + key] = line[key];
  }
  return entry;
}

Json trainer_state(const History& history, int64_t step) {
  Json log = Json::array();
  double num_tokens = 0.0, sum = 0.0, count = 0.0;
  for (const Json& line : history.lines) {
    log.push_back(log_entry(line, history.run));
    if (string_at(line, "kind") != "step") continue;
    num_tokens += number_at(line, "num_tokens");
    if (!loss_at(line, "loss")) continue;
    sum += *loss_at(line, "loss");
    ++count;
  }
  const Json& run = history.run;
  const auto whole = [&](const char* key) { return static_cast<int64_t>(number_at(run, key)); };
  const double epoch = epoch_of(run, static_cast<double>(step));
  if (count > 0.0) {
    log.push_back({{"step", step}, {"epoch", epoch}, {"train_loss", sum / count}});
  }
  return {{"best_global_step", nullptr},
          {"best_metric", nullptr},
          {"best_model_checkpoint", nullptr},
          {"epoch", epoch},
          {"eval_steps", 0},
          {"global_step", step},
          {"is_hyper_param_search", false},
          {"is_local_process_zero", true},
          {"is_world_process_zero", true},
          {"log_history", std::move(log)},
          {"logging_steps", 1},
          {"max_steps", whole("max_steps")},
          {"num_input_tokens_seen", static_cast<int64_t>(num_tokens)},
          {"num_train_epochs",
           static_cast<int64_t>(std::ceil(epoch_of(run, number_at(run, "max_steps"))))},
          {"save_steps", 0},
          {"stateful_callbacks", Json::object()},
          {"total_flos", 0.0},
          {"train_batch_size", whole("rows_per_micro_batch")},
          {"trial_name", nullptr},
          {"trial_params", nullptr}};
}

// Of each hold-out the first and the last evaluation, in the order of the file.
std::vector<CardFigure> figures_in(const History& history, int64_t step) {
  std::vector<CardFigure> figures;
  std::map<std::string, std::optional<double>> first;
  for (const Json& line : history.lines) {
    if (string_at(line, "kind") != "evaluation") continue;
    const std::string name = string_at(line, "name");
    const bool is_first = first.emplace(name, loss_at(line, "loss")).second;
    if (number_at(line, "step") != static_cast<double>(step)) continue;
    figures.push_back({.holdout = name,
                       .num_targets = static_cast<int64_t>(number_at(line, "num_targets")),
                       .before = is_first ? std::nullopt : first[name],
                       .loss = loss_at(line, "loss"),
                       .bits_per_byte = loss_at(line, "bits_per_byte")});
  }
  return figures;
}

const char* name_of(ScheduleOptions::Shape shape) {
  switch (shape) {
    case ScheduleOptions::Shape::kConstant: return "constant";
    case ScheduleOptions::Shape::kLinear: return "linear";
    case ScheduleOptions::Shape::kCosine: return "cosine";
    case ScheduleOptions::Shape::kWsd: return "WSD";
  }
  return "";
}

void add_lora(const LoraOptions& lora, std::vector<std::pair<std::string, std::string>>& rows) {
  std::string targets = lora.target_pattern;
  for (const std::string& target : lora.targets) {
    if (lora.target_pattern.empty()) targets += concat(targets.empty() ? "" : ", ", target);
  }
  rows.emplace_back("LoRA",
                    concat("rank ", lora.rank, ", alpha ", lora.alpha, ", dropout ", lora.dropout,
                           lora.uses_dora ? ", DoRA" : "", lora.uses_rslora ? ", rsLoRA" : ""));
  rows.emplace_back("adapted modules", targets);
}

std::vector<std::pair<std::string, std::string>> settings_of(const RunConfig& config,
                                                             const TrainingPlan& plan) {
  const AdamWOptions& adamw = config.optimizer;
  const Schedule schedule(config.schedule, plan.num_steps, plan.origin.schedule_step);
  const auto rows_seen =
      static_cast<double>((plan.num_steps - plan.origin.data_step) * config.data.global_batch_rows);
  std::vector<std::pair<std::string, std::string>> rows = {{"method", name_of(config.method.kind)}};
  if (config.method.is_lora()) add_lora(config.method.lora, rows);
  const std::pair<std::string, std::string> others[] = {
      {"steps", concat(plan.num_steps)},
      {"epochs", concat(rows_seen / static_cast<double>(plan.mixture.rows_per_epoch()))},
      {"batch", concat(config.data.global_batch_rows, " rows of at most ",
                       config.data.sequence_length, " tokens")},
      {"optimizer", concat("AdamW, betas ", adamw.beta1, " and ", adamw.beta2, ", epsilon ",
                           adamw.epsilon, ", weight decay ", adamw.weight_decay)},
      {"learning rate", concat(adamw.learning_rate, ", ", name_of(config.schedule.shape), ", ",
                               schedule.warmup_steps(), " steps of warm-up")},
      {"gradient norm", config.train.max_grad_norm > 0.0
                            ? concat("at most ", config.train.max_grad_norm)
                            : "not clipped"},
      {"seed of the data's order", concat(config.data.seed)}};
  rows.insert(rows.end(), std::begin(others), std::end(others));
  return rows;
}

}  // namespace

std::string shell_text(const std::vector<std::string>& words) {
  const auto is_plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view("_-+=./:,@%").find(c) != std::string_view::npos;
  };
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += ' ';
    if (!word.empty() && std::ranges::all_of(word, is_plain)) {
      text += word;
      continue;
    }
    text += '\'';
    for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
    text += '\'';
  }
  return text;
}

std::string card_of_run(const RunToTell& run) {
  return model_card({.base = run.config.model.path,
                     .base_license = license_in_card(run.base.path()),
                     .method = run.config.method,
                     .has_data_template = run.has_data_template,
                     .data = run.data,
                     .command = run.command,
                     .configuration = run.decided_by,
                     .settings = settings_of(run.config, run.plan)});
}

RunFacts facts_of_run(const RunConfig& config, const TrainingPlan& plan) {
  return {.num_steps = plan.num_steps,
          .rows_per_step = config.data.global_batch_rows,
          .rows_per_micro_batch = config.data.micro_batch_rows,
          .tokens_per_row = config.data.sequence_length,
          .rows_per_epoch = plan.mixture.rows_per_epoch(),
          .data_step = plan.origin.data_step,
          .sources = plan.mixture.source_names()};
}

std::vector<TextFile> result_record(const fs::path& run, int64_t step, const std::string& card) {
  const fs::path path = run / "metrics.jsonl";
  if (!is_there(path)) return {};
  const History history = read_history(path, step);
  std::vector<TextFile> texts = {
      {"trainer_state.json", trainer_state(history, step).dump(2) + '\n'}};
  if (!card.empty()) {
    texts.push_back({kModelCard, with_figures(card, step, figures_in(history, step))});
  }
  return texts;
}

}  // namespace temper

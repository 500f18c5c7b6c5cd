// SPDX-License-Identifier: Apache-2.0
#include "app/recipe.h"

#include <algorithm>
#include <cmath>

#include "core/concat.h"

namespace temper {
namespace {

using Kind = MethodOptions::Kind;

constexpr int64_t kFew = 1'000, kMany = 50'000;  // Conversations.
constexpr int64_t kHuge = 7'000'000'000;         // Parameters.

// Numbers of configs/recipes/, which say why.
struct Numbers {
  Kind method;
  int64_t rank;
  double epochs;
  double rate;
  double examples;  // In a step; tokens of text where there are no conversations.
  double warmup;
  double decay;
};

std::vector<Numbers> numbers_for(const RecipeFacts& facts) {
  const double lora = facts.num_parameters >= kHuge ? 1e-4 : 2e-4;
  if (facts.kind == ShardKind::kPretrain) {
    return {{Kind::kFull, 0, 2, 5e-5, 16384, 0.05, 0.1},
            {Kind::kLora, 128, 2, lora, 16384, 0.1, 0.0},
            {Kind::kQlora, 128, 2, lora, 16384, 0.1, 0.0}};
  }
  const auto adapters = [&](int64_t rank, double epochs, double examples) {
    return std::vector<Numbers>{{Kind::kLora, rank, epochs, lora, examples, 0.1, 0.0},
                                {Kind::kQlora, rank, epochs, lora, examples, 0.1, 0.0}};
  };
  if (facts.num_documents < kFew) return adapters(8, 2, 16);
  if (facts.num_documents < kMany) return adapters(32, 3, 128);
  std::vector<Numbers> all = adapters(64, 2, 128);
  all.insert(all.begin(), {Kind::kFull, 0, 2, 2e-5, 64, 0.03, 0.1});
  return all;
}

// So many that each rank has a micro-batch of one row.
int64_t rows_for(const Numbers& numbers, const RecipeFacts& facts, int64_t sequence_length) {
  const double per_row = facts.kind == ShardKind::kSft ? facts.documents_per_row
                                                       : static_cast<double>(sequence_length);
  int64_t rows = 1;  // Powers of two, which micro-batches and ranks divide.
  while (1.4 * static_cast<double>(rows) * per_row < numbers.examples) rows *= 2;
  const int64_t ranks = facts.num_ranks;
  return (std::max(rows, ranks) + ranks - 1) / ranks * ranks;
}

// A line of a configuration with its reason.
std::string line(const std::string& text, const std::string& reason) {
  constexpr size_t kColumn = 28;
  const size_t gap = kColumn - std::min(kColumn - 1, text.size());
  return concat(text, std::string(gap, ' '), "# ", reason, '\n');
}

// As YAML takes it whatever is in it.
std::string quoted(const std::string& path) {
  std::string text;
  for (const char c : path) text += c == '\'' ? std::string("''") : std::string(1, c);
  return concat('\'', text, '\'');
}

std::string method_text(const MethodOptions& method) {
  std::string text = concat("method: ", name_of(method.kind), "\n\n");
  if (!method.is_lora()) return text;
  text += "lora:\n";
  text += line(concat("  rank: ", method.lora.rank), "as the size of the data asks for");
  text += line(concat("  alpha: ", method.lora.alpha), "twice the rank");
  text += line(concat("  dropout: ", method.lora.dropout), "against learning by heart");
  text += line("  targets: all-linear", "MLPs too: attention alone learns less") + "\n";
  return text;
}

std::string data_text(const RunConfig& config) {
  const DataOptions& data = config.data;
  std::string text = "data:\n  train:\n";
  for (const DataSource& source : data.sources) {
    text += concat("    - path: ", quoted(source.path), '\n');
  }
  if (!config.holdouts.empty()) text += "  holdout:\n";
  for (const HoldOutOptions& holdout : config.holdouts) {
    text += concat("    - name: ", holdout.name, "\n      path: ", quoted(holdout.path), '\n');
    text += line(concat("      max_rows: ", holdout.max_rows), "enough to tell a loss by");
  }
  text += line(concat("  sequence_length: ", data.sequence_length), "few documents are longer");
  text += line(concat("  global_batch: ", data.global_batch_rows), "rows in a step, of all ranks");
  text += line(concat("  micro_batch: ", data.micro_batch_rows), "what memory has room for");
  return text + "\n";
}

std::string train_text(const RunConfig& config) {
  const TrainOptions& train = config.train;
  std::string text = "train:\n";
  text += train.max_steps > 0
              ? line(concat("  max_steps: ", train.max_steps), "what the time allows")
              : line(concat("  epochs: ", train.epochs), "more is learnt by heart");
  if (train.recomputes) text += line("  recompute: true", "memory is short");
  if (!config.holdouts.empty()) {
    text += concat("  evaluate_every_steps: ", train.evaluate_every_steps, "\n\n");
    text += concat("early_stop:\n  holdout: ", train.early_stop.holdout, "\n  patience: 3\n");
  }
  text += "\noptimizer:\n";
  text += line(concat("  learning_rate: ", config.optimizer.learning_rate),
               "temper find-rate measures one");
  text += concat("  weight_decay: ", config.optimizer.weight_decay, "\n\nschedule:\n");
  text += "  name: cosine\n";
  text += line(concat("  warmup_ratio: ", config.schedule.warmup_ratio), "of all steps");
  text += concat("\nparallel:\n  stage: ", config.parallel.stage, "\n\ncheckpoint:\n");
  text += concat("  every_steps: ", config.checkpoint.every_steps, "\n  keep: 2\n");
  if (config.holdouts.empty()) return text;
  return text + concat("  keep_best: ", config.checkpoint.keep_best, "\n  final: best\n");
}

}  // namespace

std::string size_class(const RecipeFacts& facts) {
  if (facts.kind == ShardKind::kPretrain) return "text: continual pretraining";
  if (facts.num_documents < kFew) return "fewer than 1,000 conversations";
  if (facts.num_documents < kMany) return "1,000 to 50,000 conversations";
  return "50,000 conversations and more";
}

std::vector<RunConfig> recipe_configs(const RecipeFacts& facts, int64_t sequence_length) {
  constexpr int64_t kEvaluations = 10;
  std::vector<RunConfig> configs;
  for (const Numbers& numbers : numbers_for(facts)) {
    RunConfig config;
    config.method.kind = numbers.method;
    if (numbers.rank > 0) {
      config.method.lora.rank = numbers.rank;
      config.method.lora.alpha = 2.0 * static_cast<double>(numbers.rank);
      config.method.lora.dropout = 0.05;
      config.method.lora.targets = {"all-linear"};
    }
    config.data.sequence_length = sequence_length;
    config.data.global_batch_rows = rows_for(numbers, facts, sequence_length);
    config.train.epochs = numbers.epochs;
    config.optimizer.learning_rate = numbers.rate;
    config.optimizer.weight_decay = numbers.decay;
    config.schedule.warmup_ratio = numbers.warmup;
    config.parallel.stage = numbers.method == Kind::kLora ? 1 : 3;
    const int64_t num_steps = num_steps_of(config, facts.num_rows);
    config.train.evaluate_every_steps = std::max<int64_t>(1, num_steps / kEvaluations);
    config.checkpoint.every_steps = config.train.evaluate_every_steps;
    configs.push_back(std::move(config));
  }
  return configs;
}

int64_t fitting_length(std::vector<int64_t> lengths, ShardKind kind, int64_t most) {
  constexpr int64_t kLeast = 64;
  const double share = kind == ShardKind::kSft ? 0.98 : 0.5;
  const auto place = static_cast<std::ptrdiff_t>(share * static_cast<double>(lengths.size() - 1));
  std::ranges::nth_element(lengths, lengths.begin() + place);
  int64_t length = kLeast;
  while (length < lengths[static_cast<size_t>(place)]) length *= 2;
  return std::min(length, most);
}

std::string fit_time(RecipeCandidate& candidate, int64_t num_rows, double hours) {
  if (hours <= 0.0 || candidate.hours() <= hours) return {};
  TrainOptions& train = candidate.config.train;
  const double wanted = train.epochs;
  while (train.epochs > 1.0 && candidate.hours() > hours) {
    train.epochs -= 1.0;
    candidate.num_steps = num_steps_of(candidate.config, num_rows);
  }
  if (candidate.hours() <= hours) {
    return concat(train.epochs, train.epochs > 1.0 ? " passes" : " pass", " instead of ", wanted,
                  ", for the time");
  }
  train.epochs = 0.0;
  const double steps = std::floor(hours * 3600.0 / candidate.step_seconds);
  train.max_steps = candidate.num_steps = std::max<int64_t>(1, static_cast<int64_t>(steps));
  train.evaluate_every_steps = std::min(train.evaluate_every_steps, train.max_steps);
  candidate.config.checkpoint.every_steps = train.evaluate_every_steps;
  return concat(train.max_steps,
                " steps, less than one pass: there is no time for more; use more "
                "ranks, or a smaller model");
}

std::string recipe_text(const RunConfig& config, const std::vector<std::string>& reasons) {
  std::string text = "# A proposal of temper recipe. configs/recipes/ have more to say.\n#\n";
  for (const std::string& reason : reasons) text += concat("# ", reason, '\n');
  text += concat("\nrun:\n  folder: ", quoted(config.run.folder),
                 "\n\nmodel:\n  path: ", quoted(config.model.path), "\n\n");
  return text + method_text(config.method) + data_text(config) + train_text(config);
}

}  // namespace temper

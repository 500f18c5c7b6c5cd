// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "io/shard_header.h"
#include "model/adapter/method.h"

namespace temper {

/// What a recipe is made of: facts of data, model and machine.
struct RecipeFacts {
  ShardKind kind = ShardKind::kSft;
  int64_t num_documents = 0;
  double documents_per_row = 1.0;
  int64_t num_rows = 0;
  int64_t num_parameters = 0;
  int num_ranks = 1;
};

/// One method, with what it takes.
struct RecipeCandidate {
  RunConfig config;
  int64_t memory_bytes = 0;  ///< Of a rank.
  double step_seconds = 0.0;
  int64_t num_steps = 0;
  std::string problem = {};  ///< Why it cannot be; empty: it can.

  double hours() const { return step_seconds * static_cast<double>(num_steps) / 3600.0; }
};

/// Which class of sizes data are of, in words: "fewer than 1,000 conversations".
std::string size_class(const RecipeFacts& facts);

/// The methods for data of this kind and size, the best first, as configs/recipes/ have them: all
/// but paths and micro_batch are set. `sequence_length` is of the rows of `facts`.
std::vector<RunConfig> recipe_configs(const RecipeFacts& facts, int64_t sequence_length);

/// The least of 64, 128, … that is as long as all but two of a hundred documents; at most `most`.
/// Text is cut anywhere: of it all but half. Shapes: lengths [document].
int64_t fitting_length(std::vector<int64_t> lengths, ShardKind kind, int64_t most);

/// Fewer passes where the time does not allow them all: sets train.epochs and num_steps, or, where
/// there is time for less than one pass, train.max_steps. Returns what was changed, in words;
/// empty: nothing.
std::string fit_time(RecipeCandidate& candidate, int64_t num_rows, double hours);

/// A configuration as a person would write it, with the reasons. `reasons` are lines of its head.
std::string recipe_text(const RunConfig& config, const std::vector<std::string>& reasons);

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/json_keys.h"
#include "io/json.h"

namespace temper {

/// A corpus in one token shard or several, as a checkpoint remembers it.
struct DataShard {
  std::string path;         ///< As the configuration has it, which may be a pattern.
  std::string holdout;      ///< The name of the hold-out that it is; empty: it is trained on.
  std::string kind;         ///< sft or pretrain.
  std::string fingerprint;  ///< Of its content, and of how it was cut.
  int64_t num_documents = 0;
  int64_t num_tokens = 0;
  int64_t num_targets = 0;
  std::optional<int64_t> end_of_turn_id = {};  ///< The token that ends turns in it.
};

/// What shards were made of: one source of a recipe.
struct DataOrigin {
  std::string path;     ///< Of its files; of the shard itself, if that does not say.
  std::string license;  ///< As the recipe states it; empty: it does not.
  std::string origin;   ///< Where it comes from, as the recipe states it; may be empty.

  friend bool operator==(const DataOrigin&, const DataOrigin&) = default;
};

/// What a run is trained and evaluated on, by whose leave: for people, and part of the manifest.
struct TrainingData {
  std::vector<DataShard> shards;
  std::vector<DataOrigin> sources;  ///< Of the shards that are trained on, each once.
};

Json to_json_value(const TrainingData& data);

/// Reads it. Notes a problem for whatever it does not find as FORMAT.md describes it.
TrainingData read_training_data(const Json& json, std::vector<std::string>& problems);

}  // namespace temper

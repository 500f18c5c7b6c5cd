// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/hash.h"
#include "io/json.h"
#include "model/model_config.h"
#include "train/scoring.h"

namespace temper {

/// What `temper score` is asked: continuations of contexts, in the order of the file's lines.
struct ScoreRequests {
  std::string path;
  ScoringWork work;
  std::vector<Json> ids;  ///< [request]; a number from 0 where it has none of its own.
  Digest digest;          ///< Of the file.
};

/// Reads a file of JSON lines, {"id": ..., "context": [ids], "continuation": [ids]}; the id may be
/// left out. Empty lines are passed over. Local.
///
/// What is read of a text, all but its last token, must fit into the model's positions with the
/// `num_virtual_tokens` that an adapter puts before it.
/// Throws: DataError, naming the line, for one that is no request that this model can answer, an
/// id that came before, or a file without requests.
ScoreRequests read_score_requests(const std::string& path, const ModelConfig& model,
                                  int64_t num_virtual_tokens);

}  // namespace temper

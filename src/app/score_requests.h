// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "app/request_lines.h"
#include "model/model_config.h"
#include "train/scoring.h"

namespace temper {

/// What `temper score` is asked: continuations of contexts, in the order of the file's lines.
struct ScoreRequests {
  RequestList list;
  ScoringWork work;
};

/// Reads a file of JSON lines, {"id": ..., "context": [ids], "continuation": [ids]}; the id may be
/// left out. Local.
///
/// What is read of a text, all but its last token, must fit into the model's positions with the
/// `num_virtual_tokens` that an adapter puts before it.
/// Throws: as read_request_lines, also for what this model cannot answer.
ScoreRequests read_score_requests(const std::string& path, const ModelConfig& model,
                                  int64_t num_virtual_tokens);

}  // namespace temper

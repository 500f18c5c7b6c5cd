// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "app/request_lines.h"
#include "model/model_config.h"
#include "train/generation.h"

namespace temper {

/// A prompt to `temper generate`, and how it is to be answered.
struct PromptRequest {
  Json id;
  std::vector<int64_t> prompt;
  GenerationOptions options;
  int64_t num_answers = 1;
  bool has_own_seed = false;  ///< Then its place among others does not count.
  bool is_streamed = false;   ///< Each token is told as soon as it is there.

  /// One for each answer. `number` is its place among all requests.
  std::vector<GenerationRequest> to_generation(size_t number) const;
};

/// What requests have where they say nothing, and the model that they must fit.
struct PromptRules {
  GenerationOptions options;
  int64_t num_answers;
  const ModelConfig& model;
  int64_t num_virtual_tokens;
};

inline constexpr const char* kPromptForm =
    R"(write one request a line, such as {"id": "a", "prompt": [1, 22], "max_tokens": 64})";

/// A line {"id", "prompt": [ids], "n", "max_tokens", "temperature", "top_p", "top_k", "min_p",
/// "repetition_penalty", "seed", "stop": [ids], "logprobs": how many beside each token's own,
/// "prompt_logprobs": true}, of which all but the prompt may be left out. The id is `number` if it
/// has none; "stream": true is for one that is answered while others come. Local.
/// Throws: DataError, naming the line, for one that this model cannot answer.
enum class Streaming { kForbidden, kAllowed };
PromptRequest to_prompt_request(const RequestLine& line, size_t number, const PromptRules& rules,
                                Streaming streaming);

struct PromptRequests {
  RequestList list;
  std::vector<PromptRequest> requests;
};

/// A file of such lines. Local. Throws: as read_request_lines, and as above.
PromptRequests read_prompt_requests(const std::string& path, const PromptRules& rules);

/// What answers depend on where requests say nothing, for `AnswerFile`.
Json origin_of(const PromptRules& rules);

}  // namespace temper

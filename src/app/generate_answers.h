// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "app/generate_requests.h"
#include "io/json.h"
#include "train/generation.h"

namespace temper {

/// A token as a member of a line: {"token", "logprob", "top": [[id, log-probability], ...]}, the
/// latter two if log-probabilities were asked for.
Json to_json(const ScoredToken& scored, const std::optional<int64_t>& num_likely);

/// Whether what a file says is an answer to a request.
bool is_whole(const Json& answer, int64_t num_answers);

/// Puts the answers to each request together, which end in any order. It numbers them as
/// `generate` does.
class PendingAnswers {
 public:
  /// Which answer of which request.
  struct Place {
    size_t request, answer;
  };

  /// A request that has come: what is to be generated for it.
  std::vector<GenerationRequest> begin(size_t request, const PromptRequest& asked);

  Place place(size_t index) const { return places_.at(index); }

  /// Takes an answer. Returns the whole of its request once it has all of them: {"answers":
  /// [{"ids", "end": "stop", "length" or "cancelled", "logprobs", "top"}], "prompt_logprobs",
  /// "prompt_top"}.
  std::optional<Json> take(size_t index, const Answer& answer);

 private:
  struct Open {
    Json whole;
    size_t num_left;
    GenerationOptions options;
  };

  size_t num_begun_ = 0;
  std::map<size_t, Place> places_;  // By the number of an answer that has not ended.
  std::map<size_t, Open> open_;     // By request.
};

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "train/engine.h"
#include "train/sampler.h"

namespace temper {

struct GenerationOptions {
  int64_t max_new_tokens = 128;
  SamplingOptions sampling = {};
  std::vector<int64_t> stop_tokens = {};  ///< They end an answer, as the model's own do.
  /// Of how many tokens, beside the one that is there, log-probabilities are told; none by default.
  std::optional<int64_t> num_likely = {};
  bool scores_prompt = false;  ///< They are told of the prompt's tokens, too.
};

/// A prompt to be continued.
struct GenerationRequest {
  std::vector<int64_t> prompt;
  GenerationOptions options = {};
  uint64_t number = 0;  ///< What its random numbers are drawn for, beside the seed: below 2^44.
};

/// A token of a text, and what the model says of it after those before it, before penalties,
/// temperature and the like.
struct ScoredToken {
  static constexpr size_t kMostLikely = 20;
  struct Likely {
    int32_t token = -1;
    float log_probability = 0.0F;
  };

  int64_t token = -1;
  float log_probability = 0.0F;            ///< Natural; of a request that asks for none, 0.
  std::array<Likely, kMostLikely> likely;  ///< The most probable first, as many as were asked for.
};

struct Answer {
  enum class End { kStopToken, kLength, kCancelled };

  std::vector<int64_t> tokens;  ///< Without the token that ends it.
  End end = End::kLength;
  std::vector<ScoredToken> scores;         ///< Of its tokens, if they are asked for.
  std::vector<ScoredToken> prompt_scores;  ///< Of the prompt's from the second one on, likewise.
};

struct Unusable {
  std::string problem, remedy;
};

/// Why a prompt cannot be continued: it is empty, has a token out of the vocabulary, or could grow
/// beyond the model's positions with the tokens that an adapter puts before it. Local.
std::optional<Unusable> find_unusable(const std::vector<int64_t>& prompt, int64_t max_new_tokens,
                                      const ModelConfig& model, int64_t num_virtual_tokens);

/// "the adapter's 4, ", to tell what takes a model's positions; empty without any.
std::string virtual_tokens_and(int64_t num_virtual_tokens);

/// What came between two passes.
struct GenerationNews {
  std::vector<GenerationRequest> requests;  ///< They are numbered from 0 in the order they come.
  std::vector<size_t> cancelled;            ///< Requests whose answers end where they are.
  bool is_over = false;                     ///< No more will come.
};

/// Where requests come from and answers go. Each function is called on all ranks, in one order.
struct GenerationFlow {
  /// Called before each pass, it gives all ranks the same news. Nothing is under way if `is_idle`:
  /// then it may wait for them.
  std::function<GenerationNews(bool is_idle)> next;
  /// What becomes of an answer that has ended.
  std::function<void(size_t request, const Answer& answer)> take;
  /// And of each of its tokens as soon as it is there; may be empty.
  std::function<void(size_t request, const ScoredToken& token)> take_token = {};
};

/// `GenerationFlow::next` for requests that are known from the start.
std::function<GenerationNews(bool)> all_at_once(std::vector<GenerationRequest> requests);

/// Continues prompts until an end-of-sequence token of the model or `max_new_tokens`.
///
/// Each rank is at `at_once` answers, which take each step together; where one ends, the next
/// request begins. Keys and values are cached: a new token costs one forward pass of one token.
/// An answer depends on its request alone: on a CPU not on the others, nor on the number of ranks.
///
/// Collective: every rank. The prompts are such as `find_unusable` lets pass. Throws: ModelError,
/// on all ranks, if logits are not finite; what the flow throws.
void generate(Engine& engine, Communicator& ranks, int64_t at_once, const GenerationFlow& flow);

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "app/generate_requests.h"

#include <cstdint>
#include <limits>
#include <utility>

#include "core/concat.h"

namespace temper {
namespace {

// The members of a request, each with a bound.
class Members {
 public:
  explicit Members(const RequestLine& line) : line_(line) {}

  void read(const char* key, double least, double most, double& value) const {
    const Json* found = find(key);
    if (found == nullptr) return;
    const bool fits =
        found->is_number() && found->get<double>() >= least && found->get<double>() <= most;
    if (!fits) refuse(key, *found, concat("a number from ", least, " to ", most));
    value = found->get<double>();
  }

  template <typename Integer>
  void read(const char* key, Integer least, Integer most, Integer& value) const {
    const Json* found = find(key);
    if (found == nullptr) return;
    const bool fits = found->is_number_integer() && *found >= least && *found <= most;
    if (!fits) refuse(key, *found, concat("a whole number from ", least, " to ", most));
    value = found->get<Integer>();
  }

  void read(const char* key, bool& value) const {
    const Json* found = find(key);
    if (found == nullptr) return;
    if (!found->is_boolean()) refuse(key, *found, "true or false");
    value = found->get<bool>();
  }

  bool has(const char* key) const { return find(key) != nullptr; }

 private:
  const Json* find(const char* key) const {
    const auto found = line_.request.find(key);
    return found == line_.request.end() ? nullptr : &*found;
  }

  [[noreturn]] void refuse(const char* key, const Json& found, const std::string& wanted) const {
    line_.refuse(concat(key, " is ", shown(found), ", wanted ", wanted), line_.form);
  }

  const RequestLine& line_;
};

void read_sampling(const Members& members, SamplingOptions& sampling) {
  members.read("temperature", 0.0, 100.0, sampling.temperature);
  members.read("top_p", 0.0, 1.0, sampling.top_p);
  members.read<int64_t>("top_k", 0, std::numeric_limits<int32_t>::max(), sampling.top_k);
  members.read("min_p", 0.0, 1.0, sampling.min_p);
  members.read("repetition_penalty", 0.01, 100.0, sampling.repetition_penalty);
  members.read<uint64_t>("seed", 0, std::numeric_limits<uint64_t>::max(), sampling.seed);
}

}  // namespace

std::vector<GenerationRequest> PromptRequest::to_generation(size_t number) const {
  constexpr int kAnswerBits = 14;  // Of at most 10,000 answers.
  const uint64_t first = has_own_seed ? 0 : static_cast<uint64_t>(number) << kAnswerBits;
  std::vector<GenerationRequest> requests;
  for (int64_t i = 0; i < num_answers; ++i) {
    requests.push_back({prompt, options, first + static_cast<uint64_t>(i)});
  }
  return requests;
}

PromptRequest to_prompt_request(const RequestLine& line, size_t number, const PromptRules& rules,
                                Streaming streaming) {
  line.require_keys({"prompt", "n", "max_tokens", "temperature", "top_p", "top_k", "min_p",
                     "repetition_penalty", "seed", "stop", "logprobs", "prompt_logprobs",
                     streaming == Streaming::kAllowed ? "stream" : "id"});
  const Members members(line);
  PromptRequest request{line.id(number), line.tokens("prompt", rules.model.vocab_size),
                        rules.options, rules.num_answers};
  GenerationOptions& options = request.options;
  members.read<int64_t>("n", 1, 10'000, request.num_answers);
  members.read<int64_t>("max_tokens", 0, 1'000'000, options.max_new_tokens);
  read_sampling(members, options.sampling);
  request.has_own_seed = members.has("seed");
  if (members.has("stop")) options.stop_tokens = line.tokens("stop", rules.model.vocab_size);
  if (members.has("logprobs")) {
    members.read<int64_t>("logprobs", 0, ScoredToken::kMostLikely, options.num_likely.emplace());
  }
  members.read("prompt_logprobs", options.scores_prompt);
  if (options.scores_prompt && !options.num_likely) {
    line.refuse("prompt_logprobs is true, but logprobs is missing",
                "say how many log-probabilities of other tokens: \"logprobs\": 0");
  }
  members.read("stream", request.is_streamed);
  const auto unusable =
      find_unusable(request.prompt, options.max_new_tokens, rules.model, rules.num_virtual_tokens);
  if (unusable) line.refuse(unusable->problem, unusable->remedy);
  return request;
}

PromptRequests read_prompt_requests(const std::string& path, const PromptRules& rules) {
  std::vector<PromptRequest> requests;
  RequestList list = read_request_lines(path, kPromptForm, [&](const RequestLine& line) {
    requests.push_back(to_prompt_request(line, requests.size(), rules, Streaming::kForbidden));
  });
  return {std::move(list), std::move(requests)};
}

Json origin_of(const PromptRules& rules) {
  const SamplingOptions& sampling = rules.options.sampling;
  return {{"n", rules.num_answers},
          {"max_tokens", rules.options.max_new_tokens},
          {"temperature", sampling.temperature},
          {"top_p", sampling.top_p},
          {"top_k", sampling.top_k},
          {"min_p", sampling.min_p},
          {"repetition_penalty", sampling.repetition_penalty},
          {"seed", sampling.seed},
          {"stop", rules.options.stop_tokens}};
}

}  // namespace temper

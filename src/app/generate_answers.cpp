// SPDX-License-Identifier: Apache-2.0
#include "app/generate_answers.h"

#include <string>

namespace temper {
namespace {

const char* name_of(Answer::End end) {
  switch (end) {
    case Answer::End::kStopToken: return "stop";
    case Answer::End::kLength: return "length";
    case Answer::End::kCancelled: return "cancelled";
  }
  return "";
}

Json likely_of(const ScoredToken& scored, int64_t num_likely) {
  Json list = Json::array();
  for (const auto& [token, log_probability] : scored.likely) {
    if (token < 0 || std::ssize(list) == num_likely) break;
    list.push_back({token, log_probability});
  }
  return list;
}

// Adds the members `prefix`logprobs and `prefix`top, each after what `first` has for a token
// without a score.
void put_scores(Json& to, const std::string& prefix, const std::vector<ScoredToken>& scores,
                int64_t num_likely, Json first = Json::array()) {
  Json log_probabilities = first, likely = std::move(first);
  for (const ScoredToken& scored : scores) {
    log_probabilities.push_back(scored.log_probability);
    likely.push_back(likely_of(scored, num_likely));
  }
  to[prefix + "logprobs"] = std::move(log_probabilities);
  if (num_likely > 0) to[prefix + "top"] = std::move(likely);
}

}  // namespace

Json to_json(const ScoredToken& scored, const std::optional<int64_t>& num_likely) {
  Json json = {{"token", scored.token}};
  if (!num_likely) return json;
  json["logprob"] = scored.log_probability;
  if (*num_likely > 0) json["top"] = likely_of(scored, *num_likely);
  return json;
}

bool is_whole(const Json& answer, int64_t num_answers) {
  const Json answers = answer.value("answers", Json());
  if (!answers.is_array() || std::ssize(answers) != num_answers) return false;
  for (const Json& one : answers) {
    if (!one.is_object() || !one.value("ids", Json()).is_array()) return false;
    if (!one.value("end", Json()).is_string()) return false;
  }
  return true;
}

std::vector<GenerationRequest> PendingAnswers::begin(size_t request, const PromptRequest& asked) {
  std::vector<GenerationRequest> requests = asked.to_generation(request);
  for (size_t i = 0; i < requests.size(); ++i) places_[num_begun_++] = {request, i};
  Json answers = std::vector<Json>(requests.size());
  open_[request] = {{{"answers", std::move(answers)}}, requests.size(), asked.options};
  return requests;
}

std::optional<Json> PendingAnswers::take(size_t index, const Answer& answer) {
  const Place place = places_.at(index);
  places_.erase(index);
  Open& open = open_.at(place.request);
  const std::optional<int64_t>& num_likely = open.options.num_likely;
  Json one = {{"ids", answer.tokens}, {"end", name_of(answer.end)}};
  if (num_likely) put_scores(one, "", answer.scores, *num_likely);
  open.whole["answers"][place.answer] = std::move(one);
  if (open.options.scores_prompt && place.answer == 0) {
    put_scores(open.whole, "prompt_", answer.prompt_scores, *num_likely, Json::array({nullptr}));
  }
  if (--open.num_left > 0) return {};
  std::optional<Json> whole = std::move(open.whole);
  open_.erase(place.request);
  return whole;
}

}  // namespace temper

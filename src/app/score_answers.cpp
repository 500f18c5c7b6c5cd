// SPDX-License-Identifier: Apache-2.0
#include "app/score_answers.h"

#include <utility>

#include "core/concat.h"
#include "core/error.h"
#include "io/file.h"

namespace temper {
namespace {

constexpr const char* kFormat = "temper-score 1";

Json line_of(size_t request, std::span<const float> log_probabilities, bool is_greedy) {
  return {{"request", request}, {"logprobs", log_probabilities}, {"greedy", is_greedy}};
}

bool is_list_of_numbers(const Json& list, int64_t size) {
  if (!list.is_array() || std::ssize(list) != size) return false;
  for (const Json& number : list) {
    if (!number.is_number()) return false;
  }
  return true;
}

}  // namespace

ScoreAnswers::ScoreAnswers(std::filesystem::path output, const ScoreRequests& requests,
                           const Json& model)
    : output_(std::move(output)),
      partial_(concat(output_.string(), ".partial")),
      requests_(requests),
      answers_(requests.ids.size()) {
  if (output_.empty()) return;
  if (is_there(output_)) {
    throw DataError(concat(output_.string(), " is there already"),
                    "give another --output, or move it away");
  }
  Json origin = model;
  origin["format"] = kFormat;
  origin["requests"] = to_hex(requests.digest);
  take_over(origin);
  std::string kept = origin.dump() + '\n';
  for (size_t request = 0; request < answers_.size(); ++request) {
    if (!has(request)) continue;
    const Answer& answer = *answers_[request];
    kept += line_of(request, answer.log_probabilities, answer.is_greedy).dump() + '\n';
  }
  write_file_atomically(partial_, kept, FilePurpose::kData);
  file_.open(partial_, std::ios::app);
}

// Of a file that was begun before, all whole lines.
void ScoreAnswers::take_over(const Json& origin) {
  remove_leftovers_of(partial_);
  std::ifstream file(partial_);
  std::string line;
  if (!std::getline(file, line)) return;
  require_same_origin(line, origin);
  while (std::getline(file, line)) take_over_line(line);
}

void ScoreAnswers::require_same_origin(const std::string& line, const Json& origin) const {
  const Json found = object_or_null(line);
  for (const auto& [key, wanted] : origin.items()) {
    const Json value = found.is_object() ? found.value(key, Json()) : Json();
    if (value == wanted) continue;
    throw DataError(concat(partial_.string(), ", line 1: ", key, " is ", shown(value), ", wanted ",
                           shown(wanted), ": it was begun for other requests or another model"),
                    "give another --output, or move that file away to begin anew");
  }
}

void ScoreAnswers::take_over_line(const std::string& line) {
  const Json found = object_or_null(line);
  if (found.is_null()) return;
  const Json request = found.value("request", Json()), scores = found.value("logprobs", Json());
  const Json greedy = found.value("greedy", Json());
  if (!request.is_number_unsigned() || request >= answers_.size() || !greedy.is_boolean()) return;
  const auto index = request.get<size_t>();
  if (!is_list_of_numbers(scores, requests_.work.num_scores(index))) return;
  answers_[index] = {scores.get<std::vector<float>>(), greedy.get<bool>()};
}

void ScoreAnswers::add(size_t request, std::span<const TokenScore> scores) {
  Answer answer;
  for (const TokenScore& score : scores) {
    answer.log_probabilities.push_back(score.log_probability);
    answer.is_greedy = answer.is_greedy && score.is_greedy != 0;
  }
  if (!output_.empty()) {
    file_ << line_of(request, answer.log_probabilities, answer.is_greedy).dump() << '\n';
    if (!file_.flush()) {
      throw DataError(concat(partial_.string(), " cannot be written"),
                      "check the space and the rights there; the same command goes on from it");
    }
  }
  answers_[request] = std::move(answer);
}

std::string ScoreAnswers::text(bool with_tokens) const {
  std::string all;
  for (size_t request = 0; request < answers_.size(); ++request) {
    const Answer& answer = answers_[request].value();
    double sum = 0.0;
    for (const float one : answer.log_probabilities) sum += static_cast<double>(one);
    Json line = {{"id", requests_.ids[request]},
                 {"logprob", static_cast<float>(sum)},
                 {"tokens", answer.log_probabilities.size()},
                 {"greedy", answer.is_greedy}};
    if (with_tokens) {
      line["logprobs"] = answer.log_probabilities;
      const bool is_first_without = requests_.work.context_of(request).empty();
      if (is_first_without) line["logprobs"].insert(line["logprobs"].begin(), nullptr);
    }
    all += line.dump() + '\n';
  }
  return all;
}

void ScoreAnswers::publish(const std::string& text) const {
  write_file_atomically(output_, text, FilePurpose::kData);
  std::filesystem::remove(partial_);
}

}  // namespace temper

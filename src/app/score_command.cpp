// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "app/answer_file.h"
#include "app/commands.h"
#include "app/launch_check.h"
#include "app/loaded_model.h"
#include "app/score_requests.h"
#include "checkpoint/together.h"
#include "core/clock.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/log.h"
#include "train/scoring.h"

namespace temper {
namespace {

ScoreRequests read_together(const MpiSession& session, const LoadedModel& model,
                            const std::string& path) {
  std::optional<ScoreRequests> requests;
  read_requests_together(session, *model.ranks, [&] {
    requests =
        read_score_requests(path, model.folder().config(), model.method.num_virtual_tokens());
    return requests->list.digest;
  });
  return std::move(requests).value();
}

// In tokens.
int64_t longest_of(const ScoringWork& work) {
  int64_t longest = 0;
  for (size_t i = 0; i < work.continuations.size(); ++i) {
    const int64_t size = std::ssize(work.continuations[i].tokens);
    longest = std::max(longest, std::ssize(work.context_of(i)) + size);
  }
  return longest;
}

void require_finite(std::span<const TokenScore> scores, const Json& id) {
  for (const TokenScore& score : scores) {
    if (std::isfinite(score.log_probability)) continue;
    throw ModelError(concat("a log-probability of request ", shown(id), " is ",
                            score.log_probability, ", wanted a finite number"),
                     kNotFiniteRemedy);
  }
}

// What is kept of an answer: {"logprobs", "greedy"}.
Json to_answer(std::span<const TokenScore> scores) {
  std::vector<float> log_probabilities;
  bool is_greedy = true;
  for (const TokenScore& score : scores) {
    log_probabilities.push_back(score.log_probability);
    is_greedy = is_greedy && score.is_greedy != 0;
  }
  return {{"logprobs", std::move(log_probabilities)}, {"greedy", is_greedy}};
}

bool has_scores(const Json& answer, int64_t num_scores) {
  const Json scores = answer.value("logprobs", Json());
  if (!scores.is_array() || std::ssize(scores) != num_scores) return false;
  for (const Json& score : scores) {
    if (!score.is_number()) return false;
  }
  return answer.value("greedy", Json()).is_boolean();
}

// What is told of it: {"logprob", "tokens", "greedy"}, and "logprobs" with null for a first token
// that has no score.
Json to_line(Json answer, bool with_tokens, bool is_first_without) {
  const Json& scores = answer.at("logprobs");
  double sum = 0.0;
  for (const Json& one : scores) sum += static_cast<double>(one.get<float>());
  answer["logprob"] = static_cast<float>(sum);
  answer["tokens"] = scores.size();
  if (!with_tokens) {
    answer.erase("logprobs");
  } else if (is_first_without) {
    answer["logprobs"].insert(answer["logprobs"].begin(), nullptr);
  }
  return answer;
}

void score_open(LoadedModel& model, const ScoreRequests& requests,
                std::optional<AnswerFile>& answers) {
  constexpr double kSecondsBetweenLines = 10.0;
  const size_t num_requests = requests.list.ids.size();
  const std::vector<size_t> open = open_requests(num_requests, answers, *model.ranks);
  log_event(concat("score requests=", num_requests, " done=", num_requests - open.size()));
  if (open.empty()) return;
  model.load_start();
  const std::vector<ScoringBatch> plan =
      plan_scoring(requests.work, open, rows_of_batches(requests.work, open, *model.ranks));
  size_t num_done = num_requests - open.size();
  Stopwatch since_line;
  score(*model.engine, requests.work, plan, *model.ranks,
        [&](size_t request, std::span<const TokenScore> scores) {
          require_finite(scores, requests.list.ids[request]);
          answers->add(request, to_answer(scores));
          ++num_done;
          if (since_line.seconds() < kSecondsBetweenLines) return;
          log_event(concat("score requests=", num_requests, " done=", num_done));
          since_line.restart();
        });
}

int score_requests(const MpiSession& session, const ScoreOptions& options) {
  const RunConfig start = config_of(options.model);
  auto ranks = open_ranks(session, start);
  const RunConfig config = with_chosen_weights(options.model, start, *ranks);
  LoadedModel model(session, std::move(ranks), config, ModelOpening::Use::kGeneration);
  const ScoreRequests requests = read_together(session, model, options.requests);
  model.choose_positions(model.method.num_virtual_tokens() + longest_of(requests.work));
  std::optional<AnswerFile> answers;  // On rank 0.
  do_on_rank_0(*model.ranks, [&] {
    answers.emplace(options.output, requests.list.ids.size(),
                    AnswerFile::Rules{origin_of(model, requests.list, "temper-score 1"),
                                      [&](size_t request, const Json& answer) {
                                        return has_scores(answer,
                                                          requests.work.num_scores(request));
                                      }});
  });
  score_open(model, requests, answers);
  do_on_rank_0(*model.ranks, [&] {
    answers->publish(requests.list.ids, [&](size_t request, Json answer) {
      return to_line(std::move(answer), options.with_tokens,
                     requests.work.context_of(request).empty());
    });
  });
  return static_cast<int>(ExitCode::kFinished);
}

}  // namespace

int run_score(const ScoreOptions& options) {
  return run_as_launched(
      [&](const MpiSession& session) { return score_requests(session, options); });
}

}  // namespace temper

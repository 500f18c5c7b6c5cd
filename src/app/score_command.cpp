// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>
#include <span>
#include <vector>

#include "app/commands.h"
#include "app/launch_check.h"
#include "app/loaded_model.h"
#include "app/score_answers.h"
#include "app/score_requests.h"
#include "checkpoint/together.h"
#include "comm/agree.h"
#include "comm/bytes.h"
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
  do_together(*model.ranks, [&] {
    requests =
        read_score_requests(path, model.folder().config(), model.method.num_virtual_tokens());
  });
  require_same_on_all_ranks(*model.ranks, requests->digest,
                            {"the requests", "give all nodes one file of requests"},
                            session.host_names());
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

// All that scores depend on beside the requests.
Json identity_of(const LoadedModel& model) {
  const auto& start = model.opened.start;
  return {{"weights", to_hex(sampled_digest(model.folder()))},
          {"method", name_of(model.method.kind)},
          {"adapter", start ? start->fingerprint() : std::string()},
          {"dtype", name_of(model.compute_dtype)}};
}

// Those that have no answer yet, of which rank 0 knows.
std::vector<size_t> open_requests(size_t num_requests, const std::optional<ScoreAnswers>& answers,
                                  Communicator& ranks) {
  std::vector<uint8_t> are_open(num_requests);
  for (size_t i = 0; i < num_requests; ++i) are_open[i] = answers && !answers->has(i) ? 1 : 0;
  broadcast_bytes(ranks, std::as_writable_bytes(std::span(are_open)));
  std::vector<size_t> open;
  for (size_t i = 0; i < num_requests; ++i) {
    if (are_open[i] != 0) open.push_back(i);
  }
  return open;
}

void require_finite(std::span<const TokenScore> scores, const Json& id) {
  for (const TokenScore& score : scores) {
    if (std::isfinite(score.log_probability)) continue;
    throw ModelError(concat("a log-probability of request ", shown(id), " is ",
                            score.log_probability, ", wanted a finite number"),
                     kNotFiniteRemedy);
  }
}

void score_open(LoadedModel& model, const ScoreRequests& requests,
                std::optional<ScoreAnswers>& answers) {
  constexpr double kSecondsBetweenLines = 10.0;
  const size_t num_requests = requests.ids.size();
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
          require_finite(scores, requests.ids[request]);
          answers->add(request, scores);
          ++num_done;
          if (since_line.seconds() < kSecondsBetweenLines) return;
          log_event(concat("score requests=", num_requests, " done=", num_done));
          since_line.restart();
        });
}

void print(const std::string& text) {
  const size_t num_written = std::fwrite(text.data(), 1, text.size(), stdout);
  if (num_written == text.size() && std::fflush(stdout) == 0) return;
  throw DataError("the answers cannot be written to standard output", "give --output FILE");
}

int score_requests(const MpiSession& session, const ScoreOptions& options) {
  const RunConfig start = config_of(options.model);
  auto ranks = open_ranks(session, start);
  const RunConfig config = with_chosen_weights(options.model, start, *ranks);
  LoadedModel model(session, std::move(ranks), config, ModelOpening::Use::kGeneration);
  const ScoreRequests requests = read_together(session, model, options.requests);
  model.choose_positions(model.method.num_virtual_tokens() + longest_of(requests.work));
  std::optional<ScoreAnswers> answers;  // On rank 0.
  do_on_rank_0(*model.ranks,
               [&] { answers.emplace(options.output, requests, identity_of(model)); });
  score_open(model, requests, answers);
  do_on_rank_0(*model.ranks, [&] {
    const std::string text = answers->text(options.with_tokens);
    if (options.output.empty()) {
      print(text);
    } else {
      answers->publish(text);
    }
  });
  return static_cast<int>(ExitCode::kFinished);
}

}  // namespace

int run_score(const ScoreOptions& options) {
  return run_as_launched(
      [&](const MpiSession& session) { return score_requests(session, options); });
}

}  // namespace temper

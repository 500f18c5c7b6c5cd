// SPDX-License-Identifier: Apache-2.0
#include "app/training_samples.h"

#include <utility>

#include "app/generate_answers.h"

namespace temper {

std::optional<PromptRequests> read_sample_prompts(const RunConfig& config,
                                                  const ModelConfig& model) {
  if (config.train.sample_prompts.empty()) return {};
  GenerationOptions options;
  options.max_new_tokens = config.train.sample_tokens;
  const int64_t num_virtual = config.method.num_virtual_tokens();
  const PromptRules rules{options, /*num_answers=*/1, model, num_virtual};
  return read_prompt_requests(config.train.sample_prompts, rules);
}

std::optional<std::vector<Json>> answer_samples(const PromptRequests& asked, Engine& engine,
                                                Communicator& ranks,
                                                const std::function<bool()>& is_stopped) {
  constexpr int64_t kAtOnce = 8;  // Of each rank; arbitrary.
  PendingAnswers pending;
  std::vector<GenerationRequest> requests;
  for (size_t i = 0; i < asked.requests.size(); ++i) {
    for (GenerationRequest& one : pending.begin(i, asked.requests[i])) {
      requests.push_back(std::move(one));
    }
  }
  const size_t num_requests = requests.size();
  const auto first_news = all_at_once(std::move(requests));
  bool is_cut = false;
  const auto next = [&](bool is_idle) {
    GenerationNews news = first_news(is_idle);
    if (is_cut || !is_stopped()) return news;
    is_cut = true;
    for (size_t i = 0; i < num_requests; ++i) news.cancelled.push_back(i);
    return news;
  };
  std::vector<Json> lines(asked.requests.size());
  const auto take = [&](size_t index, const Answer& answer) {
    const size_t request = pending.place(index).request;
    std::optional<Json> whole = pending.take(index, answer);
    if (!whole) return;
    (*whole)["id"] = asked.list.ids[request];
    (*whole)["prompt"] = asked.requests[request].prompt;
    lines[request] = std::move(*whole);
  };
  generate(engine, ranks, kAtOnce, {.next = next, .take = take});
  if (is_cut) return {};
  return lines;
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "app/score_requests.h"

#include <map>
#include <utility>

#include "core/concat.h"
#include "train/generation.h"

namespace temper {
namespace {

constexpr const char* kForm =
    R"(write one request a line, such as {"id": "a", "context": [1, 22], "continuation": [7]})";

// The last token is not read, and the first one after nothing has no score.
void require_usable(const RequestLine& line, const Tokens& context, const Tokens& continuation,
                    const ModelConfig& model, int64_t num_virtual_tokens) {
  if (continuation.empty()) {
    line.refuse("the continuation has no token", "give at least one token id to be scored");
  }
  if (context.empty() && continuation.size() == 1) {
    line.refuse("the context is empty, so that nothing comes before the continuation's only token",
                "give a context, such as the token that the model's texts begin with");
  }
  const int64_t num_read = num_virtual_tokens + std::ssize(context) + std::ssize(continuation) - 1;
  if (num_read <= model.max_positions) return;
  line.refuse(
      concat(virtual_tokens_and(num_virtual_tokens), "context and continuation are ", num_read + 1,
             " tokens, of which the last is not read, but the model knows ", model.max_positions,
             " positions"),
      concat("leave out the first ", num_read - model.max_positions, " tokens of the context"));
}

}  // namespace

ScoreRequests read_score_requests(const std::string& path, const ModelConfig& model,
                                  int64_t num_virtual_tokens) {
  ScoringWork work;
  std::map<Tokens, size_t> contexts;
  RequestList list = read_request_lines(path, kForm, [&](const RequestLine& line) {
    line.require_keys({"context", "continuation"});
    Tokens context = line.tokens("context", model.vocab_size);
    Tokens continuation = line.tokens("continuation", model.vocab_size);
    require_usable(line, context, continuation, model, num_virtual_tokens);
    const auto [place, is_first] = contexts.emplace(std::move(context), work.contexts.size());
    if (is_first) work.contexts.push_back(place->first);
    work.continuations.push_back({place->second, std::move(continuation)});
  });
  return {std::move(list), std::move(work)};
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "train/generation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "core/concat.h"
#include "core/error.h"
#include "core/floats.h"

namespace temper {

void require_usable(const std::vector<int64_t>& prompt, const GenerationOptions& options,
                    const ModelConfig& model, int64_t num_virtual_tokens) {
  if (prompt.empty()) throw ConfigError("the prompt has no token", "give at least one token id");
  for (const int64_t token : prompt) {
    if (token >= 0 && token < model.vocab_size) continue;
    throw ConfigError(
        concat("prompt token ", token, " is not in the vocabulary of ", model.vocab_size),
        "encode the prompt with this model's tokenizer");
  }
  const int64_t before = num_virtual_tokens + static_cast<int64_t>(prompt.size());
  if (before + options.max_new_tokens <= model.max_positions) return;
  const std::string with =
      num_virtual_tokens > 0 ? concat("the adapter's ", num_virtual_tokens, ", ") : std::string();
  const int64_t room = model.max_positions - before;
  throw ConfigError(
      concat(with, "prompt and answer may take ", before + options.max_new_tokens,
             " tokens, but the model knows ", model.max_positions, " positions"),
      room > 0 ? concat("set --max-new-tokens to at most ", room, ", or shorten the prompt")
               : concat("shorten the prompt by at least ", 1 - room, " tokens"));
}

namespace {

void require_finite(std::span<const float> logits, size_t num_answered) {
  if (all_finite(logits)) return;
  const auto bad = std::ranges::find_if(logits, [](float logit) { return !std::isfinite(logit); });
  throw ModelError(
      concat("the logits of answer token ", num_answered, " are not finite: that of token ",
             bad - logits.begin(), " is ", *bad, ", wanted numbers to choose a token by"),
      "look for tensors that are not finite in the model or adapter; if they are whole, compute "
      "with --dtype float32");
}

}  // namespace

std::vector<int64_t> generate(Engine& engine, const std::vector<int64_t>& prompt,
                              const GenerationOptions& options, at::Device device) {
  const ModelConfig& model = engine.decoder().config();
  std::vector<KeyValueCache> caches(static_cast<size_t>(model.num_layers));
  std::vector<int64_t> answer;
  std::vector<int64_t> next = prompt;
  int64_t position = 0;
  while (static_cast<int64_t>(answer.size()) < options.max_new_tokens) {
    const auto count = static_cast<int64_t>(next.size());
    const at::Tensor positions = at::arange(position, position + count, at::kLong).to(device);
    const at::Tensor tokens = at::tensor(next, at::kLong).to(device);
    const at::Tensor logits = engine.extend(tokens, positions, caches).cpu();
    position += count;
    const std::span<const float> scores(logits.const_data_ptr<float>(),
                                        static_cast<size_t>(logits.numel()));
    require_finite(scores, answer.size());
    const int64_t token = sample_token(scores, options.sampling, answer.size());
    const auto& ends = model.eos_token_ids;
    if (std::find(ends.begin(), ends.end(), token) != ends.end()) break;
    answer.push_back(token);
    next = {token};
  }
  return answer;
}

}  // namespace temper

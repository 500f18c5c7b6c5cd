// SPDX-License-Identifier: Apache-2.0
#include "train/generation.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "comm/bytes.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/floats.h"
#include "core/targets.h"

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

// An answer that grows.
struct Sequence {
  size_t request;
  Answer answer;
  KeyValueCaches caches;  // Only on the rank that computes it.

  bool begins() const { return answer.tokens.empty(); }
};

// What a pass says of a place: the token that was chosen, or one of these. Logits that are not
// finite are told as kNotFinite - token, for all ranks to fail together.
constexpr int64_t kNothing = -1;
constexpr int64_t kNotFinite = -2;

/// The places of all ranks, known to all of them: which request has which, and how far it is.
class Generation {
 public:
  Generation(Engine& engine, Communicator& ranks, std::span<const GenerationRequest> requests,
             const GenerationOptions& options)
      : engine_(engine),
        ranks_(ranks),
        requests_(requests),
        options_(options),
        ends_(engine.decoder().config().eos_token_ids),
        places_(static_cast<size_t>(ranks.world_size() * options.at_once)) {
    ends_.insert(ends_.end(), options.stop_tokens.begin(), options.stop_tokens.end());
  }

  void run(const std::function<void(size_t request, const Answer& answer)>& take) {
    while (fill()) {
      std::vector<int64_t> own(static_cast<size_t>(options_.at_once), kNothing);
      const std::vector<size_t> chosen = choose();
      if (chosen.empty()) {
        engine_.join_loss();
      } else {
        pass(chosen, own);
      }
      std::vector<int64_t> all(places_.size());
      gather_bytes(ranks_, std::as_bytes(std::span(own)), std::as_writable_bytes(std::span(all)));
      for (size_t place = 0; place < all.size(); ++place) {
        if (all[place] != kNothing) add(places_[place], all[place], take);
      }
    }
  }

 private:
  using Place = std::optional<Sequence>;

  int64_t num_layers() const { return engine_.decoder().config().num_layers; }

  // Gives free places to the next requests, the ranks in turn. Returns whether any is taken.
  bool fill() {
    bool is_any_taken = false;
    for (int64_t i = 0; i < options_.at_once; ++i) {
      for (int64_t rank = 0; rank < ranks_.world_size(); ++rank) {
        Place& place = places_[static_cast<size_t>(rank * options_.at_once + i)];
        if (!place && next_ < requests_.size()) {
          place.emplace(Sequence{next_++, {}, {}});
          if (rank == ranks_.rank()) place->caches.resize(static_cast<size_t>(num_layers()));
        }
        is_any_taken = is_any_taken || place.has_value();
      }
    }
    return is_any_taken;
  }

  Place& own_place(size_t i) {
    return places_[static_cast<size_t>(ranks_.rank() * options_.at_once) + i];
  }

  // This rank's places that take the next step together: those that begin, as far as their prompts
  // are not too many rows for one pass; if none does, all.
  std::vector<size_t> choose() {
    constexpr int64_t kMostRows = 2048;
    std::vector<size_t> beginning, going_on;
    int64_t num_rows = 0;
    for (size_t i = 0; i < static_cast<size_t>(options_.at_once); ++i) {
      const Place& place = own_place(i);
      if (!place) continue;
      if (!place->begins()) {
        going_on.push_back(i);
        continue;
      }
      const int64_t size = std::ssize(requests_[place->request].prompt);
      if (!beginning.empty() && num_rows + size > kMostRows) continue;
      beginning.push_back(i);
      num_rows += size;
    }
    return beginning.empty() ? going_on : beginning;
  }

  // One forward pass of some of this rank's places; writes what is chosen next to theirs of `own`.
  void pass(const std::vector<size_t>& chosen, std::vector<int64_t>& own) {
    std::vector<int64_t> tokens, positions, begins = {0};
    std::vector<KeyValueCaches*> caches;
    for (const size_t i : chosen) {
      Sequence& sequence = *own_place(i);
      const std::vector<int64_t>& prompt = requests_[sequence.request].prompt;
      const auto& answered = sequence.answer.tokens;
      if (sequence.begins()) {
        tokens.insert(tokens.end(), prompt.begin(), prompt.end());
        for (int64_t k = 0; k < std::ssize(prompt); ++k) positions.push_back(k);
      } else {
        tokens.push_back(answered.back());
        positions.push_back(std::ssize(prompt) + std::ssize(answered) - 1);
      }
      begins.push_back(std::ssize(tokens));
      caches.push_back(&sequence.caches);
    }
    const auto on_device = [&](const std::vector<int64_t>& numbers) {
      return at::tensor(numbers, at::kLong).to(ranks_.device());
    };
    const at::Tensor of_tokens = on_device(tokens);
    const PackedBatch batch{of_tokens, on_device(positions), at::full_like(of_tokens, kNoTarget),
                            begins};
    const at::Tensor logits = engine_.extend(batch, caches).cpu();
    const int64_t vocab_size = logits.size(1);
    float* rows = logits.mutable_data_ptr<float>();
    at::parallel_for(0, std::ssize(chosen), 1, [&](int64_t first, int64_t end) {
      for (int64_t k = first; k < end; ++k) {
        const size_t i = chosen[static_cast<size_t>(k)];
        own[i] =
            next_token({rows + k * vocab_size, static_cast<size_t>(vocab_size)}, *own_place(i));
      }
    });
  }

  int64_t next_token(std::span<float> logits, const Sequence& sequence) const {
    if (!all_finite(logits)) {
      const auto bad =
          std::ranges::find_if(logits, [](float logit) { return !std::isfinite(logit); });
      return kNotFinite - (bad - logits.begin());
    }
    const GenerationRequest& request = requests_[sequence.request];
    const std::vector<int64_t>& answered = sequence.answer.tokens;
    penalise(logits, request.prompt, answered, options_.sampling.repetition_penalty);
    return sample_token(logits, options_.sampling, (request.number << 32) + answered.size());
  }

  void add(Place& place, int64_t token,
           const std::function<void(size_t request, const Answer& answer)>& take) {
    Answer& answer = place->answer;
    if (token <= kNotFinite) {
      throw ModelError(concat("the logits of answer token ", answer.tokens.size(),
                              " are not finite, the first of them that of token ",
                              kNotFinite - token, ": wanted numbers to choose a token by"),
                       kNotFiniteRemedy);
    }
    const bool is_end = std::ranges::find(ends_, token) != ends_.end();
    if (!is_end) answer.tokens.push_back(token);
    if (!is_end && std::ssize(answer.tokens) < options_.max_new_tokens) return;
    answer.end = is_end ? Answer::End::kStopToken : Answer::End::kLength;
    take(place->request, answer);
    place.reset();
  }

  Engine& engine_;
  Communicator& ranks_;
  std::span<const GenerationRequest> requests_;
  const GenerationOptions& options_;
  std::vector<int64_t> ends_;  // Tokens.
  std::vector<Place> places_;  // [rank, at_once]
  size_t next_ = 0;            // The first request that has had no place.
};

}  // namespace

void generate(Engine& engine, Communicator& ranks, std::span<const GenerationRequest> requests,
              const GenerationOptions& options,
              const std::function<void(size_t request, const Answer& answer)>& take) {
  Generation(engine, ranks, requests, options).run(take);
}

}  // namespace temper

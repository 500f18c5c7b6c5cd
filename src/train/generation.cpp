// SPDX-License-Identifier: Apache-2.0
#include "train/generation.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <utility>

#include "comm/bytes.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/floats.h"
#include "core/targets.h"
#include "model/on_device.h"

namespace temper {

std::string virtual_tokens_and(int64_t num_virtual_tokens) {
  return num_virtual_tokens > 0 ? concat("the adapter's ", num_virtual_tokens, ", ")
                                : std::string();
}

std::optional<Unusable> find_unusable(const std::vector<int64_t>& prompt, int64_t max_new_tokens,
                                      const ModelConfig& model, int64_t num_virtual_tokens) {
  if (prompt.empty()) return Unusable{"the prompt has no token", "give at least one token id"};
  for (const int64_t token : prompt) {
    if (token >= 0 && token < model.vocab_size) continue;
    return Unusable{
        concat("prompt token ", token, " is not in the vocabulary of ", model.vocab_size),
        "encode the prompt with this model's tokenizer"};
  }
  const int64_t before = num_virtual_tokens + std::ssize(prompt);
  if (before + max_new_tokens <= model.max_positions) return {};
  const int64_t room = model.max_positions - before;
  return Unusable{concat(virtual_tokens_and(num_virtual_tokens), "prompt and answer may take ",
                         before + max_new_tokens, " tokens, but the model knows ",
                         model.max_positions, " positions"),
                  room > 0 ? concat("ask for at most ", room, " new tokens, or shorten the prompt")
                           : concat("shorten the prompt by at least ", 1 - room, " tokens")};
}

std::function<GenerationNews(bool)> all_at_once(std::vector<GenerationRequest> requests) {
  const auto left = std::make_shared<std::vector<GenerationRequest>>(std::move(requests));
  return [left](bool /*is_idle*/) {
    return GenerationNews{std::exchange(*left, {}), {}, /*is_over=*/true};
  };
}

namespace {

// Logits that are not finite are told as a token kNotFinite - token, for all ranks to fail
// together.
constexpr int64_t kNotFinite = -2;

// A prompt and its answer, which grows.
struct Sequence {
  size_t index;  // The request's.
  GenerationRequest request;
  Answer answer;
  int64_t num_read;       // So many of its tokens are in the caches.
  KeyValueCaches caches;  // Only on the rank that computes it.

  bool begins() const { return num_read == 0; }
};

// What the next pass reads of a sequence, and for how many of its last tokens it says what follows.
struct Piece {
  std::vector<int64_t> tokens;
  int64_t num_logits;
};

// Scores of a prompt take a row of logits a token: it is read in pieces of so many.
constexpr int64_t kMostScoredRows = 256;

Piece next_piece(const Sequence& sequence) {
  const std::vector<int64_t>& prompt = sequence.request.prompt;
  const int64_t rest = std::ssize(prompt) - sequence.num_read;
  if (rest <= 0) return {{sequence.answer.tokens.back()}, 1};
  const bool is_scored = sequence.request.options.scores_prompt;
  const int64_t size = is_scored ? std::min(rest, kMostScoredRows) : rest;
  const auto first = prompt.begin() + sequence.num_read;
  return {{first, first + size}, is_scored ? size : 1};
}

// The natural logarithm of the sum of all exponentials, in fp64.
double log_sum(std::span<const float> logits) {
  const double highest = *std::ranges::max_element(logits);
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - highest);
  return highest + std::log(sum);
}

ScoredToken score_of(int64_t token, std::span<const float> logits, int64_t num_likely) {
  const double shift = log_sum(logits);
  const auto score = [&](int64_t of) {
    return static_cast<float>(static_cast<double>(logits[static_cast<size_t>(of)]) - shift);
  };
  ScoredToken scored{token, score(token), {}};
  const std::vector<int64_t> likely = most_probable(logits, num_likely);
  for (size_t i = 0; i < likely.size(); ++i) {
    scored.likely[i] = {static_cast<int32_t>(likely[i]), score(likely[i])};
  }
  return scored;
}

/// The places of all ranks, known to all of them: which request has which, and how far it is.
class Generation {
 public:
  Generation(Engine& engine, Communicator& ranks, int64_t at_once, const GenerationFlow& flow)
      : engine_(engine),
        ranks_(ranks),
        at_once_(at_once),
        flow_(flow),
        ends_(engine.decoder().config().eos_token_ids),
        places_(static_cast<size_t>(ranks.world_size() * at_once)) {}

  void run() {
    while (true) {
      const bool is_over = receive();
      if (is_idle()) {
        if (is_over) return;
        continue;
      }
      fill();
      take_pass();
    }
  }

 private:
  using Place = std::optional<Sequence>;

  bool is_idle() const {
    return waiting_.empty() &&
           std::ranges::none_of(places_, [](const Place& place) { return place.has_value(); });
  }

  // Returns whether no more requests will come.
  bool receive() {
    GenerationNews news = flow_.next(is_idle());
    for (GenerationRequest& request : news.requests) {
      waiting_.push_back({num_requests_++, std::move(request), {}, 0, {}});
    }
    for (const size_t index : news.cancelled) cancel(index);
    return news.is_over;
  }

  void cancel(size_t index) {
    const auto end = [&](Sequence& sequence) {
      sequence.answer.end = Answer::End::kCancelled;
      flow_.take(index, sequence.answer);
    };
    const auto is_meant = [&](const Sequence& sequence) { return sequence.index == index; };
    const auto waiting = std::ranges::find_if(waiting_, is_meant);
    if (waiting != waiting_.end()) {
      end(*waiting);
      waiting_.erase(waiting);
    }
    for (Place& place : places_) {
      if (!place || !is_meant(*place)) continue;
      end(*place);
      place.reset();
    }
  }

  // Gives free places to the next requests, the ranks in turn.
  void fill() {
    for (int64_t i = 0; i < at_once_; ++i) {
      for (int64_t rank = 0; rank < ranks_.world_size(); ++rank) {
        Place& place = places_[static_cast<size_t>(rank * at_once_ + i)];
        if (place || waiting_.empty()) continue;
        place.emplace(std::move(waiting_.front()));
        waiting_.pop_front();
        if (rank != ranks_.rank()) continue;
        place->caches.resize(static_cast<size_t>(engine_.decoder().config().num_layers));
      }
    }
  }

  // A rank's places that take the next pass together: those that begin, else those that go on, as
  // far as they are not too many rows.
  std::vector<size_t> choose(int64_t rank) const {
    std::vector<size_t> chosen = choose(rank, /*begin=*/true);
    return chosen.empty() ? choose(rank, /*begin=*/false) : chosen;
  }

  std::vector<size_t> choose(int64_t rank, bool begin) const {
    constexpr int64_t kMostRows = 2048;
    std::vector<size_t> chosen;
    int64_t num_rows = 0, num_logits = 0;
    for (int64_t i = 0; i < at_once_; ++i) {
      const auto place = static_cast<size_t>(rank * at_once_ + i);
      if (!places_[place] || places_[place]->begins() != begin) continue;
      const Piece piece = next_piece(*places_[place]);
      const int64_t rows = num_rows + std::ssize(piece.tokens);
      const int64_t logits = num_logits + piece.num_logits;
      const bool fits =
          rows <= std::max(kMostRows, at_once_) && logits <= std::max(kMostScoredRows, at_once_);
      if (!chosen.empty() && !fits) continue;
      chosen.push_back(place);
      num_rows = rows;
      num_logits = logits;
    }
    return chosen;
  }

  // One forward pass on each rank that has work; all ranks learn what came of it.
  void take_pass() {
    std::vector<std::vector<size_t>> chosen;  // [rank]
    int64_t most = 0;                         // Of any rank's logits.
    for (int64_t rank = 0; rank < ranks_.world_size(); ++rank) {
      chosen.push_back(choose(rank));
      most = std::max(most, num_logits_of(chosen.back()));
    }
    std::vector<ScoredToken> own(static_cast<size_t>(most));
    const std::vector<size_t>& mine = chosen[static_cast<size_t>(ranks_.rank())];
    if (mine.empty()) {
      engine_.join_loss();
    } else {
      compute(mine, own);
    }
    std::vector<ScoredToken> all(own.size() * chosen.size());
    gather_bytes(ranks_, std::as_bytes(std::span(own)), std::as_writable_bytes(std::span(all)));
    for (size_t rank = 0; rank < chosen.size(); ++rank) {
      std::span<const ScoredToken> told = std::span(all).subspan(rank * own.size(), own.size());
      for (const size_t place : chosen[rank]) told = told.subspan(add(places_[place], told));
    }
  }

  int64_t num_logits_of(const std::vector<size_t>& chosen) const {
    int64_t count = 0;
    for (const size_t place : chosen) count += next_piece(*places_[place]).num_logits;
    return count;
  }

  // One forward pass of some of this rank's places; tells what it says of each of their logits.
  void compute(const std::vector<size_t>& chosen, std::span<ScoredToken> told) {
    std::vector<int64_t> tokens, positions, begins = {0}, num_logits;
    std::vector<KeyValueCaches*> caches;
    std::vector<std::pair<const Sequence*, int64_t>> row_of;  // [logits], and which token it reads.
    for (const size_t place : chosen) {
      Sequence& sequence = *places_[place];
      const Piece piece = next_piece(sequence);
      const int64_t end = sequence.num_read + std::ssize(piece.tokens);
      tokens.insert(tokens.end(), piece.tokens.begin(), piece.tokens.end());
      for (int64_t i = sequence.num_read; i < end; ++i) positions.push_back(i);
      for (int64_t i = end - piece.num_logits; i < end; ++i) row_of.emplace_back(&sequence, i);
      begins.push_back(std::ssize(tokens));
      num_logits.push_back(piece.num_logits);
      caches.push_back(&sequence.caches);
    }
    const at::Tensor of_tokens = on_device(tokens, ranks_.device());
    const PackedBatch batch{.tokens = of_tokens,
                            .positions = on_device(positions, ranks_.device()),
                            .targets = at::full_like(of_tokens, kNoTarget),
                            .document_begins = begins,
                            .facts = BatchFacts{std::ranges::max(positions)}};
    const at::Tensor logits = engine_.extend(batch, caches, num_logits).cpu();
    const int64_t vocab_size = logits.size(1);
    float* rows = logits.mutable_data_ptr<float>();
    at::parallel_for(0, std::ssize(row_of), 1, [&](int64_t first, int64_t end) {
      for (int64_t k = first; k < end; ++k) {
        const auto& [sequence, token] = row_of[static_cast<size_t>(k)];
        told[static_cast<size_t>(k)] =
            tell({rows + k * vocab_size, static_cast<size_t>(vocab_size)}, *sequence, token);
      }
    });
  }

  // What comes after a sequence's token: what the prompt has there, or what is chosen.
  static ScoredToken tell(std::span<float> logits, const Sequence& sequence, int64_t after) {
    if (!all_finite(logits)) {
      const auto bad =
          std::ranges::find_if(logits, [](float logit) { return !std::isfinite(logit); });
      return {kNotFinite - (bad - logits.begin()), 0.0F, {}};
    }
    const std::vector<int64_t>& prompt = sequence.request.prompt;
    const GenerationOptions& options = sequence.request.options;
    const std::vector<int64_t>& answered = sequence.answer.tokens;
    const auto scored = [&](int64_t token, std::span<const float> own) {
      return options.num_likely ? score_of(token, own, *options.num_likely)
                                : ScoredToken{token, 0.0F, {}};
    };
    if (after + 1 < std::ssize(prompt)) {
      return scored(prompt[static_cast<size_t>(after + 1)], logits);
    }
    std::vector<float> raw;  // Before the penalty.
    if (options.num_likely && options.sampling.repetition_penalty != 1.0) {
      raw.assign(logits.begin(), logits.end());
    }
    penalise(logits, prompt, answered, options.sampling.repetition_penalty);
    const uint64_t draw = (sequence.request.number << 20) + answered.size();  // Of 2^20 tokens.
    const int64_t token = sample_token(logits, options.sampling, draw);
    return scored(token, raw.empty() ? std::span<const float>(logits) : raw);
  }

  // Takes what was told of one sequence's logits. Returns how many they were.
  size_t add(Place& place, std::span<const ScoredToken> told) {
    const Piece piece = next_piece(*place);
    const int64_t prompt_size = std::ssize(place->request.prompt);
    place->num_read += std::ssize(piece.tokens);
    const auto count = static_cast<size_t>(piece.num_logits);
    for (size_t i = 0; i < count; ++i) {
      require_finite(told[i], *place);
      const int64_t after = place->num_read - piece.num_logits + static_cast<int64_t>(i);
      if (after + 1 < prompt_size) {
        place->answer.prompt_scores.push_back(told[i]);
      } else {
        add(place, told[i]);
      }
    }
    return count;
  }

  static void require_finite(const ScoredToken& told, const Sequence& sequence) {
    if (told.token > kNotFinite) return;
    throw ModelError(concat("the logits of answer token ", sequence.answer.tokens.size(),
                            " are not finite, the first of them that of token ",
                            kNotFinite - told.token, ": wanted numbers to choose a token by"),
                     kNotFiniteRemedy);
  }

  void add(Place& place, const ScoredToken& told) {
    const GenerationOptions& options = place->request.options;
    Answer& answer = place->answer;
    const bool is_wanted = options.max_new_tokens > 0;
    const bool is_end =
        is_wanted && (is_in(ends_, told.token) || is_in(options.stop_tokens, told.token));
    if (is_wanted && !is_end) {
      answer.tokens.push_back(told.token);
      if (options.num_likely) answer.scores.push_back(told);
      if (flow_.take_token) flow_.take_token(place->index, told);
      if (std::ssize(answer.tokens) < options.max_new_tokens) return;
    }
    answer.end = is_end ? Answer::End::kStopToken : Answer::End::kLength;
    const size_t index = place->index;
    const Answer whole = std::move(answer);
    place.reset();
    flow_.take(index, whole);
  }

  static bool is_in(const std::vector<int64_t>& tokens, int64_t token) {
    return std::ranges::find(tokens, token) != tokens.end();
  }

  Engine& engine_;
  Communicator& ranks_;
  int64_t at_once_;
  const GenerationFlow& flow_;
  std::vector<int64_t> ends_;     // Tokens.
  std::vector<Place> places_;     // [rank, at_once]
  std::deque<Sequence> waiting_;  // For a place.
  size_t num_requests_ = 0;       // That have come.
};

}  // namespace

void generate(Engine& engine, Communicator& ranks, int64_t at_once, const GenerationFlow& flow) {
  Generation(engine, ranks, at_once, flow).run();
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "app/score_requests.h"
#include "train/scoring.h"

namespace temper {

/// The answers to requests as they come. They are kept in `OUTPUT.partial`, a line each, so that
/// what a killed job has scored is not scored again; OUTPUT is there once it is whole. Local.
///
/// Throws: DataError if a file cannot be read or written.
class ScoreAnswers {
 public:
  /// `output` may be empty: then nothing is kept. `model` is an object that names all
  /// that scores depend on beside the requests, which must outlive this object.
  /// Throws: DataError also if OUTPUT is there, or begun for other requests or another model.
  ScoreAnswers(std::filesystem::path output, const ScoreRequests& requests, const Json& model);

  bool has(size_t request) const { return answers_[request].has_value(); }

  void add(size_t request, std::span<const TokenScore> scores);

  /// All of them, a JSON line each in the order of the requests: {"id", "logprob", "tokens",
  /// "greedy"} and, if asked for, "logprobs" of the tokens, null for a first one without a score.
  std::string text(bool with_tokens) const;

  /// Writes `text` to OUTPUT, all of it or nothing, and removes what was kept.
  void publish(const std::string& text) const;

 private:
  struct Answer {
    std::vector<float> log_probabilities;
    bool is_greedy = true;
  };

  void require_same_origin(const std::string& line, const Json& origin) const;
  void take_over(const Json& origin);
  void take_over_line(const std::string& line);

  std::filesystem::path output_, partial_;
  const ScoreRequests& requests_;
  std::vector<std::optional<Answer>> answers_;  // [request]
  std::ofstream file_;
};

}  // namespace temper

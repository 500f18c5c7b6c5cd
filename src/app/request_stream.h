// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "app/generate_answers.h"
#include "app/generate_requests.h"
#include "comm/communicator.h"
#include "train/generation.h"

namespace temper {

/// Standard input, line by line as it comes.
class InputLines {
 public:
  /// The whole lines that are there; if `waits`, at least one, unless it is the end. Local.
  std::string take(bool waits);

  bool is_over() const { return is_over_; }

 private:
  void read_more();

  std::string rest_;  // Of a line whose end has not come.
  bool is_over_ = false;
};

/// Requests that come while others are answered, a line each on standard input of rank 0, and their
/// answers on its standard output, a line each as soon as it is whole: {"id", "answers": [...]}.
///
/// A request with "stream": true is told of each token: {"id", "answer": which, "token": id, ...}.
/// {"cancel": id}, or with "answer": which, ends answers where they are. A line that is no good is
/// answered by {"id", "error", "remedy"}, and nothing else happens. An id is free again after its
/// last line.
class RequestStream {
 public:
  RequestStream(const PromptRules& rules, Communicator& ranks) : rules_(rules), ranks_(ranks) {}

  /// The functions refer to this object.
  GenerationFlow flow();

 private:
  struct Open {
    size_t request;
    PromptRequest asked;
    std::vector<size_t> indexes;  // [answer], as generate() numbers them.
  };

  GenerationNews next(bool is_idle);
  void read(const std::string& text, GenerationNews& news);
  void begin(const RequestLine& line, GenerationNews& news);
  void cancel(const RequestLine& line, GenerationNews& news) const;
  void tell(Json line, const Json& id) const;
  Open& open_of(size_t request) { return open_.at(id_of_.at(request)); }

  const PromptRules& rules_;
  Communicator& ranks_;
  InputLines input_;
  PendingAnswers pending_;
  size_t num_lines_ = 0, num_requests_ = 0, num_answers_ = 0;
  std::map<std::string, Open> open_;     // By the id's JSON.
  std::map<size_t, std::string> id_of_;  // By request.
};

}  // namespace temper

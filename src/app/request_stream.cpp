// SPDX-License-Identifier: Apache-2.0
#include "app/request_stream.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <sstream>
#include <utility>

#include "app/answer_file.h"
#include "checkpoint/together.h"
#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

constexpr const char* kCancelForm = R"(write {"cancel": id}, or {"cancel": id, "answer": 0})";

bool is_ready(bool waits) {
  pollfd input{STDIN_FILENO, POLLIN, 0};
  return ::poll(&input, 1, waits ? -1 : 0) > 0;
}

}  // namespace

std::string InputLines::take(bool waits) {
  while (!is_over_ && is_ready(waits && rest_.find('\n') == std::string::npos)) read_more();
  const size_t end = is_over_ ? rest_.size() : rest_.rfind('\n') + 1;  // 0 if there is none.
  std::string lines = rest_.substr(0, end);
  rest_.erase(0, end);
  return lines;
}

void InputLines::read_more() {
  constexpr size_t kBytes = 1 << 16;
  const size_t size = rest_.size();
  rest_.resize(size + kBytes);
  const ssize_t count = ::read(STDIN_FILENO, rest_.data() + size, kBytes);
  rest_.resize(size + static_cast<size_t>(count > 0 ? count : 0));
  is_over_ = count == 0 || (count < 0 && errno != EINTR);
}

GenerationFlow RequestStream::flow() {
  return {.next = [this](bool is_idle) { return next(is_idle); },
          .take =
              [this](size_t index, const Answer& answer) {
                const size_t request = pending_.place(index).request;
                std::optional<Json> whole = pending_.take(index, answer);
                if (!whole) return;
                tell(std::move(*whole), open_of(request).asked.id);
                open_.erase(id_of_.at(request));
                id_of_.erase(request);
              },
          .take_token =
              [this](size_t index, const ScoredToken& token) {
                const auto [request, answer] = pending_.place(index);
                const PromptRequest& asked = open_of(request).asked;
                if (!asked.is_streamed) return;
                Json line = to_json(token, asked.options.num_likely);
                line["answer"] = answer;
                tell(std::move(line), asked.id);
              }};
}

// All ranks read what rank 0 was sent, and come to the same.
GenerationNews RequestStream::next(bool is_idle) {
  constexpr char kOver = '.', kGoesOn = '+';
  std::string text;
  if (ranks_.rank() == 0) {
    text = input_.take(is_idle);
    text.insert(text.begin(), input_.is_over() ? kOver : kGoesOn);
  }
  text = broadcast_text(ranks_, text);
  GenerationNews news{{}, {}, text.front() == kOver};
  std::istringstream lines(text.substr(1));
  for (std::string line; std::getline(lines, line);) {
    ++num_lines_;
    if (line.find_first_not_of(" \t\r") != std::string::npos) read(line, news);
  }
  return news;
}

void RequestStream::read(const std::string& text, GenerationNews& news) {
  const Json found = object_or_null(text);
  const Json own = found.is_object() ? found.value("id", Json()) : Json();
  try {
    const RequestLine line = parse_request_line(text, concat("line ", num_lines_), kPromptForm);
    if (line.request.contains("cancel")) {
      cancel(line, news);
    } else {
      begin(line, news);
    }
  } catch (const DataError& error) {
    tell({{"error", error.problem()}, {"remedy", error.remedy()}}, own);
  }
}

void RequestStream::begin(const RequestLine& line, GenerationNews& news) {
  PromptRequest asked = to_prompt_request(line, num_requests_, rules_, Streaming::kAllowed);
  const std::string id = asked.id.dump();
  if (open_.contains(id)) {
    line.refuse(concat("the id ", shown(asked.id), " is that of a request under way"),
                "give it an id of its own");
  }
  Open open{num_requests_++, std::move(asked), {}};
  for (GenerationRequest& request : pending_.begin(open.request, open.asked)) {
    open.indexes.push_back(num_answers_++);
    news.requests.push_back(std::move(request));
  }
  id_of_[open.request] = id;
  open_.emplace(id, std::move(open));
}

// What has ended meanwhile need not be cancelled.
void RequestStream::cancel(const RequestLine& line, GenerationNews& news) const {
  const auto open = open_.find(line.request.at("cancel").dump());
  if (open == open_.end()) return;
  const std::vector<size_t>& indexes = open->second.indexes;
  const auto answer = line.request.find("answer");
  if (answer == line.request.end()) {
    news.cancelled.insert(news.cancelled.end(), indexes.begin(), indexes.end());
    return;
  }
  if (!answer->is_number_unsigned() || *answer >= indexes.size()) {
    line.refuse(concat("answer is ", shown(*answer), ", wanted a number below ", indexes.size()),
                kCancelForm);
  }
  news.cancelled.push_back(indexes[answer->get<size_t>()]);
}

void RequestStream::tell(Json line, const Json& id) const {
  if (ranks_.rank() != 0) return;
  line["id"] = id;
  print(line.dump() + '\n');
}

}  // namespace temper

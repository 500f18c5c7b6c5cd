// SPDX-License-Identifier: Apache-2.0
#include "app/answer_file.h"

#include <cstdio>
#include <span>
#include <utility>

#include "app/launch_check.h"
#include "comm/bytes.h"
#include "core/concat.h"
#include "core/error.h"
#include "io/file.h"

namespace temper {
namespace {

constexpr const char* kRequest = "request";

}  // namespace

AnswerFile::AnswerFile(std::filesystem::path output, size_t num_requests, const Rules& rules)
    : output_(std::move(output)),
      partial_(concat(output_.string(), ".partial")),
      lines_(num_requests) {
  if (output_.empty()) return;
  if (is_there(output_)) {
    throw DataError(concat(output_.string(), " is there already"),
                    "give another --output, or move it away");
  }
  take_over(rules);
  std::string kept = rules.origin.dump() + '\n';
  for (const std::string& line : lines_) kept += line;
  write_file_atomically(partial_, kept, FilePurpose::kData);
  file_.open(partial_, std::ios::app);
}

// Of a file that was begun before, all whole lines.
void AnswerFile::take_over(const Rules& rules) {
  remove_leftovers_of(partial_);
  std::ifstream file(partial_);
  std::string line;
  if (!std::getline(file, line)) return;
  require_same_origin(line, rules.origin);
  while (std::getline(file, line)) {
    const Json found = object_or_null(line);
    const Json request = found.is_object() ? found.value(kRequest, Json()) : Json();
    if (!request.is_number_unsigned() || request >= lines_.size()) continue;
    const auto index = request.get<size_t>();
    if (rules.is_whole(index, found)) lines_[index] = line + '\n';
  }
}

void AnswerFile::require_same_origin(const std::string& line, const Json& origin) const {
  const Json found = object_or_null(line);
  for (const auto& [key, wanted] : origin.items()) {
    const Json value = found.is_object() ? found.value(key, Json()) : Json();
    if (value == wanted) continue;
    throw DataError(concat(partial_.string(), ", line 1: ", key, " is ", shown(value), ", wanted ",
                           shown(wanted), ": it was begun for other requests or another model"),
                    "give another --output, or move that file away to begin anew");
  }
}

void AnswerFile::add(size_t request, Json answer) {
  answer[kRequest] = request;
  lines_[request] = answer.dump() + '\n';
  if (output_.empty()) return;
  file_ << lines_[request];
  if (file_.flush()) return;
  throw DataError(concat(partial_.string(), " cannot be written"),
                  "check the space and the rights there; the same command goes on from it");
}

void AnswerFile::publish(const std::vector<Json>& ids,
                         const std::function<Json(size_t request, Json answer)>& line_of) const {
  std::string text;
  for (size_t request = 0; request < lines_.size(); ++request) {
    Json answer = Json::parse(lines_[request]);
    answer.erase(kRequest);
    Json line = line_of(request, std::move(answer));
    line["id"] = ids[request];
    text += line.dump() + '\n';
  }
  if (output_.empty()) return print(text);
  write_file_atomically(output_, text, FilePurpose::kData);
  std::filesystem::remove(partial_);
}

void print(const std::string& text) {
  const size_t num_written = std::fwrite(text.data(), 1, text.size(), stdout);
  if (num_written == text.size() && std::fflush(stdout) == 0) return;
  throw DataError("the answers cannot be written to standard output", "give --output FILE");
}

Json origin_of(const LoadedModel& model, const RequestList& requests, const char* format) {
  const auto& start = model.opened.start;
  return {{"format", format},
          {"requests", to_hex(requests.digest)},
          {"weights", to_hex(sampled_digest(model.folder()))},
          {"method", name_of(model.method.kind)},
          {"adapter", start ? start->fingerprint() : std::string()},
          {"dtype", name_of(model.compute_dtype)}};
}

std::vector<size_t> open_requests(size_t num_requests, const std::optional<AnswerFile>& answers,
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

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "app/score_requests.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <string_view>
#include <utility>

#include "core/concat.h"
#include "core/error.h"
#include "core/message_text.h"

namespace temper {
namespace {

constexpr const char* kForm =
    R"(write one request a line, such as {"id": "a", "context": [1, 22], "continuation": [7]})";

// One line of the file, and the model that it must fit.
struct Line {
  std::string place;  // "requests.jsonl, line 3"
  const ModelConfig& model;
  int64_t num_virtual_tokens;

  [[noreturn]] void refuse(const std::string& problem, const std::string& remedy) const {
    throw DataError(concat(place, ": ", problem), remedy);
  }

  Json parse(const std::string& text) const {
    Json request = parse_json(text, {place, FilePurpose::kData});
    if (!request.is_object()) refuse(concat(shown(request), " is no request"), kForm);
    for (const auto& [key, value] : request.items()) {
      if (key == "id" || key == "context" || key == "continuation") continue;
      refuse(concat(quote(key), " is no key of a request"), kForm);
    }
    return request;
  }

  Json id_of(const Json& request, size_t number) const {
    const auto id = request.find("id");
    if (id == request.end()) return number;
    if (id->is_string() || id->is_number_integer()) return *id;
    refuse(concat("id is ", shown(*id), ", wanted a string or a whole number"), kForm);
  }

  Tokens tokens_of(const Json& request, const char* key) const {
    const auto list = request.find(key);
    if (list == request.end()) refuse(concat(key, " is missing"), kForm);
    if (!list->is_array()) {
      refuse(concat(key, " is ", shown(*list), ", wanted a list of token ids"), kForm);
    }
    Tokens tokens;
    tokens.reserve(list->size());
    for (const Json& token : *list) {
      // What is more than 2^63 is read without a sign.
      const bool is_id = token.is_number_integer() && token >= 0 && token < model.vocab_size;
      if (!is_id) {
        refuse(concat(key, " token ", tokens.size(), " is ", shown(token), ", wanted an id from 0 ",
                      "to ", model.vocab_size - 1),
               "encode the texts with this model's tokenizer");
      }
      tokens.push_back(token.get<int64_t>());
    }
    return tokens;
  }

  // The last token is not read, and the first one after nothing has no score.
  void require_usable(const Tokens& context, const Tokens& continuation) const {
    if (continuation.empty()) {
      refuse("the continuation has no token", "give at least one token id to be scored");
    }
    if (context.empty() && continuation.size() == 1) {
      refuse("the context is empty, so that nothing comes before the continuation's only token",
             "give a context, such as the token that the model's texts begin with");
    }
    const int64_t num_read =
        num_virtual_tokens + std::ssize(context) + std::ssize(continuation) - 1;
    if (num_read <= model.max_positions) return;
    const std::string with = num_virtual_tokens == 0
                                 ? std::string()
                                 : concat("the adapter's ", num_virtual_tokens, ", ");
    refuse(
        concat(with, "context and continuation are ", num_read + 1,
               " tokens, of which the last is not read, but the model knows ", model.max_positions,
               " positions"),
        concat("leave out the first ", num_read - model.max_positions, " tokens of the context"));
  }
};

}  // namespace

ScoreRequests read_score_requests(const std::string& path, const ModelConfig& model,
                                  int64_t num_virtual_tokens) {
  std::ifstream file(path);
  if (!file) {
    throw DataError(concat(path, " cannot be read: ", std::strerror(errno)), "check the path");
  }
  ScoreRequests requests{.path = path, .work = {}, .ids = {}, .digest = {}};
  std::map<Tokens, size_t> contexts;
  std::map<std::string, int64_t> line_of_id;
  Sha256 hash;
  int64_t number = 0;
  for (std::string text; std::getline(file, text);) {
    ++number;
    hash.update(text + "\n");
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    const Line line{concat(path, ", line ", number), model, num_virtual_tokens};
    const Json request = line.parse(text);
    Tokens context = line.tokens_of(request, "context");
    Tokens continuation = line.tokens_of(request, "continuation");
    line.require_usable(context, continuation);
    Json id = line.id_of(request, requests.ids.size());
    const auto [first, is_new] = line_of_id.emplace(id.dump(), number);
    if (!is_new) {
      line.refuse(concat("the id ", shown(id), " is also that of line ", first->second),
                  "give each request an id of its own, or none of them one");
    }
    const auto [place, is_first] =
        contexts.emplace(std::move(context), requests.work.contexts.size());
    if (is_first) requests.work.contexts.push_back(place->first);
    requests.work.continuations.push_back({place->second, std::move(continuation)});
    requests.ids.push_back(std::move(id));
  }
  if (file.bad()) {
    throw DataError(concat(path, " cannot be read after line ", number),
                    "check the path and the file system");
  }
  if (requests.ids.empty()) throw DataError(concat(path, " has no request"), kForm);
  requests.digest = hash.finish();
  return requests;
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "app/request_lines.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>
#include <utility>

#include "checkpoint/together.h"
#include "comm/agree.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/message_text.h"

namespace temper {

void RequestLine::refuse(const std::string& problem, const std::string& remedy) const {
  throw DataError(concat(place, ": ", problem), remedy);
}

void RequestLine::require_keys(std::initializer_list<std::string_view> known) const {
  for (const auto& [key, value] : request.items()) {
    if (key == "id" || std::ranges::find(known, key) != known.end()) continue;
    refuse(concat(quote(key), " is no key of a request"), form);
  }
}

Json RequestLine::id(size_t number) const {
  const auto own = request.find("id");
  if (own == request.end()) return number;
  if (own->is_string() || own->is_number_integer()) return *own;
  refuse(concat("id is ", shown(*own), ", wanted a string or a whole number"), form);
}

Tokens RequestLine::tokens(const char* key, int64_t vocab_size) const {
  const auto list = request.find(key);
  if (list == request.end()) refuse(concat(key, " is missing"), form);
  if (!list->is_array()) {
    refuse(concat(key, " is ", shown(*list), ", wanted a list of token ids"), form);
  }
  Tokens tokens;
  tokens.reserve(list->size());
  for (const Json& token : *list) {
    // What is more than 2^63 is read without a sign.
    const bool is_id = token.is_number_integer() && token >= 0 && token < vocab_size;
    if (!is_id) {
      refuse(concat(key, " token ", tokens.size(), " is ", shown(token), ", wanted an id from 0 ",
                    "to ", vocab_size - 1),
             "encode the texts with this model's tokenizer");
    }
    tokens.push_back(token.get<int64_t>());
  }
  return tokens;
}

RequestLine parse_request_line(const std::string& text, std::string place, const char* form) {
  RequestLine line{std::move(place), {}, form};
  line.request = parse_json(text, {line.place, FilePurpose::kData});
  if (!line.request.is_object()) {
    line.refuse(concat(shown(line.request), " is no request"), form);
  }
  return line;
}

RequestList read_request_lines(const std::string& path, const char* form,
                               const std::function<void(const RequestLine&)>& take) {
  std::ifstream file(path);
  if (!file) {
    throw DataError(concat(path, " cannot be read: ", std::strerror(errno)), "check the path");
  }
  RequestList list;
  std::map<std::string, int64_t> line_of_id;
  Sha256 hash;
  int64_t number = 0;
  for (std::string text; std::getline(file, text);) {
    ++number;
    hash.update(text + "\n");
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    const RequestLine line = parse_request_line(text, concat(path, ", line ", number), form);
    take(line);
    Json id = line.id(list.ids.size());
    const auto [first, is_new] = line_of_id.emplace(id.dump(), number);
    if (!is_new) {
      line.refuse(concat("the id ", shown(id), " is also that of line ", first->second),
                  "give each request an id of its own, or none of them one");
    }
    list.ids.push_back(std::move(id));
  }
  if (file.bad()) {
    throw DataError(concat(path, " cannot be read after line ", number),
                    "check the path and the file system");
  }
  if (list.ids.empty()) throw DataError(concat(path, " has no request"), form);
  list.digest = hash.finish();
  return list;
}

void read_requests_together(const MpiSession& session, Communicator& ranks,
                            const std::function<Digest()>& read) {
  std::optional<Digest> digest;
  do_together(ranks, [&] { digest = read(); });
  require_same_on_all_ranks(ranks, digest, {"the requests", "give all nodes one file of requests"},
                            session.host_names());
}

}  // namespace temper

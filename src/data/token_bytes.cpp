// SPDX-License-Identifier: Apache-2.0
#include "data/token_bytes.h"

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <string_view>

#include "io/file.h"
#include "io/json.h"

namespace temper {
namespace {

constexpr std::string_view kSpace = "\u2581";  // "▁", which stands for a space in pieces.

// The kinds of a part of a tokenizer, and of those that it is made of.
void add_kinds(const Json& part, std::set<std::string>& kinds) {
  if (!part.is_object()) return;
  if (const auto kind = part.find("type"); kind != part.end() && kind->is_string()) {
    kinds.insert(kind->get<std::string>());
  }
  for (const char* list : {"decoders", "pretokenizers", "normalizers"}) {
    const auto parts = part.find(list);
    if (parts == part.end() || !parts->is_array()) continue;
    for (const Json& one : *parts) add_kinds(one, kinds);
  }
}

enum class Spelling { kUnknown, kBytes, kPieces };

Spelling spelling_of(const Json& tokenizer) {
  std::set<std::string> kinds;
  for (const char* part : {"decoder", "pre_tokenizer", "normalizer"}) {
    add_kinds(tokenizer.value(part, Json()), kinds);
  }
  if (kinds.contains("ByteLevel")) return Spelling::kBytes;
  const bool has_pieces = kinds.contains("Metaspace") || kinds.contains("ByteFallback");
  return has_pieces ? Spelling::kPieces : Spelling::kUnknown;
}

// Each byte is spelt as one character.
int64_t bytes_of_byte_level(std::string_view token) {
  return std::ranges::count_if(token, [](char c) { return (c & 0xC0) != 0x80; });
}

// "<0x0A>" is a byte; each "▁" is a space.
int64_t bytes_of_piece(std::string_view token) {
  constexpr std::string_view kByte = "<0x0A>";
  if (token.size() == kByte.size() && token.starts_with("<0x") && token.ends_with('>')) return 1;
  auto count = std::ssize(token);
  for (size_t at = token.find(kSpace); at != token.npos; at = token.find(kSpace, at + 1)) {
    count -= std::ssize(kSpace) - 1;
  }
  return count;
}

// Merges take most of a file, and nobody here asks for them.
Json parse_without_merges(const std::string& text, const std::string& name) {
  const auto keep = [](int depth, Json::parse_event_t event, const Json& parsed) {
    return depth != 2 || event != Json::parse_event_t::key || parsed != "merges";
  };
  Json tokenizer = Json::parse(text, keep, /*allow_exceptions=*/false);
  if (tokenizer.is_discarded()) parse_json(text, {name, FilePurpose::kModel});  // Throws.
  return tokenizer;
}

using VisitToken = std::function<void(const Json& id, const std::string& token)>;

// A vocabulary maps tokens to ids, or lists them with their scores.
void for_each_token(const Json& vocabulary, const VisitToken& visit) {
  if (vocabulary.is_object()) {
    for (const auto& [token, id] : vocabulary.items()) visit(id, token);
  } else if (vocabulary.is_array()) {
    for (size_t id = 0; id < vocabulary.size(); ++id) {
      const Json& entry = vocabulary[id];
      if (!entry.is_array() || entry.empty() || !entry[0].is_string()) continue;
      visit(id, entry[0].get_ref<const std::string&>());
    }
  }
}

}  // namespace

std::vector<int64_t> read_token_bytes(const std::filesystem::path& tokenizer, int64_t vocab_size) {
  const std::string text = read_file(tokenizer, FilePurpose::kModel);
  const Json parsed = parse_without_merges(text, tokenizer.string());
  const Spelling spelling = parsed.is_object() ? spelling_of(parsed) : Spelling::kUnknown;
  if (spelling == Spelling::kUnknown) return {};
  std::vector<int64_t> bytes(static_cast<size_t>(vocab_size), 0);
  bool has_any = false;
  const auto put = [&](const Json& id, int64_t count) {
    if (!id.is_number_integer()) return;
    const auto number = id.get<int64_t>();
    if (number < 0 || number >= vocab_size) return;
    bytes[static_cast<size_t>(number)] = count;
    has_any = true;
  };
  const Json model = parsed.value("model", Json::object());
  for_each_token(model.value("vocab", Json()), [&](const Json& id, const std::string& token) {
    put(id, spelling == Spelling::kBytes ? bytes_of_byte_level(token) : bytes_of_piece(token));
  });
  const Json added = parsed.value("added_tokens", Json::array());
  for (const Json& token : added) {
    const std::string content = token.value("content", std::string());
    put(token.value("id", Json()), token.value("special", false) ? 0 : std::ssize(content));
  }
  return has_any ? bytes : std::vector<int64_t>();
}

}  // namespace temper

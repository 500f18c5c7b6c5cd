// SPDX-License-Identifier: Apache-2.0
#include "io/json.h"

#include <set>
#include <utility>
#include <vector>

#include "core/concat.h"
#include "core/message_text.h"

namespace temper {
namespace {

constexpr int kMaxDepth = 128;  // Arbitrary; config.json and tokenizer.json use fewer than 10.

[[noreturn]] void refuse(const JsonOrigin& origin, const std::string& problem) {
  throw_file_error(origin.purpose, concat(origin.name, " is not the JSON it should be: ", problem),
                   "mend the file, or fetch it again");
}

// The library begins its messages with "[json.exception.parse_error.101] " and quotes what it read,
// which may be of any length and no text.
std::string reason_of(const Json::exception& error) {
  constexpr size_t kMaxLength = 200;
  std::string text = error.what();
  text.erase(0, text.find("] ") + 2);
  if (text.size() > kMaxLength) text.replace(kMaxLength, std::string::npos, "...");
  for (char& character : text) {
    if (character < ' ' || character > '~') character = '?';
  }
  return text;
}

/// Watches the parser: refuses what it would let pass, and knows the path to where it is.
class StrictWatch {
 public:
  explicit StrictWatch(const JsonOrigin& origin) : origin_(origin) {}

  void see(int depth, Json::parse_event_t event, const Json& parsed) {
    using Event = Json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      if (depth >= kMaxDepth) {
        refuse(origin_, concat("it is nested deeper than ", kMaxDepth, " below ", path()));
      }
      objects_.emplace_back();
    } else if (event == Event::object_end || event == Event::array_end) {
      objects_.pop_back();
    } else if (event == Event::key) {
      add_key(parsed.get_ref<const std::string&>());
    }
  }

  /// The key of the member that the outermost object is at.
  const std::string& member() const { return objects_.front().key; }

 private:
  struct Level {  // An object, or an array, which has no keys.
    std::set<std::string> keys;
    std::string key;
  };

  void add_key(const std::string& key) {
    if (!objects_.back().keys.insert(key).second) {
      refuse(origin_, concat("the key ", shown(key), " occurs twice in ", path()));
    }
    objects_.back().key = key;
  }

  std::string path() const {
    std::string text = "/";
    for (size_t depth = 0; depth + 1 < objects_.size(); ++depth) text += objects_[depth].key + '/';
    return quote_if_needed(text);
  }

  const JsonOrigin& origin_;
  std::vector<Level> objects_;
};

template <typename Callback>
Json parse_with(std::string_view text, const JsonOrigin& origin, Callback callback) {
  try {
    return Json::parse(text, callback);
  } catch (const Json::exception& error) {
    refuse(origin, reason_of(error));
  }
}

}  // namespace

Json parse_json(std::string_view text, const JsonOrigin& origin) {
  StrictWatch watch(origin);
  return parse_with(text, origin, [&](int depth, Json::parse_event_t event, const Json& parsed) {
    watch.see(depth, event, parsed);
    return true;
  });
}

Json object_or_null(const std::string& line) {
  try {
    Json object = parse_json(line, {"line", FilePurpose::kData});
    return object.is_object() ? object : Json(nullptr);
  } catch (const DataError&) {
    return nullptr;
  }
}

std::string shown(const Json& value) {
  constexpr size_t kLongest = 60;
  std::string text = value.dump(-1, ' ', true);
  return text.size() <= kLongest ? text : quote(text);
}

Json read_json(const std::filesystem::path& path, FilePurpose purpose) {
  return parse_json(read_file(path, purpose), {path.string(), purpose});
}

void for_each_member(std::string_view text, const JsonOrigin& origin,
                     const std::function<void(const std::string& key, const Json& value)>& visit) {
  using Event = Json::parse_event_t;
  StrictWatch watch(origin);
  bool is_object = false;
  parse_with(text, origin, [&](int depth, Event event, const Json& parsed) {
    watch.see(depth, event, parsed);
    if (depth == 0) {
      is_object = is_object || event == Event::object_start;
      return true;
    }
    const bool is_whole =
        event == Event::value || event == Event::object_end || event == Event::array_end;
    if (depth > 1 || !is_whole || !is_object) return true;
    visit(watch.member(), parsed);
    return false;  // Drops the value.
  });
  if (!is_object) refuse(origin, "it is not an object");
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "config/document.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <map>
#include <optional>
#include <sstream>
#include <utility>

#include "config/source_text.h"
#include "core/concat.h"

namespace temper {
namespace {

constexpr size_t kDeepest = 16;
constexpr size_t kMostValues = 100000;

// Ends the parsing: what follows would be nonsense.
struct Unreadable {
  Problem problem;
};

int line_of(const YAML::Mark& mark) { return mark.line + 1; }

YamlNode node_of(YamlNode::Kind kind, int line) {
  YamlNode node;
  node.kind = kind;
  node.line = line;
  return node;
}

// Makes the tree out of yaml-cpp's events, so that nothing is lost or expanded before we see it.
class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(std::vector<Problem>& problems) : problems_(problems) {}

  YamlNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    place(make(YamlNode::Kind::kNothing, mark, "", anchor));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    place(refused(mark, "has an alias (*name)", "write the value out"));
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode node = make(YamlNode::Kind::kScalar, mark, tag, anchor);
    node.text = value;
    node.is_quoted = tag == "!";
    place(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(make(YamlNode::Kind::kList, mark, tag, anchor));
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(make(YamlNode::Kind::kMap, mark, tag, anchor));
  }
  void OnMapEnd() override { close(); }

 private:
  struct Key {
    std::string text;
    int line = 0;
    bool is_usable = false;
  };
  // A list or map that is not complete yet.
  struct Open {
    YamlNode node;
    std::optional<Key> key = {};           // Of the value that comes next, in a map.
    std::map<std::string, int> seen = {};  // Key to its line.
  };

  void report(int line, const std::string& what, const std::string& remedy) {
    problems_.push_back({concat("line ", line, " ", what), remedy});
  }

  YamlNode refused(const YAML::Mark& mark, const std::string& what, const std::string& remedy) {
    report(line_of(mark), what, remedy);
    return node_of(YamlNode::Kind::kRefused, line_of(mark));
  }

  YamlNode make(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
                YAML::anchor_t anchor) {
    if (++num_values_ > kMostValues) {
      throw Unreadable{{concat("the document has more than ", kMostValues, " values"),
                        "give the YAML file of the run"}};
    }
    if (anchor != YAML::NullAnchor) {
      report(line_of(mark), "has an anchor (&name)", "write the value out where it is used");
    }
    if (!tag.empty() && tag != "?" && tag != "!") {
      return refused(mark, concat("has the tag ", quote(tag)), "leave the tag out");
    }
    return node_of(kind, line_of(mark));
  }

  void open(YamlNode node) {
    if (open_.size() >= kDeepest) {
      throw Unreadable{{concat("line ", node.line, " is nested deeper than ", kDeepest, " levels"),
                        "write sections and their keys"}};
    }
    open_.push_back({.node = std::move(node)});
  }

  void close() {
    YamlNode node = std::move(open_.back().node);
    open_.pop_back();
    place(std::move(node));
  }

  void place(YamlNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::kList) {
      parent.node.items.push_back(std::move(node));
    } else if (parent.node.kind == YamlNode::Kind::kMap) {
      place_in_map(parent, std::move(node));
    }
  }

  void place_in_map(Open& map, YamlNode node) {
    if (!map.key) {
      map.key = {node.text, node.line, is_usable_key(map, node)};
      return;
    }
    if (map.key->is_usable) {
      // The mark of nothing is that of what follows.
      if (node.kind == YamlNode::Kind::kNothing) node.line = map.key->line;
      map.node.entries.push_back({map.key->text, map.key->line, std::move(node)});
    }
    map.key.reset();
  }

  bool is_usable_key(Open& map, const YamlNode& node) {
    if (node.kind == YamlNode::Kind::kRefused) return false;
    if (node.kind != YamlNode::Kind::kScalar) {
      report(node.line, "has a key that is no name", "write 'key: value'");
      return false;
    }
    if (node.text == "<<" && !node.is_quoted) {
      report(node.line, "has a merge key (<<)", "write the keys out");
      return false;
    }
    const auto [before, is_new] = map.seen.emplace(node.text, node.line);
    if (!is_new) {
      report(node.line,
             concat("has the key ", quote(node.text), " again, after line ", before->second),
             "keep one of them");
    }
    return is_new;
  }

  std::vector<Problem>& problems_;
  std::vector<Open> open_;  // Outermost first.
  YamlNode root_;
  size_t num_values_ = 0;
};

YamlNode parse_events(std::string_view text, std::vector<Problem>& problems) {
  std::istringstream stream{std::string(text)};
  YAML::Parser parser(stream);
  TreeBuilder builder(problems);
  if (!parser.HandleNextDocument(builder)) return {};
  YamlNode root = builder.take_root();
  TreeBuilder second(problems);
  if (parser.HandleNextDocument(second)) {
    throw Unreadable{{concat("a second document begins before line ", second.take_root().line + 1),
                      "keep one document per file, and only one '---'"}};
  }
  return root;
}

}  // namespace

const YamlNode* YamlNode::find(std::string_view key) const {
  for (const Entry& entry : entries) {
    if (entry.key == key) return &entry.value;
  }
  return nullptr;
}

YamlNode parse_yaml(std::string_view text, std::vector<Problem>& problems) {
  const std::vector<Problem> text_problems = find_text_problems(text);
  try {
    if (text_problems.empty()) return parse_events(text, problems);
    problems.push_back(text_problems.front());
  } catch (const Unreadable& unreadable) {
    problems.push_back(unreadable.problem);
  } catch (const YAML::ParserException& error) {
    problems.push_back({concat("line ", error.mark.line + 1, ", column ", error.mark.column + 1,
                               " is not YAML: ", error.msg),
                        "mend the line, or the one before it"});
  }
  return node_of(YamlNode::Kind::kRefused, kCommandLine);
}

}  // namespace temper

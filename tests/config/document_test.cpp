// SPDX-License-Identifier: Apache-2.0
// Texts that are no configuration: each ends at once, with a message that names the line.
#include "config/document.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <string>
#include <vector>

#include "config/processor_time.h"

using namespace temper;
namespace data = boost::unit_test::data;
using namespace std::string_literals;

namespace {

struct Fault {
  std::string name, text, message;
};
std::ostream& operator<<(std::ostream& out, const Fault& one) { return out << one.name; }

std::string repeated(const std::string& text, int count) {
  std::string result;
  for (int i = 0; i < count; ++i) result += text;
  return result;
}

// Nine levels of nine aliases each: 9^9 values if they were followed.
std::string alias_bomb() {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before +
            repeated(", " + before, 8) + "]\n";
  }
  return text;
}

const std::vector<Fault> kFaults = {
    {"duplicate key", "a: 1\nb: 2\na: 3\n",
     "line 3 has the key 'a' again, after line 1\n  try: keep one of them"},
    {"duplicate key in flow", "a: {b: 1,\n b: 2}\n", "line 2 has the key 'b' again, after line 1"},
    {"anchor", "a: &x 1\n",
     "line 1 has an anchor (&name)\n  try: write the value out where it is used"},
    {"alias", "a: &x 1\nb: *x\n", "line 2 has an alias (*name)\n  try: write the value out"},
    {"alias of nothing", "a: *x\n", "line 1, column 4 is not YAML: the referenced anchor is not"},
    {"alias cycle", "a: &x [*x]\n", "line 1 has an alias (*name)"},
    {"alias bomb", alias_bomb(), "line 2 has an alias (*name)"},
    {"merge key", "a:\n  <<: {b: 1}\n", "line 2 has a merge key (<<)\n  try: write the keys out"},
    {"unknown tag", "a: !mine 1\n", "line 1 has the tag '!mine'\n  try: leave the tag out"},
    {"known tag", "a: !!int 1\n", "line 1 has the tag 'tag:yaml.org,2002:int'"},
    {"tag on a list", "a: !!set [1]\n", "line 1 has the tag 'tag:yaml.org,2002:set'"},
    {"list as key", "[a]: 1\n", "line 1 has a key that is no name\n  try: write 'key: value'"},
    {"map as key", "? {a: 1}\n: 1\n", "line 1 has a key that is no name"},
    {"null as key", "~: 1\n", "line 1 has a key that is no name"},
    {"second document", "a: 1\n---\nb: 2\n",
     "a second document begins before line 4\n  try: keep one document per file"},
    {"second document after end", "a: 1\n...\nb: 2\n", "a second document begins"},
    {"second document empty", "a: 1\n---\n", "a second document begins"},
    {"lists in lists", std::string(10000, '['), "line 1 is nested deeper than 16 levels"},
    {"maps in maps", repeated("{a: ", 10000), "line 1 is nested deeper than 16 levels"},
    {"dashes in dashes", repeated("- ", 10000), "line 1 is nested deeper than 16 levels"},
    {"questions in questions", repeated("? ", 10000), "line 1 is nested deeper than 16 levels"},
    {"many values", "[" + repeated("1,", 100001) + "]", "has more than 100000 values"},
    {"many keys",
     [] {
       std::string text;
       for (int i = 0; i < 60000; ++i) text += "k" + std::to_string(i) + ": 1\n";
       return text;
     }(),
     "has more than 100000 values"},
    {"not closed", "a: [1, 2\n", "is not YAML"},
    {"quote not closed", "a: \"" + std::string(500000, 'x'), "is not YAML"},
    {"wrong indentation", "a: 1\n  b: 2\n", "line 2, column 4 is not YAML"},
    {"NUL", "a: 1\nb: \0 2\n"s, "line 2, column 4 has the byte '\\x00'\n  try: save the file as"},
    {"control character", "a: \x1B[31m\n", "line 1, column 4 has the byte '\\x1B'"},
    {"Latin-1", "a: caf\xE9\n", "line 1, column 7 has the byte '\\xE9'"},
    {"overlong UTF-8", "a: \xC0\xAF\n", "line 1, column 4 has the byte '\\xC0'"},
    {"surrogate in UTF-8", "a: \xED\xA0\x80\n", "line 1, column 4 has the byte '\\xED'"},
    {"beyond Unicode", "a: \xF4\x90\x80\x80\n", "line 1, column 4 has the byte '\\xF4'"},
    {"cut off UTF-8", "a: \xE2\x82", "line 1, column 4 has the byte '\\xE2'"},
    {"UTF-16",
     "\xFF\xFE"
     "a\0:\0"s,
     "the text is UTF-16\n  try: save it as UTF-8"},
    {"tab", "a:\n\tb: 1\n", "line 2, column 1 has a tab as indentation\n  try: indent with spaces"},
    {"tab after spaces", "a:\n  \tb: 1\n", "line 2, column 3 has a tab as indentation"},
};

}  // namespace

BOOST_AUTO_TEST_SUITE(document)

BOOST_DATA_TEST_CASE(a_faulty_text_is_refused_at_once, data::make(kFaults), fault) {
  const temper::testing::ProcessorTime watch;
  std::vector<Problem> problems;
  parse_yaml(fault.text, problems);
  const std::string message = to_text(problems);
  BOOST_TEST(message.find(fault.message) != std::string::npos, "the message is: " << message);
  BOOST_TEST(watch.seconds() < temper::testing::kMostSeconds);
}

BOOST_AUTO_TEST_CASE(all_faults_of_structure_are_reported_at_once) {
  std::vector<Problem> problems;
  parse_yaml("a: &x 1\nb: *x\na: 2\nc: !t 3\n", problems);
  BOOST_TEST(to_text(problems) ==
             "line 1 has an anchor (&name)\n  try: write the value out where it is used\n"
             "line 2 has an alias (*name)\n  try: write the value out\n"
             "line 3 has the key 'a' again, after line 1\n  try: keep one of them\n"
             "line 4 has the tag '!t'\n  try: leave the tag out");
}

BOOST_AUTO_TEST_CASE(more_problems_than_a_person_reads_are_counted) {
  std::vector<Problem> problems;
  parse_yaml(repeated("a: 1\n", 1001), problems);
  const std::string message = to_text(problems);
  BOOST_TEST(message.ends_with("\nand 960 more problems"));
}

BOOST_DATA_TEST_CASE(line_ends_and_marks_make_no_difference,
                     data::make({"a:\n  b: 1\nc: [x, y]\n", "a:\r\n  b: 1\r\nc: [x, y]\r\n",
                                 "---\na:\n  b: 1\nc: [x, y]\n...\n", "a:\n  b: 1\nc: [x, y]",
                                 "# é\na:\n  b: 1  # \t\nc:\n  - x\n  - y\n"}),
                     text) {
  std::vector<Problem> problems;
  const YamlNode root = parse_yaml(text, problems);
  BOOST_TEST(problems.empty());
  BOOST_REQUIRE(root.find("a") != nullptr);
  BOOST_REQUIRE(root.find("a")->find("b") != nullptr);
  BOOST_TEST(root.find("a")->find("b")->text == "1");
  BOOST_REQUIRE(root.find("c")->items.size() == 2);
  BOOST_TEST(root.find("c")->items[1].text == "y");
}

BOOST_AUTO_TEST_CASE(quotes_are_remembered_and_lines_count_from_one) {
  std::vector<Problem> problems;
  const YamlNode root = parse_yaml("a: 1\nb: '1'\nc: |\n  1\nd:\n", problems);
  BOOST_TEST(!root.find("a")->is_quoted);
  BOOST_TEST(root.find("b")->is_quoted);
  BOOST_TEST(root.find("c")->is_quoted);
  BOOST_TEST(root.find("b")->line == 2);
  BOOST_TEST((root.find("d")->kind == YamlNode::Kind::kNothing));
  BOOST_TEST(root.find("e") == nullptr);
}

BOOST_AUTO_TEST_SUITE_END()

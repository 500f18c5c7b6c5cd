// SPDX-License-Identifier: Apache-2.0
#include "io/json.h"

#include <boost/test/unit_test.hpp>
#include <vector>

#include "io/says.h"
#include "io/temporary_folder.h"

namespace temper {
namespace {

const JsonOrigin kOrigin{"config.json", FilePurpose::kModel};

Json parse(const std::string& text) { return parse_json(text, kOrigin); }

BOOST_AUTO_TEST_SUITE(json)

BOOST_AUTO_TEST_CASE(a_text_becomes_a_value) {
  const Json value = parse(R"({"a": [1, {"b": "\u00e9"}], "b": 2.5})");
  BOOST_TEST(value["a"][1]["b"].get<std::string>() == "\u00e9");
  BOOST_TEST(value["b"].get<double>() == 2.5);
}

BOOST_AUTO_TEST_CASE(what_is_not_json_names_file_line_and_column) {
  BOOST_CHECK_EXCEPTION(parse("{\"a\": 1,\n  b}"), ModelError,
                        says("config.json is not the JSON it should be: parse error at line 2, "
                             "column 3"));
  for (const char* text : {"", "{", "[1,]", "{} x", "NaN", "01", "'a'", "{\"a\" 1}", "\"\n\""}) {
    BOOST_CHECK_EXCEPTION(parse(text), ModelError, says("parse error at line"));
  }
}

BOOST_AUTO_TEST_CASE(what_is_quoted_of_a_bad_text_is_short_and_printable) {
  const std::string wild = "{\"" + std::string(100, '\xff') + std::string(100000, 'x');
  BOOST_CHECK_EXCEPTION(parse(wild), ModelError, [](const Error& error) {
    const std::string message = error.what();
    return message.size() < 400 && message.find('\xff') == std::string::npos;
  });
  BOOST_CHECK_EXCEPTION(parse('"' + std::string(100000, 'x')), ModelError, says("xxx...\n  try"));
}

BOOST_AUTO_TEST_CASE(a_key_that_occurs_twice_is_refused) {
  BOOST_CHECK_EXCEPTION(parse(R"({"a": {"b": [{"c": 1, "d": 2, "c": 1}]}})"), ModelError,
                        says(R"(the key "c" occurs twice in /a/b//)"));
  BOOST_CHECK_EXCEPTION(parse(R"({"a": 1, "\u0061": 2})"), ModelError,
                        says(R"(the key "a" occurs twice in /)"));
  BOOST_CHECK_NO_THROW(parse(R"({"a": {"a": {"a": 1}}, "b": {"a": [{"a": 1}, {"a": 1}]}})"));
}

BOOST_AUTO_TEST_CASE(text_that_is_not_utf8_is_refused) {
  BOOST_CHECK_EXCEPTION(parse("{\"a\": \"\xff\"}"), ModelError, says("ill-formed UTF-8 byte"));
  BOOST_CHECK_EXCEPTION(parse("\"\xc0\xaf\""), ModelError, says("ill-formed UTF-8 byte"));
  BOOST_CHECK_EXCEPTION(parse("\"\\ud800\""), ModelError, says("surrogate"));
}

BOOST_AUTO_TEST_CASE(deep_nesting_is_refused_before_it_costs_anything) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  BOOST_CHECK_NO_THROW(parse(nested(128)));
  BOOST_CHECK_EXCEPTION(parse(nested(129)), ModelError, says("nested deeper than 128"));
  BOOST_CHECK_EXCEPTION(parse(std::string(1000000, '[')), ModelError, says("deeper than 128"));
  std::string objects;
  for (int depth = 0; depth < 200; ++depth) objects += "{\"a\":";
  BOOST_CHECK_EXCEPTION(parse(objects), ModelError, says("nested deeper than 128 below '/a/a/"));
}

BOOST_AUTO_TEST_CASE(a_number_that_no_double_holds_is_refused) {
  BOOST_CHECK_EXCEPTION(parse("[1e999]"), ModelError, says("1e999"));
}

BOOST_AUTO_TEST_CASE(the_members_of_an_object_are_handed_over_one_by_one) {
  std::vector<std::string> seen;
  const auto visit = [&](const std::string& key, const Json& value) {
    seen.push_back(key + '=' + value.dump());
  };
  for_each_member(R"({"a": 1, "b": {"c": [2, {"d": 3}], "e": {}}, "f": [], "g": null})", kOrigin,
                  visit);
  const std::vector<std::string> wanted{"a=1", R"(b={"c":[2,{"d":3}],"e":{}})", "f=[]", "g=null"};
  BOOST_TEST(seen == wanted, boost::test_tools::per_element());
  for (const char* text : {"[1, [2], {\"a\": 3}]", "1", "null"}) {
    seen.clear();
    BOOST_CHECK_EXCEPTION(for_each_member(text, kOrigin, visit), ModelError,
                          says("it is not an object"));
    BOOST_TEST(seen.empty());
  }
  BOOST_CHECK_EXCEPTION(for_each_member(R"({"a": 1, "a": 2})", kOrigin, visit), ModelError,
                        says(R"(the key "a" occurs twice in /)"));
}

BOOST_AUTO_TEST_CASE(a_file_is_named_in_the_kind_of_error_that_it_is_read_for) {
  const TemporaryFolder folder;
  put(folder / "state.json", "[}");
  BOOST_CHECK_EXCEPTION(read_json(folder / "state.json", FilePurpose::kCheckpoint), CheckpointError,
                        says("state.json is not the JSON it should be"));
  BOOST_CHECK_EXCEPTION(read_json(folder / "gone.json", FilePurpose::kData), DataError,
                        says("gone.json: opening it failed"));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

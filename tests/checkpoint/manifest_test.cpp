// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/manifest.h"

#include <boost/test/unit_test.hpp>

#include "checkpoint/run_state.h"
#include "core/hash.h"
#include "io/json.h"
#include "io/says.h"

namespace temper {
namespace {

constexpr const char* kName = "run/MANIFEST.json";

Manifest small() {
  const std::string hash = to_hex(sha256("x"));
  return {7,
          2,
          "BF16",
          {{"embedding", 10, 4096}},
          {{"model/a", {{0, 4096, hash}, {4096, 20, hash}}}, {"state.json", {{0, 0, hash}}}}};
}

// The text of a manifest whose own hash fits although `change` was made to it.
std::string sealed(const Json& change) {
  Json json = Json::parse(to_json(small()));
  const std::string zeros(64, '0');
  json["manifest_sha256"] = zeros;
  json.merge_patch(change);
  std::string text = json.dump(1) + '\n';
  const size_t at = text.find(zeros);
  return at == std::string::npos ? text : text.replace(at, zeros.size(), to_hex(sha256(text)));
}

void expect_refusal(const std::string& text, const std::string& message) {
  BOOST_CHECK_EXCEPTION(parse_manifest(text, kName), CheckpointError, says(message));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(manifest)

BOOST_AUTO_TEST_CASE(reads_back_what_it_wrote) {
  const Manifest manifest = parse_manifest(to_json(small()), kName);
  BOOST_TEST(manifest.step == 7);
  BOOST_TEST(manifest.world_size == 2);
  BOOST_TEST(manifest.model_dtype == "BF16");
  BOOST_TEST(manifest.units.at(0).name == "embedding");
  BOOST_TEST(manifest.units.at(0).num_elements == 10);
  BOOST_TEST(manifest.units.at(0).shard_size == 4096);
  BOOST_TEST(manifest.files.size() == 2u);
  BOOST_TEST(manifest.files[0].path == "model/a");
  BOOST_TEST(manifest.files[0].bytes() == 4116);
  BOOST_TEST(manifest.files[0].segments[1].offset == 4096);
  BOOST_TEST(manifest.files[0].segments[1].sha256 == to_hex(sha256("x")));
  BOOST_TEST(manifest.bytes() == 4116);
}

BOOST_AUTO_TEST_CASE(any_changed_byte_is_noticed) {
  const std::string text = to_json(small());
  for (size_t i = 0; i < text.size(); ++i) {
    for (const int flip : {1, 4, 32}) {
      std::string altered = text;
      altered[i] = static_cast<char>(altered[i] ^ flip);
      BOOST_CHECK_THROW(parse_manifest(altered, kName), CheckpointError);
    }
  }
}

BOOST_AUTO_TEST_CASE(any_torn_text_is_noticed) {
  const std::string text = to_json(small());
  for (size_t length = 0; length < text.size(); ++length) {
    BOOST_CHECK_THROW(parse_manifest(text.substr(0, length), kName), CheckpointError);
  }
}

BOOST_AUTO_TEST_CASE(what_is_wrong_is_named) {
  expect_refusal("{\"format\"", kName);
  expect_refusal("[]", "run/MANIFEST.json is no temper checkpoint's");
  expect_refusal("{}", "run/MANIFEST.json is no temper checkpoint's");
  expect_refusal(sealed({{"format_version", 2}}),
                 "run/MANIFEST.json has format version 2; this temper reads up to 1");
  expect_refusal(sealed({{"manifest_sha256", nullptr}}), "has no hash of its own");
  expect_refusal(sealed({{"step", nullptr}}), "run/MANIFEST.json: step is missing");
  expect_refusal(sealed({{"step", -1}}), "step is -1, wanted a whole number of at least 0");
  expect_refusal(sealed({{"files", 3}}), "files is not a list");
  std::string altered = to_json(small());
  altered.replace(altered.find("\"step\": 7"), 9, "\"step\": 8");
  expect_refusal(altered, "was altered: its own hash does not fit");
}

BOOST_AUTO_TEST_CASE(files_must_be_inside_and_covered_by_their_segments) {
  const auto refused = [](const char* path, int64_t bytes, const Json& segments) {
    return sealed({{"files", {{{"path", path}, {"bytes", bytes}, {"segments", segments}}}}});
  };
  const std::string hash = to_hex(sha256("x"));
  const auto segment = [&](int64_t offset, int64_t bytes) {
    return Json{{"offset", offset}, {"bytes", bytes}, {"sha256", hash}};
  };
  expect_refusal(refused("../b", 4, Json::array({segment(0, 4)})), "path is \"../b\"");
  expect_refusal(refused("/b", 4, Json::array({segment(0, 4)})), "path is \"/b\"");
  expect_refusal(refused("b", 5, Json::array({segment(0, 4)})), "do not cover the file");
  expect_refusal(refused("b", 0, Json::array()), "do not cover the file");
  expect_refusal(refused("b", 8, Json::array({segment(0, 3), segment(4, 4)})), "leaves a gap");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(what_is_wrong_with_a_state_file_is_named) {
  RunState state;
  state.step = 3;
  const auto refused = [&](const char* key, const Json& value, const char* message) {
    Json json = Json::parse(to_json(state));
    json[key] = value;
    BOOST_CHECK_EXCEPTION(parse_run_state(json.dump(), "a/state.json"), CheckpointError,
                          says(message));
  };
  refused("step", nullptr, "a/state.json: step is missing");
  refused("num_skipped", -1, "a/state.json: num_skipped is -1, wanted a whole number of at lea");
  refused("trajectory", 7, "a/state.json: trajectory is 7, wanted a string");
}

}  // namespace temper

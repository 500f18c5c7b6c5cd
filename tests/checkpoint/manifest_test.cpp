// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/manifest.h"

#include <boost/test/unit_test.hpp>

#include "checkpoint/run_state.h"
#include "checkpoint/sealed_manifest.h"
#include "core/concat.h"
#include "core/hash.h"
#include "io/json.h"
#include "io/says.h"

namespace temper {
namespace {

constexpr const char* kName = "run/MANIFEST.json";

Manifest small() {
  const Digest hash = sha256("x");
  return {7,
          2,
          "BF16",
          {{"embedding", 10, 4096}},
          {{"model/a", 4116, 4096, 16, hash}, {"state.json", 0, 0, 0, hash}}};
}

// The text of a manifest whose own hash fits although `change` was made to it.
std::string sealed(const Json& change) {
  Json json = Json::parse(to_json(small()));
  json.merge_patch(change);
  return testing::sealed_text(json);
}

// The same as version 1 wrote it.
std::string sealed_old(const char* path, int64_t bytes, const Json& segments) {
  return sealed({{"format_version", 1},
                 {"files", {{{"path", path}, {"bytes", bytes}, {"segments", segments}}}}});
}

Json old_segment(int64_t offset, int64_t bytes, const Digest& hash = sha256("x")) {
  return {{"offset", offset}, {"bytes", bytes}, {"sha256", to_hex(hash)}};
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
  BOOST_TEST(manifest.files[0].bytes == 4116);
  BOOST_TEST(manifest.files[0].num_segments() == 3);
  BOOST_CHECK(manifest.files[0].segment(0) == (Range{0, 4096}));
  BOOST_CHECK(manifest.files[0].segment(1) == (Range{4096, 4112}));
  BOOST_CHECK(manifest.files[0].segment(2) == (Range{4112, 4116}));
  BOOST_CHECK(manifest.files[0].sha256 == sha256("x"));
  BOOST_TEST(manifest.files[1].num_segments() == 1);
  BOOST_TEST(manifest.bytes() == 4116);
  BOOST_TEST(manifest.num_digests() == 3);
}

// Of Llama-3 70B: 80 blocks, embedding and head, in four sets.
BOOST_AUTO_TEST_CASE(its_size_does_not_depend_on_the_number_of_ranks) {
  size_t text_bytes[2];
  int64_t num_digests[2];
  for (const int i : {0, 1}) {
    const int64_t num_ranks = i == 0 ? 64 : 4096;
    Manifest manifest = small();
    manifest.files.clear();
    for (int file = 0; file < 4 * 82; ++file) {
      const int64_t bytes = 4 * int64_t{855'654'400};
      const int64_t slice = (bytes / num_ranks + 16383) / 16384 * 16384;
      manifest.files.push_back({concat("optimizer/second_moment-000", file, ".safetensors"),
                                8192 + bytes, 8192, slice, sha256("x")});
    }
    text_bytes[i] = to_json(manifest).size();
    num_digests[i] = manifest.num_digests();
    BOOST_TEST(num_digests[i] <= 328 * (num_ranks + 1));
  }
  BOOST_TEST(text_bytes[1] <= text_bytes[0] + 100);
  BOOST_TEST(text_bytes[1] < 100'000u);
  BOOST_TEST(num_digests[0] == 328 * 65);
  BOOST_TEST(num_digests[1] * 32 < 44'000'000);
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
  expect_refusal(sealed({{"format_version", 3}}),
                 "run/MANIFEST.json has format version 3; this temper reads up to 2");
  Json without = Json::parse(to_json(small()));
  without.erase("manifest_sha256");
  expect_refusal(without.dump(), "has no hash of its own");
  expect_refusal(sealed({{"step", nullptr}}), "run/MANIFEST.json: step is missing");
  expect_refusal(sealed({{"step", -1}}), "step is -1, wanted a whole number of at least 0");
  expect_refusal(sealed({{"files", 3}}), "files is not a list");
  std::string altered = to_json(small());
  altered.replace(altered.find("\"step\": 7"), 9, "\"step\": 8");
  expect_refusal(altered, "was altered: its own hash does not fit");
}

BOOST_AUTO_TEST_CASE(files_must_be_inside_and_cut_into_segments) {
  const std::string hash = to_hex(sha256("x"));
  const auto refused = [&](const char* path, int64_t first, int64_t later, const std::string& hex) {
    return sealed({{"files",
                    {{{"path", path},
                      {"bytes", 8},
                      {"first_segment_bytes", first},
                      {"segment_bytes", later},
                      {"digests_sha256", hex}}}}});
  };
  expect_refusal(refused("../b", 4, 4, hash), "path is '../b'");
  expect_refusal(refused("/b", 4, 4, hash), "path is '/b'");
  expect_refusal(refused("b", 8, 4, hash), "leaves nothing for a second segment");
  expect_refusal(refused("b", 0, 4, hash), "first_segment_bytes is 0");
  expect_refusal(refused("b", 4, 0, hash), "segment_bytes is 0");
  expect_refusal(refused("b", 4, 4, "xy"), "digests_sha256 is 'xy', wanted 64 hexadecimal digits");
  expect_refusal(sealed({{"files", {{{"path", "b"}, {"bytes", 8}}}}}), "sha256 is missing");
}

TrainingData some_data() {
  return {.shards = {{"train.h5", "", "sft", "ab", 3, 30, 10},
                     {"held.h5", "first", "pretrain", "cd", 1, 9, 8}},
          .sources = {{"a/*.jsonl", "MIT", "https://some.where/ä"}, {"b", "", ""}}};
}

BOOST_AUTO_TEST_CASE(the_data_reads_back_as_it_was_written) {
  BOOST_TEST(!parse_manifest(to_json(small()), kName).data.has_value());
  Manifest manifest = small();
  manifest.data = some_data();
  const std::string text = to_json(manifest);
  const Manifest read = parse_manifest(text, kName);
  BOOST_REQUIRE(read.data.has_value());
  BOOST_TEST(to_json(read) == text);
  BOOST_TEST(read.data->shards.at(0).holdout == "");
  BOOST_TEST(read.data->shards.at(1).holdout == "first");
  BOOST_TEST(read.data->shards.at(1).num_tokens == 9);
  BOOST_CHECK(read.data->sources == some_data().sources);
}

BOOST_AUTO_TEST_CASE(what_is_wrong_with_the_data_is_named) {
  const auto altered = [](const char* list, const Json& change) {
    Json data = to_json_value(some_data());
    data[list][1].merge_patch(change);
    return sealed({{"data", data}});
  };
  expect_refusal(sealed({{"data", 3}}), "MANIFEST.json: data. is not a JSON object");
  expect_refusal(sealed({{"data", Json::object()}}), "data.shards is not a list");
  expect_refusal(sealed({{"data", {{"shards", {1}}, {"sources", Json::array()}}}}),
                 "a shard's  is not a JSON object");
  expect_refusal(altered("shards", {{"path", 3}}), "a shard's path is 3");
  expect_refusal(altered("shards", {{"holdout", 3}}), "a shard's holdout is 3");
  expect_refusal(altered("shards", {{"num_tokens", 0}}), "a shard's num_tokens is 0");
  expect_refusal(altered("shards", {{"fingerprint", nullptr}}), "fingerprint is missing");
  expect_refusal(altered("sources", {{"license", nullptr}}), "a source's license is missing");
  expect_refusal(altered("sources", {{"origin", Json::array()}}), "a source's origin is []");
}

BOOST_AUTO_TEST_CASE(the_digests_of_version_1_are_in_the_manifest) {
  const Json segments = {old_segment(0, 4, sha256("a")), old_segment(4, 3, sha256("b")),
                         old_segment(7, 1, sha256("c"))};
  std::vector<Digest> digests;
  const Manifest manifest = parse_manifest(sealed_old("b", 8, segments), kName, &digests);
  const ManifestFile& file = manifest.files.at(0);
  BOOST_TEST(file.num_segments() == 3);
  BOOST_CHECK(file.segment(1) == (Range{4, 7}));
  BOOST_CHECK(digests == (std::vector<Digest>{sha256("a"), sha256("b"), sha256("c")}));
  BOOST_CHECK(file.sha256 == hash_of_digests(digests.data(), 3));
  const Manifest small_file =
      parse_manifest(sealed_old("b", 8, Json::array({old_segment(0, 8)})), kName, &digests);
  BOOST_TEST(digests.empty());
  BOOST_CHECK(small_file.files.at(0).sha256 == sha256("x"));
}

BOOST_AUTO_TEST_CASE(files_of_version_1_must_be_covered_by_their_segments) {
  expect_refusal(sealed_old("b", 5, Json::array({old_segment(0, 4)})), "do not cover the file");
  expect_refusal(sealed_old("b", 0, Json::array()), "do not cover the file");
  expect_refusal(sealed_old("b", 8, {old_segment(0, 3), old_segment(4, 4)}), "leaves a gap");
  expect_refusal(sealed_old("b", 9, {old_segment(0, 3), old_segment(3, 2), old_segment(5, 4)}),
                 "bytes is 4, unlike the others");
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

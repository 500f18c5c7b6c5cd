// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors_folder.h"

#include <boost/test/unit_test.hpp>

#include "io/safetensors_bytes.h"
#include "io/says.h"
#include "io/temporary_folder.h"

namespace temper {
namespace {

namespace fs = std::filesystem;

// A file with tensors of one byte each.
std::string bytes_with(const std::vector<std::string>& names) {
  std::string json = "{";
  for (size_t i = 0; i < names.size(); ++i) {
    json += (i == 0 ? "\"" : ",\"") + names[i] + R"(":{"dtype":"U8","shape":[1],"data_offsets":[)" +
            std::to_string(i) + "," + std::to_string(i + 1) + "]}";
  }
  return safetensors_bytes(json + "}", std::string(names.size(), 'x'));
}

struct Fixture {
  Fixture() {
    fs::create_directory(folder / "model");
    put(folder / "model/one.safetensors", bytes_with({"a", "b"}));
    put(folder / "model/two.safetensors", bytes_with({"c"}));
  }

  void expect_refusal(const std::string& weight_map, const std::string& text) {
    put(folder / "model/model.safetensors.index.json", R"({"weight_map": )" + weight_map + "}");
    BOOST_CHECK_EXCEPTION(SafetensorsFolder(folder / "model"), ModelError, says(text));
  }

  TemporaryFolder folder;
};

const std::string kGood = R"({"a":"one.safetensors","b":"one.safetensors","c":"two.safetensors"})";

BOOST_FIXTURE_TEST_SUITE(safetensors_folder, Fixture)

BOOST_AUTO_TEST_CASE(an_index_leads_to_the_files_of_its_tensors) {
  put(folder / "model/model.safetensors.index.json",
      R"({"metadata": {"total_size": 3}, "weight_map": )" + kGood + "}");
  const SafetensorsFolder model(folder / "model");
  BOOST_TEST(model.tensors().size() == 3u);
  BOOST_TEST(model.files().size() == 2u);
  const SafetensorsFolder::Place* place = model.find("c");
  BOOST_REQUIRE(place != nullptr);
  BOOST_TEST(place->file->path().filename() == "two.safetensors");
  BOOST_TEST(place->tensor == place->file->find("c"));
  BOOST_TEST(model.find("d") == nullptr);
}

BOOST_AUTO_TEST_CASE(a_single_file_needs_no_index) {
  put(folder / "model/adapter_model.safetensors", bytes_with({"x"}));
  const SafetensorsFolder model(folder / "model", "adapter_model");
  BOOST_TEST(model.tensors().size() == 1u);
  BOOST_TEST(model.find("x")->tensor->num_elements() == 1);
}

BOOST_AUTO_TEST_CASE(a_folder_without_tensors_says_what_is_read) {
  BOOST_CHECK_EXCEPTION(
      SafetensorsFolder(folder / "model", "model", FilePurpose::kCheckpoint), CheckpointError,
      says("model has neither model.safetensors nor model.safetensors.index.json"));
}

BOOST_AUTO_TEST_CASE(names_outside_the_folder_are_refused) {
  put(folder / "outside.safetensors", bytes_with({"a"}));
  expect_refusal(R"({"a":"../outside.safetensors"})",
                 "names the file '../outside.safetensors', outside its folder");
  expect_refusal(R"({"a":"x/../../outside.safetensors"})", "outside its folder");
  expect_refusal("{\"a\":\"" + (folder / "outside.safetensors").string() + "\"}",
                 "outside its folder");
  expect_refusal(R"({"a":""})", "names the file '', outside its folder");
  expect_refusal(R"({"a":")" + std::string(60'000, 'x') + "/../..\"}", "xxx…', outside its folder");
  fs::create_symlink("loop.safetensors", folder / "model/loop.safetensors");
  expect_refusal(R"({"a":"loop.safetensors"})", "Too many levels of symbolic links");
}

BOOST_AUTO_TEST_CASE(links_are_followed_wherever_they_lead) {
  fs::create_directories(folder / "elsewhere");
  put(folder / "elsewhere/shared.safetensors", bytes_with({"c"}));
  fs::create_symlink("../elsewhere/shared.safetensors", folder / "model/three.safetensors");
  put(folder / "model/model.safetensors.index.json",
      R"({"weight_map": {"c": "three.safetensors"}})");
  BOOST_TEST(SafetensorsFolder(folder / "model").tensors().size() == 1u);

  fs::create_directories(folder / "blobs");
  fs::create_directories(folder / "snapshots/1a2b");
  put(folder / "blobs/99ff", bytes_with({"c"}));
  fs::create_symlink("../../blobs/99ff", folder / "snapshots/1a2b/one.safetensors");
  put(folder / "snapshots/1a2b/model.safetensors.index.json",
      R"({"weight_map": {"c": "one.safetensors"}})");
  BOOST_TEST(SafetensorsFolder(folder / "snapshots/1a2b").tensors().size() == 1u);
}

BOOST_AUTO_TEST_CASE(an_index_that_does_not_fit_its_files_is_refused) {
  expect_refusal("[]", "has no object weight_map");
  expect_refusal(R"({"a":1})", "gives no file for tensor 'a'");
  expect_refusal(R"({"a":"gone.safetensors"})",
                 "names the file 'gone.safetensors', which is not there");
  expect_refusal(R"({"a":"one.safetensors","b":"two.safetensors","c":"two.safetensors"})",
                 "places tensor 'b' in 'two.safetensors', but it is in 'one.safetensors'");
  expect_refusal(R"({"a":"one.safetensors"})",
                 "places tensor 'b' in no file, but it is in 'one.safetensors'");
  expect_refusal(R"({"c":"two.safetensors","d":"two.safetensors"})",
                 "places tensor 'd' in 'two.safetensors', which does not have it");
  expect_refusal(R"({"c":"two.safetensors","c":"one.safetensors"})", "occurs twice");
  put(folder / "model/two.safetensors", "torn");
  expect_refusal(kGood, "two.safetensors is not a whole safetensors file");
}

BOOST_AUTO_TEST_CASE(names_and_index_are_those_of_hugging_face) {
  BOOST_TEST(safetensors_file_name("model", 0, 1) == "model.safetensors");
  BOOST_TEST(safetensors_file_name("model", 1, 12) == "model-00002-of-00012.safetensors");
  BOOST_TEST(safetensors_index({{"b", "x"}, {"a", "y"}}, 12) ==
             "{\n  \"metadata\": {\n    \"total_size\": 12\n  },\n  \"weight_map\": {\n"
             "    \"a\": \"y\",\n    \"b\": \"x\"\n  }\n}\n");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

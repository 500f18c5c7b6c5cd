// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/companion_files.h"

#include <boost/test/unit_test.hpp>

#include "checkpoint/chat_template.h"
#include "io/says.h"
#include "io/temporary_folder.h"

namespace temper {

BOOST_AUTO_TEST_SUITE(companion_files)

BOOST_AUTO_TEST_CASE(only_the_dtype_changes_to_the_last_space) {
  const std::string before = R"({ "a": {"dtype": "float32"}, "b": "\"dtype\": {[",
  "torch_dtype" :  "float32" , "c": [ 1e-05, "dtype" ]})";
  const std::string after = R"({ "a": {"dtype": "float32"}, "b": "\"dtype\": {[",
  "torch_dtype" :  "bfloat16" , "c": [ 1e-05, "dtype" ]})";
  BOOST_TEST(with_dtype(before, DType::kBF16) == after);
  BOOST_TEST(with_dtype(after, DType::kBF16) == after);
  BOOST_TEST(with_dtype(R"({"dtype":null})", DType::kF16) == R"({"dtype":"float16"})");
  BOOST_TEST(with_dtype(R"({"dtype": "x", "torch_dtype": 1})", DType::kF32) ==
             R"({"dtype": "float32", "torch_dtype": "float32"})");
  BOOST_TEST(with_dtype("{\"no\": 1}\n", DType::kF32) == "{\"no\": 1}\n");
}

BOOST_AUTO_TEST_CASE(a_flag_is_set_in_its_place) {
  BOOST_TEST(with_flag(R"({"b": 1, "a": true})", "a", false) ==
             "{\n  \"b\": 1,\n  \"a\": false\n}\n");
  BOOST_TEST(with_flag(R"({"b": 1})", "a", true) == "{\n  \"b\": 1,\n  \"a\": true\n}\n");
}

BOOST_AUTO_TEST_CASE(a_member_is_put_after_the_last_one) {
  BOOST_TEST(with_member("{\n  \"a\": {\"b\": 1}\n}\n", "c", "[2]") ==
             "{\n  \"a\": {\"b\": 1},\n  \"c\": [2]\n}\n");
  BOOST_TEST(with_member(R"({"a":{}})", "c", "{}") == "{\"a\":{},\n  \"c\": {}}");
}

BOOST_AUTO_TEST_CASE(known_files_are_taken_byte_for_byte_and_no_others) {
  const TemporaryFolder folder;
  const std::string odd("\0\xff{\r\n", 5);
  put(folder / "config.json", "{}");
  put(folder / "chat_template.jinja", odd);
  put(folder / "model.safetensors", "weights");
  put(folder / "training_args.bin", "pickle");
  const std::vector<TextFile> files = read_companion_files(folder.path());
  BOOST_REQUIRE(files.size() == 2u);
  BOOST_TEST(files[0].path == "config.json");
  BOOST_TEST(files[1].path == "chat_template.jinja");
  BOOST_TEST(files[1].text == odd);
}

BOOST_AUTO_TEST_CASE(templates_own_code_and_notices_belong_to_a_model) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "additional_chat_templates");
  std::filesystem::create_directories(folder / "LICENSES.d");
  std::filesystem::create_directories(folder / "custom_generate");
  for (const char* name :
       {"additional_chat_templates/tool_use.jinja", "additional_chat_templates/notes.txt",
        "custom_generate/generate.py", "video_preprocessor_config.json",
        "audio_tokenizer_config.json", "tekken.json", "spiece.model", "tokenization_x.py",
        "vocab_of_x.py", "LICENSE-3RD.txt", "Notice.txt", "README.md", "unlicensed.txt"}) {
    put(folder / name, name);
  }
  const auto names = [&] {
    std::vector<std::string> found;
    for (const TextFile& file : read_companion_files(folder.path())) found.push_back(file.path);
    return found;
  };
  put(folder / "tokenizer_config.json", R"({"auto_map": {"AutoTokenizer": ["tokenization_x.X"]}})");
  const std::vector<std::string> all = {"tokenizer_config.json",
                                        "spiece.model",
                                        "tekken.json",
                                        "video_preprocessor_config.json",
                                        "audio_tokenizer_config.json",
                                        "additional_chat_templates/tool_use.jinja",
                                        "tokenization_x.py",
                                        "vocab_of_x.py",
                                        "custom_generate/generate.py",
                                        "LICENSE-3RD.txt",
                                        "Notice.txt"};
  const std::vector<std::string> code = {"tokenization_x.py", "vocab_of_x.py",
                                         "custom_generate/generate.py"};
  BOOST_TEST(own_code_in(folder.path()) == code, boost::test_tools::per_element());
  BOOST_TEST(names() == all, boost::test_tools::per_element());
  put(folder / "tokenizer_config.json", "{}");
  BOOST_TEST(names().size() == all.size() - 2);
}

BOOST_AUTO_TEST_CASE(one_chat_template_takes_the_place_of_all_others) {
  const std::string config = R"({"b": 1, "chat_template": "old", "a": "chat_template"})";
  std::vector<TextFile> files = {{"tokenizer.json", R"({"chat_template": 1})"},
                                 {"tokenizer_config.json", config},
                                 {"chat_template.jinja", "old"},
                                 {"chat_template.json", "{}"},
                                 {"additional_chat_templates/tool_use.jinja", "old"}};
  set_chat_template("new", files);
  BOOST_REQUIRE(files.size() == 3u);
  BOOST_TEST(files[0].text == R"({"chat_template": 1})");
  BOOST_TEST(files[1].text == "{\n  \"b\": 1,\n  \"a\": \"chat_template\"\n}\n");
  BOOST_TEST(files[2].path == "chat_template.jinja");
  BOOST_TEST(files[2].text == "new");
  files[1].text = R"({"b":1})";
  set_chat_template("newer", files);
  BOOST_REQUIRE(files.size() == 3u);
  BOOST_TEST(files[1].text == R"({"b":1})");
  BOOST_TEST(files[2].text == "newer");
}

BOOST_AUTO_TEST_CASE(end_tokens_take_the_place_of_others) {
  BOOST_TEST(with_end_tokens(R"({"a": 1, "eos_token_id": 2, "b": 3})", {2, 7}) ==
             "{\n  \"a\": 1,\n  \"eos_token_id\": [\n    2,\n    7\n  ],\n  \"b\": 3\n}\n");
}

BOOST_AUTO_TEST_CASE(dtype_names_are_those_of_transformers) {
  BOOST_TEST(torch_name(DType::kBF16) == "bfloat16");
  BOOST_CHECK(dtype_named("float16", "x") == DType::kF16);
  BOOST_CHECK_EXCEPTION(dtype_named("BF16", "checkpoint.model_dtype"), ConfigError,
                        says("checkpoint.model_dtype is 'BF16'\n  try: set it to auto, float32"));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper

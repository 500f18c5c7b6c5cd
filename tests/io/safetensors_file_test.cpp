// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors_file.h"

#include <boost/test/unit_test.hpp>

#include "core/concat.h"
#include "io/safetensors_bytes.h"
#include "io/says.h"
#include "io/temporary_folder.h"

namespace temper {
namespace {

const std::string kPair =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]},)"
    R"("a":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]}})";

struct Fixture {
  SafetensorsFile open(const std::string& bytes) { return SafetensorsFile(put(path, bytes)); }

  // What the reader says of a file with one tensor described so, and `data_bytes` bytes of data.
  void expect_refusal(const std::string& tensor, size_t data_bytes, const std::string& text) {
    const std::string json = "{\"t\":" + tensor + "}";
    BOOST_CHECK_EXCEPTION(open(safetensors_bytes(json, std::string(data_bytes, 'x'))), ModelError,
                          says(text));
  }

  TemporaryFolder folder;
  std::filesystem::path path = folder / "model.safetensors";
};

BOOST_FIXTURE_TEST_SUITE(safetensors_file, Fixture)

BOOST_AUTO_TEST_CASE(tensors_are_listed_in_the_order_of_their_data) {
  const SafetensorsFile file = open(safetensors_bytes(kPair + "   ", "\x80\x3f\x80\xc0hi"));
  BOOST_REQUIRE(file.tensors().size() == 2);
  const auto& first = file.tensors()[0];
  BOOST_TEST(first.name == "a");
  BOOST_TEST((first.dtype == DType::kBF16));
  BOOST_TEST((first.shape == std::vector<int64_t>{2, 1}));
  BOOST_TEST(first.num_elements() == 2);
  const auto begin = static_cast<int64_t>(8 + kPair.size() + 3);
  BOOST_TEST((first.bytes == Range{begin, begin + 4}));
  BOOST_TEST(file.find("b") == &file.tensors()[1]);
  BOOST_TEST(file.find("c") == nullptr);
  BOOST_TEST(file.metadata().at("format") == "pt");
  std::string text(2, '?');
  file.read(file.find("b")->bytes.begin, std::as_writable_bytes(std::span(text)));
  BOOST_TEST(text == "hi");
}

BOOST_AUTO_TEST_CASE(scalars_empty_tensors_and_empty_files_are_read) {
  const std::string json = R"({"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                           R"("e":{"dtype":"F32","shape":[3,0],"data_offsets":[4,4]},)"
                           R"("z":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})";
  const SafetensorsFile file = open(safetensors_bytes(json, "data"));
  BOOST_TEST(file.find("s")->num_elements() == 1);
  BOOST_TEST(file.find("e")->num_elements() == 0);
  BOOST_TEST(open(safetensors_bytes("{}", "")).tensors().empty());
}

BOOST_AUTO_TEST_CASE(parts_of_tensors_are_read_as_fp32) {
  std::vector<float> floats(2000000);
  for (size_t i = 0; i < floats.size(); ++i) floats[i] = static_cast<float>(i % 251);
  std::string data(floats.size() * 2, '\0');
  from_floats(DType::kBF16, floats, std::as_writable_bytes(std::span(data)));
  const SafetensorsFile file = open(safetensors_bytes(
      R"({"t":{"dtype":"BF16","shape":[2000000],"data_offsets":[0,4000000]}})", data));
  std::vector<float> part(1900000);
  file.read_floats(*file.find("t"), {99999, 1999999}, part);
  BOOST_TEST(std::equal(part.begin(), part.end(), floats.begin() + 99999));
  BOOST_CHECK_THROW(file.read_floats(*file.find("t"), {1, 3}, part), std::invalid_argument);
  BOOST_CHECK_THROW(file.read_floats(*file.find("t"), {100001, 2000001}, part),
                    std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(a_dtype_that_is_no_number_of_ours_is_named) {
  const SafetensorsFile file = open(safetensors_bytes(kPair, "123456"));
  std::vector<float> part(2);
  BOOST_CHECK_EXCEPTION(file.read_floats(*file.find("b"), {0, 2}, part), ModelError,
                        says("tensor 'b' has dtype U8; only F32, BF16 and F16 can be read"));
}

BOOST_AUTO_TEST_CASE(a_header_that_does_not_fit_is_refused) {
  const std::string name = path.string() + " is not a whole safetensors file: ";
  BOOST_CHECK_EXCEPTION(open(""), ModelError, says(name + "it has 0 bytes; the header's length"));
  BOOST_CHECK_EXCEPTION(open("1234567"), ModelError, says(name + "it has 7 bytes"));
  const auto with_length = [](uint64_t length) {
    return std::string(reinterpret_cast<const char*>(&length), 8) + "{}";
  };
  BOOST_CHECK_EXCEPTION(open(with_length(3)), ModelError,
                        says("it is truncated: its header needs 11 bytes and the file has 10"));
  BOOST_CHECK_EXCEPTION(open(with_length(100000001)), ModelError,
                        says("its header would have 100000001 bytes; at most 100000000"));
  BOOST_CHECK_EXCEPTION(open(with_length(uint64_t{1} << 63)), ModelError,
                        says("its header would have 9223372036854775808 bytes"));
  BOOST_CHECK_EXCEPTION(open(with_length(~uint64_t{0})), ModelError, says("header would have"));
  BOOST_CHECK_EXCEPTION(open(with_length(0)), ModelError, says("does not begin with {"));
}

BOOST_AUTO_TEST_CASE(a_header_that_is_not_an_object_of_tensors_is_refused) {
  for (const char* json : {" {}", "[]", "1"}) {
    BOOST_CHECK_EXCEPTION(open(safetensors_bytes(json, "")), ModelError,
                          says("its header does not begin with {"));
  }
  BOOST_CHECK_EXCEPTION(open(safetensors_bytes("{", "")), ModelError, says("parse error at line"));
  BOOST_CHECK_EXCEPTION(open(safetensors_bytes("{\"\xff\":1}", "")), ModelError,
                        says("ill-formed UTF-8"));
  BOOST_CHECK_EXCEPTION(open(safetensors_bytes("{} {}", "")), ModelError, says("parse error"));
  BOOST_CHECK_EXCEPTION(open(safetensors_bytes(R"({"__metadata__":[]})", "")), ModelError,
                        says("its __metadata__ is not an object"));
  BOOST_CHECK_EXCEPTION(open(safetensors_bytes(R"({"__metadata__":{"a":1}})", "")), ModelError,
                        says("its __metadata__ has \"a\", which is not a string"));
  const std::string one = R"("t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  BOOST_CHECK_EXCEPTION(open(safetensors_bytes("{" + one + "," + one + "}", "x")), ModelError,
                        says(R"(the key "t" occurs twice in /)"));
}

BOOST_AUTO_TEST_CASE(a_tensor_that_is_not_described_right_is_refused) {
  expect_refusal("1", 0, R"(tensor "t" is not described by an object)");
  expect_refusal(R"({"shape":[1],"data_offsets":[0,1]})", 1, R"(tensor "t" has no dtype)");
  expect_refusal(R"({"dtype":"U8","data_offsets":[0,1]})", 1, "has no shape");
  expect_refusal(R"({"dtype":"U8","shape":[1]})", 1, "has no data_offsets");
  expect_refusal(R"({"dtype":"F128","shape":[1],"data_offsets":[0,1]})", 1,
                 R"(has the unknown dtype "F128")");
  expect_refusal(R"({"dtype":8,"shape":[1],"data_offsets":[0,1]})", 1, "has the unknown dtype 8");
  expect_refusal(R"({"dtype":"U8","shape":1,"data_offsets":[0,1]})", 1,
                 "has a shape that is not a list");
  for (const char* number : {"-1", "1.0", "1e0", "\"1\"", "18446744073709551615", "null"}) {
    expect_refusal(concat(R"({"dtype":"U8","data_offsets":[0,1],"shape":[)", number, "]}"), 1,
                   "in its shape");
    expect_refusal(concat(R"({"dtype":"U8","shape":[1],"data_offsets":[0,)", number, "]}"), 1,
                   "in its data_offsets");
  }
  expect_refusal(R"({"dtype":"U8","shape":[1],"data_offsets":[0,1,1]})", 1, "not a pair");
  expect_refusal(R"({"dtype":"U8","shape":[1],"data_offsets":[1,0]})", 1,
                 "ends at 0, before it begins at 1");
}

BOOST_AUTO_TEST_CASE(a_size_that_does_not_fit_the_shape_is_refused) {
  expect_refusal(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", 4,
                 "takes 4 bytes, but its shape and dtype need 8");
  expect_refusal(R"({"dtype":"F4","shape":[3],"data_offsets":[0,1]})", 1,
                 "has 12 bits, which are not whole bytes");
  expect_refusal(R"({"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]})", 0,
                 "has a shape too big to count");
  expect_refusal(R"({"dtype":"U8","shape":[9223372036854775807,2,0],"data_offsets":[0,0]})", 0,
                 "has a shape too big to count");
}

BOOST_AUTO_TEST_CASE(holes_overlaps_and_tails_are_refused) {
  const auto two = [&](const std::string& first, const std::string& second, size_t data_bytes) {
    const std::string json = R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)" + first +
                             R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)" + second + "}}";
    return open(safetensors_bytes(json, std::string(data_bytes, 'x')));
  };
  BOOST_CHECK_NO_THROW(two("[2,4]", "[0,2]", 4));
  BOOST_CHECK_EXCEPTION(two("[0,2]", "[3,5]", 5), ModelError,
                        says(R"(tensor "b" begins at byte 3 of the data, after a hole; wanted 2)"));
  BOOST_CHECK_EXCEPTION(two("[1,3]", "[3,5]", 5), ModelError,
                        says(R"(tensor "a" begins at byte 1 of the data, after a hole; wanted 0)"));
  BOOST_CHECK_EXCEPTION(two("[0,2]", "[1,3]", 3), ModelError,
                        says("1 of the data, inside another"));
  BOOST_CHECK_EXCEPTION(two("[0,2]", "[0,2]", 2), ModelError, says("inside another one"));
  BOOST_CHECK_EXCEPTION(two("[0,2]", "[2,4]", 3), ModelError,
                        says("it is truncated: its tensors need 4 bytes of data and 3 are there"));
  BOOST_CHECK_EXCEPTION(two("[0,2]", "[2,4]", 7), ModelError,
                        says("3 bytes follow the last tensor"));
}

// Whatever one byte of the header becomes, and wherever the file ends: it is read or refused.
BOOST_AUTO_TEST_CASE(damage_to_any_byte_of_the_header_is_refused_or_harmless) {
  const JsonOrigin origin{"file", FilePurpose::kModel};
  const auto read = [&](const std::string& bytes) {
    const int64_t size = std::ssize(bytes);
    const auto text = std::string_view(bytes);
    const int64_t json_bytes = safetensors_json_bytes(text.substr(0, 8), size, origin);
    return parse_safetensors_header(text.substr(8, static_cast<size_t>(json_bytes)), size, origin);
  };
  const std::string whole = safetensors_bytes(kPair, "123456");
  BOOST_TEST(read(whole).tensors.size() == 2u);
  for (size_t size = 0; size < whole.size(); ++size) {
    BOOST_CHECK_THROW(read(whole.substr(0, size)), ModelError);
  }
  int num_read = 0;
  for (size_t at = 0; at < whole.size() - 6; ++at) {
    for (int flip = 1; flip < 256; ++flip) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ flip);
      try {
        read(damaged);
        ++num_read;
      } catch (const ModelError&) {
      }
    }
  }
  BOOST_TEST(num_read > 0);  // Letters of a name, or of the metadata.
  BOOST_TEST(num_read < 6000);
}

BOOST_AUTO_TEST_CASE(a_hundred_thousand_tensors_are_read) {
  std::string json = "{";
  for (int i = 0; i < 100000; ++i) {
    json +=
        concat(i == 0 ? "" : ",", '"', i, R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})");
  }
  const SafetensorsFile file = open(safetensors_bytes(json + "}", ""));
  BOOST_TEST(file.tensors().size() == 100000u);
  BOOST_TEST(file.find("99999") != nullptr);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

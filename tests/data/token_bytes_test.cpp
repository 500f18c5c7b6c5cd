// SPDX-License-Identifier: Apache-2.0
#include "data/token_bytes.h"

#include <boost/test/unit_test.hpp>
#include <fstream>

#include "core/error.h"
#include "io/temporary_folder.h"

namespace temper {
namespace {

using Bytes = std::vector<int64_t>;

struct Fixture {
  Bytes read(const std::string& text, int64_t vocab_size = 6) {
    const std::filesystem::path path = folder / "tokenizer.json";
    std::ofstream(path) << text;
    return read_token_bytes(path, vocab_size);
  }

  TemporaryFolder folder;
};

BOOST_FIXTURE_TEST_SUITE(token_bytes, Fixture)

// "é" is the bytes C3 A9, spelt "Ã©"; a space is spelt "Ġ". Each is two bytes of the file.
BOOST_AUTO_TEST_CASE(byte_level_tokens_have_a_byte_for_each_character) {
  const Bytes bytes = read(R"({"decoder": {"type": "ByteLevel"}, "added_tokens": [
    {"id": 3, "content": "<eos>", "special": true},
    {"id": 4, "content": "h\u00e9", "special": false}],
    "model": {"type": "BPE", "vocab": {"a": 0, "Ã©": 1, "Ġab": 2, "<eos>": 3, "far": 9},
              "merges": [["a", "b"]]}})");
  BOOST_TEST(bytes == (Bytes{1, 2, 3, 0, 3, 0}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(pieces_have_those_of_their_text) {
  const Bytes bytes = read(R"({"decoder": {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}]},
    "model": {"type": "BPE", "vocab": {"▁▁": 0, "▁é": 1, "<0x0A>": 2, "ab": 3}}})");
  BOOST_TEST(bytes == (Bytes{2, 3, 1, 2, 0, 0}), boost::test_tools::per_element());
  const Bytes listed = read(R"({"decoder": {"type": "Metaspace"},
    "model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["▁a", -1.5]]}})");
  BOOST_TEST(listed == (Bytes{5, 2, 0, 0, 0, 0}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(of_other_tokenizers_they_are_not_known) {
  BOOST_TEST(read(R"({"model": {"type": "WordPiece", "vocab": {"a": 0}}})").empty());
  BOOST_TEST(read(R"({"model": {"only its": "hash counts"}})").empty());
  BOOST_TEST(read(R"({"decoder": {"type": "ByteLevel"}, "model": {}})").empty());
  BOOST_CHECK_THROW(read("{"), ModelError);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

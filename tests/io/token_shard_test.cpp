// SPDX-License-Identifier: Apache-2.0
#include "io/token_shard.h"

#include <boost/test/unit_test.hpp>
#include <numeric>
#include <thread>

#include "core/concat.h"
#include "io/says.h"
#include "io/shard_file.h"
#include "io/temporary_folder.h"

namespace temper {
namespace {

template <typename Element>
std::vector<Element> joined(const std::vector<std::vector<Element>>& parts) {
  std::vector<Element> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

std::vector<int64_t> tokens_of(const TokenShard& shard, Range range) {
  std::vector<int64_t> tokens(static_cast<size_t>(range.size()));
  shard.read_tokens(range, tokens);
  return tokens;
}

// Inverts one byte of a file.
void flip(const std::filesystem::path& path, int64_t offset) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(offset);
  const auto byte = static_cast<char>(~file.get());
  file.seekp(offset);
  file.put(byte);
}

struct Fixture {
  TemporaryFolder folder;
  std::filesystem::path path = folder / "shard.h5";
};

BOOST_FIXTURE_TEST_SUITE(token_shard, Fixture)

BOOST_AUTO_TEST_CASE(tokens_are_those_written_whatever_part_is_asked_for) {
  const ShardContent content = counting_documents(50, 40);
  const TokenShard shard(write_shard(path, content));
  const auto all = joined(content.documents);
  BOOST_TEST(shard.num_tokens() == std::ssize(all));
  BOOST_TEST(shard.num_documents() == 50);
  for (int64_t begin = 0; begin < shard.num_tokens(); begin += 13) {
    for (const int64_t size : {0, 1, 31, 32, 33, 100}) {
      const Range range{begin, std::min(begin + size, shard.num_tokens())};
      BOOST_TEST(tokens_of(shard, range) ==
                     std::vector(all.begin() + range.begin, all.begin() + range.end),
                 boost::test_tools::per_element());
    }
  }
  std::vector<int64_t> out(3);
  BOOST_CHECK_THROW(shard.read_tokens({0, 2}, out), std::invalid_argument);
  BOOST_CHECK_THROW(shard.read_tokens({-1, 2}, out), std::invalid_argument);
  BOOST_CHECK_THROW(shard.read_tokens({shard.num_tokens() - 2, shard.num_tokens() + 1}, out),
                    std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(a_big_vocabulary_takes_four_bytes_a_token) {
  ShardContent content;
  content.vocab_size = 128256;
  content.documents = {{128255, 1, 65536}, {70000}};
  const TokenShard shard(write_shard(path, content));
  BOOST_TEST(shard.header().tokens.element_bytes == 4);
  BOOST_TEST(tokens_of(shard, {0, 4}) == (std::vector<int64_t>{128255, 1, 65536, 70000}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_header_says_what_was_written) {
  const TokenShard shard(write_shard(path, counting_conversations(3, 9)));
  const ShardHeader& header = shard.header();
  BOOST_TEST((header.kind == ShardKind::kSft));
  BOOST_TEST(header.vocab_size == 1000);
  BOOST_TEST(header.tokenizer_sha256 == std::string(64, 'a'));
  BOOST_TEST(header.chat_template == "{{ messages }}");
  BOOST_TEST(header.origin == R"({"program": "a test"})");
  BOOST_TEST(header.fingerprint.size() == 64u);
  BOOST_TEST(to_string(header.kind) == "sft");
}

BOOST_AUTO_TEST_CASE(the_mask_of_conversations_is_read) {
  const ShardContent content = counting_conversations(20, 15);
  const TokenShard shard(write_shard(path, content));
  std::vector<uint8_t> mask(static_cast<size_t>(shard.num_tokens()));
  shard.read_target_mask({0, shard.num_tokens()}, mask);
  BOOST_TEST(mask == joined(content.masks), boost::test_tools::per_element());
  const TokenShard other(write_shard(folder / "other.h5", counting_documents(2, 5)));
  BOOST_CHECK_THROW(other.read_target_mask({0, 1}, std::span(mask).first(1)),
                    std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(documents_are_found_by_number_and_by_token) {
  const ShardContent content = counting_documents(3000, 5);  // More than one sparse entry.
  const TokenShard shard(write_shard(path, content));
  const DocumentOffsets& documents = shard.documents();
  std::vector<int64_t> offsets{0};
  for (size_t i = 0; i < content.documents.size(); ++i) {
    offsets.push_back(offsets.back() + std::ssize(content.documents[i]));
    const auto index = static_cast<int64_t>(i);
    BOOST_REQUIRE((documents.document(index) == Range{offsets[i], offsets[i + 1]}));
    BOOST_REQUIRE(documents.document_of(offsets[i]) == index);
    BOOST_REQUIRE(documents.document_of(offsets[i + 1] - 1) == index);
  }
  for (const int64_t begin : {0, 1, 500, 1536, 4000, 8997}) {
    for (const int64_t size : {1, 2, 10, 3000}) {
      const Range range{begin, std::min(begin + size, shard.num_tokens())};
      std::vector<int64_t> wanted;
      for (const int64_t offset : offsets) {
        if (offset > range.begin && offset <= range.end) wanted.push_back(offset);
      }
      BOOST_TEST(documents.offsets_in(range) == wanted, boost::test_tools::per_element());
    }
  }
}

BOOST_AUTO_TEST_CASE(a_damaged_block_is_named_when_it_is_first_read) {
  write_shard(path, counting_documents(50, 40));
  const ShardDataset tokens = read_shard_header(File::open(path, FilePurpose::kData)).tokens;
  flip(path, tokens.bytes.begin + 3 * 64 + 5);  // 64 bytes are 32 tokens.
  const TokenShard shard(path);
  BOOST_CHECK_NO_THROW(tokens_of(shard, {0, 96}));
  BOOST_CHECK_NO_THROW(tokens_of(shard, {128, 500}));
  BOOST_CHECK_EXCEPTION(tokens_of(shard, {90, 97}), DataError,
                        says(path.string() + ", /tokens is damaged: block 3, elements [96, 128), "
                                             "does not have the hash it was written with"));
  BOOST_CHECK_EXCEPTION(shard.verify_all(), DataError, says("/tokens is damaged: block 3"));
  BOOST_CHECK_EXCEPTION(
      shard.verify_all(), DataError,
      says(concat("`temper inspect --verify ", path.string(), "` reads all of it")));
}

BOOST_AUTO_TEST_CASE(a_damaged_mask_or_offset_is_named) {
  write_shard(path, counting_conversations(200, 15));
  const ShardHeader header = read_shard_header(File::open(path, FilePurpose::kData));
  flip(path, header.target_mask.bytes.end - 1);
  const TokenShard shard(path);
  std::vector<uint8_t> mask(1);
  const int64_t last = shard.num_tokens() - 1;
  BOOST_CHECK_EXCEPTION(shard.read_target_mask({last, last + 1}, mask), DataError,
                        says("/target_mask is damaged: block"));
  BOOST_CHECK_EXCEPTION(shard.verify_all(), DataError, says("/target_mask is damaged: block"));
  flip(path, header.document_offsets.bytes.begin + 700);
  BOOST_CHECK_EXCEPTION(TokenShard{path}, DataError,
                        says("/document_offsets is damaged: block 10, elements [80, 88)"));
}

BOOST_AUTO_TEST_CASE(a_token_outside_the_vocabulary_is_named) {
  ShardContent content = counting_documents(10, 20);
  content.documents[4][2] = 1000;
  const TokenShard shard(write_shard(path, content));
  const Range document = shard.documents().document(4);
  BOOST_CHECK_EXCEPTION(
      tokens_of(shard, document), DataError,
      says(concat(": token ", document.begin + 2,
                  ", in document 4, is 1000, which is not below the vocabulary size 1000")));
  BOOST_CHECK_EXCEPTION(shard.verify_all(), DataError, says("in document 4, is 1000"));
}

BOOST_AUTO_TEST_CASE(a_mask_that_breaks_the_format_is_found_by_the_whole_check) {
  const auto expect = [&](const std::function<void(ShardContent&)>& change, const char* text) {
    ShardContent content = counting_conversations(9, 12);
    change(content);
    const TokenShard shard(write_shard(path, content));
    BOOST_CHECK_EXCEPTION(shard.verify_all(), DataError, says(text));
  };
  BOOST_CHECK_NO_THROW(TokenShard(write_shard(path, counting_conversations(9, 12))).verify_all());
  BOOST_CHECK_NO_THROW(TokenShard(write_shard(path, counting_documents(9, 12))).verify_all());
  expect([](auto& content) { content.masks[3][1] = 2; },
         "the target mask of document 3 is not made of 0 and 1");
  expect([](auto& content) { content.masks[3][0] = 1; },
         "the target mask of document 3 has a target that nothing comes before");
  expect([](auto& content) { content.masks[5].assign(content.masks[5].size(), 0); },
         "the target mask of document 5 has no target");
  expect([](auto& content) { content.instead["num_targets"] = int64_t{2}; },
         "targets; its header says 2");
}

BOOST_AUTO_TEST_CASE(many_threads_read_what_one_reads) {
  const ShardContent content = counting_documents(2000, 60);
  const TokenShard shard(write_shard(path, content));
  const auto all = joined(content.documents);
  std::vector<std::jthread> threads;
  std::atomic<int> num_wrong = 0;
  for (int64_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int64_t begin = thread * 101; begin + 100 < shard.num_tokens(); begin += 77) {
        const auto tokens = tokens_of(shard, {begin, begin + 100});
        if (!std::equal(tokens.begin(), tokens.end(), all.begin() + begin)) ++num_wrong;
        const auto offsets = shard.documents().offsets_in({begin, begin + 100});
        if (offsets.empty()) ++num_wrong;
      }
    });
  }
  threads.clear();
  BOOST_TEST(num_wrong == 0);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

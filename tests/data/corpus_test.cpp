// SPDX-License-Identifier: Apache-2.0
#include "data/corpus.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <numeric>

#include "core/concat.h"
#include "data/micro_batches.h"
#include "data/mixture.h"
#include "io/says.h"
#include "io/shard_file.h"
#include "io/temporary_folder.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;

// Documents [begin, end) of another content.
ShardContent part_of(const ShardContent& whole, size_t begin, size_t end) {
  ShardContent part = whole;
  const auto cut = [&](auto& list) {
    list.erase(list.begin() + static_cast<std::ptrdiff_t>(end), list.end());
    list.erase(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(begin));
  };
  cut(part.documents);
  if (!part.masks.empty()) cut(part.masks);
  return part;
}

struct Fixture {
  // Writes the documents as so many parts, of very different sizes.
  ShardSet write(const ShardContent& content, size_t num_parts) {
    const std::filesystem::path below = folder / std::to_string(num_parts);
    std::filesystem::create_directory(below);
    const size_t count = content.documents.size();
    size_t begin = 0;
    for (size_t k = 0; k < num_parts; ++k) {
      const size_t end = k + 1 == num_parts ? count : begin + 2 + k * k * count / 400;
      write_shard(below / concat("train-0000", k, "-of-0000", num_parts, ".h5"),
                  part_of(content, begin, end));
      begin = end;
    }
    return find_shards(below / "train-*.h5");
  }

  TemporaryFolder folder;
};

// Too many documents for one page of offsets; some longer than a row.
ShardContent content_of(bool is_sft) {
  return is_sft ? counting_conversations(1500, 40) : counting_documents(1500, 40);
}

Mixture mix(const ShardSet& set) {
  DataOptions options;
  options.sources = {{set.name}};
  options.sequence_length = 33;
  options.micro_batch_rows = 3;
  options.seed = 5;
  Mixture::Sources sources;
  sources.push_back(std::make_unique<RowSource>(set, options.sequence_length, ModelFacts{}));
  return Mixture(options, std::move(sources));
}

BOOST_FIXTURE_TEST_SUITE(corpus, Fixture)

BOOST_DATA_TEST_CASE(rows_and_batches_do_not_depend_on_how_a_corpus_was_cut,
                     data::make({false, true}) * data::make({2, 8}), is_sft, num_parts) {
  const ShardContent content = content_of(is_sft);
  const Mixture whole = mix(write(content, 1));
  const Mixture cut = mix(write(content, static_cast<size_t>(num_parts)));
  const RowSource& a = *whole.sources().front();
  const RowSource& b = *cut.sources().front();
  BOOST_TEST(b.corpus().parts().size() == static_cast<size_t>(num_parts));
  BOOST_REQUIRE_EQUAL(a.num_rows(), b.num_rows());
  BOOST_TEST(a.num_tokens() == b.num_tokens());
  BOOST_TEST(a.num_truncated() == b.num_truncated());
  BOOST_TEST(a.num_without_target() == b.num_without_target());
  BOOST_TEST(a.corpus().num_targets() == b.corpus().num_targets());
  BOOST_TEST(a.corpus().num_documents() == b.corpus().num_documents());
  for (int64_t row = 0; row < a.num_rows(); ++row) {
    MicroBatch one;
    MicroBatch other;
    a.append_row(row, one);
    b.append_row(row, other);
    BOOST_REQUIRE(are_equal(one, other));
  }
  for (int64_t index = 0; index < a.num_rows(); ++index) {  // Some passes.
    BOOST_REQUIRE(are_equal(whole.micro_batch(index), cut.micro_batch(index)));
  }
}

BOOST_AUTO_TEST_CASE(tokens_and_offsets_are_read_over_the_cuts) {
  const Corpus cut(write(counting_documents(1500, 40), 5));
  const TokenShard whole(write(counting_documents(1500, 40), 1).files.front());
  BOOST_REQUIRE_EQUAL(cut.num_tokens(), whole.num_tokens());
  for (const int64_t length : {1, 7, 5000, 30000}) {
    for (int64_t begin = 0; begin + length <= whole.num_tokens(); begin += 1 + length / 3) {
      const Range tokens{begin, begin + length};
      std::vector<int64_t> wanted(static_cast<size_t>(length));
      std::vector<int64_t> found(static_cast<size_t>(length));
      whole.read_tokens(tokens, wanted);
      cut.read_tokens(tokens, found);
      BOOST_REQUIRE((found == wanted));
      BOOST_REQUIRE((cut.offsets_in(tokens) == whole.documents().offsets_in(tokens)));
    }
  }
  std::vector<int64_t> out(2);
  BOOST_CHECK_THROW(cut.read_tokens({-1, 1}, out), std::invalid_argument);
  BOOST_CHECK_THROW(cut.read_tokens({cut.num_tokens() - 1, cut.num_tokens() + 1}, out),
                    std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(the_fingerprint_is_that_of_the_file_or_of_all_files_in_order) {
  const ShardSet one = write(counting_conversations(1500, 40), 1);
  ShardSet three = write(counting_conversations(1500, 40), 3);
  BOOST_TEST(Corpus(one).fingerprint() == TokenShard(one.files[0]).header().fingerprint);
  const std::string in_order = Corpus(three).fingerprint();
  BOOST_TEST(in_order.size() == 64u);
  BOOST_TEST(in_order != Corpus(one).fingerprint());
  std::swap(three.files[0], three.files[2]);
  BOOST_TEST(Corpus(three).fingerprint() != in_order);
}

BOOST_AUTO_TEST_CASE(parts_that_differ_are_refused) {
  const auto refuses = [&](const ShardContent& other, const std::string& message) {
    const TemporaryFolder below;
    write_shard(below / "a.h5", counting_conversations(3, 9));
    write_shard(below / "b.h5", other);
    BOOST_CHECK_EXCEPTION(Corpus(find_shards(below / "*.h5")), DataError, says(message));
  };
  ShardContent other = counting_conversations(4, 9);
  other.instead["tokenizer_sha256"] = std::string(64, 'b');
  refuses(other,
          "its tokenizer is bbbbbbbbbbbb…, not aaaaaaaaaaaa…\n  try: make all parts by one "
          "recipe, or list what differs as another source");
  other = counting_conversations(4, 9);
  other.vocab_size = 999;
  refuses(other, "b.h5 does not belong to one corpus with ");
  refuses(other, "a.h5: its vocabulary is 999, not 1000\n");
  refuses(counting_documents(4, 9),
          "its kind is pretrain, not sft; its chat template is none, not");
  other = counting_conversations(4, 9);
  other.instead["chat_template"] = "{{ other }}";
  other.instead["chat_template_sha256"] = to_hex(sha256("{{ other }}"));
  refuses(other, "a.h5: its chat template is ");
  refuses(counting_conversations(3, 9), "*.h5 has the same documents twice: ");
}

BOOST_AUTO_TEST_CASE(a_pattern_that_matches_both_sides_of_a_split_is_refused) {
  const auto write_side = [&](const char* name, int64_t count, const std::string& origin) {
    ShardContent content = counting_documents(count, 9);
    content.instead["origin"] = origin;
    write_shard(folder / name, content);
  };
  write_side("holdout.h5", 3, R"({"split": "holdout"})");
  write_side("train.h5", 4, R"({"split": "train"})");
  BOOST_CHECK_EXCEPTION(Corpus(find_shards(folder / "*.h5")), DataError,
                        says("*.h5 matches both sides of a split: "));
  BOOST_CHECK_EXCEPTION(Corpus(find_shards(folder / "*.h5")), DataError,
                        says("train.h5 (train)\n  try: write a pattern that matches one of them"));
  for (const char* silent : {"{}", "no JSON", R"({"split": ["train"]})", R"({"split": "both"})"}) {
    write_side("train.h5", 4, silent);
    BOOST_CHECK_NO_THROW(Corpus(find_shards(folder / "*.h5")));
  }
}

BOOST_AUTO_TEST_CASE(every_part_is_verified) {
  ShardContent bad = counting_conversations(4, 9);
  bad.instead["num_targets"] = int64_t{5};
  write_shard(folder / "a.h5", counting_conversations(3, 9));
  write_shard(folder / "b.h5", bad);
  const Corpus corpus(find_shards(folder / "*.h5"));
  BOOST_CHECK_EXCEPTION(corpus.verify_all(), DataError, says("b.h5 has "));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "data/mixture.h"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <set>
#include <thread>

#include "data/micro_batches.h"
#include "io/says.h"
#include "io/shard_file.h"
#include "io/temporary_folder.h"

namespace temper {
namespace {

// Rows of the first source are full, those of the second on average a good half.
struct Fixture {
  Fixture() {
    options.sources = {{write_shard(folder / "text.h5", counting_documents(300, 50)), 3.0},
                       {write_shard(folder / "chat.h5", conversations()), 1.0}};
    options.sequence_length = 32;
    options.micro_batch_rows = 3;
    options.seed = 7;
  }

  static ShardContent conversations() {
    ShardContent content = counting_conversations(90, 14);
    for (size_t i = 0; i < content.documents.size(); ++i) {
      content.documents[i].resize(17 + i % 5, 1);
      content.masks[i].resize(content.documents[i].size(), 0);
    }
    return content;
  }

  Mixture mix() const {
    Mixture::Sources sources;
    for (const DataSource& source : options.sources) {
      sources.push_back(std::make_unique<RowSource>(find_shards(source.path),
                                                    options.sequence_length, ModelFacts{}));
    }
    return Mixture(options, std::move(sources));
  }

  TemporaryFolder folder;
  DataOptions options;
};

int64_t row_tokens(const Mixture& mixture, Mixture::Place place) {
  MicroBatch batch;
  mixture.sources()[static_cast<size_t>(place.source)]->append_row(place.row, batch);
  return std::ssize(batch.tokens);
}

BOOST_FIXTURE_TEST_SUITE(mixture, Fixture)

BOOST_AUTO_TEST_CASE(token_shares_follow_the_weights) {
  const Mixture mixture = mix();
  std::vector<double> tokens(2);
  for (int64_t index = 0; index < 20000; ++index) {
    const Mixture::Place place = mixture.place_of(index);
    tokens[static_cast<size_t>(place.source)] += static_cast<double>(row_tokens(mixture, place));
  }
  BOOST_TEST(std::abs(tokens[0] / (tokens[0] + tokens[1]) - 0.75) < 0.0075);
}

// At any time no source is more than a row ahead of or behind its share.
BOOST_AUTO_TEST_CASE(sources_take_turns_evenly) {
  options.sources.push_back({options.sources[0].path, 0.5});
  const Mixture mixture = mix();
  std::vector<double> shares;
  double total = 0.0;
  for (size_t k = 0; k < 3; ++k) {
    const RowSource& source = *mixture.sources()[k];
    const auto rows = static_cast<double>(source.num_rows());
    shares.push_back(options.sources[k].weight * rows / static_cast<double>(source.num_tokens()));
    total += shares.back();
  }
  std::vector<double> counts(3);
  for (int64_t index = 0; index < 200000; ++index) {
    ++counts[static_cast<size_t>(mixture.place_of(index).source)];
    for (size_t k = 0; k < 3; ++k) {
      const double due = shares[k] / total * static_cast<double>(index + 1);
      BOOST_REQUIRE(std::abs(counts[k] - due) < 3.0);  // The table's rounding is in it.
    }
  }
}

BOOST_AUTO_TEST_CASE(each_pass_over_a_source_has_every_row_once_in_its_own_order) {
  const Mixture mixture = mix();
  std::vector<std::vector<int64_t>> drawn(2);
  for (int64_t index = 0; index < 100000; ++index) {
    const Mixture::Place place = mixture.place_of(index);
    drawn[static_cast<size_t>(place.source)].push_back(place.row);
  }
  for (size_t source = 0; source < 2; ++source) {
    const auto num_rows = static_cast<size_t>(mixture.sources()[source]->num_rows());
    std::set<std::vector<int64_t>> orders;
    for (size_t begin = 0; begin + num_rows <= drawn[source].size(); begin += num_rows) {
      const auto first = drawn[source].begin() + static_cast<std::ptrdiff_t>(begin);
      const std::vector<int64_t> pass(first, first + static_cast<std::ptrdiff_t>(num_rows));
      BOOST_REQUIRE_EQUAL(std::set<int64_t>(pass.begin(), pass.end()).size(), num_rows);
      BOOST_REQUIRE(orders.insert(pass).second);
    }
    BOOST_TEST(orders.size() > 100u);
  }
}

BOOST_AUTO_TEST_CASE(a_micro_batch_is_a_function_of_its_index_alone) {
  const Mixture mixture = mix();
  std::vector<MicroBatch> in_order;
  for (int64_t index = 0; index < 50; ++index) in_order.push_back(mixture.micro_batch(index));
  const Mixture other = mix();
  for (int64_t index = 49; index >= 0; --index) {
    BOOST_REQUIRE(are_equal(other.micro_batch(index), in_order[static_cast<size_t>(index)]));
  }
  std::vector<std::jthread> threads;
  std::atomic<int> num_wrong = 0;
  for (int64_t thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&, thread] {
      for (int64_t k = 0; k < 50; ++k) {
        const int64_t index = (k * 7 + thread * 13) % 50;
        const auto& wanted = in_order[static_cast<size_t>(index)];
        if (!are_equal(mixture.micro_batch(index), wanted)) ++num_wrong;
      }
    });
  }
  threads.clear();
  BOOST_TEST(num_wrong == 0);
}

BOOST_AUTO_TEST_CASE(a_micro_batch_is_its_rows_end_to_end) {
  const Mixture mixture = mix();
  MicroBatch wanted;
  for (int64_t index = 15; index < 18; ++index) {
    const Mixture::Place place = mixture.place_of(index);
    mixture.sources()[static_cast<size_t>(place.source)]->append_row(place.row, wanted);
  }
  BOOST_TEST(are_equal(mixture.micro_batch(5), wanted));
}

BOOST_AUTO_TEST_CASE(the_seed_decides_the_order) {
  const Mixture mixture = mix();
  options.seed = 8;
  const Mixture other = mix();
  int num_equal = 0;
  for (int64_t index = 0; index < 1000; ++index) {
    const auto a = mixture.place_of(index);
    const auto b = other.place_of(index);
    BOOST_REQUIRE_EQUAL(a.source, b.source);
    if (a.row == b.row) ++num_equal;
  }
  BOOST_TEST(num_equal < 50);
}

BOOST_AUTO_TEST_CASE(two_sources_of_one_size_have_different_orders) {
  options.sources = {options.sources[0], {options.sources[0].path, 3.0}};
  const Mixture mixture = mix();
  int num_equal = 0;
  for (int64_t index = 0; index < 200; index += 2) {
    BOOST_REQUIRE_EQUAL(mixture.place_of(index).source, 0);
    BOOST_REQUIRE_EQUAL(mixture.place_of(index + 1).source, 1);
    if (mixture.place_of(index).row == mixture.place_of(index + 1).row) ++num_equal;
  }
  BOOST_TEST(num_equal < 10);
}

BOOST_AUTO_TEST_CASE(a_document_is_told_by_its_source_or_its_file) {
  const std::string set = (folder / "set-*.h5").string();
  write_shard(folder / "set-a.h5", counting_documents(60, 10));
  write_shard(folder / "set-b.h5", counting_documents(40, 20));
  options.sources = {{set}, {options.sources[1].path}};
  options.micro_batch_rows = 1;
  const Mixture mixture = mix();
  const std::vector<std::string> names = mixture.source_names();
  const std::vector<std::string> wanted = {(folder / "set-a.h5").string(),
                                           (folder / "set-b.h5").string(), options.sources[1].path};
  BOOST_TEST(names == wanted, boost::test_tools::per_element());
  std::vector<int64_t> counts(3);
  for (int64_t index = 0; index < 100; ++index) {
    const MicroBatch batch = mixture.micro_batch(index);
    BOOST_REQUIRE(batch.sources.size() == batch.documents.size());
    const Mixture::Place place = mixture.place_of(index);  // The micro-batch's only row.
    for (size_t i = 0; i < batch.sources.size(); ++i) {
      const int64_t file = batch.documents[i] < 60 ? 0 : 1;
      BOOST_TEST(batch.sources[i] == (place.source == 0 ? file : 2));
      ++counts[static_cast<size_t>(batch.sources[i])];
    }
  }
  BOOST_TEST(*std::ranges::min_element(counts) > 0);
}

BOOST_AUTO_TEST_CASE(any_position_is_reached_at_once) {
  const Mixture mixture = mix();
  const int64_t far = int64_t{1} << 55;
  const Mixture::Place place = mixture.place_of(far);
  BOOST_TEST(place.row >= 0);
  BOOST_TEST(place.row < mixture.sources()[static_cast<size_t>(place.source)]->num_rows());
}

BOOST_AUTO_TEST_CASE(an_epoch_has_as_many_rows_as_the_sources) {
  const Mixture mixture = mix();
  BOOST_TEST(mixture.rows_per_epoch() ==
             mixture.sources()[0]->num_rows() + mixture.sources()[1]->num_rows());
  options.sources = {{options.sources[0].path}};
  const Mixture single = mix();
  std::set<int64_t> rows;
  for (int64_t index = 0; index < single.rows_per_epoch(); ++index) {
    rows.insert(single.place_of(index).row);
  }
  BOOST_TEST(std::ssize(rows) == single.rows_per_epoch());
}

// The tokens that rows [begin, end) of the order really have, by source.
std::vector<double> tokens_in(const Mixture& mixture, int64_t begin, int64_t end) {
  std::vector<double> tokens(mixture.sources().size());
  for (int64_t index = begin; index < end; ++index) {
    const Mixture::Place place = mixture.place_of(index);
    tokens[static_cast<size_t>(place.source)] += static_cast<double>(row_tokens(mixture, place));
  }
  return tokens;
}

BOOST_AUTO_TEST_CASE(without_weights_each_epoch_has_every_row_once) {
  options.sources = {{options.sources[0].path}, {options.sources[1].path}};
  const Mixture mixture = mix();
  const int64_t rows = mixture.rows_per_epoch();
  BOOST_TEST(rows == mixture.sources()[0]->num_rows() + mixture.sources()[1]->num_rows());
  for (int64_t epoch = 0; epoch < 5; ++epoch) {
    std::set<std::pair<int, int64_t>> seen;
    for (int64_t index = epoch * rows; index < (epoch + 1) * rows; ++index) {
      const Mixture::Place place = mixture.place_of(index);
      seen.insert({place.source, place.row});
    }
    BOOST_TEST(std::ssize(seen) == rows);
  }
}

BOOST_AUTO_TEST_CASE(without_weights_sources_weigh_by_their_tokens_epochs_and_limit) {
  const std::string third = write_shard(folder / "more.h5", counting_documents(2000, 50)).string();
  options.sources = {{.path = options.sources[0].path, .epochs = 2.0},
                     {.path = options.sources[1].path, .epochs = 4.0},
                     {.path = third, .max_tokens = 5000}};
  for (const double temperature : {1.0, 2.0, 100.0}) {
    options.mixture.temperature = temperature;
    const Mixture mixture = mix();
    const double sizes[] = {2.0 * static_cast<double>(mixture.sources()[0]->num_tokens()),
                            4.0 * static_cast<double>(mixture.sources()[1]->num_tokens()), 5000.0};
    double total = 0.0;
    for (const double size : sizes) total += std::pow(size, 1.0 / temperature);
    const int64_t rows = mixture.rows_per_epoch();
    const std::vector<double> found = tokens_in(mixture, 0, rows);
    const std::vector<Mixture::Use> uses = mixture.use_of(rows);
    const double all = found[0] + found[1] + found[2];
    for (size_t k = 0; k < 3; ++k) {
      const double asked = std::pow(sizes[k], 1.0 / temperature) / total;
      BOOST_TEST(std::abs(found[k] / all - asked) < 0.01 * asked);
      BOOST_TEST(std::abs(uses[k].share - asked) < 0.01 * asked);
      BOOST_TEST(std::abs(uses[k].tokens - found[k]) < 0.01 * found[k]);
    }
    if (temperature != 1.0) continue;
    BOOST_TEST(uses[0].passes == 2.0);
    BOOST_TEST(uses[1].passes == 4.0);
    BOOST_TEST(found[2] <= 5000.0);
  }
}

BOOST_AUTO_TEST_CASE(a_small_source_beside_a_large_one_is_used) {
  const std::string one = write_shard(folder / "one.h5", counting_documents(2, 30)).string();
  options.sequence_length = 2;
  options.sources = {{.path = options.sources[0].path, .epochs = 100.0}, {.path = one}};
  const Mixture mixture = mix();
  BOOST_TEST(mixture.use_of(mixture.rows_per_epoch())[1].passes == 1.0);
  options.sources[1].max_tokens = 1;
  BOOST_CHECK_EXCEPTION(mix(), DataError,
                        says("one.h5 would never be used: its share of an epoch is less than a "
                             "row\n  try: raise its epochs, its max_tokens"));
}

BOOST_AUTO_TEST_CASE(what_is_used_by_weights_is_counted_as_it_is_drawn) {
  const Mixture mixture = mix();
  const int64_t num_rows = 2 * SlotTable::kSlots + 12'345;
  std::vector<double> rows(2);
  for (int64_t index = 0; index < num_rows; ++index) {
    ++rows[static_cast<size_t>(mixture.place_of(index).source)];
  }
  const std::vector<Mixture::Use> uses = mixture.use_of(num_rows);
  for (size_t k = 0; k < 2; ++k) {
    const auto num = static_cast<double>(mixture.sources()[k]->num_rows());
    BOOST_TEST(uses[k].passes == rows[k] / num);
  }
  BOOST_TEST(std::abs(uses[0].share - 0.75) < 0.0075);
}

BOOST_AUTO_TEST_CASE(a_source_that_would_never_be_drawn_is_refused) {
  options.sources[1].weight = 1e-9;
  BOOST_CHECK_EXCEPTION(mix(), DataError,
                        says("chat.h5 would never be used: its weight gives it less than 1 row in "
                             "65536\n  try: raise its weight"));
  options.sources.clear();
  BOOST_CHECK_THROW(Mixture(options, {}), std::invalid_argument);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

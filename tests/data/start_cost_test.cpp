// SPDX-License-Identifier: Apache-2.0
// How many files and bytes the ranks of a run read when they open a shard. This process counts the
// calls of its own code and of HDF5.
#include <atomic>
#include <boost/test/unit_test.hpp>

#include "data/row_source.h"
#include "io/shard_file.h"
#include "io/temporary_folder.h"
#include "support/file_calls.h"

namespace {

std::atomic<int64_t> num_opens = 0;
std::atomic<int64_t> num_reads = 0;
std::atomic<int64_t> num_bytes_read = 0;

}  // namespace

namespace temper::testing {

void after_open(int, const char*) { ++num_opens; }

void after_read(int, ssize_t num_bytes) {
  ++num_reads;
  num_bytes_read += num_bytes;
}

}  // namespace temper::testing

namespace temper {
namespace {

struct Cost {
  int64_t opens = num_opens;
  int64_t reads = num_reads;
  int64_t bytes = num_bytes_read;

  friend Cost operator-(const Cost& a, const Cost& b) {
    return {a.opens - b.opens, a.reads - b.reads, a.bytes - b.bytes};
  }
};

// What the first rank finds is handed to those that ask for the same later: so many ranks take
// their turns in one process.
class Ranks {
 public:
  OnceForAll rank() {
    return [this, next = size_t{0}](const SharedFile&, const auto& find) mutable {
      if (next == found_.size()) found_.push_back(find());
      return found_.at(next++);
    };
  }

 private:
  std::vector<std::vector<int64_t>> found_;  // [question]
};

// The cost of rank 0, and of each other one.
std::vector<Cost> costs_of(const std::filesystem::path& path, int num_ranks) {
  Ranks ranks;
  std::vector<Cost> costs;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const Cost before;
    const RowSource rows(find_shards(path), 12, ModelFacts{}, ranks.rank());
    costs.push_back(Cost() - before);
    BOOST_TEST_REQUIRE(rows.num_truncated() > 0);
  }
  return costs;
}

struct Fixture {
  // A third of the documents loses its end.
  std::filesystem::path shard(int64_t num_documents) {
    ShardContent content = counting_conversations(num_documents, 18);
    content.block_bytes = 4096;
    return write_shard(folder / std::to_string(num_documents), content);
  }

  TemporaryFolder folder;
};

BOOST_FIXTURE_TEST_SUITE(start_cost, Fixture)

BOOST_AUTO_TEST_CASE(rank_0_reads_blocks_not_documents) {
  const int64_t num_documents = 40'000;
  const auto path = shard(num_documents);
  const int64_t num_bytes = static_cast<int64_t>(std::filesystem::file_size(path));
  const Cost cost = costs_of(path, 1).front();
  const int64_t num_blocks = num_bytes / 4096;
  BOOST_TEST(cost.bytes > 8 * num_documents);  // The offsets.
  BOOST_TEST(cost.reads < 2 * num_blocks + 100);
  BOOST_TEST(cost.reads < num_documents / 20);
  BOOST_TEST(cost.bytes < 2 * num_bytes);
}

BOOST_AUTO_TEST_CASE(other_ranks_read_only_what_tells_where_all_lies) {
  const Cost of_few_documents = costs_of(shard(4'000), 2).back();
  const auto path = shard(40'000);
  const int64_t num_blocks = static_cast<int64_t>(std::filesystem::file_size(path)) / 4096;
  for (const int num_ranks : {1, 8, 64}) {
    const std::vector<Cost> costs = costs_of(path, num_ranks);
    Cost all{0, 0, 0};
    for (const Cost& cost : costs) {
      all = {all.opens + cost.opens, all.reads + cost.reads, all.bytes + cost.bytes};
    }
    const Cost first = costs.front();
    BOOST_TEST(all.opens == 2 * num_ranks);  // HDF5's, and the one that is read from.
    BOOST_TEST(all.reads == first.reads + (num_ranks - 1) * of_few_documents.reads);
    // A rank reads 32 bytes for each block, and what HDF5 needs.
    BOOST_TEST(all.bytes <= first.bytes + (num_ranks - 1) * (32 * num_blocks + 16'384));
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

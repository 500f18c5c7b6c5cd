// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>

#include "data/micro_batches.h"
#include "data/row_source.h"
#include "io/shard_file.h"
#include "io/temporary_folder.h"

namespace temper {
namespace {

BOOST_AUTO_TEST_SUITE(evaluation_rows)

BOOST_AUTO_TEST_CASE(all_rows_come_once_and_in_order) {
  const TemporaryFolder folder;
  const auto path = write_shard(folder / "shard.h5", counting_documents(40, 30));
  const RowSource rows(find_shards(path), 16, ModelFacts{});
  for (const int64_t micro_batch_rows : {1, 3, 4, 1000}) {
    const EvaluationRows evaluation(
        std::make_unique<RowSource>(find_shards(path), 16, ModelFacts{}), micro_batch_rows);
    const int64_t wanted = (rows.num_rows() + micro_batch_rows - 1) / micro_batch_rows;
    BOOST_TEST(evaluation.num_micro_batches() == wanted);
    int64_t row = 0;
    int64_t num_targets = 0;
    for (int64_t index = 0; index < wanted; ++index) {
      MicroBatch expected;
      for (int64_t k = 0; k < micro_batch_rows && row < rows.num_rows(); ++k) {
        rows.append_row(row++, expected);
      }
      BOOST_TEST(are_equal(evaluation.micro_batch(index), expected));
      num_targets += expected.num_targets;
    }
    BOOST_TEST(row == rows.num_rows());
    BOOST_TEST(num_targets == evaluation.corpus().num_targets());
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

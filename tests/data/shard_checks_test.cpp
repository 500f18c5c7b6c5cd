// SPDX-License-Identifier: Apache-2.0
#include "data/shard_checks.h"

#include <boost/test/unit_test.hpp>

#include "io/says.h"
#include "io/shard_file.h"
#include "io/temporary_folder.h"

namespace temper {
namespace {

BOOST_AUTO_TEST_SUITE(shard_checks)

BOOST_AUTO_TEST_CASE(a_shard_must_fit_the_models_vocabulary_and_tokenizer) {
  const TemporaryFolder folder;
  const TokenShard shard(write_shard(folder / "shard.h5", counting_documents(3, 9)));
  const std::string own(64, 'a');  // As write_shard says; its vocabulary has 1,000 tokens.
  BOOST_TEST(mismatches(shard, {1000, own}).empty());
  BOOST_TEST(mismatches(shard, {1024, own}).empty());  // Padded embeddings are common.
  BOOST_CHECK_NO_THROW(require_fits(shard, {1000, own}));
  BOOST_CHECK_EXCEPTION(
      require_fits(shard, {999, own}), DataError,
      says("shard.h5 has a vocabulary of 1000 tokens, more than the model's 999"));
  const ModelFacts other{999, std::string(64, 'b')};
  BOOST_TEST(mismatches(shard, other).size() == 2u);
  BOOST_CHECK_EXCEPTION(require_fits(shard, other), DataError, says("more than the model's 999\n"));
  BOOST_CHECK_EXCEPTION(require_fits(shard, other), DataError,
                        says("\n  try: prepare the shard again with the tokenizer in model.path"));
  BOOST_CHECK_EXCEPTION(
      require_fits(shard, other), DataError,
      says("was made with tokenizer aaaaaaaaaaaa…, but the model's is bbbbbbbbbbbb…"));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

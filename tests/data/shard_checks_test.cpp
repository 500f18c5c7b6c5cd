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
  BOOST_CHECK_NO_THROW(require_fits(shard, {1000, own, {}}));
  BOOST_CHECK_NO_THROW(require_fits(shard, {1024, own, {}}));  // Padded embeddings are common.
  BOOST_CHECK_NO_THROW(require_fits(shard, {}));
  BOOST_CHECK_EXCEPTION(
      require_fits(shard, {999, own, {}}), DataError,
      says("shard.h5 has a vocabulary of 1000 tokens, more than the model's 999"));
  const ModelFacts other{999, std::string(64, 'b'), {}};
  BOOST_CHECK_EXCEPTION(require_fits(shard, other), DataError, says("more than the model's 999\n"));
  BOOST_CHECK_EXCEPTION(require_fits(shard, other), DataError,
                        says("\n  try: prepare the shard again with the tokenizer in model.path"));
  BOOST_CHECK_EXCEPTION(
      require_fits(shard, other), DataError,
      says("was made with tokenizer aaaaaaaaaaaa…, but the model's is bbbbbbbbbbbb…"));
}

BOOST_AUTO_TEST_CASE(conversations_must_be_rendered_by_a_template_of_the_model) {
  const TemporaryFolder folder;
  const TokenShard chat(write_shard(folder / "chat.h5", counting_conversations(3, 9)));
  const std::string& own = chat.header().chat_template_sha256;
  const auto templates = [](std::vector<std::string> sha256s) {
    return ModelFacts{.template_sha256s = std::move(sha256s)};
  };
  const std::string other(64, 'b');
  BOOST_CHECK_NO_THROW(require_fits(chat, templates({own})));
  BOOST_CHECK_NO_THROW(require_fits(chat, templates({other, own})));
  BOOST_CHECK_EXCEPTION(
      require_fits(chat, templates({other})), DataError,
      says("chat.h5 was rendered by the chat template " + own.substr(0, 12) +
           "…, and the model's is bbbbbbbbbbbb…\n  try: prepare the shard again"));
  BOOST_CHECK_EXCEPTION(require_fits(chat, templates({other})), DataError,
                        says("set data.chat_template to shard if the trained model is to be used"));
  BOOST_CHECK_EXCEPTION(require_fits(chat, templates({})), DataError,
                        says("and the model's folder has none"));
  ModelFacts adopting = templates({other});
  adopting.adopts_template = true;
  BOOST_CHECK_NO_THROW(require_fits(chat, adopting));
  const TokenShard text(write_shard(folder / "text.h5", counting_documents(3, 9)));
  BOOST_CHECK_NO_THROW(require_fits(text, templates({other})));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

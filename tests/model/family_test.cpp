// SPDX-License-Identifier: Apache-2.0
#include "model/family.h"

#include <boost/test/unit_test.hpp>
#include <string>

#include "core/error.h"
#include "support/tiny_model.h"

namespace temper {
namespace {

std::string refusal(const ModelConfig& config) {
  try {
    validate(config);
  } catch (const ModelError& error) {
    return error.what();
  }
  return "";
}

BOOST_AUTO_TEST_SUITE(family)

BOOST_AUTO_TEST_CASE(a_model_that_can_be_computed_passes) {
  BOOST_TEST(refusal(testing::tiny_config(true)) == "");
}

BOOST_AUTO_TEST_CASE(all_that_cannot_be_computed_is_told_at_once) {
  ModelConfig config = testing::tiny_config(true);
  config.windows.push_back(-1);
  config.norm_epsilon = 0.0;
  config.rope.theta = 0.0;
  const std::string message = refusal(config);
  for (const char* problem :
       {"windows has ", "a window is -1, wanted 0 or more", "norm_epsilon is 0, wanted more than 0",
        "rope theta is 0, wanted more than 0", "\n  try: mend config.json"}) {
    BOOST_TEST(message.find(problem) != std::string::npos, message);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

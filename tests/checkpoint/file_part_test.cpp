// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/file_part.h"

#include <boost/test/unit_test.hpp>
#include <string>
#include <vector>

#include "core/error.h"
#include "io/temporary_folder.h"

namespace temper {
namespace {

BOOST_AUTO_TEST_SUITE(file_part)

BOOST_AUTO_TEST_CASE(a_weight_that_is_too_big_for_f16_is_refused_instead_of_saved_as_infinity) {
  const TemporaryFolder folder;
  const std::vector<float> weights = {65504.0F, -70000.0F};
  const FileJob job{folder / "weights", {{0, "", weights, DType::kF16}}};
  BOOST_CHECK_EXCEPTION(write_parts(job), CheckpointError, [](const CheckpointError& error) {
    const std::string message = error.what();
    return message.find("weights: the weight -70000 is too big for F16") != std::string::npos &&
           message.find("set checkpoint.model_dtype to bfloat16") != std::string::npos;
  });
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

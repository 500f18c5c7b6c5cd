// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/file_part.h"

#include <boost/test/unit_test.hpp>
#include <string>
#include <vector>

#include "checkpoint/background_writer.h"
#include "core/error.h"
#include "io/says.h"
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

// A bug of ours or a lack of memory in the writing thread still tells what failed.
BOOST_AUTO_TEST_CASE(any_exception_of_the_writing_thread_becomes_an_error_of_the_checkpoint) {
  const TemporaryFolder folder;
  const std::vector<float> weights = {1.0F};
  BackgroundWriter writer;
  writer.start({{folder / "weights", {{0, "", weights, DType::kI32}}}});
  BOOST_CHECK_EXCEPTION(writer.take_digests(), CheckpointError,
                        says("writing a checkpoint failed: no conversion between fp32 and I32\n  "
                             "try: look at memory"));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

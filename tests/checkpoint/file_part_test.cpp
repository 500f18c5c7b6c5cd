// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/file_part.h"

#include <sys/resource.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
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

// Whether a thread of this process other than the first has been made nicer than that.
bool has_nice_thread() {
  const int own = ::getpriority(PRIO_PROCESS, static_cast<id_t>(::getpid()));
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    const int id = std::stoi(task.path().filename().string());
    if (id != ::getpid() && ::getpriority(PRIO_PROCESS, static_cast<id_t>(id)) > own) return true;
  }
  return false;
}

// What is written beside steps gives way to them; at the end of a run nothing else has to be done.
BOOST_AUTO_TEST_CASE(the_writing_thread_gives_way_if_it_is_told_to) {
  const TemporaryFolder folder;
  const std::vector<float> weights(size_t{1} << 24);  // Long enough to be looked at.
  for (const Haste haste : {Haste::kGivesWay, Haste::kHurries}) {
    BackgroundWriter writer;
    writer.start({{folder / "weights", {{0, "", weights, DType::kF32}}}}, haste);
    bool was_nice = false;
    while (!writer.is_done()) was_nice = was_nice || has_nice_thread();
    BOOST_TEST(was_nice == (haste == Haste::kGivesWay));
    writer.take_digests();
  }
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

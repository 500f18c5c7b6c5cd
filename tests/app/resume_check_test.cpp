// SPDX-License-Identifier: Apache-2.0
#include "app/resume_check.h"

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <string>

#include "core/error.h"
#include "io/temporary_folder.h"

namespace temper {
namespace {

// A run of 20 steps, of which the first 4 warm up.
struct Run {
  Run() { config.schedule.warmup_steps = 4; }

  // Whether it goes on from a checkpoint.
  void go_on_from(int64_t format_version, int64_t step) const {
    RunState state;
    state.step = step;
    state.trajectory = trajectory_digest(trajectory_text(config, facts));
    require_same_trajectory(config, facts, {checkpoint, format_version, state},
                            AskedOn::kComputeNode);
  }

  std::filesystem::path checkpoint = "run/checkpoints/step-3";
  RunConfig config;
  TrajectoryFacts facts{.num_steps = 20};
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(resume_check, Run)

BOOST_AUTO_TEST_CASE(a_warm_up_that_an_older_temper_began_is_not_gone_on_with) {
  BOOST_CHECK_EXCEPTION(go_on_from(1, 3), ConfigError, [](const Error& error) {
    BOOST_TEST_MESSAGE(error.what());
    const std::string message = error.what();
    return message.find(
               "run/checkpoints/step-3 is in step 3 of a warm-up of 4 steps that an older "
               "temper began at a learning rate of 0; this one's begins at 1/4") == 0 &&
           message.find("\n  try: train to the end of the warm-up with") != std::string::npos;
  });
}

BOOST_AUTO_TEST_CASE(after_the_warm_up_the_rates_are_the_same_and_the_run_goes_on) {
  BOOST_CHECK_NO_THROW(go_on_from(1, 4));
  BOOST_CHECK_NO_THROW(go_on_from(Manifest::kFormatVersion, 3));
  config.schedule.warmup_steps = 0;
  BOOST_CHECK_NO_THROW(go_on_from(1, 1));
}

BOOST_AUTO_TEST_CASE(pissa_of_an_older_temper_is_not_gone_on_with) {
  const TemporaryFolder folder;
  config.method.kind = MethodOptions::Kind::kLora;
  config.method.lora.init = LoraOptions::Init::kPrincipal;
  checkpoint = folder.path();
  BOOST_CHECK_EXCEPTION(
      go_on_from(Manifest::kFormatVersion, 5), ConfigError, [](const Error& error) {
        return error.problem().find("is of a run of an older temper, which trained PiSSA") !=
               std::string::npos;
      });
  std::filesystem::create_directory(checkpoint / "optimizer");
  put(checkpoint / "optimizer/base_change.safetensors", "{}");
  BOOST_CHECK_NO_THROW(go_on_from(Manifest::kFormatVersion, 5));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper

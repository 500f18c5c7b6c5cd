// SPDX-License-Identifier: Apache-2.0
#include "app/commands.h"
#include "app/ending.h"
#include "app/launch_check.h"
#include "app/training_job.h"

namespace temper {

int run_train(const std::string& config_path, const std::vector<std::string>& overrides) {
  const int num_told = num_ranks_told();
  return run_under_mpi([&](const MpiSession& session) {
    require_ranks_as_told(session, num_told);
    TrainingJob job(session, load_run_config(config_path, overrides));
    return static_cast<int>(job.run());
  });
}

}  // namespace temper

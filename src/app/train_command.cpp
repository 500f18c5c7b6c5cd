// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <filesystem>
#include <limits>
#include <optional>

#include "app/allocation_end.h"
#include "app/commands.h"
#include "app/launch_check.h"
#include "app/launch_resources.h"
#include "app/result_record.h"
#include "app/training_job.h"
#include "core/concat.h"
#include "core/crash_report.h"
#include "core/log.h"
#include "core/stop_signal.h"

namespace temper {

namespace {

using std::chrono::duration;
using std::chrono::system_clock;

// The configuration's limit counts from the start of the process.
std::optional<double> seconds_left(std::optional<system_clock::time_point> allocation_end,
                                   const RunConfig& config, system_clock::time_point start) {
  const auto now = system_clock::now();
  const double configured = 60.0 * config.train.time_limit_minutes;
  constexpr double kForEver = std::numeric_limits<double>::infinity();
  const double left =
      std::min(allocation_end ? duration<double>(*allocation_end - now).count() : kForEver,
               configured > 0.0 ? configured - duration<double>(now - start).count() : kForEver);
  return left == kForEver ? std::nullopt : std::optional(left);
}

// slurm/train.sbatch looks for this line: what ends before it never began, and is no crash.
void announce_begin(const MpiSession& session) {
  set_log_rank(session.rank(), session.world_size());
  log_event(concat("begun ranks=", session.world_size()));
}

}  // namespace

// Signals and crashes count from the first moment on.
int run_train(const std::string& config_path, const std::vector<std::string>& overrides) {
  const auto start = system_clock::now();
  install_stop_signals();
  install_crash_report();
  const auto allocation_end = find_allocation_end();
  return run_as_launched([&](const MpiSession& session) {
    announce_begin(session);
    const RunConfig config = load_run_config(config_path, overrides);
    const std::string name = std::filesystem::path(config_path).filename().string();
    TrainingJob job(session, config, seconds_left(allocation_end, config, start),
                    shell_text({"temper", "train", name}));
    const ExitCode ending = job.run();
    log_memory_peak(job.device());
    return static_cast<int>(ending);
  });
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace temper {

/// How many processes share the work, on how many nodes.
struct JobShape {
  int64_t num_nodes = 1;
  int64_t num_ranks = 1;
};

/// What the last job of a run that saved has measured: `timing.json` in the run's folder, by which
/// the jobs after it know what to reserve.
struct RunTiming {
  JobShape shape;
  int64_t checkpoint_bytes = 0;
  double save_seconds = 0.0;  ///< The job's longest save, from its begin to its publication.
  double step_seconds = 0.0;  ///< Its longest step.
};

std::string to_json(const RunTiming& timing);

/// Nothing if the text is not what to_json writes: who measured nothing has to guess.
std::optional<RunTiming> parse_run_timing(std::string_view text);

/// The text of a run's timing.json; empty if there is none that can be read.
std::string read_run_timing(const std::filesystem::path& run);

/// What cannot be written is logged, and is no reason to end the run.
void write_run_timing(const std::filesystem::path& run, const RunTiming& timing);

/// What a job can expect before it has measured anything itself.
struct ExpectedTiming {
  double save_seconds = 0.0;
  double step_seconds = 0.0;  ///< 0 if nothing is known of it.
  bool is_measured = false;   ///< By a job before; else a slow file system's rate is assumed.
};

/// From what a job of this run measured, more where fewer nodes save or fewer ranks compute than
/// there; without one each node is taken to write 100 MB/s.
ExpectedTiming expect_timing(int64_t checkpoint_bytes, const JobShape& shape,
                             const std::optional<RunTiming>& past);

}  // namespace temper

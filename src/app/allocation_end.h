// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace temper {

/// When Slurm will end this job: SLURM_JOB_END_TIME where Slurm sets it, else what squeue says,
/// which only rank 0 asks. Nothing outside a job, for a job without limit, or if squeue does not
/// answer within 5 seconds. To be asked before MPI starts, since it makes a process.
std::optional<std::chrono::system_clock::time_point> find_allocation_end();

/// Seconds of "days-hours:minutes:seconds", as squeue writes the time left, of which any beginning
/// may be missing; nothing for another text such as UNLIMITED.
std::optional<int64_t> parse_time_left(std::string_view text);

/// Seconds of a time limit as sbatch takes it: "minutes", "minutes:seconds",
/// "hours:minutes:seconds", "days-hours", "days-hours:minutes" or "days-hours:minutes:seconds";
/// nothing for another text.
std::optional<int64_t> parse_time_limit(std::string_view text);

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "app/launch_check.h"

#include <sched.h>

#include <cmath>
#include <cstdlib>
#include <span>
#include <vector>

#include "checkpoint/together.h"
#include "comm/agree.h"
#include "config/problem.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/hash.h"
#include "io/file.h"

namespace temper {
namespace {

cpu_set_t own_mask() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (::sched_getaffinity(0, sizeof mask, &mask) != 0 || CPU_COUNT(&mask) == 0) CPU_SET(0, &mask);
  return mask;
}

}  // namespace

int num_ranks_told() {
  // mpirun's own first: below it, Slurm's variables count the daemons that mpirun started by srun.
  for (const char* name :
       {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"}) {
    const char* value = std::getenv(name);
    if (value != nullptr) return std::atoi(value);
  }
  return 0;
}

void require_ranks_as_told(const MpiSession& session, int num_told) {
  if (num_told == 0 || num_told == session.world_size()) return;
  throw LaunchError(concat("the launcher started ", num_told, " tasks, but MPI knows of ",
                           session.world_size(), " (on ", session.host_names().front(), ")"),
                    "start with srun --mpi=pmix, or with mpirun; srun --mpi=list shows what this "
                    "Slurm has");
}

void require_same_program(const MpiSession& session, Communicator& ranks, const RunConfig& config) {
  const std::vector<std::string>& hosts = session.host_names();
  const std::string binary = read_file("/proc/self/exe", FilePurpose::kData);
  require_same_on_all_ranks(ranks, sha256(binary), "the binary", hosts);
  require_same_on_all_ranks(ranks, sha256(to_yaml(config)), "the configuration", hosts);
}

void require_same_inputs(const MpiSession& session, Communicator& ranks,
                         const TrajectoryFacts& facts) {
  const std::vector<std::string>& hosts = session.host_names();
  const std::string model = concat(facts.model_fingerprint, ' ', facts.start_fingerprint);
  require_same_on_all_ranks(ranks, sha256(model), "the model's weights", hosts);
  require_same_on_all_ranks(ranks, sha256(joined(facts.data_fingerprints)), "the training shards",
                            hosts);
}

int num_cpus_of_rank(const MpiSession& session, Communicator& ranks) {
  const cpu_set_t own = own_mask();
  std::vector<cpu_set_t> masks(static_cast<size_t>(session.world_size()));
  gather_bytes(ranks, std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(masks)));
  const std::vector<std::string>& hosts = session.host_names();
  double share = 0.0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &own)) continue;
    int num_users = 0;
    for (size_t rank = 0; rank < masks.size(); ++rank) {
      const bool is_neighbour = hosts[rank] == hosts[static_cast<size_t>(session.rank())];
      if (is_neighbour && CPU_ISSET(cpu, &masks[rank])) ++num_users;
    }
    share += 1.0 / num_users;
  }
  constexpr double kRounding = 1e-9;
  return std::max(1, static_cast<int>(std::floor(share + kRounding)));
}

}  // namespace temper

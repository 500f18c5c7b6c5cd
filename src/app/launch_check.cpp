// SPDX-License-Identifier: Apache-2.0
#include "app/launch_check.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <initializer_list>
#include <span>
#include <vector>

#include "comm/agree.h"
#include "comm/bytes.h"
#include "config/problem.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/log.h"
#include "io/file.h"

namespace temper {
namespace {

constexpr const char* kStartWithPmix =
    "start with srun --mpi=pmix, or with mpirun; srun --mpi=list shows what this Slurm has";
constexpr const char* kMoreCpus = "srun --cpus-per-task, mpirun --bind-to none";

cpu_set_t own_mask() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (::sched_getaffinity(0, sizeof mask, &mask) != 0 || CPU_COUNT(&mask) == 0) CPU_SET(0, &mask);
  return mask;
}

void require_enough_cpus(const std::vector<cpu_set_t>& masks, const std::vector<std::string>& hosts,
                         int asked) {
  for (size_t rank = 0; rank < masks.size(); ++rank) {
    const int num_cpus = CPU_COUNT(&masks[rank]);
    if (asked <= num_cpus) continue;
    throw LaunchError(concat("train.threads is ", asked, ", but rank ", rank, " on ",
                             hosts.at(rank), " may use ", num_cpus, " CPUs only"),
                      concat("set train.threads to 0 or at most ", num_cpus,
                             ", or give ranks more CPUs: ", kMoreCpus));
  }
}

// A CPU that n ranks of a node may use counts as 1/n.
int share_of(const std::vector<cpu_set_t>& masks, const std::vector<std::string>& hosts,
             size_t own) {
  double share = 0.0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &masks[own])) continue;
    int num_users = 0;
    for (size_t rank = 0; rank < masks.size(); ++rank) {
      if (hosts[rank] == hosts[own] && CPU_ISSET(cpu, &masks[rank])) ++num_users;
    }
    share += 1.0 / num_users;
  }
  constexpr double kRounding = 1e-9;
  return std::max(1, static_cast<int>(std::floor(share + kRounding)));
}

bool has_any(std::initializer_list<const char*> names) {
  return std::any_of(names.begin(), names.end(),
                     [](const char* name) { return std::getenv(name) != nullptr; });
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

void require_process_manager() {
  const char* num_tasks = std::getenv("SLURM_STEP_NUM_TASKS");  // Set by srun alone.
  if (num_tasks == nullptr || std::atoi(num_tasks) < 2) return;
  if (has_any({"PMIX_NAMESPACE", "PMI_RANK", "PMI_FD", "OMPI_COMM_WORLD_SIZE"})) return;
  throw LaunchError(concat("srun started ", num_tasks, " tasks, but without PMIx: MPI cannot know ",
                           "of more than one"),
                    kStartWithPmix);
}

void require_ranks_as_told(const MpiSession& session, int num_told) {
  if (num_told == 0 || num_told == session.world_size()) return;
  throw LaunchError(concat("the launcher started ", num_told, " tasks, but MPI knows of ",
                           session.world_size(), " (on ", session.host_names().front(), ")"),
                    kStartWithPmix);
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

int choose_num_threads(const MpiSession& session, Communicator& ranks, int asked) {
  const cpu_set_t own = own_mask();
  std::vector<cpu_set_t> masks(static_cast<size_t>(session.world_size()));
  gather_bytes(ranks, std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(masks)));
  const std::vector<std::string>& hosts = session.host_names();
  require_enough_cpus(masks, hosts, asked);
  const int share = share_of(masks, hosts, static_cast<size_t>(session.rank()));
  if (any_of(ranks, asked > share)) {
    log_event(concat("warning=\"", asked, " threads on ", share,
                     " CPUs: ranks of a node share them",
                     "\" try=\"lower train.threads, or give ranks more CPUs: ", kMoreCpus, '"'));
  }
  return asked > 0 ? asked : share;
}

}  // namespace temper

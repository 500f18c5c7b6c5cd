// SPDX-License-Identifier: Apache-2.0
#include "app/rank_threads.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "comm/agree.h"
#include "comm/bytes.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/log.h"

namespace temper {
namespace {

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

}  // namespace

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

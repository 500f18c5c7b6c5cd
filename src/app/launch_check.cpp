// SPDX-License-Identifier: Apache-2.0
#include "app/launch_check.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <initializer_list>
#include <set>
#include <span>
#include <vector>

#include "app/ending.h"
#include "comm/agree.h"
#include "config/problem.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/hash.h"
#include "io/file.h"
#include "io/safetensors_folder.h"

namespace temper {
namespace {

constexpr const char* kStartWithPmix =
    "start with srun --mpi=pmix, or with mpirun; srun --mpi=list shows what this Slurm has";

constexpr const char* kSameFiles =
    "give all nodes one copy of it on a shared file system, or copy it to them again";

bool has_any(std::initializer_list<const char*> names) {
  return std::any_of(names.begin(), names.end(),
                     [](const char* name) { return std::getenv(name) != nullptr; });
}

// To be asked before MPI starts, since MPI sets such variables itself; 0: no launcher said it.
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

// SHA-256 over the first, the middle and the last page of each tensor, in the order of their names:
// what another training, another file or a copy that ended early changes, at 12 KiB a tensor
// however large it is.
Digest sample_content(const SafetensorsFolder& weights) {
  constexpr int64_t kPageBytes = 4096;
  std::array<std::byte, kPageBytes> page{};
  Sha256 hash;
  for (const auto& [name, place] : weights.tensors()) {
    const Range bytes = place.tensor->bytes;
    const int64_t count = std::min(kPageBytes, bytes.size());
    const int64_t last = bytes.size() - count;
    for (const int64_t offset : std::set{int64_t{0}, last / 2, last}) {
      const auto part = std::span(page).first(static_cast<size_t>(count));
      place.file->read(bytes.begin + offset, part);
      hash.update(part);
    }
  }
  return hash.finish();
}

}  // namespace

int run_as_launched(const std::function<int(const MpiSession&)>& verb) {
  require_process_manager();
  const int num_told = num_ranks_told();
  return run_under_mpi([&](const MpiSession& session) {
    require_ranks_as_told(session, num_told);
    return verb(session);
  });
}

void require_same_program(const MpiSession& session, Communicator& ranks, const RunConfig& config) {
  const std::vector<std::string>& hosts = session.host_names();
  const std::string binary = read_file("/proc/self/exe", FilePurpose::kData);
  require_same_on_all_ranks(ranks, sha256(binary), {"the binary"}, hosts);
  require_same_on_all_ranks(ranks, sha256(to_yaml(config)), {"the configuration"}, hosts);
}

Digest sampled_digest(const ModelFolder& folder) {
  return sha256(folder.fingerprint() + to_hex(sample_content(folder.weights())));
}

void require_same_model(const Seat& seat, Communicator& ranks, const ModelFolder& folder) {
  const auto is_first_node = [&](const std::string& host) { return host == seat.hosts.front(); };
  if (std::ranges::all_of(seat.hosts, is_first_node)) return;
  std::optional<Digest> digest;
  if (seat.local_rank == 0) digest = sampled_digest(folder);
  require_same_on_all_ranks(ranks, digest, {"the model's weights", kSameFiles}, seat.hosts);
}

void require_same_fingerprints(const MpiSession& session, Communicator& ranks,
                               const std::vector<std::string>& fingerprints,
                               std::string_view what) {
  require_same_on_all_ranks(ranks, sha256(joined(fingerprints)), {what, kSameFiles},
                            session.host_names());
}

}  // namespace temper

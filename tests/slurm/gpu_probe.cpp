// SPDX-License-Identifier: Apache-2.0
// What `temper train` does with a node's GPUs before it trains, by the same functions, with
// pretended cards. Prints which one each rank takes, and leaves an empty run/final. If there is a
// file `fails`, it is removed, and rank 1 fails after it has told what NCCL would.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "comm/mpi_communicator.h"
#include "comm/take_gpu.h"
#include "core/error.h"

namespace {

void fail(const temper::MpiSession& session) {
  if (session.rank() != 1) return;
  std::filesystem::remove("fails");
  std::ofstream(std::getenv("NCCL_DEBUG_FILE")) << "n1:17 [1] NCCL WARN a cable is loose\n";
  throw temper::CommError("ncclCommInitRank failed", "look at the cables");
}

void train(const temper::MpiSession& session) {
  temper::MpiCommunicator ranks(MPI_COMM_WORLD);
  const at::Device device = take_gpu(session, ranks);
  const auto rank = static_cast<size_t>(session.rank());
  const auto seen = temper::visible_gpus();
  const temper::Gpu& gpu = seen.gpus.at(static_cast<size_t>(device.index()));
  std::printf("rank %zu on %s sees %d and takes card %d\n", rank,
              session.host_names().at(rank).c_str(), seen.count, gpu.address[1]);
  std::fflush(stdout);
  const bool fails = std::filesystem::exists("fails");
  ranks.barrier();
  if (fails) fail(session);
  ranks.barrier();
  if (rank == 0) std::filesystem::create_directories("run/final");
}

}  // namespace

int main() {
  const temper::MpiSession session;
  if (session.rank() == 0) std::printf("00:00:00 begun ranks=%d\n", session.world_size());
  std::fflush(stdout);
  try {
    train(session);
  } catch (const temper::Error& error) {
    std::fprintf(stderr, "rank %d: %s\n", session.rank(), error.what());
    session.abort(error.code());
  }
  return 0;
}

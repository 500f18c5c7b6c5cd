// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "checkpoint/tiny_folder.h"
#include "checkpoint/together.h"
#include "comm/mpi_communicator.h"
#include "io/temporary_folder.h"

namespace temper::testing {

/// One temporary folder for all ranks of a test.
class SharedFolder {
 public:
  explicit SharedFolder(Communicator& ranks) : ranks_(ranks) {
    if (ranks.rank() == 0) own_.emplace();
    path_ = broadcast_text(ranks, own_ ? own_->path().string() : "");
  }
  SharedFolder(const SharedFolder&) = delete;
  SharedFolder& operator=(const SharedFolder&) = delete;
  ~SharedFolder() { ranks_.barrier(); }  // Nobody uses it any more.

  const std::filesystem::path& path() const { return path_; }

 private:
  Communicator& ranks_;
  std::optional<TemporaryFolder> own_;
  std::filesystem::path path_;
};

/// All ranks, their folder, and a tiny model in it.
struct WorldWithModel {
  explicit WorldWithModel(DType dtype = DType::kF32) {
    if (world.rank() == 0) write_tiny_folder(source, Head::kTied, dtype);
    world.barrier();
  }

  MpiCommunicator world{MPI_COMM_WORLD};
  SharedFolder folder{world};
  std::filesystem::path source = folder.path() / "source";
};

}  // namespace temper::testing

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "app/memory_estimate.h"
#include "config/problem.h"
#include "config/run_config.h"
#include "io/dtype.h"
#include "model/unit_layout.h"

namespace temper {

/// The file system that a folder lies on, or will lie on.
struct Storage {
  std::filesystem::path existing;  ///< The folder itself, or the nearest one above it.
  int64_t free_bytes = 0;          ///< For this user.
  int64_t free_files = 0;          ///< -1 where the file system does not count them.
};

/// Throws: CheckpointError if no folder could be made there, or nothing could be written to it.
Storage find_storage(const std::filesystem::path& folder);

/// What a run's folder will hold. Units: bytes.
struct RunSize {
  int64_t checkpoint = 0;  ///< One of them.
  int64_t most = 0;        ///< All that are kept, one under way, and the final model or adapter.
};

/// `trained` is what is saved, `stored` the dtype that checkpoint.model_dtype's "auto" means.
RunSize run_size(const RunConfig& config, const std::vector<UnitLayout>& trained, DType stored);

/// What is wrong with the space that a run still needs.
std::vector<Problem> find_space_problems(const RunConfig& config, const Storage& storage,
                                         int64_t most);

/// Refuses a start whose checkpoints will not fit: by what the file system says is free, and by the
/// user's quota, which shows only when space is really taken: a file without a name takes it for a
/// moment, where the file system can do that. Leaves nothing behind. Local.
/// Throws: LaunchError, naming the node; CheckpointError if run.folder cannot be made.
void require_run_space(const RunConfig& config, int64_t most, const std::string& node);

/// The memory that this process and its neighbours may still take on this node: what the kernel
/// says is available, and what the control group of a job leaves. Units: bytes. Nothing if neither
/// can be read.
std::optional<int64_t> available_memory();

/// The memory that is left on an accelerator. Units: bytes.
int64_t available_memory_of(at::Device device);

/// Logs what LibTorch has taken of an accelerator at its fullest, beside what was foreseen; nothing
/// on a CPU.
void log_memory_peak(at::Device device);

/// How many of a run's ranks share what memory: that of a node, or of a card, which has one rank.
struct NodeShare {
  int num_on_node = 1;
  std::string node;
  bool is_card = false;
};

/// Refuses a start whose ranks on this node, or on a card, will not fit into its memory. What they
/// keep between steps alone decides, since it is exact. To be asked before anything large is
/// allocated. Local. Throws: LaunchError, naming the node.
void require_memory(const NodeShare& share, const RunConfig& config, const MemoryFacts& facts,
                    std::optional<int64_t> available);

}  // namespace temper

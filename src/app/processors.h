// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "comm/communicator.h"
#include "comm/make_communicator.h"
#include "config/run_config.h"

namespace temper {

/// What of a rank's processor, or of its GPU where there is one, decides the bits that it computes.
struct Processor {
  std::string name;              ///< For people: "AMD EPYC 9654 96-Core Processor".
  std::set<std::string> traits;  ///< Maker and model, and the vector instructions; of a GPU its
                                 ///< compute capability and the number of multiprocessors.
  ComputeDtype dtype{};          ///< What the ranks would compute with if all were like this one.
};

/// Reads the text of /proc/cpuinfo; the dtype is left as it is.
Processor parse_processor(std::string_view cpuinfo);

/// What this process computes on: `gpu`, or the processor without one. Variables of the environment
/// by which libraries choose other instructions than the processor's are traits, too.
Processor own_processor(const ModelOptions& options, const std::optional<GpuKind>& gpu);

/// What all ranks compute with: as the configuration says, or for "auto" bfloat16 only where each
/// of the processors has instructions for it. Ranks on several kinds of processor would not come to
/// the same bits on another number of ranks: they are refused, and only named, by rank 0, where
/// `reduction: fast` gives that up anyway.
/// Shapes: hosts [rank]. Collective: all ranks; all throw or none does.
/// Throws: LaunchError, naming two ranks, their hosts and processors.
ComputeDtype agree_on_dtype(Communicator& ranks, const std::vector<std::string>& hosts,
                            const RunConfig& config, const Processor& own);

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nccl.h>

#include <string>
#include <vector>

namespace temper::testing {

/// A double of NCCL for ranks that are MPI's, on tensors of the simulated device. Collectives are
/// done when their stream is waited for, in the order of the calls; what they receive is
/// overwritten at once, since that may happen, too. Ranks that call different ones,
/// or with other sizes, get an asynchronous error, as do receives of another size than was sent.
struct NcclDouble {
  static NcclDouble& own();

  /// Calls since they were last taken: "AllReduce 4 float32 sum", "Group: Send 20 to 1, …".
  std::vector<std::string> take_calls();

  /// The next call of this name fails: "ncclAllReduce".
  void fail_next(std::string name) { failing = std::move(name); }

  std::vector<std::string> calls = {};
  std::string failing = {};
  std::string last_end = {};  ///< How a communicator last ended: "Destroy" or "Abort".
};

}  // namespace temper::testing

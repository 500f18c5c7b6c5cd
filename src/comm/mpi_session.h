// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "core/exit_code.h"

namespace temper {

/// MPI for the life of this process: the launcher's facts, and an ending that cannot hang.
///
/// Make one, first thing in `main`, outside the `try`; all communicators must be gone before it.
/// Its destructor finalizes MPI. While an exception is in flight it aborts the job instead: the
/// other ranks may wait in a collective that this one never joins.
/// Collective: constructor and destructor.
/// Throws: CommError.
class MpiSession {
 public:
  MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
  ~MpiSession();

  int rank() const { return rank_; }
  int world_size() const { return world_size_; }

  /// Among the ranks that share this node's memory: what a device is chosen by.
  int local_rank() const { return local_rank_; }
  int local_size() const { return local_size_; }

  const std::vector<std::string>& host_names() const { return host_names_; }

  /// Ends all ranks at once; the launcher reports `code`. This process ends in any case, and says
  /// no more: why it ends has to be said before.
  [[noreturn]] void abort(ExitCode code) const;

 private:
  void find_node();
  void gather_host_names();

  int rank_ = 0;
  int world_size_ = 1;
  int local_rank_ = 0;
  int local_size_ = 1;
  std::vector<std::string> host_names_;  // [rank]
};

}  // namespace temper

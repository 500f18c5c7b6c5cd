// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>

#include "comm/communicator.h"

namespace temper::testing {

/// A group of one without MPI: at that size a communicator never enters its library.
class SingleRank final : public Communicator {
 public:
  int rank() const override { return 0; }
  int world_size() const override { return 1; }

 private:
  [[noreturn]] static void refuse() { throw std::logic_error("a group of one communicates"); }

  Pending do_all_reduce(at::Tensor, ReduceOp) override { refuse(); }
  Pending do_all_gather(const at::Tensor&, at::Tensor) override { refuse(); }
  Pending do_gather(const at::Tensor&, at::Tensor, int) override { refuse(); }
  Pending do_all_to_all(const at::Tensor&, at::Tensor) override { refuse(); }
  Pending do_broadcast(at::Tensor, int) override { refuse(); }
  void do_barrier() override { refuse(); }
};

}  // namespace temper::testing

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include "comm/communicator.h"

namespace temper::testing {

/// Hands every collective on, and tells of it before.
class ForwardingCommunicator : public Communicator {
 public:
  explicit ForwardingCommunicator(Communicator& ranks) : ranks_(ranks) {}

  int rank() const override { return ranks_.rank(); }
  int world_size() const override { return ranks_.world_size(); }

 private:
  /// `tensor` is what a rank sends, or for an all_gather receives; a barrier has none.
  virtual void note(const char* name, const at::Tensor& tensor) = 0;

  Pending do_all_reduce(at::Tensor tensor, ReduceOp op) override {
    note("all_reduce", tensor);
    return ranks_.all_reduce(tensor, op);
  }
  Pending do_all_gather(const at::Tensor& shard, at::Tensor full) override {
    note("all_gather", full);
    return ranks_.all_gather(shard, full);
  }
  Pending do_gather(const at::Tensor& shard, at::Tensor full, int root) override {
    note("gather", shard);
    return ranks_.gather(shard, full, root);
  }
  Pending do_all_to_all(const at::Tensor& send, at::Tensor receive) override {
    note("all_to_all", send);
    return ranks_.all_to_all(send, receive);
  }
  Pending do_broadcast(at::Tensor tensor, int root) override {
    note("broadcast", tensor);
    return ranks_.broadcast(tensor, root);
  }
  void do_barrier() override {
    note("barrier", {});
    ranks_.barrier();
  }

  Communicator& ranks_;
};

}  // namespace temper::testing

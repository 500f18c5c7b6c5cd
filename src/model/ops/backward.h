// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

#include <functional>
#include <utility>
#include <vector>

namespace temper {

/// From the gradient of an operation's output to those of its inputs, in their order.
using Backward = std::function<std::vector<at::Tensor>(const at::Tensor& gradient)>;

/// Makes `output` the result of an operation on `inputs` in the autograd graph; returns it.
///
/// Nothing happens where no gradient is wanted. What the closure captures is what the operation
/// keeps for its backward pass, and is freed with it; `output` itself may be captured only
/// detached.
at::Tensor with_backward(at::Tensor output, const std::vector<at::Tensor>& inputs,
                         Backward backward);

/// Runs a forward pass whose graph is made by hand.
template <typename Function>
auto without_graph(Function function) {
  const at::NoGradGuard no_graph;
  return function();
}

/// Calls a function with a graph of its own: the graph begins at a copy of the handle `input`.
class GraphPass {
 public:
  template <typename Function>
  GraphPass(const at::Tensor& input, Function function) : input_(input.detach().requires_grad_()) {
    const at::AutoGradMode with_graph(true);
    output_ = function(input_);
  }
  GraphPass(at::Tensor input, at::Tensor output)
      : input_(std::move(input)), output_(std::move(output)) {}

  const at::Tensor& input() const { return input_; }
  const at::Tensor& output() const { return output_; }

  /// From the output's gradient to the input's. Frees the graph.
  at::Tensor backward(const at::Tensor& gradient) const;

 private:
  at::Tensor input_;
  at::Tensor output_;
};

}  // namespace temper
